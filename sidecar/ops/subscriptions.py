"""What the host wants to be told of: `resources/subscribe` of both eras, and the changes of lists.

The older eras have a request for each resource, and tell changes of lists unasked. The modern one has a stream
(`subscriptions/listen`) with a filter; the one stream of a link is opened anew when the filter changes, and when it
dies. Everything is brought to a new link before anybody sees that it is ready.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import random
from typing import TYPE_CHECKING, Any, Final
from weakref import WeakKeyDictionary, ref

import msgspec

from sidecar import errors, frames
from sidecar.config import invalid
from sidecar.ops.payload import build
from sidecar.ops.send import send, stamp
from sidecar.transports.channel import Steps

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from sidecar.connection import Connection, Link
    from sidecar.transports.channel import Call
    from sidecar.transports.faults import Payload

    Missed = Callable[[Connection, Link], None]

logger: Final = logging.getLogger(__name__)

LISTEN: Final = "subscriptions/listen"
ACKNOWLEDGED: Final = "notifications/subscriptions/acknowledged"
_LISTENING: Final = "listening"
SUBSCRIPTION_ID: Final = "io.modelcontextprotocol/subscriptionId"
_KINDS: Final = {"tools": "toolsListChanged", "prompts": "promptsListChanged", "resources": "resourcesListChanged"}
_ACK_SECONDS: Final = 20.0
_AGAIN: Final = 0.5
_AGAIN_MAX: Final = 60.0
_LIVED: Final = 30.0
"""A stream that lived so long has earned a short pause."""


class Listening:
    """The one stream of notifications of a modern link."""

    def __init__(self, connection: Connection, link: Link, missed: Missed) -> None:
        """Listen on `link`; nothing is sent yet. `missed` is told where something may have been missed."""
        self.honored: dict[str, Any] = {}
        """What the server agreed to tell."""
        self.tasks: set[str] = set()
        """Background tasks whose status is wanted."""
        self._connection = connection
        self._link = link
        self._missed = missed
        self._streams: dict[int, _Stream] = {}
        self._current: _Stream | None = None
        self._lock = asyncio.Lock()
        self._refused = False

    def wanted(self) -> dict[str, Any]:
        """Return the filter: what the server offers to tell, and what the host has subscribed to."""
        offered = self._link.agreed.capabilities
        offered = offered if isinstance(offered, dict) else {}
        found: dict[str, Any] = {}
        for kind, name in _KINDS.items():
            part = offered.get(kind)
            if isinstance(part, dict) and part.get("listChanged") is True:
                found[name] = True
        if self._connection.desired.subscriptions:
            found["resourceSubscriptions"] = list(self._connection.desired.subscriptions)
        if self.tasks:
            found["taskIds"] = sorted(self.tasks)
        return found

    async def refresh(self, pause: float = _AGAIN / 2) -> None:
        """Open a stream with the filter as it is now, then end the one before: no gap between them.

        Raises what the server answered instead of the acknowledgment.
        """
        async with self._lock:
            before = self._current
            wanted = self.wanted()
            if wanted:
                stream = _Stream(self, self._connection, self._link, wanted, pause)
                self._current = stream
                try:
                    async with asyncio.timeout(_ACK_SECONDS):
                        self.honored = await stream.opened()
                except BaseException as error:
                    stream.close()
                    self._current = before if before is not None and before.alive else None
                    if isinstance(error, TimeoutError):
                        raise errors.BadPeerMessage(
                            "the server did not acknowledge the subscription",
                            reason="no acknowledgment",
                            delivered="maybe",
                        ) from None
                    raise
            else:
                self._current = None
                self.honored = {}
            if before is not None:
                before.close()

    def start(self) -> None:
        """Listen unasked where the server offers changes of lists; what it says to that is nobody's failure."""
        if self.wanted():
            self._link.channel.spawn(self._keep())

    async def _keep(self) -> None:
        try:
            await self.refresh()
        except errors.SidecarError as error:
            self._refused = isinstance(error, errors.RemoteError)
            logger.debug("not listening: %s", error, extra=self._connection.label)
            if not self._refused:
                self._later(_AGAIN)

    def began(self, stream: _Stream) -> None:
        """Enter a stream whose request has an id now."""
        self._streams[stream.id] = stream

    def acknowledged(self, named: int | None, call: Call | None, honored: Any) -> None:
        """Take the acknowledgment of a stream."""
        stream = self._streams.get(call.id) if call is not None else None
        if stream is None and named is not None:
            stream = self._streams.get(named)
        if stream is not None:
            stream.acknowledge(honored if isinstance(honored, dict) else {})

    def ended(self, stream: _Stream, error: BaseException | None, lived: float) -> None:
        """Note the end of a stream; one that died is opened again, and what was missed is looked up."""
        self._streams.pop(stream.id, None)
        if stream is not self._current:
            return
        self._current = None
        if self._link.channel.error is not None or self._refused:
            return
        if isinstance(error, errors.RemoteError):
            self._refused = True
            return
        self._later(_AGAIN if lived > _LIVED else min(stream.pause * 2, _AGAIN_MAX))

    def _later(self, pause: float) -> None:
        self._link.channel.spawn(self._again(pause))

    async def _again(self, pause: float) -> None:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(pause * (1 + random.random() / 10)):  # noqa: S311 - jitter
                await self._link.channel.closed.wait()
        if self._current is not None or self._link.channel.error is not None:
            return
        try:
            await self.refresh(pause)
        except errors.SidecarError as error:
            logger.debug("not listening again: %s", error, extra=self._connection.label)
            if self._link.channel.error is None and not isinstance(error, errors.RemoteError):
                self._later(min(pause * 2, _AGAIN_MAX))
            return
        self._missed(self._connection, self._link)


