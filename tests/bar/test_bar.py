"""The lines of the bar that are measured, at a size that every run can afford."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial

import pytest

from tests.bar import measures
from tests.bar.measures import Row

SMALL: dict[str, Callable[[], Iterator[Row]]] = {
    "sigkills": partial(measures.sigkills, 8),
    "executions": partial(measures.executions, 5),
    "floods": partial(measures.floods, 0.03),
    "big-line": partial(measures.big_line, 40 * measures.MB),
    "never-ready": partial(measures.never_ready, 0.7),
    "drops": partial(measures.drops, 10, 4),
    "tenants": partial(measures.tenants, 300),
    "connections": partial(measures.connections, 200),
    "addresses": partial(measures.addresses, 1500),
    "cycles": partial(measures.cycles, 40),
    "calls": partial(measures.calls, 10_000),
    "descriptors": partial(measures.descriptors, 150),
}


@pytest.mark.parametrize("name", SMALL)
def test_bar_holds(name: str) -> None:
    rows = list(SMALL[name]())
    for row in rows:
        print(row)
    assert rows
    if name == "calls":  # too few for a slope: what was warmed up is all there is
        rows = [row for row in rows if row.unit != "MB"]
    assert [str(row) for row in rows if not row.ok] == []


@pytest.mark.needs("faketime")
def test_bar_holds_with_a_clock_that_is_a_day_off() -> None:
    assert [str(row) for row in measures.clocks() if not row.ok] == []
