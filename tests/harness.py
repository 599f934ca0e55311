"""The real sidecar in the hands of a test: bytes in, frames out, every wait bounded, nothing left behind."""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import select
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Self

import psutil

from tests.answers import Answer, Json
from tests.processes import alive, assert_gone

ROOT = Path(__file__).resolve().parents[1]
PROGRAM = (str(Path(sys.executable).parent / "mcp-sidecar"),)
MODULE = (sys.executable, "-m", "sidecar")
PATIENCE = 20.0
"""Seconds after which a wait has failed; only a hang takes so long."""
ORPHAN_SECONDS = 3.0
"""Time in which everything of a dead sidecar must be gone."""
CODES: set[int] = set()
"""Every error code that an answer carried in this run."""

RUNNING: dict[int, Sidecar] = {}
"""The sidecars that tests have started and not ended, by process id."""


class Sidecar:
    """One process. Frames are read by a thread as they come; waits are on a condition, never on time."""

    def __init__(
        self,
        *arguments: str,
        program: tuple[str, ...] = PROGRAM,
        env: Mapping[str, str] | None = None,
        cwd: Path | str = ROOT,
        pipe_bytes: int | None = None,
        chunk: int = 1 << 20,
        unread: bool = False,
    ) -> None:
        """Start the process; `unread` leaves its stdout unread until `resume`."""
        environment = {k: v for k, v in os.environ.items() if not k.startswith(("MCP_", "FASTMCP_"))}
        stdout, theirs = os.pipe()
        errors, their_errors = os.pipe()
        if pipe_bytes is not None:
            fcntl.fcntl(theirs, fcntl.F_SETPIPE_SZ, pipe_bytes)
        self.process = subprocess.Popen(
            [*program, *arguments],
            cwd=cwd,
            env=environment | dict(env or {}),
            stdin=subprocess.PIPE,
            stdout=theirs,
            stderr=their_errors,
            bufsize=0,
        )
        os.close(theirs)
        os.close(their_errors)
        self.started = time.monotonic()
        self._condition = threading.Condition()
        self._reading = threading.Event()
        if not unread:
            self._reading.set()
        RUNNING[self.process.pid] = self
        self.lines: list[bytes] = []
        self.answers: dict[Any, Answer] = {}
        self.faults: list[Json] = []
        self.calls: list[Json] = []
        """Notifications and requests of the sidecar, in order."""
        self.order: list[Json] = []
        """All frames in order."""
        self.duplicates: list[bytes] = []
        self.garbage: list[bytes] = []
        """Lines that are no JSON; any is a failure."""
        self.ended = False
        self.stderr = b""
        self.chunk = chunk
        self._stdout = stdout
        self._last = 0
        self._sending = threading.RLock()
        self._threads = [
            threading.Thread(target=self._read, args=(stdout,), daemon=True),
            threading.Thread(target=self._drain, args=(errors,), daemon=True),
        ]
        for thread in self._threads:
            thread.start()

    # -- reading ----------------------------------------------------------------------------------------------

    def _read(self, fd: int) -> None:
        rest: list[bytes] = []
        with os.fdopen(fd, "rb", buffering=0) as pipe:
            while True:
                self._reading.wait()
                try:
                    chunk = pipe.read(self.chunk)
                except (OSError, ValueError):
                    break
                if not chunk:
                    break
                *lines, tail = chunk.split(b"\n")
                for line in lines:
                    self._line(b"".join([*rest, line]))
                    rest.clear()
                if tail:
                    rest.append(tail)
        with self._condition:
            self.ended = True
            if rest:
                self.lines.append(b"".join(rest))
            self._condition.notify_all()

    def _line(self, line: bytes) -> None:
        now = time.monotonic()
        try:
            body: Json = json.loads(line)
        except ValueError:
            with self._condition:
                self.garbage.append(line)
                self._condition.notify_all()
            return
        with self._condition:
            self.lines.append(line)
            self.order.append(body)
            if "error" in body:
                CODES.add(body["error"]["code"])
            if "method" in body:
                self.calls.append(body)
            elif body["id"] is None:
                self.faults.append(body["error"])
            elif body["id"] in self.answers:
                self.duplicates.append(line)
            else:
                self.answers[body["id"]] = Answer(line, body, now)
            self._condition.notify_all()

    def _drain(self, fd: int) -> None:
        with os.fdopen(fd, "rb", buffering=0) as pipe:
            while chunk := pipe.read(1 << 16):
                with self._condition:
                    self.stderr = (self.stderr + chunk)[-(4 << 20) :]
                    self._condition.notify_all()

    def wait(self, done: Callable[[], Any], what: str, patience: float = PATIENCE) -> Any:
        """Wait until `done` returns something true, and return it."""
        end = time.monotonic() + patience
        with self._condition:
            while not (found := done()):
                assert not self.garbage, f"not JSON: {self.garbage[0][:500]!r}"
                left = end - time.monotonic()
                if left <= 0 or (self.ended and not self._condition.wait(min(left, 0.5)) and not done()):
                    raise AssertionError(f"no {what} within {patience} s; stderr: {self.stderr[-3000:].decode()}")
                self._condition.wait(left)
        return found

    def pause(self) -> None:
        """Stop reading its stdout, after the chunk that is being read."""
        self._reading.clear()

    def resume(self) -> None:
        """Read its stdout again."""
        self._reading.set()

    # -- writing ----------------------------------------------------------------------------------------------

    def send_bytes(self, data: bytes, patience: float = PATIENCE) -> None:
        """Write bytes as they are; fails where the sidecar does not take them in time."""
        assert self.process.stdin is not None
        fd = self.process.stdin.fileno()
        os.set_blocking(fd, False)
        end = time.monotonic() + patience
        view = memoryview(data)
        with self._sending:
            while view:
                left = end - time.monotonic()
                assert left > 0, "the sidecar does not read its stdin"
                if select.select([], [fd], [], left)[1]:
                    with contextlib.suppress(BlockingIOError):
                        view = view[os.write(fd, view) :]

    def send(self, *messages: Json) -> None:
        """Write messages in one piece."""
        self.send_bytes(b"".join(json.dumps(message).encode() + b"\n" for message in messages))

    def frame(self, method: str, params: Json | None = None, key: Any = None) -> tuple[Any, Json]:
        """Return a fresh id and the request with it."""
        if key is None:
            with self._sending:
                self._last += 1
                key = self._last
        body: Json = {"jsonrpc": "2.0", "id": key, "method": method}
        if params is not None:
            body["params"] = params
        return key, body

    def request(self, method: str, params: Json | None = None, key: Any = None) -> Any:
        """Send a request and return its id."""
        key, body = self.frame(method, params, key)
        self.send(body)
        return key

    def raw_request(self, method: str, params: bytes) -> Any:
        """Send a request whose params are bytes; return its id."""
        self._last += 1
        self.send_bytes(
            b'{"jsonrpc":"2.0","id":%d,"method":"%s","params":%s}\n' % (self._last, method.encode(), params)
        )
        return self._last

    def answer(self, key: Any, patience: float = PATIENCE) -> Answer:
        """Wait for the answer to a request."""
        answer: Answer = self.wait(lambda: self.answers.get(key), f"answer to {key!r}", patience)
        return answer

    def call(self, method: str, params: Json | None = None, patience: float = PATIENCE) -> Answer:
        """Send a request and wait for its answer."""
        return self.answer(self.request(method, params), patience)

    def tool(self, server: str, name: str, arguments: Json | None = None, **more: Any) -> Answer:
        """Call a tool and wait for the answer."""
        return self.answer(self.start_tool(server, name, arguments, **more))

    def start_tool(self, server: str, name: str, arguments: Json | None = None, **more: Any) -> Any:
        """Call a tool and return the request's id."""
        return self.request("tools/call", {"server": server, "name": name, "arguments": arguments or {}, **more})

    def connect(self, server: str, transport: Json, **more: Any) -> Json:
        """Connect a server and return its ServerInfo."""
        info: Json = self.call("servers/connect", {"server": server, "transport": transport, **more}).result
        return info

    def cancel(self, key: Any) -> None:
        """Cancel a request."""
        self.send({"jsonrpc": "2.0", "method": "notifications/cancelled", "params": {"requestId": key}})

    # -- what it says by itself -------------------------------------------------------------------------------

    def told(self, method: str) -> list[Json]:
        """Return the params of the notifications that came so far."""
        return [body["params"] for body in list(self.calls) if body["method"] == method]

    def wait_told(self, method: str, where: Callable[[Json], Any] = bool, patience: float = PATIENCE) -> Json:
        """Wait for a notification whose params fit, and return these."""
        found: Json = self.wait(
            lambda: next((params for params in self.told(method) if where(params)), None), method, patience
        )
        return found

    def states(self, server: str) -> list[str]:
        """Return the states that `servers/changed` told about a server, in order."""
        return [params["state"] for params in self.told("servers/changed") if params["server"] == server]

    def logs(self) -> list[Json]:
        """Return the log lines so far; every line of stderr must be one JSON object."""
        return [json.loads(line) for line in self.stderr.split(b"\n")[:-1]]

    def wait_log(self, where: Callable[[Json], Any], patience: float = PATIENCE) -> Json:
        """Wait for a log line that fits."""
        found: Json = self.wait(lambda: next(filter(where, self.logs()), None), "log line", patience)
        return found

    # -- the process ------------------------------------------------------------------------------------------

    @property
    def handle(self) -> psutil.Process:
        """The process, for its memory and descriptors."""
        return psutil.Process(self.process.pid)

    def rss(self) -> int:
        """Bytes of memory it holds."""
        return int(self.handle.memory_info().rss)

    def tree(self) -> list[psutil.Process]:
        """Return all its descendants that live."""
        try:
            return [child for child in self.handle.children(recursive=True) if alive(child)]
        except psutil.NoSuchProcess:
            return []

    def end_input(self) -> None:
        """Close its stdin."""
        assert self.process.stdin is not None
        with contextlib.suppress(BrokenPipeError):
            self.process.stdin.close()

    def exit_code(self, patience: float = PATIENCE) -> int:
        """Wait for its end; negative is a signal."""
        try:
            return self.process.wait(patience)
        except subprocess.TimeoutExpired:
            raise AssertionError(f"it did not end within {patience} s: {self.stderr[-3000:].decode()}") from None

    def rest(self) -> None:
        """Wait until everything that it wrote has been read."""
        self.resume()
        self.wait(lambda: self.ended, "end of output")

    def close(self, code: int = 0) -> None:
        """End its input and check that it ends with `code`, answered nothing twice and leaves no process."""
        left = self.tree()
        self.end_input()
        try:
            assert self.exit_code() == code, self.stderr[-3000:].decode()
            self.rest()
            assert not self.garbage, f"not JSON: {self.garbage[0][:500]!r}"
            assert not self.duplicates, f"answered twice: {self.duplicates[:3]}"
            assert_gone(left)
        finally:
            self.kill(left)

    def kill(self, left: list[psutil.Process] | None = None) -> None:
        """Kill it and what is known of its children; for the end of a failed test."""
        left = [*(left or []), *self.tree()]
        self.process.kill()
        self.process.wait(PATIENCE)
        RUNNING.pop(self.process.pid, None)
        for child in left:
            with contextlib.suppress(psutil.NoSuchProcess):
                child.kill()
        self.resume()
        self.end_input()
        for thread in self._threads:
            thread.join(PATIENCE)

    def __enter__(self) -> Self:
        """Return the running process."""
        return self

    def __exit__(self, kind: object, *_: object) -> None:
        """Close it strictly, unless the test has failed already."""
        if kind is None:
            self.close()
        else:
            self.kill()
