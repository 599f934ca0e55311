"""MCP payloads as bytes: params with what a request must carry, lists put together, modern headers."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import msgspec

from sidecar import errors, frames, wire
from sidecar.transports.faults import Payload, bad_peer

if TYPE_CHECKING:
    from collections.abc import Mapping

    from sidecar.connection import Link

MAX_PAGES: Final = 1000
X_HEADER: Final = b"x-mcp-header"
_NAMED: Final = {"tools/call": "name", "prompts/get": "name", "resources/read": "uri"}
_EMPTY_META: Final = msgspec.Raw(b"{}")


def build(params: Mapping[str, msgspec.Raw], meta: Mapping[str, bytes]) -> bytes:
    """Return the params as JSON; members of `meta` are added to `_meta` where the host has not set them."""
    parts: list[bytes | memoryview] = []
    comma = b"{"
    for name, raw in params.items():
        value: bytes | memoryview = frames.view(raw)
        if name == "_meta" and meta:
            value = _add_meta(raw, meta)
        parts += (comma, frames.quote(name), b":", value)
        comma = b","
    if meta and "_meta" not in params:
        parts += (comma, b'"_meta":', _add_meta(_EMPTY_META, meta))
        comma = b","
    if comma == b"{":
        return b"{}"
    parts.append(b"}")
    return b"".join(parts)


def _add_meta(raw: msgspec.Raw, meta: Mapping[str, bytes]) -> bytes:
    have = frames.members(raw)
    members = [b"%b:%b" % (frames.quote(name), bytes(value)) for name, value in have.items()]
    members += [b"%b:%b" % (frames.quote(name), value) for name, value in meta.items() if name not in have]
    return b"{" + b",".join(members) + b"}"


def modern_headers(link: Link, method: str, params: Mapping[str, msgspec.Raw]) -> dict[str, str]:
    """Return the headers that mirror a modern request (2026-07-28, Streamable HTTP)."""
    from mcp.shared.inbound import encode_header_value, mcp_param_headers

    headers = {"mcp-method": method}
    key = _NAMED.get(method)
    name = frames.text_of(params.get(key, frames.ABSENT)) if key is not None else None
    if name is None:
        return headers
    headers["mcp-name"] = encode_header_value(name)
    if method == "tools/call":
        if name in link.refused_tools:
            raise errors.ToolDenied("the tool's x-mcp-header annotations are invalid", tool=name)
        header_map = link.header_maps.get(name)
        if header_map and "arguments" in params:
            headers |= mcp_param_headers(header_map, msgspec.json.decode(params["arguments"]))
    return headers


def listed(link: Link, result: Payload, method: str) -> list[msgspec.Raw]:
    """Return the elements of a list; tools whose header annotations are invalid are left out (modern era)."""
    raw = frames.member(msgspec.Raw(bytes(result)), wire.LISTS[method])
    try:
        elements = frames.elements(raw) if raw is not None else None
    except msgspec.DecodeError:
        elements = None
    if elements is None:
        raise bad_peer(f"the result has no list {wire.LISTS[method]!r}", "yes")
    if method != "tools/list" or not link.agreed.modern or X_HEADER not in bytes(result):
        return elements
    from mcp.shared.inbound import find_invalid_x_mcp_header, x_mcp_header_map

    kept = []
    for element in elements:
        name = frames.text_of(frames.member(element, "name") or frames.ABSENT)
        schema = frames.member(element, "inputSchema")
        if name is None or schema is None:
            kept.append(element)
            continue
        decoded = msgspec.json.decode(schema)
        if find_invalid_x_mcp_header(decoded) is not None:
            link.refused_tools.add(name)
            link.header_maps.pop(name, None)
            continue
        link.refused_tools.discard(name)
        link.header_maps[name] = x_mcp_header_map(decoded)
        kept.append(element)
    return kept


def has_more(result: Payload) -> bool:
    """Tell whether a list has another page."""
    cursor = frames.member(msgspec.Raw(bytes(result)), "nextCursor")
    return cursor is not None and bytes(cursor) != b"null"


def join_list(method: str, last: Payload, elements: list[msgspec.Raw]) -> bytes:
    """Return the last page with all elements in place of its own, without `nextCursor` where all were read."""
    key = wire.LISTS[method]
    members = []
    for name, value in frames.members(msgspec.Raw(bytes(last))).items():
        if name == "nextCursor" and bytes(value) == b"null":
            continue
        text = b"[" + b",".join(map(bytes, elements)) + b"]" if name == key else bytes(value)
        members.append(b"%b:%b" % (frames.quote(name), text))
    return b"{" + b",".join(members) + b"}"
