"""The method table: each name of the contract and the function that serves it."""

from __future__ import annotations

import os
import resource
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import msgspec

from sidecar import __version__, config, errors, wire
from sidecar.auth.egress import EgressPolicy
from sidecar.callbacks import Notices
from sidecar.early import limits_body
from sidecar.frames import view
from sidecar.hub import Hub, ScopeKey, close, scope_body, scope_key
from sidecar.ops import Operations
from sidecar.request import seconds_of
from sidecar.rpc import EMPTY, Handler, Work
from sidecar.telemetry import logs
from sidecar.transports.guard import Guard

if TYPE_CHECKING:
    from sidecar.connection import Connection
    from sidecar.request import Outcome, Request
    from sidecar.serve import Process

DEFAULT_SECONDS: Final = 60.0
CONNECT_SECONDS: Final = 30.0
LOGIN_SECONDS: Final = 600.0
"""How long `wait: "ready"` waits: a person may have to log in."""
DRAIN_SECONDS: Final = 10.0


class Methods:
    """Serves everything but `initialize` and `ping`."""

    def __init__(self, process: Process) -> None:
        """Build the hub from what `initialize` agreed on."""
        self._process = process
        agreement = process.agreement
        soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
        self._notices = Notices(process.peer)
        self.hub = Hub(self._notices, Guard(soft), process.engine, process.environ)
        self.hub.policy = _policy(agreement.egress)
        self.hub.limits = limits_body(agreement.limits)
        self._operations = Operations(self.hub, self._notices)

    def table(self) -> dict[str, Handler]:
        """Return the handlers by method name."""
        table: dict[str, Handler] = {
            method.name: self._operations.serve for method in wire.METHODS if method.params is wire.Operation
        }
        table |= {
            "sidecar/health": self.health,
            "sidecar/setLogLevel": self.set_log_level,
            "shutdown": self.shutdown,
            "servers/connect": self.connect,
            "servers/disconnect": self.disconnect,
            "servers/list": self.list_servers,
            "servers/get": self.get_server,
            "servers/ping": self.ping_server,
        }
        return table

    def pressure(self, pressed: bool) -> None:
        """Note that the host reads too slowly, or keeps up again."""
        self._notices.pressure(pressed)
        self.hub.pressure(pressed)

    async def close(self) -> None:
        """Close every connection."""
        await self.hub.close_all()

    # -- process ----------------------------------------------------------------------------------------------

    def health(self, request: Request) -> Outcome:
        """Serve `sidecar/health`."""
        _params(wire.HealthParams, request)
        process = self._process
        status = "ok"
        if process.draining:
            status = "draining"
        elif process.engine_error is not None:
            status = "degraded"
        elif not process.engine_ready.is_set():
            status = "starting"
        usage = resource.getrusage(resource.RUSAGE_SELF)
        return msgspec.json.encode(
            {
                "status": status,
                "since": process.status_since,
                "version": __version__,
                "uptimeMs": int((time.monotonic() - process.started) * 1000),
                "pid": os.getpid(),
                "rssBytes": _rss_bytes(),
                "cpuMs": int((usage.ru_utime + usage.ru_stime) * 1000),
                "openFds": _open_fds(),
                "servers": self.hub.counts(),
                "inFlight": self.hub.in_flight,
                "vault": {"type": "memory", "state": "unused", "why": None},
            }
        )

    def set_log_level(self, request: Request) -> Outcome:
        """Serve `sidecar/setLogLevel`."""
        params = _params(wire.SetLogLevelParams, request)
        level = logs.parse_level(params.level)
        if level is None:
            raise config.invalid("/level", "unknown level", allowed=list(wire.LOG_LEVELS))
        logs.set_level(level)
        return EMPTY

    def shutdown(self, request: Request) -> Work:
        """Serve `shutdown`."""
        params = _params(wire.ShutdownParams, request)
        seconds = seconds_of(params.deadline_ms) if params.deadline_ms is not None else DRAIN_SECONDS
        self._process.begin_draining(seconds)
        if params.timeout_ms is not None:
            request.arm(seconds_of(params.timeout_ms))
            request.phase = "wait"
        return self._process.shutdown(request, seconds)

    # -- connections ------------------------------------------------------------------------------------------

    def connect(self, request: Request) -> Work:
        """Serve `servers/connect`: the address is known before the next line is read."""
        params = _params(wire.ConnectParams, request)
        wanted = config.server_config(params, self._process.agreement.client)
        scope = _scope(params.scope)
        request.address = (params.server, scope_body(scope))
        default = LOGIN_SECONDS if params.wait == "ready" else CONNECT_SECONDS
        request.arm(seconds_of(params.timeout_ms) if params.timeout_ms is not None else default)
        request.phase = "connect"
        replaced: Connection | None = None
        connection = self.hub.get(scope, params.server)
        if connection is not None and connection.config.identity != wanted.identity:
            if not params.replace:
                raise errors.ServerExists(
                    f"{params.server!r} is connected with another configuration: "
                    "disconnect it, or connect with replace: true"
                )
            replaced = self.hub.remove(scope, params.server)
            connection = None
        known = connection is not None
        if connection is None:
            connection = self.hub.add(scope, params.server, wanted)
        if not params.lazy:
            try:
                connection.start()
            except errors.QuotaExceeded:
                if not known:
                    self.hub.remove(scope, params.server)
                raise
        if params.wait is False or params.lazy:
            # Told as it is now: a later line may already change it.
            return self._closed_then(replaced, msgspec.json.encode(connection.info()))
        return self._connected(connection, replaced)

    async def _closed_then(self, replaced: Connection | None, answer: Outcome) -> Outcome:
        if replaced is not None:
            await close(replaced)
        return answer

    async def _connected(self, connection: Connection, replaced: Connection | None) -> Outcome:
        if replaced is not None:
            await close(replaced)
        await connection.outcome()
        return msgspec.json.encode(connection.info())

    def disconnect(self, request: Request) -> Work:
        """Serve `servers/disconnect`: the address is unknown before the next line is read."""
        params = _params(wire.DisconnectParams, request)
        scope = _scope(params.scope)
        _arm(request, params.timeout_ms, params.server, scope)
        return self._disconnected(self.hub.remove(scope, params.server))

    async def _disconnected(self, connection: Connection) -> Outcome:
        await close(connection)
        return EMPTY

    def list_servers(self, request: Request) -> Outcome:
        """Serve `servers/list`."""
        params = _params(wire.ListServersParams, request)
        scope = None if params.all_scopes else _scope(params.scope)
        return msgspec.json.encode({"servers": self.hub.infos(scope)})

    def get_server(self, request: Request) -> Outcome:
        """Serve `servers/get`."""
        params = _params(wire.Address, request)
        return msgspec.json.encode(self.hub.find(_scope(params.scope), params.server).info())

    def ping_server(self, request: Request) -> Work:
        """Serve `servers/ping`."""
        params = _params(wire.Address, request)
        scope = _scope(params.scope)
        connection = self.hub.find(scope, params.server)
        _arm(request, params.timeout_ms, params.server, scope, connection.config.request_seconds)
        request.on_abandoned = connection.abandoned
        return self._operations.ping(request, connection)


