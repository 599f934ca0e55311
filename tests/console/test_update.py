"""`servers/update`: a connection changes from the next request on, and is the same connection."""

from __future__ import annotations

from typing import Any

import pytest

from tests.harness import Sidecar
from tests.programs import Program, raw


def update(sidecar: Sidecar, server: str, **changes: Any) -> Any:
    """Send an update and return the ServerInfo."""
    return sidecar.call("servers/update", {"server": server, **changes}).result


def test_policy_changes_without_reconnecting(shared: Sidecar, server: str) -> None:
    before = shared.connect(server, raw(), tools={"deny": ["echo"]})
    shared.tool(server, "echo").is_error(1507)
    told = len(shared.told("servers/changed"))
    info = update(shared, server, tools={"allow": ["ec*"]})
    assert {key: info[key] for key in ("state", "generation", "pid", "since")} == {
        key: before[key] for key in ("state", "generation", "pid", "since")
    }
    assert shared.tool(server, "echo").result
    shared.tool(server, "pids").is_error(1507)
    update(shared, server, tools={})
    assert shared.tool(server, "pids").result
    assert len(shared.told("servers/changed")) == told


def test_lines_take_effect_in_the_order_they_are_read(shared: Sidecar, server: str) -> None:
    shared.connect(server, raw())
    first, one = shared.frame("tools/call", {"server": server, "name": "echo", "arguments": {}})
    _, change = shared.frame("servers/update", {"server": server, "tools": {"deny": ["echo"]}})
    second, two = shared.frame("tools/call", {"server": server, "name": "echo", "arguments": {}})
    shared.send(one, change, two)
    assert shared.answer(first).result
    shared.answer(second).is_error(1507)


@pytest.mark.parametrize("path", ["/json/modern/update", "/json/legacy/update", "/sse/legacy/update"])
def test_headers_of_the_transport_are_replaced_as_a_whole(
    shared: Sidecar, server: str, raw_http: Program, path: str
) -> None:
    kind = "sse" if path.startswith("/sse") else "http"
    transport = {"type": kind, "url": raw_http.origin + path, "headers": {"X-One": "1", "X-Two": "2"}}
    generation = shared.connect(server, transport)["generation"]
    sent = shared.tool(server, "headers").result["structuredContent"]
    assert (sent["x-one"], sent["x-two"]) == ("1", "2")
    assert update(shared, server, headers={"X-Two": "zwei", "X-Three": "3"})["generation"] == generation
    sent = shared.tool(server, "headers").result["structuredContent"]
    assert "x-one" not in sent
    assert (sent["x-two"], sent["x-three"]) == ("zwei", "3")
    update(shared, server, headers={})
    sent = shared.tool(server, "headers").result["structuredContent"]
    assert not [name for name in sent if name in {"x-two", "x-three"}]


def test_headers_of_auth_are_replaced_where_the_credentials_are_headers(
    shared: Sidecar, server: str, raw_http: Program
) -> None:
    transport = raw_http.http("/json/modern/update", headers={"X-Mine": "kept"})
    shared.connect(server, transport, auth={"type": "headers", "headers": {"X-Key": "old-key-value"}})
    update(shared, server, headers={"X-Key": "new-key-value"})
    sent = shared.tool(server, "headers").result["structuredContent"]
    assert (sent["x-key"], sent["x-mine"]) == ("new-key-value", "kept")


def test_token_is_replaced(shared: Sidecar, server: str, raw_http: Program) -> None:
    shared.connect(server, raw_http.http("/json/modern/update"), auth={"type": "bearer", "token": "token-number-one"})
    info = update(shared, server, token="token-number-two")
    assert "token-number-two" not in str(info)
    sent = shared.tool(server, "headers").result["structuredContent"]
    assert sent["authorization"] == "Bearer token-number-two"


def test_limits_hold_from_the_next_request_on(shared: Sidecar, server: str) -> None:
    shared.connect(server, raw())
    assert shared.tool(server, "big", {"size": 50_000}).result
    update(shared, server, limits={"maxResultBytes": 10_000})
    shared.tool(server, "big", {"size": 50_000}).is_error(1006, limit=10_000, delivered="yes")
    update(shared, server, limits={"maxInFlight": 1})
    assert shared.tool(server, "big", {"size": 50_000}).result
    key = shared.start_tool(server, "slow", {"steps": 1, "delay": 30})
    shared.tool(server, "echo", timeoutMs=200).is_error(1005, phase="queue")
    update(shared, server, limits={})
    assert shared.tool(server, "echo").result
    shared.cancel(key)
    shared.answer(key).is_error(1004)


