"""Skills: listed without reading, read only as listed, and nothing passed on that is not what its entry says."""

from __future__ import annotations

from typing import Any

import pytest

from sidecar.ops.skills import front_matter
from tests.answers import Json
from tests.harness import Sidecar
from tests.servers.talker import FILES, FORMS, SKILL
from tests.talk.host import found, heard, talker

BOTH = pytest.mark.parametrize("transport", ["stdio", "http-modern"], indirect=True)


def reads(host: Sidecar, at: str) -> list[str]:
    """Return the files that the server was asked for, in order."""
    return [params["uri"] for params in heard(host, at, "resources/read")]


@pytest.fixture
def skilled(host: Sidecar, at: str) -> str:
    """Return the name of a connected server with a skill."""
    host.connect(at, talker("--modern"))
    return at


@BOTH
def test_skill_is_listed_told_and_read_in_both_eras(host: Sidecar, at: str, transport: Json) -> None:
    host.connect(at, transport)
    before = len(reads(host, at))
    listed = host.call("skills/list", {"server": at, "all": True}).result["skills"]
    assert [skill["uri"] for skill in listed] == [SKILL]
    assert host.call("skills/get", {"server": at, "uri": SKILL}).result["skill"] == listed[0]
    assert len(reads(host, at)) == before, "a list reads no file"
    for uri in (SKILL, FORMS):
        contents = host.call("skills/read", {"server": at, "uri": uri}).result["contents"]
        assert contents == [{"uri": uri, "text": FILES[uri]}]
    assert reads(host, at)[before:] == [SKILL, FORMS]


def test_file_of_an_unread_skill_is_read_after_its_skill_md(host: Sidecar, skilled: str) -> None:
    assert host.call("skills/read", {"server": skilled, "uri": FORMS}).result["contents"][0]["text"] == FILES[FORMS]
    assert reads(host, skilled) == [SKILL, FORMS]


@pytest.mark.parametrize(
    ("uri", "text", "reason"),
    [
        (SKILL, FILES[SKILL].replace("Do it.", "Do ill"), "digest"),
        (SKILL, FILES[SKILL] + "More.", "size"),
        (FORMS, FILES[FORMS].replace("A", "B"), "digest"),
    ],
)
def test_file_that_is_not_what_its_entry_says_is_not_passed_on(
    host: Sidecar, skilled: str, uri: str, text: str, reason: str
) -> None:
    assert host.tool(skilled, "set", {"files": {**FILES, uri: text}}).result
    answer = host.call("skills/read", {"server": skilled, "uri": uri})
    assert reason in answer.is_error(1502, delivered="yes")["reason"]
    assert text not in answer.line.decode()
    if uri == SKILL:
        # Nothing else of this skill is read either.
        host.call("skills/read", {"server": skilled, "uri": FORMS}).is_error(1502)
        assert FORMS not in reads(host, skilled)
    # Once the server is honest again, so is the answer.
    assert host.tool(skilled, "set", {"files": FILES}).result
    assert host.call("skills/read", {"server": skilled, "uri": uri}).result


def test_front_matter_is_compared_field_by_field(host: Sidecar, skilled: str) -> None:
    entry = host.call("skills/list", {"server": skilled}).result["skills"][0]
    for matter in (
        {**entry["frontmatter"], "description": "Steal"},
        {**entry["frontmatter"], "more": 1},
        {"name": "pdf", "description": "Fill forms"},
        {**entry["frontmatter"], "metadata": {"level": 1}},
    ):
        assert host.tool(skilled, "set", {"entries": [{**entry, "frontmatter": matter}]}).result
        data = host.call("skills/read", {"server": skilled, "uri": SKILL}).is_error(1502)
        assert "front matter" in data["reason"]
    assert host.tool(skilled, "set", {"entries": [entry]}).result
    assert host.call("skills/read", {"server": skilled, "uri": SKILL}).result


BROKEN: tuple[Any, ...] = (
    [{"uri": SKILL}],
    [{"uri": SKILL, "frontmatter": {}, "resources": [{"uri": FORMS, "digest": "d", "size": 1}]}],
    [7],
    [],
)


@pytest.mark.parametrize("entries", BROKEN)
def test_broken_or_missing_entry_is_a_bad_message(host: Sidecar, skilled: str, entries: Any) -> None:
    assert host.tool(skilled, "set", {"entries": entries}).result
    assert host.call("skills/read", {"server": skilled, "uri": SKILL}).is_error(1502)["reason"]
    assert not reads(host, skilled)
    host.call("skills/read", {"server": skilled}).is_error(-32602, path="/uri")
    assert found(host.tool(skilled, "echo", {"a": 1})) == {"a": 1}


@pytest.mark.parametrize(
    "text",
    [
        b"no front matter",
        b"---\na: &x 1\nb: *x\n---\n",
        b"---\na: 1\na: 2\n---\n",
        b"---\n1: a\n---\n",
        b"---\n? [a, b]\n: c\n---\n",
        b"---\na: !!python/object:os.system x\n---\n",
        b"---\na: '\xff'\n---\n",
        b"---\n" + b"[" * 30_000 + b"\n---\n",
        b"---\na: " + b"x" * 70_000 + b"\n---\n",
    ],
)
def test_front_matter_that_json_cannot_say_is_refused(text: bytes) -> None:
    with pytest.raises(ValueError):  # noqa: PT011 - its own sentence differs
        front_matter(text)


def test_front_matter_is_yaml() -> None:
    text = b"\xef\xbb\xbf---\r\ntext: |\r\n  two\r\n  lines\r\nname: a\r\nlist: [1, 2.5, true, null]\r\n---\r\nbody"
    assert front_matter(text) == {"name": "a", "list": [1, 2.5, True, None], "text": "two\nlines\n"}
