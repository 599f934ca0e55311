"""`servers/import`: the JSON of desktop clients, taken over whole, each fault told where it stands."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from typing import Any

import pytest

from tests.answers import Json
from tests.harness import Sidecar
from tests.programs import RAW_STDIO, Program

CHILD = {"command": sys.executable, "args": [RAW_STDIO]}


@pytest.fixture
def scope(shared: Sidecar, name: str) -> Iterator[Json]:
    """Return a scope of the test's own, whose addresses are closed afterwards."""
    scope = {"session": name}
    yield scope
    for info in shared.call("servers/list", {"scope": scope}).result["servers"]:
        shared.call("servers/disconnect", {"server": info["server"], "scope": scope})


def take(sidecar: Sidecar, scope: Json, servers: Any, **more: Any) -> Json:
    """Import servers and return the result."""
    result: Json = sidecar.call("servers/import", {"config": {"mcpServers": servers}, "scope": scope, **more}).result
    return result


def paths(result: Json) -> list[str]:
    """Return where the faults are, in order of their pointers."""
    assert all(fault["code"] and fault["message"] for fault in result["errors"])
    return sorted(fault["data"]["path"] for fault in result["errors"])


def names(result: Json) -> list[str]:
    """Return the servers that were made, in the order of the answer."""
    return [info["server"] for info in result["servers"]]


def test_servers_become_lazy_addresses_that_work(shared: Sidecar, scope: Json, raw_http: Program) -> None:
    servers = {
        "claude": CHILD,
        "typed": CHILD | {"type": "stdio", "env": {"MODE": "x"}, "cwd": "/"},
        "remote": {"url": f"{raw_http.origin}/json/modern/import"},
        "streaming": {"type": "streamable-http", "url": f"{raw_http.origin}/stream/legacy/import"},
        "old": {"type": "sse", "url": f"{raw_http.origin}/sse/legacy/import", "headers": {"X-Mine": "yes"}},
    }
    result = take(shared, scope, servers)
    assert result["errors"] == []
    assert [(info["server"], info["state"], info["transport"]) for info in result["servers"]] == [
        ("claude", "idle", "stdio"),
        ("typed", "idle", "stdio"),
        ("remote", "idle", "http"),
        ("streaming", "idle", "http"),
        ("old", "idle", "sse"),
    ]
    assert all(info["scope"] == scope for info in result["servers"])
    environment = shared.tool("typed", "environment", scope=scope).result["structuredContent"]
    assert (environment["env"]["MODE"], environment["cwd"]) == ("x", "/")
    for server in ("remote", "streaming", "old"):
        sent = shared.tool(server, "headers", scope=scope).result["structuredContent"]
        assert sent.get("x-mine") == ("yes" if server == "old" else None)


def test_addresses_are_known_before_the_next_line_is_read(shared: Sidecar, scope: Json) -> None:
    _, first = shared.frame("servers/import", {"config": {"mcpServers": {"s": CHILD}}, "scope": scope})
    key, second = shared.frame("tools/call", {"server": "s", "scope": scope, "name": "echo", "arguments": {}})
    shared.send(first, second)
    assert shared.answer(key).result


def test_connect_waits_for_all_and_tells_who_failed(shared: Sidecar, scope: Json) -> None:
    servers = {"good": CHILD, "bad": {"command": "/nonexistent/program"}}
    result = take(shared, scope, servers, connect=True)
    assert {info["server"]: info["state"] for info in result["servers"]} == {"good": "ready", "bad": "failed"}
    (fault,) = result["errors"]
    assert (fault["code"], fault["data"]["path"], fault["data"]["server"]) == (1104, "/mcpServers/bad", "bad")
    assert shared.tool("good", "echo", scope=scope).result


def test_variables_come_from_env_alone(shared: Sidecar, scope: Json) -> None:
    servers = {
        "s": {
            "command": "${PYTHON}",
            "args": ["${SCRIPT}", "--journal", "${JOURNAL:-/dev/null}"],
            "env": {"A": "${A}", "B": "x${A}-${B:-b:-}y", "EMPTY": "${EMPTY:-full}", "PLAIN": "$A $$ {A}"},
            "cwd": "${ROOT:-/}",
        }
    }
    result = take(
        shared, scope, servers, env={"PYTHON": sys.executable, "SCRIPT": RAW_STDIO, "A": "1${B}", "EMPTY": ""}
    )
    assert result["errors"] == []
    found = shared.tool("s", "environment", scope=scope).result["structuredContent"]["env"]
    assert {name: found[name] for name in ("A", "B", "EMPTY", "PLAIN")} == {
        "A": "1${B}",
        "B": "x1${B}-b:-y",
        "EMPTY": "full",
        "PLAIN": "$A $$ {A}",
    }


