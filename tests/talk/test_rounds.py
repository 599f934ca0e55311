"""Input-required rounds of the modern era: the same handlers, the state untouched, nothing without an end."""

from __future__ import annotations

from typing import Any

import pytest

from tests.answers import Json
from tests.harness import Sidecar
from tests.talk.host import ELICIT, ROOTS, SAMPLE, SAMPLED, asked, cancelled, found, promise, refuse, reply, talker

MODERN = pytest.mark.parametrize("transport", ["stdio-modern", "http-modern"], indirect=True)
ONE = {"rounds": [{"who": ELICIT}]}
ADA = {"action": "accept", "content": {"name": "Ada"}}


@MODERN
def test_questions_of_every_kind_are_answered_at_once_and_the_call_comes_back_with_them(
    host: Sidecar, at: str, transport: Json
) -> None:
    host.connect(at, transport)
    key = host.start_tool(at, "round", {"rounds": [{"who": ELICIT, "what": SAMPLE, "where": ROOTS}, {"again": ELICIT}]})
    requests = {
        method: asked(host, method, at)[-1] for method in ("elicitation/create", "sampling/createMessage", "roots/list")
    }
    assert all(request["params"]["requestId"] == key for request in requests.values())
    assert all(request["params"]["timeoutMs"] <= 60_000 for request in requests.values())
    reply(host, requests["roots/list"], {"roots": []})
    reply(host, requests["sampling/createMessage"], SAMPLED)
    reply(host, requests["elicitation/create"], ADA)
    reply(host, asked(host, "elicitation/create", at, 2)[-1], {"action": "decline"})
    result = found(host.answer(key))
    history = result["history"]
    assert [step["inputResponses"] for step in history] == [
        None,
        {"who": ADA, "what": SAMPLED, "where": {"roots": []}},
        {"again": {"action": "decline"}},
    ]
    assert [step["state"] for step in history] == [False, True, True]
    assert len({step["id"] for step in history}) == 3
    assert result["params"]["name"] == "round"


@MODERN
def test_state_is_left_out_where_there_is_none_and_stays_with_its_call(host: Sidecar, at: str, transport: Json) -> None:
    host.connect(at, transport)
    key = host.start_tool(at, "round", ONE)
    request = asked(host, "elicitation/create", at)[-1]
    between = found(host.tool(at, "params"))
    assert not between.keys() & {"inputResponses", "requestState"}
    reply(host, request, ADA)
    assert found(host.answer(key))["history"][1]["inputResponses"] == {"who": ADA}
    # Without a state the server cannot count: it asks again and again, and gets no state.
    key = host.start_tool(at, "round", {"rounds": [{"who": ELICIT}], "stateless": True})
    for number in range(2, 12):
        reply(host, asked(host, "elicitation/create", at, number)[-1], ADA)
    host.answer(key).is_error(1506, delivered="yes", rounds=10)


def test_state_alone_is_sent_back_after_a_pause_and_a_missing_type_is_a_result(host: Sidecar, at: str) -> None:
    host.connect(at, talker("--modern"))
    result = found(host.tool(at, "round", {"rounds": [{}, {}], "untyped": True}))
    assert [step["state"] for step in result["history"]] == [False, True, True]
    assert [step["inputResponses"] for step in result["history"]] == [None, None, None]


@pytest.mark.parametrize(
    ("method", "params", "member"),
    [("prompts/get", {"name": "p"}, "messages"), ("resources/read", {"uri": "test://rounds"}, "contents")],
)
def test_prompts_and_resources_have_rounds_too(host: Sidecar, at: str, method: str, params: Json, member: str) -> None:
    host.connect(at, talker("--modern"))
    key = host.request(method, {"server": at, **params})
    reply(host, asked(host, "roots/list", at)[-1], {"roots": [{"uri": "file:///r"}]})
    history = host.answer(key).result[member][0]["history"]
    assert history[1]["inputResponses"] == {"one": {"roots": [{"uri": "file:///r"}]}}


def test_server_that_asks_without_end_is_stopped(host: Sidecar, at: str) -> None:
    host.connect(at, talker("--modern"))
    key = host.start_tool(at, "round", {"rounds": [{"where": ROOTS}], "endless": True})
    for number in range(1, 11):
        reply(host, asked(host, "roots/list", at, number)[-1], {"roots": []})
    host.answer(key).is_error(1506, delivered="yes", rounds=10, retry="never")
    assert host.tool(at, "echo").result


