"""JSON that keeps the spelling of numbers, so that 1 is not 1.0 and no digit is lost when results are compared."""

from __future__ import annotations

import json
from typing import Any


class Number:
    """A number as it was spelled."""

    def __init__(self, text: str) -> None:
        """Keep the spelling."""
        self.text = text

    def __eq__(self, other: object) -> bool:
        """Compare spellings; a plain int equals its usual spelling."""
        if isinstance(other, Number):
            return self.text == other.text
        return isinstance(other, int) and not isinstance(other, bool) and self.text == str(other)

    def __hash__(self) -> int:
        """Hash the spelling."""
        return hash(self.text)

    def __int__(self) -> int:
        """Return the value of an integer."""
        return int(self.text)

    def __repr__(self) -> str:
        """Show the spelling."""
        return self.text


def _no_constant(name: str) -> Any:
    raise ValueError(f"{name} is no JSON")


def loads(text: str | bytes) -> Any:
    """Parse one JSON value; numbers become `Number`."""
    return json.loads(text, parse_int=Number, parse_float=Number, parse_constant=_no_constant)


def dumps(value: Any) -> str:
    """Write one JSON value compactly; a `Number` as it was spelled."""
    if isinstance(value, Number):
        return value.text
    if isinstance(value, dict):
        members = (f"{json.dumps(key, ensure_ascii=False)}:{dumps(item)}" for key, item in value.items())
        return "{" + ",".join(members) + "}"
    if isinstance(value, list):
        return "[" + ",".join(dumps(item) for item in value) + "]"
    return json.dumps(value, ensure_ascii=False)
