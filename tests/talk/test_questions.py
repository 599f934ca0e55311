"""Requests of servers to the host: asked, answered in any order, taken back, and every kind of "no"."""

from __future__ import annotations

from typing import Any

import pytest

from tests.answers import Json
from tests.harness import Sidecar
from tests.talk.host import (
    ELICIT,
    NAME_FORM,
    ROOTS,
    SAMPLE,
    SAMPLED,
    asked,
    cancelled,
    found,
    heard,
    promise,
    refuse,
    reply,
    talker,
)

LEGACY = pytest.mark.parametrize("transport", ["stdio", "http"], indirect=True)
CASES = (
    (ELICIT, {"action": "accept", "content": {"name": "Ada"}}),
    (SAMPLE, SAMPLED),
    (ROOTS, {"roots": [{"uri": "file:///a", "name": "a"}]}),
)


def ask(host: Sidecar, at: str, question: Json, tool: str = "ask", **more: Any) -> Any:
    """Let the server ask in a call, and return the call's id."""
    return host.start_tool(at, tool, question, **more)


@LEGACY
@pytest.mark.parametrize(("question", "answer"), CASES, ids=["elicitation", "sampling", "roots"])
def test_question_reaches_the_host_with_its_address_and_the_answer_the_server(
    host: Sidecar, at: str, transport: Json, question: Json, answer: Json
) -> None:
    host.connect(at, transport)
    key = ask(host, at, question, timeoutMs=20_000)
    request = asked(host, question["method"], at)[-1]
    params = dict(request["params"])
    over_http = transport["type"] == "http"
    assert (params.pop("requestId", None) == key) is over_http
    assert params.pop("timeoutMs") <= (20_000 if over_http else 300_000)
    assert params == {"server": at, "scope": {}, **question.get("params", {})}
    reply(host, request, answer)
    assert found(host.answer(key)) == {"result": answer}


def test_question_on_the_standalone_stream_belongs_to_no_call(host: Sidecar, at: str, http: Any) -> None:
    host.connect(at, http.http())
    assert host.tool(at, "await-streams").result
    key = ask(host, at, ROOTS, "ask-aside")
    request = asked(host, "roots/list", at)[-1]
    assert "requestId" not in request["params"]
    assert 290_000 < request["params"]["timeoutMs"] <= 300_000
    reply(host, request, {"roots": []})
    assert found(host.answer(key)) == {"result": {"roots": []}}


@LEGACY
def test_many_questions_are_answered_in_any_order(host: Sidecar, at: str, transport: Json) -> None:
    host.connect(at, transport)
    questions = [
        {"method": "elicitation/create", "params": {"message": str(n), "requestedSchema": NAME_FORM}} for n in range(20)
    ]
    key = host.start_tool(at, "ask-many", {"asks": questions})
    for request in reversed(asked(host, "elicitation/create", at, 20)):
        reply(host, request, {"action": "accept", "content": {"name": request["params"]["message"]}})
    answers = [answer["result"]["content"]["name"] for answer in found(host.answer(key))]
    assert answers == [str(n) for n in range(20)]


NOS: tuple[tuple[Json, Any, Json], ...] = (
    (ELICIT, None, {"result": {"action": "cancel"}}),
    (ELICIT, "text", {"result": {"action": "cancel"}}),
    (ELICIT, {"action": "maybe"}, {"result": {"action": "cancel"}}),
    (ELICIT, {"action": "accept", "content": {"name": 7}}, {"result": {"action": "cancel"}}),
    (ELICIT, {"action": "accept"}, {"result": {"action": "cancel"}}),
    (SAMPLE, None, {"error": {"code": -1, "message": "User rejected sampling request"}}),
    (SAMPLE, {"role": "assistant"}, {"error": {"code": -1, "message": "User rejected sampling request"}}),
    (ROOTS, None, {"result": {"roots": []}}),
    (ROOTS, {"roots": [{"name": "no uri"}]}, {"result": {"roots": []}}),
)


@pytest.mark.parametrize(("question", "answer", "no"), NOS)
def test_error_or_wrong_shape_of_the_host_is_the_no_of_its_kind(
    host: Sidecar, at: str, question: Json, answer: Any, no: Json
) -> None:
    host.connect(at, talker())
    key = ask(host, at, question)
    request = asked(host, question["method"], at)[-1]
    if answer is None:
        refuse(host, request)
    else:
        reply(host, request, answer)
    assert found(host.answer(key)) == no
    assert host.tool(at, "echo").result


