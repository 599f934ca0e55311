"""TCP and TLS under the HTTP client: resolved here, each address checked by the egress policy, then connected to.

Checking and connecting use one resolution, so a name cannot answer differently in between.
"""

from __future__ import annotations

import asyncio
import errno
import functools
import ipaddress
import select
import socket
import ssl
from collections import deque
from collections.abc import Callable, Iterable
from contextvars import ContextVar
from typing import Any, Final

import httpcore2

from sidecar import errors
from sidecar.auth.egress import Address

WriteError = httpcore2.WriteError
"""What a stream raises where nothing can be written any more."""
_ALPN: Final = ["http/1.1"]
_HIGH: Final = 1 << 18
_ATTEMPT_SECONDS: Final = 10.0

CheckAddress = Callable[[str, Address], None]


class Sending:
    """One request on its way onto a connection: whether its first byte was tried, and found the connection closed."""

    __slots__ = ("begun", "stale")

    def __init__(self) -> None:
        """Begin before the first byte."""
        self.begun = False
        self.stale = False


SENDING: Final[ContextVar[Sending | None]] = ContextVar("sending", default=None)
"""The request that the running task sends."""
_HUNG_UP: Final = getattr(select, "POLLRDHUP", 0)


class Stream(asyncio.Protocol, httpcore2.AsyncNetworkStream):
    """One TCP or TLS connection on asyncio's own transports, bounded in what it reads ahead."""

    def __init__(self) -> None:
        """Wait to be connected."""
        self._loop = asyncio.get_running_loop()
        self._transport: asyncio.Transport | None = None
        self._chunks: deque[bytes] = deque()
        self._size = 0
        self._ended = False
        self._failure: Exception | None = None
        self._reader: asyncio.Future[None] | None = None
        self._writer: asyncio.Future[None] | None = None
        self._blocked = False
        self._used = False

    # -- asyncio.Protocol -------------------------------------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Keep the transport."""
        self._transport = transport  # type: ignore[assignment]  # a stream protocol gets a Transport

    def data_received(self, data: bytes) -> None:
        """Keep what came until somebody reads."""
        self._chunks.append(data)
        self._size += len(data)
        if self._size > _HIGH and self._transport is not None:
            self._transport.pause_reading()
        self._wake()

    def eof_received(self) -> bool:
        """Note the end."""
        self._ended = True
        self._wake()
        return False

    def connection_lost(self, exc: Exception | None) -> None:
        """Note the end and wake everybody."""
        self._transport = None  # asyncio's own may not be touched any more
        self._ended = True
        self._failure = exc
        self._wake()
        self._blocked = False
        if self._writer is not None and not self._writer.done():
            self._writer.set_result(None)

    def pause_writing(self) -> None:
        """Make writers wait."""
        self._blocked = True

    def resume_writing(self) -> None:
        """Let writers go on."""
        self._blocked = False
        if self._writer is not None and not self._writer.done():
            self._writer.set_result(None)

    def _wake(self) -> None:
        if self._reader is not None and not self._reader.done():
            self._reader.set_result(None)

    # -- AsyncNetworkStream -----------------------------------------------------------------------------------

    async def read(self, max_bytes: int, timeout: float | None = None) -> bytes:  # noqa: ASYNC109 - httpcore's name
        """Return at most `max_bytes`, empty at the end. Raises ReadError."""
        del timeout  # deadlines are the caller's
        while not self._chunks:
            if self._ended:
                if self._failure is not None:
                    raise httpcore2.ReadError(str(self._failure)) from self._failure
                return b""
            self._reader = self._loop.create_future()
            await self._reader
        chunk = self._chunks.popleft()
        if len(chunk) > max_bytes:
            self._chunks.appendleft(chunk[max_bytes:])
            chunk = chunk[:max_bytes]
        self._size -= len(chunk)
        if self._size <= _HIGH // 2 and self._transport is not None and not self._transport.is_closing():
            self._transport.resume_reading()
        return chunk

    @property
    def usable(self) -> bool:
        """True where a request can be sent: nothing has come unasked, nothing has ended."""
        return not (self._ended or self._chunks or self._transport is None or self._transport.is_closing())

    async def write(self, buffer: bytes, timeout: float | None = None) -> None:  # noqa: ASYNC109 - httpcore's name
        """Write everything. Raises WriteError."""
        del timeout
        if not buffer:
            return
        sending = SENDING.get()
        if sending is not None and not sending.begun:
            sending.begun = True
            if self._used and self.hung_up():
                sending.stale = True
                self._ended = True
                raise WriteError("the server closed the idle connection")
            self._used = True
        self.begin_write(buffer)
        await self.flushed()

    def begin_write(self, buffer: bytes) -> None:
        """Hand bytes to the system, or to the queue in front of it. Raises WriteError where none can leave."""
        if self._transport is None or self._transport.is_closing() or self._ended:
            raise WriteError("the connection is closed") from self._failure
        self._transport.write(buffer)

    async def flushed(self) -> None:
        """Wait until the queue has room again. Raises WriteError."""
        while self._blocked:
            self._writer = self._loop.create_future()
            await self._writer
        if self._failure is not None:
            raise WriteError(str(self._failure)) from self._failure

    def hung_up(self) -> bool:
        """Tell whether the server's end is closed, which the loop may not have noticed yet."""
        if self._ended or self._transport is None or self._transport.is_closing():
            return True
        sock = self._transport.get_extra_info("socket")
        if sock is None or _HUNG_UP == 0:
            return False
        poller = select.poll()
        poller.register(sock.fileno(), _HUNG_UP)
        return bool(poller.poll(0))

    async def aclose(self) -> None:
        """Close at once; unsent bytes are dropped."""
        self.abort()

    def abort(self) -> None:
        """Close at once; unsent bytes are dropped."""
        if self._transport is not None:
            self._transport.abort()

    async def start_tls(
        self,
        ssl_context: ssl.SSLContext,
        server_hostname: str | None = None,
        timeout: float | None = None,  # noqa: ASYNC109 - httpcore's name
    ) -> httpcore2.AsyncNetworkStream:
        """Speak TLS from here on. Raises TLSFailed."""
        del timeout
        if self._transport is None:
            raise errors.TLSFailed("TLS: the server ended the handshake", reason="handshake ended")
        try:
            self._transport = await self._loop.start_tls(
                self._transport,
                self,
                ssl_context,
                server_hostname=server_hostname,
                ssl_handshake_timeout=_ATTEMPT_SECONDS,
            )
        except ssl.SSLCertVerificationError as error:
            raise errors.TLSFailed(f"TLS: {error.verify_message}", reason=error.verify_message) from None
        except ssl.SSLError as error:
            reason = (error.reason or "handshake failed").replace("_", " ").lower()
            raise errors.TLSFailed(f"TLS: {reason}", reason=reason) from None
        except OSError as error:  # reset or closed within the handshake
            raise errors.TLSFailed("TLS: the server ended the handshake", reason="handshake ended") from error
        if self._transport is None:
            raise errors.TLSFailed("TLS: the server ended the handshake", reason="handshake ended")
        return self

    def get_extra_info(self, info: str) -> Any:
        """Answer what the pool asks: whether an idle connection has something to read, which is its end."""
        if info == "is_readable":
            return self._ended or bool(self._chunks)
        if self._transport is None:
            return None
        if info == "ssl_object":
            return self._transport.get_extra_info("ssl_object")
        return None


