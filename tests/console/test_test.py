"""`servers/test`: one attempt that tells what it found, and of which nothing stays behind."""

from __future__ import annotations

import sys
import time
from pathlib import Path
from typing import Any

import psutil
import pytest

from tests.answers import Json
from tests.conftest import Start
from tests.harness import PATIENCE, Sidecar
from tests.processes import assert_gone
from tests.programs import RAW_STDIO, Program, journal, raw


def trial(sidecar: Sidecar, server: str, transport: Json, **more: Any) -> Json:
    """Send a test and return its result; the connections are as before."""
    before = sidecar.call("servers/list", {"allScopes": True}).result
    told = len(sidecar.told("servers/changed"))
    result: Json = sidecar.call("servers/test", {"server": server, "transport": transport, **more}).result
    assert set(result["timings"]) == {"connectMs", "initMs", "listMs"}
    assert all(isinstance(taken, int) and taken >= 0 for taken in result["timings"].values())
    assert sidecar.call("servers/list", {"allScopes": True}).result == before
    assert len(sidecar.told("servers/changed")) == told
    return result


def servers(sidecar: Sidecar) -> list[psutil.Process]:
    """Return the hand-written servers of a sidecar; its guard may stay."""
    return [child for child in sidecar.tree() if RAW_STDIO in child.cmdline()]


def test_trial_tells_what_the_server_is_and_has(shared: Sidecar, name: str) -> None:
    result = trial(shared, name, raw("--pages", "3"))
    assert result["ok"] is True
    assert result["serverInfo"] == {"name": "raw", "version": "1", "vendor": None}
    assert (result["tools"], result["resources"], result["prompts"]) == (3, 3, 3)
    assert "error" not in result
    assert not servers(shared)
    shared.call("servers/get", {"server": name}).is_error(1101)


@pytest.mark.parametrize("path", ["/json/modern/test", "/stream/legacy/test", "/sse/legacy/test"])
def test_lists_that_are_not_offered_are_left_out(shared: Sidecar, name: str, raw_http: Program, path: str) -> None:
    kind = "sse" if path.startswith("/sse") else "http"
    result = trial(shared, name, {"type": kind, "url": raw_http.origin + path})
    assert result["ok"] is True
    assert result["tools"] == 1
    assert not {"resources", "prompts", "error"} & result.keys()


def test_policy_counts_what_the_host_would_see(shared: Sidecar, name: str) -> None:
    assert trial(shared, name, raw("--pages", "3"), tools={"deny": ["t1"]})["tools"] == 2


@pytest.mark.parametrize(
    ("transport", "code"),
    [
        ({"type": "stdio", "command": "/nonexistent/program"}, 1104),
        ({"type": "stdio", "command": sys.executable, "args": ["-c", "raise SystemExit(3)"]}, 1107),
        ({"type": "http", "url": "http://127.0.0.1:1/"}, 1102),
        ({"type": "http", "url": "http://169.254.169.254/"}, 1306),
        (raw("--handshake", "version"), 1105),
    ],
)
def test_failure_is_a_result_with_its_error(shared: Sidecar, name: str, transport: Json, code: int) -> None:
    result = trial(shared, name, transport)
    assert result["ok"] is False
    assert result["error"]["code"] == code
    assert result["error"]["data"]["server"] == name
    assert "attempts" not in result["error"]["data"]
    assert not {"serverInfo", "tools"} & result.keys()


def test_one_attempt_is_made_and_no_more(shared: Sidecar, name: str, tmp_path: Path) -> None:
    notes = tmp_path / "journal"
    result = trial(shared, name, raw("--journal", str(notes), "--handshake", "exit"))
    assert result["error"]["code"] == 1107
    assert journal(notes) == ["initialize"]


def test_attempt_is_bounded_by_connect_ms_and_the_whole_by_timeout_ms(shared: Sidecar, name: str) -> None:
    silent = raw("--handshake", "silent")
    result = trial(shared, name, silent, timeouts={"connectMs": 300})
    assert (result["error"]["code"], result["error"]["data"]["phase"]) == (1005, "connect")
    params = {"server": name, "transport": silent, "timeoutMs": 300}
    shared.call("servers/test", params).is_error(1005, phase="connect", delivered="no")


def test_process_of_a_trial_that_was_cancelled_is_gone(start: Start) -> None:
    sidecar = start()
    key = sidecar.request("servers/test", {"server": "a", "transport": raw("--handshake", "silent")})
    end = time.monotonic() + PATIENCE
    while not (children := servers(sidecar)):
        assert time.monotonic() < end
        sidecar.call("ping")
    sidecar.cancel(key)
    sidecar.answer(key).is_error(1004)
    assert_gone(children)
    assert sidecar.call("servers/list").result == {"servers": []}


def test_connection_of_the_same_name_is_not_touched(shared: Sidecar, server: str) -> None:
    before = shared.connect(server, raw())
    assert trial(shared, server, raw("--pages", "2"))["tools"] == 2
    assert shared.call("servers/get", {"server": server}).result["pid"] == before["pid"]
    assert trial(shared, server, {"type": "stdio", "command": "/nonexistent/program"})["ok"] is False
    assert shared.tool(server, "pids").result["structuredContent"]["pid"] == before["pid"]


def test_quotas_are_those_of_connect(start: Start) -> None:
    sidecar = start()
    limits = {"maxServers": 2, "maxProcesses": 1}
    sidecar.call("initialize", {"protocolVersion": 1, "host": {"name": "t", "version": "1"}, "limits": limits})
    sidecar.connect("a", raw())
    key = sidecar.start_tool("a", "slow", {"steps": 1, "delay": 30})
    sidecar.wait(lambda: sidecar.call("sidecar/health").result["inFlight"], "call in flight")
    error = trial(sidecar, "b", raw())["error"]
    assert (error["code"], error["data"]["limit"]) == (1007, "maxProcesses")
    sidecar.connect("b", raw(), lazy=True)
    error = trial(sidecar, "c", raw())["error"]
    assert (error["code"], error["data"]["limit"]) == (1007, "maxServers")
    sidecar.cancel(key)
    sidecar.answer(key)


@pytest.mark.parametrize(
    ("more", "path"),
    [
        ({"transport": {"type": "http", "url": "ws://x/"}}, "/transport/url"),
        ({"protocol": "2.0"}, "/protocol"),
        ({"nonsense": 1}, "/nonsense"),
    ],
)
def test_params_at_fault_are_an_error_of_the_method(shared: Sidecar, name: str, more: Json, path: str) -> None:
    params = {"server": name, "transport": raw(), **more}
    shared.call("servers/test", params).is_error(-32602, path=path)
