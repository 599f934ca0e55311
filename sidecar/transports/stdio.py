"""The stdio transport: a child process whose stdin and stdout carry MCP, one message a line.

Replaces the engine's own transport, which reads in quadratic time, dies of one bad byte and hangs with a child that
does not read. Here lines are cut in linear time under a cap, a bad line costs one message, a write that the child
does not take costs its own deadline, and the end is noticed by the process, not by the pipe.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import time
from collections import deque
from typing import TYPE_CHECKING, Final

from sidecar import errors, frames
from sidecar.stdio import LineSplitter
from sidecar.transports.channel import Call, Channel
from sidecar.transports.output import DRAIN_SECONDS, Output, StderrRing

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from sidecar.transports.faults import Payload
    from sidecar.transports.guard import Child, Exit, Guard

logger: Final = logging.getLogger(__name__)

SAFE_ENV: Final = ("HOME", "LOGNAME", "PATH", "SHELL", "TERM", "USER", "LANG", "TMPDIR")
"""Variables every child gets, where the sidecar has them."""
STALL_SECONDS: Final = 5.0
_LARGE: Final = 1 << 20
_GRACE: Final = 2.0
_QUEUE_BYTES: Final = 8 << 20


class StdioChannel(Channel):
    """A channel to a child process."""

    def __init__(
        self,
        *,
        guard: Guard,
        argv: list[str],
        env: dict[str, str],
        cwd: str | None,
        log_stderr: bool,
        max_result: int,
        label: Mapping[str, object],
    ) -> None:
        """Prepare to start `argv` with exactly `env`."""
        super().__init__(max_result, label)
        self.child: Child | None = None
        self._guard = guard
        self._argv = argv
        self._env = env
        self._cwd = cwd
        self._loop = asyncio.get_running_loop()
        self._stdin: ChildInput | None = None
        self._stdout: Output | None = None
        self._stderr = StderrRing(self.label, log=log_stderr)
        self._closing = False
        self._later: deque[bytes] = deque()

    @property
    def pid(self) -> int | None:
        """The child's process id while it runs."""
        return self.child.pid if self.child is not None and not self.child.exited.done() else None

    async def open(self) -> None:
        """Start the child. Raises SpawnFailed or QuotaExceeded."""
        child = await self._guard.spawn(self._argv, self._env, self._cwd)
        self.child = child
        self._stdin = ChildInput(child.stdin, self._broken_input)
        self._stdout = Output(child.stdout, LineSplitter(self, self.max_result), self._output_ended, self.share)
        self._stderr.attach(child.stderr, self.share)
        child.exited.add_done_callback(self._exited)

    # -- lines of the child -----------------------------------------------------------------------------------

    def line(self, line: bytes) -> None:
        """Take one line of the child's stdout; a large one in a turn of the loop of its own."""
        if frames.is_blank(line):
            return
        if self._later or len(line) > _LARGE:
            self._later.append(line)
            if len(self._later) == 1:
                self._loop.call_soon(self._take_later)
        else:
            self.receive(line)

    def _take_later(self) -> None:
        """Take the lines that wait, when it is our turn."""
        if self.share.must_wait:
            self.share.wait(self._take_some)
        else:
            self._take_some()

    def _take_some(self) -> None:
        """Take the lines that wait, in order, up to and with the next large one."""
        while self._later:
            line = self._later.popleft()
            began = time.perf_counter()
            self.receive(line)
            self.share.spend(began)
            if len(line) > _LARGE and self._later:
                self._loop.call_soon(self._take_later)
                return

    def too_long(self, head: bytes, tail: bytes, size: int) -> None:
        """Fail the call of a line over the cap."""
        raw_id = frames.find_id(head) or frames.find_id_in_tail(tail)
        self.too_large(size, self._call_of(raw_id) if raw_id is not None else None)

    def end(self, error: OSError | None) -> None:
        """Part of the line sink; the end is told to `_output_ended`."""

    def configure(self, headers: Mapping[str, str]) -> None:
        """Take lines of the present `max_result` from now on; there are no headers."""
        del headers
        if self._stdout is not None:
            self._stdout.limit(self.max_result)

    def pause(self, paused: bool) -> None:
        """Stop or go on reading the child's stdout."""
        if self._stdout is not None:
            self._stdout.pause(paused)

    # -- sending ----------------------------------------------------------------------------------------------

    async def _perform(self, call: Call, message: bytes, headers: Mapping[str, str] | None) -> Payload:
        del headers
        assert self._stdin is not None
        call.track.phase = "queue"
        entry = self._stdin.put(message + b"\n", call)
        try:
            return await call.future
        except asyncio.CancelledError:
            if not self._stdin.withdraw(entry):
                self._loop.call_later(STALL_SECONDS, self._check_stall, entry, self._loop.time())
            raise

    def _send_soon(self, message: bytes) -> None:
        if self._stdin is not None and self._stdin.queued < _QUEUE_BYTES:
            self._stdin.put(message + b"\n", None)
        elif self.error is None:
            self.dropped.note("the server does not read")

    def _check_stall(self, entry: _Entry, since: float) -> None:
        """Recycle a connection whose abandoned write is still stuck: nothing behind it can ever be sent."""
        if self.error is None and self._stdin is not None and entry.stuck:
            stalled = int((self._loop.time() - since) * 1000)
            self.fail(errors.Unresponsive("the server stopped reading its stdin", stalledMs=stalled))
            self.spawn(self.aclose())

    # -- the end ----------------------------------------------------------------------------------------------

    def _broken_input(self) -> None:
        if self.error is None and not self._closing:
            # The child closed its stdin or is about to end; its exit says more if it comes at once.
            self._loop.call_later(DRAIN_SECONDS, self._lost, "the server closed its stdin")

    def _output_ended(self) -> None:
        if self.error is None and not self._closing:
            self._loop.call_later(DRAIN_SECONDS, self._lost, "the server closed its stdout")

    def _lost(self, reason: str) -> None:
        if self.error is None and not self._closing:
            self.fail(errors.ConnectionLost(reason, reason=reason))
            self.spawn(self.aclose())

    def _exited(self, exited: asyncio.Future[Exit]) -> None:
        if self._stdout is not None and not self._closing:
            self._stdout.drain()  # what it said before its end counts
        while self._later:
            self._take_some()
        self._stderr.drain()
        self.fail(self._exit_error(exited.result()))

    def _exit_error(self, how: Exit) -> errors.SidecarError:
        return errors.ServerExited(
            f"the server {how}", exitCode=how.code, signal=how.signal, stderrTail=self._stderr.tail()
        )

    async def aclose(self) -> None:
        """End the child as MCP says: close its stdin, wait, SIGTERM, wait, SIGKILL; the whole tree."""
        child = self.child
        if child is None:
            return
        self._closing = True
        if self._stdin is not None:
            self._stdin.close()
        if self._stdout is not None:
            self._stdout.discard()
        try:
            for escalate in (child.terminate, child.kill, None):
                done, _ = await asyncio.wait({child.gone}, timeout=_GRACE)
                if done or escalate is None:
                    break
                escalate()
        except asyncio.CancelledError:
            child.kill()
            raise
        finally:
            if self._stdout is not None:
                self._stdout.close()
            self._stderr.close()
            self.fail(errors.ConnectionLost("the connection was closed", reason="closed"))


