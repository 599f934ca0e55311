"""Where the master key of a vault comes from: 32 bytes, kept apart from what they seal."""

from __future__ import annotations

import base64
import binascii
import errno
import os
import stat
from pathlib import Path
from typing import TYPE_CHECKING, Final, Protocol

from sidecar import errors
from sidecar.vault.seal import KEY_BYTES

if TYPE_CHECKING:
    from sidecar.vault.worker import Worker

VARIABLE: Final = "MCP_SIDECAR_KEY"
_MAX_TEXT: Final = 1024


class KeySource(Protocol):
    """A place for one master key. Both methods may raise StoreLocked or StoreUnavailable."""

    async def get(self) -> bytes | None:
        """Return the key; None where none was ever made. Writes nothing."""

    async def make(self) -> bytes:
        """Return the key, made where there is none. Raises StoreWriteFailed too."""

    async def aclose(self) -> None:
        """Let go of threads."""


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

    async def aclose(self) -> None:
        """Nothing is held."""


class KeyFile:
    """A file with base64 of 32 bytes, for its owner alone."""

    def __init__(self, path: str, kind: str, worker: Worker, *, ours: bool) -> None:
        """Use the file at `path`; `ours`: it lies in the vault's own folder. `worker` does what blocks."""
        self._path = path
        self._kind = kind
        self._worker = worker
        self._ours = ours

    async def get(self) -> bytes | None:
        """Return the key; None where there is no file. Raises StoreUnavailable."""
        from sidecar.vault.file import in_time

        return await in_time(self._worker, lambda _: read_key(self._path, self._kind), self._kind)

    async def make(self) -> bytes:
        """Return the key; a missing file is made. Raises StoreUnavailable or StoreWriteFailed."""
        from sidecar.vault.file import in_time

        return await in_time(self._worker, lambda _: self._make(), self._kind)

    async def aclose(self) -> None:
        """End the thread."""
        await self._worker.aclose()

    def _make(self) -> bytes:
        from sidecar.vault.folder import Folder

        found = read_key(self._path, self._kind)
        if found is not None:
            return found
        key = os.urandom(KEY_BYTES)
        path = Path(self._path)
        try:
            Folder(str(path.parent), self._kind, ours=self._ours).create("", path.name, base64.b64encode(key) + b"\n")
        except errors.StoreWriteFailed as error:
            if self._ours:
                raise
            text = f"the key file {self._path} cannot be made: {error.extra.get('errno')}"
            raise errors.StoreUnavailable(text, backend=self._kind) from None
        made = read_key(self._path, self._kind)  # ours, or that of a process that was faster
        if made is None:
            raise errors.StoreUnavailable(f"the key file {self._path} is gone again", backend=self._kind)
        return made


def read_key(path: str, kind: str) -> bytes | None:
    """Return the key in a file; None where there is none. Raises StoreUnavailable; the text never holds the key."""
    try:
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
        try:
            about = os.fstat(fd)
            text = os.read(fd, _MAX_TEXT) if stat.S_ISREG(about.st_mode) else b""
        finally:
            os.close(fd)
    except FileNotFoundError:
        return None
    except OSError as error:
        name = errno.errorcode.get(error.errno or 0, "EIO")
        raise errors.StoreUnavailable(f"the key file {path} cannot be read: {name}", backend=kind) from None
    if about.st_uid not in {os.geteuid(), 0} or stat.S_IMODE(about.st_mode) & 0o077:
        why = f"the key file {path} can be read by others: chmod 600 it, and think of its key as known"
        raise errors.StoreUnavailable(why, backend=kind)
    return parse_key(text.decode("latin-1"), f"the key file {path}", kind)


def parse_key(text: str, what: str, kind: str) -> bytes:
    """Return the key of a text. Raises StoreUnavailable."""
    try:
        key = base64.b64decode("".join(text.split()), validate=True)
    except (binascii.Error, ValueError):
        key = b""
    if len(key) != KEY_BYTES:
        make = "head -c 32 /dev/urandom | base64"
        raise errors.StoreUnavailable(f"{what} does not hold base64 of {KEY_BYTES} bytes: {make}", backend=kind)
    return key
