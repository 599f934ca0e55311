"""The workbench itself: its programs build, every client answers, and what it writes is what it measured."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from bench.__main__ import measure
from bench.calls import Effort
from bench.clients import BARE, OURS, SDK, Bench, Driver, DriverError
from bench.table import BEGIN, END, Bar, Table, number

pytestmark = [pytest.mark.needs("go"), pytest.mark.timeout(300)]  # a first build fetches and compiles the Go SDK

TINY = Effort(seconds=0.02, turns=1, whole=False)


@pytest.fixture(scope="module")
def bench() -> Iterator[Bench]:
    with Bench() as running:
        yield running


def test_a_tiny_round_of_every_comparison_has_every_figure(bench: Bench) -> None:
    table = Table()
    measure(bench, table, TINY, ["hop", "calls", "lives", "large"])
    fails = []
    for section in table.sections:
        for row in section.rows:
            assert set(row.values) <= set(section.columns)
            assert all(value is None or value > 0 for value in row.values.values()), row
            fails += [(row.what, column) for column, value in row.values.items() if value is None]
    # FastMCP ends a session whose event is over 1 MiB, and that is all that nobody can do.
    assert {what for what, _ in fails} == {"HTTP event stream, modern"}
    assert all("FastMCP" in column for _, column in fails)
    assert len(table.sections) == 4


def test_a_driver_tells_what_it_cannot_do_and_goes_on(bench: Bench) -> None:
    for name in (OURS, BARE, SDK):
        driver = bench.alone(name)
        try:
            with pytest.raises(DriverError):
                driver.ask(do="connect", name="gone", transport={"url": "http://127.0.0.1:1/json/modern"}, era="modern")
            _one_call(bench, driver)
        finally:
            driver.close()


def _one_call(bench: Bench, driver: Driver) -> None:
    driver.ask(do="connect", name="s", transport=bench.stdio("legacy"), era="legacy")
    assert driver.measure(do="calls", name="s", count=1).calls == 1


def test_figures_go_into_the_document_between_the_markers(tmp_path: Path) -> None:
    document = tmp_path / "README.md"
    document.write_text(f"before\n{BEGIN}\nold\n{END}\nafter\n", "utf-8")
    table = Table()
    table.section("a thing", "ms", "wall / other")
    table.row("good", {"ms": 0.1234, "wall / other": 2.0}, ms=Bar(1))
    table.row("bad", {"ms": 1234.5, "wall / other": None}, ms=Bar(1), wall___other=Bar(3, least=True))
    table.write_into(document)
    text = document.read_text("utf-8")
    assert text.startswith(f"before\n{BEGIN}\n")
    assert text.endswith(f"\n{END}\nafter\n")
    assert "old" not in text
    assert "| good | 0.12 (≤ 1) | 2 |" in text
    assert "| bad | 1 234 (≤ 1, missed) | fails (≥ 3, missed) |" in text
    assert [line.partition(":")[0] for line in table.missed()] == ["a thing, bad", "a thing, bad"]
    assert json.loads(table.as_json())["sections"][0]["rows"][0]["values"]["ms"] == pytest.approx(0.1234)


@pytest.mark.parametrize(
    ("value", "text"), [(0, "0"), (0.0012, "0.001"), (0.5, "0.50"), (12.34, "12.3"), (999.9, "1000"), (54321, "54 321")]
)
def test_a_figure_shows_the_digits_that_count(value: float, text: str) -> None:
    assert number(value) == text
