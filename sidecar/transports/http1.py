"""HTTP/1.1 as a client speaks it (RFC 9112): one buffer out, one parser in, connections kept for the next request.

The HTTP library's own connection costs more than all the rest of a call: it sends head and body apart, parses each
field several times, and looks through all connections of its pool for every request. This one reads exactly what
answers to MCP requests need, and is strict: what does not fit the grammar ends the connection, and so does a byte
after the response. Knows no MCP, no redirects and no proxies.
"""

from __future__ import annotations

import asyncio
import re
from typing import TYPE_CHECKING, Final

from sidecar.transports.net import Stream, WriteError

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Awaitable, Callable, Iterable

    from sidecar.auth.egress import Origin
    from sidecar.transports.channel import Track

KEEP: Final = 64
"""Idle connections to one origin that are kept."""
KEEP_SECONDS: Final = 60.0
HEAD_MAX: Final = 100 * 1024
"""Bytes of a response's head, and of the trailer behind its last chunk."""

_SLICE: Final = 1 << 18
_READ: Final = 1 << 20
_CHUNK_LINE_MAX: Final = 4096
_SWITCHING: Final = 101
_FINAL: Final = 200
_NO_BODY: Final = frozenset({_SWITCHING, 204, 304})
_START: Final = b"HTTP/1."
_HEAD_END: Final = re.compile(rb"\r?\n\r?\n")
_STATUS: Final = re.compile(rb"HTTP/1\.([01]) ([1-9][0-9]{2})(?: [\t !-~\x80-\xff]*)?")
_NAME: Final = re.compile(rb"[-!#$%&'*+.^_`|~0-9a-zA-Z]+")
_NOT_IN_VALUES: Final = re.compile(rb"[\x00\r\n\x0b\x0c]")
_LENGTH: Final = re.compile(rb"[0-9]{1,18}")
_CHUNK: Final = re.compile(rb"([0-9a-fA-F]{1,16})[ \t]*(?:;[^\x00\r\n]*)?\r\n")

Fields = list[tuple[bytes, bytes]]


class BrokenHTTP(Exception):
    """The peer does not keep to HTTP/1.1. `silent` where it closed without a response."""

    def __init__(self, message: str, *, silent: bool = False) -> None:
        """Say what is broken."""
        super().__init__(message)
        self.silent = silent


class UnwritableHTTP(Exception):
    """A field of ours cannot stand in HTTP; nothing was sent."""


def head_of(method: str, target: bytes, fields: Iterable[tuple[bytes, bytes]]) -> bytes:
    """Return the head of a request. Raises UnwritableHTTP."""
    parts = [method.encode(), b" ", target, b" HTTP/1.1\r\n"]
    for name, value in fields:
        if _NAME.fullmatch(name) is None or _NOT_IN_VALUES.search(value) is not None or value != value.strip(b" \t"):
            raise UnwritableHTTP(name.decode("latin-1"))
        parts += (name, b": ", value, b"\r\n")
    parts.append(b"\r\n")
    return b"".join(parts)


class Pool:
    """The connections to the origins of one server."""

    def __init__(self, connect: Callable[[Origin], Awaitable[Stream]]) -> None:
        """Connect with `connect`; what it raises goes to the caller."""
        self._connect = connect
        self._loop = asyncio.get_running_loop()
        self._idle: dict[Origin, list[tuple[float, Stream]]] = {}
        self._busy: set[Stream] = set()
        self._timer: asyncio.TimerHandle | None = None
        self._closed = False

    async def exchange(self, origin: Origin, method: str, head: bytes, body: bytes, track: Track) -> Response:
        """Send a request and return its response, the body unread; `track` learns when the first byte leaves.

        Raises BrokenHTTP, and what the stream raises.
        """
        stream = self._take(origin) or await self._connect(origin)
        self._busy.add(stream)
        response = Response(self, origin, stream, method)
        try:
            if self._closed:
                raise BrokenHTTP("the client was closed")
            track.phase = "write"
            await _send(stream, head, body, track)
            track.phase = "wait"
            await response.begin()
        except BaseException:
            await response.aclose()
            raise
        return response

    def _take(self, origin: Origin) -> Stream | None:
        idle = self._idle.get(origin)
        while idle:
            _, stream = idle.pop()
            if stream.usable and not stream.hung_up():
                return stream
            stream.abort()  # the server ended it, or spoke without being asked
        return None

    def give_back(self, origin: Origin, stream: Stream, *, usable: bool) -> None:
        """Keep a connection for the next request, or close it."""
        self._busy.discard(stream)
        idle = self._idle.setdefault(origin, [])
        if not usable or not stream.usable or self._closed or len(idle) >= KEEP:
            stream.abort()
            return
        idle.append((self._loop.time() + KEEP_SECONDS, stream))
        if self._timer is None:
            self._timer = self._loop.call_later(KEEP_SECONDS, self._expire)

    def _expire(self) -> None:
        """Close what nobody has used for long; servers have mostly done so themselves."""
        self._timer = None
        now = self._loop.time()
        kept = []
        for origin, idle in list(self._idle.items()):
            for _, stream in (entry for entry in idle if entry[0] <= now):
                stream.abort()
            self._idle[origin] = [entry for entry in idle if entry[0] > now]
            kept += [until for until, _ in self._idle[origin]]
        if kept:
            self._timer = self._loop.call_at(min(kept), self._expire)

    def close(self) -> None:
        """Close every connection; requests that are under way fail."""
        self._closed = True
        if self._timer is not None:
            self._timer.cancel()
        for idle in self._idle.values():
            for _, stream in idle:
                stream.abort()
        self._idle.clear()
        for stream in self._busy:
            stream.abort()


