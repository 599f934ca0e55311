"""The contract in Go: `wire_gen.go` (shapes and method names) and `errors_gen.go` (codes and sentinels)."""

from __future__ import annotations

import types
from typing import TYPE_CHECKING, Annotated, Any, Final, Literal, Union, get_args, get_origin

from pydantic import BaseModel
from typing_extensions import TypeAliasType

from emit.errorsmd import STANDARD
from emit.gosyntax import HEADER, comment, field_docs, first_paragraph, go_name, gofmt, module_path
from sidecar import errors, wire

if TYPE_CHECKING:
    from pydantic.fields import FieldInfo

NAMES: Final = {
    "HTTPTransport": "HTTP",
    "SSETransport": "SSE",
    "StdioTransport": "Stdio",
    "BearerAuth": "Bearer",
    "ConnectParams": "ServerConfig",
    "InitializeResult": "Info",
    "ElicitationPromise": "ElicitationCapabilities",
    "HostCapabilities": "Capabilities",
    "RootsPromise": "RootsCapabilities",
    "SamplingPromise": "SamplingCapabilities",
    "CredentialRecord": "",  # the answers about them spell out their nulls
    "CredentialsPutResult": "",
    "Empty": "",
    "Operation": "",
    "ErrorObject": "",  # Error
    "Address": "",  # a Server handle puts the address before the params of each method
    "DisconnectParams": "",
    "HealthParams": "",
    "Assertion": "",  # a handler returns the text
    "AuthBeginParams": "",
    "AuthCompleteParams": "AuthCallback",
    "AuthImportParams": "AuthImport",
    "AuthRevoked": "",
    "AuthStatus": "",  # a slice
    "ImportParams": "ImportConfig",
    "ImportResult": "",  # its elements keep their bytes
    "Reverse": "",
    "ServerNotice": "",
    "StoreDegradedParams": "StoreDegraded",
    "UpdateParams": "Update",
    "ListServersResult": "",  # its elements keep their bytes
    "PingParams": "",
    "PingResult": "",
}
"""Go names that differ from the models'; empty: no Go type of its own. *Params are unexported unless named here."""

TAGGED: Final = {"Transport": ("transport", "type"), "Auth": ("auth", "type"), "Redirect": ("redirect", "mode")}
"""Unions by tag -> the method that seals the interface, and the field that holds the tag."""

FIELDS: Final = {
    ("ConnectParams", "server"): None,  # the name and the scope are arguments of Connect
    ("ConnectParams", "scope"): None,
    ("ConnectParams", "timeout_ms"): None,  # the context says it
    ("ConnectParams", "wait"): "Wait",  # false, true or "ready": a type of its own
    ("Egress", "trust_connect_origin"): "*bool",  # absent means true
    ("ConnectParams", "capabilities"): "*Capabilities",
    ("ConnectParams", "roots"): "[]*mcp.Root",
    ("AuthCompleteParams", "callback_url"): None,  # an argument
    ("AuthCompleteParams", "scope"): None,
    ("AuthCompleteParams", "timeout_ms"): None,
    ("AuthImportParams", "server"): None,
    ("AuthImportParams", "scope"): None,
    ("AuthImportParams", "timeout_ms"): None,
    ("UpdateParams", "server"): None,
    ("UpdateParams", "scope"): None,
    ("UpdateParams", "timeout_ms"): None,
    ("ImportParams", "config"): "json.RawMessage",
    ("ImportParams", "scope"): None,
    ("ImportParams", "timeout_ms"): None,
    ("TestResult", "server_info"): "*mcp.Implementation",
    ("TestResult", "tools"): "*int",
    ("TestResult", "resources"): "*int",
    ("TestResult", "prompts"): "*int",
    ("ElicitationPromise", "form"): "*struct{}",  # an object without members
    ("ElicitationPromise", "url"): "*struct{}",
    ("SamplingPromise", "tools"): "*struct{}",
    ("SamplingPromise", "context"): "*struct{}",
    ("HostCapabilities", "credentials"): "*struct{}",
    ("HostCapabilities", "assertions"): "*struct{}",
    ("HostCapabilities", "tokens"): "*struct{}",
    ("ToolChangedParams", "old_hash"): "*string",
    ("ToolChangedParams", "new_hash"): "*string",
    ("CredentialsPutParams", "if_version"): "*string",
    ("CredentialsDeleteParams", "if_version"): "*string",
    ("TLSConfig", "verify"): "*bool",  # absent means true
    ("Facts", "process"): "*bool",  # absent where there is no process
    ("ServerInfo", "server_info"): "*mcp.Implementation",
    ("ServerInfo", "capabilities"): "*mcp.ServerCapabilities",
    ("CancelledParams", "request_id"): "json.RawMessage",
    ("ProgressParams", "request_id"): "json.RawMessage",
    ("ShutdownParams", "deadline_ms"): "*int",  # zero is: at once
    ("ProgressParams", "total"): "*float64",
}
"""(model, field) -> Go type where the rule does not fit; None: left out."""

