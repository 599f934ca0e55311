"""What nobody uses is closed, and comes back by itself: the idle time and the full budgets."""

from __future__ import annotations

from tests.answers import Json
from tests.conftest import Start
from tests.harness import Sidecar
from tests.programs import Program, raw

HOST = {"name": "tests", "version": "1"}


def begin(start: Start, **limits: int) -> Sidecar:
    """Return a sidecar with limits of the process."""
    sidecar = start()
    assert sidecar.call("initialize", {"protocolVersion": 1, "host": HOST, "limits": limits}).result
    return sidecar


def idle(sidecar: Sidecar, server: str) -> Json:
    """Wait until a connection was closed for want of use."""
    return sidecar.wait_told(
        "servers/changed", lambda info: info["server"] == server and info["state"] == "idle" and info["generation"] > 0
    )


def test_unused_connection_is_closed_after_its_idle_time_and_returns(
    shared: Sidecar, server: str, raw_http: Program
) -> None:
    shared.connect(server, raw_http.http("/json/modern/idle"), timeouts={"idleMs": 200})
    idle(shared, server)
    assert shared.tool(server, "echo").result
    info = shared.call("servers/get", {"server": server}).result
    assert info["generation"] == 2
    assert shared.states(server)[:5] == ["connecting", "ready", "idle", "connecting", "ready"]


def test_child_is_closed_only_where_its_host_gave_the_idle_time(start: Start, raw_http: Program) -> None:
    sidecar = begin(start, idleTimeoutMs=200)
    sidecar.connect("child", raw())
    sidecar.connect("legacy", raw_http.http("/json/legacy/kept"))
    sidecar.connect("asked", raw(), timeouts={"idleMs": 200})
    sidecar.connect("modern", raw_http.http("/json/modern/kept"))
    idle(sidecar, "asked")
    idle(sidecar, "modern")
    assert sidecar.call("servers/get", {"server": "child"}).result["state"] == "ready"
    assert sidecar.call("servers/get", {"server": "legacy"}).result["state"] == "ready"
    assert sidecar.tool("asked", "echo").result


def test_call_in_flight_keeps_its_connection(shared: Sidecar, server: str) -> None:
    shared.connect(server, raw(), timeouts={"idleMs": 150})
    key = shared.start_tool(server, "slow", {"steps": 5, "delay": 0.1}, progress=True)
    assert shared.answer(key).result["content"][0]["text"] == "done"
    assert "idle" not in shared.states(server)
    idle(shared, server)


def test_full_process_budget_closes_the_least_recently_used(start: Start) -> None:
    sidecar = begin(start, maxProcesses=2)
    sidecar.connect("a", raw())
    sidecar.connect("b", raw())
    assert sidecar.tool("a", "echo").result
    assert sidecar.connect("c", raw())["state"] == "ready"
    idle(sidecar, "b")
    assert sidecar.call("servers/get", {"server": "a"}).result["state"] == "ready"
    # It returns at its next use, in the place of another.
    assert sidecar.tool("b", "echo").result
    idle(sidecar, "a")
    assert sidecar.call("servers/get", {"server": "b"}).result["generation"] == 2


def test_full_budget_of_busy_processes_refuses_the_newcomer(start: Start) -> None:
    sidecar = begin(start, maxProcesses=1)
    sidecar.connect("a", raw())
    sidecar.connect("b", raw(), lazy=True)
    key = sidecar.start_tool("a", "silent")
    sidecar.tool("a", "echo")
    sidecar.tool("b", "echo").is_error(1007, limit="maxProcesses", value=1, delivered="no")
    assert sidecar.call("servers/get", {"server": "b"}).result["state"] == "idle"
    sidecar.cancel(key)
    sidecar.answer(key).is_error(1004)
    assert sidecar.tool("b", "echo").result


def test_memory_budget_closes_what_is_unused_and_keeps_every_address_usable(start: Start, raw_http: Program) -> None:
    plain = start()
    plain.connect("s", raw_http.http("/json/modern/memory"))
    budget = plain.call("sidecar/health").result["rssBytes"] + (5 << 20)
    sidecar = begin(start, memoryBudgetBytes=budget)
    for number in range(150):
        sidecar.connect(f"s{number}", raw_http.http("/json/modern/memory"))
    health = sidecar.call("sidecar/health").result
    assert health["servers"]["idle"] > 10
    assert health["rssBytes"] <= budget + (2 << 20)
    for number in (0, 70, 149):
        assert sidecar.tool(f"s{number}", "echo").result


def test_memory_budget_below_the_process_itself_refuses_every_connection(start: Start, raw_http: Program) -> None:
    sidecar = begin(start, memoryBudgetBytes=1 << 20)
    params = {"server": "s", "transport": raw_http.http("/json/modern/none")}
    sidecar.call("servers/connect", params).is_error(1007, limit="memoryBudgetBytes", value=1 << 20)
    sidecar.call("servers/get", {"server": "s"}).is_error(1101)
