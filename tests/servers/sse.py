"""A FastMCP server over the HTTP with SSE transport, at /sse; prints its port."""

from __future__ import annotations

import argparse

from tests.servers.app import build
from tests.servers.http_app import serve

if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--port", type=int, default=0)
    serve(build("sse").http_app(path="/sse", transport="sse"), parser.parse_args().port)
