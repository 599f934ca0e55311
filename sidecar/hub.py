"""The connections by address: opens, finds, lists and closes them all, inside the limits of the process."""

from __future__ import annotations

import asyncio
import dataclasses
import itertools
from collections import Counter
from typing import TYPE_CHECKING, Any, Final, Protocol

from sidecar import errors
from sidecar.auth.egress import EgressPolicy, parse_url
from sidecar.budget import Budget
from sidecar.config import ServerConfig, child_environment, command_path
from sidecar.connection import Connection
from sidecar.link import Services
from sidecar.memory import collect
from sidecar.request import seconds_of
from sidecar.telemetry.redact import SECRETS
from sidecar.transports.fair import Fair
from sidecar.transports.stdio import SAFE_ENV, StdioChannel

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Hashable, Mapping

    import msgspec

    from sidecar.callbacks import Notices
    from sidecar.link import Link
    from sidecar.transports.channel import Call, Channel
    from sidecar.transports.guard import Guard

ScopeKey = tuple[str, str, str]
SCOPE_PARTS: Final = ("tenant", "user", "session")


def scope_key(parts: Mapping[str, str | None]) -> ScopeKey:
    """Return a scope as a key: absent and empty are the same."""
    return (parts.get("tenant") or "", parts.get("user") or "", parts.get("session") or "")


def scope_body(key: ScopeKey) -> dict[str, str]:
    """Return a scope as it stands in what we send; `{}` if empty."""
    return {name: part for name, part in zip(SCOPE_PARTS, key, strict=True) if part}


def lane_of(scope: Mapping[str, str]) -> Hashable:
    """Return what tells the large results of one scope from those of others on their way to the host."""
    return tuple(scope.items())


_COLLECT_EVERY: Final = 32
"""Closed connections after which the memory of all is given back."""
_closed: Final = itertools.count(1)


