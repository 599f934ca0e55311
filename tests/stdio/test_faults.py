"""Servers on stdio that break: each fault costs its own call, at once, and the next call works."""

from __future__ import annotations

import base64
import time
from pathlib import Path
from typing import Any

import pytest

from tests.answers import Answer
from tests.conftest import Start
from tests.harness import Sidecar
from tests.programs import journal, raw

MIB = 1024 * 1024


def broken(sidecar: Sidecar, server: str, line: bytes, **more: Any) -> Answer:
    """Call a tool that answers with a given line, in which ID stands for the call's id."""
    return sidecar.tool(server, "raw", {"bytes": base64.b64encode(line).decode()}, timeoutMs=5000, **more)


@pytest.mark.parametrize(
    "line",
    [
        b'{"jsonrpc":"2.0","id":ID,"result":{"content":[{"type":"text","text":"\xff\xfe"}]}}',
        b'{"jsonrpc":"2.0","id":ID,"result":{"content":[}',
        b'{"jsonrpc":"2.0","id":ID,"result":{"x":NaN}}',
        b'{"jsonrpc":"2.0","id":ID,"result":{"x":Infinity}}',
        b'{"jsonrpc":"2.0","id":ID,"result":{"x":"\\ud800"}}',
        b'{"jsonrpc":"2.0","id":ID,"result":{"x":' + b"[" * 600 + b"]" * 600 + b"}}",
        b'{"jsonrpc":"2.0","id":ID,"result":{}} trailing',
        b'{"jsonrpc":"2.0","id":ID,"result":{"x":"\x00"}}',
        b'{"jsonrpc":"2.0","id":ID}',
    ],
    ids=["utf8", "json", "nan", "infinity", "surrogate", "deep", "trailing", "control", "empty"],
)
def test_bad_answer_is_1502_at_once_where_its_id_can_be_read(shared: Sidecar, server: str, line: bytes) -> None:
    shared.connect(server, raw())
    waiting = shared.start_tool(server, "silent")
    began = time.monotonic()
    answer = broken(shared, server, line)
    assert answer.is_error(1502, kind="BadPeerMessage", delivered="yes", retry="never")["reason"]
    assert answer.at - began < 1.0
    assert shared.tool(server, "echo").result
    assert waiting not in shared.answers
    assert shared.call("servers/get", {"server": server}).result["generation"] == 1
    shared.cancel(waiting)
    shared.answer(waiting).is_error(1004)


@pytest.mark.parametrize(
    "line",
    [
        b'{"jsonrpc":"2.0","id":987654,"result":{}}',
        b'{"jsonrpc":"2.0","id":null,"error":{"code":-32600,"message":"m"}}',
        b'[{"jsonrpc":"2.0","id":1,"result":{}}]',
        b'{"jsonrpc":"2.0","id":"ID.5","result":{}}',
        b"\xff\xfe\xfd",
        b"",
        b"null",
        b"<html>",
    ],
    ids=["wrong", "null", "batch", "string", "noise", "blank", "scalar", "html"],
)
def test_line_that_answers_no_call_is_skipped_and_the_call_runs_to_its_deadline(
    shared: Sidecar, server: str, line: bytes
) -> None:
    shared.connect(server, raw())
    encoded = base64.b64encode(line).decode()
    key = shared.start_tool(server, "raw", {"bytes": encoded}, timeoutMs=700)
    assert shared.tool(server, "echo").result
    shared.answer(key).is_error(1005, phase="wait", delivered="maybe")
    assert shared.tool(server, "echo").result
    assert shared.call("servers/get", {"server": server}).result["generation"] == 1


def test_nesting_of_512_levels_passes(shared: Sidecar, server: str) -> None:
    shared.connect(server, raw())
    assert shared.tool(server, "deep", {"depth": 500}).result


def test_error_data_over_64_kb_is_cut(shared: Sidecar, server: str) -> None:
    shared.connect(server, raw())
    remote = shared.tool(server, "big_error").is_error(1501, delivered="yes")["remote"]
    assert remote["code"] == 17
    assert remote["data"] == {"truncated": True, "bytes": 70_002}


def test_ten_kills_in_mid_call_each_fail_at_once_and_the_next_call_works(shared: Sidecar, server: str) -> None:
    shared.connect(server, raw())
    for number in range(10):
        waiting = shared.start_tool(server, "silent")
        assert shared.tool(server, "echo").result
        killed = shared.start_tool(server, "kill")
        began = time.monotonic()
        for key in (waiting, killed):
            answer = shared.answer(key)
            answer.is_error(1107, signal="SIGKILL", delivered="maybe", retry="safe", kind="ServerExited")
            assert answer.at - began <= 0.5
        answer = shared.tool(server, "echo", timeoutMs=2000)
        assert answer.result
        assert shared.call("servers/get", {"server": server}).result["generation"] == number + 2


def test_call_is_not_repeated_after_its_server_was_killed(shared: Sidecar, server: str, tmp_path: Path) -> None:
    notes = tmp_path / "journal"
    shared.connect(server, raw("--journal", str(notes)))
    shared.tool(server, "kill").is_error(1107, delivered="maybe")
    assert shared.tool(server, "echo").result
    assert journal(notes).count("call kill") == 1


