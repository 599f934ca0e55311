"""The HTTP/1.1 connection: what it reads, what it refuses, what it keeps; with h11 as the judge."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine
from typing import Any, TypeVar

import h11
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sidecar.auth.egress import EgressPolicy, Origin
from sidecar.transports import http1
from sidecar.transports.channel import Steps
from sidecar.transports.client import HTTPClient
from sidecar.transports.http1 import BrokenHTTP, Pool, Response, UnwritableHTTP, head_of
from sidecar.transports.net import Backend, Stream

T = TypeVar("T")
BODY = b'{"jsonrpc":"2.0","id":1,"result":{}}'
LENGTH = b"Content-Length: %d\r\n" % len(BODY)
PLAIN = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n" + LENGTH + b"\r\n" + BODY
CHUNKED = (
    b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nX-Empty:\r\n\r\n"
    b"5;name=value\r\nhello\r\n6 \r\n world\r\n0\r\nX-Trailer: 1\r\n\r\n"
)
GOOD: dict[str, tuple[bytes, bytes, bool]] = {
    "length": (PLAIN, BODY, True),
    "chunks": (CHUNKED, b"hello world", True),
    "interim": (b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Hints\r\nLink: x\r\n\r\n" + PLAIN, BODY, True),
    "no content": (b"HTTP/1.1 204 No Content\r\n\r\n", b"", True),
    "not modified": (b"HTTP/1.1 304 Not Modified\r\nContent-Length: 5\r\n\r\n", b"", True),
    "nothing": (b"HTTP/1.1 202 Accepted\r\ncontent-length: 0\r\n\r\n", b"", True),
    "no reason": (b"HTTP/1.1 200\r\n" + LENGTH + b"\r\n" + BODY, BODY, True),
    "bare line feeds": (PLAIN.replace(b"\r\n", b"\n"), BODY, True),
    "same length twice": (b"HTTP/1.1 200 OK\r\n" + LENGTH + LENGTH + b"\r\n" + BODY, BODY, True),
    "folded": (b"HTTP/1.1 200 OK\r\nX: a\r\n  b\r\n" + LENGTH + b"\r\n" + BODY, BODY, True),
    "close": (b"HTTP/1.1 200 OK\r\nConnection: Close\r\n" + LENGTH + b"\r\n" + BODY, BODY, False),
    "old": (b"HTTP/1.0 200 OK\r\n" + LENGTH + b"\r\n" + BODY, BODY, False),
    "to the end": (b"HTTP/1.1 200 OK\r\n\r\n" + BODY, BODY, False),
    "chunks and length": (CHUNKED.replace(b"X-Empty:", b"Content-Length: 3"), b"hello world", False),
}
BAD: dict[str, bytes] = {
    "silence": b"",
    "half a head": PLAIN[:30],
    "no HTTP": b"SSH-2.0-OpenSSH\r\n",
    "another version": b"HTTP/2.0 200 OK\r\n\r\n",
    "no status": b"HTTP/1.1 OK\r\n\r\n",
    "a field without a colon": b"HTTP/1.1 200 OK\r\nnothing\r\n\r\n",
    "a blank in a name": b"HTTP/1.1 200 OK\r\nContent-Length : 5\r\n\r\nhello",
    "a zero byte": b"HTTP/1.1 200 OK\r\nX: \x00\r\n\r\n",
    "a lone carriage return": b"HTTP/1.1 200 OK\r\nX: a\rY: b\r\n\r\n",
    "two lengths": b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\nContent-Length: 6\r\n\r\nhello!",
    "a signed length": b"HTTP/1.1 200 OK\r\nContent-Length: +5\r\n\r\nhello",
    "another coding": b"HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n",
    "coded twice": b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    "half a body": PLAIN[:-1],
    "half a chunk": CHUNKED[:-40],
    "no last chunk": CHUNKED.partition(b"0\r\nX-T")[0],
    "no end of trailer": CHUNKED[:-2],
    "a bad size": CHUNKED.replace(b"5;name=value", b"-5"),
    "a huge size": CHUNKED.replace(b"5;name=value", b"1" * 40),
    "a chunk that goes on": CHUNKED.replace(b"hello\r\n", b"hello!\r\n"),
    "a line without end in the chunks": CHUNKED.partition(b"5;")[0] + b"5;" + b"x" * 10_000,
    "a large head": b"HTTP/1.1 200 OK\r\nX: " + b"x" * 200_000 + b"\r\n\r\n",
    "a head without end": b"HTTP/1.1 200 OK\r\nX: " + b"x" * 200_000,
    "a large trailer": CHUNKED[:-2] + b"X: y\r\n" * 50_000,
}


def run(work: Coroutine[Any, Any, T]) -> T:
    """Run work in a loop of its own."""

    async def bounded() -> T:
        async with asyncio.timeout(20):
            return await work

    return asyncio.run(bounded())


async def nowhere(origin: Origin) -> Stream:
    raise AssertionError(f"no connection to {origin} was asked for")


async def read(pieces: list[bytes], method: str = "POST") -> tuple[Response, bytes, int]:
    """Read a response that comes in these pieces; return it, its body and how many connections were kept."""
    stream = Stream()
    pool = Pool(nowhere)
    response = Response(pool, ORIGIN, stream, method)
    for piece in pieces:
        stream.data_received(piece)
    stream.eof_received()
    try:
        await response.begin()
        whole = response.whole()
        body = whole if whole is not None else b"".join([part async for part in response.aiter_stream()])
        keep = response._keep and response._at == len(response._buffer)
        return response, body, int(keep)
    finally:
        await response.aclose()
        pool.close()


ORIGIN = Origin("http", "127.0.0.1", 1)


@pytest.mark.parametrize("kind", GOOD)
@pytest.mark.parametrize("size", [1, 7, 1 << 20])
def test_a_response_is_read_however_it_is_cut(kind: str, size: int) -> None:
    text, body, keep = GOOD[kind]
    pieces = [text[start : start + size] for start in range(0, len(text), size)]
    _, got, kept = run(read(pieces))
    assert got == body
    assert kept == keep


@pytest.mark.parametrize("kind", BAD)
@pytest.mark.parametrize("size", [7, 1 << 20])
def test_what_is_no_http_is_refused(kind: str, size: int) -> None:
    text = BAD[kind]
    with pytest.raises(BrokenHTTP) as raised:
        run(read([text[start : start + size] for start in range(0, len(text), size)]))
    assert raised.value.silent == (kind in {"silence", "half a head"})


def test_a_connection_with_a_byte_after_the_response_is_not_kept() -> None:
    for text in (PLAIN, CHUNKED):
        assert run(read([text + b"H"]))[2] == 0


def test_a_head_request_has_no_body() -> None:
    response, body, kept = run(read([b"HTTP/1.1 200 OK\r\n" + LENGTH + b"\r\n"], "HEAD"))
    assert (response.status, body, kept) == (200, b"", 1)


def judge(text: bytes) -> tuple[int, bytes] | None:
    """Let h11 read a response; None where it refuses."""
    connection = h11.Connection(h11.CLIENT, max_incomplete_event_size=http1.HEAD_MAX)
    connection.send(h11.Request(method="POST", target="/", headers=[("Host", "h"), ("Content-Length", "0")]))
    connection.send(h11.EndOfMessage())
    connection.receive_data(text)
    connection.receive_data(b"")
    status, body = 0, b""
    try:
        while True:
            event = connection.next_event()
            if isinstance(event, h11.Response):
                status = event.status_code
            elif isinstance(event, h11.Data):
                body += bytes(event.data)
            elif isinstance(event, h11.EndOfMessage):
                return status, body
            elif event is h11.NEED_DATA or event is h11.PAUSED:
                return None
    except h11.RemoteProtocolError:
        return None


@settings(max_examples=300, deadline=None)
@given(
    st.sampled_from([text for text, _, _ in GOOD.values()]),
    st.lists(st.tuples(st.integers(0, 400), st.integers(0, 2), st.binary(min_size=1, max_size=3)), max_size=3),
)
def test_what_is_read_of_a_damaged_response_is_what_h11_reads(
    text: bytes, damage: list[tuple[int, int, bytes]]
) -> None:
    for at, cut, extra in damage:
        text = text[: at % (len(text) + 1)] + extra + text[at % (len(text) + 1) + cut :]
    try:
        response, body, _ = run(read([text]))
    except BrokenHTTP:
        return
    if response.status != http1._SWITCHING:
        assert judge(text) == (response.status, body), text


@pytest.mark.parametrize("value", ["a\r\nX: b", "a\nb", "\x00", " a", "a ", "a\x0b"])
def test_a_value_that_would_break_the_head_is_not_sent(value: str) -> None:
    with pytest.raises(UnwritableHTTP):
        head_of("GET", b"/", [(b"x", value.encode())])
    with pytest.raises(UnwritableHTTP):
        head_of("GET", b"/", [(value.encode(), b"x")])


Serve = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


@contextlib.asynccontextmanager
async def serving(serve: Serve) -> AsyncIterator[tuple[Pool, Origin, list[Stream]]]:
    """Serve connections, and give a pool to them that notes what it opens."""
    ends: set[asyncio.Task[Any]] = set()

    async def served(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        ends.add(task)
        try:
            await serve(reader, writer)
        finally:
            writer.close()
            with contextlib.suppress(ConnectionError):
                await writer.wait_closed()
            ends.discard(task)

    server = await asyncio.start_server(served, "127.0.0.1", 0)
    opened: list[Stream] = []
    backend = Backend(lambda *_: None)

    async def connect(origin: Origin) -> Stream:
        opened.append(await backend.connect(origin.host, origin.port))
        return opened[-1]

    pool = Pool(connect)
    try:
        yield pool, Origin("http", "127.0.0.1", server.sockets[0].getsockname()[1]), opened
    finally:
        pool.close()
        server.close()
        if ends:
            await asyncio.wait(ends)
        await server.wait_closed()


async def ask(pool: Pool, origin: Origin, body: bytes = b"x") -> bytes:
    """Send a request and return the body of its answer."""
    head = head_of("POST", b"/", [(b"host", b"h"), (b"content-length", b"%d" % len(body))])
    response = await pool.exchange(origin, "POST", head, body, Steps())
    try:
        return b"".join([part async for part in response.aiter_stream()])
    finally:
        await response.aclose()


async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Answer every request of one byte."""
    with contextlib.suppress(asyncio.IncompleteReadError, ConnectionError):
        while True:
            await reader.readuntil(b"\r\n\r\n")
            await reader.readexactly(1)
            writer.write(PLAIN)


