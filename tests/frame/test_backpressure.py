"""A host that stops reading: memory bounded, no answer lost, everybody else goes on."""

from __future__ import annotations

from tests.conftest import Start
from tests.programs import Program, raw

MIB = 1024 * 1024
CALLS = 8
FLOOD = 10_000


def test_host_that_does_not_read_costs_bounded_memory_and_no_answer(start: Start, raw_http: Program) -> None:
    sidecar = start()
    sidecar.connect("flood", raw())
    sidecar.connect("other", raw_http.http("/json/legacy/backpressure"))
    sidecar.tool("flood", "flood", {"count": 100}, progress=True)
    base = sidecar.rss()
    sidecar.pause()
    sidecar.request("ping", key="wakes the reader for the last time")
    keys = [sidecar.start_tool("flood", "flood", {"count": FLOOD}, progress=True) for _ in range(CALLS)]
    other = [sidecar.start_tool("other", "echo", {"n": n}) for n in range(50)]
    last = sidecar.start_tool("other", "silent", timeoutMs=30_000)
    assert "silent" in raw_http.get("/wait?key=backpressure&what=silent")
    assert sidecar.rss() <= base + 32 * MIB
    sidecar.resume()
    for key in [*keys, *other]:
        assert sidecar.answer(key, 30).result
    sidecar.cancel(last)
    sidecar.answer(last).is_error(1004, delivered="maybe")
    seen = len(sidecar.told("notifications/progress")) - 100
    dropped = sum(params["count"] for params in sidecar.told("sidecar/dropped") if params["what"] == "progress")
    assert seen + dropped == CALLS * FLOOD
    assert sidecar.rss() <= base + 32 * MIB
    answered = set()
    for body in sidecar.order:
        if body.get("method") == "notifications/progress":
            assert body["params"]["requestId"] not in answered
        elif "id" in body:
            answered.add(body["id"])


def test_big_answers_are_whole_when_the_host_pauses(start: Start) -> None:
    sidecar = start()
    sidecar.connect("s", raw("--prepare", str(4 * MIB)))
    first = sidecar.tool("s", "big", {"size": 4 * MIB}).bytes
    sidecar.pause()
    sidecar.request("ping", key="wake")
    keys = [sidecar.start_tool("s", "big", {"size": 4 * MIB}) for _ in range(6)]
    sidecar.resume()
    for key in keys:
        assert sidecar.answer(key).bytes == first