def test_limit_of_the_one_event_stream_changes_too(shared: Sidecar, server: str, raw_http: Program) -> None:
    shared.connect(server, raw_http.sse("/sse/legacy/update"))
    assert shared.tool(server, "headers").result
    update(shared, server, limits={"maxResultBytes": 40})
    shared.tool(server, "headers").is_error(1006, limit=40)
    update(shared, server, limits={})
    assert shared.tool(server, "headers").result


def test_default_deadline_changes(shared: Sidecar, server: str) -> None:
    shared.connect(server, raw())
    update(shared, server, timeouts={"requestMs": 150})
    shared.tool(server, "silent").is_error(1005, phase="wait", delivered="maybe")
    update(shared, server, timeouts={})
    assert shared.tool(server, "slow", {"steps": 2, "delay": 0.2}).result


def test_merged_configuration_is_the_one_to_repeat(shared: Sidecar, server: str, raw_http: Program) -> None:
    transport = raw_http.http("/json/modern/update")
    given = {"server": server, "transport": transport, "auth": {"type": "bearer", "token": "token-number-one"}}
    assert shared.call("servers/connect", given).result["generation"] == 1
    update(shared, server, token="token-number-two", limits={"maxInFlight": 5}, timeouts={"requestMs": 9000})
    shared.call("servers/connect", given).is_error(1111)
    merged = given | {
        "auth": {"type": "bearer", "token": "token-number-two"},
        "limits": {"maxInFlight": 5},
        "timeouts": {"requestMs": 9000},
    }
    assert shared.call("servers/connect", merged).result["generation"] == 1
    update(shared, server, limits={}, timeouts={}, token="token-number-one")
    assert shared.call("servers/connect", given).result["generation"] == 1


def test_update_of_an_address_that_is_not_open_holds_at_its_first_use(shared: Sidecar, server: str) -> None:
    shared.connect(server, raw(), lazy=True)
    assert update(shared, server, tools={"allow": ["pids"]})["state"] == "idle"
    shared.tool(server, "echo").is_error(1507)
    assert shared.tool(server, "pids").result


@pytest.mark.parametrize(
    ("changes", "path"),
    [
        ({"token": "x"}, "/token"),
        ({"headers": {"X-A": "1"}}, "/headers"),
        ({"limits": {"maxInFlight": 0}}, "/limits/maxInFlight"),
        ({"limits": {"maxFlight": 1}}, "/limits/maxFlight"),
        ({"timeouts": {"requestMs": "1"}}, "/timeouts/requestMs"),
        ({"tools": {"allow": "x"}}, "/tools/allow"),
        ({"transport": {"type": "stdio", "command": "x"}}, "/transport"),
        ({"wait": False}, "/wait"),
    ],
)
def test_update_that_cannot_be_changes_nothing(
    shared: Sidecar, server: str, changes: dict[str, Any], path: str
) -> None:
    shared.connect(server, raw(), tools={"deny": ["rm"]})
    params = {"server": server, "tools": {"deny": ["echo"]}, **changes}
    shared.call("servers/update", params).is_error(-32602, path=path)
    assert shared.tool(server, "echo").result


@pytest.mark.parametrize(
    ("changes", "path"),
    [
        ({"headers": {"X-A": "a\nb"}}, "/headers/X-A"),
        ({"headers": {"no name": "1"}}, "/headers/no name"),
        ({"headers": {"Host": "x"}}, "/headers/Host"),
        ({"token": ""}, "/token"),
        ({"token": "a\nb"}, "/token"),
    ],
)
def test_fault_of_an_update_is_told_by_its_own_pointer(
    shared: Sidecar, server: str, raw_http: Program, changes: dict[str, Any], path: str
) -> None:
    shared.connect(server, raw_http.http("/json/modern/update"), auth={"type": "bearer", "token": "token-number-one"})
    answer = shared.call("servers/update", {"server": server, **changes})
    answer.is_error(-32602, path=path)
    assert answer.error["message"].startswith(path + ":")
    sent = shared.tool(server, "headers").result["structuredContent"]
    assert sent["authorization"] == "Bearer token-number-one"


def test_update_of_a_foreign_or_unknown_address_is_1101(shared: Sidecar, server: str) -> None:
    shared.connect(server, raw())
    shared.call("servers/update", {"server": server, "scope": {"user": "u"}, "tools": {}}).is_error(1101)
    shared.call("servers/update", {"server": "nobody", "tools": {}}).is_error(1101)
