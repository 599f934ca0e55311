"""Headers: of the connection, of one call, of the protocol; and what reaches the server of cancel and close."""

from __future__ import annotations

import json
from typing import Any

import pytest

from tests.answers import Json
from tests.conftest import Start
from tests.harness import Sidecar
from tests.programs import Program

ERAS = ["legacy", "modern"]


def posts(program: Program, key: str, method: str) -> list[Json]:
    """Return the requests with a JSON-RPC method, with their parsed bodies."""
    sent = [
        entry | {"json": json.loads(entry["body"])} for entry in program.get(f"/requests?key={key}") if entry["body"]
    ]
    return [entry for entry in sent if entry["method"] == "POST" and entry["json"].get("method") == method]


@pytest.mark.parametrize("era", ERAS)
def test_headers_of_connection_and_call_are_sent(shared: Sidecar, server: str, raw_http: Program, era: str) -> None:
    shared.connect(server, raw_http.http(f"/json/{era}/{server}", headers={"X-Conn": "c", "X-Both": "conn"}))
    call = {"X-Call": "one", "X-Both": "call"}
    sent = shared.tool(server, "headers", headers=call).result["structuredContent"]
    assert sent["x-conn"] == "c"
    assert sent["x-call"] == "one"
    assert sent["x-both"] == "call"
    sent = shared.tool(server, "headers").result["structuredContent"]
    assert "x-call" not in sent
    assert sent["x-both"] == "conn"


@pytest.mark.parametrize(
    "header",
    ["Authorization", "authorization", "Host", "Mcp-Session-Id", "mcp-anything", "Content-Type", "content-length"],
)
def test_call_may_not_set_headers_of_the_protocol(shared: Sidecar, server: str, raw_http: Program, header: str) -> None:
    shared.connect(server, raw_http.http("/json/legacy/forbidden"))
    data = shared.tool(server, "headers", headers={header: "x"}).is_error(-32602)
    assert str(data["path"]).startswith("/headers")
    assert shared.tool(server, "headers").result


@pytest.mark.parametrize("value", ["a\r\nX-Evil: 1", "a\nb", "a\0b"])
def test_header_with_a_line_break_is_32602(shared: Sidecar, server: str, raw_http: Program, value: str) -> None:
    shared.connect(server, raw_http.http("/json/legacy/breaks"))
    shared.tool(server, "headers", headers={"X-Call": value}).is_error(-32602)
    transport = raw_http.http("/json/legacy/x", headers={"X-Conn": value})
    shared.call("servers/connect", {"server": f"{server}-2", "transport": transport}).is_error(-32602)
    shared.call("servers/get", {"server": f"{server}-2"}).is_error(1101)


@pytest.mark.parametrize("era", ERAS)
def test_bearer_token_is_sent_and_never_told(shared: Sidecar, server: str, raw_http: Program, era: str) -> None:
    auth = {"type": "bearer", "token": "tok-en-secret"}
    info = shared.connect(server, raw_http.http(f"/json/{era}/x"), auth=auth)
    assert info["auth"]["type"] == "bearer"
    assert info["auth"]["state"] == "valid"
    assert shared.tool(server, "headers").result["structuredContent"]["authorization"] == "Bearer tok-en-secret"
    assert b"tok-en-secret" not in shared.call("servers/get", {"server": server}).line
    assert b"tok-en-secret" not in shared.stderr


@pytest.mark.parametrize("era", ERAS)
def test_header_credentials_are_sent(shared: Sidecar, server: str, raw_http: Program, era: str) -> None:
    auth = {"type": "headers", "headers": {"X-Api-Key": "k-e-y-secret", "Authorization": "Basic abc"}}
    info = shared.connect(server, raw_http.http(f"/json/{era}/x"), auth=auth)
    assert info["auth"]["type"] == "headers"
    sent = shared.tool(server, "headers").result["structuredContent"]
    assert sent["x-api-key"] == "k-e-y-secret"
    assert sent["authorization"] == "Basic abc"
    assert b"k-e-y-secret" not in shared.stderr


def test_denied_token_is_1302_and_the_connection_fails(shared: Sidecar, server: str, raw_http: Program) -> None:
    auth = {"type": "bearer", "token": "wrong"}
    params = {"server": server, "transport": raw_http.http("/status-401/legacy/x"), "auth": auth}
    shared.call("servers/connect", params).is_error(1302, httpStatus=401, retry="user", delivered="no")
    assert shared.call("servers/get", {"server": server}).result["state"] == "failed"


@pytest.mark.parametrize("kind", ["oauth", "host", "nonsense"])
def test_kind_of_credentials_that_is_not_offered_is_32602(shared: Sidecar, name: str, kind: str) -> None:
    params = {"server": name, "transport": {"type": "http", "url": "https://x.invalid/"}, "auth": {"type": kind}}
    assert str(shared.call("servers/connect", params).is_error(-32602)["path"]).startswith("/auth")
    shared.call("servers/get", {"server": name}).is_error(1101)


