"""The FastMCP server of the tests over stdio."""

from __future__ import annotations

from tests.servers.app import build

if __name__ == "__main__":
    build("stdio").run(show_banner=False)
