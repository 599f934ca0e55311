"""The first lines: what is answered at once, what waits, and in which order."""

from __future__ import annotations

import asyncio
import contextlib
import os
import subprocess
import time
from pathlib import Path

from sidecar import rpc
from sidecar.request import Request
from sidecar.stdio import LineWriter
from tests.conftest import Start
from tests.harness import PATIENCE, PROGRAM, ROOT
from tests.programs import Program, raw

HOST = {"name": "tests", "version": "1"}


def test_ping_overtakes_lines_that_wait_for_the_engine_and_these_keep_their_order(start: Start) -> None:
    sidecar = start()
    keys = [sidecar.frame("servers/list", {"scope": {"user": str(n)}}) for n in range(20)]
    ping = sidecar.frame("ping", {"payload": "first"})
    sidecar.send(*[body for _, body in keys], ping[1])
    sidecar.answer(keys[-1][0])
    order = [body["id"] for body in sidecar.order if "id" in body]
    assert order == [ping[0], *[key for key, _ in keys]]


def test_two_piped_lines_connect_and_call_work_without_waiting(start: Start) -> None:
    sidecar = start()
    connect = sidecar.frame("servers/connect", {"server": "s", "transport": raw()})
    call = sidecar.frame("tools/call", {"server": "s", "name": "echo", "arguments": {"n": 1}})
    sidecar.send(connect[1], call[1])
    assert sidecar.answer(call[0]).result["structuredContent"]["params"]["arguments"] == {"n": 1}
    assert sidecar.answer(connect[0]).result["state"] == "ready"


def test_connect_disconnect_and_connect_take_effect_in_order(start: Start) -> None:
    sidecar = start()
    frames = [
        sidecar.frame("servers/connect", {"server": "s", "transport": raw(), "lazy": True}),
        sidecar.frame("servers/disconnect", {"server": "s"}),
        sidecar.frame("servers/get", {"server": "s"}),
        sidecar.frame("servers/connect", {"server": "s", "transport": raw("--pages", "2"), "lazy": True}),
        sidecar.frame("servers/get", {"server": "s"}),
    ]
    sidecar.send(*[body for _, body in frames])
    answers = [sidecar.answer(key) for key, _ in frames]
    assert answers[0].result["state"] == "idle"
    assert answers[1].result == {}
    answers[2].is_error(1101, delivered="no")
    assert answers[4].result["state"] == "idle"


def test_deadline_of_a_line_that_waits_for_the_engine_is_1001(start: Start) -> None:
    sidecar = start()
    key = sidecar.request("servers/list", {"timeoutMs": 1})
    sidecar.answer(key).is_error(1001, kind="NotReady", delivered="no", retry="after")
    assert sidecar.call("servers/list").result == {"servers": []}


def test_deadline_counts_from_the_line_and_not_from_the_end_of_its_wait_for_the_engine() -> None:
    async def play() -> None:
        read, write = os.pipe()
        served: list[Request] = []

        async def work() -> bytes:
            return b"{}"

        def handler(request: Request) -> rpc.Work:
            served.append(request)
            request.arm(5.0)
            return work()

        peer = rpc.Peer(LineWriter(write, lambda _: None), {"slow": handler}, early=frozenset(), max_frame=1000)
        before = peer.loop.time()
        peer.line(b'{"jsonrpc":"2.0","id":1,"method":"slow"}')
        read_at = peer.loop.time()
        with contextlib.suppress(TimeoutError):  # the time that passes is what is under test
            async with asyncio.timeout(0.1):
                await asyncio.Event().wait()
        peer.open_gate()
        (request,) = served
        assert request.timer is not None
        assert before <= request.timer.when() - 5.0 <= read_at
        await peer.one_answered()
        os.close(read)
        os.close(write)

    asyncio.run(play())


def test_cancel_reaches_a_line_that_waits_for_the_engine(start: Start) -> None:
    sidecar = start()
    key, body = sidecar.frame("servers/list")
    other, next_body = sidecar.frame("servers/list")
    cancel = {"jsonrpc": "2.0", "method": "notifications/cancelled", "params": {"requestId": key}}
    sidecar.send(body, next_body, cancel)
    sidecar.answer(key).is_error(1004, delivered="no")
    assert sidecar.answer(other).result == {"servers": []}
    assert next(body["id"] for body in sidecar.order) == key


def test_blank_lines_and_carriage_returns_are_skipped(start: Start) -> None:
    sidecar = start()
    sidecar.send_bytes(b'\n\r\n  \n{"jsonrpc":"2.0","id":1,"method":"ping"}\r\n\n')
    assert sidecar.answer(1).result == {}
    sidecar.send_bytes(b'{"jsonrpc":"2.0","id":2,"method":"ping"}\n')
    assert sidecar.answer(2).result == {}
    assert len(sidecar.lines) == 2


def test_last_line_needs_no_newline() -> None:
    lines = b'{"jsonrpc":"2.0","id":1,"method":"ping"}\n{"jsonrpc":"2.0","id":2,"method":"servers/list"}'
    done = subprocess.run(PROGRAM, input=lines, capture_output=True, timeout=20, cwd=ROOT, check=False)
    assert done.returncode == 0
    assert done.stdout == (b'{"jsonrpc":"2.0","id":1,"result":{}}\n{"jsonrpc":"2.0","id":2,"result":{"servers":[]}}\n')


def test_health_says_starting_or_ok_and_counts_servers(start: Start, modern: Program) -> None:
    sidecar = start()
    health = sidecar.call("sidecar/health").result
    assert health["status"] in {"starting", "ok"}
    assert health["servers"] == {}
    assert health["pid"] == sidecar.process.pid
    assert health["inFlight"] == 0
    sidecar.connect("m", modern.http())
    sidecar.connect("lazy", modern.http(), lazy=True)
    health = sidecar.call("sidecar/health").result
    assert health["status"] == "ok"
    assert health["servers"] == {"ready": 1, "idle": 1}
    assert health["rssBytes"] > 10_000_000
    assert health["openFds"] > 3
    assert health["cpuMs"] > 0
    assert health["uptimeMs"] > 0
    assert health["vault"]["state"] == "unused"
    assert health["since"].endswith("Z")


def test_initialize_that_comes_after_the_models_were_loaded_counts_all_the_same(start: Start) -> None:
    sidecar = start()
    maps = Path(f"/proc/{sidecar.process.pid}/maps")
    end = time.monotonic() + PATIENCE
    while "/cryptography/" not in maps.read_text():  # the engine loads it, after everything of ours
        assert time.monotonic() < end
        os.sched_yield()
    params = {
        "protocolVersion": 1,
        "host": HOST,
        "egress": {"allowCommands": []},
        "limits": {"maxServers": 1},
        "vault": {"type": "memory"},
    }
    assert sidecar.call("initialize", params).result["limits"]["maxServers"] == 1
    refused = sidecar.call("servers/connect", {"server": "s", "transport": raw()})
    refused.is_error(1306, rule="egress")
    refused = sidecar.call("servers/connect", {"server": "t", "transport": raw(), "lazy": True})
    refused.is_error(1007, limit="maxServers", value=1)
    assert sidecar.call("sidecar/health").result["vault"] == {"type": "memory", "state": "unused", "why": None}