def test_one_connection_serves_calls_in_a_row_and_no_more_than_the_cap_is_kept() -> None:
    async def work() -> None:
        async with serving(answer) as (pool, origin, opened):
            for _ in range(3):
                assert await ask(pool, origin) == BODY
            assert len(opened) == 1
            await asyncio.gather(*(ask(pool, origin) for _ in range(2 * http1.KEEP)))
            assert sum(stream.usable for stream in opened) <= http1.KEEP

    run(work())


def test_an_idle_connection_is_closed_after_its_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(http1, "KEEP_SECONDS", 0.05)
    ended = asyncio.Event()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await answer(reader, writer)
        ended.set()

    async def work() -> None:
        async with serving(serve) as (pool, origin, opened):
            await ask(pool, origin)
            await ended.wait()
            await ask(pool, origin)
            assert len(opened) == 2

    run(work())


def test_a_server_that_answers_before_it_has_read_everything_is_heard() -> None:
    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 413 Too Large\r\nContent-Length: 0\r\n\r\n")
        await writer.drain()
        writer.write_eof()
        while await reader.read(1 << 16):
            pass

    async def work() -> None:
        async with serving(serve) as (pool, origin, _):
            body = b"x" * (8 << 20)
            head = head_of("POST", b"/", [(b"host", b"h"), (b"content-length", b"%d" % len(body))])
            response = await pool.exchange(origin, "POST", head, body, Steps())
            assert response.status == 413
            await response.aclose()

    run(work())


