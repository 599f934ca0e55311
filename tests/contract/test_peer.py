"""The peer of the process by itself: answers to its own requests, which no method of the wire sends yet."""

from __future__ import annotations

import asyncio
import os
from typing import TYPE_CHECKING, Any, Self

import pytest

from sidecar.request import Request
from sidecar.rpc import Peer, PeerError
from sidecar.stdio import LineWriter

from .exact import dumps, loads
from .test_vectors import check_fault
from .transcript import FOLDER, Matcher, Step, load
from .vectors import Vector
from .vectors import load as load_vectors

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

PATIENCE = 10.0
ANSWERS = load_vectors("answers.json").vectors
PING = b'{"jsonrpc":"2.0","id":"next","method":"ping"}'


def ping(request: Request) -> bytes:
    """Answer with the params as they came."""
    return bytes(request.params)


class Wired:
    """A peer whose writer owns one end of a pipe; the test reads the other."""

    def __init__(self) -> None:
        """Open the pipe."""
        self._read, self._write = os.pipe()
        self._lines = asyncio.StreamReader()
        self._transport: asyncio.BaseTransport | None = None
        self.writer = LineWriter(self._write, lambda _: None)
        self.peer = Peer(self.writer, {"ping": ping}, early=frozenset({"ping"}), max_frame=65536)

    async def line(self) -> Any:
        """Return the next line that the peer writes."""
        return loads(await asyncio.wait_for(self._lines.readline(), PATIENCE))

    async def __aenter__(self) -> Self:
        """Begin to read."""
        connect = asyncio.get_running_loop().connect_read_pipe
        pipe = os.fdopen(self._read, "rb", buffering=0)
        self._transport, _ = await connect(lambda: asyncio.StreamReaderProtocol(self._lines), pipe)
        return self

    async def __aexit__(self, *_: object) -> None:
        """Close the pipe and wait until it is closed."""
        self.writer.close()
        os.close(self._write)
        await asyncio.wait_for(self._lines.read(), PATIENCE)
        if self._transport is not None:
            self._transport.close()


def run(test: Callable[[], Awaitable[None]]) -> None:
    """Run a test in a loop of its own; no task may be left behind."""

    async def bounded() -> None:
        await asyncio.wait_for(test(), PATIENCE)
        assert asyncio.all_tasks() == {asyncio.current_task()}

    asyncio.run(bounded())


@pytest.mark.parametrize("vector", ANSWERS, ids=lambda vector: vector.name)
def test_answer_settles_the_request_as_the_contract_says_and_the_next_line_works(vector: Vector) -> None:
    """The request ends as expected, or is still open and takes a good answer."""

    async def test() -> None:
        async with Wired() as wired:
            call = asyncio.ensure_future(wired.peer.call("roots/list", b"{}"))
            asked = await wired.line()
            name = str(asked["id"]).encode()
            wired.peer.line(vector.line.replace(b"{{id}}", name))
            wired.peer.line(PING)
            try:
                await check(vector, wired, call, name)
            finally:
                call.cancel()
                await asyncio.wait({call}, timeout=PATIENCE)

    run(test)


async def check(vector: Vector, wired: Wired, call: asyncio.Future[bytes], name: bytes) -> None:
    """Compare the end of the request, and what was answered to its answer, with the vector."""
    expect = vector.expect
    if "fault" in expect:
        complaint = await wired.line()
        assert complaint["id"] is None
        check_fault(expect, complaint["error"])
    assert (await wired.line())["id"] == "next"
    if expect["settled"] == "no":
        assert not call.done()
        wired.peer.line(b'{"jsonrpc":"2.0","id":' + name + b',"result":{"late":1}}')
        assert await call == b'{"late":1}'
    elif expect["settled"] == "result":
        assert await call == expect["value"].encode()
    else:
        with pytest.raises(PeerError) as failed:
            await call
        if "code" in expect:
            assert failed.value.code == int(expect["code"])


class ReversePlayer:
    """Plays a conversation in which the peer asks; ids of the file are translated to the peer's own."""

    def __init__(self, wired: Wired) -> None:
        """Begin with no question open."""
        self._wired = wired
        self._matcher = Matcher()
        self._calls: dict[str, asyncio.Future[bytes]] = {}
        self._ids: dict[str, Any] = {}

    async def play(self, steps: list[Step]) -> None:
        """Play all steps."""
        for step in steps:
            message = loads(step.texts[0])
            if step.kind == "send":
                await self._host_sends(message)
            else:
                await self._peer_sends(message)

    async def _peer_sends(self, message: dict[str, Any]) -> None:
        if "method" in message and "id" in message:
            name = str(message["id"])
            params = dumps(message["params"]).encode()
            self._calls[name] = asyncio.ensure_future(self._wired.peer.call(message["method"], params))
            line = await self._wired.line()
            self._ids[name] = line["id"]
            self._matcher.match({**message, "id": line["id"]}, line)
        elif "method" in message:
            name = str(message["params"]["requestId"])
            self._calls[name].cancel()
            await asyncio.wait({self._calls[name]}, timeout=PATIENCE)
            line = await self._wired.line()
            message["params"]["requestId"] = self._ids[name]
            self._matcher.match(message, line)
        else:
            line = await self._wired.line()
            self._matcher.match(message, line)

    async def _host_sends(self, message: dict[str, Any]) -> None:
        if "method" in message:
            self._wired.peer.line(dumps(message).encode())
            return
        name = str(message["id"])
        self._wired.peer.line(dumps({**message, "id": self._ids[name]}).encode())
        call = self._calls[name]
        if call.cancelled():
            return
        if "result" in message:
            assert await call == dumps(message["result"]).encode()
        else:
            with pytest.raises(PeerError) as failed:
                await call
            assert failed.value.code == int(message["error"]["code"])


def test_questions_of_the_sidecar_follow_the_transcript() -> None:
    """Ids of the two directions are separate; a cancelled question ends at once and its late answer is ignored."""

    async def test() -> None:
        async with Wired() as wired:
            await ReversePlayer(wired).play(load(FOLDER / "reverse-peers.txt").steps)

    run(test)
