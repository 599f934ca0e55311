"""The hash of a tool is fixed by the contract; what hides in a definition is found; a difference is told."""

from __future__ import annotations

import hashlib
import json

import pytest
import rfc8785

from sidecar.checks.definitions import difference, digest, invisible, may_hide


def sha(text: str) -> str:
    """Return the hash of a canonical form."""
    return hashlib.sha256(text.encode()).hexdigest()


@pytest.mark.parametrize(
    ("tool", "canonical"),
    [
        (b'{"name":"a"}', '{"name":"a"}'),
        (b'{ "title" : "t", "name":"a","vendor":1,"_meta":{},"icons":[] }', '{"name":"a","title":"t"}'),
        (b'{"name":"a","title":null}', '{"name":"a","title":null}'),
        (b'{"name":"b","name":"a"}', '{"name":"a"}'),
        (b'{"name":"\\u00e9\\/\\n"}', '{"name":"\u00e9/\\n"}'),
        (
            b'{"name":"a","inputSchema":{"maximum":1.0,"minimum":-0.0,"multipleOf":1e-7,"x":1E21,"y":100}}',
            '{"inputSchema":{"maximum":1,"minimum":0,"multipleOf":1e-7,"x":1e+21,"y":100},"name":"a"}',
        ),
        (
            b'{"name":"a","inputSchema":{"maximum":18446744073709551616,"x":9007199254740993}}',
            '{"inputSchema":{"maximum":18446744073709552000,"x":9007199254740992},"name":"a"}',
        ),
        (
            b'{"name":"a","inputSchema":{"\\ud83d\\ude00":1,"\\ufb33":2}}',
            '{"inputSchema":{"\U0001f600":1,"\ufb33":2},"name":"a"}',  # by UTF-16 units, not by code points
        ),
    ],
)
def test_hash_is_sha_256_of_the_canonical_form_of_six_members(tool: bytes, canonical: str) -> None:
    assert digest(tool) == sha(canonical)


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (333333333.33333329, "333333333.3333333"),
        (1e30, "1e+30"),
        (4.50, "4.5"),
        (2e-3, "0.002"),
        (0.000000000000000000000000001, "1e-27"),
        (-0.0, "0"),
        (5e-324, "5e-324"),
        (1.7976931348623157e308, "1.7976931348623157e+308"),
        (9007199254740992.0, "9007199254740992"),
        (295147905179352830000.0, "295147905179352830000"),
        (999999999999999900000.0, "999999999999999900000"),
        (1e21, "1e+21"),
        (0.000001, "0.000001"),
        (9.999999999999997e-7, "9.999999999999997e-7"),
        (333333333.3333332, "333333333.3333332"),
    ],
)
def test_numbers_are_spelled_as_rfc_8785_says(value: float, text: str) -> None:
    assert rfc8785.dumps(value) == text.encode()


def test_definition_without_a_canonical_form_is_hashed_as_it_stands() -> None:
    text = b'{"name":"a","inputSchema":{"maximum":1e400}}'
    assert digest(text) == hashlib.sha256(text).hexdigest()
    assert digest(text.replace(b"400", b"401")) != digest(text)


@pytest.mark.parametrize("member", ["title", "description", "inputSchema", "outputSchema", "annotations"])
def test_every_member_that_a_model_reads_counts(member: str) -> None:
    tool = {"name": "a", member: "x"}
    assert digest(json.dumps(tool).encode()) != digest(json.dumps(tool | {member: "y"}).encode())


@pytest.mark.parametrize("char", ["\U000e0041", "\u200b", "\u200d", "\u202e", "\u2066", "\ufeff", "\u00ad", "\x1b"])
@pytest.mark.parametrize("escaped", [True, False])
def test_invisible_character_is_found_wherever_it_stands(char: str, escaped: bool) -> None:
    tool = {
        "name": f"a{char}",
        "description": "plain \u00e9\u4e2d \u2764\ufe0f",
        "inputSchema": {"properties": {"a/b": {"description": f"x{char}", "enum": ["ok", f"{char}"]}}},
    }
    text = json.dumps(tool, ensure_ascii=escaped).encode()
    assert may_hide(text)
    assert invisible(text) == [
        "/name",
        "/inputSchema/properties/a~1b/description",
        "/inputSchema/properties/a~1b/enum/1",
    ]


def test_invisible_character_in_a_members_name_is_found() -> None:
    assert invisible(b'{"name":"a","inputSchema":{"p\\u200bq":1}}') == ["/inputSchema/p\u200bq"]


def test_text_that_only_looks_foreign_is_no_warning() -> None:
    text = json.dumps({"name": "a", "description": "\u00e9 \u4e2d\u6587 \u0627\u0644 \n\t \u2764\ufe0f"}).encode()
    assert invisible(text) == []


def test_difference_names_each_changed_member_once() -> None:
    old = {"name": "a", "description": "x", "inputSchema": {"p": {"type": "string"}, "gone": 1}, "vendor": 1}
    new = {"name": "a", "description": "y", "inputSchema": {"p": {"type": "number"}, "new": True}, "vendor": 2}
    assert difference(json.dumps(old).encode(), json.dumps(new).encode()) == [
        {"path": "/description", "old": "x", "new": "y"},
        {"path": "/inputSchema/p/type", "old": "string", "new": "number"},
        {"path": "/inputSchema/gone", "old": 1},
        {"path": "/inputSchema/new", "new": True},
    ]
    assert difference(None, b"{}") is None
