"""The servers of `tests/servers` as running programs, and what a host says to connect them."""

from __future__ import annotations

import json
import os
import select
import subprocess
import sys
import time
import urllib.request
from pathlib import Path
from typing import Any, Self

from tests.answers import Json
from tests.harness import PATIENCE, ROOT
from tests.servers.lifetime import ASKED

RAW_STDIO = str(ROOT / "tests" / "servers" / "raw_stdio.py")


class Program:
    """A server program that prints its port when it listens."""

    def __init__(self, module: str, *arguments: str) -> None:
        """Start it and wait for its port."""
        self.process = subprocess.Popen(
            [sys.executable, "-m", f"tests.servers.{module}", *arguments],
            cwd=ROOT,
            env=os.environ | {ASKED: "1"},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            start_new_session=True,
        )
        assert self.process.stdout is not None
        self.port = int(_first_line(self.process.stdout.fileno()))
        self.origin = f"http://127.0.0.1:{self.port}"

    def http(self, path: str = "/mcp", **more: Any) -> Json:
        """Return a transport of type http."""
        return {"type": "http", "url": self.origin + path, **more}

    def sse(self, path: str = "/sse", **more: Any) -> Json:
        """Return a transport of type sse."""
        return {"type": "sse", "url": self.origin + path, **more}

    def get(self, path: str) -> Any:
        """Ask the program itself, as JSON."""
        with urllib.request.urlopen(self.origin + path, timeout=PATIENCE) as answer:  # noqa: S310 - our own server
            return json.load(answer)

    def kill(self) -> None:
        """End it at once."""
        self.process.kill()
        self.process.wait(PATIENCE)

    def stop(self) -> None:
        """End it."""
        self.kill()
        if self.process.stdout is not None:
            self.process.stdout.close()

    def __enter__(self) -> Self:
        """Return the running program."""
        return self

    def __exit__(self, *_: object) -> None:
        """End it."""
        self.stop()


def _first_line(fd: int) -> bytes:
    end = time.monotonic() + PATIENCE
    line = b""
    while not line.endswith(b"\n"):
        assert select.select([fd], [], [], max(0.0, end - time.monotonic()))[0], "the server did not start in time"
        chunk = os.read(fd, 100)
        assert chunk, "the server ended at its start"
        line += chunk
    return line


def raw(*options: str, **more: Any) -> Json:
    """Return the transport of the hand-written stdio server."""
    return {"type": "stdio", "command": sys.executable, "args": [RAW_STDIO, *options], **more}


def fast_stdio(**more: Any) -> Json:
    """Return the transport of the FastMCP server over stdio."""
    args = ["-m", "tests.servers.stdio_server"]
    return {"type": "stdio", "command": sys.executable, "args": args, "cwd": str(ROOT), **more}


def journal(path: Path) -> list[str]:
    """Return what a server noted in its journal."""
    return path.read_text().splitlines() if path.exists() else []
