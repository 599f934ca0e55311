"""A connection that was ready and is lost comes back with a back-off, and ends in `failed`."""

from __future__ import annotations

import sys
from pathlib import Path

from tests.answers import Json
from tests.conftest import Start
from tests.harness import ROOT, Sidecar
from tests.programs import RAW_STDIO, Program, journal, raw


def states(sidecar: Sidecar, server: str) -> list[tuple[str, int]]:
    """Return the states that were told of a server, each with its generation."""
    return [(i["state"], i["generation"]) for i in sidecar.told("servers/changed") if i["server"] == server]


def script(path: Path, body: str) -> Json:
    """Return the transport of a shell script that can be changed while it is known."""
    path.write_text(f"#!/bin/sh\n{body}\n", encoding="utf-8")
    path.chmod(0o700)
    return {"type": "stdio", "command": str(path), "cwd": str(ROOT)}


def test_lost_child_that_cannot_start_again_has_five_attempts_then_fails_with_its_exit(
    start: Start, tmp_path: Path
) -> None:
    sidecar = start()
    notes = tmp_path / "starts"
    program = tmp_path / "server"
    sidecar.connect("s", script(program, f"exec {sys.executable} {RAW_STDIO}"))
    assert sidecar.tool("s", "echo").result
    script(program, f"echo start >> {notes}; exit 7")
    sidecar.tool("s", "kill").is_error(1107, signal="SIGKILL", delivered="maybe")
    waiting = sidecar.start_tool("s", "echo", timeoutMs=15000)
    failed = sidecar.wait_told("servers/changed", lambda info: info["state"] == "failed")
    assert failed["lastError"]["code"] == 1107
    assert failed["lastError"]["data"]["exitCode"] == 7
    assert failed["attempts"] == 5
    assert journal(notes) == ["start"] * 5
    sidecar.answer(waiting).is_error(1107, exitCode=7, delivered="no")
    sidecar.tool("s", "echo").is_error(1107, exitCode=7, delivered="no")
    assert states(sidecar, "s") == [("connecting", 0), ("ready", 1), ("retrying", 1), ("failed", 1)]
    # The host may always ask again.
    script(program, f"exec {sys.executable} {RAW_STDIO}")
    info = sidecar.call(
        "servers/connect", {"server": "s", "transport": script(program, f"exec {sys.executable} {RAW_STDIO}")}
    )
    assert info.result["generation"] == 2
    assert sidecar.tool("s", "echo").result


def test_child_that_answers_a_call_between_its_ends_begins_the_count_anew(shared: Sidecar, server: str) -> None:
    shared.connect(server, raw())
    for generation in range(1, 8):
        assert shared.tool(server, "echo").result
        assert shared.call("servers/get", {"server": server}).result["generation"] == generation
        shared.tool(server, "kill").is_error(1107, delivered="maybe")
    assert shared.tool(server, "echo").result
    assert ("failed", 8) not in states(shared, server)


def test_child_that_dies_of_each_first_call_ends_in_failed(shared: Sidecar, server: str) -> None:
    shared.connect(server, raw())
    for _ in range(6):
        shared.tool(server, "kill").is_error(1107, delivered="maybe")
    failed = shared.wait_told("servers/changed", lambda info: info["server"] == server and info["state"] == "failed")
    assert failed["lastError"]["data"]["signal"] == "SIGKILL"
    shared.tool(server, "echo").is_error(1107, delivered="no")


def test_http_server_that_is_away_is_retried_and_found_again(start: Start) -> None:
    sidecar = start()
    with Program("raw_http") as program:
        sidecar.connect("s", program.http("/json/modern/away"))
        assert sidecar.tool("s", "echo").result
        port = program.port
    sidecar.tool("s", "echo").is_error(1102, errno="ECONNREFUSED", phase="tcp", delivered="no", retry="after")
    lost = sidecar.wait_told("servers/changed", lambda info: info["state"] == "retrying")
    assert lost["facts"]["reachable"] is False
    assert lost["lastError"]["code"] == 1102
    waiting = sidecar.start_tool("s", "echo", timeoutMs=20000)
    with Program("raw_http", "--port", str(port)):
        assert sidecar.answer(waiting).result
        info = sidecar.call("servers/get", {"server": "s"}).result
        assert info["generation"] == 2
        assert info["facts"]["reachable"] is True


def test_first_attempt_that_fails_is_not_repeated_but_stays_an_address(shared: Sidecar, server: str) -> None:
    with Program("raw_http") as program:
        transport = program.http("/json/modern/never")
    params = {"server": server, "transport": transport}
    shared.call("servers/connect", params).is_error(1102, delivered="no")
    assert states(shared, server) == [("connecting", 0), ("failed", 0)]
    shared.tool(server, "echo").is_error(1102, delivered="no")


def test_connect_to_a_connection_that_is_retrying_joins_its_next_attempt(start: Start, tmp_path: Path) -> None:
    sidecar = start()
    program = tmp_path / "server"
    transport = script(program, f"exec {sys.executable} {RAW_STDIO}")
    sidecar.connect("s", transport)
    script(program, "exit 7")
    sidecar.tool("s", "kill").is_error(1107)
    sidecar.call("servers/connect", {"server": "s", "transport": transport}).is_error(1107, exitCode=7)
    script(program, f"exec {sys.executable} {RAW_STDIO}")
    assert sidecar.connect("s", transport)["generation"] == 2
    assert sidecar.tool("s", "echo").result


def test_expired_session_is_renewed_and_counted_while_other_calls_go_on(start: Start, raw_http: Program) -> None:
    sidecar = start()
    sidecar.connect("s", raw_http.http("/stream/legacy/renewed"))
    slow = sidecar.start_tool("s", "slow", {"steps": 8, "delay": 0.1}, progress=True)
    sidecar.wait_told("notifications/progress")
    assert sidecar.tool("s", "forget_session").result
    assert sidecar.tool("s", "echo").result
    info = sidecar.call("servers/get", {"server": "s"}).result
    assert info["generation"] == 2
    assert sidecar.answer(slow).result["content"][0]["text"] == "done"
