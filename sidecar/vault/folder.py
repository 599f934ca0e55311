"""A folder of ours: nobody else may look into it, and what is written is old or new, never neither.

All of this blocks; it runs in a `Worker`. Folders are 0700 and files 0600 whatever the umask says. Inside the folder no
symbolic link is followed.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import secrets
import stat
import time
from pathlib import Path
from typing import TYPE_CHECKING, Final

from sidecar import errors

if TYPE_CHECKING:
    from collections.abc import Iterator

ENTRIES: Final = "entries"
LOCKS: Final = "locks"
MAX_BYTES: Final = 16 << 20
"""No entry of ours is so long."""
_DIR: Final = os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC
_FILE: Final = os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK
_LOCK_POLL: Final = 0.005
_FULL: Final = (errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EFBIG)


class Folder:
    """The data folder of the vault, by its path."""

    def __init__(self, path: str, kind: str, *, ours: bool = True) -> None:
        """Nothing is made before something is written; `kind` is the backend that errors name.

        With `ours` false it is a folder that others may own and use too.
        """
        self.path = path
        self._kind = kind
        self._ours = ours

    # -- reading ----------------------------------------------------------------------------------------------

    def read(self, place: str, name: str) -> bytes | None:
        """Return a file of the subfolder `place` (`""`: the folder itself); None where there is none.

        Raises StoreUnavailable; StoreCorrupt where something that is no file of ours stands in its place.
        """
        try:
            with self._open(place, make=False) as folder:
                return _read(folder, name)
        except FileNotFoundError:
            return None
        except OSError as error:
            if error.errno in {errno.ELOOP, errno.EMLINK}:
                raise errors.StoreCorrupt("a symbolic link stands where a file of the credential store was") from None
            raise self._unavailable("read", error) from None

    # -- writing ----------------------------------------------------------------------------------------------

    def write(self, place: str, name: str, value: bytes) -> None:
        """Write a file so that it is whole or as it was; the caller holds its lock. Raises StoreWriteFailed."""
        try:
            with self._open(place, make=True) as folder:
                _write(folder, name, value)
        except OSError as error:
            raise self._unwritten(error) from None

    def create(self, place: str, name: str, value: bytes) -> bool:
        """Write a file that must not exist; False where it does. Raises StoreWriteFailed."""
        try:
            with self._open(place, make=True) as folder:
                return _create(folder, name, value)
        except OSError as error:
            raise self._unwritten(error) from None

    def remove(self, place: str, name: str) -> None:
        """Remove a file. Raises StoreWriteFailed."""
        try:
            with self._open(place, make=False) as folder:
                os.unlink(name, dir_fd=folder)
                os.fsync(folder)
        except (FileNotFoundError, NotADirectoryError):
            return
        except OSError as error:
            raise self._unwritten(error) from None

    # -- locking ----------------------------------------------------------------------------------------------

    @contextlib.contextmanager
    def locked(self, name: str, deadline: float) -> Iterator[None]:
        """Hold a lock that all processes see. Raises StoreUnavailable after `deadline`, StoreWriteFailed."""
        while (lock := self.try_lock(name)) is None:
            if time.monotonic() >= deadline:
                text = f"another process holds the credential store in {self.path}"
                raise errors.StoreUnavailable(text, backend=self._kind)
            time.sleep(_LOCK_POLL)
        try:
            yield
        finally:
            self.unlock(name, lock)

    def try_lock(self, name: str) -> int | None:
        """Take a lock and return its descriptor; None while somebody else holds it. Raises StoreWriteFailed.

        Where no file can be made any more (a full or read-only disk) the folder itself is the lock, for all names.
        """
        try:
            with self._open(LOCKS, make=True) as folder:
                fd = os.open(name, os.O_RDWR | os.O_CREAT | _FILE, 0o600, dir_fd=folder)
                try:
                    if _flock(fd) and _stands(fd, name, folder):
                        return fd
                except OSError:
                    os.close(fd)
                    raise
                os.close(fd)
                return None
        except OSError as error:
            if error.errno not in _FULL:
                raise self._unwritten(error) from None
            return self._lock_folder(error)

    def _lock_folder(self, why: OSError) -> int | None:
        try:
            fd = os.open(self.path, _DIR)
        except OSError:
            raise self._unwritten(why) from None
        if _flock(fd):
            return fd
        os.close(fd)
        return None

    def unlock(self, name: str, fd: int) -> None:
        """Let go of a lock; its file goes with it."""
        try:
            if stat.S_ISREG(os.fstat(fd).st_mode):
                with contextlib.suppress(OSError), self._open(LOCKS, make=False) as folder:
                    os.unlink(name, dir_fd=folder)
        finally:
            os.close(fd)

    # -- folders ----------------------------------------------------------------------------------------------

    @contextlib.contextmanager
    def _open(self, place: str, *, make: bool) -> Iterator[int]:
        root = _make_path(self.path, ours=self._ours) if make else os.open(self.path, _DIR)
        try:
            self._check_owner(root)
            if not place:
                yield root
                return
            if make:
                with contextlib.suppress(FileExistsError):
                    os.mkdir(place, 0o700, dir_fd=root)
                    os.fsync(root)
            inner = os.open(place, _DIR | os.O_NOFOLLOW, dir_fd=root)
            try:
                self._check_owner(inner)
                if stat.S_IMODE(os.fstat(inner).st_mode) != 0o700:
                    os.fchmod(inner, 0o700)
                yield inner
            finally:
                os.close(inner)
        finally:
            os.close(root)

    def _check_owner(self, fd: int) -> None:
        if self._ours and os.fstat(fd).st_uid != os.geteuid():
            text = f"the folder of the credential store, {self.path}, belongs to another user: name one of your own"
            raise errors.StoreUnavailable(text, backend=self._kind)

    def _unavailable(self, verb: str, error: OSError) -> errors.StoreUnavailable:
        text = f"the credential store in {self.path} cannot be {verb}: {os.strerror(error.errno or 0)}"
        return errors.StoreUnavailable(text, backend=self._kind)

    def _unwritten(self, error: OSError) -> errors.StoreWriteFailed:
        text = f"the credential store in {self.path} cannot be written: {os.strerror(error.errno or 0)}"
        return errors.StoreWriteFailed(text, errno=errno.errorcode.get(error.errno or 0, "EIO"))


def _make_path(path: str, *, ours: bool) -> int:
    """Open a folder, made with mode 0700 where it is missing; an empty one that was given becomes ours alone."""
    try:
        root = os.open(path, _DIR)
    except FileNotFoundError:
        where = Path(path).absolute()
        for folder in (*reversed(where.parents), where):
            with contextlib.suppress(FileExistsError):
                if not folder.is_dir():
                    folder.mkdir(0o700)
        root = os.open(path, _DIR)
    about = os.fstat(root)
    if ours and stat.S_IMODE(about.st_mode) != 0o700 and about.st_uid == os.geteuid() and not any(Path(path).iterdir()):
        os.fchmod(root, 0o700)
    return root


def _read(folder: int, name: str) -> bytes:
    fd = os.open(name, os.O_RDONLY | _FILE, dir_fd=folder)
    try:
        about = os.fstat(fd)
        if not stat.S_ISREG(about.st_mode) or about.st_size > MAX_BYTES:
            raise errors.StoreCorrupt("something that is no file of ours stands in the credential store")
        parts = []
        while part := os.read(fd, MAX_BYTES):
            parts.append(part)
        return b"".join(parts)
    finally:
        os.close(fd)


def _write(folder: int, name: str, value: bytes) -> None:
    new = name + ".new"
    with contextlib.suppress(FileNotFoundError):
        os.unlink(new, dir_fd=folder)  # of a process that was killed here
    try:
        _fill(folder, new, value)
        os.rename(new, name, src_dir_fd=folder, dst_dir_fd=folder)
    except OSError:
        with contextlib.suppress(OSError):
            os.unlink(new, dir_fd=folder)
        raise
    os.fsync(folder)


def _create(folder: int, name: str, value: bytes) -> bool:
    new = f"{name}.{secrets.token_hex(8)}.new"
    try:
        _fill(folder, new, value)
        os.link(new, name, src_dir_fd=folder, dst_dir_fd=folder)
    except FileExistsError:
        return False
    finally:
        with contextlib.suppress(OSError):
            os.unlink(new, dir_fd=folder)
    os.fsync(folder)
    return True


def _fill(folder: int, name: str, value: bytes) -> None:
    fd = os.open(name, os.O_WRONLY | os.O_CREAT | os.O_EXCL | _FILE, 0o600, dir_fd=folder)
    try:
        os.fchmod(fd, 0o600)
        view = memoryview(value)
        while view:
            view = view[os.write(fd, view) :]
        os.fsync(fd)
    finally:
        os.close(fd)


def _flock(fd: int) -> bool:
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _stands(fd: int, name: str, folder: int) -> bool:
    """Say whether the locked file is still the one of that name: its last holder may have removed it meanwhile."""
    try:
        about = os.stat(name, dir_fd=folder, follow_symlinks=False)
    except FileNotFoundError:
        return False
    mine = os.fstat(fd)
    return (about.st_ino, about.st_dev) == (mine.st_ino, mine.st_dev)
