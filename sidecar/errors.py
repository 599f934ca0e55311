"""Every failure that can cross the wire: one class per code, one mapping from exceptions (wire section 6).

Only the standard library is imported here: errors must be answerable before any model or engine is loaded.
"""

from __future__ import annotations

import secrets
from typing import Any, ClassVar, Final

from sidecar.telemetry.redact import SECRETS

PARSE_ERROR: Final = -32700
INVALID_REQUEST: Final = -32600
METHOD_NOT_FOUND: Final = -32601
INVALID_PARAMS: Final = -32602
INTERNAL_ERROR: Final = -32603

REMOTE_DATA_LIMIT: Final = 64 * 1024
"""Bytes of a server's own error `data` that are passed on; more becomes `{truncated, bytes}`."""


class WireError(Exception):
    """A failure that is answered with a JSON-RPC error object.

    `message` is for people; programs compare `code`. `extra` holds the fields that section 6 lists for the code.
    """

    code: ClassVar[int] = INTERNAL_ERROR

    def __init__(self, message: str, **extra: Any) -> None:
        """Keep `message` and the extra fields of `data`; fields that are None are left out."""
        super().__init__(message)
        self.message = message
        self.extra = {key: value for key, value in extra.items() if value is not None}

    def data(self) -> dict[str, Any]:
        """Return the `data` member of the error object."""
        return dict(self.extra)

    def to_wire(self) -> dict[str, Any]:
        """Return `{code, message, data}`; an empty `data` is left out."""
        body: dict[str, Any] = {"code": self.code, "message": SECRETS.clean(self.message)}
        if data := self.data():
            body["data"] = data
        return body


class ParseError(WireError):
    """The line is not JSON in UTF-8, holds a lone surrogate, or nests over 512 levels."""

    code = PARSE_ERROR


class InvalidRequest(WireError):
    """The line is JSON but no acceptable JSON-RPC request."""

    code = INVALID_REQUEST


class MethodNotFound(WireError):
    """No such method on this hop."""

    code = METHOD_NOT_FOUND


class InvalidParams(WireError):
    """The params do not fit the method; `data.path` is a JSON pointer into them."""

    code = INVALID_PARAMS


class Internal(WireError):
    """A fault of the sidecar itself; the log has the traceback under `data.corr`."""

    code = INTERNAL_ERROR


def new_corr() -> str:
    """Return a fresh correlation id: it stands in the error and in the log line."""
    return secrets.token_hex(6)


class SidecarError(WireError):
    """A failure in the range 1000-1999: never to be taken for the peer's own code.

    `delivered` says whether the MCP server may have run the call; `retry` says what must come first.
    """

    kind: ClassVar[str] = ""
    retry: ClassVar[str] = "never"
    when: ClassVar[str] = ""
    fields: ClassVar[tuple[str, ...]] = ()

    def __init__(
        self,
        message: str,
        *,
        delivered: str = "no",
        retry_after_ms: int | None = None,
        **extra: Any,
    ) -> None:
        """Build the error; `server` and `scope` are added by the connection that raises it."""
        super().__init__(message, **extra)
        self.delivered = delivered
        self.retry_after_ms = retry_after_ms
        self.server: str | None = None
        self.scope: dict[str, str] | None = None
        self.attempts: int | None = None
        self.corr = new_corr()

    def at(self, server: str, scope: dict[str, str]) -> SidecarError:
        """Add the address, unless one is there already, and return self."""
        if self.server is None:
            self.server, self.scope = server, scope
        return self

    def data(self) -> dict[str, Any]:
        """Return kind, delivered, retry, the address, the correlation id and the extra fields."""
        body: dict[str, Any] = {"kind": self.kind, "delivered": self.delivered, "retry": self.retry}
        if self.server is not None:
            body["server"] = self.server
            body["scope"] = self.scope or {}
        if self.retry_after_ms is not None:
            body["retryAfterMs"] = self.retry_after_ms
        if self.attempts is not None:
            body["attempts"] = self.attempts
        body["corr"] = self.corr
        body.update(self.extra)
        return body


class NotReady(SidecarError):
    code, kind, retry = 1001, "NotReady", "after"
    when = "the engine is still starting and the deadline ran out"


