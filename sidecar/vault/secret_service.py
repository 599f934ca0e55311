"""The keyring of a Linux desktop: the Secret Service over D-Bus, with a deadline on every word of it.

All of this blocks; it runs in a `Worker`. Each job has a connection of its own: a keyring that was restarted is no
special case. Nothing here ever asks a person: a locked keyring is told as locked.
"""

from __future__ import annotations

import contextlib
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import secretstorage
from jeepney import DBusErrorResponse
from jeepney.bus import get_bus
from jeepney.io.blocking import DBusConnection, prep_socket
from secretstorage.exceptions import (
    ItemNotFoundException,
    LockedException,
    PromptDismissedException,
    SecretServiceNotAvailableException,
)

from sidecar import errors

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

BACKEND: Final = "keyring"
_LABEL: Final = "mcp-sidecar credentials"
_IS_LOCKED: Final = "org.freedesktop.Secret.Error.IsLocked"


class _Connection(DBusConnection):  # type: ignore[misc]  # jeepney has no types
    """A connection that waits for nothing past its deadline: not for its own greeting either."""

    def __init__(self, address: str, deadline: float) -> None:
        self._deadline = deadline
        super().__init__(prep_socket(address, timeout=self._left()))

    def _left(self) -> float:
        left = self._deadline - time.monotonic()
        if left <= 0:
            raise TimeoutError
        return left

    def send_message(self, message: Any, serial: int | None = None) -> None:
        self.sock.settimeout(self._left())
        super().send_message(message, serial)

    def receive(self, *, timeout: float | None = None) -> Any:
        left = self._left()
        return super().receive(timeout=left if timeout is None else min(timeout, left))


class SecretService:
    """The default collection of the session's keyring, as a table of bytes by name."""

    def __init__(self, environ: Mapping[str, str]) -> None:
        """Find the bus by `environ`; nothing is opened."""
        self._environ = environ

    def probe(self, deadline: float) -> None:
        """Return where entries can be kept. Raises StoreLocked, StoreUnavailable or TimeoutError."""
        with self._collection(deadline):
            pass

    def read(self, name: str, deadline: float) -> bytes | None:
        """Return an entry. Raises StoreLocked or StoreUnavailable."""
        with self._collection(deadline) as collection:
            for item in collection.search_items(_attributes(name)):
                try:
                    return item.get_secret()
                except ItemNotFoundException:
                    continue  # removed meanwhile
        return None

    def write(self, name: str, value: bytes, deadline: float) -> None:
        """Write an entry over what stands there. Raises StoreLocked, StoreUnavailable or StoreWriteFailed."""
        with self._collection(deadline, writes=True) as collection:
            collection.create_item(
                _LABEL, _attributes(name), value, replace=True, content_type="application/octet-stream"
            )

    def remove(self, name: str, deadline: float) -> None:
        """Remove an entry. Raises as `write`."""
        with self._collection(deadline, writes=True) as collection:
            for item in list(collection.search_items(_attributes(name))):
                with contextlib.suppress(ItemNotFoundException):
                    item.delete()

    @contextlib.contextmanager
    def _collection(self, deadline: float, *, writes: bool = False) -> Iterator[secretstorage.Collection]:
        """Open the default collection, and turn what goes wrong inside into the codes of the contract."""
        try:
            with contextlib.closing(_Connection(self._address(), deadline)) as connection:
                try:
                    collection = secretstorage.Collection(connection)
                except ItemNotFoundException:
                    raise _unavailable("the keyring has no default collection: make one") from None
                if collection.is_locked():
                    raise _locked()
                yield collection
        except (LockedException, PromptDismissedException):
            raise _locked() from None
        except TimeoutError:
            raise  # an OSError too, but one that says nothing about what is there
        except DBusErrorResponse as error:
            if error.name == _IS_LOCKED:
                raise _locked() from None
            if writes:
                raise errors.StoreWriteFailed(f"the keyring refused to write: {error.name}", errno="EIO") from None
            raise _unavailable(f"the keyring answered {error.name}") from None
        except SecretServiceNotAvailableException:
            raise _unavailable("no keyring runs on the session bus, and none can be started") from None
        except ItemNotFoundException:
            raise _unavailable("the keyring has lost its default collection meanwhile") from None
        except (OSError, RuntimeError, ValueError, StopIteration):
            raise _unavailable("the session bus cannot be reached") from None

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


def _locked() -> errors.StoreLocked:
    return errors.StoreLocked("the keyring is locked: unlock it", backend=BACKEND)


def _unavailable(why: str) -> errors.StoreUnavailable:
    text = f"the keyring cannot be used: {why}; the vaults file, memory, host and redis need none"
    return errors.StoreUnavailable(text, backend=BACKEND)
