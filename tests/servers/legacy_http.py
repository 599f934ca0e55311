"""A FastMCP server that knows only the handshake era, over Streamable HTTP, at /mcp; prints its port."""

from __future__ import annotations

import argparse

from tests.servers.app import build
from tests.servers.http_app import Refuse, serve

if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--port", type=int, default=0)
    parser.add_argument("--json", action="store_true", help="answer with JSON bodies instead of event streams")
    arguments = parser.parse_args()
    serve(Refuse(build("legacy").http_app(path="/mcp", json_response=arguments.json)), arguments.port)
