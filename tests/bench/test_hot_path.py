"""What a plain call may cost, counted and not timed: tasks, turns of the loop, writes, connections, memory."""

from __future__ import annotations

import mmap
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest

from tests.answers import Json
from tests.harness import Sidecar
from tests.programs import Program, raw

CALLS = 100
MANY = 100
PROBE = """
import asyncio, mmap, os, socket, struct, sys
if "sidecar" in sys.orig_argv[-1] and "COUNTS" in os.environ:
    with open(os.environ["COUNTS"], "r+b") as file:
        counts = mmap.mmap(file.fileno(), 32)
    def counted(real, at):
        def call(*args, **kwargs):
            (seen,) = struct.unpack_from("<Q", counts, at)
            struct.pack_into("<Q", counts, at, seen + 1)
            return real(*args, **kwargs)
        return call
    loop = asyncio.base_events.BaseEventLoop
    loop.create_task = counted(loop.create_task, 0)
    loop._run_once = counted(loop._run_once, 8)
    os.write, os.writev = counted(os.write, 16), counted(os.writev, 16)
    class Socket(socket.socket):
        send = counted(socket.socket.send, 16)
        def __init__(self, *args, **kwargs):
            (seen,) = struct.unpack_from("<Q", counts, 24)
            struct.pack_into("<Q", counts, 24, seen + 1)
            super().__init__(*args, **kwargs)
    socket.socket = Socket
"""
"""Counts from inside the process, into memory that the test sees."""


class Counts(NamedTuple):
    """How often something was done for one call, on average."""

    tasks: float
    turns: float
    writes: float
    sockets: float


class Counted:
    """A sidecar that counts."""

    def __init__(self, folder: Path) -> None:
        """Start it."""
        (folder / "sitecustomize.py").write_text(PROBE, "utf-8")
        file = folder / "counts"
        file.write_bytes(bytes(32))
        with file.open("r+b") as opened:
            self._memory = mmap.mmap(opened.fileno(), 32)
        self.sidecar = Sidecar(env={"PYTHONPATH": str(folder), "COUNTS": str(file)})

    def per_call(self, server: str | None) -> Counts:
        """Make calls, one after the other (`ping` without a server), and return what one cost."""
        self._calls(server, 5)
        before = self._read()
        self._calls(server, CALLS)
        return Counts(*((now - then) / CALLS for now, then in zip(self._read(), before, strict=True)))

    def _calls(self, server: str | None, count: int) -> None:
        for _ in range(count):
            if server is None:
                self.sidecar.call("ping")
            else:
                assert "content" in self.sidecar.tool(server, "echo").result

    def _read(self) -> tuple[int, ...]:
        return struct.unpack("<4Q", self._memory[:])


@pytest.fixture(scope="module")
def raw_http() -> Iterator[Program]:
    with Program("raw_http") as program:
        yield program


@pytest.fixture(scope="module")
def counted(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Counted]:
    made = Counted(tmp_path_factory.mktemp("counted"))
    with made.sidecar:
        yield made


def test_a_ping_makes_no_task_and_one_write(counted: Counted) -> None:
    cost = counted.per_call(None)
    assert cost.tasks < 0.1
    assert cost.writes == pytest.approx(1, abs=0.1)
    assert cost.turns < 3.5


@pytest.mark.parametrize("options", [(), ("--modern",)], ids=["legacy", "modern"])
def test_a_call_over_stdio_makes_one_task_and_two_writes(counted: Counted, options: tuple[str, ...]) -> None:
    name = f"stdio{len(options)}"
    counted.sidecar.connect(name, raw(*options))
    cost = counted.per_call(name)
    counted.sidecar.call("servers/disconnect", {"server": name})
    assert cost.tasks == pytest.approx(1, abs=0.1)
    assert cost.writes == pytest.approx(2, abs=0.1)
    assert cost.turns < 6.5


@pytest.mark.parametrize(("style", "most"), [("json", 1), ("stream", 2)])
@pytest.mark.parametrize("era", ["legacy", "modern"])
def test_a_call_over_http_makes_one_task_two_writes_and_no_connection(
    counted: Counted, raw_http: Program, style: str, most: int, era: str
) -> None:
    name = f"{style}-{era}"
    counted.sidecar.connect(name, raw_http.http(f"/{style}/{era}/{name}"))
    cost = counted.per_call(name)
    counted.sidecar.call("servers/disconnect", {"server": name})
    assert cost.tasks <= most + 0.1  # the end of an event stream is read beside the next call
    assert cost.writes == pytest.approx(2, abs=0.1)
    assert cost.sockets < 0.5
    assert cost.turns < 10


@pytest.mark.parametrize(("era", "most"), [("legacy", 130_000), ("modern", 100_000)])
def test_an_idle_connection_holds_little_memory(raw_http: Program, era: str, most: int) -> None:
    with Sidecar() as sidecar:

        def connect(number: int) -> Json:
            transport = raw_http.http(f"/json/{era}/idle-{era}-{number}")
            return {"server": f"s{number}", "transport": transport}

        for number in range(3):  # what all share comes with the first
            sidecar.call("servers/connect", connect(number))
        before = sidecar.rss()
        keys = [sidecar.request("servers/connect", connect(3 + number)) for number in range(MANY)]
        assert all(sidecar.answer(key).result["state"] == "ready" for key in keys)
        assert (sidecar.rss() - before) / MANY <= most