def test_modern_calls_carry_method_name_and_version(shared: Sidecar, server: str, raw_http: Program) -> None:
    shared.connect(server, raw_http.http(f"/json/modern/{server}"))
    assert shared.tool(server, "echo").result
    (call,) = posts(raw_http, server, "tools/call")
    assert call["headers"]["mcp-method"] == "tools/call"
    assert call["headers"]["mcp-name"] == "echo"
    assert call["headers"]["mcp-protocol-version"] == "2026-07-28"
    meta = call["json"]["params"]["_meta"]
    assert meta["io.modelcontextprotocol/protocolVersion"] == "2026-07-28"
    assert "mcp-session-id" not in call["headers"]


def test_legacy_calls_carry_session_and_version(shared: Sidecar, server: str, raw_http: Program) -> None:
    shared.connect(server, raw_http.http(f"/json/legacy/{server}"))
    assert shared.tool(server, "echo").result
    (call,) = posts(raw_http, server, "tools/call")
    assert call["headers"]["mcp-session-id"].startswith("session-")
    assert call["headers"]["mcp-protocol-version"] == "2025-11-25"
    assert "application/json" in call["headers"]["accept"]
    assert "text/event-stream" in call["headers"]["accept"]
    assert call["headers"]["content-type"] == "application/json"
    assert len(posts(raw_http, server, "notifications/initialized")) == 1


def test_server_is_told_who_connects(shared: Sidecar, server: str, raw_http: Program) -> None:
    info = {"name": "my host", "version": "7", "title": "Mine"}
    shared.connect(server, raw_http.http(f"/json/legacy/{server}"), clientInfo=info)
    (hello,) = posts(raw_http, server, "initialize")
    assert hello["json"]["params"]["clientInfo"] == info
    assert hello["json"]["params"]["capabilities"] == {}


def test_no_hidden_requests_are_sent_beside_a_call(shared: Sidecar, server: str, raw_http: Program) -> None:
    shared.connect(server, raw_http.http(f"/json/legacy/{server}"))
    before = len(raw_http.get(f"/requests?key={server}"))
    for _ in range(3):
        assert shared.tool(server, "echo").result
    after = raw_http.get(f"/requests?key={server}")[before:]
    assert [json.loads(entry["body"]).get("method") for entry in after if entry["method"] == "POST"] == [
        "tools/call"
    ] * 3


def test_cancel_of_a_legacy_call_is_told_with_its_id(shared: Sidecar, server: str, raw_http: Program) -> None:
    shared.connect(server, raw_http.http(f"/json/legacy/{server}"))
    key = shared.start_tool(server, "silent")
    raw_http.get(f"/wait?key={server}&what=silent")
    shared.cancel(key)
    shared.answer(key).is_error(1004, delivered="maybe")
    raw_http.get(f"/wait?key={server}&what=notifications/cancelled")
    (call,) = posts(raw_http, server, "tools/call")
    (told,) = posts(raw_http, server, "notifications/cancelled")
    assert told["json"]["params"]["requestId"] == call["json"]["id"]


@pytest.mark.parametrize("style", ["json", "stream"])
def test_cancel_of_a_modern_call_closes_its_connection(
    shared: Sidecar, server: str, raw_http: Program, style: str
) -> None:
    shared.connect(server, raw_http.http(f"/{style}/modern/{server}"))
    key = shared.start_tool(server, "silent")
    raw_http.get(f"/wait?key={server}&what=silent")
    shared.cancel(key)
    shared.answer(key).is_error(1004, delivered="maybe")
    assert "aborted" in raw_http.get(f"/wait?key={server}&what=aborted")
    assert posts(raw_http, server, "notifications/cancelled") == []
    assert shared.tool(server, "echo").result


@pytest.mark.parametrize("era", ERAS)
def test_deadline_reaches_the_server_as_a_cancel(shared: Sidecar, server: str, raw_http: Program, era: str) -> None:
    shared.connect(server, raw_http.http(f"/json/{era}/{server}"))
    shared.tool(server, "silent", timeoutMs=300).is_error(1005, phase="wait", delivered="maybe")
    what = "aborted" if era == "modern" else "notifications/cancelled"
    assert what in raw_http.get(f"/wait?key={server}&what={what}")
    assert shared.tool(server, "echo").result


def test_session_is_deleted_on_disconnect(shared: Sidecar, name: str, raw_http: Program) -> None:
    shared.connect(name, raw_http.http(f"/json/legacy/{name}"))
    assert shared.call("servers/disconnect", {"server": name}).result == {}
    assert "DELETE" in raw_http.get(f"/wait?key={name}&what=DELETE")


def test_sessions_are_deleted_at_the_end_of_input(start: Start, raw_http: Program) -> None:
    sidecar = start()
    sidecar.connect("s", raw_http.http("/json/legacy/at-the-end"))
    sidecar.close()
    assert "DELETE" in raw_http.get("/wait?key=at-the-end&what=DELETE")


@pytest.mark.parametrize("style", ["stream"])
@pytest.mark.parametrize("era", ERAS)
def test_progress_comes_on_the_calls_own_stream(
    shared: Sidecar, server: str, raw_http: Program, style: str, era: str
) -> None:
    shared.connect(server, raw_http.http(f"/{style}/{era}/{server}"))
    key = shared.start_tool(server, "slow", {"steps": 4, "delay": 0.01}, progress=True)
    assert shared.answer(key).result
    told: list[Any] = [p["progress"] for p in shared.told("notifications/progress") if p["requestId"] == key]
    assert told == [1, 2, 3, 4]
