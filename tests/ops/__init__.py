"""Connections and MCP operations."""