class _Stream:
    """One request of `subscriptions/listen`."""

    def __init__(
        self, owner: Listening, connection: Connection, link: Link, wanted: Mapping[str, Any], pause: float
    ) -> None:
        self.id = 0
        self.pause = pause
        self._owner = owner
        self._connection = connection
        self._link = link
        self._wanted = wanted
        self._loop = asyncio.get_running_loop()
        self._acknowledged: asyncio.Future[dict[str, Any]] = self._loop.create_future()
        self._task: asyncio.Task[None] | None = None

    async def opened(self) -> dict[str, Any]:
        self._task = self._link.channel.spawn(self._run())
        return await asyncio.shield(self._acknowledged)

    def acknowledge(self, honored: dict[str, Any]) -> None:
        if not self._acknowledged.done():
            self._acknowledged.set_result(honored)

    @property
    def alive(self) -> bool:
        return self._task is not None and not self._task.done()

    def close(self) -> None:
        if self._task is not None:
            self._task.cancel()

    async def _run(self) -> None:
        began = self._loop.time()
        error: BaseException | None = None
        try:
            await self._request()
        except errors.SidecarError as caught:
            error = caught
        except asyncio.CancelledError as caught:
            error = caught
            raise
        finally:
            if not self._acknowledged.done():
                why = error if isinstance(error, errors.SidecarError) else None
                self._acknowledged.set_exception(
                    why if why is not None else errors.ConnectionLost("the stream ended", reason="event stream ended")
                )
                self._acknowledged.exception()
            self._owner.ended(self, error, self._loop.time() - began)

    async def _request(self) -> Payload:
        params = {"notifications": msgspec.Raw(msgspec.json.encode(self._wanted))}
        meta, headers = stamp(self._connection, self._link, LISTEN, params)
        channel = self._link.channel

        def numbered(number: int) -> tuple[Payload, Any]:
            self.id = number
            self._owner.began(self)
            return build(params, meta), _no_progress

        return await channel.request(LISTEN, b"", Steps(), headers=headers, on_progress=numbered, standing=True)


def _no_progress(raw: msgspec.Raw) -> None:
    del raw


