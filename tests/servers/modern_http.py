"""A FastMCP server of the 2026-07-28 era over Streamable HTTP, at /mcp; prints its port."""

from __future__ import annotations

import argparse

from tests.servers.app import build
from tests.servers.http_app import serve

if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--port", type=int, default=0)
    serve(build("modern").http_app(path="/mcp"), parser.parse_args().port)