async def _send(stream: Stream, head: bytes, body: bytes, track: Track) -> None:
    first = body[:_SLICE]
    try:
        stream.begin_write(head + first)
        track.delivered = "maybe"
        await stream.flushed()
        for start in range(len(first), len(body), _SLICE):
            await stream.write(body[start : start + _SLICE])
    except WriteError:
        # A server may answer and close before it has read everything: what it said counts.
        return


def _add_field(fields: Fields, line: bytes) -> None:
    """Take one line of a head or a trailer. Raises BrokenHTTP."""
    if line[:1] in {b" ", b"\t"} and fields:  # a field on several lines, as it once was allowed
        name, value = fields.pop()
        value = value + b" " + line.strip(b" \t")
    else:
        name, colon, value = line.partition(b":")
        value = value.strip(b" \t")
        if not colon or _NAME.fullmatch(name) is None:
            raise BrokenHTTP("a field without a name")
    if _NOT_IN_VALUES.search(value) is not None:
        raise BrokenHTTP("a field with control characters")
    fields.append((name, value))


class Response:
    """A response: status and fields are there, the body is read by whoever wants it."""

    __slots__ = (
        "_at",
        "_buffer",
        "_chunked",
        "_complete",
        "_keep",
        "_left",
        "_method",
        "_open",
        "_origin",
        "_pool",
        "_stream",
        "headers",
        "status",
    )

    def __init__(self, pool: Pool, origin: Origin, stream: Stream, method: str) -> None:
        """Expect a response on `stream`."""
        self.status = 0
        self.headers: Fields = []
        self._pool = pool
        self._origin = origin
        self._stream = stream
        self._method = method
        self._buffer = b""
        self._at = 0
        self._chunked = False
        self._left: int | None = None
        """Bytes of the body that have not been read; None: to the end of the connection."""
        self._keep = False
        self._complete = False
        self._open = True

    # -- the head ---------------------------------------------------------------------------------------------

    async def begin(self) -> None:
        """Read the head; interim responses are passed over. Raises BrokenHTTP."""
        buffer = bytearray()
        searched = 0
        while True:
            chunk = await self._stream.read(_READ)
            if not chunk:
                raise BrokenHTTP("the server closed the connection without a response", silent=True)
            buffer += chunk
            while (end := _HEAD_END.search(buffer, searched)) is not None:
                if end.start() > HEAD_MAX:
                    raise BrokenHTTP("the head is too large")
                self._read_head(bytes(buffer[: end.start()]))
                del buffer[: end.end()]
                searched = 0
                if self.status >= _FINAL or self.status == _SWITCHING:
                    self._buffer = bytes(buffer)
                    return
            if len(buffer) > HEAD_MAX or not _START.startswith(buffer[: len(_START)]):
                raise BrokenHTTP("the head is too large, or no HTTP/1.1")
            searched = max(0, len(buffer) - 3)

    def _read_head(self, head: bytes) -> None:
        # The last line's break is not part of the head; the others may have a `\r` before it, one.
        first, *lines = [line.removesuffix(b"\r") for line in (head + b"\r").split(b"\n")]
        status = _STATUS.fullmatch(first)
        if status is None:
            raise BrokenHTTP("no status line of HTTP/1.1")
        self.status = int(status[2])
        self.headers = []
        for line in lines:
            _add_field(self.headers, line)
        self._frame(modern=status[1] == b"1")

    def _frame(self, *, modern: bool) -> None:
        """Find out where the body ends (RFC 9112, section 6.3)."""
        coding = self._all(b"transfer-encoding")
        lengths = set(self._all(b"content-length"))
        self._keep = modern and b"close" not in self._all(b"connection") and self.status != _SWITCHING
        self._chunked = False
        if len(lengths) > 1 or any(_LENGTH.fullmatch(length) is None for length in lengths):
            raise BrokenHTTP("a length that is none")
        if self._method == "HEAD" or self.status in _NO_BODY or self.status < _FINAL:
            self._left = 0
        elif coding:
            if coding != [b"chunked"]:
                raise BrokenHTTP("an unknown transfer coding")
            self._chunked = True
            self._keep = self._keep and not lengths  # one of the two is a lie
        elif lengths:
            self._left = int(lengths.pop())
        else:
            self._left = None
            self._keep = False

    def _all(self, wanted: bytes) -> list[bytes]:
        """Return the elements of all fields of that name, lower case."""
        return [
            part.strip(b" \t").lower()
            for name, value in self.headers
            if len(name) == len(wanted) and name.lower() == wanted
            for part in value.split(b",")
        ]

    # -- the body ---------------------------------------------------------------------------------------------

    def whole(self) -> bytes | None:
        """Return the body if all of it has come with the head, else None."""
        if self._chunked or self._left is None or len(self._buffer) - self._at < self._left or self._complete:
            return None
        body = self._buffer[self._at : self._at + self._left]
        self._at += self._left
        self._left = 0
        self._complete = True
        return body

    async def aiter_stream(self) -> AsyncGenerator[bytes]:
        """Yield the body as it comes. Raises BrokenHTTP where it ends too early."""
        if self._chunked:
            while size := await self._chunk_size():
                while size:
                    piece = await self._piece(size)
                    size -= len(piece)
                    yield piece
                await self._expect_line_end()
            await self._trailer()
        elif self._left is not None:
            while self._left:
                piece = await self._piece(self._left)
                self._left -= len(piece)
                yield piece
        else:
            while piece := self._buffer[self._at :] or await self._stream.read(_READ):
                self._buffer, self._at = b"", 0
                yield piece
        self._complete = True

    async def _piece(self, size: int) -> bytes:
        """Return at least one and at most `size` bytes."""
        if self._at == len(self._buffer):
            self._buffer, self._at = await self._read(), 0
        if not self._at and len(self._buffer) <= size:
            piece, self._buffer = self._buffer, b""
        else:
            piece = self._buffer[self._at : self._at + size]
            self._at += len(piece)
        return piece

    async def _read(self) -> bytes:
        chunk = await self._stream.read(_READ)
        if not chunk:
            raise BrokenHTTP("the body ended too early")
        return chunk

    async def _line(self, most: int) -> int:
        """Read until a line stands in the buffer and return its end, the line break included."""
        searched = self._at
        while (end := self._buffer.find(b"\n", searched) + 1) == 0:
            if len(self._buffer) - self._at > most:
                raise BrokenHTTP("a line of the body's frame is too long")
            rest = self._buffer[self._at :]
            self._buffer, self._at, searched = rest + await self._read(), 0, len(rest)
        return end

    async def _chunk_size(self) -> int:
        end = await self._line(_CHUNK_LINE_MAX)
        line = _CHUNK.fullmatch(self._buffer, self._at, end)
        if line is None:
            raise BrokenHTTP("a bad chunk")
        self._at = end
        return int(line[1], 16)

    async def _expect_line_end(self) -> None:
        end = await self._line(2)
        if self._buffer[self._at : end] != b"\r\n":
            raise BrokenHTTP("a chunk without its end")
        self._at = end

    async def _trailer(self) -> None:
        """Read past the fields behind the last chunk."""
        fields: Fields = []
        size = 0
        while size <= HEAD_MAX:
            end = await self._line(HEAD_MAX)
            line = self._buffer[self._at : end - 1].removesuffix(b"\r")
            size += end - self._at
            self._at = end
            if not line:
                return
            _add_field(fields, line)
        raise BrokenHTTP("the trailer is too large")

    async def aclose(self) -> None:
        """Give the connection back, or close it where the body was not read to its end."""
        if self._open:
            self._open = False
            empty = self._left == 0 and not self._chunked
            usable = self._keep and (self._complete or empty) and self._at == len(self._buffer)
            self._pool.give_back(self._origin, self._stream, usable=usable)
