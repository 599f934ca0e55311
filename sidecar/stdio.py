"""File descriptors 0 and 1 as lines of bytes, and nobody else's.

`claim` takes the real stdin and stdout away before anything else is imported: whatever prints later lands on stderr,
whatever reads later reads nothing. `LineReader` splits in linear time under a cap; `LineWriter` owns the pipe.
Knows no MCP and no JSON.
"""

from __future__ import annotations

import asyncio
import fcntl
import os
import select
import stat
import threading
from collections import deque
from typing import TYPE_CHECKING, Final, Protocol

from sidecar.lanes import Lanes

if TYPE_CHECKING:
    from collections.abc import Callable, Hashable

_CHUNK: Final = 1 << 18
_PIPE_BYTES: Final = 1 << 20
_WRITE_SLICE: Final = 1 << 20
_TURN_SLICES: Final = 2
_IOV: Final = 512
_HEAVY: Final = 1 << 18
_SHARE: Final = 4 << 20
"""Bytes of small lines that may pass before a large one gets its turn."""


def claim() -> tuple[int, int]:
    """Take fds 0 and 1 for the wire and return their private copies (close-on-exec).

    Afterwards fd 0 reads the null device and fd 1 is stderr, for us and for every child.
    """
    wire_in = fcntl.fcntl(0, fcntl.F_DUPFD_CLOEXEC, 10)
    wire_out = fcntl.fcntl(1, fcntl.F_DUPFD_CLOEXEC, 10)
    null = os.open(os.devnull, os.O_RDWR | os.O_CLOEXEC)
    os.dup2(null, 0)
    try:
        os.dup2(2, 1)
    except OSError:  # started without stderr
        os.dup2(null, 1)
        os.dup2(null, 2)
    os.close(null)
    return wire_in, wire_out


class LineSink(Protocol):
    """What a `LineReader` tells."""

    def line(self, line: bytes) -> None:
        """Take one line, without its line break."""

    def too_long(self, head: bytes, tail: bytes, size: int) -> None:
        """Take the first and last 4 kB of a line over the cap, and how many bytes it had."""

    def end(self, error: OSError | None) -> None:
        """Note that no more lines come."""


class LineSplitter:
    """Cuts a stream of chunks into lines, each byte looked at once; a line over the cap is skipped to its newline."""

    def __init__(self, sink: LineSink, limit: int, head: int = 4096) -> None:
        """Cut for `sink`; a line of more than `limit` bytes (its line break not counted) is told by its head."""
        self.limit = limit
        self._sink = sink
        self._head = head
        self._parts: list[bytes] = []
        self._size = 0
        self._skipping: bytes | None = None
        self._tail = b""

    def feed(self, chunk: bytes) -> None:
        """Take the next bytes of the stream."""
        if not self._parts and self._skipping is None and chunk.endswith(b"\n") and len(chunk) <= self.limit:
            for line in chunk[:-1].split(b"\n"):
                self._hand_over(line)
            return
        start = 0
        while (stop := chunk.find(b"\n", start)) >= 0:
            self._finish(chunk[start:stop])
            start = stop + 1
        if start < len(chunk):
            self._keep(chunk[start:] if start else chunk)

    def _keep(self, part: bytes) -> None:
        self._size += len(part)
        if self._skipping is not None:
            self._tail = (self._tail + part)[-self._head :]
            return
        self._parts.append(part)
        if self._size > self.limit + 1:  # one more may be the `\r` of the line break
            whole = b"".join(self._parts)
            self._skipping, self._tail = whole[: self._head], whole[-self._head :]
            self._parts.clear()

    def _finish(self, part: bytes) -> None:
        if self._skipping is None and not self._parts:
            line = part
        else:
            self._keep(part)
            if self._skipping is not None:
                head, tail, size = self._skipping, self._tail, self._size
                self._skipping, self._tail, self._size = None, b"", 0
                self._sink.too_long(head, tail, size)
                return
            line = b"".join(self._parts)
            self._parts.clear()
        self._size = 0
        self._hand_over(line)

    def _hand_over(self, line: bytes) -> None:
        if line.endswith(b"\r"):
            line = line[:-1]
        if len(line) > self.limit:
            self._sink.too_long(line[: self._head], line[-self._head :], len(line))
        else:
            self._sink.line(line)

    def close(self) -> None:
        """Hand over a last line that has no newline."""
        if self._parts or self._skipping is not None:
            self._finish(b"")