@LEGACY
def test_declining_and_cancelling_reach_the_server_as_they_are(host: Sidecar, at: str, transport: Json) -> None:
    host.connect(at, transport)
    for number, action in enumerate(("decline", "cancel"), start=1):
        key = ask(host, at, ELICIT)
        reply(host, asked(host, "elicitation/create", at, number)[-1], {"action": action, "_meta": {"a": 1}})
        assert found(host.answer(key)) == {"result": {"action": action, "_meta": {"a": 1}}}


def test_defaults_of_the_form_fill_what_the_person_left_out(host: Sidecar, at: str) -> None:
    host.connect(at, talker())
    fields: dict[str, Json] = {
        "name": {"type": "string", "default": "Ada"},
        "age": {"type": "integer", "default": 30},
        "score": {"type": "number", "default": 1.5},
        "kind": {"type": "string", "enum": ["a", "b"], "default": "a"},
        "sure": {"type": "boolean", "default": True},
        "many": {"type": "array", "items": {"type": "string", "enum": ["x", "y"]}, "default": ["x"]},
    }
    question = {
        "method": "elicitation/create",
        "params": {"mode": "form", "message": "m", "requestedSchema": {"type": "object", "properties": fields}},
    }
    key = ask(host, at, question)
    reply(host, asked(host, "elicitation/create", at)[-1], {"action": "accept"})
    whole = {name: field["default"] for name, field in fields.items()}
    assert found(host.answer(key)) == {"result": {"action": "accept", "content": whole}}
    key = ask(host, at, question)
    content = {"age": 7, "sure": False, "more": 1}
    reply(host, asked(host, "elicitation/create", at, 2)[-1], {"action": "accept", "content": content})
    assert found(host.answer(key)) == {"result": {"action": "accept", "content": whole | content}}


def test_url_of_an_elicitation_reaches_the_host_whole_and_nobody_else(host: Sidecar, at: str, http: Any) -> None:
    host.connect(at, talker())
    url = http.origin + "/never/opened?token=a&b=%20#c"
    question = {
        "method": "elicitation/create",
        "params": {"mode": "url", "message": "m", "url": url, "elicitationId": "e1"},
    }
    key = ask(host, at, question)
    request = asked(host, "elicitation/create", at)[-1]
    assert request["params"]["url"] == url
    reply(host, request, {"action": "accept"})
    assert found(host.answer(key)) == {"result": {"action": "accept"}}


def test_question_ends_with_the_call_it_came_in(host: Sidecar, at: str, http: Any) -> None:
    host.connect(at, http.http())
    # The server answers the call without waiting.
    key = ask(host, at, ELICIT, "ask-and-leave")
    request = asked(host, "elicitation/create", at)[-1]
    assert host.tool(at, "release").result
    assert host.answer(key).result
    cancelled(host, request)
    # The host cancels the call.
    key = ask(host, at, ELICIT)
    request = asked(host, "elicitation/create", at, 2)[-1]
    host.cancel(key)
    host.answer(key).is_error(1004)
    cancelled(host, request)
    reply(host, request, {"action": "accept", "content": {"name": "too late"}})
    # The deadline of the call passes.
    key = ask(host, at, ELICIT, timeoutMs=500)
    request = asked(host, "elicitation/create", at, 3)[-1]
    assert request["params"]["timeoutMs"] <= 500
    host.answer(key).is_error(1005)
    cancelled(host, request)
    assert host.tool(at, "echo").result


@LEGACY
def test_question_is_taken_back_when_the_server_cancels_it(host: Sidecar, at: str, transport: Json) -> None:
    host.connect(at, transport)
    key = ask(host, at, ELICIT, "ask-and-leave")
    request = asked(host, "elicitation/create", at)[-1]
    notice = {"method": "notifications/cancelled", "params": {"requestId": "left"}}
    assert host.tool(at, "notify", {"notices": [notice]}).result
    cancelled(host, request)
    assert host.tool(at, "release").result
    assert host.answer(key).result


def test_question_is_taken_back_when_its_server_dies_or_is_disconnected(host: Sidecar, name: str) -> None:
    host.connect(name, talker())
    key = ask(host, name, ELICIT)
    request = asked(host, "elicitation/create", name)[-1]
    host.call("servers/disconnect", {"server": name})
    host.answer(key).is_error(1106, reason="disconnected")
    cancelled(host, request)


