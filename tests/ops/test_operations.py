"""Every operation over every transport and era, against real servers."""

from __future__ import annotations

import pytest

from tests.harness import Sidecar
from tests.programs import Program, raw

TOOLS = {"echo", "add", "slow", "counter", "happened", "fail", "headers", "speak", "large"}


def test_tools_are_listed_and_called(shared: Sidecar, real: str) -> None:
    tools = shared.call("tools/list", {"server": real}).result["tools"]
    assert {tool["name"] for tool in tools} == TOOLS
    result = shared.tool(real, "add", {"a": 20, "b": 22}).result
    assert result["structuredContent"] == {"result": 42}
    assert result["content"][0]["text"] == "42"


def test_tool_that_fails_is_a_result(shared: Sidecar, real: str) -> None:
    result = shared.tool(real, "fail", {"message": "no luck"}).result
    assert result["isError"] is True
    assert "no luck" in result["content"][0]["text"]


def test_resources_are_listed_and_read(shared: Sidecar, real: str) -> None:
    resources = shared.call("resources/list", {"server": real}).result["resources"]
    assert [resource["uri"] for resource in resources] == ["text://hello"]
    templates = shared.call("resources/templates/list", {"server": real}).result["resourceTemplates"]
    assert [template["uriTemplate"] for template in templates] == ["text://greet/{name}"]
    contents = shared.call("resources/read", {"server": real, "uri": "text://hello"}).result["contents"]
    assert contents[0]["text"] == "hello"
    contents = shared.call("resources/read", {"server": real, "uri": "text://greet/Ann"}).result["contents"]
    assert contents[0]["text"] == "hello Ann"


def test_unknown_resource_is_the_servers_own_error(shared: Sidecar, real: str) -> None:
    answer = shared.call("resources/read", {"server": real, "uri": "text://nothing"})
    remote = answer.is_error(1501, kind="RemoteError", delivered="yes", retry="never")["remote"]
    assert isinstance(remote["code"], int)
    assert remote["message"]


def test_prompts_are_listed_and_got(shared: Sidecar, real: str) -> None:
    prompts = shared.call("prompts/list", {"server": real}).result["prompts"]
    assert [prompt["name"] for prompt in prompts] == ["about"]
    params = {"server": real, "name": "about", "arguments": {"topic": "tea"}}
    messages = shared.call("prompts/get", params).result["messages"]
    assert messages[0]["content"]["text"] == "Tell me about tea."


def test_completion_completes(shared: Sidecar, real: str) -> None:
    ref = {"type": "ref/prompt", "name": "about"}
    params = {"server": real, "ref": ref, "argument": {"name": "topic", "value": "te"}}
    assert shared.call("completion/complete", params).result["completion"]["values"] == ["tea", "teapot"]


def test_logging_level_and_ping_answer_empty(shared: Sidecar, real: str) -> None:
    assert shared.call("logging/setLevel", {"server": real, "level": "warning"}).result == {}
    assert shared.call("servers/ping", {"server": real}).result == {}


def test_large_text_comes_whole(shared: Sidecar, real: str) -> None:
    result = shared.tool(real, "large", {"size": 3_000_000}).result
    assert result["content"][0]["text"] == "x" * 3_000_000


def test_progress_comes_in_order_and_before_the_answer(shared: Sidecar, streaming: str) -> None:
    before = len(shared.order)
    keys = [shared.start_tool(streaming, "slow", {"steps": 5, "delay": 0.01}, progress=True) for _ in range(3)]
    for key in keys:
        assert shared.answer(key).result["content"][0]["text"] == "done"
    frames = shared.order[before:]
    for key in keys:
        told = [
            (at, body["params"])
            for at, body in enumerate(frames)
            if body.get("method") == "notifications/progress" and body["params"]["requestId"] == key
        ]
        assert [params["progress"] for _, params in told] == [1, 2, 3, 4, 5]
        assert told[0][1] == {
            "server": streaming,
            "scope": {},
            "requestId": key,
            "progress": told[0][1]["progress"],
            "total": told[0][1]["total"],
            "message": "step 1",
        }
        answered = next(at for at, body in enumerate(frames) if body.get("id") == key)
        assert told[-1][0] < answered


def test_call_without_progress_sends_none(shared: Sidecar, real: str) -> None:
    before = len(shared.told("notifications/progress"))
    assert shared.tool(real, "slow", {"steps": 2, "delay": 0.01}).result
    assert len(shared.told("notifications/progress")) == before


