"""A person's answer to a form: defaults filled in, then held against the form's schema.

MCP allows a flat object of simple fields. Of a server's schema only the keywords of that subset are looked at, so
that no schema costs time: patterns run in a linear engine, nothing is dereferenced, depth and size are bounded.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import msgspec

from sidecar import frames

if TYPE_CHECKING:
    from collections.abc import Mapping

MAX_SCHEMA_BYTES: Final = 256 * 1024
_MAX_DEPTH: Final = 4
_KEYWORDS: Final = frozenset(
    {
        "type",
        "enum",
        "const",
        "minLength",
        "maxLength",
        "pattern",
        "format",
        "minimum",
        "maximum",
        "exclusiveMinimum",
        "exclusiveMaximum",
        "multipleOf",
        "minItems",
        "maxItems",
        "uniqueItems",
    }
)
_FORMATS: Final = frozenset({"email", "uri", "date", "date-time"})
_CHOICES: Final = ("oneOf", "anyOf", "allOf")


class Unfit(Exception):
    """The answer does not fit the form, or the form is none."""


class Form:
    """One form of a server."""

    def __init__(self, raw: msgspec.Raw) -> None:
        """Read the schema. Raises Unfit for what is no schema of a form."""
        if len(memoryview(raw)) > MAX_SCHEMA_BYTES:
            raise Unfit("the schema is larger than 256 kB")
        try:
            parts = frames.members(raw)
            fields = frames.members(parts.get("properties", _EMPTY))
            self._schema = _object(msgspec.json.decode(raw))
        except msgspec.DecodeError:
            raise Unfit("the schema is not an object with properties") from None
        self._defaults: dict[str, msgspec.Raw] = {}
        for name, field in fields.items():
            default = frames.member(field, "default")
            if default is not None:
                self._defaults[name] = default

    def complete(self, content: msgspec.Raw | None) -> bytes:
        """Return the content with the defaults of the fields it lacks. Raises Unfit where it fails the schema."""
        try:
            given = frames.members(content) if content is not None else {}
        except msgspec.DecodeError:
            raise Unfit("the content is not an object") from None
        found: Mapping[str, msgspec.Raw] = given | {
            name: default for name, default in self._defaults.items() if name not in given
        }
        text = b"{" + b",".join(b"%b:%b" % (frames.quote(name), bytes(value)) for name, value in found.items()) + b"}"
        self._check(msgspec.json.decode(text))
        return text

    def _check(self, value: Any) -> None:
        import jsonschema_rs

        try:
            checker = jsonschema_rs.Draft202012Validator(
                self._schema, validate_formats=True, pattern_options=jsonschema_rs.RegexOptions()
            )
        except (ValueError, jsonschema_rs.ValidationError):
            raise Unfit("the schema has a keyword with a value that it cannot have") from None
        if not checker.is_valid(value):
            raise Unfit("the content does not fit the schema")


def _object(schema: Any) -> dict[str, Any]:
    found: dict[str, Any] = {"type": "object"}
    fields = schema.get("properties", {})
    found["properties"] = {name: _field(field, 0) for name, field in fields.items() if isinstance(field, dict)}
    required = schema.get("required")
    if isinstance(required, list):
        found["required"] = sorted({name for name in required if isinstance(name, str)})
    if schema.get("additionalProperties") is False:
        found["additionalProperties"] = False
    return found


def _field(field: dict[str, Any], depth: int) -> dict[str, Any]:
    found = {name: value for name, value in field.items() if name in _KEYWORDS}
    if found.get("format") not in _FORMATS:
        found.pop("format", None)
    if depth == _MAX_DEPTH:
        return found
    if isinstance(field.get("items"), dict):
        found["items"] = _field(field["items"], depth + 1)
    for name in _CHOICES:
        choices = field.get(name)
        if isinstance(choices, list) and choices and all(isinstance(choice, dict) for choice in choices):
            found[name] = [_field(choice, depth + 1) for choice in choices]
    return found


_EMPTY: Final = msgspec.Raw(b"{}")
