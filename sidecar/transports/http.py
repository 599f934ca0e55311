"""The Streamable HTTP transport, both eras: each request lives and fails on its own.

Replaces the engine's transport, where one failing POST ends the whole session. Legacy sessions carry their id, their
standalone event stream and resumption; modern requests stand alone.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections import deque
from typing import TYPE_CHECKING, Any, Final

import msgspec

from sidecar import errors, frames
from sidecar.transports.channel import Call, Channel, Steps
from sidecar.transports.client import HTTPClient, Oversize, Reply, status_error
from sidecar.transports.events import Event, EventParser
from sidecar.transports.faults import Payload, bad_peer, remote_error, result_too_large
from sidecar.transports.place import RETRY_CEILING, RETRY_DEFAULT, Place, between

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Mapping

logger: Final = logging.getLogger(__name__)

ACCEPT: Final = "application/json, text/event-stream"
SESSION: Final = "mcp-session-id"
VERSION: Final = "mcp-protocol-version"
_RESUMES_WITHOUT_NEWS: Final = 5
_ONEWAY_SECONDS: Final = 30.0
_DELETE_SECONDS: Final = 2.0
_LARGE: Final = 1 << 20
_END_SECONDS: Final = 1.0
_END_EVENTS: Final = 100
_ERROR_SECONDS: Final = 5.0
_OUTBOX_MAX: Final = 1000
_POSTS_MAX: Final = 8
_GONE_TIMES: Final = 3
_ERROR_BODY: Final = 1 << 20
_OWN_STATUS: Final = frozenset({401, 403, 429})
_NOT_NOW: Final = frozenset({408, 425, 429})
"""Statuses below 500 after which a stream is asked for again."""


class SessionGone(errors.SessionExpired):
    """The server no longer knows the session: the request was rejected, not run."""

    code = errors.SessionExpired.code


class HTTPChannel(Channel):
    """A channel over Streamable HTTP."""

    def __init__(
        self, client: HTTPClient, headers: Mapping[str, str], max_result: int, label: Mapping[str, Any]
    ) -> None:
        """Send `headers` with every request."""
        super().__init__(max_result, label)
        self.headers = {name.lower(): value for name, value in headers.items()}
        self.session_id: str | None = None
        self.protocol_version: str | None = None
        self._client = client
        self._running = asyncio.Event()
        self._running.set()
        self._stream: asyncio.Task[None] | None = None
        self._outbox: deque[bytes] = deque()
        self._posting = 0

    @property
    def connect_seconds(self) -> float:
        """Time that its connections took to be made."""
        return self._client.connect_seconds

    def configure(self, headers: Mapping[str, str]) -> None:
        """Send other headers from the next request on."""
        self.headers = {name.lower(): value for name, value in headers.items()}

    def pause(self, paused: bool) -> None:
        """Stop or go on reading event streams."""
        if paused:
            self._running.clear()
        else:
            self._running.set()

    # -- requests ---------------------------------------------------------------------------------------------

    def _headers(self, extra: Mapping[str, str] | None) -> dict[str, str]:
        """Merge in rising order: the configured, the call's, the protocol's own."""
        headers = dict(self.headers)
        if extra:
            headers.update((name.lower(), value) for name, value in extra.items())
        headers["accept"] = ACCEPT
        headers["accept-encoding"] = "gzip, deflate"
        headers["content-type"] = "application/json"
        if self.protocol_version is not None:
            headers[VERSION] = self.protocol_version
        if self.session_id is not None:
            headers[SESSION] = self.session_id
        return headers

    async def _perform(self, call: Call, message: bytes, headers: Mapping[str, str] | None) -> Payload:
        session = self.session_id
        reply = await self._client.send("POST", self._headers(headers), message, call.track)
        try:
            return await self._take_reply(call, reply, session)
        except errors.SidecarError:
            raise
        except Oversize as error:
            raise result_too_large(error.size, self.max_result) from None
        except Exception as error:
            raise self._client.broken(error, call.track.delivered) from None
        finally:
            if not reply.released:
                await reply.aclose()

    async def _take_reply(self, call: Call, reply: Reply, session: str | None) -> Payload:
        if reply.status >= 400:
            raise await self._status(call, reply, session)
        if reply.status in {202, 204}:
            raise bad_peer(f"HTTP {reply.status} to a request", "maybe")
        if call.method == "initialize" and (given := reply.headers.get(SESSION)):
            self.session_id = given
        if reply.media_type == "application/json":
            if not self._running.is_set():
                await self._running.wait()
            pace = self.share.pace()
            body = await reply.body(self.max_result, pace)
            if len(body) > _LARGE:
                await asyncio.sleep(0)  # what came in and what it says are two turns of the loop
                await pace.step()
            began = time.perf_counter()
            self.receive(body, own=call)
            self.share.spend(began)
            if not call.future.done():
                raise bad_peer("the body is no answer", "maybe")
            return await call.future
        if reply.media_type == "text/event-stream":
            return await self._take_stream(call, reply)
        text = f"unexpected content type {reply.media_type[:60]!r}"
        raise errors.HTTPStatus(text, httpStatus=reply.status, delivered=call.track.delivered)

    async def _status(self, call: Call, reply: Reply, session: str | None) -> errors.SidecarError:
        if reply.status == 404 and session is not None:
            return SessionGone("the server no longer knows the session", delivered="no")
        if reply.status not in _OWN_STATUS and reply.media_type == "application/json":
            try:
                async with asyncio.timeout(_ERROR_SECONDS):
                    envelope = frames.decode(await reply.body(_ERROR_BODY))
            except Exception:  # the status says enough
                return status_error(reply)
            if bytes(envelope.id) == b"%d" % call.id and envelope.error is not frames.ABSENT:
                return remote_error(envelope.error)
        return status_error(reply)

    # -- event streams ----------------------------------------------------------------------------------------

    async def _take_stream(self, call: Call, reply: Reply) -> Payload:
        """Read the response stream to the answer, resuming it where the server gave event ids (legacy era)."""
        place = Place()
        current: Reply | None = reply
        fruitless = 0
        while True:
            place.news = False
            if current is not None:
                await self._read_stream(call, current, place)
                if call.future.done():
                    return await call.future
            if not place.last_id or self.modern:
                raise _stream_ended("the event stream ended without a result")
            fruitless = 0 if place.news else fruitless + 1
            if fruitless > _RESUMES_WITHOUT_NEWS:
                raise _stream_ended("the event stream could not be resumed")
            await asyncio.sleep(between(place.delay))
            current = await self._resume(place.last_id)

    async def _read_stream(self, call: Call, reply: Reply, place: Place) -> None:
        """Read one stream until the answer or its end, whatever ends it."""
        events = self._events(reply)
        try:
            async for event in events:
                if not place.note(event):
                    continue
                if event.data is not None and len(event.data) > _LARGE:
                    await asyncio.sleep(0)
                self._take_event(event, call)
                if call.future.done():
                    reply.released = True
                    self.spawn(self._release(events, reply))
                    return
        except Exception as error:
            logger.debug("an event stream broke: %s", error, extra=self.label)
        finally:
            if not reply.released:
                await reply.aclose()

    async def _release(self, events: AsyncGenerator[Event], reply: Reply) -> None:
        """Read an answered stream to its end, so that its connection can be used again; not for long, not much."""
        left = _END_EVENTS
        try:
            async with asyncio.timeout(_END_SECONDS):
                async for event in events:
                    self._take_event(event, None)
                    left -= 1
                    if not left or event.oversize:
                        break
        except Exception as error:
            logger.debug("an answered event stream was not ended: %s", error, extra=self.label)
        finally:
            await reply.aclose()

    async def _resume(self, last_id: bytes) -> Reply | None:
        try:
            reply = await self._client.send("GET", self._stream_headers(last_id))
        except errors.SidecarError:
            return None
        if reply.status == 200 and reply.media_type == "text/event-stream":
            return reply
        await reply.aclose()
        if 400 <= reply.status < 500 and reply.status not in _NOT_NOW:
            raise _stream_ended("the event stream could not be resumed")
        return None

    def _stream_headers(self, last_id: bytes | None) -> dict[str, str]:
        headers = self._headers({"last-event-id": last_id.decode("utf-8", "replace")} if last_id else None)
        headers["accept"] = "text/event-stream"
        del headers["content-type"]
        return headers

    async def _events(self, reply: Reply) -> AsyncGenerator[Event]:
        parser = EventParser(self.max_result)
        pace = self.share.pace()
        async for chunk in reply.chunks(pace):
            parser.limit = self.max_result  # an update may have changed it
            for event in parser.feed(chunk):
                yield event
                await pace.step()
            if not self._running.is_set():
                await self._running.wait()

    def _take_event(self, event: Event, own: Call | None) -> None:
        if event.oversize:
            if own is not None:
                own.fail(result_too_large(event.oversize, self.max_result))
            else:
                raw_id = frames.find_id(event.head) or frames.find_id_in_tail(event.tail)
                self.too_large(event.oversize, self._call_of(raw_id) if raw_id is not None else None)
        elif event.data and event.type in {b"message", b""}:
            self.receive(event.data, own)

    async def _listen(self) -> None:
        """Hold the standalone event stream of a legacy session; never spins, never gives up silently."""
        place = Place()
        opened = False
        gone = 0
        delay = RETRY_DEFAULT
        while self.error is None:
            place.begin()
            try:
                reply = await self._client.send("GET", self._stream_headers(place.last_id))
                try:
                    status = reply.status
                    if status == 200 and reply.media_type == "text/event-stream":
                        if opened and not place.last_id and self.upcalls is not None:
                            self.upcalls.gap()
                        opened, gone = True, 0
                        async for event in self._events(reply):
                            if place.note(event):
                                self._take_event(event, None)
                    elif not opened and status < 500 and status not in _NOT_NOW:
                        logger.debug("no standalone event stream: HTTP %d", status, extra=self.label)
                        return
                    elif status == 404:
                        gone += 1
                finally:
                    await reply.aclose()
            except Exception as error:
                logger.debug("the standalone event stream ended: %s", error, extra=self.label)
            if gone >= _GONE_TIMES and self.upcalls is not None:
                # The server knows this session no more: only a new one brings its messages back.
                self.upcalls.expired()
                return
            delay = RETRY_DEFAULT if place.news else min(delay * 2, RETRY_CEILING)
            await asyncio.sleep(between(place.delay if place.asked else delay))

    # -- one-way messages -------------------------------------------------------------------------------------

    async def notify(
        self, method: str, params: Mapping[str, Any] | None, opts: Mapping[str, Any] | None = None
    ) -> None:
        """Send a notification of the engine and wait until the server has it."""
        body: dict[str, Any] = {"jsonrpc": "2.0", "method": method}
        if params:
            body["params"] = params
        await self._post(msgspec.json.encode(body), (opts or {}).get("headers"))
        if method == "notifications/initialized" and self.session_id is not None:
            self._stream = self.spawn(self._listen())

    def _send_soon(self, message: bytes) -> None:
        if self.modern or self.error is not None:
            return  # the modern era has no messages to the server but requests
        if len(self._outbox) >= _OUTBOX_MAX:
            self.dropped.note("it does not take them fast enough")
            return
        self._outbox.append(message)
        if self._posting < _POSTS_MAX:
            self._posting += 1
            self.spawn(self._post_all())

    async def _post_all(self) -> None:
        try:
            while self._outbox:
                await self._post_quietly(self._outbox.popleft())
        finally:
            self._posting -= 1

    async def _post_quietly(self, message: bytes) -> None:
        try:
            async with asyncio.timeout(_ONEWAY_SECONDS):
                await self._post(message)
        except (errors.SidecarError, TimeoutError) as error:
            self.dropped.note(str(error))

    async def _post(self, message: bytes, headers: Mapping[str, str] | None = None) -> None:
        reply = await self._client.send("POST", self._headers(headers), message, Steps())
        try:
            if reply.status >= 400:
                raise status_error(reply)
        finally:
            await reply.aclose()

    async def aclose(self) -> None:
        """End the session at the server (legacy) and close every connection; bounded, never raises."""
        streams = [self._stream] if self._stream is not None else []
        for task in streams:
            task.cancel()
        try:
            if self.session_id is not None and self.error is None:
                async with asyncio.timeout(_DELETE_SECONDS):
                    reply = await self._client.send("DELETE", self._headers(None))
                    await reply.aclose()
        except (errors.SidecarError, TimeoutError) as error:
            logger.debug("the session was not ended at the server: %s", error, extra=self.label)
        finally:
            self.fail(errors.ConnectionLost("the connection was closed", reason="closed"))
            for task in list(self._background):
                task.cancel()
            await self._client.aclose()


def _stream_ended(text: str) -> errors.ConnectionLost:
    return errors.ConnectionLost(text, reason="event stream ended", delivered="maybe")