class Subscriptions:
    """The subscriptions of all connections."""

    def __init__(self, missed: Missed) -> None:
        """Tell `missed` where something may have been missed."""
        self._missed = missed
        self._links: WeakKeyDictionary[Connection, ref[Link]] = WeakKeyDictionary()

    async def restore(self, connection: Connection, link: Link) -> None:
        """Bring a new link to what the host wants of every link. What the server refuses of it is logged."""
        self._links[connection] = ref(link)
        desired = connection.desired
        if link.agreed.modern:
            listening = link.parts[_LISTENING] = Listening(connection, link, self._missed)
            if desired.subscriptions:
                await self._quietly(connection, listening.refresh())
            else:
                listening.start()
            return
        if desired.log_level is not None:
            level = {"level": msgspec.Raw(desired.log_level)}
            await self._quietly(connection, send(connection, link, "logging/setLevel", level))
        for params in list(desired.subscriptions.values()):
            members = frames.members(params)
            await self._quietly(connection, send(connection, link, "resources/subscribe", members))

    async def _quietly(self, connection: Connection, work: Any) -> None:
        try:
            await work
        except (errors.RemoteError, errors.BadPeerMessage) as error:
            logger.warning("not restored on the new connection: %s", error, extra=connection.label)

    async def subscribe(self, connection: Connection, link: Link, params: dict[str, msgspec.Raw], ask: Any) -> Payload:
        """Serve `resources/subscribe`; `ask` sends the request of the older eras."""
        uri = _uri(params)
        offered = link.agreed.capabilities
        resources = offered.get("resources") if isinstance(offered, dict) else None
        if isinstance(resources, dict) and resources.get("subscribe") is not True:
            raise errors.CapabilityMissing(
                "the server does not offer subscriptions to resources", capability="resources.subscribe"
            )
        if not link.agreed.modern:
            result: Payload = await ask()
            connection.desired.subscriptions[uri] = _object(params)
            return result
        known = uri in connection.desired.subscriptions
        connection.desired.subscriptions[uri] = _object(params)
        try:
            listening = self._of(connection, link)
            await listening.refresh()
            if uri not in (listening.honored.get("resourceSubscriptions") or ()):
                raise errors.CapabilityMissing(
                    "the server does not tell of changes of this resource",
                    capability="resources.subscribe",
                    delivered="maybe",
                )
        except BaseException:
            if not known:
                connection.desired.subscriptions.pop(uri, None)
            raise
        return b"{}"

    async def unsubscribe(
        self, connection: Connection, link: Link, params: dict[str, msgspec.Raw], ask: Any
    ) -> Payload:
        """Serve `resources/unsubscribe`."""
        uri = _uri(params)
        known = connection.desired.subscriptions.pop(uri, None) is not None
        if not link.agreed.modern:
            result: Payload = await ask()
            return result
        if known:
            await self._of(connection, link).refresh()
        return b"{}"

    def watch_task(self, connection: Connection, link: Link, name: str) -> None:
        """Ask for the status of a task that the host has taken over."""
        listening = self._of(connection, link)
        listening.tasks.add(name)
        listening.start()

    def forget_task(self, connection: Connection, name: str) -> None:
        """Leave a task that is over out of the next filter."""
        listening = self._present(connection)
        if listening is not None:
            listening.tasks.discard(name)

    def _present(self, connection: Connection) -> Listening | None:
        known = self._links.get(connection)
        link = known() if known is not None else None
        return link.parts.get(_LISTENING) if link is not None else None

    def _of(self, connection: Connection, link: Link) -> Listening:
        listening: Listening | None = link.parts.get(_LISTENING)
        if listening is None:
            listening = link.parts[_LISTENING] = Listening(connection, link, self._missed)
        return listening

    def acknowledged(self, connection: Connection, params: msgspec.Raw, call: Call | None) -> None:
        """Take the acknowledgment of a stream."""
        listening = self._present(connection)
        if listening is None:
            return
        try:
            body = msgspec.json.decode(params)
            named = body.get("_meta", {}).get(SUBSCRIPTION_ID)
            honored = body.get("notifications")
        except (msgspec.DecodeError, AttributeError):
            return
        number = int(named) if isinstance(named, str) and named.isascii() and named.isdigit() else named
        listening.acknowledged(number if isinstance(number, int) else None, call, honored)


def _uri(params: Mapping[str, msgspec.Raw]) -> str:
    uri = frames.text_of(params.get("uri", _EMPTY))
    if uri is None:
        raise invalid("/uri", "must be a string")
    return uri


def _object(params: Mapping[str, msgspec.Raw]) -> msgspec.Raw:
    return msgspec.Raw(build(params, {}))


_EMPTY: Final = msgspec.Raw(b"{}")
