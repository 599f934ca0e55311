"""What a child writes: its stdout and stderr read on the loop, the last of its stderr kept."""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import logging
import os
import struct
import termios
import time
from typing import TYPE_CHECKING, Final

from sidecar.stdio import LineSplitter
from sidecar.telemetry.redact import SECRETS

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from sidecar.transports.fair import Share

child_log: Final = logging.getLogger("sidecar.child")

TAIL_BYTES: Final = 2048
DRAIN_SECONDS: Final = 0.25
_READ: Final = 1 << 16
_READ_LEAST: Final = 1 << 12
_SLOW_CHUNK: Final = 0.004
_RING: Final = 1 << 16
_LOG_LINES_PER_SECOND: Final = 50


class Output:
    """Reads one descriptor of the child on the loop."""

    def __init__(self, fd: int, splitter: LineSplitter, on_end: Callable[[], None], share: Share | None = None) -> None:
        """Own `fd` from now on and read it, within `share`; `on_end` is told its end."""
        self._fd = fd
        self._splitter: LineSplitter | None = splitter
        self._on_end = on_end
        self._share = share
        self._waiting = False
        self._size = _READ
        self._loop = asyncio.get_running_loop()
        self._reading = False
        self._paused = True
        self._open = True
        os.set_blocking(fd, False)
        self.pause(paused=False)

    def pause(self, paused: bool) -> None:
        """Stop or go on reading."""
        self._paused = paused
        self._arm()

    def _arm(self) -> None:
        """Have the loop watch the descriptor exactly while something is to be read."""
        wanted = self._open and not self._paused and not self._waiting
        if wanted == self._reading:
            return
        if wanted:
            self._loop.add_reader(self._fd, self._readable)
        else:
            self._loop.remove_reader(self._fd)
        self._reading = wanted

    def limit(self, size: int) -> None:
        """Take lines of up to `size` bytes from now on."""
        if self._splitter is not None:
            self._splitter.limit = size

    def _readable(self) -> None:
        share = self._share
        if share is None:
            self._read()
        elif share.must_wait:
            self._waiting = True
            self._arm()
            share.wait(self._granted)
        else:
            self._read_within(share)

    def _read_within(self, share: Share) -> None:
        """Read one chunk, no larger than what was taken apart quickly before."""
        began = time.perf_counter()
        self._read()
        took = time.perf_counter() - began
        share.spend(began)
        if took > _SLOW_CHUNK:
            self._size = max(self._size // 2, _READ_LEAST)
        elif took < _SLOW_CHUNK / 4:
            self._size = min(self._size * 2, _READ)

    def _granted(self) -> None:
        """Go on: it is our turn."""
        self._waiting = False
        self._arm()
        if self._reading and self._share is not None:
            self._read_within(self._share)

    def _read(self) -> int:
        """Read one chunk; return how many bytes."""
        try:
            chunk = os.read(self._fd, self._size)
        except BlockingIOError:
            return 0
        except OSError:
            chunk = b""
        if not chunk:
            self.close()
            self._on_end()
        elif self._splitter is not None:
            self._splitter.feed(chunk)
        return len(chunk)

    def drain(self) -> None:
        """Read what stands in the pipe now; what an heir of it writes meanwhile is left."""
        left = self._standing()
        while self._open and left > 0 and (read := self._read()):
            left -= read

    def _standing(self) -> int:
        if not self._open:
            return 0
        try:
            size: int = struct.unpack("i", fcntl.ioctl(self._fd, termios.FIONREAD, b"\0\0\0\0"))[0]
        except OSError:
            return 0
        return size

    def discard(self) -> None:
        """Go on reading, so that a child that flushes can end, but drop what comes."""
        self._splitter = None
        self.pause(paused=False)

    def close(self) -> None:
        """Read no more and close the descriptor."""
        if self._open:
            self._open = False
            self._arm()
            with contextlib.suppress(OSError):
                os.close(self._fd)


class StderrRing:
    """The child's stderr: always drained, its last 64 kB kept, its lines logged at a bounded rate."""

    def __init__(self, label: Mapping[str, object], *, log: bool) -> None:
        """Log lines under `label` where `log`."""
        self._label = dict(label)
        self._log = log
        self._ring = bytearray()
        self._output: Output | None = None
        self._second = 0.0
        self._lines = 0
        self._muted = 0

    def attach(self, fd: int, share: Share | None = None) -> None:
        """Own `fd` and read it, within `share`."""
        self._output = Output(fd, LineSplitter(self, 4096, head=1024), lambda: None, share)

    def line(self, line: bytes) -> None:
        """Keep and log one line."""
        self._ring += line + b"\n"
        if len(self._ring) > 2 * _RING:
            del self._ring[:-_RING]
        if not self._log:
            return
        now = asyncio.get_running_loop().time()
        if now - self._second >= 1:
            if self._muted:
                child_log.warning("%d more lines of stderr", self._muted, extra=self._label)
            self._second, self._lines, self._muted = now, 0, 0
        self._lines += 1
        if self._lines <= _LOG_LINES_PER_SECOND:
            child_log.info("%s", line[:2000].decode("utf-8", "replace"), extra=self._label)
        else:
            self._muted += 1

    def too_long(self, head: bytes, tail: bytes, size: int) -> None:
        """Keep and log the ends of a very long line."""
        self.line(head + b" ... (%d bytes) ... " % size + tail)

    def end(self, error: OSError | None) -> None:
        """Part of the line sink."""

    def tail(self) -> str | None:
        """Return the last 2 kB, redacted; None for a silent child."""
        # Clean first, then cut: half a secret would not be recognised.
        text = SECRETS.clean(bytes(self._ring[-4 * TAIL_BYTES :]).decode("utf-8", "replace")).strip()
        return text.encode()[-TAIL_BYTES:].decode("utf-8", "ignore") or None

    def drain(self) -> None:
        """Read what stands in the pipe now."""
        if self._output is not None:
            self._output.drain()

    def close(self) -> None:
        """Read no more."""
        if self._output is not None:
            self._output.close()
