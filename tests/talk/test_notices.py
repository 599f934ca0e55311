"""What servers tell, and what the host wants to be told: in order, with its address, and nothing of it lost."""

from __future__ import annotations

import time
from typing import Any

import pytest

from tests.answers import Json
from tests.harness import Sidecar
from tests.talk.host import found, heard, promise, talker

KINDS = ("stdio", "http", "stdio-modern", "http-modern")
EVERYWHERE = pytest.mark.parametrize("transport", KINDS, indirect=True)
BOTH = pytest.mark.parametrize("transport", ["http", "http-modern"], indirect=True)
TOOLS = "notifications/tools/list_changed"
UPDATED = "notifications/resources/updated"


def told(host: Sidecar, at: str, method: str, count: int) -> list[Json]:
    """Wait for so many notifications of a server."""

    def found() -> list[Json] | None:
        mine = [params for params in host.told(method) if params["server"] == at]
        return mine if len(mine) >= count else None

    notices: list[Json] = host.wait(found, f"{count} {method}")
    return notices


@EVERYWHERE
def test_log_messages_come_in_order_and_name_the_call_where_that_is_proved(
    host: Sidecar, at: str, transport: Json
) -> None:
    host.connect(at, transport)
    notices = [
        {"method": "notifications/message", "params": {"level": "info", "logger": "l", "data": {"n": n}, "server": "x"}}
        for n in range(50)
    ]
    key = host.start_tool(at, "notify", {"notices": notices})
    assert host.answer(key).result
    logs = told(host, at, "notifications/message", 50)
    proved = {"requestId": key} if transport["type"] == "http" else {}
    assert logs == [
        {"server": at, "scope": {}, **proved, "level": "info", "logger": "l", "data": {"n": n}} for n in range(50)
    ]


@EVERYWHERE
def test_changes_are_told_with_the_address_and_unknown_ones_are_not(host: Sidecar, at: str, transport: Json) -> None:
    host.connect(at, transport)
    kinds = [
        TOOLS,
        "notifications/prompts/list_changed",
        "notifications/resources/list_changed",
        "notifications/elicitation/complete",
    ]
    notices: list[Json] = [{"method": method, "params": {"elicitationId": "e"}} for method in kinds]
    notices += [{"method": "notifications/unknown", "params": {}}, {"method": UPDATED, "params": {"uri": "test://a"}}]
    assert host.tool(at, "notify", {"notices": notices}).result
    for method in kinds:
        assert told(host, at, method, 1) == [{"server": at, "scope": {}, "elicitationId": "e"}]
    assert told(host, at, UPDATED, 1) == [{"server": at, "scope": {}, "uri": "test://a"}]
    assert not host.told("notifications/unknown")


def test_burst_of_one_change_is_told_a_few_times_and_never_lost(host: Sidecar, at: str) -> None:
    host.connect(at, talker())
    assert host.tool(at, "flood", {"changes": 5000}).result
    last: Json = {"method": "notifications/prompts/list_changed", "params": {}}
    assert host.tool(at, "notify", {"notices": [last]}).result
    told(host, at, last["method"], 1)
    assert 1 <= len(told(host, at, TOOLS, 1)) < 500


@EVERYWHERE
def test_subscription_has_one_method_in_both_eras(host: Sidecar, at: str, transport: Json) -> None:
    host.connect(at, transport)
    if transport["type"] == "http":
        assert host.tool(at, "await-streams").result
    for uri in ("test://a", "test://b"):
        assert host.call("resources/subscribe", {"server": at, "uri": uri}).result == {}
    emit = {"notices": [{"method": UPDATED, "params": {"uri": uri}} for uri in ("test://a", "test://b")]}
    assert host.tool(at, "emit", emit).result
    assert {params["uri"] for params in told(host, at, UPDATED, 2)} == {"test://a", "test://b"}
    assert host.call("resources/unsubscribe", {"server": at, "uri": "test://a"}).result == {}
    state = found(host.tool(at, "heard"))
    if state["listens"]:
        assert state["listens"][-1]["resourceSubscriptions"] == ["test://b"]
        assert state["listens"][-1]["toolsListChanged"] is True
    else:
        assert state["subscribed"][-1:] == ["test://b"]
    assert host.call("resources/unsubscribe", {"server": at, "uri": "test://b"}).result == {}
    assert not found(host.tool(at, "heard"))["subscribed"]


