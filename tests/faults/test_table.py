"""Each fault has its code, its `delivered` and its recovery; the next call works, on the same link where it can."""

from __future__ import annotations

import pytest

from tests.faults.table import HTTP, STDIO, Fault, meet
from tests.harness import Sidecar
from tests.programs import Program, raw


@pytest.mark.parametrize("fault", STDIO, ids=lambda fault: fault.name)
def test_fault_of_a_stdio_server(shared: Sidecar, server: str, fault: Fault) -> None:
    shared.connect(server, raw())
    meet(shared, server, fault)


@pytest.mark.parametrize("era", ["mcp", "modern"])
@pytest.mark.parametrize("fault", HTTP, ids=lambda fault: fault.name)
def test_fault_of_an_http_server(shared: Sidecar, server: str, streams: Program, era: str, fault: Fault) -> None:
    shared.connect(server, streams.http(f"/{era}/faults"))
    meet(shared, server, fault)


def test_there_are_as_many_faults_as_were_asked_for() -> None:
    assert len({fault.name for fault in STDIO}) >= 24
    assert len({fault.name for fault in HTTP}) >= 20