def test_a_cancelled_request_closes_its_connection_and_the_next_one_works() -> None:
    async def work() -> None:
        silent = asyncio.Event()
        gone = asyncio.Event()

        async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            if silent.is_set():
                await answer(reader, writer)
                return
            silent.set()
            await reader.read()
            gone.set()

        async with serving(serve) as (pool, origin, opened):
            first = asyncio.create_task(ask(pool, origin))
            await silent.wait()
            first.cancel()
            with pytest.raises(asyncio.CancelledError):
                await first
            await gone.wait()
            assert await ask(pool, origin) == BODY
            assert [stream.usable for stream in opened] == [False, True]

    run(work())


def test_a_request_through_a_proxy_names_the_whole_address() -> None:
    async def work() -> None:
        heard: list[bytes] = []

        async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            heard.append(await reader.readuntil(b"\r\n\r\n"))
            await answer_one(reader, writer)

        async def answer_one(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            await reader.readexactly(1)
            writer.write(PLAIN)
            await writer.drain()

        async with serving(serve) as (_, origin, _opened):
            client = HTTPClient("http://behind.example/mcp?q=1", EgressPolicy(), proxy=str(origin))
            try:
                reply = await client.send("POST", {"accept": "application/json"}, b"x")
                assert await reply.body(1 << 20) == BODY
                await reply.aclose()
            finally:
                await client.aclose()
        assert heard[0].startswith(b"POST http://behind.example:80/mcp?q=1 HTTP/1.1\r\nHost: behind.example\r\n"), heard

    run(work())
