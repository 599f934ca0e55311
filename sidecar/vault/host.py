"""Credentials in the host's own store, asked for over the wire (wire section 5, `credentials/*`)."""

from __future__ import annotations

import base64
import binascii
from typing import TYPE_CHECKING, Any, Final, Protocol

import msgspec

from sidecar import errors
from sidecar.vault.base import ADDRESS, STORE_SECONDS, Conflict, Entry, Flights

if TYPE_CHECKING:
    from contextlib import AbstractAsyncContextManager

PROMISE: Final = "credentials"


class Asker(Protocol):
    """What asks the host (`sidecar.callbacks.Host`)."""

    def promises(self, name: str) -> bool:
        """Say whether the host promised a capability in `initialize`."""

    async def ask(self, method: str, params: dict[str, Any], seconds: float) -> bytes:
        """Send a request and return its result as JSON. Raises whatever says no, or TimeoutError."""


class _Got(msgspec.Struct):
    value: str | None
    version: str | None = None


class _Put(msgspec.Struct):
    ok: bool
    version: str | None = None
    value: str | None = None


class HostVault:
    """Asks the host for each entry; several tasks of one process share a flight, several hosts compare versions."""

    kind: Final = "host"

    def __init__(self, host: Asker) -> None:
        """Ask `host`."""
        self._host = host
        self._flights = Flights()

    async def get(self, key: str) -> Entry | None:
        """Return what the host keeps under `key`."""
        got = await self._ask("credentials/get", _Got, key=key)
        return _entry(got.value, got.version)

    async def put(self, key: str, value: bytes, if_version: str | None) -> Entry:
        """Write by compare-and-swap; the host compares."""
        text = base64.b64encode(value).decode()
        put = await self._ask("credentials/put", _Put, key=key, value=text, ifVersion=if_version)
        if not put.ok:
            raise Conflict(_entry(put.value, put.version))
        if put.version is None:
            raise _unavailable("its answer has no version")
        return Entry(value, put.version)

    async def delete(self, key: str, if_version: str | None = None) -> None:
        """Forget an entry."""
        more = {"ifVersion": if_version} if if_version is not None else {}
        await self._ask("credentials/delete", dict[str, Any], key=key, **more)

    async def _ask(self, method: str, model: type[Any], **params: Any) -> Any:
        scope, server = ADDRESS.get()
        address: dict[str, Any] = {"scope": scope} if server is None else {"server": server, "scope": scope}
        try:
            result = await self._host.ask(method, {**address, **params}, STORE_SECONDS)
        except TimeoutError:
            raise _unavailable(f"it did not answer {method} within {STORE_SECONDS:.0f} s") from None
        except Exception as error:
            raise _unavailable(f"it refused {method} with code {getattr(error, 'code', None)}") from error
        try:
            return msgspec.json.decode(result, type=model)
        except msgspec.DecodeError:
            raise _unavailable(f"its answer to {method} has the wrong shape") from None

    def single_flight(self, key: str, seconds: float) -> AbstractAsyncContextManager[None]:
        """Let one task of this process at a time do the work of `key`."""
        return self._flights.one(key, seconds)

    async def aclose(self) -> None:
        """Nothing is held."""


def _entry(value: str | None, version: str | None) -> Entry | None:
    if value is None:
        return None
    if version is None:
        raise _unavailable("its entry has no version")
    try:
        return Entry(base64.b64decode(value, validate=True), version)
    except binascii.Error:
        raise _unavailable("its entry is not base64") from None


def _unavailable(why: str) -> errors.StoreUnavailable:
    return errors.StoreUnavailable(f"the host's credential store cannot be used: {why}", backend=HostVault.kind)
