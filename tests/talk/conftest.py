"""The host that all tests of a module share, and the server that talks back over every transport and era."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.answers import Json
from tests.harness import Sidecar
from tests.programs import Program
from tests.talk.host import promise, talker


@pytest.fixture(scope="module")
def host() -> Iterator[Sidecar]:
    """Return a sidecar whose host promised everything that servers may ask."""
    with Sidecar() as sidecar:
        promise(sidecar)
        yield sidecar


@pytest.fixture
def at(host: Sidecar, name: str) -> Iterator[str]:
    """Return a server name in the shared sidecar; the connection is closed afterwards."""
    yield name
    host.call("servers/disconnect", {"server": name})


@pytest.fixture(scope="module")
def http() -> Iterator[Program]:
    """Return the server that talks back, over HTTP with sessions."""
    with Program("talker", "--http") as program:
        yield program


@pytest.fixture(scope="module")
def http_modern() -> Iterator[Program]:
    """Return the server that talks back, over HTTP of the modern era."""
    with Program("talker", "--http", "--modern") as program:
        yield program


@pytest.fixture
def transport(request: pytest.FixtureRequest, http: Program, http_modern: Program) -> Json:
    """Return the transport of the kind that the test names."""
    kind: str = request.param
    if kind.startswith("stdio"):
        return talker(*(["--modern"] if kind.endswith("modern") else []))
    return (http_modern if kind.endswith("modern") else http).http()
