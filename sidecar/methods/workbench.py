"""The daily handles of connections: change one, try one, take over those of a desktop client."""

from __future__ import annotations

import asyncio
import logging
from typing import TYPE_CHECKING, Any, Final

import msgspec

from sidecar import config, desktop, errors, frames, wire
from sidecar.hub import Stopwatch, scope_body
from sidecar.methods.common import CONNECT_SECONDS, DEFAULT_SECONDS, arm, params_of, scope_of
from sidecar.request import seconds_of

if TYPE_CHECKING:
    from collections.abc import Sequence

    from sidecar.connection import Connection
    from sidecar.hub import Hub
    from sidecar.ops import Operations
    from sidecar.request import Outcome, Request
    from sidecar.rpc import Handler, Work
    from sidecar.serve import Process


logger: Final = logging.getLogger(__name__)


class WorkbenchMethods:
    """Serves `servers/update`, `servers/test` and `servers/import`."""

    def __init__(self, process: Process, hub: Hub, operations: Operations) -> None:
        """Change the connections of `hub`."""
        self._process = process
        self._hub = hub
        self._operations = operations

    def table(self) -> dict[str, Handler]:
        """Return the handlers by method name."""
        return {
            "servers/update": self.update,
            "servers/test": self.test,
            "servers/import": self.import_servers,
        }

    def update(self, request: Request) -> Outcome:
        """Serve `servers/update`: what it changes holds for the next line already."""
        params = params_of(wire.UpdateParams, request)
        scope = scope_of(params.scope)
        connection = self._hub.find(scope, params.server)
        arm(request, params.timeout_ms, params.server, scope)
        self._hub.update(connection, config.updated(connection.config, params, self._process.agreement.client))
        self._operations.tools.policy_changed(connection)
        return msgspec.json.encode(connection.info())

    def _config_of(self, params: wire.ConnectParams) -> config.ServerConfig:
        agreement = self._process.agreement
        return config.server_config(params, agreement.client, agreement.capabilities)

    # -- trials -----------------------------------------------------------------------------------------------

    def test(self, request: Request) -> Work | Outcome:
        """Serve `servers/test`: one attempt and three lists, on a connection that nobody finds."""
        params = params_of(wire.ConnectParams, request)
        wanted = self._config_of(params)
        scope = scope_of(params.scope)
        arm(request, params.timeout_ms, params.server, scope, CONNECT_SECONDS)
        request.phase = "connect"
        watch = Stopwatch()
        try:
            connection = self._hub.trial(scope, params.server, wanted, watch)
        except errors.QuotaExceeded as error:
            return _test_result(_not_ok(error.at(params.server, scope_body(scope))), watch)
        return self._tested(request, connection, watch)

    async def _tested(self, request: Request, connection: Connection, watch: Stopwatch) -> Outcome:
        found: dict[str, Any] = {"ok": True}
        try:
            connection.start()
            await connection.outcome(request)
            link = connection.link
            if link is None:  # the login that was begun ends with the trial, and nobody needs its URL
                raise errors.AuthRequired("a person must log in first: connect, and see its authorization")
            found["serverInfo"] = link.agreed.server_info
            request.phase = "wait"
            for method, name in (("tools/list", "tools"), ("resources/list", "resources"), ("prompts/list", "prompts")):
                count = await self._operations.count(request, connection, link, method)
                if count is not None:
                    found[name] = count
        except errors.SidecarError as error:
            found |= _not_ok(error.at(connection.name, connection.scope))
        finally:
            watch.listed()
            await asyncio.shield(self._hub.end_trial(connection))
        return _test_result(found, watch)

    # -- the files of desktop clients -------------------------------------------------------------------------

    def import_servers(self, request: Request) -> Work | Outcome:
        """Serve `servers/import`: the addresses are known before the next line is read."""
        params = params_of(wire.ImportParams, request)
        request.arm(seconds_of(params.timeout_ms) if params.timeout_ms is not None else DEFAULT_SECONDS)
        document = desktop.parse(bytes(frames.member(msgspec.Raw(request.params), "config") or b""))
        found = desktop.read(document, params.env or {}, params.scope)
        faults: list[errors.WireError] = list(found.faults)
        taken: list[tuple[str, Connection]] = []
        for where, wanted in found.servers:
            try:
                taken.append((where, self.take(wanted, start=bool(params.connect))))
            except (errors.ServerExists, errors.QuotaExceeded) as error:
                faults.append(_placed(error, where))
        if params.connect:
            request.phase = "connect"
            return self._imported(request, taken, faults)
        return _import_result([connection for _, connection in taken], faults)

    def know(self, servers: Sequence[wire.ConnectParams]) -> None:
        """Make the servers of the configuration file lazy addresses; one over a quota is left out and logged."""
        for params in servers:
            try:
                self.take(params)
            except errors.SidecarError as error:
                logger.warning(
                    "a server of the configuration file is left out: %s", error, extra={"server": params.server}
                )

    def take(self, params: wire.ConnectParams, *, start: bool = False) -> Connection:
        """Make an address known, or find it with the same configuration. Raises ServerExists or QuotaExceeded."""
        wanted = self._config_of(params)
        scope = scope_of(params.scope)
        connection = self._hub.get(scope, params.server)
        known = connection is not None
        try:
            if connection is None:
                connection = self._hub.add(scope, params.server, wanted)
            elif connection.config.identity != wanted.identity:
                raise errors.ServerExists(f"{params.server!r} is there already, with another configuration")
            if start:
                connection.start()
        except errors.SidecarError as error:
            if connection is not None and not known:
                self._hub.remove(scope, params.server)
            error.at(params.server, scope_body(scope))
            raise
        return connection

    async def _imported(
        self, request: Request, taken: list[tuple[str, Connection]], faults: list[errors.WireError]
    ) -> Outcome:
        outcomes = (connection.outcome(request) for _, connection in taken)
        for (where, _), failure in zip(taken, await asyncio.gather(*outcomes, return_exceptions=True), strict=True):
            if isinstance(failure, errors.SidecarError):
                faults.append(_placed(failure, where))
            elif failure is not None:
                raise failure
        return _import_result([connection for _, connection in taken], faults)


def _not_ok(error: errors.SidecarError) -> dict[str, Any]:
    return {"ok": False, "error": error.to_wire()}


def _test_result(found: dict[str, Any], watch: Stopwatch) -> Outcome:
    times = {"connectMs": watch.connect, "initMs": watch.init, "listMs": watch.list}
    return msgspec.json.encode(found | {"timings": {name: round(taken * 1000) for name, taken in times.items()}})


def _placed(error: errors.SidecarError, where: str) -> errors.SidecarError:
    """Add the pointer of the server's entry to a failure."""
    error.extra["path"] = where
    return error


def _import_result(taken: list[Connection], faults: list[errors.WireError]) -> Outcome:
    infos = [connection.info() for connection in taken]
    body: dict[str, Any] = {"servers": infos, "errors": [fault.to_wire() for fault in faults]}
    return msgspec.json.encode(body)