def _rss_bytes() -> int:
    """Return the resident memory; where there is no /proc, its peak."""
    try:
        return int(Path("/proc/self/statm").read_text(encoding="ascii").split()[1]) * resource.getpagesize()
    except OSError:
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss  # bytes on macOS


def _open_fds() -> int:
    for folder in (Path("/proc/self/fd"), Path("/dev/fd")):
        if folder.is_dir():
            return sum(1 for _ in folder.iterdir())
    return 0


def _params(model: type[config.M], request: Request) -> config.M:
    return config.validate(model, bytes(view(request.params)))


def _scope(scope: wire.Scope | None) -> ScopeKey:
    return scope_key(scope.model_dump()) if scope is not None else ("", "", "")


def _arm(
    request: Request, timeout_ms: int | None, server: str, scope: ScopeKey, default: float = DEFAULT_SECONDS
) -> None:
    request.address = (server, scope_body(scope))
    request.arm(seconds_of(timeout_ms) if timeout_ms is not None else default)


def _policy(egress: Any) -> EgressPolicy:
    return EgressPolicy(
        allow_hosts=tuple(egress.allow_hosts) if egress.allow_hosts is not None else None,
        deny_hosts=tuple(egress.deny_hosts or ()),
        allow_private=tuple(egress.allow_private or ()),
        allow_http=tuple(egress.allow_http or ()),
        allow_commands=tuple(egress.allow_commands) if egress.allow_commands is not None else None,
        trust_connect_origin=egress.trust_connect_origin is not False,
    )
