"""The envelope of an MCP operation: the keys that are ours, decoded, and the server's, as bytes in their order."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import msgspec

from sidecar import frames, wire
from sidecar.config import check_call_headers, invalid, pointer

if TYPE_CHECKING:
    from sidecar.hub import ScopeKey
    from sidecar.request import Request
    from sidecar.transports.channel import OnProgress

_NAMES_MAX: Final = 4096
_MS_DIGITS: Final = 20
"""Digits that are read of a time; what is longer is longer than any deadline."""


@dataclass(slots=True)
class Envelope:
    """The keys of an operation that are ours, decoded, and the server's, as bytes in their order."""

    scope: ScopeKey
    server: str
    timeout_ms: int | None
    all: bool
    progress: bool
    idempotent: bool
    headers: dict[str, str]
    params: dict[str, msgspec.Raw]
    tools: wire.ToolPolicy | None = None
    detach: bool = False
    hears: tuple[int, OnProgress] | None = None
    """The progress token of the last message and who hears it, where progress was asked for."""
    """The tool policy as it was when the line was read."""


class Envelopes:
    """Reads envelopes; names and scopes that were seen are not decoded again."""

    def __init__(self) -> None:
        """Know none yet."""
        self._servers: dict[bytes, str] = {}
        self._scopes: dict[bytes, ScopeKey] = {}

    def read(self, request: Request) -> Envelope:
        """Return the envelope of an operation. Raises InvalidParams for the first fault."""
        parts = frames.members(request.params)
        server = self._server(parts.pop("server", None))
        scope = self.scope(parts.pop("scope", None))
        envelope = Envelope(
            scope=scope,
            server=server,
            timeout_ms=_millis(parts.pop("timeoutMs", None)),
            all=_flag(parts, "all"),
            progress=_flag(parts, "progress"),
            idempotent=_flag(parts, "idempotent"),
            headers=_headers(parts.pop("headers", None)),
            params=parts,
        )
        envelope.detach = _flag(parts, "detach")
        if envelope.detach and request.method != "tools/call":
            raise invalid("/detach", "only calls of tools become background tasks")
        if envelope.all and request.method not in wire.LISTS:
            raise invalid("/all", "only lists have pages")
        meta = parts.get("_meta")
        if meta is not None:
            if frames.first(meta) != b"{":
                raise invalid("/_meta", "must be an object")
            if frames.member(meta, "progressToken") is not None:
                raise invalid("/_meta/progressToken", "the token is the sidecar's: ask with progress: true")
        return envelope

    def _server(self, raw: msgspec.Raw | None) -> str:
        if raw is None:
            raise invalid("/server", "missing: name the server that servers/connect was given")
        key = bytes(raw)
        name = self._servers.get(key)
        if name is None:
            name = frames.text_of(raw)
            if name is None or not _is_server_name(name):
                raise invalid("/server", "a name is 1-128 of A-Z a-z 0-9 . _ -")
            if len(self._servers) >= _NAMES_MAX:
                self._servers.clear()
            self._servers[key] = name
        return name

    def scope(self, raw: msgspec.Raw | None) -> ScopeKey:
        """Return a scope as its key. Raises InvalidParams."""
        if raw is None or bytes(raw) == b"null":
            return ("", "", "")
        key = bytes(raw)
        scope = self._scopes.get(key)
        if scope is None:
            scope = _scope(raw)
            if len(self._scopes) >= _NAMES_MAX:
                self._scopes.clear()
            self._scopes[key] = scope
        return scope


def _is_server_name(name: str) -> bool:
    return 0 < len(name) <= 128 and all(char.isascii() and (char.isalnum() or char in "._-") for char in name)


def _scope(raw: msgspec.Raw) -> ScopeKey:
    try:
        parts = frames.members(raw)
    except msgspec.DecodeError:
        raise invalid("/scope", "must be an object of tenant, user, session") from None
    values: dict[str, str] = {}
    for name, part in parts.items():
        if name not in {"tenant", "user", "session"}:
            raise invalid(pointer("scope", name), "unknown key")
        text = "" if bytes(part) == b"null" else frames.text_of(part)
        if text is None:
            raise invalid(pointer("scope", name), "must be a string")
        if len(text) > 256:
            raise invalid(pointer("scope", name), "longer than 256 characters")
        values[name] = text
    return (values.get("tenant", ""), values.get("user", ""), values.get("session", ""))


def _millis(raw: msgspec.Raw | None) -> int | None:
    if raw is None or bytes(raw) == b"null":
        return None
    text = bytes(raw)
    if not frames.is_integer(text) or not int(text[:_MS_DIGITS]) > 0:
        raise invalid("/timeoutMs", "must be an integer above 0")
    return int(text[:_MS_DIGITS])


def _flag(parts: dict[str, msgspec.Raw], name: str) -> bool:
    raw = parts.pop(name, None)
    if raw is None:
        return False
    text = bytes(raw)
    if text not in {b"true", b"false", b"null"}:
        raise invalid(pointer(name), "must be true or false")
    return text == b"true"


def _headers(raw: msgspec.Raw | None) -> dict[str, str]:
    if raw is None or bytes(raw) == b"null":
        return {}
    try:
        headers: dict[str, str] = msgspec.json.decode(raw, type=dict[str, str])
    except msgspec.DecodeError:
        raise invalid("/headers", "must be an object of strings") from None
    check_call_headers(headers)
    return headers
