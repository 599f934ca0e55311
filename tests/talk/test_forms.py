"""Forms of servers by themselves: defaults, every keyword of MCP's subset, and schemas that want to cost time."""

from __future__ import annotations

import time
from typing import Any

import msgspec
import pytest

from sidecar.ops.forms import Form, Unfit
from tests.answers import Json


def form(fields: Json, **more: Any) -> Form:
    """Return a form with these fields."""
    return Form(msgspec.Raw(msgspec.json.encode({"type": "object", "properties": fields, **more})))


def fits(found: Form, content: Any) -> bool:
    """Tell whether content fits."""
    try:
        found.complete(msgspec.Raw(msgspec.json.encode(content)))
    except Unfit:
        return False
    return True


@pytest.mark.parametrize(
    ("field", "good", "bad"),
    [
        ({"type": "string", "minLength": 2, "maxLength": 3}, ["ab", "äöü"], ["a", "abcd", 7, None]),
        ({"type": "string", "pattern": "^[a-z]+$"}, ["abc"], ["aBc"]),
        ({"type": "string", "format": "email"}, ["a@example.com"], ["a"]),
        ({"type": "string", "format": "uri"}, ["https://a.example/"], ["a b"]),
        ({"type": "string", "format": "date"}, ["2026-01-31"], ["2026-02-31"]),
        ({"type": "string", "format": "date-time"}, ["2026-01-31T00:00:00Z"], ["2026-01-31"]),
        ({"type": "string", "format": "unheard-of"}, ["anything"], []),
        ({"type": "integer", "minimum": 1, "maximum": 3}, [1, 3, 2.0], [0, 4, 1.5, "1", True]),
        ({"type": "number", "exclusiveMinimum": 0}, [0.1], [0]),
        ({"type": "boolean"}, [True], ["true", 1]),
        ({"type": "string", "enum": ["a", "b"]}, ["a"], ["c"]),
        ({"type": "string", "oneOf": [{"const": "x", "title": "X"}, {"const": "y"}]}, ["x"], ["z"]),
        (
            {"type": "array", "minItems": 1, "maxItems": 2, "items": {"type": "string", "enum": ["a", "b", "c"]}},
            [["a"], ["a", "b"]],
            [[], ["a", "b", "c"], ["d"], "a"],
        ),
        ({"type": "array", "items": {"anyOf": [{"const": "a"}, {"const": "b"}]}}, [["b"]], [["c"]]),
        ({"anyOf": [{"type": "string"}, {"type": "null"}]}, ["a", None], [1]),
    ],
)
def test_field_takes_what_its_schema_says(field: Json, good: list[Any], bad: list[Any]) -> None:
    found = form({"f": field})
    assert all(fits(found, {"f": value}) for value in good)
    assert not any(fits(found, {"f": value}) for value in bad)


def test_required_fields_defaults_and_unknown_ones() -> None:
    found = form({"a": {"type": "string"}, "b": {"type": "integer", "default": 18446744073709551616}}, required=["a"])
    assert found.complete(msgspec.Raw(b'{"a":"x","more":1.0}')) == b'{"a":"x","more":1.0,"b":18446744073709551616}'
    assert not fits(found, {})
    assert not fits(found, {"a": None})
    assert not fits(form({"a": {"type": "string"}}, additionalProperties=False), {"b": 1})
    with pytest.raises(Unfit):
        found.complete(msgspec.Raw(b"[1]"))


def test_schema_that_wants_to_cost_time_costs_none() -> None:
    began = time.monotonic()
    assert not fits(form({"a": {"type": "string", "pattern": "^(a+)+$"}}), {"a": "a" * 40 + "!"})
    assert fits(form({"a": {"$ref": "#/properties/a", "allOf": [{"$ref": "#"}]}}), {"a": 1})
    with pytest.raises(Unfit):
        form({f"f{n}": {"description": "x" * 1000} for n in range(300)})
    assert time.monotonic() - began < 5


@pytest.mark.parametrize("schema", [b"7", b"[]", b'{"properties":7}', b'{"properties":[]}'])
def test_what_is_no_schema_is_refused(schema: bytes) -> None:
    with pytest.raises(Unfit):
        Form(msgspec.Raw(schema))


def test_keyword_with_a_value_that_it_cannot_have_is_refused() -> None:
    assert not fits(form({"a": {"type": "string", "minLength": "x"}}), {"a": "b"})
    assert not fits(form({"a": {"type": "string", "pattern": "("}}), {"a": "b"})
