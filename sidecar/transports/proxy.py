"""Requests through a proxy: on httpcore2, the engine's own HTTP layer, over our streams."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import httpcore2

from sidecar import errors
from sidecar.transports.http1 import KEEP_SECONDS
from sidecar.transports.net import SENDING, Backend, Sending

if TYPE_CHECKING:
    import ssl
    from collections.abc import AsyncGenerator, AsyncIterator

    from sidecar.auth.egress import Origin
    from sidecar.transports.channel import Track
    from sidecar.transports.http1 import Fields

_BODY_SLICE: Final = 1 << 18
_STALE_TRIES: Final = 30


class _Body:
    """A request's body that notes when it leaves: until then the peer cannot have run anything."""

    def __init__(self, data: bytes, track: Track) -> None:
        self._data = data
        self._track = track

    async def __aiter__(self) -> AsyncIterator[bytes]:
        self._track.phase = "write"
        self._track.delivered = "maybe"
        for start in range(0, len(self._data), _BODY_SLICE):
            yield self._data[start : start + _BODY_SLICE]
        self._track.phase = "wait"


class Proxied:
    """A response that came through a proxy; has what `http1.Response` has."""

    def __init__(self, response: httpcore2.Response) -> None:
        """Take the library's."""
        self.status = response.status
        self.headers: Fields = response.headers
        self._response = response

    def whole(self) -> bytes | None:
        """Return None: the library does not tell."""
        return None

    def aiter_stream(self) -> AsyncGenerator[bytes]:
        """Yield the body as it comes."""
        return self._response.aiter_stream()

    async def aclose(self) -> None:
        """Give the connection back, or close it where the body was not read to its end."""
        await self._response.aclose()


class ProxyPool:
    """The connections of one server through its proxy."""

    def __init__(self, proxy: str, context: ssl.SSLContext | None, backend: Backend) -> None:
        """Connect to `proxy` with `backend`; `context` is for the server behind it."""
        self._pool = httpcore2.AsyncConnectionPool(
            ssl_context=context,
            proxy=httpcore2.Proxy(proxy),
            max_connections=None,
            max_keepalive_connections=20,
            keepalive_expiry=KEEP_SECONDS,
            network_backend=backend,
        )

    async def exchange(
        self, origin: Origin, method: str, target: bytes, fields: Fields, body: bytes, track: Track
    ) -> Proxied:
        """Send a request and return its response, the body unread. Raises what the library raises."""
        url = httpcore2.URL(scheme=origin.scheme.encode(), host=origin.host.encode(), port=origin.port, target=target)
        request = httpcore2.Request(method=method, url=url, headers=fields, content=_Body(body, track))
        for _ in range(_STALE_TRIES):
            sending = Sending()
            token = SENDING.set(sending)
            try:
                return Proxied(await self._pool.handle_async_request(request))
            except Exception:
                if not sending.stale:
                    raise
            finally:
                SENDING.reset(token)
            # The proxy closed this connection while it was idle, and not a byte of the request was written.
        reason = "the proxy closes its connections before they can be used"
        raise errors.ConnectionLost(reason, reason=reason, delivered="no")

    async def aclose(self) -> None:
        """Close every connection."""
        await self._pool.aclose()