class LineReader:
    """Reads lines from a descriptor on the event loop; a thread reads what the loop cannot poll (files)."""

    def __init__(self, fd: int, sink: LineSink, limit: int) -> None:
        """Prepare to read `fd`; `start` begins."""
        self.fd = fd
        self.splitter = LineSplitter(sink, limit)
        self._sink = sink
        self._loop = asyncio.get_running_loop()
        self._polled = _pollable(fd)
        self._resumed = threading.Event()
        self._done = False

    def start(self) -> None:
        """Begin to read."""
        if self._polled:
            os.set_blocking(self.fd, False)
            _grow(self.fd)
            self._loop.add_reader(self.fd, self._readable)
        else:
            threading.Thread(target=self._read_blocking, name="wire-in", daemon=True).start()

    def stop(self) -> None:
        """Read no more; the descriptor stays open."""
        if not self._done:
            self._done = True
            if self._polled:
                self._loop.remove_reader(self.fd)

    def _readable(self) -> None:
        try:
            chunk = os.read(self.fd, _CHUNK)
        except BlockingIOError:
            return
        except OSError as error:
            self._end(error)
            return
        if chunk:
            self.splitter.feed(chunk)
        else:
            self._end(None)

    def _read_blocking(self) -> None:
        error: OSError | None = None
        while not self._done:
            try:
                chunk = os.read(self.fd, _CHUNK)
            except OSError as caught:
                error = caught
                break
            if not chunk:
                break
            self._resumed.clear()
            self._loop.call_soon_threadsafe(self._feed_from_thread, chunk)
            self._resumed.wait()
        if not self._done:
            self._loop.call_soon_threadsafe(self._end, error)

    def _feed_from_thread(self, chunk: bytes) -> None:
        try:
            if not self._done:
                self.splitter.feed(chunk)
        finally:
            self._resumed.set()

    def _end(self, error: OSError | None) -> None:
        if not self._done:
            self.stop()
            self.splitter.close()
            self._sink.end(error)


