"""One tenant's flood does not become another's wait: on the loop, and on the pipe to the host."""

from __future__ import annotations

import asyncio
import base64
import os
import time
from functools import partial

import pytest

from sidecar.stdio import LineWriter
from sidecar.transports.fair import LIGHT, SLICE, Fair
from tests.conftest import Start
from tests.neighbour import neighbour
from tests.programs import Program, raw

MIB = 1024 * 1024


def burn(seconds: float) -> None:
    """Keep the loop busy."""
    end = time.perf_counter() + seconds
    while time.perf_counter() < end:
        pass


def test_scope_that_used_much_waits_and_one_that_used_little_does_not() -> None:
    async def main() -> None:
        fair = Fair()
        busy, light = fair.share("busy"), fair.share("light")
        assert (busy.must_wait, light.must_wait) == (False, False)
        began = time.perf_counter()
        burn(max(LIGHT, SLICE) * 2)
        busy.spend(began)
        assert (busy.must_wait, light.must_wait) == (True, False)
        woken = asyncio.Event()
        busy.wait(woken.set)
        await asyncio.wait_for(woken.wait(), 1)

    asyncio.run(main())


def test_of_those_that_wait_the_one_that_used_least_goes_first() -> None:
    async def main() -> list[str]:
        fair = Fair()
        for scope, used in (("a", 0.3), ("b", 0.1), ("c", 0.2)):
            fair.spend(scope, used)
        order: list[str] = []
        done = asyncio.Event()

        def note(scope: str) -> None:
            order.append(scope)
            if len(order) == 3:
                done.set()

        for scope in ("a", "b", "c"):
            fair.wait(scope, partial(note, scope))
        await asyncio.wait_for(done.wait(), 1)
        return order

    assert asyncio.run(main()) == ["b", "c", "a"]


def test_tasks_of_busy_scopes_take_turns() -> None:
    async def main() -> dict[str, int]:
        fair = Fair()
        steps = {"a": 0, "b": 0, "c": 0}
        end = time.perf_counter() + 0.5

        async def work(scope: str, cost: float) -> None:
            pace = fair.share(scope).pace()
            while time.perf_counter() < end:
                burn(cost)
                steps[scope] += 1
                await pace.step()

        await asyncio.gather(work("a", 0.004), work("b", 0.004), work("c", 0.004))
        return steps

    steps = asyncio.run(main())
    assert min(steps.values()) >= max(steps.values()) / 3


def test_large_lines_let_small_ones_pass_and_take_turns_by_lane() -> None:
    async def main() -> list[bytes]:
        read, write = os.pipe()
        writer = LineWriter(write, lambda _: None)
        big = {name: name.encode() * (3 * MIB) + b"\n" for name in "abcd"}
        writer.write_large("one", big["a"])
        writer.write_large("one", big["b"])
        writer.write_large("one", big["c"])
        writer.write_large("two", big["d"])
        writer.write(b"small\n")
        loop = asyncio.get_running_loop()
        text = bytearray()
        whole = asyncio.Event()

        def readable() -> None:
            text.extend(os.read(read, 1 << 20))
            if text.count(b"\n") == 5:
                whole.set()

        os.set_blocking(read, False)
        loop.add_reader(read, readable)
        await asyncio.wait_for(whole.wait(), 20)
        loop.remove_reader(read)
        os.close(read)
        os.close(write)
        return [line[:1] for line in bytes(text).split(b"\n")[:-1]]

    assert asyncio.run(main()) == [b"a", b"s", b"d", b"b", b"c"]


def test_large_lines_are_not_kept_waiting_for_ever() -> None:
    async def main() -> int:
        read, write = os.pipe()
        writer = LineWriter(write, lambda _: None)
        writer.write(b"first\n")
        writer.write_large("one", b"L" * MIB + b"\n")
        for _ in range(200):
            writer.write(b"s" * 100_000 + b"\n")
        loop = asyncio.get_running_loop()
        text = bytearray()
        os.set_blocking(read, False)
        loop.add_reader(read, lambda: text.extend(os.read(read, 1 << 20)))
        await asyncio.wait_for(writer.drained(), 20)
        loop.remove_reader(read)
        os.close(read)
        os.close(write)
        return bytes(text).find(b"L")

    assert asyncio.run(main()) <= 25 * MIB


NOTE = b'{"jsonrpc":"2.0","method":"notifications/nosuch","params":{"level":"info","data":"x"}}'


@pytest.mark.parametrize("line", [b"this is no JSON", NOTE], ids=["garbage", "notifications"])
def test_flood_from_many_servers_of_a_tenant_does_not_slow_another(start: Start, line: bytes) -> None:
    sidecar = start()
    for number in range(8):
        sidecar.connect(f"loud-{number}", raw(), scope={"tenant": "loud"})
    arguments = {"line": base64.b64encode(line).decode(), "count": 60_000}
    with neighbour(sidecar) as other:
        keys = [
            sidecar.start_tool(f"loud-{number}", "noise", arguments, scope={"tenant": "loud"}) for number in range(8)
        ]
        other.beside(*keys)
    assert all(sidecar.answer(key).result for key in keys)


def test_flood_of_large_results_does_not_slow_another(start: Start, streams: Program) -> None:
    sidecar = start()
    sidecar.connect("loud", streams.http("/modern/loud"), scope={"tenant": "loud"})
    with neighbour(sidecar) as other:
        keys = [
            sidecar.start_tool("loud", "big", {"size": 6 * MIB, "as": "json"}, scope={"tenant": "loud"})
            for _ in range(8)
        ]
        other.beside(*keys)
    assert all(len(sidecar.answer(key).line) > 6 * MIB for key in keys)