RAW: Final = {"ServerInfo", "Health", "InitializeResult", "TestResult"}
"""Results that keep the bytes as they came."""

STRUCT_NOTES: Final = {
    "ConnectParams": "ServerConfig says how to reach one server: the params of servers/connect. Zero fields are left "
    "out, so the sidecar's defaults hold.",
}


def _unalias(annotation: Any) -> Any:
    while get_origin(annotation) is Annotated:
        annotation = get_args(annotation)[0]
    return annotation


def _optional(annotation: Any) -> tuple[Any, bool]:
    """Return the annotation without None, and whether None was there."""
    annotation = _unalias(annotation)
    if get_origin(annotation) in (types.UnionType, Union):
        rest = [arg for arg in get_args(annotation) if arg is not type(None)]
        if len(rest) == 1:
            return _unalias(rest[0]), True
    return annotation, False


def struct_name(model: type[BaseModel]) -> str:
    """Return the Go name of one model."""
    name = model.__name__
    if name in NAMES:
        return NAMES[name]
    if name.endswith("Params"):
        return name[:1].lower() + name[1:]
    return name


def _is_time(annotation: Any, field: FieldInfo | None = None) -> bool:
    metadata = [*get_args(annotation)[1:], *(field.metadata if field else [])]
    text = " ".join(str(item) for item in [*metadata, field.json_schema_extra if field else ""])
    return "date-time" in text


def _scalar(annotation: Any) -> str | None:
    simple = {str: "string", int: "int", bool: "bool", float: "float64", Any: "json.RawMessage"}
    try:
        return simple.get(annotation)
    except TypeError:
        return None


def go_type(annotation: Any, *, optional: bool) -> str:  # noqa: PLR0911  one kind of annotation a line
    """Return the Go type of an annotation."""
    if isinstance(annotation, TypeAliasType):
        return str(annotation.__name__)
    if simple := _scalar(annotation):
        return simple
    origin, args = get_origin(annotation), get_args(annotation)
    if origin is Literal:
        return "State" if args == get_args(wire.State) else "string"
    if origin is list:
        return "[]" + go_type(_unalias(args[0]), optional=False)
    if origin is dict:
        return f"map[{go_type(_unalias(args[0]), optional=False)}]{go_type(_unalias(args[1]), optional=False)}"
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        if annotation is wire.ErrorObject:
            return "*Error"
        return ("*" if optional else "") + struct_name(annotation)
    message = f"no Go type for {annotation!r}"
    raise TypeError(message)


def _omit(go: str) -> str:
    """Slices and maps keep the difference between absent and empty; scalars are left out at zero."""
    return "omitzero" if go.startswith(("[]", "map[", "time.")) else "omitempty"


def _field(model: type[BaseModel], name: str, field: FieldInfo) -> str:
    key = (model.__name__, name)
    annotation, optional = _optional(field.annotation)
    raw = model.__annotations__.get(name, "") if name in model.__annotations__ else ""
    if key in FIELDS:
        override = FIELDS[key]
        if override is None:
            return ""
        go = override
    elif _is_time(field.annotation, field) or str(raw).split(" ")[0] == "Time":
        go = "time.Time"
    else:
        go = go_type(annotation, optional=optional)
    alias = field.alias or name
    tag = alias if field.is_required() else f"{alias},{_omit(go)}"
    doc = field.description or field_docs(model).get(name, "")
    return (comment(doc, "\t") if doc else "") + f'\t{go_name(name)} {go} `json:"{tag}"`\n'


def _struct(model: type[BaseModel], tags: dict[str, str]) -> str:
    name = struct_name(model)
    if not name:
        return ""
    doc = STRUCT_NOTES.get(model.__name__) or f"{name}: {first_paragraph(model.__doc__ or '')}"
    out = comment(doc) + f"type {name} struct {{\n"
    for field_name, field in model.model_fields.items():
        if field_name in {"type", "mode"} and model.__name__ in tags:
            continue
        out += _field(model, field_name, field)
    if model.__name__ in RAW:
        out += '\t// Raw holds the bytes as they came.\n\tRaw json.RawMessage `json:"-"`\n'
    return out + "}\n\n"


