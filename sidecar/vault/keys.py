"""Where the master key of a vault comes from: 32 bytes, kept apart from what they seal."""

from __future__ import annotations

import os
from typing import Protocol

from sidecar.vault.seal import KEY_BYTES


class KeySource(Protocol):
    """A place for one master key. Both methods may raise StoreLocked or StoreUnavailable."""

    async def get(self) -> bytes | None:
        """Return the key; None where none was ever made. Writes nothing."""

    async def make(self) -> bytes:
        """Return the key, made where there is none. Raises StoreWriteFailed too."""


class GivenKey:
    """A key that is known already."""

    def __init__(self, key: bytes | None = None) -> None:
        """Keep `key`, or make one that ends with the process."""
        self._key = key if key is not None else os.urandom(KEY_BYTES)

    async def get(self) -> bytes | None:
        """Return it."""
        return self._key

    async def make(self) -> bytes:
        """Return it."""
        return self._key
