"""Vaults for tests, each a real one, and what is done to them."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any, TypeVar

from sidecar import errors
from sidecar.vault.base import Vault
from sidecar.vault.keys import GivenKey, KeySource
from sidecar.vault.memory import MemoryVault
from sidecar.vault.sealed import Sealed

T = TypeVar("T")
KEY = bytes(range(32))
OTHER_KEY = bytes(range(1, 33))


def run(work: Coroutine[Any, Any, T]) -> T:
    """Run a coroutine in a loop of its own, bounded."""

    async def bounded() -> T:
        async with asyncio.timeout(40):
            return await work

    return asyncio.run(bounded())


def sealed(vault: Vault, source: KeySource | None = None) -> Sealed:
    """Return a sealed vault over a store that is open already."""
    key = source if source is not None else GivenKey(KEY)

    async def opener() -> tuple[Vault, KeySource]:
        return vault, key

    return Sealed(lambda: vault.kind, opener)


def memory() -> Sealed:
    """Return a sealed vault in memory."""
    return sealed(MemoryVault())


async def fails(work: Awaitable[Any], kind: type[errors.SidecarError]) -> dict[str, Any]:
    """Await work that must end in an error; return its `data` with code and message."""
    try:
        await work
    except kind as error:
        return {**error.data(), "code": error.code, "message": error.message}
    raise AssertionError(f"no {kind.__name__}")


async def stall(work: Callable[[], Coroutine[Any, Any, T]]) -> tuple[T, float]:
    """Do work; return its result and the longest time in seconds that the loop served nobody else."""
    loop = asyncio.get_running_loop()
    times = [loop.time()]

    async def tick() -> None:
        while True:
            await asyncio.sleep(0.002)  # the clock of the measurement
            times.append(loop.time())

    ticking = loop.create_task(tick())
    try:
        done = await work()
        await asyncio.sleep(0.01)  # a stall at the very end shows in the next tick
    finally:
        ticking.cancel()
    return done, max(later - before for before, later in itertools.pairwise(times))


async def calm(work: Callable[[], Coroutine[Any, Any, T]], limit: float = 0.05) -> T:
    """Do work, which can be done again, and check that the loop served others all the time.

    What we do to the loop we do each time: a machine that was busy elsewhere for a moment is no fault of ours.
    """
    for _ in range(3):
        result, worst = await stall(work)
        if worst <= limit:
            return result
    raise AssertionError(f"the loop stood still for {worst} s")
