"""MCP payload types in Go: `mcp/mcp_gen.go` (structs) and `mcp/decode_gen.go` (decoders that match keys exactly)."""

from __future__ import annotations

import types
from dataclasses import dataclass
from typing import Annotated, Any, Final, Literal, Union, get_args, get_origin

import mcp_types
from pydantic import BaseModel

from emit.gosyntax import HEADER, comment, field_docs, first_paragraph, go_name, gofmt, module_path
from emit.mcptables import DROPPED, ENUMS, FIELD_NAMES, NOTES, ONE_OR_MANY, ROWS, TYPES, Row

SOURCE: Final = "the models of the Python package mcp_types"
BY_MODEL: Final = {model: row.go for row in ROWS for model in row.models}
CACHEABLE: Final = {"ttl_ms", "cache_scope"}


@dataclass(frozen=True)
class Field:
    """One field of a Go struct."""

    name: str
    go: str
    alias: str
    required: bool
    doc: str
    embedded: bool = False

    def render(self) -> str:
        """Return the line, with its comment."""
        doc = comment(self.doc, "\t") if self.doc else ""
        if self.embedded:
            return f'{doc}\t{self.go} `json:"{self.alias},omitempty"`\n'
        tag = self.alias
        if not self.required:
            tag += ",omitzero" if self.go.startswith(("[]", "map[")) else ",omitempty"
        return f'{doc}\t{self.name} {self.go} `json:"{tag}"`\n'


def _model(name: str) -> type[BaseModel]:
    model: type[BaseModel] = getattr(mcp_types, name)
    return model


def _strip(annotation: Any) -> tuple[Any, bool]:
    while get_origin(annotation) is Annotated:
        annotation = get_args(annotation)[0]
    if get_origin(annotation) in (types.UnionType, Union):
        rest = [arg for arg in get_args(annotation) if arg is not type(None)]
        if len(rest) < len(get_args(annotation)):
            inner, _ = _strip(rest[0]) if len(rest) == 1 else (Union[tuple(rest)], True)  # noqa: UP007  built at run time
            return inner, True
    return annotation, False


def _is_content(annotation: Any) -> bool:
    members = get_args(annotation)
    return len(members) > 1 and any(member is mcp_types.TextContent for member in members)


def _go_type(annotation: Any, *, optional: bool, element: bool = False) -> str:  # noqa: PLR0911  one kind a line
    if _is_content(annotation):
        return "Content"
    simple = {str: "string", int: "int", bool: "bool", float: "float64"}
    if annotation is Any:
        return "json.RawMessage"
    if isinstance(annotation, type) and annotation in simple:
        return simple[annotation]
    origin, args = get_origin(annotation), get_args(annotation)
    if origin is Literal:
        return next((name for name, values, _ in ENUMS.values() if args == values), "string")
    if origin is list:
        return "[]" + _go_type(_strip(args[0])[0], optional=False, element=True)
    if origin is dict:
        value = "string" if args[1] is str else "any"
        return f"map[string]{value}"
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        name = BY_MODEL[annotation.__name__]
        # Lists of icons are lists of values in the Go SDK, all other lists and optional structs are pointers.
        return name if (element and name == "Icon") or not (optional or element) else "*" + name
    message = f"no Go type for {annotation!r}"
    raise TypeError(message)


def _fields(row: Row) -> list[Field]:
    found: dict[str, Field] = {}
    models = [_model(name) for name in row.models]
    for model in models:
        for name, info in model.model_fields.items():
            if name in DROPPED or name in CACHEABLE or (name == "type" and row.kind == "content"):
                continue
            alias = "_meta" if name == "meta" else (info.alias or name)
            doc = "" if name == "meta" else (info.description or field_docs(model).get(name, ""))
            if name == "meta":
                found.setdefault(
                    name, Field("Meta", "Meta", alias, required=False, doc="", embedded=row.kind != "content")
                )
                continue
            override = TYPES.get((row.go, name))
            annotation, optional = _strip(info.annotation)
            if name == "content" and row.go == "ToolResultContent":
                go = "[]Content"  # a forward reference in the model
            else:
                go = override or _go_type(annotation, optional=optional)
            everywhere = all(name in other.model_fields and other.model_fields[name].is_required() for other in models)
            required = everywhere or (name == "type" and row.kind == "plain")
            go_field = FIELD_NAMES.get((row.go, name)) or go_name(name)
            found.setdefault(name, Field(go_field, go, alias, required, doc))
    fields = sorted(found.values(), key=lambda field: not field.embedded)
    if any("ttl_ms" in model.model_fields for model in models):
        fields.insert(1, Field("Cacheable", "Cacheable", "", required=True, doc=""))
    return fields


def _tag(row: Row) -> str:
    tag: str = get_args(_model(row.models[0]).model_fields["type"].annotation)[0]
    return tag


