"""Servers of others that ask back: FastMCP's own elicitation, in the eras that have it and the one that has not."""

from __future__ import annotations

import sys

import pytest

from tests.answers import Json
from tests.harness import ROOT, Sidecar
from tests.talk.host import asked, reply

ASKING: Json = {"type": "stdio", "command": sys.executable, "args": ["-m", "tests.servers.asking"], "cwd": str(ROOT)}


def ordered(host: Sidecar, at: str, answer: Json, count: int = 1) -> str:
    """Call the tool that asks, answer, and return what it says."""
    key = host.start_tool(at, "order")
    request = asked(host, "elicitation/create", at, count)[-1]
    assert request["params"]["message"] == "What may I bring?"
    assert request["params"]["requestedSchema"]["required"] == ["drink"]
    reply(host, request, answer)
    text: str = host.answer(key).result["content"][0]["text"]
    return text


@pytest.mark.parametrize("protocol", ["legacy", "push"])
def test_fastmcp_server_asks_the_person_and_gets_the_defaults(host: Sidecar, at: str, protocol: str) -> None:
    info = host.connect(at, ASKING, protocol=protocol)
    assert info["era"] == "legacy"
    assert ordered(host, at, {"action": "accept", "content": {"drink": "tea"}}) == "2 tea"
    assert ordered(host, at, {"action": "accept", "content": {"drink": "coffee", "cups": 1}}, 2) == "1 coffee"
    assert ordered(host, at, {"action": "decline"}, 3) == "decline"
    assert "hint" not in host.call("servers/get", {"server": at}).result


def test_modern_connection_hints_at_what_would_solve_it_and_repeats_nothing(host: Sidecar, at: str) -> None:
    assert host.connect(at, ASKING)["era"] == "modern"
    assert host.tool(at, "order").result["isError"] is True
    info = host.call("servers/get", {"server": at}).result
    assert (info["hint"], info["era"], info["generation"]) == ("needsPush", "modern", 1)
    again = host.connect(at, ASKING, protocol="push", replace=True)
    assert (again["era"], "hint" in again) == ("legacy", False)
    assert ordered(host, at, {"action": "accept", "content": {"drink": "tea"}}) == "2 tea"
