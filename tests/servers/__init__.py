"""MCP servers, real and broken, as small programs: `python tests/servers/NAME.py` (`--help` tells the rest)."""
