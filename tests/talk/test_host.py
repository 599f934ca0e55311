"""The questions of the sidecar to the host, by themselves: deadline, refusal, the end of the wire."""

from __future__ import annotations

import asyncio

import pytest

from sidecar.callbacks import Host, HostRefused
from tests.contract.exact import dumps
from tests.contract.test_peer import Wired, run


def test_question_carries_its_deadline_and_returns_the_bytes_of_the_answer() -> None:
    async def test() -> None:
        async with Wired() as wired:
            host = Host(wired.peer, {"tokens": {}, "roots": None})
            assert host.promises("tokens")
            assert not host.promises("roots")
            asks: tuple[tuple[dict[str, str] | bytes, dict[str, str]], ...] = (
                ({"key": "k"}, {"key": "k"}),
                (b' { "key" : "k" } ', {"key": "k"}),
                ({}, {}),
                (b"{}", {}),
            )
            for params, seen in asks:
                asked = asyncio.ensure_future(host.ask("credentials/get", params, 3))
                line = await wired.line()
                assert line["method"] == "credentials/get"
                assert {key: str(value) for key, value in line["params"].items()} == seen | {"timeoutMs": "3000"}
                wired.peer.line(dumps({"jsonrpc": "2.0", "id": line["id"], "result": {"a": 1}}).encode())
                assert await asked == b'{"a":1}'

    run(test)


def test_refusal_of_the_host_keeps_its_error() -> None:
    async def test() -> None:
        async with Wired() as wired:
            asked = asyncio.ensure_future(Host(wired.peer, {}).ask("tokens/get", {}, 3))
            line = await wired.line()
            error = {"code": -32601, "message": "no", "data": {"why": "not promised"}}
            wired.peer.line(dumps({"jsonrpc": "2.0", "id": line["id"], "error": error}).encode())
            with pytest.raises(HostRefused) as refused:
                await asked
            assert (refused.value.code, refused.value.message) == (-32601, "no")
            assert refused.value.data == {"why": "not promised"}

    run(test)


def test_silent_host_is_told_that_nobody_waits_any_more_and_its_late_answer_is_ignored() -> None:
    async def test() -> None:
        async with Wired() as wired:
            host = Host(wired.peer, {})
            with pytest.raises(TimeoutError):
                await host.ask("tokens/get", {}, 0.05)
            line = await wired.line()
            told = await wired.line()
            assert told["method"] == "notifications/cancelled"
            assert told["params"] == {"requestId": line["id"]}
            wired.peer.line(dumps({"jsonrpc": "2.0", "id": line["id"], "result": {}}).encode())
            again = asyncio.ensure_future(host.ask("tokens/get", {}, 3))
            line = await wired.line()
            wired.peer.line(dumps({"jsonrpc": "2.0", "id": line["id"], "result": {"b": 2}}).encode())
            assert await again == b'{"b":2}'

    run(test)


def test_question_after_the_end_of_the_wire_is_refused_at_once() -> None:
    async def test() -> None:
        async with Wired() as wired:
            host = Host(wired.peer, {})
            asked = asyncio.ensure_future(host.ask("tokens/get", {}, 3))
            await wired.line()
            wired.peer.no_more_answers()
            with pytest.raises(HostRefused):
                await asked
            with pytest.raises(HostRefused):
                await host.ask("tokens/get", {}, 3)

    run(test)
