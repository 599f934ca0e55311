"""The HTTP client of the MCP transports: one pool a connection, every failure costs only its own request.

On httpcore2, the engine's own HTTP layer, without the layers above it: status, headers and the bytes of the body
reach the transport; redirects stay on the origin; bodies are decompressed under a cap.
"""

from __future__ import annotations

import datetime
import email.utils
import zlib
from typing import TYPE_CHECKING, Final
from urllib.parse import quote

import httpcore2

from sidecar import errors
from sidecar.auth.egress import BadURL, EgressPolicy, Origin, parse_url
from sidecar.transports.channel import Steps, Track
from sidecar.transports.inflate import Inflater
from sidecar.transports.net import SENDING, Backend, Sending, own_context, shared_context

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, AsyncIterator, Mapping

    from sidecar.auth.seat import Credentials
    from sidecar.transports.fair import Pace

_BODY_SLICE: Final = 1 << 18
_AFTER_BODY: Final = 1 << 20
_MAX_REDIRECTS: Final = 5
_STALE_TRIES: Final = 30
_KEEPALIVE_SECONDS: Final = 60.0
_MAX_RETRY_AFTER_MS: Final = 24 * 3600 * 1000
_KEEPS_METHOD: Final = frozenset({307, 308})
_REDIRECTS: Final = frozenset({301, 302, 303, 307, 308})
_TARGET_SAFE: Final = "/:?#[]@!$&'()*+,;=-._~%"
_FIRST_SERVER_ERROR: Final = 500


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


class Reply:
    """A response whose body has not been read yet."""

    def __init__(self, response: httpcore2.Response, method: str) -> None:
        """Index the headers by lower-case name; of repeated ones the first counts."""
        self.status = response.status
        self.released = False
        """True once somebody else reads the body to its end and closes it."""
        self.method = method
        self.headers: dict[str, str] = {}
        for name, value in response.headers:
            self.headers.setdefault(name.decode("latin-1").lower(), value.decode("latin-1"))
        self._response = response

    def all(self, name: str) -> list[str]:
        """Return every value of a header that may come more than once."""
        wanted = name.encode()
        return [value.decode("latin-1") for key, value in self._response.headers if key.lower() == wanted]

    @property
    def media_type(self) -> str:
        """The content type without parameters, lower case."""
        return self.headers.get("content-type", "").partition(";")[0].strip().lower()

    def retry_after_ms(self) -> int | None:
        """Return Retry-After (seconds or a date) in milliseconds, at most 24 h; None where absent or odd."""
        value = self.headers.get("retry-after", "").strip()
        if value.isascii() and value.isdigit():
            wait = int(value[:12]) * 1000
        elif value:
            try:
                when = email.utils.parsedate_to_datetime(value)
            except ValueError:
                return None
            if when.tzinfo is None:
                when = when.replace(tzinfo=datetime.UTC)
            wait = int((when - datetime.datetime.now(datetime.UTC)).total_seconds() * 1000)
        else:
            return None
        return min(max(wait, 0), _MAX_RETRY_AFTER_MS)

    async def chunks(self, pace: Pace | None = None) -> AsyncGenerator[bytes]:
        """Yield the body, decompressed in bounded slices, at `pace`.

        Raises ConnectionLost for what is broken below JSON.
        """
        async for chunk in self._inflated():
            yield chunk
            if pace is not None:
                await pace.step()

    async def _inflated(self) -> AsyncGenerator[bytes]:
        encoding = self.headers.get("content-encoding", "identity").strip().lower()
        stream = self._response.aiter_stream()
        if encoding in {"", "identity"}:
            async for chunk in stream:
                yield chunk
            return
        if encoding not in {"gzip", "x-gzip", "deflate"}:
            raise _lost(f"unknown content encoding {encoding[:20]!r}", "maybe")
        inflater = Inflater()
        try:
            async for chunk in stream:
                for part in inflater.feed(chunk):
                    yield part
                if inflater.after > _AFTER_BODY:
                    break
            if not inflater.ended():
                raise _lost("the compressed body ends too early", "maybe")
        except zlib.error:
            raise _lost("the compressed body is broken", "maybe") from None

    async def body(self, limit: int, pace: Pace | None = None) -> bytes:
        """Return the whole body, read at `pace`. Raises Oversize past `limit` bytes."""
        parts: list[bytes] = []
        size = 0
        async for part in self.chunks(pace):
            size += len(part)
            if size > limit:
                raise Oversize(size)
            parts.append(part)
        return parts[0] if len(parts) == 1 else b"".join(parts)

    async def aclose(self) -> None:
        """Give the connection back, or close it where the body was not read to its end."""
        await self._response.aclose()