class Hub:
    """All connections of the process."""

    def __init__(
        self,
        notices: Notices,
        guard: Guard,
        engine: Callable[[], Awaitable[None]],
        environ: Mapping[str, str],
        talk: Talk,
    ) -> None:
        """Start empty; `environ` is the sidecar's own environment as it was at the start, `talk` answers servers."""
        self.policy = EgressPolicy()
        self.limits: dict[str, Any] = {}
        self.in_flight = 0
        self.in_flight_by_scope: Counter[ScopeKey] = Counter()
        self._notices = notices
        self._guard = guard
        self._environ = environ
        self._connections: dict[tuple[ScopeKey, str], Connection] = {}
        self._by_scope: Counter[ScopeKey] = Counter()
        self._pressed = False
        self._pressed_lanes: set[Hashable] = set()
        self.seat: Callable[[Connection], Any] = lambda _: None
        """Returns what puts tokens on the requests of a connection, where its auth is more than fixed headers."""
        self.restorers: list[Callable[[Connection, Link], Awaitable[None]]] = []
        """Each brings a new link to what is desired, in this order, before anybody sees that it is ready."""
        self.listeners: list[Callable[[Connection, str, msgspec.Raw, Call | None], None]] = []
        """Each is told of every notification of a server."""
        self.gap_listeners: list[Callable[[Connection], None]] = []
        """Each is told that notifications of a server may be missing."""
        self._budget = Budget()
        self._trials: set[Connection] = set()
        self._fair = Fair()
        self._services = Services(
            make_channel=self._make_channel,
            engine=engine,
            changed=self._changed,
            capabilities=talk.promised,
            admit=lambda newcomer: self._budget.admit(newcomer, self.limits),
            used=self._budget.used,
            serve=talk.serve,
            notified=self._notified,
            missed=self._missed,
            pressed=lambda: self._pressed,
            idle_seconds=lambda: seconds_of(self.limits["idleTimeoutMs"]),
            restore=self._restore,
        )

    # -- finding ----------------------------------------------------------------------------------------------

    def find(self, scope: ScopeKey, name: str) -> Connection:
        """Return the connection of exactly this address. Raises UnknownServer; a foreign one is unknown too."""
        connection = self._connections.get((scope, name))
        if connection is None:
            raise unknown_server(scope, name)
        return connection

    def get(self, scope: ScopeKey, name: str) -> Connection | None:
        """Return the connection of this address, or None."""
        return self._connections.get((scope, name))

    def infos(self, scope: ScopeKey | None) -> list[dict[str, Any]]:
        """Return the `ServerInfo` of every connection of a scope, or of all."""
        return [
            connection.info()
            for (its_scope, _), connection in self._connections.items()
            if scope is None or its_scope == scope
        ]

    def of_owner(self, scope: ScopeKey) -> list[Connection]:
        """Return the connections of a tenant and user, whatever their session."""
        return [found for (its_scope, _), found in self._connections.items() if its_scope[:2] == scope[:2]]

    def counts(self) -> dict[str, int]:
        """Return how many connections are in each state."""
        return dict(Counter(connection.state for connection in self._connections.values()))

    # -- opening and closing ----------------------------------------------------------------------------------

    def add(self, scope: ScopeKey, name: str, config: ServerConfig) -> Connection:
        """Make the address known. Raises QuotaExceeded, which leaves no address."""
        self._check_quota(scope)
        connection = Connection(name, scope_body(scope), config, self._services)
        connection.credentials = self.seat(connection)
        self._connections[scope, name] = connection
        self._by_scope[scope] += 1
        SECRETS.add(*config.secrets)
        return connection

    def update(self, connection: Connection, config: ServerConfig) -> None:
        """Give a connection another configuration, from the next request on."""
        SECRETS.add(*config.secrets)
        had = connection.config
        connection.update(config)
        SECRETS.discard(*had.secrets)

    def trial(self, scope: ScopeKey, name: str, config: ServerConfig, watch: Stopwatch) -> Connection:
        """Make a connection that nobody finds and nothing is told of; end it with `end_trial`. Raises QuotaExceeded."""
        if (scope, name) not in self._connections:
            self._check_quota(scope)
        services = dataclasses.replace(
            self._services,
            changed=self._budget.changed,
            engine=watch.opened(self._services.engine),
            restore=watch.agreed,
            notified=lambda *_: None,
        )
        connection = Connection(name, scope_body(scope), config, services)
        connection.credentials = self.seat(connection)
        if connection.credentials is not None:
            connection.credentials.quiet = True
        connection.keep("test")  # nobody may evict it
        self._trials.add(connection)
        SECRETS.add(*config.secrets)
        return connection

    async def end_trial(self, connection: Connection) -> None:
        """Close a trial connection, and everything of it."""
        try:
            await close(connection)
        finally:
            self._trials.discard(connection)

    def _check_quota(self, scope: ScopeKey) -> None:
        for count, limit in (
            (len(self._connections) + len(self._trials), "maxServers"),
            (self._by_scope[scope], "maxServersPerScope"),
        ):
            if count >= self.limits[limit]:
                raise errors.QuotaExceeded(
                    f"{limit} addresses are known already; disconnect some or raise the limit",
                    limit=limit,
                    value=self.limits[limit],
                )

    def _check_egress(self, config: ServerConfig) -> None:
        if config.transport == "stdio":
            env = child_environment(config, self._environ, SAFE_ENV)
            self.policy.check_command(command_path(config, env))
        else:
            self.policy.check_origin(parse_url(config.url)[0], from_host=True)

    def remove(self, scope: ScopeKey, name: str) -> Connection:
        """Retire the address; the caller waits for its end with `close`. Raises UnknownServer."""
        connection = self.find(scope, name)
        connection.retire()
        del self._connections[scope, name]
        self._by_scope[scope] -= 1
        if not self._by_scope[scope]:
            del self._by_scope[scope]
        return connection

    async def close_all(self) -> None:
        """Close every connection and the guard; bounded in time."""
        connections = [*self._connections.values(), *self._trials]
        self._connections.clear()
        self._by_scope.clear()
        if connections:
            await asyncio.gather(*(close(connection) for connection in connections), return_exceptions=True)
        await self._guard.aclose()

    def pressure(self, pressed: bool) -> None:
        """Stop reading from the servers while the host reads too slowly."""
        self._pressed = pressed
        for connection in self._connections.values():
            connection.pause(pressed or lane_of(connection.scope) in self._pressed_lanes)

    def lane_pressure(self, lane: Hashable, pressed: bool) -> None:
        """Stop reading from the servers of one scope while large results of its own wait for the host."""
        if pressed:
            self._pressed_lanes.add(lane)
        else:
            self._pressed_lanes.discard(lane)
        for connection in self._connections.values():
            if lane_of(connection.scope) == lane:
                connection.pause(pressed or self._pressed)

    def _changed(self, connection: Connection) -> None:
        key = (scope_key(connection.scope), connection.name)
        self._budget.changed(connection)
        self._notices.state(key, connection.info())

    async def _restore(self, connection: Connection, link: Link) -> None:
        for restorer in self.restorers:
            await restorer(connection, link)

    def _notified(self, connection: Connection, method: str, params: msgspec.Raw, call: Call | None) -> None:
        if connection in self._trials:
            return
        for listener in self.listeners:
            listener(connection, method, params, call)

    def _missed(self, connection: Connection) -> None:
        for listener in self.gap_listeners:
            listener(connection)

    def _make_channel(self, connection: Connection) -> Channel:
        config, label = connection.config, connection.label
        self._check_egress(config)
        if config.transport == "stdio":
            channel: Channel = StdioChannel(
                guard=self._guard,
                argv=list(config.argv),
                env=child_environment(config, self._environ, SAFE_ENV),
                cwd=config.cwd,
                log_stderr=config.log_stderr,
                max_result=config.max_result,
                label=label,
            )
            channel.share = self._fair.share(scope_key(connection.scope))
            return channel
        from sidecar.transports.client import HTTPClient
        from sidecar.transports.http import HTTPChannel
        from sidecar.transports.sse import SSEChannel

        client = HTTPClient(
            config.url, self.policy, tls=config.tls, proxy=config.proxy, credentials=connection.credentials
        )
        kind = SSEChannel if config.transport == "sse" else HTTPChannel
        channel = kind(client, config.headers, config.max_result, label)
        channel.share = self._fair.share(scope_key(connection.scope))
        return channel


