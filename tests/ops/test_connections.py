"""Connections by address: states, waiting, single-flight, replacing, scopes."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from tests.answers import Json
from tests.conftest import Start
from tests.harness import Sidecar
from tests.programs import Program, journal, raw

HOST = {"name": "tests", "version": "1"}


def changed(sidecar: Sidecar, server: str) -> list[Json]:
    """Return what `servers/changed` told about a server."""
    return [params for params in sidecar.told("servers/changed") if params["server"] == server]


def test_connect_waits_until_ready_and_tells_each_state(shared: Sidecar, server: str) -> None:
    info = shared.connect(server, raw())
    assert info["server"] == server
    assert info["scope"] == {}
    assert info["state"] == "ready"
    assert info["generation"] == 1
    assert info["transport"] == "stdio"
    assert info["protocolVersion"] == "2025-11-25"
    assert info["era"] == "legacy"
    assert info["serverInfo"] == {"name": "raw", "version": "1", "vendor": None}
    assert info["capabilities"]["vendor"] == {"k": None}
    assert info["instructions"] == "be kind"
    assert info["auth"]["type"] == "none"
    assert info["auth"]["state"] == "none"
    assert info["facts"]["process"] is True
    assert info["facts"]["reachable"] is True
    assert isinstance(info["pid"], int)
    assert "lastError" not in info
    assert shared.states(server) == ["connecting", "ready"]
    assert changed(shared, server)[-1] == info
    assert shared.call("servers/get", {"server": server}).result == info


def test_modern_server_shows_its_era(shared: Sidecar, server: str, modern: Program) -> None:
    info = shared.connect(server, modern.http())
    assert info["state"] == "ready"
    assert info["era"] == "modern"
    assert info["protocolVersion"] == "2026-07-28"
    assert info["serverInfo"]["name"] == "modern"
    assert info["transport"] == "http"
    assert "pid" not in info
    assert modern.origin not in str(info)


@pytest.mark.parametrize(("protocol", "era"), [("auto", "modern"), ("legacy", "legacy"), ("2026-07-28", "modern")])
def test_protocol_chooses_the_era(shared: Sidecar, server: str, modern: Program, protocol: str, era: str) -> None:
    info = shared.connect(server, modern.http(), protocol=protocol)
    assert info["era"] == era
    assert info["state"] == "ready"
    assert shared.tool(server, "add", {"a": 1, "b": 2}).result["structuredContent"] == {"result": 3}


def test_push_offers_the_handshake_first(shared: Sidecar, server: str, modern: Program) -> None:
    assert shared.connect(server, modern.http(), protocol="push")["era"] == "legacy"
    assert shared.tool(server, "add", {"a": 1, "b": 2}).result


def test_unsupported_protocol_names_what_is_allowed_and_leaves_no_address(shared: Sidecar, name: str) -> None:
    params = {"server": name, "transport": raw(), "protocol": "2030-01-01"}
    data = shared.call("servers/connect", params).is_error(-32602)
    assert data["allowed"] == ["auto", "legacy", "push", "2026-07-28"]
    assert data["path"] == "/protocol"
    shared.call("servers/get", {"server": name}).is_error(1101)


def test_wait_false_answers_at_once(shared: Sidecar, server: str) -> None:
    params = {"server": server, "transport": raw("--handshake", "silent"), "wait": False}
    assert shared.call("servers/connect", params).result["state"] == "connecting"
    assert shared.states(server) == ["connecting"]


def test_wait_ready_waits_for_ready(shared: Sidecar, server: str) -> None:
    assert shared.connect(server, raw(), wait="ready")["state"] == "ready"


def test_lazy_address_connects_at_its_first_use(shared: Sidecar, server: str) -> None:
    info = shared.connect(server, raw(), lazy=True)
    assert info["state"] == "idle"
    assert info["generation"] == 0
    assert "pid" not in info
    assert shared.tool(server, "echo").result
    info = shared.call("servers/get", {"server": server}).result
    assert info["state"] == "ready"
    assert info["generation"] == 1
    assert shared.states(server)[-2:] == ["connecting", "ready"]


def test_calls_during_one_attempt_share_it(shared: Sidecar, server: str, tmp_path: Path) -> None:
    notes = tmp_path / "journal"
    shared.connect(server, raw("--journal", str(notes)), lazy=True)
    keys = [shared.start_tool(server, "echo", {"n": n}) for n in range(10)]
    for key in keys:
        assert shared.answer(key).result
    assert journal(notes).count("initialize") == 1


def test_same_config_again_joins_and_changes_nothing(shared: Sidecar, server: str, tmp_path: Path) -> None:
    notes = tmp_path / "journal"
    params = {"server": server, "transport": raw("--journal", str(notes))}
    keys = [shared.request("servers/connect", params) for _ in range(5)]
    infos = [shared.answer(key).result for key in keys]
    assert {info["state"] for info in infos} == {"ready"}
    assert {info["pid"] for info in infos} == {infos[0]["pid"]}
    again = shared.call("servers/connect", params | {"wait": False, "timeoutMs": 1000, "lazy": True}).result
    assert again["generation"] == 1
    assert journal(notes).count("initialize") == 1


def test_other_config_under_a_name_is_1111_unless_it_replaces(shared: Sidecar, server: str) -> None:
    first = shared.connect(server, raw())
    params = {"server": server, "transport": raw("--pages", "2")}
    shared.call("servers/connect", params).is_error(1111, kind="ServerExists", delivered="no", retry="never")
    assert shared.call("servers/get", {"server": server}).result["pid"] == first["pid"]
    assert shared.tool(server, "echo").result
    second = shared.call("servers/connect", params | {"replace": True}).result
    assert second["state"] == "ready"
    assert second["pid"] != first["pid"]
    assert shared.tool(server, "echo").result


def test_other_config_is_1111_also_where_the_first_one_failed(shared: Sidecar, server: str) -> None:
    bad = {"type": "stdio", "command": "/nonexistent/program"}
    shared.call("servers/connect", {"server": server, "transport": bad}).is_error(1104)
    shared.call("servers/connect", {"server": server, "transport": raw()}).is_error(1111)
    params = {"server": server, "transport": raw(), "replace": True}
    assert shared.call("servers/connect", params).result["state"] == "ready"


def test_failed_connection_stays_failed_and_answers_its_last_error(shared: Sidecar, server: str) -> None:
    params = {"server": server, "transport": {"type": "stdio", "command": "/nonexistent/program"}}
    shared.call("servers/connect", params).is_error(1104, errno="ENOENT", server=server, scope={}, delivered="no")
    info = shared.call("servers/get", {"server": server}).result
    assert info["state"] == "failed"
    assert info["lastError"]["code"] == 1104
    assert info["generation"] == 0
    shared.tool(server, "echo").is_error(1104, delivered="no")
    shared.call("servers/connect", params).is_error(1104)
    assert shared.states(server) == ["connecting", "failed", "connecting", "failed"]


def test_unknown_and_foreign_names_are_the_same_1101(shared: Sidecar, server: str) -> None:
    mine = {"tenant": "a", "user": "u"}
    shared.connect(server, raw(), scope=mine)
    unknown = shared.call("servers/get", {"server": "nobody", "scope": {"tenant": "b"}})
    foreign = shared.call("servers/get", {"server": server, "scope": {"tenant": "b"}})
    unknown.is_error(1101, kind="UnknownServer", delivered="no", retry="reconnect")
    foreign.is_error(1101, kind="UnknownServer", delivered="no", retry="reconnect")
    assert unknown.error["message"].replace("nobody", server) == foreign.error["message"]
    for scope in ({}, {"tenant": "a"}, {"user": "u"}, mine | {"session": "s"}, {"tenant": "u", "user": "a"}):
        key = shared.request("tools/call", {"server": server, "scope": scope, "name": "echo"})
        shared.answer(key).is_error(1101)
    assert shared.tool(server, "echo", scope=mine).result
    shared.call("servers/disconnect", {"server": server}).is_error(1101)
    assert shared.call("servers/disconnect", {"server": server, "scope": mine}).result == {}
    shared.connect(server, raw(), lazy=True)


def test_one_name_in_two_scopes_is_two_connections(start: Start) -> None:
    sidecar = start()
    infos = [sidecar.connect("s", raw(), scope={"user": user}) for user in ("a", "b")]
    assert infos[0]["pid"] != infos[1]["pid"]
    assert infos[0]["scope"] == {"user": "a"}
    mine = sidecar.call("servers/list", {"scope": {"user": "a"}}).result["servers"]
    assert [info["pid"] for info in mine] == [infos[0]["pid"]]
    assert sidecar.call("servers/list").result == {"servers": []}
    every = sidecar.call("servers/list", {"allScopes": True}).result["servers"]
    assert {info["pid"] for info in every} == {info["pid"] for info in infos}
    for info in infos:
        told = sidecar.tool("s", "pids", scope=info["scope"]).result["structuredContent"]
        assert told["pid"] == info["pid"]


def test_empty_and_absent_scope_are_the_same(shared: Sidecar, server: str) -> None:
    shared.connect(server, raw(), scope={"tenant": "", "user": ""})
    assert shared.call("servers/get", {"server": server, "scope": {}}).result["scope"] == {}
    assert shared.tool(server, "echo").result


def test_lost_connection_is_retrying_and_returns_by_itself(shared: Sidecar, server: str) -> None:
    first = shared.connect(server, raw())
    shared.tool(server, "kill").is_error(1107, signal="SIGKILL", delivered="maybe", retry="safe")
    lost = shared.wait_told("servers/changed", lambda info: info["server"] == server and info["state"] == "retrying")
    assert lost["lastError"]["code"] == 1107
    assert lost["facts"]["process"] is False
    assert lost["facts"]["reachable"] is False
    assert shared.tool(server, "echo").result
    second = shared.call("servers/get", {"server": server}).result
    assert second["state"] == "ready"
    assert second["generation"] == 2
    assert second["pid"] != first["pid"]
    assert shared.states(server) == ["connecting", "ready", "retrying", "ready"]


def test_disconnect_ends_calls_and_forgets_the_name(shared: Sidecar, server: str) -> None:
    shared.connect(server, raw())
    key = shared.start_tool(server, "silent")
    shared.tool(server, "echo")
    assert shared.call("servers/disconnect", {"server": server}).result == {}
    shared.answer(key).is_error(1106, reason="disconnected", delivered="maybe")
    assert shared.states(server)[-1] == "closed"
    shared.tool(server, "echo").is_error(1101)
    shared.call("servers/disconnect", {"server": server}).is_error(1101)
    shared.connect(server, raw(), lazy=True)


def test_disconnect_answers_within_six_seconds_whatever_the_child_does(start: Start) -> None:
    sidecar = start()
    sidecar.connect("s", raw("--ignore-eof", "--ignore-term", "--grandchild", "stubborn"))
    left = sidecar.tree()
    assert len(left) >= 3
    answer = sidecar.call("servers/disconnect", {"server": "s"}, patience=6.0)
    assert answer.result == {}
    children = sidecar.tree()
    assert not [child for child in children if "raw_stdio" in " ".join(child.cmdline())]
    assert not [child for child in children if "SIG_IGN" in " ".join(child.cmdline())]


def test_deadline_of_connect_ends_the_wait_and_not_the_attempt(shared: Sidecar, server: str) -> None:
    transport = raw("--handshake", "silent")
    params = {"server": server, "transport": transport, "timeouts": {"connectMs": 900}, "protocol": "legacy"}
    shared.call("servers/connect", params | {"timeoutMs": 300}).is_error(1005, phase="connect", delivered="no")
    assert shared.call("servers/get", {"server": server}).result["state"] == "connecting"
    info = shared.wait_told("servers/changed", lambda info: info["server"] == server and info["state"] == "failed")
    assert info["lastError"]["code"] == 1005
    assert info["lastError"]["data"]["phase"] == "connect"
    shared.tool(server, "echo").is_error(1005, phase="connect", delivered="no")


def test_cancelled_connect_leaves_the_attempt(shared: Sidecar, server: str) -> None:
    transport = raw("--handshake", "silent")
    key = shared.request("servers/connect", {"server": server, "transport": transport, "protocol": "legacy"})
    shared.wait_told("servers/changed", lambda info: info["server"] == server)
    shared.cancel(key)
    shared.answer(key).is_error(1004, delivered="no")
    assert shared.call("servers/get", {"server": server}).result["state"] == "connecting"


@pytest.mark.parametrize("kind", ["modern", "legacy", "sse", "stdio"])
def test_servers_ping_works_in_every_era(
    shared: Sidecar, server: str, kind: str, modern: Program, legacy: Program, sse: Program
) -> None:
    transports = {"modern": modern.http(), "legacy": legacy.http(), "sse": sse.sse(), "stdio": raw()}
    shared.connect(server, transports[kind])
    assert shared.call("servers/ping", {"server": server}).result == {}


@pytest.mark.parametrize(
    ("limits", "limit"), [({"maxServers": 2}, "maxServers"), ({"maxServersPerScope": 2}, "maxServersPerScope")]
)
def test_too_many_addresses_are_1007_with_the_setting(start: Start, limits: Json, limit: str) -> None:
    sidecar = start()
    sidecar.call("initialize", {"protocolVersion": 1, "host": HOST, "limits": limits})
    for number in range(2):
        sidecar.connect(f"s{number}", raw(), lazy=True)
    params = {"server": "s2", "transport": raw(), "lazy": True}
    sidecar.call("servers/connect", params).is_error(1007, limit=limit, value=2, retry="after", delivered="no")
    sidecar.call("servers/get", {"server": "s2"}).is_error(1101)
    sidecar.call("servers/disconnect", {"server": "s0"})
    assert sidecar.call("servers/connect", params).result["state"] == "idle"


def test_too_many_processes_are_1007(start: Start) -> None:
    sidecar = start()
    sidecar.call("initialize", {"protocolVersion": 1, "host": HOST, "limits": {"maxProcesses": 1}})
    sidecar.connect("a", raw())
    key = sidecar.start_tool("a", "silent")
    sidecar.tool("a", "echo")
    params = {"server": "b", "transport": raw()}
    sidecar.call("servers/connect", params).is_error(1007, limit="maxProcesses", value=1)
    sidecar.cancel(key)
    sidecar.answer(key).is_error(1004)


def test_calls_over_the_process_limit_are_1003_at_once(start: Start) -> None:
    sidecar = start()
    sidecar.call("initialize", {"protocolVersion": 1, "host": HOST, "limits": {"maxInFlight": 2}})
    sidecar.connect("s", raw())
    keys = [sidecar.start_tool("s", "silent") for _ in range(2)]
    sidecar.tool("s", "echo").is_error(1003, limit="maxInFlight", value=2, delivered="no", retry="after")
    for key in keys:
        sidecar.cancel(key)
        sidecar.answer(key).is_error(1004)
    assert sidecar.tool("s", "echo").result


def test_calls_over_the_servers_limit_wait_in_order_and_a_full_queue_is_1003(start: Start) -> None:
    sidecar = start()
    sidecar.connect("s", raw(), limits={"maxInFlight": 1})
    first = sidecar.start_tool("s", "silent")
    waiting = [sidecar.start_tool("s", "echo", {"n": n}) for n in range(256)]
    sidecar.tool("s", "echo").is_error(1003, limit="maxInFlight", value=1, delivered="no")
    late = sidecar.call("servers/get", {"server": "s"}).result
    assert late["state"] == "ready"
    sidecar.cancel(first)
    sidecar.answer(first).is_error(1004, delivered="maybe")
    for number, key in enumerate(waiting):
        answer = sidecar.answer(key).result
        assert answer["structuredContent"]["params"]["arguments"] == {"n": number}
    done = [body["id"] for body in sidecar.order if body.get("id") in set(waiting)]
    assert done == waiting


def test_deadline_in_the_queue_is_1005_queue(shared: Sidecar, server: str) -> None:
    shared.connect(server, raw(), limits={"maxInFlight": 1})
    first = shared.start_tool(server, "silent")
    shared.tool(server, "echo", timeoutMs=200).is_error(1005, phase="queue", delivered="no", retry="safe")
    shared.cancel(first)
    shared.answer(first).is_error(1004)
    assert shared.tool(server, "echo").result


def test_child_is_started_with_the_python_of_the_test_and_no_secret_is_told(shared: Sidecar, server: str) -> None:
    shared.connect(server, raw(env={"API_TOKEN": "a-very-secret-value"}))
    info = shared.call("servers/get", {"server": server})
    assert b"a-very-secret-value" not in info.line
    assert sys.executable.encode() not in info.line
