"""The HTTP with SSE transport of 2024-11-05: one event stream from the server, one POST a message to it."""

from __future__ import annotations

import asyncio
import logging
from typing import TYPE_CHECKING, Any, Final

from sidecar import errors
from sidecar.auth.egress import BadURL, parse_url
from sidecar.transports.channel import Call, Steps, Track
from sidecar.transports.client import Reply, status_error
from sidecar.transports.http import HTTPChannel

if TYPE_CHECKING:
    from collections.abc import Mapping

    from sidecar.transports.events import Event
    from sidecar.transports.faults import Payload

logger: Final = logging.getLogger(__name__)


class SSEChannel(HTTPChannel):
    """A channel over the older transport; answers come on the one stream, in any order."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        """Take the arguments of HTTPChannel."""
        super().__init__(*args, **kwargs)
        self._endpoint: asyncio.Future[str] | None = None

    async def open(self) -> None:
        """Open the stream and wait for the endpoint that it names. Raises a SidecarError."""
        self._endpoint = asyncio.get_running_loop().create_future()
        headers = self._headers(None)
        headers["accept"] = "text/event-stream"
        del headers["content-type"]
        reply = await self._client.send("GET", headers)
        if reply.status >= 400:
            await reply.aclose()
            raise status_error(reply)
        if reply.media_type != "text/event-stream":
            await reply.aclose()
            text = f"unexpected content type {reply.media_type[:60]!r}: is this an SSE endpoint?"
            raise errors.HTTPStatus(text, httpStatus=reply.status)
        self._stream = self.spawn(self._read(reply))
        await self._endpoint

    async def _read(self, reply: Reply) -> None:
        error: errors.SidecarError = errors.ConnectionLost("the event stream ended", reason="event stream ended")
        try:
            async for event in self._events(reply):
                if event.type == b"endpoint":
                    self._take_endpoint(event)
                else:
                    self._take_event(event, None)
        except asyncio.CancelledError:
            raise
        except errors.SidecarError as caught:
            error = caught
        except Exception as caught:
            error = self._client.broken(caught, "maybe")
        finally:
            await reply.aclose()
        if self._endpoint is not None and not self._endpoint.done():
            self._endpoint.set_exception(error)
        self.fail(error)

    def _take_endpoint(self, event: Event) -> None:
        assert self._endpoint is not None
        if self._endpoint.done():
            return
        text = (event.data or b"").decode("utf-8", "replace").strip()
        try:
            if text.startswith("/") and not text.startswith("//"):
                target = text
            elif "://" in text:
                origin, target = parse_url(text)
                if origin != self._client.origin:
                    raise errors.RedirectRefused("the endpoint lies on another origin", origin=str(origin))
            else:
                target = self._client.target.partition("?")[0].rpartition("/")[0] + "/" + text
        except BadURL:
            self._endpoint.set_exception(errors.RedirectRefused("the endpoint is no usable URL", origin="unknown"))
        except errors.RedirectRefused as error:
            self._endpoint.set_exception(error)
        else:
            self._endpoint.set_result(target)

    async def _perform(self, call: Call, message: bytes, headers: Mapping[str, str] | None) -> Payload:
        await self._post_to(message, headers, call.track, call)
        return await call.future

    async def _post_to(
        self, message: bytes, headers: Mapping[str, str] | None, track: Track, call: Call | None = None
    ) -> None:
        assert self._endpoint is not None
        target = self._endpoint.result()
        reply = await self._client.send("POST", self._headers(headers), message, track, target)
        try:
            if reply.status >= 400:
                raise status_error(reply) if call is None else await self._status(call, reply, None)
        finally:
            await reply.aclose()

    async def _post(self, message: bytes, headers: Mapping[str, str] | None = None) -> None:
        await self._post_to(message, headers, Steps())