class Stopwatch:
    """How long the steps of one connection attempt took, in seconds; a step that was not reached took none."""

    def __init__(self) -> None:
        """Begin to connect."""
        self._loop = asyncio.get_running_loop()
        self._begun = self._loop.time()
        self.connect = 0.0
        self.init = 0.0
        self.list = 0.0

    def lap(self) -> float:
        """Return the time since the last step."""
        begun, self._begun = self._begun, self._loop.time()
        return self._begun - begun

    def opened(self, engine: Callable[[], Awaitable[None]]) -> Callable[[], Awaitable[None]]:
        """Return the waiting for the engine, which comes right after the channel is open."""

        async def wait() -> None:
            self.connect = self.lap()
            await engine()
            self.lap()

        return wait

    async def agreed(self, connection: Connection, link: Link) -> None:
        """Note the end of the handshake; there is nothing to restore."""
        self.init = self.lap()
        if connection.config.transport == "http":  # its first request makes the connection, inside the handshake
            made: float = getattr(link.channel, "connect_seconds", 0.0)
            self.connect += made
            self.init -= made

    def listed(self) -> None:
        """Note the end of the lists, where they were begun."""
        if self.init:
            self.list = self.lap()


def unknown_server(scope: ScopeKey, name: str) -> errors.UnknownServer:
    """Return the 1101: the same for a name that is unknown and for one that is another scope's."""
    error = errors.UnknownServer(f"no server {name!r} in this scope: send servers/connect first")
    error.at(name, scope_body(scope))
    return error


async def close(connection: Connection) -> None:
    """Close one connection, give its credentials up and forget its secrets."""
    await connection.close()
    if connection.credentials is not None:
        await connection.credentials.release()
    SECRETS.discard(*connection.config.secrets)
    if next(_closed) % _COLLECT_EVERY == 0:
        collect()


class Talk(Protocol):
    """Serves what servers ask."""

    def promised(self, connection: Connection) -> dict[str, Any]:
        """Return what a server is told of its host."""

    async def serve(self, connection: Connection, method: str, params: msgspec.Raw, call: Call | None) -> bytes:
        """Answer a request of a server. Raises ServerAnswer."""