@pytest.mark.parametrize(
    ("entry", "where"),
    [
        ({"command": "${NO_SUCH}", "args": ["a", "${PATH}", "${HOME:-x}"]}, ["/args/1", "/command"]),
        ({"command": "x", "env": {"A": "${ONE}${TWO}"}}, ["/env/A", "/env/A"]),
        (
            {"command": "x", "args": ["${env:HOME}", "${}", "${A", "${input:token}", "${A-b}"]},
            [f"/args/{n}" for n in range(5)],
        ),
        (
            {"url": "https://${HOST}/mcp", "headers": {"Authorization": "Bearer ${TOKEN}"}},
            ["/headers/Authorization", "/url"],
        ),
    ],
)
def test_unset_variable_keeps_its_server_out(shared: Sidecar, scope: Json, entry: Json, where: list[str]) -> None:
    result = take(shared, scope, {"bad": entry, "good": CHILD}, env={})
    assert names(result) == ["good"]
    assert paths(result) == [f"/mcpServers/bad{path}" for path in where]
    assert all(fault["code"] == -32602 for fault in result["errors"])


@pytest.mark.parametrize(
    ("entry", "where"),
    [
        ([], [""]),
        ("npx server", [""]),
        (None, [""]),
        ({}, [""]),
        ({"args": ["x"]}, [""]),
        ({"command": "x", "url": "https://example.com/"}, [""]),
        ({"type": "stdio"}, ["/command"]),
        ({"type": "http", "command": "x"}, ["/command", "/url"]),
        ({"type": "websocket", "url": "https://example.com/"}, ["/type"]),
        ({"type": 5, "command": "x"}, ["/type"]),
        ({"url": "ws://example.com/"}, ["/url"]),
        ({"url": "https://user:pw@example.com/"}, ["/url"]),
        ({"url": ""}, ["/url"]),
        ({"url": 5}, ["/url"]),
        ({"command": ""}, ["/command"]),
        ({"command": ["npx", "server"]}, ["/command"]),
        ({"command": "x", "args": "-y", "env": [], "cwd": 1}, ["/args", "/cwd", "/env"]),
        (
            {"command": "x", "args": [1, "a", None], "env": {"PORT": 3000, "A": True}},
            ["/args/0", "/args/2", "/env/A", "/env/PORT"],
        ),
        (
            {"command": "a\0", "args": ["b\0", "c"], "cwd": "\0", "env": {"A=B": "1", "": "2", "C": "\0"}},
            ["/args/0", "/command", "/cwd", "/env/", "/env/A=B", "/env/C"],
        ),
        (
            {"url": "http://", "headers": {"no name": "1", "Host": "x", "X/Y": "a", "X-A": "a\nb", "X-B": "fine"}},
            ["/headers/Host", "/headers/X-A", "/headers/X~1Y", "/headers/no name", "/url"],
        ),
        ({"url": "https://example.com/", "headers": {"X": 1}}, ["/headers/X"]),
    ],
)
def test_fault_keeps_its_server_out_and_no_other(shared: Sidecar, scope: Json, entry: Any, where: list[str]) -> None:
    result = take(shared, scope, {"first": CHILD, "bad": entry, "last": CHILD})
    assert names(result) == ["first", "last"]
    assert paths(result) == [f"/mcpServers/bad{path}" for path in where]
    assert shared.tool("last", "echo", scope=scope).result


def test_unsupported_key_is_left_out_and_its_server_imported(shared: Sidecar, scope: Json, raw_http: Program) -> None:
    extra = {
        "disabled": False,
        "autoApprove": ["echo"],
        "timeout": 60,
        "envFile": ".env",
        "a/b~c": None,
        "alwaysAllow": [],
    }
    servers = {
        "child": CHILD | extra | {"headers": {"X": "1"}},
        "remote": {"url": f"{raw_http.origin}/json/modern/import", "env": {}, "oauth": {"clientId": "x"}},
    }
    result = take(shared, scope, servers)
    assert names(result) == ["child", "remote"]
    assert paths(result) == sorted(
        [
            f"/mcpServers/child/{key}"
            for key in ("disabled", "autoApprove", "timeout", "envFile", "alwaysAllow", "headers")
        ]
        + ["/mcpServers/remote/env", "/mcpServers/remote/oauth"]
    )
    assert shared.tool("child", "echo", scope=scope).result