class Backend(httpcore2.AsyncNetworkBackend):
    """Resolves, checks, connects."""

    def __init__(self, check: CheckAddress) -> None:
        """Ask `check` about each address; it raises to refuse."""
        self._check = check

    async def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,  # noqa: ASYNC109 - httpcore's name
        local_address: str | None = None,
        socket_options: Iterable[Any] | None = None,
    ) -> httpcore2.AsyncNetworkStream:
        """Connect; part of the library's interface."""
        del timeout, local_address, socket_options
        return await self.connect(host, port)

    async def connect(self, host: str, port: int) -> Stream:
        """Connect to the first address that is allowed and answers. Raises ConnectFailed or AuthPolicy."""
        loop = asyncio.get_running_loop()
        try:
            found = await loop.getaddrinfo(host, port, type=socket.SOCK_STREAM)
        except socket.gaierror as error:
            name = _gai_name(error.errno)
            raise errors.ConnectFailed(f"cannot resolve the host ({name})", phase="dns", errno=name) from None
        except UnicodeError:
            raise errors.ConnectFailed("the host is no valid name", phase="dns", errno="EAI_NONAME") from None
        failure: Exception | None = None
        for family, _, _, _, address in found:
            # All are checked before the first is tried: a public one must not hide a private one.
            self._check(host, ipaddress.ip_address(str(address[0]).partition("%")[0]))
            del family
        for family, kind, proto, _, address in found:
            sock = None
            try:
                sock = socket.socket(family, kind, proto)
                sock.setblocking(False)
                sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
                async with asyncio.timeout(_ATTEMPT_SECONDS):
                    await loop.sock_connect(sock, address)
                _, stream = await loop.create_connection(Stream, sock=sock)
            except (OSError, TimeoutError) as error:
                failure = error
                if sock is not None:
                    sock.close()
                if isinstance(error, OSError) and error.errno in {errno.EMFILE, errno.ENFILE}:
                    raise errors.QuotaExceeded("out of file descriptors", limit="openFiles") from None
            except BaseException:
                if sock is not None:
                    sock.close()
                raise
            else:
                return stream
        name = _errno_name(failure)
        raise errors.ConnectFailed(f"cannot connect ({name})", phase="tcp", errno=name) from None

    async def sleep(self, seconds: float) -> None:
        """Wait; the pool asks for it between its own retries, which are off."""
        await asyncio.sleep(seconds)


def _errno_name(error: Exception | None) -> str:
    if isinstance(error, TimeoutError) and not getattr(error, "errno", None):
        return "ETIMEDOUT"
    number = getattr(error, "errno", None) or 0
    return errno.errorcode.get(number, "EIO")


def _gai_name(number: int | None) -> str:
    for name in dir(socket):
        if name.startswith("EAI_") and getattr(socket, name) == number:
            return name
    return "EAI_FAIL"


@functools.cache
def shared_context() -> ssl.SSLContext:
    """Return the one TLS context of every connection without TLS options of its own."""
    context = ssl.create_default_context()
    context.set_alpn_protocols(_ALPN)
    return context


def own_context(ca_file: str | None, cert_file: str | None, key_file: str | None, *, verify: bool) -> ssl.SSLContext:
    """Return a context of one connection. Raises TLSFailed for a file that cannot be used, naming its setting."""
    setting = "caFile"
    try:
        context = ssl.create_default_context(cafile=ca_file)
        context.set_alpn_protocols(_ALPN)
        if cert_file is not None:
            setting = "certFile or keyFile"
            context.load_cert_chain(cert_file, key_file)
    except (OSError, ssl.SSLError) as error:
        why = getattr(error, "reason", None) or getattr(error, "strerror", None) or "unusable file"
        raise errors.TLSFailed(f"tls.{setting} cannot be used: {why}", reason=f"{setting}: {why}") from None
    if not verify:
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    return context
