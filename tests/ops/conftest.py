"""Connections that the tests of operations share."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.harness import Sidecar
from tests.ops.kinds import RAW, REAL, transport


@pytest.fixture(scope="module", params=REAL)
def real(request: pytest.FixtureRequest, shared: Sidecar) -> Iterator[str]:
    """Return the name of a connected FastMCP server, one for each transport and era."""
    name = f"real-{request.param}"
    shared.connect(name, transport(request, request.param))
    yield name
    assert shared.call("servers/disconnect", {"server": name}).result == {}


@pytest.fixture(scope="module", params=[kind for kind in REAL if kind != "legacy-json"])
def streaming(request: pytest.FixtureRequest, shared: Sidecar) -> Iterator[str]:
    """Return the name of a connected FastMCP server that can send progress: a JSON body cannot."""
    name = f"streaming-{request.param}"
    shared.connect(name, transport(request, request.param))
    yield name
    assert shared.call("servers/disconnect", {"server": name}).result == {}


@pytest.fixture(scope="module", params=RAW)
def exact(request: pytest.FixtureRequest, shared: Sidecar) -> Iterator[str]:
    """Return the name of a connected hand-written server, one for each transport and era."""
    name = f"exact-{request.param}"
    shared.connect(name, transport(request, request.param))
    yield name
    assert shared.call("servers/disconnect", {"server": name}).result == {}


@pytest.fixture
def start_big() -> Iterator[Sidecar]:
    """Return a sidecar with a frame limit for very big results."""
    with Sidecar() as sidecar:
        limits = {"maxFrameBytes": 128 * 1024 * 1024}
        sidecar.call("initialize", {"protocolVersion": 1, "host": {"name": "big", "version": "1"}, "limits": limits})
        yield sidecar
