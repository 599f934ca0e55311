"""Event streams that are cut: calls go on where they were, the standalone stream neither dies nor spins."""

from __future__ import annotations

import itertools

import pytest

from sidecar.transports.events import EventParser
from sidecar.transports.place import Place, between
from tests.answers import Json
from tests.harness import Sidecar
from tests.programs import Program

MIB = 1024 * 1024


def gets(entries: list[Json]) -> list[Json]:
    """Return the GET requests among what a server has seen."""
    return [entry for entry in entries if entry["what"] == "GET"]


@pytest.mark.parametrize("again", [False, True], ids=["plain", "repeating"])
@pytest.mark.parametrize("reset", [False, True], ids=["ended", "reset"])
def test_call_goes_on_after_each_cut_without_loss_or_repetition(
    shared: Sidecar, server: str, streams: Program, again: bool, reset: bool
) -> None:
    shared.connect(server, streams.http(f"/mcp/{server}"))
    arguments = {"times": 3, "retry": 0, "again": again, "reset": reset}
    key = shared.start_tool(server, "drop", arguments, progress=True)
    assert shared.answer(key).result["content"][0]["text"] == "done"
    steps = [params["progress"] for params in shared.told("notifications/progress") if params["requestId"] == key]
    assert steps == [1, 2, 3]
    seen = streams.get(f"/seen?key={server}")
    resumed = [entry["last"].rpartition("/")[2] for entry in gets(seen) if entry["last"]]
    assert resumed == ["0", "1", "2", "3"]
    assert sum(entry["what"] == "call drop" for entry in seen) == 1


def test_many_calls_are_cut_many_times_at_once(shared: Sidecar, server: str, streams: Program) -> None:
    shared.connect(server, streams.http(f"/mcp/{server}"))
    descriptors = len(shared.handle.open_files()) + shared.handle.num_fds()
    keys = [shared.start_tool(server, "drop", {"times": 4, "retry": 0}) for _ in range(25)]
    assert all(shared.answer(key).result for key in keys)
    shared.tool(server, "echo")
    assert shared.handle.num_fds() <= descriptors + 30  # idle connections are kept for the next calls
    assert "Traceback" not in shared.stderr.decode()


def test_stream_that_cannot_be_resumed_costs_its_call_alone(shared: Sidecar, server: str, streams: Program) -> None:
    shared.connect(server, streams.http(f"/modern/{server}"))
    shared.tool(server, "drop", {"times": 1}).is_error(1106, delivered="maybe", retry="safe")
    assert gets(streams.get(f"/seen?key={server}")) == []
    assert shared.tool(server, "echo").result


def test_standalone_stream_with_retry_0_is_asked_for_twice_a_second_at_most(
    shared: Sidecar, server: str, streams: Program
) -> None:
    shared.connect(server, streams.http(f"/mcp/{server}?get=zero"))
    seen = gets(streams.get(f"/wait?key={server}&what=GET&count=4"))
    pauses = [later["at"] - earlier["at"] for earlier, later in itertools.pairwise(seen)]
    assert min(pauses) >= 0.45
    assert max(pauses) <= 2.0
    assert shared.tool(server, "echo").result


@pytest.mark.parametrize("status", [429, 500, 503])
def test_standalone_stream_is_asked_for_again_after_a_refusal_that_may_pass(
    shared: Sidecar, server: str, streams: Program, status: int
) -> None:
    shared.connect(server, streams.http(f"/mcp/{server}?get={status}"))
    assert len(gets(streams.get(f"/wait?key={server}&what=GET&count=2"))) >= 2


def test_server_without_a_standalone_stream_is_asked_once(shared: Sidecar, server: str, streams: Program) -> None:
    shared.connect(server, streams.http(f"/mcp/{server}"))
    streams.get(f"/wait?key={server}&what=GET")
    for _ in range(20):
        assert shared.tool(server, "echo").result
    assert len(gets(streams.get(f"/seen?key={server}"))) == 1


def test_session_that_its_own_stream_finds_gone_is_made_anew_without_a_call(
    shared: Sidecar, server: str, streams: Program
) -> None:
    shared.connect(server, streams.http(f"/mcp/{server}?get=gone"))
    shared.wait_told(
        "servers/changed",
        lambda info: info["server"] == server and info["state"] == "ready" and info["generation"] == 2,
    )
    assert shared.tool(server, "echo").result
    assert sum(entry["what"] == "initialize" for entry in streams.get(f"/seen?key={server}")) == 2


@pytest.mark.parametrize(("asked", "low", "high"), [(0.0, 0.5, 0.56), (1e9, 60.0, 60.0), (2.0, 2.0, 2.21)])
def test_wait_between_two_streams_has_a_floor_and_a_ceiling(asked: float, low: float, high: float) -> None:
    waits = {between(asked) for _ in range(200)}
    assert low <= min(waits)
    assert max(waits) <= high


def test_huge_retry_is_read_and_cut() -> None:
    parser = EventParser(1000)
    place = Place()
    for event in parser.feed(
        b"retry: 1000000000000\n\nretry: " + b"9" * 5000 + b"\n\nid: a\ndata: x\n\nid: a\ndata: x\n\n"
    ):
        place.note(event)
    assert between(place.delay) == 60.0
    assert place.last_id == b"a"


def test_event_that_was_seen_is_not_taken_again() -> None:
    place = Place()
    events = list(
        EventParser(1000).feed(b"id: 1\ndata: a\n\nid: 2\ndata: b\n\nid: 1\ndata: a\n\ndata: c\n\ndata: c\n\n")
    )
    assert [place.note(event) for event in events] == [True, True, False, True, True]


def test_event_of_very_many_lines_costs_no_more_than_its_size(shared: Sidecar, server: str, streams: Program) -> None:
    shared.connect(server, streams.http(f"/mcp/{server}"))
    base = shared.rss()
    answer = shared.tool(server, "many_lines", {"count": 1_000_000}, timeoutMs=20_000)
    assert len(answer.result["x"]) == 1_000_001
    assert shared.rss() <= base + 64 * MIB
