"""How the process stops: what is in flight is answered, what is new is refused, the exit code is 0."""

from __future__ import annotations

import signal
import time

import pytest

from tests.conftest import Start
from tests.harness import Sidecar
from tests.programs import Program, raw

HOST = {"name": "tests", "version": "1"}


def begin(start: Start) -> Sidecar:
    """Return an initialised sidecar with one server."""
    sidecar = start()
    sidecar.call("initialize", {"protocolVersion": 1, "host": HOST})
    sidecar.connect("s", raw())
    return sidecar


def test_calls_in_flight_are_answered_after_the_end_of_input(start: Start) -> None:
    sidecar = begin(start)
    keys = [sidecar.start_tool("s", "slow", {"steps": 10, "delay": 0.05}) for _ in range(50)]
    sidecar.end_input()
    assert sidecar.exit_code() == 0
    for key in keys:
        assert sidecar.answer(key).result["content"][0]["text"] == "done"


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_signal_drains_and_refuses_what_is_new(start: Start, number: signal.Signals) -> None:
    sidecar = begin(start)
    keys = [sidecar.start_tool("s", "slow", {"steps": 10, "delay": 0.05}) for _ in range(50)]
    sidecar.tool("s", "echo")
    sidecar.process.send_signal(number)
    while "result" in (late := sidecar.tool("s", "echo")).body:
        pass  # the signal has not arrived yet
    late.is_error(1002, kind="Draining", delivered="no", retry="reconnect")
    for key in keys:
        assert sidecar.answer(key).result["content"][0]["text"] == "done"
    assert sidecar.exit_code() == 0


def test_shutdown_answers_after_the_calls_and_cuts_the_rest_at_its_deadline(start: Start) -> None:
    sidecar = begin(start)
    silent = sidecar.start_tool("s", "silent")
    slow = sidecar.start_tool("s", "slow", {"steps": 2, "delay": 0.05})
    sidecar.tool("s", "echo")
    began = time.monotonic()
    shutdown = sidecar.request("shutdown", {"deadlineMs": 700})
    late = sidecar.start_tool("s", "echo")
    sidecar.answer(late).is_error(1002, delivered="no")
    assert sidecar.answer(slow).result
    data = sidecar.answer(silent).is_error(1002, delivered="maybe", retry="reconnect", server="s")
    assert data["deadlineMs"] == 700
    assert sidecar.answer(shutdown).result == {}
    assert sidecar.exit_code() == 0
    assert 0.6 <= time.monotonic() - began <= 3.0


def test_shutdown_without_work_is_quick(start: Start) -> None:
    sidecar = begin(start)
    began = time.monotonic()
    assert sidecar.call("shutdown").result == {}
    assert sidecar.exit_code() == 0
    assert time.monotonic() - began <= 2.0


def test_call_that_never_ends_is_cut_ten_seconds_after_the_end_of_input(start: Start) -> None:
    sidecar = begin(start)
    silent = sidecar.start_tool("s", "silent")
    sidecar.tool("s", "echo")
    began = time.monotonic()
    sidecar.end_input()
    data = sidecar.answer(silent).is_error(1002, delivered="maybe")
    assert data["deadlineMs"] == 10_000
    assert 9.5 <= time.monotonic() - began <= 11.0
    assert sidecar.exit_code() == 0


def test_without_initialize_requests_run_to_their_own_deadlines(start: Start) -> None:
    sidecar = start()
    sidecar.connect("s", raw())
    silent = sidecar.start_tool("s", "silent", timeoutMs=11_000)
    sidecar.tool("s", "echo")
    began = time.monotonic()
    sidecar.end_input()
    sidecar.answer(silent).is_error(1005, phase="wait")
    assert 10.5 <= time.monotonic() - began <= 12.0
    assert sidecar.exit_code() == 0


def test_remote_sessions_are_closed_politely(start: Start, raw_http: Program) -> None:
    sidecar = start()
    sidecar.call("initialize", {"protocolVersion": 1, "host": HOST})
    sidecar.connect("s", raw_http.http("/json/legacy/politely"))
    assert sidecar.call("shutdown").result == {}
    assert sidecar.exit_code() == 0
    assert "DELETE" in raw_http.get("/wait?key=politely&what=DELETE")


def test_server_that_never_answers_the_handshake_does_not_hold_the_exit(start: Start) -> None:
    sidecar = start()
    sidecar.call("initialize", {"protocolVersion": 1, "host": HOST})
    params = {"server": "s", "transport": raw("--handshake", "silent"), "wait": False, "protocol": "legacy"}
    sidecar.call("servers/connect", params)
    began = time.monotonic()
    assert sidecar.call("shutdown", {"deadlineMs": 200}).result == {}
    assert sidecar.exit_code() == 0
    assert time.monotonic() - began <= 7.0


def test_every_request_of_a_burst_before_the_end_is_answered(start: Start) -> None:
    sidecar = start()
    frames = [sidecar.frame("servers/connect", {"server": "s", "transport": raw()})]
    frames += [sidecar.frame("tools/call", {"server": "s", "name": "echo", "arguments": {"n": n}}) for n in range(300)]
    sidecar.send(*[body for _, body in frames])
    sidecar.end_input()
    assert sidecar.exit_code() == 0
    for key, _ in frames:
        assert sidecar.answer(key).result


def test_line_that_waits_for_the_models_is_answered_though_a_signal_comes_before_them(start: Start) -> None:
    sidecar = start()
    assert sidecar.call("ping").result == {}  # from here on a signal is handled, and the models are still loading
    waiting = sidecar.request("servers/list")
    sidecar.call("ping")
    sidecar.process.send_signal(signal.SIGTERM)
    assert sidecar.answer(waiting).result == {"servers": []}
    assert sidecar.exit_code() == 0
