"""mcp-sidecar: many MCP servers for many users, behind one pipe."""

__version__ = "0.1.0"