class Draining(SidecarError):
    code, kind, retry, fields = 1002, "Draining", "reconnect", ("deadlineMs",)
    when = "shutdown has begun, or cut this call"


class Overloaded(SidecarError):
    code, kind, retry, fields = 1003, "Overloaded", "after", ("limit", "value")
    when = "a full queue of the sidecar; `limit` is the setting's name"


class Cancelled(SidecarError):
    code, kind = 1004, "Cancelled"
    when = "cancelled by the host"


class DeadlineExceeded(SidecarError):
    code, kind, retry, fields = 1005, "DeadlineExceeded", "safe", ("phase",)
    when = "the deadline passed; `phase` is queue, connect, authorize, write or wait"


class ResultTooLarge(SidecarError):
    code, kind, fields = 1006, "ResultTooLarge", ("bytes", "limit")
    when = "the result is over `maxResultBytes` or the frame limit; both numbers are bytes"


class QuotaExceeded(SidecarError):
    code, kind, retry, fields = 1007, "QuotaExceeded", "after", ("limit", "value")
    when = "too many connections, processes or file descriptors; `limit` is the setting's name, or `openFiles`"


class VersionMismatch(SidecarError):
    code, kind, fields = 1008, "VersionMismatch", ("want", "have")
    when = "host and sidecar speak different versions of the wire"


class SidecarExited(SidecarError):
    code, kind = 1009, "SidecarExited"
    when = "the sidecar process ended while the call was in flight (made by the Go client)"


class CrashLoop(SidecarError):
    code, kind = 1010, "CrashLoop"
    when = "the sidecar ended too often; the client gives up (made by the Go client)"


class StartFailed(SidecarError):
    code, kind, fields = 1011, "StartFailed", ("command", "exitCode", "stderrTail")
    when = "the sidecar could not be started (made by the Go client)"


class UnknownServer(SidecarError):
    code, kind, retry = 1101, "UnknownServer", "reconnect"
    when = "no such address, or not yours"


class ConnectFailed(SidecarError):
    code, kind, retry, fields = 1102, "ConnectFailed", "after", ("phase", "errno")
    when = "DNS, TCP or the proxy failed; `phase` is dns, tcp or proxy"


class TLSFailed(SidecarError):
    code, kind, fields = 1103, "TLSFailed", ("reason",)
    when = "the TLS handshake failed"


class SpawnFailed(SidecarError):
    code, kind, fields = 1104, "SpawnFailed", ("errno",)
    when = "the program could not be executed"


class HandshakeFailed(SidecarError):
    code, kind, fields = 1105, "HandshakeFailed", ("supported",)
    when = "no common protocol version, or an answer to the handshake that is no JSON-RPC"


class ConnectionLost(SidecarError):
    code, kind, retry, fields = 1106, "ConnectionLost", "safe", ("reason",)
    when = "reset, end of stream, or anything broken below JSON"


class ServerExited(SidecarError):
    code, kind, retry, fields = 1107, "ServerExited", "safe", ("exitCode", "signal", "stderrTail")
    when = "a stdio child ended"


class SessionExpired(SidecarError):
    code, kind, retry = 1108, "SessionExpired", "safe"
    when = "the session expired, and the one re-initialisation failed too"


class Unresponsive(SidecarError):
    code, kind, retry, fields = 1109, "Unresponsive", "safe", ("stalledMs",)
    when = "a stalled write, a lost ping, or abandoned work"


class CircuitOpen(SidecarError):
    code, kind, retry = 1110, "CircuitOpen", "after"
    when = "the last five calls of this connection failed; it rests"


class ServerExists(SidecarError):
    code, kind = 1111, "ServerExists"
    when = "another configuration is live under this name"


class RateLimited(SidecarError):
    code, kind, retry, fields = 1201, "RateLimited", "after", ("httpStatus",)
    when = "HTTP 429"


class Unavailable(SidecarError):
    code, kind, retry, fields = 1202, "Unavailable", "after", ("httpStatus",)
    when = "HTTP 5xx"


class HTTPStatus(SidecarError):
    code, kind, fields = 1203, "HTTPStatus", ("httpStatus",)
    when = "another HTTP status or content type"


