"""Sizes over HTTP: what fits passes in both eras, what does not is 1006, and nobody pays in memory or time."""

from __future__ import annotations

import threading
from typing import Self

import psutil
import pytest

from tests.conftest import Start
from tests.harness import Sidecar
from tests.neighbour import neighbour
from tests.programs import Program

MIB = 1024 * 1024
ERAS = ["mcp", "modern"]


class Peak:
    """The highest memory of a process while a test looks."""

    def __init__(self, process: psutil.Process) -> None:
        """Begin to look."""
        self._process = process
        self._end = threading.Event()
        self.base = process.memory_info().rss
        self.bytes = self.base
        self._thread = threading.Thread(target=self._look)

    def _look(self) -> None:
        while not self._end.wait(0.005):
            self.bytes = max(self.bytes, self._process.memory_info().rss)

    def __enter__(self) -> Self:
        """Begin."""
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        """Stop looking."""
        self._end.set()
        self._thread.join(10)

    @property
    def rise(self) -> int:
        """Bytes above the beginning."""
        return self.bytes - self.base


@pytest.mark.parametrize("era", ERAS)
@pytest.mark.parametrize("kind", ["json", "sse"])
def test_results_up_to_the_cap_pass_and_one_above_is_1006(
    shared: Sidecar, server: str, streams: Program, era: str, kind: str
) -> None:
    shared.connect(server, streams.http(f"/{era}/{server}"))
    for size in (MIB // 2, MIB, 5 * MIB, 15 * MIB):
        answer = shared.tool(server, "big", {"size": size, "as": kind}, timeoutMs=20_000)
        assert len(answer.line) >= size
    data = shared.tool(server, "big", {"size": 17 * MIB, "as": kind}, timeoutMs=20_000).is_error(1006)
    assert (data["delivered"], data["limit"]) == ("yes", 16 * MIB)
    assert data["bytes"] > 16 * MIB
    assert shared.tool(server, "echo").result


@pytest.mark.parametrize("era", ERAS)
@pytest.mark.parametrize("kind", ["json", "sse"])
def test_bomb_is_1006_with_little_memory_and_holds_nobody_up(
    start: Start, streams: Program, era: str, kind: str
) -> None:
    sidecar = start()
    sidecar.connect("s", streams.http(f"/{era}/bomb"))
    assert sidecar.tool("s", "echo").result
    with neighbour(sidecar) as other, Peak(sidecar.handle) as peak:
        key = sidecar.start_tool("s", "bomb", {"size": 100 * MIB, "as": kind}, timeoutMs=20_000)
        other.beside(key)
        sidecar.answer(key).is_error(1006, delivered="yes", limit=16 * MIB)
    assert peak.rise <= 64 * MIB
    assert sidecar.tool("s", "echo").result


def test_event_that_never_ends_takes_no_more_than_the_cap(start: Start, streams: Program) -> None:
    sidecar = start()
    sidecar.connect("s", streams.http("/mcp/endless"))
    assert sidecar.tool("s", "echo").result
    with Peak(sidecar.handle) as peak:
        sidecar.tool("s", "endless_event", timeoutMs=1500).is_error(1005, phase="wait", delivered="maybe")
    assert peak.rise <= 64 * MIB
    assert sidecar.tool("s", "echo").result


@pytest.mark.parametrize("tool", ["after_gzip", "deflate"])
def test_compressed_body_is_read_whole_and_not_beyond(
    shared: Sidecar, server: str, streams: Program, tool: str
) -> None:
    shared.connect(server, streams.http(f"/mcp/{server}"))
    for _ in range(3):
        assert shared.tool(server, tool).result["content"][0]["text"] == "done"


@pytest.mark.parametrize("what", ["ping", "log"])
def test_flood_on_the_stream_of_a_call_is_bounded(start: Start, streams: Program, what: str) -> None:
    sidecar = start()
    sidecar.connect("s", streams.http("/mcp/flood"))
    assert sidecar.tool("s", "echo").result
    with Peak(sidecar.handle) as peak:
        assert sidecar.tool("s", "flood", {"count": 20_000, "what": what}, timeoutMs=30_000).result
    assert peak.rise <= 64 * MIB
    assert len(sidecar.stderr) <= MIB
    assert sidecar.tool("s", "echo").result


def test_chunks_of_a_byte_hold_nobody_up(shared: Sidecar, server: str, name: str, streams: Program) -> None:
    shared.connect(server, streams.http(f"/mcp/{server}"))
    with neighbour(shared, name) as other:
        key = shared.start_tool(server, "tiny_chunks", {"size": 100_000}, timeoutMs=30_000)
        other.beside(key)
        assert shared.answer(key).result


@pytest.mark.parametrize("era", ERAS)
def test_connection_that_the_server_closes_unasked_costs_no_call(
    shared: Sidecar, server: str, streams: Program, era: str
) -> None:
    shared.connect(server, streams.http(f"/{era}/{server}?close=1"))
    closed = sum(entry["what"] == "closed" for entry in streams.get(f"/seen?key={server}"))
    for number in range(1, 51):
        assert shared.tool(server, "echo").result
        streams.get(f"/wait?key={server}&what=closed&count={closed + number}")
    seen = streams.get(f"/seen?key={server}")
    assert sum(entry["what"] == "call echo" for entry in seen) == 50
