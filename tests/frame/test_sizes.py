"""Lines of every size: right answer or -32600, memory bounded, still in sync."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.conftest import Start
from tests.harness import PATIENCE, Sidecar
from tests.programs import raw

KIB = 1024
MIB = 1024 * KIB
HEAD = b'{"jsonrpc":"2.0","id":"size","method":"ping","params":{"payload":"'
TAIL = b'"}}'


def peak(sidecar: Sidecar) -> int:
    """Return the most memory that the process ever held, in bytes."""
    text = Path(f"/proc/{sidecar.process.pid}/status").read_text()
    return int(text.split("VmHWM:")[1].split()[0]) * KIB


def line(size: int) -> bytes:
    """Return a ping of exactly `size` bytes."""
    return HEAD + b"x" * (size - len(HEAD) - len(TAIL)) + TAIL


@pytest.mark.parametrize("size", [64 * KIB - 1, 64 * KIB, 64 * KIB + 1, 70_000, MIB, 5 * MIB])
def test_line_comes_back_whole(shared: Sidecar, size: int) -> None:
    shared.answers.pop("size", None)
    shared.send_bytes(line(size) + b"\n")
    answer = shared.answer("size")
    assert answer.result["payload"] == "x" * (size - len(HEAD) - len(TAIL))
    assert shared.call("ping").result == {}


@pytest.mark.parametrize("cap", [MIB, 64 * MIB])
def test_limit_is_exact_and_memory_stays_bounded(start: Start, cap: int) -> None:
    sidecar = start()
    params = {"protocolVersion": 1, "host": {"name": "t", "version": "1"}, "limits": {"maxFrameBytes": cap}}
    assert sidecar.call("initialize", params).result["limits"]["maxFrameBytes"] == cap
    sidecar.connect("loads-the-engine", raw())
    base = peak(sidecar)
    for size in (cap - 1, cap):
        for ending in (b"\n", b"\r\n"):
            sidecar.answers.pop("size", None)
            sidecar.send_bytes(line(size) + ending, patience=2 * PATIENCE)
            assert len(sidecar.answer("size").result["payload"]) == size - len(HEAD) - len(TAIL)
    assert sidecar.faults == []
    for size in (cap + 1, cap + 64 * KIB, 2 * cap):
        sidecar.faults.clear()
        sidecar.send_bytes(line(size) + b"\n", patience=2 * PATIENCE)
        assert sidecar.call("ping").result == {}
        (fault,) = sidecar.faults
        assert fault["code"] == -32600
        assert fault["data"] == {"id": "size", "limit": cap}
    assert peak(sidecar) <= base + 3 * cap + 4 * MIB


def test_result_over_the_frame_limit_is_1006(start: Start) -> None:
    sidecar = start()
    params = {"protocolVersion": 1, "host": {"name": "t", "version": "1"}, "limits": {"maxFrameBytes": MIB}}
    sidecar.call("initialize", params)
    sidecar.connect("s", raw())
    data = sidecar.tool("s", "big", {"size": 2 * MIB}).is_error(1006, delivered="yes", limit=MIB)
    assert data["bytes"] > 2 * MIB
    assert sidecar.tool("s", "echo").result


def test_line_that_is_longer_than_a_pipe_comes_byte_by_byte(start: Start) -> None:
    sidecar = start()
    for byte in line(300):
        sidecar.send_bytes(bytes([byte]))
    sidecar.send_bytes(b"\n")
    assert sidecar.answer("size").result["payload"]


def test_unfinished_line_over_the_limit_is_skipped_to_its_newline(start: Start) -> None:
    sidecar = start()
    params = {"protocolVersion": 1, "host": {"name": "t", "version": "1"}, "limits": {"maxFrameBytes": 64 * KIB}}
    sidecar.call("initialize", params)
    sidecar.send_bytes(HEAD + b"x" * 300 * KIB)
    assert "size" not in sidecar.answers
    sidecar.send_bytes(b'"}}\n{"jsonrpc":"2.0","id":"after","method":"ping"}\n')
    assert sidecar.answer("after").result == {}
    assert [fault["code"] for fault in sidecar.faults] == [-32600]
