"""One actor for each address: it alone opens and closes the link to its server and writes its state.

Calls run beside it in their own tasks. A call to an idle address opens the link; a link that is lost fails what is
in flight, makes the address idle, and comes back at its next use.
"""

from __future__ import annotations

import asyncio
import logging
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from sidecar import errors
from sidecar.engine import Negotiated, Session
from sidecar.telemetry.logs import now_text
from sidecar.transports.channel import METHOD_NOT_FOUND, Call, Channel, ServerAnswer
from sidecar.transports.faults import copy_error
from sidecar.transports.limits import Gate

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Coroutine

    import msgspec

    from sidecar.config import ServerConfig
    from sidecar.request import Outcome, Request

logger: Final = logging.getLogger(__name__)

RECYCLE_SECONDS: Final = 5.0
"""How long abandoned work may take to end before its connection is recycled."""
OPEN: Final = frozenset({"connecting", "ready"})
"""States in which the connection holds a process or sockets."""
_CLOSE_SECONDS: Final = 6.0


class Link:
    """A live connection: the channel, the engine's session on it, and what they agreed on."""

    def __init__(self, channel: Channel, session: Session, agreed: Negotiated) -> None:
        """Join the three."""
        self.channel = channel
        self.session = session
        self.agreed = agreed
        self.header_maps: dict[str, dict[tuple[str, ...], str]] = {}
        """Modern era: which arguments of which tool go into which Mcp-Param header."""
        self.refused_tools: set[str] = set()
        self.log_level: bytes | None = None

    async def close(self) -> None:
        """Close politely, then in any case."""
        await self.session.close()
        await self.channel.aclose()


@dataclass(frozen=True)
class Services:
    """What a connection needs of the process around it."""

    make_channel: Callable[[ServerConfig, dict[str, Any]], Channel]
    engine: Callable[[], Awaitable[None]]
    changed: Callable[[Connection], None]
    capabilities: Callable[[], dict[str, Any]]
    admit: Callable[[Connection], None]
    serve: Callable[[Connection, str, msgspec.Raw, Call | None], Awaitable[bytes]]
    pressed: Callable[[], bool]