class RedirectRefused(SidecarError):
    code, kind, fields = 1204, "RedirectRefused", ("origin",)
    when = "a redirect off the origin, with user info, or in a loop"


class AuthRequired(SidecarError):
    code, kind, retry, fields = 1301, "AuthRequired", "user", ("authorization",)
    when = "a person is needed"


class AuthDenied(SidecarError):
    code, kind, retry, fields = 1302, "AuthDenied", "user", ("oauthError", "httpStatus")
    when = "the person or the server said no"


class GrantRevoked(SidecarError):
    code, kind, retry, fields = 1303, "GrantRevoked", "reauth", ("oauthError",)
    when = "invalid_grant"


class AuthTransient(SidecarError):
    code, kind, retry = 1304, "AuthTransient", "after"
    when = "the authorization server cannot be reached; credentials are kept"


class InsufficientScope(SidecarError):
    code, kind, retry, fields = 1305, "InsufficientScope", "user", ("scopes",)
    when = "more than scopeCeiling allows"


class AuthPolicy(SidecarError):
    code, kind, fields = 1306, "AuthPolicy", ("rule",)
    when = "a rule refused it: egress, scheme, issuer, pkce, state, resource or redirect"


class AuthTimeout(SidecarError):
    code, kind, retry = 1307, "AuthTimeout", "user"
    when = "the login was not finished in time"


class RegistrationFailed(SidecarError):
    code, kind, fields = 1308, "RegistrationFailed", ("oauthError",)
    when = "dynamic registration or the client metadata document failed"


class BadMetadata(SidecarError):
    code, kind, fields = 1309, "BadMetadata", ("reason",)
    when = "the metadata of the resource or the authorization server is bad"


class StoreLocked(SidecarError):
    code, kind, retry, fields = 1401, "StoreLocked", "user", ("backend",)
    when = "the keyring is locked"


class StoreUnavailable(SidecarError):
    code, kind, retry, fields = 1402, "StoreUnavailable", "after", ("backend",)
    when = "no store, a keyring without a collection, or no answer in 3 s"


class StoreCorrupt(SidecarError):
    code, kind, retry, fields = 1403, "StoreCorrupt", "reauth", ("backend",)
    when = "this entry fails authentication"


class StoreWriteFailed(SidecarError):
    code, kind, retry, fields = 1404, "StoreWriteFailed", "after", ("errno",)
    when = "disk full or read-only"


class RemoteError(SidecarError):
    code, kind, fields = 1501, "RemoteError", ("remote",)
    when = "the server's own JSON-RPC error, verbatim in `remote`"


class BadPeerMessage(SidecarError):
    code, kind, fields = 1502, "BadPeerMessage", ("reason",)
    when = "the peer broke its protocol"


class SchemaViolation(SidecarError):
    code, kind, fields = 1503, "SchemaViolation", ("path", "budget")
    when = "the result fails its output schema, or the check ran out of budget"


class ToolChanged(SidecarError):
    code, kind, retry, fields = 1504, "ToolChanged", "user", ("tool", "oldHash", "newHash")
    when = "the pinned hash of the tool differs"

    def data(self) -> dict[str, Any]:
        """Return the members of `data`; a tool that is new or gone has a null for the hash that is not there."""
        return {**super().data(), "oldHash": self.extra.get("oldHash"), "newHash": self.extra.get("newHash")}


class CapabilityMissing(SidecarError):
    code, kind, fields = 1505, "CapabilityMissing", ("capability",)
    when = "the server does not offer it, or asks for what the host did not promise"


class InputRounds(SidecarError):
    code, kind, fields = 1506, "InputRounds", ("rounds",)
    when = "the server asked too often"


class ToolDenied(SidecarError):
    code, kind, fields = 1507, "ToolDenied", ("tool",)
    when = "the allow or deny list says no"


def _all(base: type[SidecarError]) -> list[type[SidecarError]]:
    return sorted(base.__subclasses__(), key=lambda cls: cls.code)


ALL_ERRORS: Final = _all(SidecarError)
"""Every class of section 6, by code; the Go sentinels and the error table are generated from it."""

GO_ONLY: Final = frozenset({1009, 1010, 1011})
"""Codes that the Go client makes; they never cross the wire."""