def test_cancel_is_answered_within_200_ms_and_reaches_the_server(shared: Sidecar, streaming: str) -> None:
    key = shared.start_tool(streaming, "slow", {"steps": 600, "delay": 0.05, "name": f"c-{streaming}"}, progress=True)
    shared.wait_told("notifications/progress", lambda params: params["requestId"] == key)
    handle = shared.frame("ping")
    shared.send({"jsonrpc": "2.0", "method": "notifications/cancelled", "params": {"requestId": key}}, handle[1])
    answer = shared.answer(key)
    answer.is_error(1004, kind="Cancelled", delivered="maybe", retry="never", server=streaming)
    assert answer.at - shared.answer(handle[0]).at <= 0.2
    for _ in range(100):
        events = shared.tool(streaming, "happened").result["structuredContent"]["result"]
        if f"cancelled c-{streaming}" in events:
            break
        shared.tool(streaming, "slow", {"steps": 1, "delay": 0.02})
    assert f"cancelled c-{streaming}" in events
    late = len(shared.told("notifications/progress"))
    assert shared.tool(streaming, "add", {"a": 1, "b": 1}).result
    assert len(shared.told("notifications/progress")) == late


def test_deadline_is_1005_within_a_quarter_second_and_the_next_call_works(shared: Sidecar, real: str) -> None:
    key, body = shared.frame(
        "tools/call", {"server": real, "name": "slow", "arguments": {"steps": 400}, "timeoutMs": 500}
    )
    ping = shared.frame("ping")
    shared.send(body, ping[1])
    began = shared.answer(ping[0]).at
    answer = shared.answer(key)
    answer.is_error(1005, phase="wait", delivered="maybe", retry="safe", server=real)
    assert 0.45 <= answer.at - began <= 0.75
    assert shared.tool(real, "add", {"a": 1, "b": 1}).result


def test_all_follows_every_page(shared: Sidecar, real: str) -> None:
    result = shared.call("tools/list", {"server": real, "all": True}).result
    assert {tool["name"] for tool in result["tools"]} == TOOLS
    assert "nextCursor" not in result


@pytest.mark.parametrize(
    ("method", "key"),
    [
        ("tools/list", "tools"),
        ("resources/list", "resources"),
        ("prompts/list", "prompts"),
        ("resources/templates/list", "resourceTemplates"),
    ],
)
def test_pages_come_one_by_one_or_merged_with_their_bytes(shared: Sidecar, server: str, method: str, key: str) -> None:
    shared.connect(server, raw("--pages", "3"))
    page = shared.call(method, {"server": server})
    assert page.bytes.startswith(b'{"nextCursor":"1","page":0.0,')
    page = shared.call(method, {"server": server, "cursor": "1"})
    assert page.result["nextCursor"] == "2"
    merged = shared.call(method, {"server": server, "all": True})
    assert [item["name"] for item in merged.result[key]] == ["t0", "t1", "t2"]
    assert b'"n":2.0' in merged.bytes
    assert b'"x":null' in merged.bytes
    assert b'"page":2.0' in merged.bytes
    assert "nextCursor" not in merged.result


def test_list_that_pages_for_ever_is_1502(shared: Sidecar, server: str) -> None:
    shared.connect(server, raw("--pages", "-1"))
    data = shared.call("tools/list", {"server": server, "all": True}).is_error(1502, delivered="yes")
    assert data["reason"]
    assert shared.tool(server, "echo").result


def test_operation_that_the_server_does_not_offer_is_refused(shared: Sidecar, server: str, raw_http: Program) -> None:
    shared.connect(server, raw_http.http("/json/legacy/offers"))
    data = shared.call("prompts/list", {"server": server}).is_error(1505, delivered="no", retry="never")
    assert data["capability"] == "prompts"


def test_own_progress_token_is_32602(shared: Sidecar, server: str) -> None:
    shared.connect(server, raw())
    params = {"server": server, "name": "echo", "arguments": {}, "_meta": {"progressToken": 1}}
    assert shared.call("tools/call", params).is_error(-32602)["path"] == "/_meta/progressToken"
    assert shared.tool(server, "echo").result


def test_log_level_of_the_sidecar_can_be_changed(shared: Sidecar) -> None:
    assert shared.call("sidecar/setLogLevel", {"level": "DEBUG"}).result == {}
    assert shared.call("sidecar/setLogLevel", {"level": "info"}).result == {}
    assert all({"time", "level", "msg"} <= line.keys() for line in shared.logs())


def test_ping_returns_its_payload_as_bytes(shared: Sidecar) -> None:
    payload = b'{"a":1.0,"b":null,"c":18446744073709551616,"d":"\\u00e9","e":[ 1 ]}'
    answer = shared.answer(shared.raw_request("ping", b'{"payload":%s}' % payload))
    assert answer.bytes == b'{"payload":%s}' % payload