def test_subscription_that_the_server_does_not_offer_is_refused(host: Sidecar, at: str) -> None:
    for options in ((), ("--modern",)):
        name = f"{at}-{len(options)}"
        host.connect(name, talker("--silent", *options))
        answer = host.call("resources/subscribe", {"server": name, "uri": "test://a"})
        answer.is_error(1505, capability="resources.subscribe", delivered="no")
        host.call("servers/disconnect", {"server": name})
    host.connect(at, talker())
    host.call("resources/subscribe", {"server": at}).is_error(-32602, path="/uri")


@BOTH
def test_list_change_is_not_lost_with_the_stream_that_would_tell_it(host: Sidecar, at: str, transport: Json) -> None:
    host.connect(at, transport)
    assert host.tool(at, "await-streams").result
    assert host.call("tools/list", {"server": at}).result["tools"]
    # The same list again: nothing is told.
    listed = found(host.tool(at, "heard"))["listed"]
    assert host.tool(at, "drop-streams").result
    assert host.tool(at, "await", {"method": "tools/list", "count": listed + 1}).result
    assert not [params for params in host.told(TOOLS) if params["server"] == at]
    # Another one, while no stream is there to tell it.
    assert host.tool(at, "set", {"tools": ["echo", "more"]}).result
    assert host.tool(at, "drop-streams").result
    assert told(host, at, TOOLS, 1) == [{"server": at, "scope": {}}]
    assert host.tool(at, "set", {"tools": ["echo"]}).result


@pytest.mark.parametrize("transport", ["stdio", "stdio-modern"], indirect=True)
def test_everything_wanted_is_there_again_after_the_server_came_back(host: Sidecar, at: str, transport: Json) -> None:
    host.connect(at, transport)
    assert host.call("resources/subscribe", {"server": at, "uri": "test://a"}).result == {}
    assert host.call("logging/setLevel", {"server": at, "level": "warning"}).result == {}
    assert host.call("roots/set", {"server": at, "roots": [{"uri": "file:///r"}]}).result == {}
    assert host.call("tools/list", {"server": at, "all": True}).result
    host.tool(at, "die").is_error(1107)
    host.wait_told(
        "servers/changed", lambda info: info["server"] == at and info["state"] == "ready" and info["generation"] == 2
    )
    state = found(host.tool(at, "heard"))
    methods = [message.get("method") for message in state["heard"]]
    if "initialize" in methods:
        assert state["subscribed"] == ["test://a"]
        assert heard(host, at, "logging/setLevel") == [{"level": "warning"}]
    else:
        assert state["listens"][-1]["resourceSubscriptions"] == ["test://a"]
        assert found(host.tool(at, "params"))["_meta"]["io.modelcontextprotocol/logLevel"] == "warning"
    first = methods.index("tools/call")
    assert {"resources/subscribe", "subscriptions/listen"} & set(methods[:first])
    # The lists were read again and are as they were.
    assert host.tool(at, "await", {"method": "tools/list"}).result
    assert not [params for params in host.told(TOOLS) if params["server"] == at]


def test_flood_of_one_server_is_bounded_and_hurts_nobody_else() -> None:
    with Sidecar() as sidecar:
        promise(sidecar)
        sidecar.connect("loud", talker())
        sidecar.connect("quiet", talker())
        assert sidecar.tool("quiet", "echo").result
        before = sidecar.rss()
        key = sidecar.start_tool("loud", "flood", {"pings": 50_000, "logs": 300_000}, timeoutMs=55_000)
        waits = []
        while key not in sidecar.answers:
            began = time.monotonic()
            answer = sidecar.tool("quiet", "echo")
            assert answer.result
            waits.append(answer.at - began)
        assert sidecar.answer(key).result
        waits.sort()
        assert waits[int(len(waits) * 0.99)] <= 0.25, waits[-5:]
        assert sidecar.rss() - before <= 64 << 20
        dropped = sidecar.wait_told("sidecar/dropped")
        assert dropped["what"] == "logs"
        assert sidecar.tool("loud", "echo").result


def test_ping_flood_over_http_is_bounded(host: Sidecar, at: str, http: Any) -> None:
    host.connect(at, http.http())
    before = host.rss()
    assert host.tool(at, "flood", {"pings": 5000}, timeoutMs=40_000).result
    assert host.rss() - before <= 32 << 20
    assert host.tool(at, "echo").result
