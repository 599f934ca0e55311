"""A healthy server of another tenant: how long its calls take while somebody else misbehaves."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from tests.answers import Json
from tests.harness import Sidecar
from tests.programs import raw

TENANT: Json = {"tenant": "neighbour"}
P99 = 0.25
"""Seconds that the slowest of a hundred calls may take."""
FEWEST = 10
"""Calls that a measurement makes at least, also where what is beside it is over sooner."""
WORST = 1.5
"""Seconds that none may take: a machine that is busy with other things has its share in them."""


class Neighbour:
    """Calls its own server again and again, one call after the other."""

    def __init__(self, sidecar: Sidecar, name: str) -> None:
        """Connect the server and warm it up."""
        self.name = name
        self.taken: list[float] = []
        self._sidecar = sidecar
        sidecar.connect(name, raw(), scope=TENANT)
        self.call()
        self.taken.clear()

    def call(self) -> None:
        """Make one call."""
        began = time.monotonic()
        answer = self._sidecar.tool(self.name, "echo", scope=TENANT)
        assert answer.result
        self.taken.append(answer.at - began)

    def beside(self, *keys: Any) -> None:
        """Call until all these requests are answered, ten times at least."""
        self.until(lambda: all(key in self._sidecar.answers for key in keys))

    def until(self, done: Callable[[], Any]) -> None:
        """Call until something is done, ten times at least."""
        count = 0
        while count < FEWEST or not done():
            self.call()
            count += 1

    @property
    def p99(self) -> float:
        """Seconds that all but one in a hundred calls kept to; of fewer than a hundred, all but one."""
        ordered = sorted(self.taken)
        return ordered[-1 - max(1, len(ordered) // 100)]

    def check(self, p99: float = P99) -> None:
        """Fail where the calls took too long."""
        ordered = sorted(self.taken)
        assert self.p99 <= p99, f"{len(ordered)} calls, the slowest {ordered[-5:]}"
        assert ordered[-1] <= WORST, f"{len(ordered)} calls, the slowest {ordered[-5:]}"


@contextmanager
def neighbour(sidecar: Sidecar, name: str = "neighbour", p99: float = P99) -> Iterator[Neighbour]:
    """Give a neighbour, and fail where its calls took too long."""
    it = Neighbour(sidecar, name[:120])
    try:
        yield it
        it.check(p99)
    finally:
        sidecar.call("servers/disconnect", {"server": it.name, "scope": TENANT})
