"""Servers and hosts that do not keep to it: a clear code, and the connection lives."""

from __future__ import annotations

import pytest

from tests.harness import Sidecar
from tests.talk.host import ELICIT, asked, cancelled, found, reply, talker


@pytest.mark.parametrize("options", [(), ("--modern",)])
@pytest.mark.parametrize("pages", ["endless", "circle"])
def test_list_that_pages_for_ever_is_a_bad_message(
    host: Sidecar, at: str, options: tuple[str, ...], pages: str
) -> None:
    host.connect(at, talker(*options))
    assert host.tool(at, "set", {"pages": pages}).result
    assert host.call("tools/list", {"server": at, "all": True}).is_error(1502, delivered="yes")["reason"]
    assert host.tool(at, "echo").result


def test_host_that_hangs_costs_the_call_its_own_deadline_and_nothing_else(host: Sidecar, at: str) -> None:
    host.connect(at, talker())
    key = host.start_tool(at, "ask", ELICIT, timeoutMs=500)
    request = asked(host, "elicitation/create", at)[-1]
    assert host.tool(at, "echo").result
    host.answer(key).is_error(1005, phase="wait", delivered="maybe")
    # Over stdio nothing proves that the question was this call's: it waits on, until its server is gone.
    host.call("servers/disconnect", {"server": at})
    cancelled(host, request)
    reply(host, request, {"action": "accept", "content": {"name": "late"}})
    host.connect(at, talker())
    assert found(host.tool(at, "echo", {"a": 1})) == {"a": 1}


def test_more_questions_at_once_than_anybody_answers_are_refused(host: Sidecar, at: str) -> None:
    host.connect(at, talker())
    key = host.start_tool(at, "ask-many", {"asks": [ELICIT] * 300})
    replied = 256
    for request in asked(host, "elicitation/create", at, replied):
        reply(host, request, {"action": "decline"})

    def more() -> int:  # how many questions came since the last reply
        return len([body for body in list(host.calls) if body["params"].get("server") == at and "id" in body]) - replied

    while host.wait(lambda: key in host.answers or more() > 0, "the end") and key not in host.answers:
        for request in asked(host, "elicitation/create", at, replied + 1)[replied:]:
            reply(host, request, {"action": "decline"})
            replied += 1
    answers = found(host.answer(key))
    refused = [answer for answer in answers if "error" in answer]
    assert len(answers) == 300
    assert len(refused) == 300 - replied
    assert {answer["error"]["code"] for answer in refused} <= {-32603}
    assert host.tool(at, "echo").result


@pytest.mark.parametrize("params", [[1], "text", 7, {"requestedSchema": 7}, {"mode": 7}, {"mode": "voice"}])
def test_question_that_is_none_is_refused_and_not_asked(host: Sidecar, at: str, params: object) -> None:
    host.connect(at, talker())
    before = len([body for body in host.calls if body["method"] == "elicitation/create"])
    answer = found(host.tool(at, "ask", {"method": "elicitation/create", "params": params}))
    assert answer["error"]["code"] == -32602
    assert len([body for body in host.calls if body["method"] == "elicitation/create"]) == before
    assert host.tool(at, "echo").result
