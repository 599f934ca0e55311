"""The contract as an OpenRPC document: `proto/openrpc.json`."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import mcp_types
from pydantic.json_schema import GenerateJsonSchema, models_json_schema

from emit import errorsmd
from sidecar import errors, wire

if TYPE_CHECKING:
    from pydantic import BaseModel

REF = "#/components/schemas/{model}"
RENAMED = {
    "ListToolsParams": "PaginatedRequestParams",
    "ListResourcesParams": "PaginatedRequestParams",
    "ListResourceTemplatesParams": "PaginatedRequestParams",
    "ListPromptsParams": "PaginatedRequestParams",
    "CallToolParams": "CallToolRequestParams",
    "ReadResourceParams": "ReadResourceRequestParams",
    "GetPromptParams": "GetPromptRequestParams",
    "CompleteParams": "CompleteRequestParams",
    "SetLoggingLevelParams": "SetLevelRequestParams",
    "SubscribeParams": "SubscribeRequestParams",
    "UnsubscribeParams": "UnsubscribeRequestParams",
    "ElicitParams": "ElicitRequestFormParams",
    "CreateMessageParams": "CreateMessageRequestParams",
    "ListRootsParams": "RequestParams",
}
"""MCP's names in the contract (as in the Go SDK) -> names of the Python models."""


def mcp_model(name: str) -> type[BaseModel]:
    """Return the Python model of an MCP payload by its name in the contract."""
    model: type[BaseModel] = getattr(mcp_types, RENAMED.get(name, name))
    return model


def _models() -> list[type[BaseModel]]:
    found: dict[str, type[BaseModel]] = {}
    for method in (*wire.METHODS, *wire.REVERSE, *wire.NOTIFICATIONS):
        wanted = [method.params, method.result]
        if method.mcp:
            wanted += [mcp_model(name) for name in method.mcp]
        for model in wanted:
            if model is None:
                continue
            if found.setdefault(model.__name__, model) is not model:
                message = f"two models are named {model.__name__}"
                raise ValueError(message)
    return [found[name] for name in sorted(found)]


class _Schema(GenerateJsonSchema):
    """Keep the titles out: they repeat the names."""

    def field_title_should_be_set(self, schema: Any) -> bool:
        del schema
        return False


def _schemas() -> dict[str, Any]:
    _, document = models_json_schema(
        [(model, "validation") for model in _models()], by_alias=True, ref_template=REF, schema_generator=_Schema
    )
    definitions: dict[str, Any] = document["$defs"]
    for definition in definitions.values():
        definition.pop("title", None)
    return definitions


def _params(model: str, schemas: dict[str, Any]) -> list[dict[str, Any]]:
    schema = schemas[model]
    required = set(schema.get("required", ()))
    rows = []
    for name, body in schema.get("properties", {}).items():
        row: dict[str, Any] = {"name": name, "required": name in required, "schema": body}
        if isinstance(body, dict) and "description" in body:
            row["description"] = body["description"]
        rows.append(row)
    return rows


def _method(method: wire.Method, schemas: dict[str, Any], *, notification: bool) -> dict[str, Any]:
    params = _params(method.params.__name__, schemas)
    row: dict[str, Any] = {
        "name": method.name,
        "summary": method.doc,
        "paramStructure": "by-name",
        "x-direction": "host-to-sidecar" if method.direction == "host" else "sidecar-to-host",
    }
    result = method.result.__name__ if method.result else None
    if method.mcp:
        names = {param["name"] for param in params}
        own = _params(mcp_model(method.mcp[0]).__name__, schemas)
        params += [param for param in own if param["name"] not in names]
        result = mcp_model(method.mcp[1]).__name__
        row["x-mcp"] = {"params": method.mcp[0], "result": method.mcp[1], "openParams": True}
    row["params"] = sorted(params, key=lambda param: not param["required"])
    if notification:
        row["x-notification"] = True
        return row
    schema = {"$ref": f"#/components/schemas/{result}"} if result is not None else {"type": "object"}
    row["result"] = {"name": "result", "schema": schema}
    row["errors"] = [{"$ref": f"#/components/errors/{name}"} for name in _error_names()]
    return row


def _error_names() -> list[str]:
    standard = [name for _, name, _ in errorsmd.STANDARD]
    return standard + [row.kind for row in errors.ALL_ERRORS if row.code not in errors.GO_ONLY]


def _errors() -> dict[str, Any]:
    table: dict[str, Any] = {}
    for code, name, cls in errorsmd.STANDARD:
        table[name] = {"code": code, "message": (cls.__doc__ or "").strip().splitlines()[0]}
    for row in errors.ALL_ERRORS:
        if row.code in errors.GO_ONLY:
            continue
        data = {"kind": row.kind, "retry": row.retry, "fields": list(row.fields)}
        table[row.kind] = {"code": row.code, "message": row.when, "data": data}
    return table


def render() -> str:
    """Return the OpenRPC 1.x document as JSON text."""
    schemas = _schemas()
    methods = [_method(method, schemas, notification=False) for method in (*wire.METHODS, *wire.REVERSE)]
    methods += [_method(method, schemas, notification=True) for method in wire.NOTIFICATIONS]
    document = {
        "openrpc": "1.3.2",
        "info": {
            "title": "mcp-sidecar wire",
            "version": f"{wire.PROTOCOL_VERSION}.0.0",
            "description": "Generated by proto/generate.py from sidecar/wire.py and sidecar/errors.py; do not edit. "
            "What a schema cannot say stands in proto/README.md.",
        },
        "methods": methods,
        "components": {"schemas": dict(sorted(schemas.items())), "errors": _errors()},
    }
    return json.dumps(document, indent=2, ensure_ascii=False) + "\n"
