"""One actor for each address: it alone opens and closes the link to its server and writes its state.

Calls run beside it in their own tasks. A call to an idle address opens the link; a link that is lost fails what is in
flight, and comes back by itself with a back-off (`recovery`). What the host has set (`Desired`) outlives every link.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from typing import TYPE_CHECKING, Any, Final

from sidecar import errors
from sidecar.link import Link
from sidecar.opening import Opening, close_parts, reason_of
from sidecar.serverinfo import server_info
from sidecar.transports.faults import copy_error

if TYPE_CHECKING:
    from collections.abc import Awaitable, Iterator

    import msgspec

    from sidecar.config import ServerConfig
    from sidecar.request import Outcome, Request
    from sidecar.transports.channel import Call

__all__ = ["Connection", "Link"]

logger: Final = logging.getLogger(__name__)

RECYCLE_SECONDS: Final = 5.0
"""How long abandoned work may take to end before its connection is recycled."""
_CLOSE_SECONDS: Final = 6.0
_LEFT_SECONDS: Final = 60.0
"""How long calls on a link that was replaced may go on."""


class Connection(Opening):
    """The connection of one address."""

    def info(self) -> dict[str, Any]:
        """Return the `ServerInfo`."""
        return server_info(self)

    @property
    def _me(self) -> Connection:
        return self

    def _upcalls(self, link: Link) -> _Upcalls:
        return _Upcalls(self, link)

    def _ready(self, link: Link) -> None:
        super()._ready(link)
        self.touch()
        self._watch_idle()

    # -- for those who wait -----------------------------------------------------------------------------------

    async def outcome(self, request: Request, *, ready: bool = False) -> None:
        """Wait for the running attempt; with `ready` also for a person who logs in. Raises what it failed with."""
        attempt = self._attempt
        while self.state == "connecting" or (ready and self.state == "authorizing"):
            request.phase = "authorize" if self.state == "authorizing" else "connect"
            await self._change()
        while self.state == "retrying" and attempt is not None and self._attempt is attempt:
            await self._change()
        if self.link is None and self.state != "authorizing":
            error = self.last_error
            if error is not None:
                raise copy_error(error, error.delivered).at(self.name, self.scope)
            raise errors.ConnectionLost("disconnected", reason="disconnected")

    async def acquire(self, request: Request) -> Link:
        """Return the live link, opening it where that is needed, inside the request's deadline."""
        while self.link is None or self.state != "ready":
            request.phase = "connect"
            if self.state == "closed":
                raise errors.ConnectionLost("disconnected", reason="disconnected")
            if self.state == "authorizing":
                raise errors.AuthRequired(
                    "a person must log in first", authorization=self.authorization, delivered="no"
                )
            if self.state == "failed":
                error = self.last_error
                assert error is not None
                raise copy_error(error, "no")
            if self.state == "idle":
                self.start()
            await self._change()
        self.touch()
        return self.link

    def touch(self) -> None:
        """Note a use."""
        self._used = self._loop.time()
        self._services.used(self)

    def finished(self, error: errors.SidecarError | None, *, trying: bool = False) -> None:
        """Note how a call ended: what it tells of the server, and to the circuit."""
        if error is None:
            self.last_success = time.time()
            self.reachable = self.auth_ok = True
            self._backoff.answered()
        else:
            self._note(error)
        self._used = self._loop.time()
        self.circuit.record(error.code if error is not None else None, trying=trying)

    def unreachable(self, link: Link, error: errors.ConnectFailed) -> None:
        """Note that a call found nobody there: unless others still use the link, it is lost."""
        if self.link is link and not link.channel.pending:
            self.lost(link, error)

    # -- logins -----------------------------------------------------------------------------------------------

    def needs_login(self, error: errors.AuthRequired) -> None:
        """Wait for a person: the grant is gone. Calls in flight may still end."""
        if self.state == "closed":
            return
        self._leave()
        self.last_error = reason_of(error).at(self.name, self.scope)
        self.auth_ok = False
        self._cancel_timers()
        self.authorization = error.extra.get("authorization")
        self._become("authorizing")

    def authorized(self) -> None:
        """Go on after a login."""
        if self.state in {"authorizing", "failed", "idle"}:
            try:
                self._backoff.reset()
                if self._attempt is None:
                    self._begin()
                self._become("connecting")
            except errors.QuotaExceeded as error:
                self._failed(error)

    def fail(self, error: errors.SidecarError) -> None:
        """End in `failed`: nothing but the host can mend it."""
        if self.state == "closed":
            return
        self._leave()
        self._note(error)
        self._cancel_timers()
        self.last_error = error.at(self.name, self.scope)
        self._become("failed")

    def login_failed(self, error: errors.SidecarError) -> None:
        """End the wait for a person."""
        if self.state == "authorizing":
            self.fail(error)

    def reset(self) -> None:
        """Become `idle` as if new: the next use begins from the start."""
        if self.state == "closed":
            return
        if self._attempt is not None:
            self._attempt.cancel()
            self._attempt = None
        self._leave(at_once=True)
        self._cancel_timers()
        self.last_error = None
        self._become("idle")

    # -- serving ----------------------------------------------------------------------------------------------

    def serve(self, method: str, params: msgspec.Raw, call: Call | None) -> Awaitable[bytes]:
        """Answer a request of the server."""
        return self._services.serve(self, method, params, call)

    def notified(self, method: str, params: msgspec.Raw, call: Call | None) -> None:
        """Take a notification of the server."""
        self._services.notified(self, method, params, call)

    def missed(self) -> None:
        """Note that notifications of the server may be missing."""
        self._services.missed(self)

    @contextlib.contextmanager
    def hold(self, kind: str) -> Iterator[None]:
        """Keep the connection open while something lives on it: a subscription, a task, a reverse request."""
        self.keep(kind)
        try:
            yield
        finally:
            self.let_go(kind)

    def keep(self, kind: str) -> None:
        """Begin a hold that ends with `let_go`."""
        self.holds[kind] = self.holds.get(kind, 0) + 1

    def let_go(self, kind: str) -> None:
        """End a hold."""
        self.holds[kind] -= 1
        if not self.holds[kind]:
            del self.holds[kind]
        self._used = self._loop.time()

    # -- losing and closing -----------------------------------------------------------------------------------

    def lost(self, link: Link, error: errors.SidecarError) -> None:
        """Note that a link has ended by itself; it comes back after a pause."""
        if self.link is not link:
            return
        self.link = None
        self._channel = None
        self._note(error)
        self.last_error = copy_error(error, "no").at(self.name, self.scope)
        logger.info("the connection was lost: %s", error.message, extra=self.label)
        self._hold(link.close())
        self._retry_later()

    def drop(self, link: Link, error: errors.SidecarError) -> None:
        """Give up a link that is of no use any more; what is in flight on it fails with `error`."""
        if self.link is link:
            link.channel.fail(error)

    def renew(self, link: Link) -> None:
        """Replace a link whose session the server no longer knows; what is in flight on it may still end."""
        if self.link is link:
            self._leave()
            self._cancel_timers()
            try:
                self._begin()
                self._become("connecting")
            except errors.QuotaExceeded as error:
                self._failed(error)

    def _leave(self, *, at_once: bool = False) -> None:
        """Take the link out of use; it is closed once nothing is in flight on it."""
        link, self.link = self.link, None
        self._channel = None
        if link is not None:
            link.channel.upcalls = None
            if at_once:
                reset = errors.ConnectionLost("the session was closed", reason="disconnected")
                link.channel.fail_pending(reset)
            self._hold(_close_later(link))

    def evict(self) -> Awaitable[None]:
        """Close an unused link politely; it comes back at its next use."""
        link, self.link = self.link, None
        channel, self._channel = self._channel, None
        self._cancel_timers()
        self._become("idle")
        if link is not None:
            link.channel.upcalls = None
            return asyncio.shield(self._hold(link.close()))
        return asyncio.shield(self._hold(close_parts(channel, None)))

    def evictable(self) -> int | None:
        """Return how willingly a full budget takes this connection, 0 first; None where it may not."""
        if self.state != "ready" or self.busy or self.holds.keys() - {"subscription"}:
            return None
        return 1 if self.desired.subscriptions or self.holds else 0

    def _watch_idle(self) -> None:
        """Close the link when nobody has used it for `idleMs`."""
        if self._idle is not None:
            self._idle.cancel()
            self._idle = None
        given, link = self.config.idle_seconds, self.link
        if link is None:
            return
        if given is None and (not link.agreed.modern or self.config.transport == "stdio"):
            return  # a session at the server, or a process with a state of its own: only the host may end it
        seconds = given if given is not None else self._services.idle_seconds()
        left = self._used + seconds - self._loop.time()
        if left <= 0 and self.evictable() == 0:
            self.evict()
        else:
            self._idle = self._loop.call_later(left if left > 0 else seconds, self._watch_idle)

    def update(self, config: ServerConfig) -> None:
        """Take new limits, times, policy and credentials, from the next request on."""
        self.config = config
        self.gate.change(config.max_in_flight, config.rate, config.burst)
        if self._channel is not None:
            self._channel.max_result = config.max_result
            self._channel.configure(config.headers)
        if self.state == "ready":
            self._watch_idle()

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
        self._cancel_timers()
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


class _Upcalls:
    """What a channel tells its connection."""

    def __init__(self, connection: Connection, link: Link) -> None:
        self._connection = connection
        self._link = link

    def server_request(self, method: str, params: msgspec.Raw, call: Call | None) -> Awaitable[bytes]:
        return self._connection.serve(method, params, call)

    def server_notification(self, method: str, params: msgspec.Raw, call: Call | None) -> None:
        self._connection.notified(method, params, call)

    def lost(self, error: errors.SidecarError) -> None:
        self._connection.lost(self._link, error)

    def expired(self) -> None:
        self._connection.renew(self._link)

    def gap(self) -> None:
        self._connection.missed()


async def _close_later(link: Link) -> None:
    """Close a link that nobody takes any more when its calls have ended."""
    pending = [call.future for call in link.channel.pending.values()]
    try:
        if pending:
            await asyncio.wait(pending, timeout=_LEFT_SECONDS)
    finally:
        await link.close()
