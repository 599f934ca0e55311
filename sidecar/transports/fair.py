"""Turns of the event loop shared out fairly: no scope can keep the loop busy with what its servers send.

What is read from a server is taken apart on the loop, which all scopes share. A scope that has used much of it lately
waits for its turn once a turn of the loop has lasted long enough; of those that wait, the one that used least goes
first. A scope that uses little never waits, and neither does one that is alone for longer than a turn.
"""

from __future__ import annotations

import asyncio
import math
import time
from collections import deque
from collections.abc import Callable, Hashable
from typing import Final

SLICE: Final = 0.008
"""Seconds of work in one turn of the loop, after which busy scopes wait for the next."""
LIGHT: Final = 0.010
"""Seconds of recent work up to which a scope is not busy."""
_HALF_LIFE: Final = 0.1
_KNOWN_MAX: Final = 4096

Wake = Callable[[], None]


class Fair:
    """Who used how much of the loop, and who waits."""

    def __init__(self) -> None:
        """Begin without history."""
        self.number = 0
        """Turns so far in which there was work."""
        self._began: float | None = None
        self._used: dict[Hashable, tuple[float, float]] = {}
        self._waiting: dict[Hashable, deque[Wake]] = {}

    def share(self, scope: Hashable) -> Share:
        """Return the share of a scope."""
        return Share(self, scope)

    def used(self, scope: Hashable) -> float:
        """Return how much of the loop a scope used lately, in seconds; half of it is forgotten every 0.1 s."""
        seconds, at = self._used.get(scope, (0.0, 0.0))
        return seconds * math.exp2((at - time.perf_counter()) / _HALF_LIFE)

    def spend(self, scope: Hashable, seconds: float) -> None:
        """Note work that was done for a scope."""
        if len(self._used) >= _KNOWN_MAX and scope not in self._used:
            self._used = {known: pair for known, pair in self._used.items() if self.used(known) > LIGHT}
        self._used[scope] = (self.used(scope) + seconds, time.perf_counter())

    def must_wait(self, scope: Hashable) -> bool:
        """Tell whether a scope has to wait for its turn now."""
        now = time.perf_counter()
        if self._began is None:
            self._began = now
            asyncio.get_running_loop().call_soon(self._next_turn)
        if not self._waiting and now - self._began < SLICE:
            return False
        return self.used(scope) > LIGHT

    def wait(self, scope: Hashable, wake: Wake) -> None:
        """Call `wake` when it is the scope's turn."""
        self._waiting.setdefault(scope, deque()).append(wake)
        if self._began is None:
            self._began = time.perf_counter()
            asyncio.get_running_loop().call_soon(self._next_turn)

    def _next_turn(self) -> None:
        self.number += 1
        self._began = None
        if not self._waiting:
            return
        scope = min(self._waiting, key=self.used)
        queue = self._waiting[scope]
        wake = queue.popleft()
        if not queue:
            del self._waiting[scope]
        self._began = time.perf_counter()
        asyncio.get_running_loop().call_soon(self._next_turn)
        wake()


class Share:
    """One scope's part of the loop."""

    def __init__(self, fair: Fair, scope: Hashable) -> None:
        """Belong to `scope`."""
        self._fair = fair
        self._scope = scope

    @property
    def must_wait(self) -> bool:
        """Whether the next piece of work has to wait; then ask `wait`."""
        return self._fair.must_wait(self._scope)

    def wait(self, wake: Wake) -> None:
        """Call `wake` when it is this scope's turn."""
        self._fair.wait(self._scope, wake)

    def spend(self, since: float) -> None:
        """Note work that began at `since` (`time.perf_counter`) and ends now."""
        self._fair.spend(self._scope, time.perf_counter() - since)

    def pace(self) -> Pace:
        """Return the pace of a task that works piece by piece."""
        return Pace(self._fair, self._scope)


class Pace:
    """Keeps one task within its scope's share: `await step()` between two pieces of its work."""

    def __init__(self, fair: Fair, scope: Hashable) -> None:
        """Begin now."""
        self._fair = fair
        self._scope = scope
        self._number = fair.number
        self._at = time.perf_counter()

    async def step(self) -> None:
        """Note what was done since the last step, and wait where it is somebody else's turn."""
        fair = self._fair
        if fair.number == self._number:  # the same turn of the loop: nobody else has worked since
            fair.spend(self._scope, time.perf_counter() - self._at)
        if fair.must_wait(self._scope):
            woken: asyncio.Future[None] = asyncio.get_running_loop().create_future()
            fair.wait(self._scope, lambda: None if woken.done() else woken.set_result(None))
            await woken
        self._number = fair.number
        self._at = time.perf_counter()
