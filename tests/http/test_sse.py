"""The transport of 2024-11-05: one event stream for all answers, posts beside it."""

from __future__ import annotations

from tests.harness import Sidecar
from tests.programs import Program


def test_bad_answer_on_the_stream_costs_only_its_call(shared: Sidecar, server: str, raw_http: Program) -> None:
    shared.connect(server, raw_http.sse(f"/sse/legacy/{server}"))
    for fault in ("bad_json", "bad_utf8"):
        shared.tool(server, fault, timeoutMs=5000).is_error(1502, delivered="yes", retry="never")
        assert shared.tool(server, "echo").result
    assert shared.call("servers/get", {"server": server}).result["generation"] == 1


def test_answer_to_a_foreign_id_is_skipped(shared: Sidecar, server: str, raw_http: Program) -> None:
    shared.connect(server, raw_http.sse(f"/sse/legacy/{server}"))
    shared.tool(server, "wrong_id", timeoutMs=500).is_error(1005, phase="wait", delivered="maybe")
    assert shared.tool(server, "echo").result


def test_cancel_is_posted_with_the_calls_id(shared: Sidecar, server: str, raw_http: Program) -> None:
    shared.connect(server, raw_http.sse(f"/sse/legacy/{server}"))
    key = shared.start_tool(server, "silent")
    raw_http.get(f"/wait?key={server}&what=silent")
    shared.cancel(key)
    shared.answer(key).is_error(1004, delivered="maybe")
    assert "notifications/cancelled" in raw_http.get(f"/wait?key={server}&what=notifications/cancelled")


def test_disconnect_closes_the_stream(shared: Sidecar, name: str, raw_http: Program) -> None:
    shared.connect(name, raw_http.sse(f"/sse/legacy/{name}"))
    assert shared.call("servers/disconnect", {"server": name}).result == {}
    assert "stream closed" in raw_http.get(f"/wait?key={name}&what=stream%20closed")


def test_server_that_is_killed_ends_its_calls_with_1106(shared: Sidecar, server: str) -> None:
    with Program("raw_http") as program:
        shared.connect(server, program.sse("/sse/legacy/killed"))
        key = shared.start_tool(server, "silent")
        program.get("/wait?key=killed&what=silent")
        program.kill()
        shared.answer(key).is_error(1106, delivered="maybe", retry="safe")
        lost = shared.wait_told(
            "servers/changed", lambda info: info["server"] == server and info["state"] == "retrying"
        )
        assert lost["lastError"]["code"] == 1106


def test_endpoint_off_the_origin_is_refused(shared: Sidecar, server: str, raw_http: Program) -> None:
    with Program("raw_http") as other:
        to = f"{other.origin}/sse/legacy/stolen"
        transport = raw_http.sse(f"/sse/legacy/off?endpoint={to}", headers={"X-Secret": "s"})
        answer = shared.call("servers/connect", {"server": server, "transport": transport})
        assert answer.code in {1204, 1502}
        assert other.get("/requests?key=stolen") == []
