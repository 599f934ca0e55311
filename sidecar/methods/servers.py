"""The methods about connections."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import msgspec

from sidecar import config, errors, wire
from sidecar.hub import Hub, close, scope_body
from sidecar.methods.common import CONNECT_SECONDS, arm, params_of, scope_of
from sidecar.request import seconds_of
from sidecar.rpc import EMPTY, Handler, Work

if TYPE_CHECKING:
    from sidecar.auth.book import Book
    from sidecar.connection import Connection
    from sidecar.ops import Operations
    from sidecar.request import Outcome, Request
    from sidecar.serve import Process

LOGIN_SECONDS: Final = 600.0
"""How long `wait: "ready"` waits: a person may have to log in."""


class ServerMethods:
    """Serves `servers/*`."""

    def __init__(self, process: Process, hub: Hub, operations: Operations, book: Book) -> None:
        """Change the connections of `hub`."""
        self._book = book
        self._process = process
        self._hub = hub
        self._operations = operations

    def table(self) -> dict[str, Handler]:
        """Return the handlers by method name."""
        return {
            "servers/connect": self.connect,
            "servers/disconnect": self.disconnect,
            "servers/list": self.list_servers,
            "servers/get": self.get_server,
            "servers/ping": self.ping_server,
        }

    def connect(self, request: Request) -> Work:
        """Serve `servers/connect`: the address is known before the next line is read."""
        params = params_of(wire.ConnectParams, request)
        agreement = self._process.agreement
        wanted = config.server_config(params, agreement.client, agreement.capabilities)
        scope = scope_of(params.scope)
        request.address = (params.server, scope_body(scope))
        default = LOGIN_SECONDS if params.wait == "ready" else CONNECT_SECONDS
        request.arm(seconds_of(params.timeout_ms) if params.timeout_ms is not None else default)
        request.phase = "connect"
        replaced: Connection | None = None
        connection = self._hub.get(scope, params.server)
        if connection is not None and connection.config.identity != wanted.identity:
            if not params.replace:
                raise errors.ServerExists(
                    f"{params.server!r} is connected with another configuration: "
                    "disconnect it, or connect with replace: true"
                )
            replaced = self._hub.remove(scope, params.server)
            connection = None
        known = connection is not None
        if connection is None:
            connection = self._hub.add(scope, params.server, wanted)
        if not params.lazy:
            try:
                connection.start()
            except errors.QuotaExceeded:
                if not known:
                    self._hub.remove(scope, params.server)
                raise
        if params.wait is False or params.lazy:
            # Told as it is now: a later line may already change it.
            return self._closed_then(replaced, msgspec.json.encode(connection.info()))
        return self._connected(request, connection, replaced, ready=params.wait == "ready")

    async def _closed_then(self, replaced: Connection | None, answer: Outcome) -> Outcome:
        if replaced is not None:
            await close(replaced)
        return answer

    async def _connected(
        self, request: Request, connection: Connection, replaced: Connection | None, *, ready: bool
    ) -> Outcome:
        if replaced is not None:
            await close(replaced)
        await connection.outcome(request, ready=ready)
        return msgspec.json.encode(connection.info())

    def disconnect(self, request: Request) -> Work:
        """Serve `servers/disconnect`: the address is unknown before the next line is read."""
        params = params_of(wire.DisconnectParams, request)
        scope = scope_of(params.scope)
        arm(request, params.timeout_ms, params.server, scope)
        return self._disconnected(self._hub.remove(scope, params.server), forget=params.forget is True)

    async def _disconnected(self, connection: Connection, *, forget: bool) -> Outcome:
        if forget and connection.credentials is not None:
            await self._book.revoke(connection.credentials)
        await close(connection)
        return EMPTY

    def list_servers(self, request: Request) -> Outcome:
        """Serve `servers/list`."""
        params = params_of(wire.ListServersParams, request)
        scope = None if params.all_scopes else scope_of(params.scope)
        return msgspec.json.encode({"servers": self._hub.infos(scope)})

    def get_server(self, request: Request) -> Outcome:
        """Serve `servers/get`."""
        params = params_of(wire.Address, request)
        return msgspec.json.encode(self._hub.find(scope_of(params.scope), params.server).info())

    def ping_server(self, request: Request) -> Work:
        """Serve `servers/ping`."""
        params = params_of(wire.Address, request)
        scope = scope_of(params.scope)
        connection = self._hub.find(scope, params.server)
        arm(request, params.timeout_ms, params.server, scope, connection.config.request_seconds)
        request.on_abandoned = connection.abandoned
        return self._operations.ping(request, connection)
