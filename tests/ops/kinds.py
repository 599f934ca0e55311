"""The transports and eras that every operation must work over."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from tests.answers import Json
from tests.programs import fast_stdio, raw

Transports = Callable[[str], Json]
REAL = ("modern", "legacy", "legacy-json", "sse", "stdio")
"""FastMCP servers."""
RAW = ("raw-stdio", "raw-stdio-modern", "raw-json", "raw-stream", "raw-modern-json", "raw-modern-stream", "raw-sse")
"""Hand-written servers that show the bytes they got."""
_PATHS = {
    "raw-json": "/json/legacy/kinds",
    "raw-stream": "/stream/legacy/kinds",
    "raw-modern-json": "/json/modern/kinds",
    "raw-modern-stream": "/stream/modern/kinds",
}
_FIXTURES = {"modern": "modern", "legacy": "legacy", "legacy-json": "legacy_json", "sse": "sse"}


def transport(request: pytest.FixtureRequest, kind: str) -> Json:
    """Return the transport of a kind, and start its server where it has none yet."""
    if kind == "stdio":
        return fast_stdio()
    if kind.startswith("raw-stdio"):
        return raw(*(["--modern"] if kind.endswith("modern") else []))
    program = request.getfixturevalue(_FIXTURES.get(kind, "raw_http"))
    if kind == "raw-sse":
        return dict(program.sse("/sse/legacy/kinds"))
    if kind in _PATHS:
        found: Json = program.http(_PATHS[kind])
    else:
        found = program.sse() if kind == "sse" else program.http()
    return found
