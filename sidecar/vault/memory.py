"""Credentials that end with the process."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from sidecar.vault.base import Conflict, Entry, Flights, version_of

if TYPE_CHECKING:
    from contextlib import AbstractAsyncContextManager


class MemoryVault:
    """Keeps entries in a dictionary."""

    kind: Final = "memory"

    def __init__(self) -> None:
        """Keep nothing yet."""
        self._entries: dict[str, Entry] = {}
        self._flights = Flights()

    async def get(self, key: str) -> Entry | None:
        """Return what stands under `key`."""
        return self._entries.get(key)

    async def put(self, key: str, value: bytes, if_version: str | None) -> Entry:
        """Write by compare-and-swap."""
        self._check(key, if_version)
        entry = self._entries[key] = Entry(value, version_of(value))
        return entry

    async def delete(self, key: str, if_version: str | None = None) -> None:
        """Forget an entry."""
        if if_version is not None and key in self._entries:
            self._check(key, if_version)
        self._entries.pop(key, None)

    def _check(self, key: str, if_version: str | None) -> None:
        entry = self._entries.get(key)
        if (entry.version if entry is not None else None) != if_version:
            raise Conflict(entry)

    def single_flight(self, key: str, seconds: float) -> AbstractAsyncContextManager[None]:
        """Let one task at a time do the work of `key`."""
        return self._flights.one(key, seconds)

    async def aclose(self) -> None:
        """Forget everything."""
        self._entries.clear()
