"""The keyring of macOS: the login keychain, through the keyring package. All of this blocks; it runs in a `Worker`."""

from __future__ import annotations

import base64
import binascii
from typing import Final

from keyring.backends.macOS import Keyring
from keyring.errors import KeyringError, KeyringLocked, PasswordDeleteError, PasswordSetError

from sidecar import errors

BACKEND: Final = "keyring"
_SERVICE: Final = "mcp-sidecar"


class Keychain:
    """The login keychain, as a table of bytes by name; the deadline is the worker's to keep."""

    def __init__(self) -> None:
        """Open nothing."""
        self._keychain = Keyring()  # type: ignore[no-untyped-call]  # the package types its interface alone

    def probe(self, deadline: float) -> None:
        """Return where entries can be kept. Raises StoreLocked or StoreUnavailable."""
        self.read("probe", deadline)

    def read(self, name: str, _deadline: float) -> bytes | None:
        """Return an entry. Raises StoreLocked or StoreUnavailable."""
        try:
            text = self._keychain.get_password(_SERVICE, name)
        except KeyringLocked:
            raise _locked() from None
        except KeyringError:
            raise errors.StoreUnavailable("the keychain cannot be used", backend=BACKEND) from None
        try:
            return base64.b64decode(text, validate=True) if text is not None else None
        except binascii.Error:
            return b""  # it will not open: told as corrupt

    def write(self, name: str, value: bytes, _deadline: float) -> None:
        """Write an entry over what stands there. Raises StoreLocked or StoreWriteFailed."""
        try:
            self._keychain.set_password(_SERVICE, name, base64.b64encode(value).decode())
        except KeyringLocked:
            raise _locked() from None
        except PasswordSetError:
            raise errors.StoreWriteFailed("the keychain refused to write", errno="EIO") from None

    def remove(self, name: str, deadline: float) -> None:
        """Remove an entry. Raises as `write`."""
        try:
            if self.read(name, deadline) is not None:
                self._keychain.delete_password(_SERVICE, name)
        except PasswordDeleteError:
            raise errors.StoreWriteFailed("the keychain refused to forget", errno="EIO") from None

    def close(self) -> None:
        """Nothing is held."""


def _locked() -> errors.StoreLocked:
    return errors.StoreLocked("the keychain is locked: unlock it", backend=BACKEND)