@pytest.mark.parametrize("bad", ["", "with blank", "a/b", "x" * 129, "ä"])
def test_bad_name_keeps_its_server_out(shared: Sidecar, scope: Json, bad: str) -> None:
    result = take(shared, scope, {bad: CHILD, "good": CHILD})
    assert names(result) == ["good"]
    assert paths(result) == ["/mcpServers/" + bad.replace("~", "~0").replace("/", "~1")]


def test_name_with_another_configuration_is_a_clash_and_the_same_is_none(shared: Sidecar, scope: Json) -> None:
    assert take(shared, scope, {"a": CHILD, "b": CHILD})["errors"] == []
    generation = shared.call("servers/connect", connect("a", scope)).result["generation"]
    result = take(shared, scope, {"a": CHILD, "b": CHILD | {"env": {"X": "1"}}, "c": CHILD})
    assert names(result) == ["a", "c"]
    assert result["servers"][0]["generation"] == generation
    (fault,) = result["errors"]
    assert (fault["code"], fault["data"]["path"], fault["data"]["kind"]) == (1111, "/mcpServers/b", "ServerExists")
    assert "env" not in json.dumps(shared.call("servers/get", {"server": "b", "scope": scope}).result)


def connect(server: str, scope: Json) -> Json:
    """Return the params that make the connection of an imported server."""
    return {"server": server, "scope": scope, "transport": {"type": "stdio", **CHILD}}


def test_name_that_comes_twice_keeps_both_out(shared: Sidecar, scope: Json) -> None:
    entry = json.dumps(CHILD)
    servers = f'{{"a":{entry},"b":{entry},"a":{entry}}}'
    params = f'{{"scope":{json.dumps(scope)},"config":{{"mcpServers":{servers}}}}}'
    result = shared.answer(shared.raw_request("servers/import", params.encode())).result
    assert names(result) == ["b"]
    assert paths(result) == ["/mcpServers/a"]


@pytest.mark.parametrize(
    ("config", "where"),
    [
        ({}, ["/mcpServers"]),
        ({"mcpServers": []}, ["/mcpServers"]),
        ({"mcpServers": None}, ["/mcpServers"]),
        ({"servers": {"a": CHILD}}, ["/mcpServers", "/servers"]),
        ({"mcpServers": {}, "inputs": [], "globalShortcut": ""}, ["/globalShortcut", "/inputs"]),
    ],
)
def test_fault_of_the_whole_is_told_too(shared: Sidecar, config: Json, where: list[str]) -> None:
    result = shared.call("servers/import", {"config": config}).result
    assert result["servers"] == []
    assert paths(result) == where


def test_other_keys_of_the_file_keep_no_server_out(shared: Sidecar, scope: Json) -> None:
    params = {"config": {"inputs": [], "mcpServers": {"a": CHILD}, "preferences": {}}, "scope": scope}
    result = shared.call("servers/import", params).result
    assert names(result) == ["a"]
    assert paths(result) == ["/inputs", "/preferences"]


@pytest.mark.parametrize(
    ("params", "path"),
    [
        ({}, "/config"),
        ({"config": []}, "/config"),
        ({"config": {}, "env": {"A": 1}}, "/env/A"),
        ({"config": {}, "connect": "yes"}, "/connect"),
        ({"config": {}, "server": "x"}, "/server"),
    ],
)
def test_faulty_params_of_the_method_are_refused(shared: Sidecar, params: Json, path: str) -> None:
    shared.call("servers/import", params).is_error(-32602, path=path)


def test_quota_keeps_out_what_is_over_it(start: Any) -> None:
    sidecar = start()
    limits = {"maxServersPerScope": 2}
    sidecar.call("initialize", {"protocolVersion": 1, "host": {"name": "t", "version": "1"}, "limits": limits})
    result = take(sidecar, {}, {"a": CHILD, "b": CHILD, "c": CHILD})
    assert names(result) == ["a", "b"]
    (fault,) = result["errors"]
    assert (fault["code"], fault["data"]["path"], fault["data"]["limit"]) == (
        1007,
        "/mcpServers/c",
        "maxServersPerScope",
    )


def test_secrets_of_a_file_are_never_repeated(shared: Sidecar, scope: Json) -> None:
    servers = {"a": {"command": "x\0", "env": {"TOKEN": "${T}", "B": "${T}\0"}}, "b": {"url": "ws://${T}/"}}
    answer = shared.call(
        "servers/import", {"config": {"mcpServers": servers}, "scope": scope, "env": {"T": "sesame-open"}}
    )
    assert len(answer.result["errors"]) == 3
    assert b"sesame-open" not in answer.line