class _Entry:
    """One message on its way into the child."""

    __slots__ = ("call", "data", "offset")

    def __init__(self, data: bytes, call: Call | None) -> None:
        self.data = data
        self.call = call
        self.offset = 0

    @property
    def stuck(self) -> bool:
        return 0 < self.offset < len(self.data)


class ChildInput:
    """The child's stdin: messages in order, never blocking; knows which call's bytes have left."""

    def __init__(self, fd: int, on_broken: Callable[[], None]) -> None:
        """Own `fd` from now on."""
        self.queued = 0
        self._fd = fd
        self._queue: deque[_Entry] = deque()
        self._on_broken = on_broken
        self._loop = asyncio.get_running_loop()
        self._armed = False
        self._open = True
        os.set_blocking(fd, False)

    def put(self, data: bytes, call: Call | None) -> _Entry:
        """Queue one message and write what the pipe takes."""
        entry = _Entry(data, call)
        if self._open:
            self._queue.append(entry)
            self.queued += len(data)
            if not self._armed:
                self._flush()
        return entry

    def withdraw(self, entry: _Entry) -> bool:
        """Take a message back that not a byte was written of; true where it will not block the queue."""
        if entry.offset == 0 and entry in self._queue:
            self._queue.remove(entry)
            self.queued -= len(entry.data)
        return not entry.stuck

    def _flush(self) -> None:
        try:
            while self._queue:
                entry = self._queue[0]
                track = entry.call.track if entry.call is not None else None
                if track is not None and entry.offset == 0:
                    track.phase = "write"
                view = memoryview(entry.data)[entry.offset :]
                written = os.write(self._fd, view)
                if track is not None:
                    track.delivered = "maybe"
                entry.offset += written
                self.queued -= written
                if entry.offset == len(entry.data):
                    self._queue.popleft()
                    if track is not None:
                        track.phase = "wait"
        except BlockingIOError:
            head = self._queue[0]
            if head.offset == 0 and head.call is not None:
                head.call.track.phase = "queue"
            if not self._armed:
                self._armed = True
                self._loop.add_writer(self._fd, self._flush)
            return
        except OSError:
            self.close()
            self._on_broken()
            return
        if self._armed:
            self._armed = False
            self._loop.remove_writer(self._fd)

    def close(self) -> None:
        """Close the child's stdin: the polite request to end."""
        if self._open:
            self._open = False
            self._queue.clear()
            self.queued = 0
            if self._armed:
                self._armed = False
                self._loop.remove_writer(self._fd)
            with contextlib.suppress(OSError):
                os.close(self._fd)
