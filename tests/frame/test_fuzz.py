"""Any line: no crash, each request answered exactly once under its id, the next valid line works."""

from __future__ import annotations

import json
from typing import Any

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.harness import Sidecar

SETTINGS = settings(
    max_examples=1250,
    deadline=None,
    database=None,
    derandomize=True,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
)
TEXT = st.text(max_size=20)
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | TEXT,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(TEXT, inner, max_size=4),
    max_leaves=12,
)
METHODS = st.sampled_from(
    ["ping", "servers/list", "servers/get", "servers/ping", "tools/list", "tools/call", "no/such"]
)
PARAMS = st.dictionaries(
    st.sampled_from(["server", "scope", "timeoutMs", "name", "arguments", "_meta", "all", "headers", "payload"]) | TEXT,
    VALUES,
    max_size=5,
)
FRAMES = st.fixed_dictionaries(
    {},
    optional={
        "jsonrpc": st.sampled_from(["2.0", "1.0", 2.0, None]),
        "id": VALUES,
        "method": METHODS | VALUES,
        "params": PARAMS | VALUES,
        "result": VALUES,
        "error": VALUES,
    },
)


def next_line_works(sidecar: Sidecar, line: bytes) -> list[dict[str, Any]]:
    """Send a line and a ping; return what came besides the ping's answer."""
    sidecar.answers.clear()
    before = len(sidecar.order)
    sidecar.send_bytes(line + b'\n{"jsonrpc":"2.0","id":"the next line","method":"ping"}\n')
    assert sidecar.answer("the next line").result == {}
    if (key := request_id(line)) is not None:
        sidecar.wait(lambda: key in sidecar.answers, f"answer to {line!r}")
    return [body for body in sidecar.order[before:] if body.get("id") != "the next line"]


@SETTINGS
@given(line=st.binary(max_size=300).filter(lambda data: b"\n" not in data))
def test_random_bytes_get_at_most_one_fault(shared: Sidecar, line: bytes) -> None:
    for body in next_line_works(shared, line):
        assert body["id"] is None
        assert body["error"]["code"] in {-32700, -32600}


@SETTINGS
@given(key=st.integers(-(2**53), 2**53) | st.text(max_size=256), method=METHODS, params=PARAMS)
def test_request_is_answered_once_under_its_id(shared: Sidecar, key: int | str, method: str, params: Any) -> None:
    body = {"jsonrpc": "2.0", "id": key, "method": method, "params": params}
    try:
        line = json.dumps(body, ensure_ascii=False, allow_nan=False).encode()
    except UnicodeEncodeError:
        line = json.dumps(body, allow_nan=False).encode()
    shared.answers.clear()
    before = len(shared.order)
    shared.send_bytes(line + b"\n")
    if lone_surrogate(line):
        assert shared.wait(lambda: shared.order[before:], "fault")[0]["error"]["code"] == -32700
    else:
        shared.wait(lambda: key in shared.answers, f"answer to {line!r}")
    assert next_line_works(shared, b"") == []
    assert len(shared.order) - before == 2


@SETTINGS
@given(frame=FRAMES)
def test_odd_frames_get_at_most_one_answer(shared: Sidecar, frame: dict[str, Any]) -> None:
    line = json.dumps(frame, allow_nan=False).encode()
    extra = next_line_works(shared, line)
    assert len(extra) <= 1
    assert not shared.duplicates


@SETTINGS
@given(data=st.data())
def test_request_with_changed_bytes_never_costs_the_next_line(shared: Sidecar, data: st.DataObject) -> None:
    line = bytearray(b'{"jsonrpc":"2.0","id":"changed","method":"servers/get","params":{"server":"x","timeoutMs":5}}')
    for _ in range(data.draw(st.integers(1, 4))):
        line[data.draw(st.integers(0, len(line) - 1))] = data.draw(st.integers(0, 255).filter(lambda byte: byte != 10))
    assert len(next_line_works(shared, bytes(line))) <= 1


def request_id(line: bytes) -> int | str | None:
    """Return the id of a line that is a good request, else None."""
    try:
        body = json.loads(line, parse_constant=lambda _: 1 / 0)
    except (ValueError, ZeroDivisionError, RecursionError):
        return None
    if not isinstance(body, dict) or body.get("jsonrpc") != "2.0" or not isinstance(body.get("method"), str):
        return None
    key = body.get("id")
    fits = isinstance(key, str) and len(key) <= 256
    fits = fits or (isinstance(key, int) and not isinstance(key, bool) and abs(key) <= 2**53)
    return key if fits and not lone_surrogate(line) else None


def lone_surrogate(line: bytes) -> bool:
    """Tell whether the text holds a surrogate without its pair."""
    try:
        json.dumps(json.loads(line), ensure_ascii=False).encode()
    except UnicodeEncodeError:
        return True
    return False
