"""Fixtures of the tests of logins."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.auth.world import World, begin
from tests.harness import Sidecar
from tests.programs import Program


@pytest.fixture(scope="session")
def oauth_program() -> Iterator[Program]:
    """Return the running authorization and MCP servers."""
    with Program("oauth_world") as program:
        yield program


@pytest.fixture
def world(oauth_program: Program, name: str) -> World:
    """Return servers of the test's own."""
    return World(oauth_program, name)


@pytest.fixture(scope="module")
def shared() -> Iterator[Sidecar]:
    """Return a sidecar that all tests of a module use; its host allows the loopback and promises tokens."""
    with Sidecar() as sidecar:
        yield begin(sidecar, {"tokens": {}, "assertions": {}})