def _struct(row: Row) -> str:
    doc = first_paragraph(_model(row.models[0]).__doc__ or "")
    if row.kind == "params" and row.models[0] in {"RequestParams", "PaginatedRequestParams"}:
        doc = ""
    out = comment(NOTES.get(row.go) or (f"{row.go}: {doc}" if doc else f"{row.go}: as MCP defines it."))
    out += f"type {row.go} struct {{\n"
    for field in _fields(row):
        out += "\tCacheable\n" if field.go == "Cacheable" else field.render()
    if row.kind in {"result", "element"}:
        out += "\t// Raw holds the bytes as they came, unknown fields and all.\n"
        out += '\tRaw json.RawMessage `json:"-"`\n'
    out += "}\n\n"
    if row.kind == "content":
        tag = _tag(row)
        out += f"func (*{row.go}) isContent() {{}}\n\n"
        out += f'// MarshalJSON adds the tag "{tag}".\n'
        out += (
            f"func (x *{row.go}) MarshalJSON() ([]byte, error) {{\n\ttype plain {row.go}\n\treturn marshal(struct {{\n"
            f'\t\tType string `json:"type"`\n\t\t*plain\n\t}}{{"{tag}", (*plain)(x)}})\n}}\n\n'
        )
    return out


def render_types() -> str:
    """Return mcp_gen.go."""
    out = HEADER.format(source=SOURCE) + 'package mcp\n\nimport "encoding/json"\n\n'
    for name, values, doc in ENUMS.values():
        out += f"// {doc}\ntype {name} string\n\n// The values of {name}.\nconst (\n"
        for value in values:
            out += f'\t{name}{go_name(value)} {name} = "{value}"\n'
        out += ")\n\n"
    for row in ROWS:
        out += _struct(row)
    return gofmt(out)


def _decode(row: Row, field: Field) -> str:  # noqa: PLR0911  one kind of field a line
    target = f"&x.{field.name}"
    if field.go == "json.RawMessage":
        return f"x.{field.name} = value\n\t\t\treturn nil"
    if (row.go, field.alias) in ONE_OR_MANY:
        return f"return decodeOneOrMany(value, {target})"
    if field.go in {"Content", "[]Content"}:
        return f"return decode{'Contents' if field.go.startswith('[]') else 'Content'}(value, {target})"
    if field.go in {"string", *ENUMS}:
        return f"return decodeString(value, {target})"
    if field.go in {"int", "int64"}:
        return f"return decodeInt(value, {target})"
    if field.go == "*int64":
        return f"return decodeIntPointer(value, {target})"
    bare = field.go.removeprefix("[]").removeprefix("*")
    if bare not in {row.go for row in ROWS}:
        return f"return decodeAny(value, {target})"
    if field.go.startswith("[]*"):
        return f"return decodeList(value, {target})"
    if field.go.startswith("[]"):
        return f"return decodeValues(value, {target})"
    if field.go.startswith("*"):
        return f"return decodePointer(value, {target})"
    return f"return x.{field.name}.decode(value)"


def _decoder(row: Row) -> str:
    fields = _fields(row)
    cases = ""
    for field in fields:
        if field.go == "Cacheable":
            cases += '\t\tcase "ttlMs":\n\t\t\treturn decodeInt(value, &x.TTLMs)\n'
            cases += '\t\tcase "cacheScope":\n\t\t\treturn decodeString(value, &x.CacheScope)\n'
            continue
        cases += f'\t\tcase "{field.alias}":\n\t\t\t{_decode(row, field)}\n'
    out = f"func (x *{row.go}) decode(data []byte) error {{\n"
    if row.kind in {"result", "element"}:
        out += "\tx.Raw = data\n"
    if not cases:
        return out + "\treturn jsonscan.Object(data, ignore)\n}\n\n"
    out += "\treturn decodeObject(data, func(key string, value []byte) error {\n\t\tswitch key {\n"
    return out + cases + "\t\t}\n\t\treturn nil\n\t})\n}\n\n"


def render_decoders() -> str:
    """Return decode_gen.go."""
    out = HEADER.format(source=SOURCE) + "package mcp\n\n"
    out += f'import (\n\t"bytes"\n\n\t"{module_path()}/internal/jsonscan"\n)\n\n'
    for row in ROWS:
        out += "// UnmarshalJSON implements [encoding/json.Unmarshaler]: keys match exactly, Raw keeps the rest.\n"
        out += f"func (x *{row.go}) UnmarshalJSON(data []byte) error {{ return x.decode(bytes.Clone(data)) }}\n\n"
        out += _decoder(row)
    out += "// newContent returns an empty block for a tag, or nil for a tag that is not known.\n"
    out += "func newContent(tag string) decodableContent {\n\tswitch tag {\n"
    for row in ROWS:
        if row.kind == "content":
            out += f'\tcase "{_tag(row)}":\n\t\treturn new({row.go})\n'
    return gofmt(out + "\t}\n\treturn nil\n}\n")
