"""What every place for credentials offers: get, put and delete of sealed bytes, by compare-and-swap.

A backend never sees what it keeps: keys are HMACs and values are sealed (`sidecar.vault.sealed`). "Locked" and "gone"
are errors; None means that the entry truly is not there.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
from contextvars import ContextVar
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final, Protocol

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Mapping
    from contextlib import AbstractAsyncContextManager

FLIGHT_SECONDS: Final = 30.0
"""How long one waits for another that does the same work, at most; a caller's own deadline may end it earlier."""
STORE_SECONDS: Final = 3.0
"""A store that does not answer for so long is unavailable."""
ADDRESS: Final[ContextVar[tuple[dict[str, str], str | None]]] = ContextVar("vault_address", default=({}, None))
"""Scope and server of the credentials that are being asked for; the host's vault passes them on."""


@dataclass(frozen=True, slots=True)
class Entry:
    """What stands under a key, and the version that a later write must name."""

    value: bytes
    version: str


class Conflict(Exception):
    """Somebody else wrote first; `entry` is what stands there now, None where nothing does."""

    def __init__(self, entry: Entry | None) -> None:
        """Keep what stands there."""
        super().__init__("the entry has changed meanwhile")
        self.entry = entry


@dataclass(frozen=True, slots=True)
class Key:
    """The name of an entry: its parts, encoded so that no two lists of parts are alike. Never logged or stored."""

    name: bytes = field(repr=False)
    scope: Mapping[str, str] = field(default_factory=dict, compare=False)
    server: str | None = field(default=None, compare=False)


class Vault(Protocol):
    """A place where sealed credentials rest.

    Every method may raise StoreLocked or StoreUnavailable; `put` and `delete` also StoreWriteFailed and Conflict.
    """

    @property
    def kind(self) -> str:
        """`keyring`, `file`, `memory`, `host` or `redis`."""

    async def get(self, key: str) -> Entry | None:
        """Return what stands under `key` (64 hex digits); None only where nothing does."""

    async def put(self, key: str, value: bytes, if_version: str | None) -> Entry:
        """Write `value` where `if_version` stands; None: where nothing stands. Raises Conflict."""

    async def delete(self, key: str, if_version: str | None = None) -> None:
        """Forget an entry; with `if_version` only that version of it. Raises Conflict."""

    def single_flight(self, key: str, seconds: float) -> AbstractAsyncContextManager[None]:
        """Let one at a time do the work named `key`, of all that share this place where it can. Raises TimeoutError."""

    async def aclose(self) -> None:
        """Let go of threads, descriptors and sockets."""


class Flights:
    """Lets one task of this process at a time do the work of a key."""

    def __init__(self) -> None:
        """Nobody works."""
        self._locks: dict[str, tuple[asyncio.Lock, int]] = {}

    @contextlib.asynccontextmanager
    async def one(self, key: str, seconds: float) -> AsyncIterator[None]:
        """Wait until no other task works on `key`, for `seconds` at most. Raises TimeoutError."""
        lock, users = self._locks.get(key, (asyncio.Lock(), 0))
        self._locks[key] = (lock, users + 1)
        try:
            async with asyncio.timeout(seconds):
                await lock.acquire()
            try:
                yield
            finally:
                lock.release()
        finally:
            lock, users = self._locks.pop(key)
            if users > 1:
                self._locks[key] = (lock, users - 1)


def version_of(value: bytes) -> str:
    """Return the version of a sealed value, for stores that keep none: no two seals are alike."""
    return hashlib.sha256(value).hexdigest()[:32]
