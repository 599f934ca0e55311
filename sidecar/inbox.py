"""What one server tells, on its way to the host: in order, at a bounded rate, in bounded memory.

A flood costs its own server's words alone. Of log messages the oldest are dropped and counted; what says that
something has changed is never lost, but told once for many.
"""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from itertools import count
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Hashable

    from sidecar.callbacks import Notices

RATE: Final = 1000.0
"""Notifications a second and server."""
BURST: Final = 2000.0
QUEUE: Final = 2000
QUEUE_BYTES: Final = 4 << 20
_TICK: Final = 0.02
_APART: Final = 0.05
"""Seconds between two notices of the same change."""
_LOG: Final = "log"


class Inbox:
    """The notifications of one connection."""

    def __init__(self, notices: Notices) -> None:
        """Tell through `notices`."""
        self._notices = notices
        self._loop = asyncio.get_running_loop()
        self._tokens = BURST
        self._refilled = self._loop.time()
        self._waiting: OrderedDict[Hashable, tuple[str, bytes, bool]] = OrderedDict()
        self._bytes = 0
        self._numbers = count()
        self._logs: OrderedDict[Hashable, None] = OrderedDict()
        self._last: dict[Hashable, float] = {}
        self._timer: asyncio.TimerHandle | None = None

    def log(self, method: str, body: bytes) -> None:
        """Take a log message; under a flood the oldest ones are dropped and counted."""
        if not self._waiting and self._take():
            self._notices.send(method, body)
            return
        key = (_LOG, next(self._numbers))
        self._logs[key] = None
        self._wait(key, method, body, apart=False)

    def change(self, key: Hashable | None, method: str, body: bytes, *, apart: bool = False) -> None:
        """Take a notice that must arrive; while one with the same key waits, the later one stands for both.

        `apart` keeps two of one key some time from each other.
        """
        if key is None:
            key = ("one", next(self._numbers))
        now = self._loop.time()
        soon = apart and now - self._last.get(key, float("-inf")) < _APART
        if not self._waiting and not soon and self._take():
            self._note(key, now, apart=apart)
            self._notices.send(method, body)
            return
        self._wait(key, method, body, apart=apart)

    def _note(self, key: Hashable, now: float, *, apart: bool) -> None:
        if apart:
            if len(self._last) >= QUEUE:
                self._last.clear()
            self._last[key] = now

    def _wait(self, key: Hashable, method: str, body: bytes, *, apart: bool) -> None:
        before = self._waiting.get(key)
        if before is not None:
            self._bytes -= len(before[1])
        self._waiting[key] = (method, body, apart)
        self._bytes += len(body)
        while len(self._waiting) > QUEUE or (self._bytes > QUEUE_BYTES and len(self._waiting) > 1):
            oldest = next(iter(self._logs or self._waiting))
            self._bytes -= len(self._waiting.pop(oldest)[1])
            self._logs.pop(oldest, None)
            self._notices.dropped("logs")
        if self._timer is None:
            self._timer = self._loop.call_later(_TICK, self._drain)

    def _take(self) -> bool:
        now = self._loop.time()
        self._tokens = min(BURST, self._tokens + (now - self._refilled) * RATE)
        self._refilled = now
        if self._tokens < 1 or self._notices.pressed:
            return False
        self._tokens -= 1
        return True

    def _drain(self) -> None:
        self._timer = None
        while self._waiting and self._take():
            key, (method, body, apart) = self._waiting.popitem(last=False)
            self._bytes -= len(body)
            self._logs.pop(key, None)
            self._note(key, self._loop.time(), apart=apart)
            self._notices.send(method, body)
        if self._waiting:
            self._timer = self._loop.call_later(_TICK, self._drain)

    def close(self) -> None:
        """Drop what waits."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        self._waiting.clear()
        self._logs.clear()
