"""MCP operations of the host."""

from sidecar.ops.operations import Operations

__all__ = ["Operations"]
