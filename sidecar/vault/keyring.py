"""Credentials in the user's keyring, one item an entry, sealed as everywhere; the master key is an item too.

A keyring knows no compare-and-swap: a lock in the user's data folder makes reading and writing one step for all
processes of ours. Every call is made in a thread of its own and has 3 s: a keyring that hangs never stops the loop.
"""

from __future__ import annotations

import asyncio
import hashlib
import os
import sys
from typing import TYPE_CHECKING, Final, Protocol, TypeVar

from sidecar import errors
from sidecar.vault.base import STORE_SECONDS, Conflict, Entry, version_of
from sidecar.vault.file import FolderFlights
from sidecar.vault.seal import KEY_BYTES, corrupt

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from contextlib import AbstractAsyncContextManager

    from sidecar.vault.folder import Folder
    from sidecar.vault.worker import Worker

T = TypeVar("T")

_SECONDS: Final = STORE_SECONDS - 0.4
"""What the keyring has, so that the answer is out within 3 s."""
_MASTER: Final = hashlib.sha256(b"mcp-sidecar vault master key").hexdigest()
_DISABLED: Final = frozenset({"keyring.backends.fail.Keyring", "keyring.backends.null.Keyring"})


class Table(Protocol):
    """What blocks: bytes by name in a keyring, each call with its deadline on the monotonic clock."""

    def probe(self, deadline: float) -> None:
        """Return where entries can be kept."""

    def read(self, name: str, deadline: float, /) -> bytes | None:
        """Return an entry."""

    def write(self, name: str, value: bytes, deadline: float, /) -> None:
        """Write an entry over what stands there."""

    def remove(self, name: str, deadline: float, /) -> None:
        """Remove an entry."""

    def close(self) -> None:
        """Let go of what is held."""


class Silent(errors.StoreUnavailable):
    """The keyring did not answer: whether it holds anything cannot be said."""


def open_table(environ: Mapping[str, str]) -> Table:
    """Return this platform's keyring. Raises StoreUnavailable."""
    if environ.get("PYTHON_KEYRING_BACKEND") in _DISABLED:
        raise errors.StoreUnavailable("the keyring is disabled by PYTHON_KEYRING_BACKEND", backend=KeyringVault.kind)
    if sys.platform == "darwin":
        from sidecar.vault.keychain import Keychain

        return Keychain()
    from sidecar.vault.secret_service import SecretService

    return SecretService(environ)


class KeyringVault:
    """Keeps each entry as an item of the keyring."""

    kind: Final = "keyring"

    def __init__(self, environ: Mapping[str, str], folder: Folder, worker: Worker, disk: Worker) -> None:
        """Use the keyring that `environ` leads to, locks in `folder`; `worker` and `disk` do what blocks."""
        self._environ = environ
        self._folder = folder
        self._worker = worker
        self._disk = disk
        self._flights = FolderFlights(folder, disk)
        self._table: Table | None = None

    async def probe(self) -> None:
        """Return where entries can be kept. Raises StoreLocked or StoreUnavailable."""
        await self._run(lambda deadline: self._open().probe(deadline))

    async def get(self, key: str) -> Entry | None:
        """Return what stands under `key`."""
        return _entry(await self._run(lambda deadline: self._open().read(key, deadline)))

    async def put(self, key: str, value: bytes, if_version: str | None) -> Entry:
        """Write by compare-and-swap under a lock that all processes see."""

        def swap(deadline: float) -> None:
            table = self._open()
            table.probe(deadline)  # a locked keyring is told as that, whatever the lock's folder says
            with self._folder.locked("write-" + key, deadline):
                self._check(table, key, if_version, deadline)
                table.write(key, value, deadline)

        await self._run(swap)
        return Entry(value, version_of(value))

    async def delete(self, key: str, if_version: str | None = None) -> None:
        """Forget an entry."""

        def remove(deadline: float) -> None:
            table = self._open()
            if table.read(key, deadline) is None:
                return
            with self._folder.locked("write-" + key, deadline):
                if if_version is not None and table.read(key, deadline) is not None:
                    self._check(table, key, if_version, deadline)
                table.remove(key, deadline)

        await self._run(remove)

    def _check(self, table: Table, key: str, if_version: str | None, deadline: float) -> None:
        entry = _entry(table.read(key, deadline))
        if (entry.version if entry is not None else None) != if_version:
            raise Conflict(entry)

    def _open(self) -> Table:
        if self._table is None:
            self._table = open_table(self._environ)  # here, in the thread: its imports block too
        return self._table

    async def _run(self, job: Callable[[float], T]) -> T:
        try:
            return await self._worker.run(job, _SECONDS)
        except TimeoutError:
            text = f"the keyring did not answer within {STORE_SECONDS:.0f} s"
            raise Silent(text, backend=self.kind) from None

    def single_flight(self, key: str, seconds: float) -> AbstractAsyncContextManager[None]:
        """Let one at a time do the work of `key`, of all tasks of all processes of this user."""
        return self._flights.one(key, seconds)

    async def end(self) -> None:
        """End the thread of the keyring; that of the disk is shared."""
        await self._worker.aclose(self._close)

    def _close(self) -> None:
        table, self._table = self._table, None
        if table is not None:
            table.close()

    async def aclose(self) -> None:
        """End the threads."""
        await asyncio.gather(self.end(), self._disk.aclose())


class KeyringKey:
    """A master key that rests in the keyring."""

    def __init__(self, keyring: KeyringVault) -> None:
        """Ask `keyring`."""
        self._keyring = keyring

    async def get(self) -> bytes | None:
        """Return the key; None where none was ever made."""
        return _key(await self._keyring.get(_MASTER))

    async def make(self) -> bytes:
        """Return the key, made where there is none."""
        found = await self.get()
        if found is not None:
            return found
        key = os.urandom(KEY_BYTES)
        try:
            await self._keyring.put(_MASTER, key, None)
        except Conflict as conflict:
            standing = _key(conflict.entry)
            if standing is None:
                raise corrupt() from None
            return standing
        return key

    async def aclose(self) -> None:
        """End the thread of the keyring."""
        await self._keyring.end()


def _key(entry: Entry | None) -> bytes | None:
    if entry is None:
        return None
    if len(entry.value) != KEY_BYTES:
        raise corrupt()
    return entry.value


def _entry(value: bytes | None) -> Entry | None:
    return Entry(value, version_of(value)) if value is not None else None