class LineWriter:
    """Writes whole lines to a descriptor, never blocking the loop where the descriptor can be polled.

    Lines go out in order, but for large ones that were given to `write_large`: while the other end is slow these let
    small lines pass, and take turns by their lane, so that one lane's large lines keep no other lane waiting.
    `on_broken` is called once when the other end is gone; later lines are dropped. `on_pressure` is told when the
    queue of small lines passes `high` bytes or `high_lines` lines, and again when it is half of that.
    """

    def __init__(
        self,
        fd: int,
        on_broken: Callable[[OSError], None],
        on_pressure: Callable[[bool], None] | None = None,
        *,
        high: int = 8 << 20,
        high_lines: int = 10_000,
    ) -> None:
        """Prepare to write to `fd`."""
        self.fd = fd
        self.broken = False
        self.pressed = False
        self.queued = 0
        self._queue: deque[bytes | memoryview] = deque()
        self.large = Lanes(high // 2)
        self._heavy = 0
        """Bytes of large parts in the queue."""
        self._passed = 0
        self._offset = 0
        self._high = high
        self._high_lines = high_lines
        self._on_broken = on_broken
        self._on_pressure = on_pressure
        self._loop = asyncio.get_running_loop()
        self._polled = _pollable(fd)
        self._armed = False
        self._scheduled = False
        self._idle: list[asyncio.Future[None]] = []
        if self._polled:
            os.set_blocking(fd, False)
            _grow(fd)

    def write(self, *parts: bytes | memoryview) -> None:
        """Queue one line, given in parts; the last part ends with the newline."""
        if self.broken:
            return
        size = self._append(parts)
        self.queued += size
        self._passed += size
        self._wake()

    def _append(self, parts: tuple[bytes | memoryview, ...]) -> int:
        """Put a line at the end of the queue; return its size."""
        size = 0
        for part in parts:
            self._queue.append(part)
            size += len(part)
            if len(part) >= _HEAVY:
                self._heavy += len(part)
        return size

    def write_large(self, lane: Hashable, *parts: bytes | memoryview) -> None:
        """Queue one large line, given in parts; where others are on their way, it lets small ones pass."""
        if self.broken:
            return
        if not self._queue and not self.large:
            self.write(*parts)
            return
        self.large.put(lane, parts)
        self._wake()

    def in_order(self) -> None:
        """Have every line so far written before the next one."""
        while self.large:
            self._promote()

    def _promote(self) -> None:
        """Put the next large line into the queue."""
        self.queued += self._append(self.large.take())
        self._passed = 0

    def _wake(self) -> None:
        if not self._scheduled and not self._armed:
            # One flush per turn of the loop: what is answered together is written together.
            self._scheduled = True
            self._loop.call_soon(self._flush)
        if not self.pressed and (self._small() > self._high or len(self._queue) > self._high_lines):
            self.pressed = True
            if self._on_pressure is not None:
                self._on_pressure(True)

    async def drained(self) -> None:
        """Return when everything queued so far is written, or the other end is gone."""
        if (self._queue or self.large) and not self.broken:
            waiter: asyncio.Future[None] = self._loop.create_future()
            self._idle.append(waiter)
            await waiter

    def close(self) -> None:
        """Write no more; the descriptor stays open."""
        self.broken = True
        self._queue.clear()
        self.large.clear()
        self._settle()

    def _flush(self) -> None:
        self._scheduled = False
        try:
            for _ in range(_TURN_SLICES):
                if self.large and (not self._queue or self._passed > _SHARE):
                    self._promote()
                if not self._queue:
                    break
                self._write_some()
            else:
                # A fast reader must not keep the loop in here: the rest goes out in later turns.
                self._scheduled = bool(self._queue or self.large) and not self._armed
                if self._scheduled:
                    self._loop.call_soon(self._flush)
                self._relax()
                return
        except BlockingIOError:
            if not self._armed:
                self._armed = True
                self._loop.add_writer(self.fd, self._flush)
            self._relax()
            return
        except OSError as error:
            self.close()
            self._on_broken(error)
            return
        self._relax()
        self._settle()

    def _write_some(self) -> None:
        queue = self._queue
        if len(queue) == 1 or self._offset or len(queue[0]) >= _WRITE_SLICE:
            view = memoryview(queue[0])[self._offset : self._offset + _WRITE_SLICE]
            written = os.write(self.fd, view)
        else:
            batch: list[bytes | memoryview] = []
            size = 0
            for part in queue:
                batch.append(part)
                size += len(part)
                if size >= _WRITE_SLICE or len(batch) == _IOV:
                    break
            written = os.writev(self.fd, batch)
        self.queued -= written
        written += self._offset
        while queue and written >= len(queue[0]):
            part = queue.popleft()
            written -= len(part)
            if len(part) >= _HEAVY:
                self._heavy -= len(part)
        self._offset = written

    def _small(self) -> int:
        """Return the bytes of small lines that are queued."""
        return self.queued - self._heavy

    def _relax(self) -> None:
        if self.pressed and self._small() <= self._high // 2 and len(self._queue) <= self._high_lines // 2:
            self.pressed = False
            if self._on_pressure is not None:
                self._on_pressure(False)

    def _settle(self) -> None:
        if self._armed:
            self._armed = False
            self._loop.remove_writer(self.fd)
        for waiter in self._idle:
            if not waiter.done():
                waiter.set_result(None)
        self._idle.clear()


def peer_gone(fd: int) -> bool:
    """Tell whether nobody can read what is written to `fd` any more."""
    poller = select.poll()
    poller.register(fd, 0)
    return any(event & (select.POLLERR | select.POLLHUP | select.POLLNVAL) for _, event in poller.poll(0))


def _pollable(fd: int) -> bool:
    """Pipes and sockets only: O_NONBLOCK on a terminal would reach everybody who shares it."""
    mode = os.fstat(fd).st_mode
    return stat.S_ISFIFO(mode) or stat.S_ISSOCK(mode)


def _grow(fd: int) -> None:
    """Ask for a larger pipe: fewer wake-ups for large frames. A refusal costs nothing."""
    setter = getattr(fcntl, "F_SETPIPE_SZ", None)
    if setter is not None:
        try:
            fcntl.fcntl(fd, setter, _PIPE_BYTES)
        except OSError:
            return