class Connection:
    """The connection of one address."""

    def __init__(self, name: str, scope: dict[str, str], config: ServerConfig, services: Services) -> None:
        """Remember the address and its configuration; nothing is opened."""
        self.name = name
        self.scope = scope
        self.config = config
        self.state = "idle"
        self.since = now_text()
        self.generation = 0
        self.attempts = 0
        self.last_error: errors.SidecarError | None = None
        self.link: Link | None = None
        self.last_success: float | None = None
        self.tools_listed: float | None = None
        self.gate = Gate(config.max_in_flight, config.rate, config.burst)
        self._services = services
        self._channel: Channel | None = None
        self._attempt: asyncio.Task[None] | None = None
        self._changed: asyncio.Future[None] | None = None
        self._closing: set[asyncio.Task[None]] = set()
        self._loop = asyncio.get_running_loop()

    # -- state ------------------------------------------------------------------------------------------------

    @property
    def label(self) -> dict[str, Any]:
        """The address, for log lines."""
        return {"server": self.name, "scope": self.scope}

    def _become(self, state: str) -> None:
        if state != self.state:
            self.state = state
            self.since = now_text()
            self._services.changed(self)
        waiter, self._changed = self._changed, None
        if waiter is not None and not waiter.done():
            waiter.set_result(None)

    async def _change(self) -> None:
        """Wait for the next change of state."""
        if self._changed is None:
            self._changed = self._loop.create_future()
        await asyncio.shield(self._changed)

    def info(self) -> dict[str, Any]:
        """Return the `ServerInfo`."""
        agreed = self.link.agreed if self.link is not None else None
        pid = getattr(self._channel, "pid", None) if self.state in OPEN else None
        facts: dict[str, Any] = {"reachable": self.link is not None, "authOk": self.state == "ready"}
        if self.config.transport == "stdio":
            facts = {"process": pid is not None, **facts}
        if self.tools_listed is not None:
            facts["toolsListedAt"] = now_text(self.tools_listed)
        if self.last_success is not None:
            facts["lastSuccessAt"] = now_text(self.last_success)
        body: dict[str, Any] = {
            "server": self.name,
            "scope": self.scope,
            "state": self.state,
            "since": self.since,
            "generation": self.generation,
            "transport": self.config.transport,
        }
        if agreed is not None:
            body["protocolVersion"] = agreed.version
            body["era"] = "modern" if agreed.modern else "legacy"
            body["serverInfo"] = agreed.server_info
            if agreed.capabilities is not None:
                body["capabilities"] = agreed.capabilities
            if agreed.instructions is not None:
                body["instructions"] = agreed.instructions
        auth_state = "none" if self.config.auth == "none" else "valid"
        if isinstance(self.last_error, errors.AuthDenied) and self.config.auth != "none":
            auth_state = "dead"
        body["auth"] = {"type": self.config.auth, "state": auth_state}
        body["facts"] = facts
        if self.last_error is not None:
            body["lastError"] = self.last_error.to_wire()
        body["attempts"] = self.attempts
        if pid is not None:
            body["pid"] = pid
        return body

    # -- opening ----------------------------------------------------------------------------------------------

    def start(self) -> None:
        """Begin an attempt, unless the link is there or one is running. Raises QuotaExceeded."""
        if self.state in {"idle", "failed"} and self._attempt is None:
            self._services.admit(self)
            self._attempt = self._loop.create_task(self._open())
            self._become("connecting")

    async def _open(self) -> None:
        self.attempts += 1
        phase = "connect"
        channel: Channel | None = None
        session: Session | None = None
        try:
            async with asyncio.timeout(self.config.connect_seconds):
                channel = self._services.make_channel(self.config, self.label)
                self._channel = channel
                await channel.open()
                await self._services.engine()
                session = Session(channel, self.config.protocol, self.config.client_info, self._services.capabilities())
                agreed = await session.open(legacy_only=self.config.transport == "sse")
            if channel.error is not None:
                raise copy_error(channel.error, "no")
        except TimeoutError:
            await self._give_up(
                channel,
                session,
                errors.DeadlineExceeded("the connection was not made in time (timeouts.connectMs)", phase=phase),
            )
        except errors.SidecarError as error:
            # What broke the channel says more than what the handshake made of it.
            cause = channel.error if channel is not None and channel.error is not None else error
            await self._give_up(channel, session, copy_error(cause, cause.delivered))
        except asyncio.CancelledError:
            await self._give_up(channel, session, errors.ConnectionLost("disconnected", reason="disconnected"))
            raise
        except Exception:
            corr = errors.new_corr()
            logger.exception("connecting failed inside the sidecar", extra={**self.label, "corr": corr})
            await self._give_up(channel, session, errors.HandshakeFailed("internal error of the sidecar"))
        else:
            self._ready(Link(channel, session, agreed))
        finally:
            self._attempt = None

    def _ready(self, link: Link) -> None:
        link.channel.modern = link.agreed.modern
        if hasattr(link.channel, "protocol_version"):
            link.channel.protocol_version = link.agreed.version
        link.channel.upcalls = _Upcalls(self, link)
        link.channel.pause(self._services.pressed())
        self.link = link
        self.generation += 1
        self.attempts = 0
        self.last_error = None
        self.last_success = time.time()
        self._attempt = None
        self._become("ready")

    async def _give_up(self, channel: Channel | None, session: Session | None, error: errors.SidecarError) -> None:
        error.at(self.name, self.scope)
        self.last_error = error
        if self.state == "connecting":
            self._attempt = None
            # One that has been ready comes back at its next use; a first failure stays until it is asked again.
            self._become("idle" if self.generation else "failed")
        await asyncio.shield(self._hold(_close(channel, session)))
        if self._channel is channel:
            self._channel = None

    async def outcome(self) -> None:
        """Wait for the running attempt. Raises what it failed with."""
        while self.state == "connecting":
            await self._change()
        if self.link is None:
            error = self.last_error
            if error is not None:
                raise copy_error(error, error.delivered).at(self.name, self.scope)
            raise errors.ConnectionLost("disconnected", reason="disconnected")

    async def acquire(self, request: Request) -> Link:
        """Return the live link, opening it where that is needed, inside the request's deadline."""
        tried = False
        while self.link is None:
            request.phase = "connect"
            if self.state == "closed":
                raise errors.ConnectionLost("disconnected", reason="disconnected")
            if self.state == "failed" or (tried and self.state == "idle"):
                error = self.last_error
                assert error is not None
                raise copy_error(error, "no")
            self.start()
            tried = True
            await self._change()
        return self.link

    def serve(self, method: str, params: msgspec.Raw, call: Call | None) -> Awaitable[bytes]:
        """Answer a request of the server."""
        return self._services.serve(self, method, params, call)

    # -- losing and closing -----------------------------------------------------------------------------------

    def lost(self, link: Link, error: errors.SidecarError) -> None:
        """Note that a link has ended by itself."""
        if self.link is not link:
            return
        self.link = None
        self._channel = None
        self.last_error = copy_error(error, "no").at(self.name, self.scope)
        logger.info("the connection was lost: %s", error.message, extra=self.label)
        self._become("idle")
        self._hold(link.close())

    def drop(self, link: Link, error: errors.SidecarError) -> None:
        """Give up a link that is of no use any more; what is in flight on it fails with `error`."""
        if self.link is link:
            link.channel.fail(error)

    def abandoned(self, task: asyncio.Task[Outcome]) -> None:
        """Watch the work of an answered call: if it does not end, the connection is recycled."""
        link = self.link
        if link is not None:
            self._loop.call_later(RECYCLE_SECONDS, self._check_abandoned, task, link)

    def _check_abandoned(self, task: asyncio.Task[Outcome], link: Link) -> None:
        if not task.done():
            stalled = int(RECYCLE_SECONDS * 1000)
            self.drop(link, errors.Unresponsive("abandoned work did not end", stalledMs=stalled))

    def pause(self, paused: bool) -> None:
        """Stop or go on reading from the server."""
        if self.link is not None:
            self.link.channel.pause(paused)

    def retire(self, reason: str = "disconnected") -> None:
        """End the address now: it is `closed`, calls in flight fail; `close` waits until nothing is left."""
        if self.state == "closed":
            return
        link, self.link = self.link, None
        channel = self._channel
        self._become("closed")
        if channel is not None:
            channel.fail_pending(errors.ConnectionLost(f"the connection was closed ({reason})", reason=reason))
        if self._attempt is not None:
            self._attempt.cancel()
        if link is not None:
            self._hold(link.close())

    async def close(self) -> None:
        """Retire, and wait until the link is closed and its process is gone; bounded in time."""
        self.retire()
        work: set[asyncio.Task[None]] = {*self._closing}
        if self._attempt is not None:
            work.add(self._attempt)
        if work:
            await asyncio.wait(work, timeout=_CLOSE_SECONDS)

    def _hold(self, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        """Run work that `close` waits for."""
        task = self._loop.create_task(work)
        self._closing.add(task)
        task.add_done_callback(self._closing.discard)
        return task


class _Upcalls:
    """What a channel tells its connection."""

    def __init__(self, connection: Connection, link: Link) -> None:
        self._connection = connection
        self._link = link

    def server_request(self, method: str, params: msgspec.Raw, call: Call | None) -> Awaitable[bytes]:
        return self._connection.serve(method, params, call)

    def server_notification(self, method: str, params: msgspec.Raw, call: Call | None) -> None:
        del params, call
        logger.debug("a notification of the server: %s", method[:100], extra=self._connection.label)

    def lost(self, error: errors.SidecarError) -> None:
        self._connection.lost(self._link, error)


async def _close(channel: Channel | None, session: Session | None) -> None:
    if session is not None:
        await session.close()
    if channel is not None:
        await channel.aclose()


async def refuse_request(method: str) -> bytes:
    """Answer a server that asks for what the host did not promise."""
    raise ServerAnswer(METHOD_NOT_FOUND, f"Method not found: {method[:100]}")
