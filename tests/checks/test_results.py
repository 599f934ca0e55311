"""Results against their schemas: checked under a budget, in a process of its own, never on the loop."""

from __future__ import annotations

import json
import socket
import time
from pathlib import Path
from typing import Any

import pytest

from tests.answers import Answer, Json
from tests.harness import Sidecar
from tests.neighbour import neighbour
from tests.programs import raw

ENFORCE = {"outputSchema": "enforce"}


def doubling(levels: int) -> Json:
    """Return a schema whose check doubles with each level."""
    defs: Json = {"d0": {"type": "string"}}
    for level in range(1, levels + 1):
        below = {"$ref": f"#/$defs/d{level - 1}"}
        defs[f"d{level}"] = {"anyOf": [below, below]}
    return {"type": "object", "$defs": defs, "properties": {"v": {"$ref": f"#/$defs/d{levels}"}}}


def nested(levels: int) -> Json:
    """Return a schema of so many subschemas, one in the other."""
    schema: Json = {}
    for _ in range(levels):
        schema = {"properties": {"v": schema}}
    return schema


def connect(sidecar: Sidecar, server: str, folder: Path, schema: Any, **policy: Any) -> None:
    """Connect a server whose tools promise `schema`."""
    file = folder / "tools.json"
    tools = [
        {"name": name, "inputSchema": {"type": "object"}, "outputSchema": schema} for name in ("structured", "failing")
    ]
    file.write_text(json.dumps([*tools, {"name": "echo", "inputSchema": {"type": "object"}}]))
    sidecar.connect(server, raw("--tools", str(file)), tools=ENFORCE | policy)


def give(sidecar: Sidecar, server: str, value: Any) -> Answer:
    """Have the tool return a value."""
    return sidecar.tool(server, "structured", {"value": value}, timeoutMs=10_000)


PERSON: Json = {
    "type": "object",
    "properties": {"name": {"type": "string"}, "tags": {"type": "array", "items": {"type": "string"}}},
    "required": ["name"],
}


@pytest.mark.parametrize(
    ("value", "path"),
    [
        ({"name": 5}, "/name"),
        ({"name": "a", "tags": ["x", 1]}, "/tags/1"),
        ({}, ""),
        ([], ""),
    ],
)
def test_result_that_fails_its_schema_is_1503_with_the_path(
    shared: Sidecar, server: str, tmp_path: Path, value: Any, path: str
) -> None:
    connect(shared, server, tmp_path, PERSON)
    answer = give(shared, server, value)
    data = answer.is_error(1503, kind="SchemaViolation", delivered="yes", retry="never", path=path)
    assert "budget" not in data
    assert give(shared, server, {"name": "a", "tags": [], "more": 2**70}).result


def test_result_without_the_promised_content_is_1503(shared: Sidecar, server: str, tmp_path: Path) -> None:
    connect(shared, server, tmp_path, PERSON)
    shared.tool(server, "structured").is_error(1503, path="", delivered="yes")


def test_failure_of_the_tool_and_a_tool_without_a_schema_pass(shared: Sidecar, server: str, tmp_path: Path) -> None:
    connect(shared, server, tmp_path, PERSON)
    assert shared.tool(server, "failing").result["isError"] is True
    assert shared.tool(server, "echo").result


def test_nothing_is_checked_unless_the_host_asks_for_it(shared: Sidecar, server: str, tmp_path: Path) -> None:
    connect(shared, server, tmp_path, PERSON, outputSchema="pass")
    assert give(shared, server, {"name": 5}).result


def test_no_value_of_a_result_stands_in_the_error(shared: Sidecar, server: str, tmp_path: Path) -> None:
    connect(shared, server, tmp_path, PERSON)
    answer = give(shared, server, {"name": {"card": "4111-1111"}})
    answer.is_error(1503, path="/name")
    assert b"4111-1111" not in answer.line


BOMBS: list[tuple[Any, Any, str]] = [
    *((doubling(levels), {"v": 5}, f"doubling-{levels}") for levels in (12, 18, 24, 30)),
    ({"properties": {"v": {"pattern": "^(a+)+$"}}}, {"v": "a" * 40 + "!"}, "regex"),
    ({"properties": {"v": {"pattern": r"^(?=(a+)+$)(a+)+\1$"}}}, {"v": "a" * 40 + "!"}, "look-ahead"),
    ({"properties": {"v": {"uniqueItems": True}}}, {"v": [{"n": [i]} for i in range(20_000)] + [{"n": [0]}]}, "unique"),
    ({"properties": {"v": {"enum": ["x" * 300_000]}}}, {"v": 1}, "long"),
    (nested(40), {"v": 1}, "deep"),
    ({"anyOf": [{"type": "string"}] * 3000}, {"v": 1}, "wide"),
]


@pytest.mark.parametrize(("schema", "value"), [bomb[:2] for bomb in BOMBS], ids=[bomb[2] for bomb in BOMBS])
def test_bomb_is_1503_within_a_second_and_holds_nobody_up(
    shared: Sidecar, server: str, name: str, tmp_path: Path, schema: Any, value: Any
) -> None:
    connect(shared, server, tmp_path, schema)
    with neighbour(shared, name, p99=0.1) as other:
        began = time.monotonic()
        key = shared.start_tool(server, "structured", {"value": value}, timeoutMs=10_000)
        other.beside(key)
        answer = shared.answer(key)
        answer.is_error(1503, delivered="yes")
        assert answer.at - began <= 1.0


@pytest.mark.parametrize("levels", [18, 24])
def test_check_that_runs_out_of_time_says_so(shared: Sidecar, server: str, tmp_path: Path, levels: int) -> None:
    connect(shared, server, tmp_path, doubling(levels))
    give(shared, server, {"v": 5}).is_error(1503, budget=True)
    assert give(shared, server, {"v": "text"}).result


def test_network_reference_is_never_followed(shared: Sidecar, server: str, tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as canary:
        canary.settimeout(0.2)
        url = f"http://127.0.0.1:{canary.getsockname()[1]}/s.json"
        connect(shared, server, tmp_path, {"$ref": url})
        give(shared, server, {"v": 1}).is_error(1503, delivered="yes")
        with pytest.raises(TimeoutError):
            canary.accept()


def test_large_result_passes_its_check(shared: Sidecar, server: str, tmp_path: Path) -> None:
    schema = {"properties": {"v": {"type": "array", "items": {"type": "object", "required": ["n"]}}}}
    connect(shared, server, tmp_path, schema)
    assert give(shared, server, {"v": [{"n": i, "text": "x" * 80} for i in range(50_000)]}).result


def test_checker_that_is_killed_is_started_again(shared: Sidecar, server: str, tmp_path: Path) -> None:
    connect(shared, server, tmp_path, PERSON)
    assert give(shared, server, {"name": "a"}).result
    for process in shared.tree():
        if process.cmdline()[-1:] and process.cmdline()[-1].endswith("worker.py"):
            process.kill()
            process.wait(10)
    assert give(shared, server, {"name": "a"}).result
