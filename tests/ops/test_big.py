"""Big results from prepared bytes: right over every transport; the limits are exact."""

from __future__ import annotations

import time

import pytest

from tests.harness import Sidecar
from tests.programs import Program, raw
from tests.servers import payload

MIB = 1024 * 1024
TEN = 10 * MIB
PATHS = ["/json/legacy/big", "/stream/legacy/big", "/json/modern/big", "/stream/modern/big"]


def fetch(sidecar: Sidecar, server: str, size: int) -> bytes:
    """Return a big result and print how long it took."""
    began = time.monotonic()
    answer = sidecar.tool(server, "big", {"size": size})
    print(f"{size / MIB:.1f} MiB in {answer.at - began:.3f} s")
    return answer.bytes


def test_ten_megabytes_come_right_over_stdio(shared: Sidecar, server: str) -> None:
    shared.connect(server, raw("--prepare", str(TEN)))
    assert fetch(shared, server, TEN) == payload.big(TEN)
    assert fetch(shared, server, TEN) == payload.big(TEN)


@pytest.mark.parametrize("path", PATHS)
def test_ten_megabytes_come_right_over_http(shared: Sidecar, server: str, raw_http: Program, path: str) -> None:
    shared.connect(server, raw_http.http(path))
    assert fetch(shared, server, TEN) == payload.big(TEN)
    assert fetch(shared, server, TEN) == payload.big(TEN)


def test_ten_megabytes_come_right_over_sse(shared: Sidecar, server: str, raw_http: Program) -> None:
    shared.connect(server, raw_http.sse("/sse/legacy/big"))
    assert fetch(shared, server, TEN) == payload.big(TEN)
    shared.connect(server, raw_http.sse("/sse/legacy/big"), limits={"maxResultBytes": MIB}, replace=True)
    waiting = shared.start_tool(server, "silent")
    shared.tool(server, "big", {"size": 2 * MIB}).is_error(1006, delivered="yes", limit=MIB)
    assert fetch(shared, server, MIB // 2) == payload.big(MIB // 2)
    assert waiting not in shared.answers
    shared.cancel(waiting)
    shared.answer(waiting).is_error(1004)


def test_eighty_megabytes_come_right_over_stdio_with_raised_limits(start_big: Sidecar) -> None:
    size = 80 * 1000 * 1000
    start_big.connect("s", raw("--prepare", str(size)), limits={"maxResultBytes": 100 * MIB})
    assert fetch(start_big, "s", size) == payload.big(size)


@pytest.mark.parametrize("path", PATHS)
def test_result_over_the_limit_is_1006_over_http(shared: Sidecar, server: str, raw_http: Program, path: str) -> None:
    shared.connect(server, raw_http.http(path), limits={"maxResultBytes": MIB})
    data = shared.tool(server, "big", {"size": 2 * MIB}).is_error(1006, delivered="yes", limit=MIB, retry="never")
    assert data["bytes"] > MIB
    assert fetch(shared, server, MIB // 2) == payload.big(MIB // 2)


@pytest.mark.parametrize("where", ["front", "end"])
def test_result_over_the_limit_is_1006_over_stdio(shared: Sidecar, server: str, where: str) -> None:
    shared.connect(server, raw(), limits={"maxResultBytes": MIB})
    waiting = shared.start_tool(server, "silent")
    answer = shared.tool(server, "long_line", {"size": 2 * MIB, "id": where})
    data = answer.is_error(1006, delivered="yes", limit=MIB)
    assert data["bytes"] > 2 * MIB
    assert fetch(shared, server, MIB // 2) == payload.big(MIB // 2)
    assert waiting not in shared.answers
    shared.cancel(waiting)
    shared.answer(waiting).is_error(1004)


def test_long_line_without_a_readable_id_ends_the_only_call(shared: Sidecar, server: str) -> None:
    shared.connect(server, raw(), limits={"maxResultBytes": MIB})
    shared.tool(server, "long_line", {"size": 2 * MIB, "id": "nowhere"}).is_error(1006, delivered="yes")
    assert shared.tool(server, "echo").result


def test_gzip_is_limited_after_decompression(shared: Sidecar, server: str, raw_http: Program) -> None:
    shared.connect(server, raw_http.http("/json/legacy/gzip"))
    assert shared.tool(server, "gzip").bytes == payload.RESULT
    before = shared.rss()
    shared.tool(server, "bomb", {"size": 300 * MIB}).is_error(1006, delivered="yes", limit=16 * MIB)
    assert shared.rss() <= before + 64 * MIB
    assert shared.tool(server, "gzip").bytes == payload.RESULT
