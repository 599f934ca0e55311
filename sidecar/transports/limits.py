"""How much may be in flight to one server, and how fast: a first-in-first-out queue inside each call's deadline."""

from __future__ import annotations

import asyncio
import math
from collections import deque
from typing import TYPE_CHECKING, Final

from sidecar import errors

if TYPE_CHECKING:
    from sidecar.transports.channel import Track

_BURST_MAX: Final = 10**9
QUEUE: Final = 256
"""Calls that may wait; one more is refused."""


class Gate:
    """Lets `max_in_flight` calls through at once, and at most `rate` a second with bursts of `burst`."""

    def __init__(self, max_in_flight: int, rate: float | None = None, burst: int | None = None) -> None:
        """Start empty, the whole burst available."""
        self.max_in_flight = max_in_flight
        self.in_flight = 0
        self._rate = rate
        self._burst = float(min(burst if burst is not None else math.ceil(rate or 1), _BURST_MAX))
        self._tokens = self._burst
        self._waiting: deque[asyncio.Future[None]] = deque()
        self._loop = asyncio.get_running_loop()
        self._refilled = self._loop.time()
        self._timer: asyncio.TimerHandle | None = None

    @property
    def busy(self) -> bool:
        """Whether calls are in flight or wait."""
        return self.in_flight > 0 or bool(self._waiting)

    def change(self, max_in_flight: int, rate: float | None, burst: int | None) -> None:
        """Take new limits; calls in flight keep their places."""
        self.max_in_flight = max_in_flight
        self._rate = rate
        self._burst = float(min(burst if burst is not None else math.ceil(rate or 1), _BURST_MAX))
        self._tokens = min(self._tokens, self._burst)
        self._wake()

    async def enter(self, track: Track) -> None:
        """Wait for a place. Raises Overloaded where the queue is full."""
        if not self._waiting and self._take():
            return
        if len(self._waiting) >= QUEUE:
            raise errors.Overloaded(
                f"{QUEUE} calls wait already; raise limits.maxInFlight of the server or call it less",
                limit="maxInFlight",
                value=self.max_in_flight,
            )
        track.phase = "queue"
        waiter: asyncio.Future[None] = self._loop.create_future()
        self._waiting.append(waiter)
        self._later()
        try:
            await waiter
        except asyncio.CancelledError:
            if waiter.done() and not waiter.cancelled():
                self.leave()  # the place was given in the same turn
            elif waiter in self._waiting:  # `leave` may have passed it over already
                self._waiting.remove(waiter)
            raise

    def leave(self) -> None:
        """Give the place back."""
        self.in_flight -= 1
        self._wake()

    def _take(self) -> bool:
        if self.in_flight >= self.max_in_flight:
            return False
        if self._rate is not None:
            now = self._loop.time()
            self._tokens = min(self._burst, self._tokens + (now - self._refilled) * self._rate)
            self._refilled = now
            if self._tokens < 1:
                return False
            self._tokens -= 1
        self.in_flight += 1
        return True

    def _wake(self) -> None:
        self._timer = None
        while self._waiting:
            if self._waiting[0].done():
                self._waiting.popleft()
            elif self._take():
                self._waiting.popleft().set_result(None)
            else:
                break
        self._later()

    def _later(self) -> None:
        if self._waiting and self._rate is not None and self._timer is None and self.in_flight < self.max_in_flight:
            self._timer = self._loop.call_later(max(0.0, (1 - self._tokens) / self._rate), self._wake)
