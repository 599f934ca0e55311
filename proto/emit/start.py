"""Renders `sidecar/wire_start.py`: msgspec twins of the models that are needed before pydantic is imported."""

from __future__ import annotations

import types
import typing
from typing import Annotated, Any, Literal, get_args, get_origin

import annotated_types
from pydantic import BaseModel
from pydantic.types import StringConstraints

from sidecar import wire

TARGET = "sidecar/wire_start.py"
ROOTS = (wire.InitializeParams, wire.PingParams)
HEADER = '''"""Generated from sidecar/wire.py by proto/generate.py: do not edit, run `make gen`.

The shapes that are answered before pydantic is imported, as msgspec structs.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

import msgspec


class Start(msgspec.Struct, forbid_unknown_fields=True, rename="camel", kw_only=True):
    """Base: camelCase on the wire, unknown keys refused."""
'''


def render() -> str:
    """Return the text of the module."""
    order: list[type[BaseModel]] = []
    for root in ROOTS:
        _collect(root, order)
    return HEADER + "".join(_struct(model) for model in order)


def _collect(model: type[BaseModel], order: list[type[BaseModel]]) -> None:
    if model in order:
        return
    for hint in typing.get_type_hints(model, include_extras=True).values():
        for part in _models(hint):
            _collect(part, order)
    order.append(model)


def _models(hint: Any) -> list[type[BaseModel]]:
    if isinstance(hint, type) and issubclass(hint, BaseModel):
        return [hint]
    return [model for part in get_args(hint) for model in _models(part)]


def _struct(model: type[BaseModel]) -> str:
    lines = ["", "", f"class {model.__name__}(Start):", f'    """{(model.__doc__ or "").strip()}"""', ""]
    hints = typing.get_type_hints(model, include_extras=True)
    for name, field in model.model_fields.items():
        default = ""
        if not field.is_required():
            # An absent payload and a null one are told apart: the payload comes back as it was.
            raw = hints[name] is Any
            default = " = msgspec.Raw()" if raw else f" = {field.default!r}"
        lines.append(f"    {name}: {_spell(hints[name])}{default}")
    return "\n".join(lines) + "\n"


def _spell(hint: Any) -> str:  # noqa: PLR0911 - one line a kind of type
    if hint is Any:
        return "msgspec.Raw"
    if hint is type(None):
        return "None"
    origin = get_origin(hint)
    if origin is Annotated:
        return _annotated(hint)
    if origin is Literal:
        return f"Literal[{', '.join(map(_quoted, get_args(hint)))}]"
    if origin in {typing.Union, types.UnionType}:
        return " | ".join(_spell(part) for part in get_args(hint))
    if origin in {dict, list}:
        inner = ", ".join("Any" if part is Any else _spell(part) for part in get_args(hint))
        return f"{origin.__name__}[{inner}]"
    return str(hint.__name__)


def _annotated(hint: Any) -> str:
    base, *notes = get_args(hint)
    rules: list[str] = []
    for note in notes:
        for rule in getattr(note, "metadata", [note]):
            if isinstance(rule, annotated_types.Gt):
                rules.append(f"gt={rule.gt!r}")
            elif isinstance(rule, annotated_types.Ge):
                rules.append(f"ge={rule.ge!r}")
            elif isinstance(rule, StringConstraints):
                rules += [f"pattern={_quoted(rule.pattern)}"] if rule.pattern is not None else []
                rules += [f"max_length={rule.max_length}"] if rule.max_length is not None else []
    if not rules:
        return _spell(base)
    return f"Annotated[{_spell(base)}, msgspec.Meta({', '.join(rules)})]"


def _quoted(value: object) -> str:
    return f'"{value}"' if isinstance(value, str) else repr(value)