def _unions() -> tuple[str, dict[str, str]]:
    out, tags = "", {}
    for alias, (seal, key) in TAGGED.items():
        members = get_args(get_args(getattr(wire, alias).__value__)[0])
        names = [struct_name(member) for member in members]
        out += comment(f"{alias} is one of {', '.join(names)}.")
        out += f"type {alias} interface {{\n\tjson.Marshaler\n\t{seal}()\n}}\n\n"
        for member in members:
            name = struct_name(member)
            tag = get_args(member.model_fields[key].annotation)[0]
            tags[member.__name__] = tag
            out += f"func ({name}) {seal}() {{}}\n\n"
            out += comment(f'MarshalJSON adds the tag "{tag}".')
            out += (
                f"func (v {name}) MarshalJSON() ([]byte, error) {{\n\ttype plain {name}\n\treturn marshal(struct {{\n"
                f'\t\tTag string `json:"{key}"`\n\t\tplain\n\t}}{{"{tag}", plain(v)}})\n}}\n\n'
            )
    return out, tags


def _models() -> list[type[BaseModel]]:
    found = [
        cls
        for cls in vars(wire).values()
        if isinstance(cls, type) and issubclass(cls, BaseModel) and cls.__module__ == wire.__name__
    ]
    return [cls for cls in found if cls is not wire.Wire]


def _method_constant(name: str) -> str:
    return "Method" + "".join(go_name(part) for part in name.split("/"))


def render_wire() -> str:
    """Return wire_gen.go."""
    out = HEADER.format(source="sidecar/wire.py") + "package sidecar\n\n"
    out += 'import (\n\t"encoding/json"\n\t"time"\n\n\t"@MODULE@/mcp"\n)\n\n'
    out += comment("ProtocolVersion is the version of the wire that this client speaks.")
    out += f"const ProtocolVersion = {wire.PROTOCOL_VERSION}\n\n"
    out += "// Methods of the wire, for [Client.Request].\nconst (\n"
    for method in wire.METHODS:
        out += f'\t{_method_constant(method.name)} = "{method.name}" // {method.doc}\n'
    out += ")\n\n// Requests of the sidecar.\nconst (\n"
    for method in wire.REVERSE:
        constant = _method_constant(method.name).removeprefix("Method")
        out += f'\treverse{constant} = "{method.name}" // {method.doc}\n'
    out += ")\n\n// Notifications of the wire.\nconst (\n"
    for method in wire.NOTIFICATIONS:
        constant = _method_constant(method.name).removeprefix("Method").removeprefix("Notifications")
        out += f'\tnotification{constant} = "{method.name}" // {method.doc}\n'
    out += ")\n\n// State is where a connection stands.\ntype State string\n\n// The states of a connection.\nconst (\n"
    for state in get_args(wire.State):
        out += f'\tState{go_name(state)} State = "{state}"\n'
    out += ")\n\n"
    unions, tags = _unions()
    out += unions
    for model in _models():
        out += _struct(model, tags)
    return gofmt(out.replace("@MODULE@", module_path()))


def render_errors() -> str:
    """Return errors_gen.go."""
    out = HEADER.format(source="sidecar/errors.py") + "package sidecar\n\n"
    out += "// Codes of section 6 of proto/README.md; JSON-RPC's own speak only of the hop to the sidecar.\nconst (\n"
    rows = [(code, name, "", first_paragraph(cls.__doc__ or "").rstrip(".")) for code, name, cls in STANDARD]
    rows += [(row.code, row.kind, row.retry, row.when) for row in errors.ALL_ERRORS]
    for code, kind, _, when in rows:
        out += comment(when, "\t") + f"\tCode{kind} = {code}\n"
    out += ")\n\n// Sentinels for errors.Is, one per code; compared by code alone.\nvar (\n"
    for _, kind, retry, when in rows:
        after = f', Retry: "{retry}"' if retry else ""
        out += comment(f"Err{kind}: {when}.", "\t")
        out += f'\tErr{kind} error = &Error{{Code: Code{kind}, Kind: "{kind}", Message: {_quote(when)}{after}}}\n'
    out += ")\n\n// kinds holds the name and the retry class of every code.\n"
    out += "var kinds = map[int]struct{ kind, retry string }{\n"
    for _, kind, retry, _ in rows:
        out += f'\tCode{kind}: {{"{kind}", "{retry}"}},\n'
    return gofmt(out + "}\n")


def _quote(text: str) -> str:
    return '"' + text.replace("\\", "\\\\").replace('"', '\\"') + '"'
