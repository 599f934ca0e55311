"""The tool policy: what a denied tool looks like to the host, and that its server never hears of it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.harness import Sidecar
from tests.programs import Program, journal, raw

ECHO = b'{"name":"echo","description":"d","inputSchema":{"type":"object"},"vendor":1.0}'


@pytest.fixture
def policy(shared: Sidecar, name: str, tmp_path: Path) -> Iterator[Any]:
    """Return a function that connects the hand-written server with a tool policy; its journal is `tmp_path/journal`."""

    def connect(tools: dict[str, Any], *options: str) -> str:
        transport = raw("--journal", str(tmp_path / "journal"), *options)
        assert shared.connect(name, transport, tools=tools)["state"] == "ready"
        return name

    yield connect
    shared.call("servers/disconnect", {"server": name})


@pytest.mark.parametrize(
    ("tools", "allowed"),
    [
        ({}, True),
        ({"allow": None, "deny": None}, True),
        ({"allow": ["*"]}, True),
        ({"allow": ["ec*", "x"]}, True),
        ({"allow": ["ech?"]}, True),
        ({"allow": ["[a-e]cho"]}, True),
        ({"deny": []}, True),
        ({"deny": ["ech", "cho", "ECHO"]}, True),
        ({"allow": []}, False),
        ({"allow": ["Echo"]}, False),
        ({"allow": ["echo.*"]}, False),
        ({"deny": ["*"]}, False),
        ({"deny": ["ec*"]}, False),
        ({"allow": ["echo"], "deny": ["echo"]}, False),
    ],
)
def test_allow_and_deny_say_which_tool_is_listed_and_called(
    shared: Sidecar, policy: Any, tmp_path: Path, tools: dict[str, Any], allowed: bool
) -> None:
    name = policy(tools)
    for more in ({}, {"all": True}):
        listed = shared.call("tools/list", {"server": name, **more}).bytes
        assert listed == b'{"tools":[%s],"vendor":null}' % (ECHO if allowed else b"")
    answer = shared.tool(name, "echo")
    if allowed:
        assert answer.result["structuredContent"]
    else:
        answer.is_error(1507, kind="ToolDenied", delivered="no", retry="never", tool="echo", server=name, scope={})
    assert ("call echo" in journal(tmp_path / "journal")) is allowed


def test_filtered_page_keeps_its_bytes_and_its_cursor(shared: Sidecar, policy: Any) -> None:
    name = policy({"deny": ["t1"]}, "--pages", "3")
    pages = [shared.call("tools/list", {"server": name, "cursor": cursor}).bytes for cursor in ("0", "1", "2")]
    item = b'{"name":"t%d","n":%d.0,"uri":"x:%d","uriTemplate":"x:%d","inputSchema":{"type":"object"},"x":null}'
    assert pages == [
        b'{"nextCursor":"1","page":0.0,"tools":[%s]}' % (item % ((0,) * 4)),
        b'{"nextCursor":"2","page":1.0,"tools":[]}',
        b'{"page":2.0,"tools":[%s]}' % (item % ((2,) * 4)),
    ]
    whole = shared.call("tools/list", {"server": name, "all": True}).result
    assert [tool["name"] for tool in whole["tools"]] == ["t0", "t2"]
    assert "nextCursor" not in whole


def test_other_lists_do_not_know_the_policy(shared: Sidecar, policy: Any) -> None:
    name = policy({"allow": []})
    assert len(shared.call("resources/list", {"server": name}).result["resources"]) == 1
    assert len(shared.call("prompts/list", {"server": name, "all": True}).result["prompts"]) == 1


def test_denied_call_opens_no_connection(shared: Sidecar, server: str) -> None:
    transport = {"type": "stdio", "command": "/nonexistent/program"}
    shared.connect(server, transport, tools={"deny": ["rm"]}, lazy=True)
    shared.tool(server, "rm").is_error(1507, tool="rm", delivered="no")
    assert shared.call("servers/get", {"server": server}).result["state"] == "idle"
    shared.tool(server, "ls").is_error(1104)


@pytest.mark.parametrize("name_part", [{}, {"name": 5}, {"name": None}, {"name": ["echo"]}])
def test_call_that_names_no_tool_does_not_pass_a_policy(
    shared: Sidecar, policy: Any, tmp_path: Path, name_part: dict[str, Any]
) -> None:
    server = policy({"deny": ["rm"]})
    shared.call("tools/call", {"server": server, **name_part}).is_error(-32602, path="/name")
    assert not [line for line in journal(tmp_path / "journal") if line.startswith("call")]


def test_name_is_compared_as_it_decodes(shared: Sidecar, policy: Any) -> None:
    name = policy({"deny": ["echo"]})
    params = b'{"server":"%s","name":"\\u0065cho","arguments":{}}' % name.encode()
    shared.answer(shared.raw_request("tools/call", params)).is_error(1507, tool="echo")
    twice = b'{"server":"%s","name":"ls","name":"echo","arguments":{}}' % name.encode()
    shared.answer(shared.raw_request("tools/call", twice)).is_error(1507, tool="echo")


def test_modern_headers_and_policy_filter_together(shared: Sidecar, server: str, raw_http: Program) -> None:
    url = f"{raw_http.origin}/json/modern/policy?bad-tool=1&good-tool=1"
    shared.connect(server, {"type": "http", "url": url}, protocol="2026-07-28", tools={"deny": ["headers"]})
    listed = shared.call("tools/list", {"server": server}).result
    assert [tool["name"] for tool in listed["tools"]] == ["echo"]
    shared.tool(server, "marked").is_error(1507, tool="marked")
    shared.tool(server, "headers").is_error(1507, tool="headers")


@pytest.mark.parametrize(
    ("tools", "path"),
    [
        ({"allow": "echo"}, "/tools/allow"),
        ({"deny": [1]}, "/tools/deny/0"),
        ({"block": []}, "/tools/block"),
        ({"pin": "always"}, "/tools/pin"),
        ([], "/tools"),
    ],
)
def test_policy_of_the_wrong_shape_says_where(shared: Sidecar, name: str, tools: Any, path: str) -> None:
    params = {"server": name, "transport": raw(), "tools": tools}
    shared.call("servers/connect", params).is_error(-32602, path=path)
    shared.call("servers/get", {"server": name}).is_error(1101)


def test_policy_is_part_of_the_configuration(shared: Sidecar, policy: Any) -> None:
    name = policy({"deny": ["rm"]})
    transport = shared_transport(shared, name)
    again = {"server": name, "transport": transport, "tools": {"deny": ["rm"], "outputSchema": "pass", "pin": "off"}}
    assert shared.call("servers/connect", again).result["generation"] == 1
    other = {"server": name, "transport": transport, "tools": {"deny": ["ls"]}}
    shared.call("servers/connect", other).is_error(1111)


def shared_transport(shared: Sidecar, name: str) -> Any:
    """Return the transport that this server was connected with: its journal is the only option."""
    environment = shared.tool(name, "environment").result["structuredContent"]
    return raw(*environment["argv"])