def test_exit_tells_code_and_last_words(shared: Sidecar, server: str) -> None:
    shared.connect(server, raw())
    data = shared.tool(server, "exit", {"code": 9}).is_error(1107, exitCode=9, delivered="maybe")
    assert "last words" in data["stderrTail"]
    assert "signal" not in data
    assert shared.tool(server, "echo").result


def test_exit_with_an_heir_of_stdout_is_seen_within_a_second(shared: Sidecar, server: str) -> None:
    shared.connect(server, raw())
    began = time.monotonic()
    answer = shared.tool(server, "exit_with_heir")
    answer.is_error(1107, exitCode=0, delivered="maybe")
    assert answer.at - began <= 1.0
    assert shared.tool(server, "echo").result


def test_living_child_that_closes_its_stdout_is_1106(shared: Sidecar, server: str) -> None:
    shared.connect(server, raw())
    shared.tool(server, "close_stdout").is_error(1106, delivered="maybe", retry="safe")
    assert shared.tool(server, "echo").result


def test_child_that_stops_reading_holds_no_call_past_its_deadline(shared: Sidecar, server: str) -> None:
    shared.connect(server, raw())
    assert shared.tool(server, "stop_reading").result
    ping = shared.frame("ping")
    calls = [
        shared.frame(
            "tools/call",
            {"server": server, "name": "echo", "arguments": {"text": "x" * MIB}, "timeoutMs": 2000},
        )
        for _ in range(3)
    ]
    shared.send(*[body for _, body in calls], ping[1])
    began = shared.answer(ping[0]).at
    for key, _ in calls:
        answer = shared.answer(key)
        assert answer.data["phase"] in {"write", "wait", "queue"}
        answer.is_error(1005)
        assert 1.7 <= answer.at - began <= 2.3
    first = shared.answers[calls[0][0]]
    first.is_error(1005, phase="write", delivered="maybe")


def test_connection_whose_work_does_not_end_is_recycled_with_1109(shared: Sidecar, server: str) -> None:
    shared.connect(server, raw())
    assert shared.tool(server, "stop_reading").result
    big = {"text": "x" * MIB}
    shared.tool(server, "echo", big, timeoutMs=300).is_error(1005, phase="write", delivered="maybe")
    began = time.monotonic()
    other = shared.start_tool(server, "echo", big, timeoutMs=20_000)
    answer = shared.answer(other)
    assert answer.at - began <= 8.0
    if "error" in answer.body:
        data = answer.is_error(1109, kind="Unresponsive", retry="safe")
        assert data["stalledMs"] >= 4000
    assert shared.tool(server, "echo").result
    assert shared.call("servers/get", {"server": server}).result["generation"] == 2


def test_garbage_lines_do_not_cost_the_call(shared: Sidecar, server: str) -> None:
    shared.connect(server, raw())
    assert shared.tool(server, "garbage", {"count": 20_000}).result
    assert shared.call("servers/get", {"server": server}).result["generation"] == 1


def test_stderr_flood_neither_blocks_the_child_nor_fills_the_log(start: Start) -> None:
    sidecar = start()
    sidecar.connect("s", raw())
    base = sidecar.rss()
    assert sidecar.tool("s", "stderr", {"size": 50 * MIB}).result
    assert sidecar.tool("s", "echo").result
    assert sidecar.rss() <= base + 64 * MIB
    assert len(sidecar.stderr) <= 1 * MIB


def test_hundred_megabyte_line_is_1006_in_three_seconds_with_little_memory(start: Start) -> None:
    sidecar = start()
    sidecar.connect("s", raw())
    sidecar.connect("victim", raw())
    base = sidecar.rss()
    began = time.monotonic()
    key = sidecar.start_tool("s", "long_line", {"size": 100_000_000})
    slowest = 0.0
    while key not in sidecar.answers:
        before = time.monotonic()
        assert sidecar.tool("victim", "echo").result
        slowest = max(slowest, time.monotonic() - before)
    answer = sidecar.answer(key)
    answer.is_error(1006, delivered="yes", limit=16 * MIB)
    assert answer.at - began <= 3.0
    assert slowest <= 0.25
    assert sidecar.rss() <= base + 64 * MIB
    assert sidecar.tool("s", "echo").result


def test_request_that_no_host_promised_is_refused_to_the_server(shared: Sidecar, server: str) -> None:
    shared.connect(server, raw())
    assert shared.tool(server, "ping_back").result
    assert shared.tool(server, "echo").result
    assert shared.told("roots/list") == []


def test_cancel_notification_reaches_the_child_with_the_calls_id(shared: Sidecar, server: str, tmp_path: Path) -> None:
    notes = tmp_path / "journal"
    shared.connect(server, raw("--journal", str(notes)))
    key = shared.start_tool(server, "silent")
    assert shared.tool(server, "echo").result
    shared.cancel(key)
    shared.answer(key).is_error(1004, delivered="maybe")
    assert shared.tool(server, "wait_cancel").result["content"][0]["text"] == "cancelled"
    assert journal(notes).count("notification notifications/cancelled") == 1
