"""A very small MCP server of the 2025-11-25 era, for `mcp-sidecar doctor`: on stdio as a program, on HTTP in a test.

Only the standard library: as a program it runs without the sidecar's packages.
"""

from __future__ import annotations

import json
import sys
from typing import Any


def answer(message: dict[str, Any]) -> dict[str, Any] | None:
    """Return the answer to a message; None to a notification."""
    if "id" not in message:
        return None
    head = {"jsonrpc": "2.0", "id": message["id"]}
    if message.get("method") == "initialize":
        info = {"name": "mcp-sidecar-probe", "version": "1"}
        result: dict[str, Any] = {"protocolVersion": "2025-11-25", "capabilities": {"tools": {}}, "serverInfo": info}
    elif message.get("method") == "tools/list":
        result = {"tools": [{"name": "nothing", "inputSchema": {"type": "object"}}]}
    else:
        return {**head, "error": {"code": -32601, "message": "Method not found"}}
    return {**head, "result": result}


def main() -> None:
    """Serve stdio until it ends."""
    for line in sys.stdin:
        said = answer(json.loads(line))
        if said is not None:
            sys.stdout.write(json.dumps(said) + "\n")
            sys.stdout.flush()


if __name__ == "__main__":
    main()
