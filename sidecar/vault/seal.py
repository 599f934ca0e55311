"""The cryptography of the vault: names by HMAC, values by AEAD, both under one master key.

- An entry's name is HMAC-SHA256 over its parts, each with its length before it, so that (`a`, `b__c`) and (`a__b`, `c`)
  differ and a store learns neither tenants nor URLs.
- Its value is AES-256-GCM with a fresh 96-bit nonce under a key of its own, derived from the master key and the name.
  Format version and name are bound: a value that is changed, cut, moved to another name or planted does not open.
- Both keys come from the master key by HMAC-SHA256 with a label each (the expand step of RFC 5869 for one block).
"""

from __future__ import annotations

import hmac
import os
from typing import Final

from sidecar import errors

KEY_BYTES: Final = 32
_MAGIC: Final = b"MCV\x01"
"""Begins every sealed value; its last byte is the version of the format."""
_MARK: Final = b"MCK\x01"
_NONCE_BYTES: Final = 12
_TAG_BYTES: Final = 16
_CHECK_BYTES: Final = 16


def encode(parts: tuple[str, ...]) -> bytes:
    """Return parts as bytes that no other list of parts has."""
    out = [b"%d:" % len(parts)]
    for part in parts:
        raw = part.encode("utf-8", "surrogatepass")
        out.append(b"%d:%b" % (len(raw), raw))
    return b"".join(out)


class Seal:
    """One master key at work."""

    def __init__(self, master: bytes) -> None:
        """Derive what is needed from the 32 bytes of the master key."""
        self._names = _derive(master, b"names")
        self._values = _derive(master, b"values")
        check = _MARK + _derive(master, b"check")[:_CHECK_BYTES]
        self.marker: Final = check + _derive(check, b"whole")[:_CHECK_BYTES]
        """Tells which key sealed a store, and nothing about the key; it knows when it was damaged."""

    def name(self, encoded: bytes) -> str:
        """Return the name under which a store keeps the entry of these parts: 64 hex digits."""
        return hmac.digest(self._names, encoded, "sha256").hex()

    def close(self, name: str, plain: bytes) -> bytes:
        """Seal a value for one name."""
        from cryptography.hazmat.primitives.ciphers.aead import AESGCM

        nonce = os.urandom(_NONCE_BYTES)
        return _MAGIC + nonce + AESGCM(self._key(name)).encrypt(nonce, plain, _MAGIC + bytes.fromhex(name))

    def open(self, name: str, sealed: bytes) -> bytes:
        """Return what was sealed for this name. Raises StoreCorrupt."""
        from cryptography.exceptions import InvalidTag
        from cryptography.hazmat.primitives.ciphers.aead import AESGCM

        start = len(_MAGIC) + _NONCE_BYTES
        if len(sealed) < start + _TAG_BYTES or not sealed.startswith(_MAGIC):
            raise corrupt()
        nonce = sealed[len(_MAGIC) : start]
        try:
            return AESGCM(self._key(name)).decrypt(nonce, sealed[start:], _MAGIC + bytes.fromhex(name))
        except InvalidTag:
            raise corrupt() from None

    def _key(self, name: str) -> bytes:
        return _derive(self._values, bytes.fromhex(name))


def is_marker(value: bytes) -> bool:
    """Say whether this is an undamaged marker, of whatever key."""
    check = value[: len(_MARK) + _CHECK_BYTES]
    return value.startswith(_MARK) and value == check + _derive(check, b"whole")[:_CHECK_BYTES]


def corrupt() -> errors.StoreCorrupt:
    """Return the error of an entry that does not open."""
    return errors.StoreCorrupt(
        "this entry of the credential store was changed, cut, or sealed with another key: log in again, "
        "or bring the former key back"
    )


def _derive(key: bytes, label: bytes) -> bytes:
    return hmac.digest(key, b"mcp-sidecar vault 1\0" + label, "sha256")