BAD: tuple[tuple[Json, int], ...] = (
    ({"resultType": "input_required"}, 1502),
    ({"resultType": "input_required", "inputRequests": {}}, 1502),
    ({"resultType": "input_required", "inputRequests": [1]}, 1502),
    ({"resultType": "input_required", "inputRequests": {"a": {"method": "tools/list"}}}, 1502),
    ({"resultType": "input_required", "inputRequests": {"a": 7}}, 1502),
    ({"resultType": "input_required", "requestState": 7}, 1502),
    (
        {
            "resultType": "input_required",
            "inputRequests": {"a": {"method": "elicitation/create", "params": {"requestedSchema": 7}}},
        },
        1502,
    ),
    ({"resultType": "weird"}, 1502),
    ({"resultType": 7}, 1502),
    ({"resultType": "task"}, 1502),
)


@pytest.mark.parametrize(("result", "code"), BAD)
def test_malformed_round_or_unknown_type_is_a_bad_message(host: Sidecar, at: str, result: Json, code: int) -> None:
    host.connect(at, talker("--modern"))
    host.tool(at, "result", {"result": result}).is_error(code, delivered="yes")
    assert host.tool(at, "echo").result


def test_result_type_inside_the_payload_is_no_round(host: Sidecar, at: str) -> None:
    host.connect(at, talker("--modern"))
    inner = {"content": [], "structuredContent": {"resultType": "input_required"}, "resultType": "complete"}
    assert host.tool(at, "result", {"result": inner}).result == inner
    untyped = {"structuredContent": {"resultType": "weird"}}
    assert host.tool(at, "result", {"result": untyped}).result == untyped


def test_unpromised_question_or_a_no_to_sampling_ends_the_call() -> None:
    with Sidecar() as sidecar:
        promise(sidecar, capabilities={"elicitation": {"form": {}}, "sampling": {}})
        sidecar.connect("a", talker("--modern"))
        url: Json = {
            "method": "elicitation/create",
            "params": {"mode": "url", "message": "m", "url": "https://a.example"},
        }
        for question, capability in ((ROOTS, "roots"), (url, "elicitation.url")):
            answer = sidecar.tool("a", "round", {"rounds": [{"ok": ELICIT, "bad": question}]})
            answer.is_error(1505, capability=capability, delivered="maybe")
        assert not [body for body in sidecar.calls if "id" in body]
        key = sidecar.start_tool("a", "round", {"rounds": [{"what": SAMPLE, "who": ELICIT}]})
        refuse(sidecar, asked(sidecar, "sampling/createMessage", "a")[-1])
        sidecar.answer(key).is_error(1505, capability="sampling")
        cancelled(sidecar, asked(sidecar, "elicitation/create", "a")[-1])
        assert sidecar.tool("a", "echo").result


def test_cancel_and_deadline_of_a_call_in_a_round_take_its_questions_back(host: Sidecar, at: str) -> None:
    host.connect(at, talker("--modern"))
    key = host.start_tool(at, "round", ONE)
    request = asked(host, "elicitation/create", at)[-1]
    host.cancel(key)
    host.answer(key).is_error(1004, delivered="maybe")
    cancelled(host, request)
    key = host.start_tool(at, "round", ONE, timeoutMs=400)
    request = asked(host, "elicitation/create", at, 2)[-1]
    host.answer(key).is_error(1005, delivered="maybe", phase="wait")
    cancelled(host, request)
    assert host.tool(at, "echo").result


def test_refusal_to_ask_back_on_a_modern_connection_is_hinted_once(host: Sidecar, at: str) -> None:
    assert "hint" not in host.connect(at, talker("--modern"))
    text = "Error calling tool 'x': elicitation via server-initiated requests is unavailable on 2026-07-28 connections."
    failed = {"content": [{"type": "text", "text": text}], "isError": True, "resultType": "complete"}
    assert host.tool(at, "result", {"result": failed}).result == failed
    told = host.wait_told("servers/changed", lambda info: info["server"] == at and "hint" in info)
    assert (told["hint"], told["state"]) == ("needsPush", "ready")
    assert host.call("servers/get", {"server": at}).result["hint"] == "needsPush"


def test_call_refused_for_its_headers_is_sent_once_more_after_reading_the_tools(
    host: Sidecar, at: str, http_modern: Any
) -> None:
    host.connect(at, http_modern.http())
    listed = found(host.tool(at, "heard"))["listed"]
    assert found(host.tool(at, "mismatch", {"after": listed + 1})) == {"listed": listed + 1}
    data = host.tool(at, "mismatch", {"after": listed + 10}).is_error(1501, delivered="yes")
    assert data["remote"]["code"] == -32020
    assert found(host.tool(at, "heard"))["listed"] == listed + 2


def test_urls_that_a_server_wants_visited_first_are_passed_on(host: Sidecar, at: str) -> None:
    host.connect(at, talker())
    data = {"elicitations": [{"mode": "url", "elicitationId": "e", "url": "https://a.example/x?y=1", "message": "m"}]}
    remote = host.tool(at, "refuse", {"code": -32042, "message": "visit", "data": data}).is_error(1501)["remote"]
    assert remote == {"code": -32042, "message": "visit", "data": data}
