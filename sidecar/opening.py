"""How a link comes: attempts, what follows on their failure, and the state that all of it shows.

The base of `Connection`, which adds how the link is used and how it ends.
"""

from __future__ import annotations

import abc
import asyncio
import logging
import time
from typing import TYPE_CHECKING, Any, Final

from sidecar import errors
from sidecar.engine import Session
from sidecar.link import Desired, Link, Services
from sidecar.recovery import PROBE_SECONDS, Backoff, Circuit, is_final, jitter
from sidecar.telemetry.logs import now_text
from sidecar.transports.faults import copy_error
from sidecar.transports.limits import Gate

if TYPE_CHECKING:
    from collections.abc import Awaitable, Coroutine

    from sidecar.config import ServerConfig
    from sidecar.connection import Connection
    from sidecar.transports.channel import Channel, Upcalls

logger: Final = logging.getLogger(__name__)

OPEN: Final = frozenset({"connecting", "ready", "retrying", "authorizing"})
"""States in which the connection holds a process or sockets, or is about to."""
_UNREACHABLE: Final = (
    errors.ConnectFailed,
    errors.TLSFailed,
    errors.SpawnFailed,
    errors.ConnectionLost,
    errors.ServerExited,
    errors.Unresponsive,
)
_NOT_LET_IN: Final = (errors.AuthRequired, errors.AuthDenied, errors.GrantRevoked, errors.InsufficientScope)