class Oversize(Exception):
    """A body passed its limit."""

    def __init__(self, size: int) -> None:
        """Keep how many bytes were seen."""
        super().__init__(str(size))
        self.size = size


def _lost(reason: str, delivered: str) -> errors.ConnectionLost:
    return errors.ConnectionLost(reason, reason=reason, delivered=delivered)


class HTTPClient:
    """Requests to the origin of one MCP server."""

    def __init__(
        self,
        url: str,
        policy: EgressPolicy,
        *,
        tls: Mapping[str, object] | None = None,
        proxy: str | None = None,
        credentials: Credentials | None = None,
        from_host: bool = True,
        follow: bool = True,
    ) -> None:
        """Prepare a client. Raises AuthPolicy, TLSFailed, and BadURL for a URL that the caller has not checked.

        `from_host` says that the host itself gave the URL; without `follow` a redirect is a reply like any other.
        """
        self.origin, self.target = parse_url(url)
        self._policy = policy
        self._credentials = credentials
        self._from_host = from_host
        self._follow_redirects = follow
        policy.check_origin(self.origin, from_host=from_host)
        context = None
        if tls:
            context = own_context(
                _text(tls.get("caFile")),
                _text(tls.get("certFile")),
                _text(tls.get("keyFile")),
                verify=tls.get("verify") is not False,
            )
        elif self.origin.scheme == "https":
            context = shared_context()
        self._pool = httpcore2.AsyncConnectionPool(
            ssl_context=context,
            proxy=httpcore2.Proxy(proxy) if proxy is not None else None,
            max_connections=None,
            max_keepalive_connections=20,
            keepalive_expiry=_KEEPALIVE_SECONDS,
            network_backend=Backend(self._check_address),
        )
        self._proxied = proxy is not None

    def _check_address(self, host: str, address: object) -> None:
        if not self._proxied:
            self._policy.check_address(host, address, from_host=self._from_host)  # type: ignore[arg-type]

    async def send(
        self,
        method: str,
        headers: Mapping[str, str],
        body: bytes = b"",
        track: Track | None = None,
        target: str | None = None,
    ) -> Reply:
        """Send a request and return its response, body unread; redirects are followed on the origin alone.

        Credentials are put on it, and asked again when the server refuses them. Raises ConnectFailed, TLSFailed,
        ConnectionLost, RedirectRefused, AuthPolicy and what credentials raise, each with `delivered`.
        """
        track = track if track is not None else Steps()
        target = self.target if target is None else target
        if self._credentials is None:
            return await self._send_along(method, target, headers, body, track)
        return await self._send_with(self._credentials, method, target, headers, body, track)

    async def _send_with(
        self,
        credentials: Credentials,
        method: str,
        target: str,
        headers: Mapping[str, str],
        body: bytes,
        track: Track,
    ) -> Reply:
        url = f"{self.origin}{target}"
        replays = 0
        while True:
            track.phase = "authorize"
            sent = await credentials.headers(method, url)
            reply = await self._send_along(method, target, {**headers, **sent}, body, track)
            if reply.status not in {401, 403}:
                if reply.status < 300:
                    credentials.accepted(sent)
                return reply
            track.delivered, track.phase = "no", "authorize"  # refused before anything was run
            try:
                again = await credentials.rejected(reply, url, sent, replays)
            except BaseException:
                await reply.aclose()
                raise
            if not again:
                return reply
            await reply.aclose()
            replays += 1

    async def _send_along(
        self, method: str, target: str, headers: Mapping[str, str], body: bytes, track: Track
    ) -> Reply:
        origin = self.origin
        for _ in range(_MAX_REDIRECTS + 1):
            reply = await self._send_once(origin, method, target, headers, body, track)
            if reply.status not in _REDIRECTS or not self._follow_redirects:
                return reply
            location = reply.headers.get("location")
            await reply.aclose()
            origin, target = self._follow(origin, target, location, reply)
            track.delivered = "no"
        raise errors.RedirectRefused("the server redirects in a loop", origin=str(origin), delivered="no")

    async def _send_once(
        self, origin: Origin, method: str, target: str, headers: Mapping[str, str], body: bytes, track: Track
    ) -> Reply:
        track.phase = "connect"
        host = str(origin).partition("://")[2]
        wire = [(b"Host", host.encode())]
        wire += [(name.encode("latin-1"), value.encode("utf-8")) for name, value in headers.items()]
        if body or method == "POST":
            wire.append((b"Content-Length", b"%d" % len(body)))
        request = httpcore2.Request(
            method=method,
            url=httpcore2.URL(
                scheme=origin.scheme.encode(),
                host=origin.host.encode(),
                port=origin.port,
                target=quote(target, safe=_TARGET_SAFE).encode(),
            ),
            headers=wire,
            content=_Body(body, track),
        )
        for _ in range(_STALE_TRIES):
            sending = Sending()
            token = SENDING.set(sending)
            try:
                return Reply(await self._pool.handle_async_request(request), method)
            except errors.SidecarError:
                raise
            except Exception as error:
                if not sending.stale:
                    raise self.broken(error, track.delivered) from None
            finally:
                SENDING.reset(token)
            # The server closed this connection while it was idle, and not a byte of the request was written.
        raise _lost("the server closes its connections before they can be used", "no")

    def _follow(self, origin: Origin, target: str, location: str | None, reply: Reply) -> tuple[Origin, str]:
        refused = None
        if location is None:
            refused = str(origin)
        elif location.startswith("/") and not location.startswith("//"):
            wanted = origin, location.partition("#")[0]
        else:
            try:
                wanted = parse_url(location.partition("#")[0])
            except BadURL:
                refused = "unknown"
            else:
                upgrade = Origin("https", origin.host, 443)
                if wanted[0] != origin and not (origin == Origin("http", origin.host, 80) and wanted[0] == upgrade):
                    refused = str(wanted[0])
        if refused is None and reply.status not in _KEEPS_METHOD and reply.method != "GET":
            refused = str(wanted[0])
        if refused is not None:
            del target
            raise errors.RedirectRefused(
                "the server redirects to where its requests may not be sent on", origin=refused, delivered="no"
            )
        return wanted

    def broken(self, error: Exception, delivered: str) -> errors.SidecarError:
        """Return the failure that an exception of the HTTP layer means."""
        if isinstance(error, errors.SidecarError):
            return error
        if isinstance(error, httpcore2.ProxyError):
            return errors.ConnectFailed("the proxy refused the connection", phase="proxy", delivered="no")
        if isinstance(error, httpcore2.ConnectError | httpcore2.ConnectTimeout):
            return errors.ConnectFailed("cannot connect", phase="tcp", delivered="no")
        if isinstance(error, httpcore2.LocalProtocolError):
            return errors.ConnectFailed("the request cannot be written as HTTP", phase="tcp", delivered="no")
        reason = "the server broke HTTP" if isinstance(error, httpcore2.RemoteProtocolError) else "the connection broke"
        if "without sending a response" in str(error):
            reason = "the server closed the connection without a response"
        return errors.ConnectionLost(reason, reason=reason, delivered=delivered)

    async def aclose(self) -> None:
        """Close every connection of the pool."""
        await self._pool.aclose()


def _text(value: object) -> str | None:
    return value if isinstance(value, str) else None


def status_error(reply: Reply) -> errors.SidecarError:
    """Return the failure that a status of 400 or more means (wire section 6)."""
    status = reply.status
    delivered = "no" if status in {401, 403, 404, 405, 429} else "maybe"
    if status in {401, 403}:
        what = "asks for credentials" if status == 401 else "refuses"
        return errors.AuthDenied(f"the server {what} (HTTP {status})", httpStatus=status, delivered=delivered)
    if status == 429:
        return errors.RateLimited(
            "the server limits the rate (HTTP 429)",
            httpStatus=status,
            delivered=delivered,
            retry_after_ms=reply.retry_after_ms(),
        )
    if status >= _FIRST_SERVER_ERROR:
        return errors.Unavailable(
            f"the server is unavailable (HTTP {status})",
            httpStatus=status,
            delivered=delivered,
            retry_after_ms=reply.retry_after_ms(),
        )
    return errors.HTTPStatus(f"unexpected HTTP status {status}", httpStatus=status, delivered=delivered)
