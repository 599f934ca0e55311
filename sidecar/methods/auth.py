"""The methods about credentials (section 4, Credentials)."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any, Final

import msgspec

from sidecar import wire
from sidecar.auth.book import Book, callback_parts
from sidecar.auth.host import HostSeat
from sidecar.auth.imported import imported_record
from sidecar.auth.record import time_text
from sidecar.auth.seat import Seat
from sidecar.config import invalid
from sidecar.hub import Hub, ScopeKey, scope_body, scope_key
from sidecar.methods.common import arm, params_of, scope_of
from sidecar.request import seconds_of
from sidecar.telemetry.logs import now_text

if TYPE_CHECKING:
    from sidecar.auth.pending import Pending
    from sidecar.connection import Connection
    from sidecar.request import Outcome, Request
    from sidecar.rpc import Handler, Work

_PARTS: Final = {
    "state": "state",
    "code": "code",
    "iss": "iss",
    "error": "error",
    "error_description": "error_description",
}


class AuthMethods:
    """Serves `auth/*`."""

    def __init__(self, hub: Hub, book: Book) -> None:
        """Speak of the addresses of `hub` and the credentials of `book`."""
        self._hub = hub
        self._book = book

    def table(self) -> dict[str, Handler]:
        """Return the handlers by method name."""
        return {
            "auth/begin": self.begin,
            "auth/complete": self.complete,
            "auth/import": self.take_over,
            "auth/status": self.status,
            "auth/revoke": self.revoke,
        }

    # -- a login ----------------------------------------------------------------------------------------------

    def begin(self, request: Request) -> Work:
        """Serve `auth/begin`."""
        params = params_of(wire.AuthBeginParams, request)
        scope = scope_of(params.scope)
        seat = self._seat(scope, params.server)
        arm(request, params.timeout_ms, params.server, scope)
        request.phase = "authorize"
        settings = seat.credential.settings
        if not settings.personal:
            raise invalid("/server", f"the grant {settings.grant} of this server needs no person")
        if params.flow == "redirect" and settings.redirect_mode is None:
            raise invalid("/flow", "this server was connected without a redirect")
        return self._begun(seat, params.flow)

    async def _begun(self, seat: Seat, flow: str | None) -> Outcome:
        return msgspec.json.encode(await seat.begin(flow))

    def complete(self, request: Request) -> Work:
        """Serve `auth/complete`: the whole callback URL, or its parts."""
        params = params_of(wire.AuthCompleteParams, request)
        given = {wire_name: getattr(params, name) for name, wire_name in _PARTS.items()}
        parts = {name: text for name, text in given.items() if text is not None}
        if params.callback_url is not None:
            if parts:
                raise invalid("/callbackUrl", "give the whole callback URL, or its parts, not both")
            parts = callback_parts(params.callback_url)
        elif not parts:
            raise invalid("/callbackUrl", "missing: give the callback URL, or `state` with `code` or `error`")
        scope = scope_of(params.scope)
        request.arm(seconds_of(params.timeout_ms) if params.timeout_ms is not None else _COMPLETE_SECONDS)
        request.phase = "authorize"
        return self._completed(parts, scope)

    async def _completed(self, parts: dict[str, str], scope: ScopeKey) -> Outcome:
        pending = await self._book.complete(parts, scope_body(scope))
        connection = self._hub.get(scope_key(pending.scope), pending.server)
        return msgspec.json.encode(connection.info() if connection is not None else _unknown(pending))

    def take_over(self, request: Request) -> Work:
        """Serve `auth/import`: logins that the host already holds."""
        params = params_of(wire.AuthImportParams, request)
        scope = scope_of(params.scope)
        seat = self._seat(scope, params.server)
        connection = self._hub.find(scope, params.server)
        arm(request, params.timeout_ms, params.server, scope)
        request.phase = "authorize"
        return self._taken_over(connection, seat, params)

    async def _taken_over(self, connection: Connection, seat: Seat, params: wire.AuthImportParams) -> Outcome:
        await self._book.take_over(seat, await imported_record(seat.credential, params))
        return msgspec.json.encode(connection.info())

    # -- what there is ----------------------------------------------------------------------------------------

    def status(self, request: Request) -> Work:
        """Serve `auth/status`; never a secret."""
        params = params_of(wire.AuthStatusParams, request)
        scope = scope_of(params.scope)
        if params.server is not None:
            found = [self._hub.find(scope, params.server)]
            arm(request, params.timeout_ms, params.server, scope)
        else:
            found = self._hub.of_owner(scope)
            request.arm(seconds_of(params.timeout_ms) if params.timeout_ms is not None else _COMPLETE_SECONDS)
        return self._told(found)

    async def _told(self, connections: list[Connection]) -> Outcome:
        credentials = []
        for connection in connections:
            seat = connection.credentials
            if isinstance(seat, Seat):
                await seat.credential.load()
                if seat.credential.tokens is None:
                    await seat.credential.reload()  # another process may have logged in
                if seat.credential.tokens is not None:
                    credentials.append(self._status(connection.name, seat))
        return msgspec.json.encode({"credentials": credentials})

    def _status(self, server: str, seat: Seat) -> dict[str, Any]:
        record, tokens = seat.credential.record, seat.credential.tokens
        assert record is not None
        assert tokens is not None
        return {
            "server": server,
            "issuer": record.authority.issuer,
            "scopes": list(record.scopes),
            "expiresAt": time_text(tokens.expires),
            "refreshable": tokens.refresh is not None or not seat.credential.settings.personal,
            "storedIn": seat.credential.stored_in,
        }

    def revoke(self, request: Request) -> Work:
        """Serve `auth/revoke`: at the authorization server, then here."""
        params = params_of(wire.Address, request)
        scope = scope_of(params.scope)
        connection = self._hub.find(scope, params.server)
        seat = connection.credentials
        if not isinstance(seat, Seat | HostSeat):
            raise invalid("/server", "the auth of this server is neither oauth nor host")
        arm(request, params.timeout_ms, params.server, scope)
        return self._revoked(seat)

    async def _revoked(self, seat: Seat | HostSeat) -> Outcome:
        done = await asyncio.shield(asyncio.ensure_future(self._book.revoke(seat)))
        return msgspec.json.encode({"revokedAtServer": done})

    def _seat(self, scope: ScopeKey, server: str) -> Seat:
        seat = self._hub.find(scope, server).credentials
        if not isinstance(seat, Seat):
            raise invalid("/server", "the auth of this server is not oauth")
        return seat


_COMPLETE_SECONDS: Final = 60.0


def _unknown(pending: Pending) -> dict[str, Any]:
    """Return the `ServerInfo` of an address that this process does not know: its tokens are stored all the same."""
    auth: dict[str, Any] = {"type": "oauth", "state": "valid", "issuer": pending.authority.issuer}
    return {
        "server": pending.server,
        "scope": dict(pending.scope),
        "state": "closed",
        "since": now_text(),
        "generation": 0,
        "transport": pending.transport,
        "auth": auth,
        "facts": {"reachable": False, "authOk": True},
        "attempts": 0,
    }
