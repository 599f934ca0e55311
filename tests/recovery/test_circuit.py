"""The circuit: after five calls that found the connection broken it rests, then lets one call through."""

from __future__ import annotations

from tests.harness import Sidecar
from tests.programs import Program


def test_five_broken_calls_open_the_circuit_and_one_good_call_closes_it(
    shared: Sidecar, server: str, raw_http: Program
) -> None:
    shared.connect(server, raw_http.http("/json/modern/circuit"))
    for _ in range(5):
        shared.tool(server, "status", {"code": 503}).is_error(1202, httpStatus=503)
    before = len(raw_http.get("/requests?key=circuit"))
    data = shared.tool(server, "echo").is_error(1110, kind="CircuitOpen", delivered="no", retry="after")
    assert 0 < data["retryAfterMs"] <= 5000
    assert len(raw_http.get("/requests?key=circuit")) == before
    assert shared.call("servers/get", {"server": server}).result["state"] == "ready"

    def opened() -> bool:
        return "error" not in shared.tool(server, "echo").body

    shared.wait(opened, "closed circuit", patience=8)
    for _ in range(4):
        shared.tool(server, "status", {"code": 503}).is_error(1202)
    assert shared.tool(server, "echo").result


def test_mixed_failures_do_not_open_the_circuit(shared: Sidecar, server: str, raw_http: Program) -> None:
    shared.connect(server, raw_http.http("/json/modern/mixed"))
    for _ in range(3):
        for _ in range(4):
            shared.tool(server, "status", {"code": 503}).is_error(1202)
        shared.tool(server, "status", {"code": 400}).is_error(1203)
    assert shared.tool(server, "echo").result


def test_lost_connections_count_towards_the_circuit(shared: Sidecar, server: str, raw_http: Program) -> None:
    shared.connect(server, raw_http.http("/json/modern/resets"))
    for _ in range(5):
        shared.tool(server, "reset").is_error(1106, delivered="maybe")
    shared.tool(server, "echo").is_error(1110, delivered="no")
