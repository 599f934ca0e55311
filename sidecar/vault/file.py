"""Credentials as files, one an entry: sealed, compared before they are swapped, whole or as they were."""

from __future__ import annotations

import asyncio
import contextlib
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Final, TypeVar

from sidecar import errors
from sidecar.vault.base import STORE_SECONDS, Conflict, Entry, Flights, version_of
from sidecar.vault.folder import ENTRIES, Folder

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Mapping

    from sidecar.vault.worker import Worker

T = TypeVar("T")

_FIRST_POLL: Final = 0.005
_LAST_POLL: Final = 0.1


def data_folder(environ: Mapping[str, str]) -> str:
    """Return the user's data folder for this program."""
    home = Path(environ.get("HOME") or Path.home())
    if sys.platform == "darwin":
        return str(home / "Library" / "Application Support" / "mcp-sidecar")
    given = environ.get("XDG_DATA_HOME", "")
    base = Path(given) if given.startswith("/") else home / ".local" / "share"
    return str(base / "mcp-sidecar")


class FileVault:
    """Keeps each entry in a file of its own; locks are seen by all processes."""

    kind: Final = "file"

    def __init__(self, folder: Folder, worker: Worker) -> None:
        """Keep entries in `folder`; all that blocks is done by `worker`."""
        self._folder = folder
        self._worker = worker
        self._flights = FolderFlights(folder, worker)

    async def get(self, key: str) -> Entry | None:
        """Return what stands under `key`."""
        return _entry(await self._run(lambda _: self._folder.read(ENTRIES, key)))

    async def put(self, key: str, value: bytes, if_version: str | None) -> Entry:
        """Write by compare-and-swap under a lock that all processes see."""

        def swap(deadline: float) -> None:
            with self._folder.locked(_lock_of(key), deadline):
                self._check(key, if_version)
                self._folder.write(ENTRIES, key, value)

        await self._run(swap)
        return Entry(value, version_of(value))

    async def delete(self, key: str, if_version: str | None = None) -> None:
        """Forget an entry."""

        def remove(deadline: float) -> None:
            with self._folder.locked(_lock_of(key), deadline):
                if if_version is not None and self._read(key) is not None:
                    self._check(key, if_version)
                self._folder.remove(ENTRIES, key)

        if await self._run(lambda _: self._read(key)) is not None:
            await self._run(remove)

    def _read(self, key: str) -> Entry | None:
        try:
            return _entry(self._folder.read(ENTRIES, key))
        except errors.StoreCorrupt:
            return Entry(b"", "")  # something stands there, and may be replaced or removed

    def _check(self, key: str, if_version: str | None) -> None:
        entry = self._read(key)
        if (entry.version if entry is not None else None) != if_version:
            raise Conflict(entry)

    async def _run(self, job: Callable[[float], T]) -> T:
        return await in_time(self._worker, job, self.kind)

    @contextlib.asynccontextmanager
    async def single_flight(self, key: str, seconds: float) -> AsyncIterator[None]:
        """Let one at a time do the work of `key`, of all tasks of all processes with this folder."""
        async with self._flights.one(key, seconds):
            yield

    async def aclose(self) -> None:
        """End the thread."""
        await self._worker.aclose()


class FolderFlights:
    """Lets one task of all processes that share a folder do the work of a key."""

    def __init__(self, folder: Folder, worker: Worker) -> None:
        """Nobody works."""
        self._folder = folder
        self._worker = worker
        self._flights = Flights()

    @contextlib.asynccontextmanager
    async def one(self, key: str, seconds: float) -> AsyncIterator[None]:
        """Wait until nobody else works on `key`, for `seconds` at most. Raises TimeoutError."""
        loop = asyncio.get_running_loop()
        end = loop.time() + seconds
        async with self._flights.one(key, seconds):
            name = "flight-" + key
            pause = _FIRST_POLL
            try:
                while (fd := await self._take(name)) is None:
                    if loop.time() >= end:
                        raise TimeoutError
                    await asyncio.sleep(pause)
                    pause = min(pause * 1.5, _LAST_POLL)
            except errors.StoreWriteFailed:
                fd = None  # nothing can be written here, so there is nothing that processes could share
            try:
                yield
            finally:
                if fd is not None:
                    self._folder.unlock(name, fd)

    async def _take(self, name: str) -> int | None:
        taken: list[int] = []
        wanted = True

        def take(_: float) -> int | None:
            fd = self._folder.try_lock(name)
            if fd is not None:
                taken.append(fd)
                if not wanted:
                    self._give_back(name, taken)
            return fd

        try:
            return await in_time(self._worker, take, FileVault.kind)
        except BaseException:
            # Cancelled, or late: a lock that was taken, or is being taken, must not stay.
            wanted = False
            self._give_back(name, taken)
            raise

    def _give_back(self, name: str, taken: list[int]) -> None:
        with contextlib.suppress(IndexError):  # the other thread was faster
            self._folder.unlock(name, taken.pop())


async def in_time(worker: Worker, job: Callable[[float], T], kind: str) -> T:
    """Do a job of the disk. Raises StoreUnavailable where it does not end in time."""
    try:
        return await worker.run(job, STORE_SECONDS)
    except TimeoutError:
        text = f"the disk of the credential store did not answer within {STORE_SECONDS:.0f} s"
        raise errors.StoreUnavailable(text, backend=kind) from None


def _entry(value: bytes | None) -> Entry | None:
    return Entry(value, version_of(value)) if value is not None else None


def _lock_of(key: str) -> str:
    return "write-" + key
