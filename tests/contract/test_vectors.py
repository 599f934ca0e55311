"""Each vector is sent to the real process; the line behind it always works."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from .exact import loads
from .talk import Talk
from .vectors import Vector, VectorFile, load, text_of

if TYPE_CHECKING:
    from collections.abc import Iterator

FILES = {name: load(name) for name in ("accepted.json", "faults.json", "silent.json", "sizes.json")}
CASES = [
    pytest.param(name, vector, id=f"{name.removesuffix('.json')}: {vector.name}")
    for name, file in FILES.items()
    for vector in file.vectors
]


def start(file: VectorFile) -> Talk:
    """Start a sidecar with the frame limit of the file."""
    sidecar = Talk()
    if file.max_frame_bytes is not None:
        params = {
            "protocolVersion": 1,
            "host": {"name": "vectors", "version": "1"},
            "limits": {"maxFrameBytes": file.max_frame_bytes},
        }
        sidecar.send({"jsonrpc": "2.0", "id": "init", "method": "initialize", "params": params})
        answer = loads(sidecar.line() or b"")
        assert answer["result"]["limits"]["maxFrameBytes"] == file.max_frame_bytes
    return sidecar


@pytest.fixture(scope="module")
def running() -> Iterator[dict[str, Talk]]:
    """One process per file of vectors; a bad line never costs it."""
    started = {name: start(file) for name, file in FILES.items()}
    yield started
    try:
        for sidecar in started.values():
            sidecar.end_input()
            assert sidecar.lines_until_exit() == []
            assert sidecar.exit_code() == 0
    finally:
        for sidecar in started.values():
            sidecar.kill()


@pytest.mark.parametrize(("name", "vector"), CASES)
def test_line_is_answered_as_the_contract_says_and_the_next_line_works(
    name: str, vector: Vector, running: dict[str, Talk]
) -> None:
    """The answers between the line and the next ping are exactly the expected ones."""
    if vector.end:
        answers = answers_before_next_ping(running[name], vector)
    else:
        with start(FILES[name]) as alone:
            alone.send_bytes(vector.line)
            alone.end_input()
            answers = alone.lines_until_exit()
            assert alone.exit_code() == 0
    check(vector, answers)


def answers_before_next_ping(sidecar: Talk, vector: Vector) -> list[bytes]:
    """Send the line and a ping; return what was answered besides the ping."""
    sidecar.send_bytes(vector.line + vector.end + b'{"jsonrpc":"2.0","id":"next","method":"ping"}\n')
    answers: list[bytes] = []
    expected = 0 if "silence" in vector.expect else 1
    pong = False
    while not pong or len(answers) < expected:
        line = sidecar.line()
        assert line is not None, f"the process ended: {sidecar.log()}"
        if loads(line).get("id") == "next":
            pong = True
        else:
            answers.append(line)
    return answers


def check(vector: Vector, answers: list[bytes]) -> None:
    """Compare what was answered to a vector with what it expects."""
    expect = vector.expect
    if "silence" in expect:
        assert answers == []
        return
    assert len(answers) == 1
    answer = loads(answers[0])
    assert answer["jsonrpc"] == "2.0"
    if "request" in expect:
        wanted = expect["request"]
        assert answer["id"] == (text_of(wanted).decode() if isinstance(wanted, dict) else wanted)
        text = answers[0]
        if "payload" in expect:
            assert b'"payload":' + text_of(expect["payload"]) + b"}" in text
        else:
            assert answer["result"] == {}
    elif "refused" in expect:
        assert answer["id"] == expect["refused"]
        assert answer["error"]["code"] == expect["code"]
    else:
        assert answer["id"] is None
        check_fault(expect, answer["error"])


def check_fault(expect: dict[str, Any], error: dict[str, Any]) -> None:
    """Compare the error of a faulty frame with what is expected."""
    data = error.get("data") or {}
    assert error["code"] == expect["fault"]
    assert error["message"]
    assert data.get("limit") == expect.get("limit")
    if "id" in expect:
        assert data.get("id") == expect["id"]
    elif "mayId" in expect:
        assert data.get("id", expect["mayId"]) == expect["mayId"]
    elif not expect.get("anyId"):
        assert "id" not in data
