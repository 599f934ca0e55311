"""Fixtures of all tests: sidecars, servers, and the check that nothing is left behind."""

from __future__ import annotations

import os
import shutil
import threading
from collections.abc import Callable, Generator, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.harness import CODES, RUNNING, Sidecar
from tests.processes import adopt_orphans, assert_gone, belongs_to, offspring, reap
from tests.programs import Program

REQUIRE_ALL = os.environ.get("REQUIRE_ALL") == "1"

Start = Callable[..., Sidecar]


def pytest_configure() -> None:
    """Adopt what a sidecar might leave, so that it is seen."""
    adopt_orphans()


def pytest_runtest_setup(item: pytest.Item) -> None:
    """Skip a test whose programs the machine lacks, by name."""
    for marker in item.iter_markers("needs"):
        for program in marker.args:
            if shutil.which(program) is None and not Path(program).exists():
                pytest.skip(f"{item.name}: {program} is not installed")


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Generator[None, Any, Any]:
    """Make a skip a failure where everything is required."""
    report: Any = yield
    if REQUIRE_ALL and report.skipped and not hasattr(report, "wasxfail"):
        report.outcome = "failed"
        report.longrepr = f"REQUIRE_ALL=1 and {item.nodeid} was skipped: {report.longrepr[-1]}"
    return report


def pytest_terminal_summary(terminalreporter: Any) -> None:
    """Tell which codes of the contract were seen."""
    terminalreporter.write_line(f"error codes seen: {sorted(CODES)}")


@pytest.fixture(autouse=True)
def nothing_is_left() -> Iterator[None]:
    """Fail a test that leaves a process, a thread or a descriptor of its own."""
    processes = offspring()
    threads = set(threading.enumerate())
    descriptors = descriptor_count()
    yield
    # The guard of a sidecar that many tests share stays, and its checkers; the servers that it guards do not.
    assert_gone(child for child in offspring() - processes if not belongs_to(child, RUNNING))
    reap()
    assert set(threading.enumerate()) <= threads
    assert descriptor_count() <= descriptors


def descriptor_count() -> int:
    """Return how many descriptors this process holds."""
    return len(os.listdir("/proc/self/fd"))  # noqa: PTH208 - only their number


@pytest.fixture
def start() -> Iterator[Start]:
    """Return a function that starts a sidecar of the test's own; all are closed strictly at its end."""
    running: list[Sidecar] = []

    def begin(*arguments: str, **options: Any) -> Sidecar:
        running.append(Sidecar(*arguments, **options))
        return running[-1]

    yield begin
    try:
        for sidecar in running:
            if sidecar.process.poll() is None:
                sidecar.close()
    finally:
        for sidecar in running:
            sidecar.kill()


@pytest.fixture(scope="module")
def shared() -> Iterator[Sidecar]:
    """Return a sidecar that all tests of a module use, each with servers of its own name."""
    with Sidecar() as sidecar:
        yield sidecar


@pytest.fixture
def name(request: pytest.FixtureRequest) -> str:
    """Return a server name of the test's own."""
    text = "".join(c if c.isalnum() else "-" for c in request.node.name)
    return f"{text[:100]}-{abs(hash(request.node.nodeid)) % 10**6}"


@pytest.fixture
def server(shared: Sidecar, name: str) -> Iterator[str]:
    """Return a server name in the shared sidecar; the connection is closed afterwards."""
    yield name
    shared.call("servers/disconnect", {"server": name})


@pytest.fixture(scope="session")
def modern() -> Iterator[Program]:
    """Return a FastMCP server of the 2026-07-28 era."""
    with Program("modern_http") as program:
        yield program


@pytest.fixture(scope="session")
def legacy() -> Iterator[Program]:
    """Return a FastMCP server of the handshake era that answers with event streams."""
    with Program("legacy_http") as program:
        yield program


@pytest.fixture(scope="session")
def legacy_json() -> Iterator[Program]:
    """Return a FastMCP server of the handshake era that answers with JSON bodies."""
    with Program("legacy_http", "--json") as program:
        yield program


@pytest.fixture(scope="session")
def sse() -> Iterator[Program]:
    """Return a FastMCP server over HTTP with SSE."""
    with Program("sse") as program:
        yield program


@pytest.fixture(scope="session")
def raw_http() -> Iterator[Program]:
    """Return the hand-written HTTP server."""
    with Program("raw_http") as program:
        yield program


@pytest.fixture(scope="session")
def streams() -> Iterator[Program]:
    """Return the hand-written HTTP server whose streams break."""
    with Program("raw_streams") as program:
        yield program
