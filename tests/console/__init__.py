"""The daily handles: tool policy, updates, tests, imports, the configuration file, the workbench commands."""
