"""Servers behind HTTP that break: each fault costs its own call, and the session stays."""

from __future__ import annotations

import datetime
import time
from email.utils import format_datetime

import pytest

from tests.conftest import Start
from tests.harness import Sidecar
from tests.programs import Program

ERAS = ["legacy", "modern"]
NO = {401, 403, 404, 405, 429}
CODES = {
    400: (1203, "HTTPStatus", "never"),
    401: (1302, "AuthDenied", "user"),
    403: (1302, "AuthDenied", "user"),
    405: (1203, "HTTPStatus", "never"),
    408: (1203, "HTTPStatus", "never"),
    429: (1201, "RateLimited", "after"),
    500: (1202, "Unavailable", "after"),
    502: (1202, "Unavailable", "after"),
    503: (1202, "Unavailable", "after"),
    504: (1202, "Unavailable", "after"),
}


@pytest.mark.parametrize("status", CODES)
@pytest.mark.parametrize("era", ERAS)
def test_status_of_a_call_is_told_and_costs_only_that_call(
    shared: Sidecar, server: str, raw_http: Program, era: str, status: int
) -> None:
    shared.connect(server, raw_http.http(f"/json/{era}/status"))
    code, kind, retry = CODES[status]
    answer = shared.tool(server, "status", {"code": status})
    delivered = "no" if status in NO else "maybe"
    answer.is_error(code, kind=kind, retry=retry, delivered=delivered, httpStatus=status, server=server)
    assert b"a secret body" not in answer.line
    assert shared.tool(server, "echo").result
    info = shared.call("servers/get", {"server": server}).result
    assert info["state"] == "ready"
    assert info["generation"] == 1


def test_status_404_without_a_session_is_1203(shared: Sidecar, server: str, raw_http: Program) -> None:
    shared.connect(server, raw_http.http("/json/plain/status"))
    shared.tool(server, "status", {"code": 404}).is_error(1203, httpStatus=404, delivered="no")
    assert shared.tool(server, "echo").result


@pytest.mark.parametrize("status", [429, 503])
def test_retry_after_in_seconds_is_told(shared: Sidecar, server: str, raw_http: Program, status: int) -> None:
    shared.connect(server, raw_http.http("/json/legacy/retry"))
    data = shared.tool(server, "status", {"code": status, "retry": "7"}).is_error(CODES[status][0])
    assert data["retryAfterMs"] == 7000


def test_retry_after_as_a_date_is_told(shared: Sidecar, server: str, raw_http: Program) -> None:
    shared.connect(server, raw_http.http("/json/legacy/retry"))
    when = datetime.datetime.now(datetime.UTC) + datetime.timedelta(seconds=30)
    data = shared.tool(server, "status", {"code": 503, "retry": format_datetime(when, usegmt=True)}).is_error(1202)
    assert 25_000 <= data["retryAfterMs"] <= 30_000


@pytest.mark.parametrize(("value", "expected"), [("99999999999", 86_400_000), ("soon", None), ("-5", None)])
def test_odd_retry_after_is_capped_or_left_out(
    shared: Sidecar, server: str, raw_http: Program, value: str, expected: int | None
) -> None:
    shared.connect(server, raw_http.http("/json/legacy/retry"))
    data = shared.tool(server, "status", {"code": 429, "retry": value}).is_error(1201)
    assert data.get("retryAfterMs") == expected


@pytest.mark.parametrize("era", ERAS)
@pytest.mark.parametrize(
    ("fault", "code"),
    [
        ("reset", 1106),
        ("half", 1106),
        ("bad_chunk", 1106),
        ("bad_gzip", 1106),
        ("big_header", 1106),
        ("end_early", 1106),
    ],
)
def test_what_breaks_below_json_costs_one_of_twenty_calls(
    shared: Sidecar, server: str, raw_http: Program, era: str, fault: str, code: int
) -> None:
    shared.connect(server, raw_http.http(f"/stream/{era}/blast"))
    slow = [shared.start_tool(server, "slow", {"steps": 5, "delay": 0.04}) for _ in range(19)]
    broken = shared.start_tool(server, fault)
    shared.answer(broken).is_error(code, kind="ConnectionLost", delivered="maybe", retry="safe")
    for key in slow:
        assert shared.answer(key).result["content"][0]["text"] == "done"
    info = shared.call("servers/get", {"server": server}).result
    assert info["state"] == "ready"
    assert info["generation"] == 1


