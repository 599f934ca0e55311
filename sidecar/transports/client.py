"""The HTTP client of the MCP transports: one pool a connection, every failure costs only its own request.

Status, headers and the bytes of the body reach the transport; redirects stay on the origin; bodies are decompressed
under a cap. Requests go over `http1`, or through a proxy.
"""

from __future__ import annotations

import datetime
import email.utils
import time
import zlib
from typing import TYPE_CHECKING, Final
from urllib.parse import quote

import httpcore2

from sidecar import errors
from sidecar.auth.egress import BadURL, EgressPolicy, Origin, parse_url
from sidecar.transports.channel import Steps, Track
from sidecar.transports.http1 import BrokenHTTP, Pool, Response, UnwritableHTTP, head_of
from sidecar.transports.inflate import Inflater
from sidecar.transports.net import Backend, Stream, own_context, shared_context
from sidecar.transports.proxy import Proxied, ProxyPool

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Mapping

    from sidecar.auth.seat import Credentials
    from sidecar.transports.fair import Pace

_AFTER_BODY: Final = 1 << 20
_MAX_REDIRECTS: Final = 5
_MAX_RETRY_AFTER_MS: Final = 24 * 3600 * 1000
_KEEPS_METHOD: Final = frozenset({307, 308})
_REDIRECTS: Final = frozenset({301, 302, 303, 307, 308})
_TARGET_SAFE: Final = "/:?#[]@!$&'()*+,;=-._~%"
_TARGETS_KNOWN: Final = 16
_FIRST_SERVER_ERROR: Final = 500


class Reply:
    """A response whose body has not been read yet."""

    def __init__(self, response: Response | Proxied, method: str) -> None:
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
        whole = self._response.whole() if "content-encoding" not in self.headers else None
        if whole is not None:
            if len(whole) > limit:
                raise Oversize(len(whole))
            if pace is not None:
                await pace.step()
            return whole
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
        self._context = context
        self._backend = Backend(self._check_address)
        self._pool = Pool(self._connect)
        self._proxy = ProxyPool(proxy, context, self._backend) if proxy is not None else None
        self._quoted: dict[str, bytes] = {}
        self.connect_seconds = 0.0
        """Time spent on names, TCP and TLS of direct connections."""

    async def _connect(self, origin: Origin) -> Stream:
        begun = time.monotonic()
        stream = await self._backend.connect(origin.host, origin.port)
        if origin.scheme == "https":
            try:
                await stream.start_tls(self._context or shared_context(), origin.host)
            except BaseException:
                stream.abort()
                raise
        self.connect_seconds += time.monotonic() - begun
        return stream

    def _check_address(self, host: str, address: object) -> None:
        if self._proxy is None:
            self._policy.check_address(host, address, from_host=self._from_host)  # type: ignore[arg-type]  # net gives addresses

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
        quoted = self._quoted.get(target)
        if quoted is None:
            if len(self._quoted) >= _TARGETS_KNOWN:
                self._quoted.clear()
            quoted = self._quoted[target] = quote(target, safe=_TARGET_SAFE).encode()
        try:
            if self._proxy is not None:
                return Reply(await self._proxy.exchange(origin, method, quoted, wire, body, track), method)
            head = head_of(method, quoted, wire)
            return Reply(await self._pool.exchange(origin, method, head, body, track), method)
        except errors.SidecarError:
            raise
        except Exception as error:
            raise self.broken(error, track.delivered) from None

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
        if isinstance(error, UnwritableHTTP | httpcore2.LocalProtocolError):
            return errors.ConnectFailed("the request cannot be written as HTTP", phase="tcp", delivered="no")
        broke = isinstance(error, BrokenHTTP | httpcore2.RemoteProtocolError)
        reason = "the server broke HTTP" if broke else "the connection broke"
        if getattr(error, "silent", False) or "without sending a response" in str(error):
            reason = "the server closed the connection without a response"
        return errors.ConnectionLost(reason, reason=reason, delivered=delivered)

    async def aclose(self) -> None:
        """Close every connection of the pool."""
        self._pool.close()
        if self._proxy is not None:
            await self._proxy.aclose()


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
