"""The keyring of a Linux desktop: the Secret Service over D-Bus, with a deadline on every word of it.

All of this blocks; it runs in a `Worker`. One connection and one session serve all jobs, also after one that was given
up: GNOME's keyring aborts, and locks itself with that, when clients come and go while it works. A connection that broke
and a keyring that was restarted are noticed, and a job is tried once more. Nothing here ever asks a person: a locked
keyring is told as locked.
"""

from __future__ import annotations

import contextlib
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, TypeVar

import secretstorage
from jeepney import DBusErrorResponse
from jeepney.bus import get_bus
from jeepney.io.blocking import DBusConnection, prep_socket
from secretstorage.exceptions import (
    ItemNotFoundException,
    LockedException,
    PromptDismissedException,
    SecretServiceNotAvailableException,
    SecretStorageException,
)
from secretstorage.util import open_session

from sidecar import errors

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from secretstorage.dhcrypto import Session

T = TypeVar("T")

BACKEND: Final = "keyring"
_LABEL: Final = "mcp-sidecar credentials"
_TYPE: Final = "application/octet-stream"
_IS_LOCKED: Final = "org.freedesktop.Secret.Error.IsLocked"
_NO_SESSION: Final = "org.freedesktop.Secret.Error.NoSession"


class _Connection(DBusConnection):  # type: ignore[misc]  # jeepney has no types
    """A connection that waits for nothing past the deadline of its job: not for its own greeting either."""

    def __init__(self, address: str, deadline: float) -> None:
        self.deadline = deadline
        self.torn = False
        super().__init__(prep_socket(address, timeout=self._left()))

    def _left(self) -> float:
        left = self.deadline - time.monotonic()
        if left <= 0:
            raise TimeoutError
        return left

    def send_message(self, message: Any, serial: int | None = None) -> None:
        self.sock.settimeout(self._left())
        try:
            super().send_message(message, serial)
        except OSError:
            self.torn = True  # half a message may have gone
            raise

    def receive(self, *, timeout: float | None = None) -> Any:
        left = self._left()
        return super().receive(timeout=left if timeout is None else min(timeout, left))


class SecretService:
    """The default collection of the session's keyring, as a table of bytes by name."""

    def __init__(self, environ: Mapping[str, str]) -> None:
        """Find the bus by `environ`; nothing is opened."""
        self._environ = environ
        self._connection: _Connection | None = None
        self._session: Session | None = None

    def probe(self, deadline: float) -> None:
        """Return where entries can be kept. Raises StoreLocked, StoreUnavailable or TimeoutError."""
        self._do(lambda _: None, deadline)

    def read(self, name: str, deadline: float) -> bytes | None:
        """Return an entry. Raises StoreLocked, StoreUnavailable or TimeoutError."""

        def read(collection: secretstorage.Collection) -> bytes | None:
            for item in collection.search_items(_attributes(name)):
                with contextlib.suppress(ItemNotFoundException):  # removed meanwhile
                    return item.get_secret()
            return None

        return self._do(read, deadline)

    def write(self, name: str, value: bytes, deadline: float) -> None:
        """Write an entry over what stands there. Raises as `read`, and StoreWriteFailed."""

        def write(collection: secretstorage.Collection) -> None:
            collection.create_item(_LABEL, _attributes(name), value, replace=True, content_type=_TYPE)

        self._do(write, deadline, writes=True)

    def remove(self, name: str, deadline: float) -> None:
        """Remove an entry. Raises as `write`."""

        def remove(collection: secretstorage.Collection) -> None:
            for item in list(collection.search_items(_attributes(name))):
                with contextlib.suppress(ItemNotFoundException):
                    item.delete()

        self._do(remove, deadline, writes=True)

    def close(self) -> None:
        """Close the connection."""
        connection, self._connection, self._session = self._connection, None, None
        if connection is not None:
            connection.close()

    def _do(self, job: Callable[[secretstorage.Collection], T], deadline: float, *, writes: bool = False) -> T:
        """Do a job with the default collection, and turn what goes wrong into the codes of the contract."""
        used = self._connection is not None
        try:
            return job(self._collection(deadline))
        except (LockedException, PromptDismissedException):
            raise _locked() from None
        except TimeoutError:
            if self._connection is not None and self._connection.torn:
                self.close()
            raise  # an OSError too, but one that says nothing about what is there
        except DBusErrorResponse as error:
            if not (used and error.name == _NO_SESSION):
                raise _refused(error.name, writes=writes) from None
        except (SecretStorageException, OSError, RuntimeError, ValueError, StopIteration) as error:
            if not used:
                self.close()
                raise _unavailable(_WHY.get(type(error), "the session bus cannot be reached")) from None
        # What was opened before may have ended since: the bus, the keyring, or its session with us.
        self.close()
        return self._do(job, deadline, writes=writes)

    def _collection(self, deadline: float) -> secretstorage.Collection:
        """Return the default collection, open. Raises StoreLocked, StoreUnavailable, and what the libraries raise."""
        if self._connection is None:
            self._connection = _Connection(self._address(), deadline)
        self._connection.deadline = deadline
        try:
            # Looked up by its name each time: the path of the alias itself is not safe to use in GNOME's keyring.
            collection = secretstorage.get_collection_by_alias(self._connection, "default")
        except ItemNotFoundException:
            raise _unavailable("the keyring has no default collection: make one") from None
        if collection.is_locked():
            raise _locked()
        if self._session is None:
            self._session = open_session(self._connection)
        collection.session = self._session
        return collection

    def _address(self) -> str:
        given = self._environ.get("DBUS_SESSION_BUS_ADDRESS")
        if not given:
            bus = Path(self._environ.get("XDG_RUNTIME_DIR") or "/nonexistent") / "bus"
            if not bus.is_socket():
                raise _unavailable("there is no session bus (DBUS_SESSION_BUS_ADDRESS is not set)")
            given = f"unix:path={bus}"
        address: str = get_bus(given)
        return address


def _attributes(name: str) -> dict[str, str]:
    return {"application": "mcp-sidecar", "entry": name}


_WHY: Final[dict[type[BaseException], str]] = {
    SecretServiceNotAvailableException: "no keyring runs on the session bus, and none can be started",
    ItemNotFoundException: "the keyring has lost its default collection meanwhile",
}


def _refused(name: str, *, writes: bool) -> errors.SidecarError:
    if name == _IS_LOCKED:
        return _locked()
    if writes:
        return errors.StoreWriteFailed(f"the keyring refused to write: {name}", errno="EIO")
    return _unavailable(f"the keyring answered {name}")


def _locked() -> errors.StoreLocked:
    return errors.StoreLocked("the keyring is locked: unlock it", backend=BACKEND)


def _unavailable(why: str) -> errors.StoreUnavailable:
    text = f"the keyring cannot be used: {why}; the vaults file, memory, host and redis need none"
    return errors.StoreUnavailable(text, backend=BACKEND)