@pytest.mark.parametrize("era", ERAS)
@pytest.mark.parametrize("kind", ["json", "stream"])
@pytest.mark.parametrize(
    ("fault", "code", "delivered"),
    [
        ("bad_json", 1502, "yes"),
        ("bad_utf8", 1502, "yes"),
        ("wrong_id", 1502, "maybe"),
        ("accepted", 1502, "maybe"),
        ("no_content", 1502, "maybe"),
        ("html", 1203, "maybe"),
    ],
)
def test_answer_against_the_protocol_fails_that_call_at_once(
    shared: Sidecar, server: str, raw_http: Program, era: str, kind: str, fault: str, code: int, delivered: str
) -> None:
    shared.connect(server, raw_http.http(f"/{kind}/{era}/peers"))
    victim = shared.start_tool(server, "slow", {"steps": 3, "delay": 0.05})
    began = time.monotonic()
    answer = shared.tool(server, fault, timeoutMs=5000)
    data = answer.is_error(code, retry="never")
    if code == 1502:
        assert data["reason"]
        assert data["delivered"] in {delivered, "yes"}
    assert answer.at - began <= 1.0
    assert shared.answer(victim).result["content"][0]["text"] == "done"
    assert b"login page" not in answer.line
    assert shared.tool(server, "echo").result


@pytest.mark.parametrize("status", [400, 404, 422, 500])
def test_json_rpc_error_under_the_calls_id_is_1501_whatever_the_status(
    shared: Sidecar, server: str, raw_http: Program, status: int
) -> None:
    shared.connect(server, raw_http.http("/json/modern/errors"))
    remote = shared.tool(server, "error_status", {"code": status}).is_error(1501, delivered="yes")["remote"]
    assert remote["code"] == -32042


@pytest.mark.parametrize(("status", "code"), [(401, 1302), (403, 1302), (429, 1201)])
def test_json_rpc_error_with_a_status_of_its_own_keeps_that_code(
    shared: Sidecar, server: str, raw_http: Program, status: int, code: int
) -> None:
    shared.connect(server, raw_http.http("/json/modern/errors"))
    shared.tool(server, "error_status", {"code": status}).is_error(code, httpStatus=status, delivered="no")


def test_lost_session_is_made_anew_and_the_call_runs_once(shared: Sidecar, server: str, raw_http: Program) -> None:
    key = server
    shared.connect(server, raw_http.http(f"/json/legacy/{key}"))
    assert shared.tool(server, "forget_session").result
    assert shared.tool(server, "echo", {"n": 1}).result
    methods = [entry["body"] for entry in raw_http.get(f"/requests?key={key}") if entry["method"] == "POST"]
    assert sum('"initialize"' in body for body in methods) == 2
    executed = raw_http.get(f"/wait?key={key}&what=call%20echo")
    assert executed.count("call echo") == 1
    assert shared.call("servers/get", {"server": server}).result["generation"] == 2


@pytest.mark.parametrize(
    ("status", "code", "state"),
    [(401, 1302, "failed"), (403, 1302, "failed"), (404, 1203, "failed"), (429, 1201, "failed"), (500, 1202, "failed")],
)
def test_status_while_connecting_fails_the_connection(
    shared: Sidecar, server: str, raw_http: Program, status: int, code: int, state: str
) -> None:
    params = {"server": server, "transport": raw_http.http(f"/status-{status}/legacy/x")}
    shared.call("servers/connect", params).is_error(code, httpStatus=status, server=server)
    assert shared.call("servers/get", {"server": server}).result["state"] == state


def test_web_page_instead_of_a_server_fails_the_connection(shared: Sidecar, server: str, raw_http: Program) -> None:
    params = {"server": server, "transport": raw_http.http("/html/legacy/x")}
    answer = shared.call("servers/connect", params)
    answer.is_error(1203, httpStatus=200, server=server)
    assert b"login page" not in answer.line