class Opening(abc.ABC):
    """The state of one address and the attempts to open its link."""

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
        self.reachable = False
        self.auth_ok = False
        self.hint: str | None = None
        self.authorization: dict[str, Any] | None = None
        self.credentials: Any = None
        """What puts tokens on requests, where auth is more than fixed headers."""
        self.extra_info: dict[str, Any] = {}
        self.desired = Desired()
        self.circuit = Circuit()
        self.gate = Gate(config.max_in_flight, config.rate, config.burst)
        self.holds: dict[str, int] = {}
        self._services = services
        self._channel: Channel | None = None
        self._attempt: asyncio.Task[None] | None = None
        self._changed: asyncio.Future[None] | None = None
        self._closing: set[asyncio.Task[None]] = set()
        self._loop = asyncio.get_running_loop()
        self._backoff = Backoff()
        self._retry: asyncio.TimerHandle | None = None
        self._idle: asyncio.TimerHandle | None = None
        self._used = self._loop.time()

    # -- state ------------------------------------------------------------------------------------------------

    @property
    def label(self) -> dict[str, Any]:
        """The address, for log lines."""
        return {"server": self.name, "scope": self.scope}

    @property
    def pid(self) -> int | None:
        """The process of a stdio server, while it runs."""
        return getattr(self._channel, "pid", None) if self.state in OPEN else None

    @property
    def busy(self) -> bool:
        """Whether calls are in flight or wait."""
        return self.gate.busy or (self.link is not None and bool(self.link.channel.pending))

    def _become(self, state: str) -> None:
        if state != self.state:
            self.state = state
            self.since = now_text()
            if state != "authorizing":
                self.authorization = None
            self._services.changed(self._me)
        waiter, self._changed = self._changed, None
        if waiter is not None and not waiter.done():
            waiter.set_result(None)

    def tell(self) -> None:
        """Tell the host that something else of the `ServerInfo` has changed."""
        self._services.changed(self._me)

    async def _change(self) -> None:
        """Wait for the next change of state, or the end of an attempt."""
        if self._changed is None:
            self._changed = self._loop.create_future()
        await asyncio.shield(self._changed)

    # -- opening ----------------------------------------------------------------------------------------------

    def start(self) -> None:
        """Begin an attempt because somebody asks, unless the link is there or one is running. Raises QuotaExceeded."""
        if self.state not in {"idle", "failed", "retrying"}:
            return
        if self.state != "retrying":
            self._backoff.reset()
        if self._attempt is None:
            self._begin()
        if self.state != "retrying":
            self._become("connecting")

    def _begin(self) -> None:
        first = self._services.admit(self._me)
        self._cancel_timers()
        self._attempt = self._loop.create_task(self._open(first))

    async def _open(self, first: list[Awaitable[None]]) -> None:
        self.attempts += 1
        phase = "connect"
        channel: Channel | None = None
        session: Session | None = None
        try:
            async with asyncio.timeout(self.config.connect_seconds):
                if first:
                    await asyncio.gather(*first)
                channel = self._services.make_channel(self._me)
                self._channel = channel
                await channel.open()
                await self._services.engine()
                capabilities = self._services.capabilities(self._me)
                session = Session(channel, self.config.protocol, self.config.client_info, capabilities)
                agreed = await session.open(legacy_only=self.config.transport == "sse")
                link = Link(channel, session, agreed)
                self._adopt(link)
                await self._services.restore(self._me, link)
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
            await self._give_up(channel, session, None)
            raise
        except Exception:
            corr = errors.new_corr()
            logger.exception("connecting failed inside the sidecar", extra={**self.label, "corr": corr})
            await self._give_up(channel, session, errors.HandshakeFailed("internal error of the sidecar"))
        else:
            self._ready(link)
        finally:
            if self._attempt is asyncio.current_task():
                self._attempt = None

    def _adopt(self, link: Link) -> None:
        """Let the channel know what was agreed on, and whom to tell."""
        link.channel.modern = link.agreed.modern
        if hasattr(link.channel, "protocol_version"):
            link.channel.protocol_version = link.agreed.version
        link.channel.upcalls = self._upcalls(link)
        link.channel.pause(self._services.pressed())

    @property
    @abc.abstractmethod
    def _me(self) -> Connection:
        """The whole connection."""

    @abc.abstractmethod
    def _upcalls(self, link: Link) -> Upcalls:
        """Return what the channel of `link` tells."""

    def _ready(self, link: Link) -> None:
        self.link = link
        self.generation += 1
        self.attempts = 0
        self.last_error = None
        self.last_success = time.time()
        self.reachable = self.auth_ok = True
        self._attempt = None
        self._backoff.ready()
        self._become("ready")

    async def _give_up(
        self, channel: Channel | None, session: Session | None, error: errors.SidecarError | None
    ) -> None:
        if self._attempt is asyncio.current_task():
            self._attempt = None
            if error is not None and self.state != "closed":
                self._failed(error)
        await asyncio.shield(self._hold(close_parts(channel, session)))
        if self._channel is channel:
            self._channel = None

    def _failed(self, error: errors.SidecarError) -> None:
        """Go on from an attempt that failed: to a person, to the next attempt, or to rest."""
        self._note(error)
        self.last_error = reason_of(error).at(self.name, self.scope)
        if isinstance(error, errors.AuthRequired):
            self.authorization = error.extra.get("authorization")
            self._become("authorizing")
        elif is_final(error):
            self._become("failed")
        elif self.generation and self.state != "failed":
            self._retry_later()
        else:
            # One that has never been ready makes one attempt; a slow probe may find it later.
            self._probe_later()

    def _retry_later(self) -> None:
        delay = self._backoff.next()
        if delay is None:
            self._probe_later()
            return
        self._cancel_timers()
        self._retry = self._loop.call_later(delay, self._try_again)
        self._become("retrying")

    def _probe_later(self) -> None:
        self._cancel_timers()
        self._retry = self._loop.call_later(jitter(PROBE_SECONDS), self._try_again)
        self._become("failed")

    def _try_again(self) -> None:
        self._retry = None
        if self._attempt is not None or self.state not in {"retrying", "failed"}:
            return
        try:
            self._begin()
        except errors.QuotaExceeded as error:
            self._failed(error)

    def _cancel_timers(self) -> None:
        for timer in (self._retry, self._idle):
            if timer is not None:
                timer.cancel()
        self._retry = self._idle = None

    def _note(self, error: errors.SidecarError) -> None:
        if isinstance(error, _UNREACHABLE):
            self.reachable = False
        elif error.delivered == "yes" or isinstance(error, errors.HTTPStatus | errors.RateLimited | errors.Unavailable):
            self.reachable = True
            self._backoff.answered()
        if isinstance(error, _NOT_LET_IN):
            self.auth_ok = False

    def _hold(self, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        """Run work that `close` waits for."""
        task = self._loop.create_task(work)
        self._closing.add(task)
        task.add_done_callback(self._closing.discard)
        return task


def reason_of(error: errors.SidecarError) -> errors.SidecarError:
    """Return what stands in `lastError`: for a login that is needed, why the former one ended, where that is known."""
    cause = error.__cause__
    return cause if isinstance(error, errors.AuthRequired) and isinstance(cause, errors.SidecarError) else error


async def close_parts(channel: Channel | None, session: Session | None) -> None:
    """Close what an attempt has made so far."""
    if session is not None:
        await session.close()
    if channel is not None:
        await channel.aclose()
