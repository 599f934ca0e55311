"""Lines that are wrong, each with the exact answer of the contract; the next line works."""

from __future__ import annotations

from typing import Any

import pytest

from tests.conftest import Start
from tests.harness import Sidecar
from tests.programs import raw

HOST = {"name": "tests", "version": "1"}


@pytest.mark.parametrize(
    "method", ["nonsense", "", "rpc.discover", "tools/nonsense", "sidecar/metrics", "catalog/discover"]
)
def test_unknown_method_is_32601(shared: Sidecar, method: str) -> None:
    shared.call(method, {}).is_error(-32601)
    assert shared.call("ping").result == {}


@pytest.mark.parametrize(
    ("method", "params", "path"),
    [
        ("sidecar/setLogLevel", {"level": 5}, "/level"),
        ("sidecar/setLogLevel", {"level": "loud"}, "/level"),
        ("sidecar/setLogLevel", {}, "/level"),
        ("sidecar/health", {"nonsense": 1}, "/nonsense"),
        ("servers/list", {"allScopes": "yes please"}, "/allScopes"),
        ("servers/list", {"scope": {"tenant": 5}}, "/scope/tenant"),
        ("servers/list", {"scope": {"tenant": "x" * 257}}, "/scope/tenant"),
        ("servers/list", {"scope": {"planet": "x"}}, "/scope/planet"),
        ("servers/get", {}, "/server"),
        ("servers/get", {"server": "a b"}, "/server"),
        ("servers/get", {"server": ""}, "/server"),
        ("servers/get", {"server": "x" * 129}, "/server"),
        ("servers/get", {"server": "x", "timeoutMs": 0}, "/timeoutMs"),
        ("servers/get", {"server": "x", "timeoutMs": "1000"}, "/timeoutMs"),
        ("servers/get", {"server": "x", "timeoutMs": 1.5}, "/timeoutMs"),
        ("servers/connect", {"server": "x"}, "/transport"),
        ("servers/connect", {"server": "x", "transport": {"type": "carrier pigeon"}}, "/transport"),
        ("servers/connect", {"server": "x", "transport": {"type": "http"}}, "/transport/url"),
        ("tools/call", {"name": "echo"}, "/server"),
        ("tools/call", {"server": 5, "name": "echo"}, "/server"),
        ("tools/call", {"server": "x", "name": "echo", "progress": "yes please"}, "/progress"),
        ("tools/call", {"server": "x", "name": "echo", "headers": []}, "/headers"),
        ("tools/call", {"server": "x", "name": "echo", "timeoutMs": -1}, "/timeoutMs"),
        ("ping", {"nonsense": 1}, "/nonsense"),
        ("ping", {"timeoutMs": "soon"}, "/timeoutMs"),
    ],
)
def test_wrong_params_are_32602_with_their_path(shared: Sidecar, method: str, params: Any, path: str) -> None:
    data = shared.call(method, params).is_error(-32602)
    assert str(data["path"]).startswith(path)
    assert shared.call("ping").result == {}


@pytest.mark.parametrize("params", [b"[]", b"null", b'"x"', b"5"])
def test_params_that_are_no_object_are_32602_under_their_id(shared: Sidecar, params: bytes) -> None:
    shared.answer(shared.raw_request("ping", params)).is_error(-32602)
    shared.answer(shared.raw_request("servers/list", params)).is_error(-32602)


@pytest.mark.parametrize(
    ("line", "code", "found"),
    [
        (b'[{"jsonrpc":"2.0","id":1,"method":"ping"}]', -32600, None),
        (b"[]", -32600, None),
        (b'{"jsonrpc":"2.0","id":null,"method":"ping"}', -32600, None),
        (b'{"jsonrpc":"2.0","id":1.0,"method":"ping"}', -32600, 1.0),
        (b'{"jsonrpc":"1.0","id":"v","method":"ping"}', -32600, "v"),
        (b'{"jsonrpc":"2.0","id":"m","method":5}', -32600, "m"),
        (b'{"jsonrpc":"2.0","id":"n","method":"ping","params":{"payload":NaN}}', -32700, "n"),
        (b'{"jsonrpc":"2.0","id":"u","method":"ping","params":{"payload":"\xff"}}', -32700, "u"),
        (b"not JSON", -32700, None),
        (b"{", -32700, None),
        (
            b'{"jsonrpc":"2.0","id":"d","method":"ping","params":{"payload":' + b"[" * 600 + b"]" * 600 + b"}}",
            -32700,
            "d",
        ),
    ],
)
def test_faulty_frame_is_answered_without_an_id_and_the_next_line_works(
    start: Start, line: bytes, code: int, found: Any
) -> None:
    sidecar = start()
    sidecar.send_bytes(line + b"\n")
    assert sidecar.call("ping").result == {}
    (fault,) = sidecar.faults
    assert fault["code"] == code
    assert (fault.get("data") or {}).get("id") == found


