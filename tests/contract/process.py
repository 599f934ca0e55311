"""The real sidecar as a child of a test: bytes in, lines out, every wait bounded."""

from __future__ import annotations

import os
import queue
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path
from typing import Self

ROOT = Path(__file__).parents[2]
PATIENCE = 30.0
"""Seconds after which a wait is a failure; only a hang takes so long."""


class Sidecar:
    """`python -m sidecar` with its stdin and stdout in the hands of the test."""

    def __init__(self, *arguments: str) -> None:
        """Start the process."""
        environment = {key: value for key, value in os.environ.items() if not key.startswith(("MCP_", "FASTMCP_"))}
        self._log = tempfile.TemporaryFile()  # noqa: SIM115 - closed in __exit__
        self.process = subprocess.Popen(
            [sys.executable, "-m", "sidecar", *arguments],
            cwd=ROOT,
            env=environment,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._log,
            bufsize=0,
        )
        self._lines: queue.Queue[bytes | None] = queue.Queue()
        self._reader = threading.Thread(target=self._read, name="sidecar-stdout", daemon=True)
        self._reader.start()

    def _read(self) -> None:
        assert self.process.stdout is not None
        with os.fdopen(os.dup(self.process.stdout.fileno()), "rb") as lines:
            for line in lines:
                self._lines.put(line)
        self._lines.put(None)

    def send(self, data: bytes) -> None:
        """Write bytes in one go."""
        assert self.process.stdin is not None
        view = memoryview(data)
        while view:
            view = view[self.process.stdin.write(view) :]

    def end(self) -> None:
        """End the sidecar's input."""
        assert self.process.stdin is not None
        self.process.stdin.close()

    def line(self, patience: float = PATIENCE) -> bytes | None:
        """Return the next line with its newline, or None at the end of output. Fails when none comes in time."""
        try:
            return self._lines.get(timeout=patience)
        except queue.Empty:
            raise AssertionError(f"no line within {patience} s; stderr: {self.log()}") from None

    def lines_until_exit(self, patience: float = PATIENCE) -> list[bytes]:
        """Return all lines that are still to come, and wait for the process."""
        rest = []
        stop = time.monotonic() + patience
        while (line := self.line(max(0.0, stop - time.monotonic()))) is not None:
            rest.append(line)
        self.code(max(0.1, stop - time.monotonic()))
        return rest

    def code(self, patience: float = PATIENCE) -> int:
        """Wait for the end of the process and return its exit code; a signal is negative."""
        try:
            return self.process.wait(patience)
        except subprocess.TimeoutExpired:
            raise AssertionError(f"the sidecar did not end within {patience} s; stderr: {self.log()}") from None

    def log(self) -> str:
        """Return the end of what the process wrote to stderr."""
        self._log.seek(0)
        return self._log.read()[-4000:].decode(errors="replace")

    def __enter__(self) -> Self:
        """Return the running process."""
        return self

    def __exit__(self, *_: object) -> None:
        """Leave nothing behind: a process that still runs is killed."""
        self.process.kill()
        self.process.wait(PATIENCE)
        self._reader.join(PATIENCE)
        for stream in (self.process.stdin, self.process.stdout, self._log):
            if stream is not None:
                stream.close()