def test_what_the_host_did_not_promise_is_refused_and_not_told() -> None:
    with Sidecar() as sidecar:
        promise(sidecar, capabilities={"elicitation": {"form": {}}})
        sidecar.connect("a", talker())
        assert heard(sidecar, "a", "initialize")[0]["capabilities"] == {"elicitation": {"form": {}}}
        assert found(sidecar.tool("a", "ask", SAMPLE))["error"]["code"] == -32601
        assert found(sidecar.tool("a", "ask", ROOTS))["error"]["code"] == -32601
        assert found(sidecar.tool("a", "ask", {"method": "no/such"}))["error"]["code"] == -32601
        question = {
            "method": "elicitation/create",
            "params": {"mode": "url", "message": "m", "url": "https://a.example"},
        }
        assert found(sidecar.tool("a", "ask", question))["error"]["code"] == -32602
        assert not [body for body in sidecar.calls if "id" in body]


def test_modern_server_is_told_in_every_request_what_was_promised() -> None:
    with Sidecar() as sidecar:
        promise(sidecar, capabilities={"sampling": {}, "roots": {"listChanged": True}})
        sidecar.connect("a", talker("--modern"))
        meta = found(sidecar.tool("a", "params"))["_meta"]
        told = meta["io.modelcontextprotocol/clientCapabilities"]
        assert told["sampling"] == {}
        assert told["roots"] == {"listChanged": True}
        assert told.keys() == {"sampling", "roots", "extensions"}


def test_connection_narrows_the_promises_and_cannot_widen_them() -> None:
    with Sidecar() as sidecar:
        promise(sidecar, capabilities={"elicitation": {"form": {}}, "sampling": {}, "roots": {}})
        sidecar.connect("machine", talker(), capabilities={})
        assert heard(sidecar, "machine", "initialize")[0]["capabilities"] == {}
        assert found(sidecar.tool("machine", "ask", ELICIT))["error"]["code"] == -32601
        sidecar.connect("person", talker(), capabilities={"elicitation": {}})
        assert heard(sidecar, "person", "initialize")[0]["capabilities"] == {"elicitation": {}}
        for wider, path in (
            ({"elicitation": {"url": {}}}, "/capabilities/elicitation/url"),
            ({"sampling": {"tools": {}}}, "/capabilities/sampling/tools"),
            ({"roots": {"listChanged": True}}, "/capabilities/roots/listChanged"),
            ({"tokens": {}}, "/capabilities/tokens"),
        ):
            refused = sidecar.call("servers/connect", {"server": "w", "transport": talker(), "capabilities": wider})
            assert refused.is_error(-32602)["path"] == path
        sidecar.call("servers/get", {"server": "w"}).is_error(1101)


def test_roots_that_were_given_are_not_asked_for_and_a_change_is_told() -> None:
    with Sidecar() as sidecar:
        promise(sidecar)
        one, two = {"uri": "file:///one"}, {"uri": "file:///two", "name": "2"}
        sidecar.connect("a", talker(), roots=[one])
        assert found(sidecar.tool("a", "ask", ROOTS)) == {"result": {"roots": [one]}}
        assert sidecar.call("roots/set", {"server": "a", "roots": [two, one]}).result == {}
        assert found(sidecar.tool("a", "ask", ROOTS)) == {"result": {"roots": [two, one]}}
        assert heard(sidecar, "a", "notifications/roots/list_changed") == [{}]
        assert (
            sidecar.call("roots/set", {"server": "a", "roots": [{"name": "x"}]}).is_error(-32602)["path"]
            == "/roots/0/uri"
        )
        sidecar.call("roots/set", {"server": "a"}).is_error(-32602, path="/roots")
        assert not [body for body in sidecar.calls if "id" in body]


def test_end_of_the_hosts_input_is_the_no_to_open_questions() -> None:
    with Sidecar() as sidecar:
        promise(sidecar)
        sidecar.connect("a", talker())
        key = ask(sidecar, "a", ELICIT)
        asked(sidecar, "elicitation/create", "a")
        sidecar.end_input()
        assert found(sidecar.answer(key)) == {"result": {"action": "cancel"}}


def test_server_that_asks_a_hundred_times_and_a_forged_answer_leave_the_connection_alive(
    host: Sidecar, at: str
) -> None:
    host.connect(at, talker())
    key = host.start_tool(at, "ask-many", {"asks": [ELICIT] * 100})
    for request in asked(host, "elicitation/create", at, 100):
        reply(host, request, {"action": "decline"})
    assert found(host.answer(key)) == [{"result": {"action": "decline"}}] * 100
    # An answer of the host to a question that was never asked, and one of the server to no request.
    host.send({"jsonrpc": "2.0", "id": 10**6, "result": {"action": "accept"}})
    key = host.start_tool(at, "forge")
    request = asked(host, "roots/list", at)[-1]
    reply(host, request, {"roots": []})
    assert host.answer(key).result
    assert host.tool(at, "echo").result