def test_redirect_on_the_origin_is_followed(shared: Sidecar, server: str, raw_http: Program) -> None:
    assert shared.connect(server, raw_http.http("/redirect-on/legacy/on"))["state"] == "ready"
    assert shared.tool(server, "echo").result


def test_redirect_off_the_origin_is_1204_and_nothing_is_sent_there(
    shared: Sidecar, server: str, raw_http: Program
) -> None:
    with Program("raw_http") as other:
        to = f"{other.origin}/json/legacy/stolen"
        transport = raw_http.http(f"/redirect-off/legacy/off?to={to}", headers={"X-Secret": "s"})
        data = shared.call("servers/connect", {"server": server, "transport": transport}).is_error(1204)
        assert data["origin"] == other.origin
        assert data["delivered"] == "no"
        assert other.get("/requests?key=stolen") == []


def test_redirect_in_a_loop_is_1204(shared: Sidecar, server: str, raw_http: Program) -> None:
    params = {"server": server, "transport": raw_http.http("/redirect-loop/legacy/loop")}
    shared.call("servers/connect", params).is_error(1204, delivered="no", retry="never")


@pytest.mark.parametrize("era", ERAS)
@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
def test_redirect_of_a_call_off_the_origin_is_1204(
    shared: Sidecar, server: str, raw_http: Program, era: str, status: int
) -> None:
    shared.connect(server, raw_http.http(f"/json/{era}/redirects"))
    answer = shared.tool(server, "redirect", {"code": status, "to": "http://127.0.0.1:1/evil"})
    answer.is_error(1204, origin="http://127.0.0.1:1", delivered="no")
    assert shared.tool(server, "echo").result


def test_server_that_is_gone_costs_the_call_and_returns(start: Start) -> None:
    sidecar = start()
    with Program("raw_http") as first:
        sidecar.connect("s", first.http("/json/modern/x"))
        port = first.port
        first.kill()
        data = sidecar.tool("s", "echo").is_error(1102, phase="tcp", errno="ECONNREFUSED", delivered="no")
        assert data["retry"] == "after"
        assert data["attempts"] >= 1
    with Program("raw_http", "--port", str(port)):
        assert sidecar.tool("s", "echo").result


def test_server_killed_in_mid_call_is_1106(start: Start) -> None:
    sidecar = start()
    with Program("raw_http") as program:
        sidecar.connect("s", program.http("/json/modern/x"))
        key = sidecar.start_tool("s", "silent")
        assert "silent" in program.get("/wait?key=x&what=silent")
        program.kill()
        sidecar.answer(key).is_error(1106, delivered="maybe", retry="safe")


def test_session_that_expires_again_at_once_is_1108(shared: Sidecar, server: str, raw_http: Program) -> None:
    shared.connect(server, raw_http.http(f"/json/legacy/{server}"))
    answer = shared.tool(server, "status", {"code": 404})
    answer.is_error(1108, kind="SessionExpired", delivered="no", retry="safe", server=server)
    executed = raw_http.get(f"/wait?key={server}&what=call%20status")
    assert executed.count("call status") == 2
    assert shared.tool(server, "echo").result


def test_tool_with_an_invalid_header_mark_is_left_out_of_a_modern_list(
    shared: Sidecar, server: str, raw_http: Program
) -> None:
    shared.connect(server, raw_http.http("/json/modern/marks?bad-tool=1"))
    tools = shared.call("tools/list", {"server": server}).result["tools"]
    assert [tool["name"] for tool in tools] == ["echo"]
    shared.tool(server, "marked").is_error(1507, tool="marked", delivered="no", retry="never")
    assert shared.tool(server, "echo").result


def test_argument_marked_as_a_header_is_sent_as_one(shared: Sidecar, server: str, raw_http: Program) -> None:
    shared.connect(server, raw_http.http("/json/modern/marks?good-tool=1"))
    assert len(shared.call("tools/list", {"server": server}).result["tools"]) == 2
    sent = shared.tool(server, "headers", {"region": "eu-1"}).result["structuredContent"]
    assert sent["mcp-param-region"] == "eu-1"