def test_id_in_flight_is_refused_and_the_first_request_is_untouched(shared: Sidecar, server: str) -> None:
    shared.connect(server, raw())
    first = shared.request("tools/call", {"server": server, "name": "silent"}, key="twice")
    before = len(shared.faults)
    shared.send_bytes(b'{"jsonrpc":"2.0","id":"twice","method":"ping"}\n')
    fault = shared.wait(lambda: shared.faults[before:], "fault")[0]
    assert fault["code"] == -32600
    assert fault["data"]["id"] == "twice"
    assert first not in shared.answers
    shared.cancel(first)
    shared.answer(first).is_error(1004)
    del shared.answers["twice"]
    assert shared.answer(shared.request("ping", key="twice")).result == {}


def test_cancel_of_an_unknown_id_is_ignored(shared: Sidecar) -> None:
    before = len(shared.lines)
    shared.cancel("never seen")
    shared.cancel(987654321)
    shared.send_bytes(b'{"jsonrpc":"2.0","method":"notifications/cancelled"}\n')
    shared.send_bytes(b'{"jsonrpc":"2.0","method":"notifications/cancelled","params":{"requestId":[]}}\n')
    assert shared.call("ping").result == {}
    assert len(shared.lines) == before + 1


def test_initialize_after_another_request_is_32600(start: Start) -> None:
    sidecar = start()
    sidecar.call("servers/list")
    sidecar.call("initialize", {"protocolVersion": 1, "host": HOST}).is_error(-32600)
    assert sidecar.call("servers/list").result == {"servers": []}


def test_second_initialize_is_32600(start: Start) -> None:
    sidecar = start()
    assert sidecar.call("initialize", {"protocolVersion": 1, "host": HOST}).result["protocolVersion"] == 1
    sidecar.call("initialize", {"protocolVersion": 1, "host": HOST}).is_error(-32600)
    assert sidecar.call("ping").result == {}


def test_refused_initialize_may_be_sent_again(start: Start) -> None:
    sidecar = start()
    data = sidecar.call("initialize", {"protocolVersion": 2, "host": HOST}).is_error(1008, kind="VersionMismatch")
    assert data["want"] == 2
    assert data["have"] == 1
    sidecar.call("initialize", {"protocolVersion": 1}).is_error(-32602)
    sidecar.call("initialize", {"protocolVersion": "1", "host": HOST}).is_error(-32602)
    sidecar.call("initialize", {"protocolVersion": 1, "host": HOST, "nonsense": 1}).is_error(-32602, path="/nonsense")
    assert sidecar.call("initialize", {"protocolVersion": 1, "host": HOST}).result["protocolVersion"] == 1


def test_initialize_tells_versions_limits_and_platform(start: Start) -> None:
    sidecar = start()
    params = {"protocolVersion": 1, "host": HOST, "limits": {"maxServers": 7}}
    result = sidecar.call("initialize", params).result
    assert result["sidecar"]["pid"] == sidecar.process.pid
    assert result["sidecar"].keys() == {"name", "version", "fastmcp", "mcp", "python", "pid"}
    assert result["limits"]["maxServers"] == 7
    assert result["limits"]["maxFrameBytes"] == 64 * 1024 * 1024
    assert result["limits"]["maxInFlight"] == 10_000
    assert "2026-07-28" in result["mcpProtocolVersions"]
    assert "2024-11-05" in result["mcpProtocolVersions"]
    assert result["platform"] == {"os": "linux", "treeGuard": True}


def test_call_without_initialize_works(start: Start) -> None:
    sidecar = start()
    sidecar.connect("s", raw())
    assert sidecar.tool("s", "echo", {"a": 1}).result["structuredContent"]["params"]["arguments"] == {"a": 1}
