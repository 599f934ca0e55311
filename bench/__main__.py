"""Run the workbench: `python -m bench [--quick] [--only PART] [--json FILE] [--readme FILE]`."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from bench import calls, life
from bench.calls import Effort
from bench.clients import BARE, OURS, SDK, Bench
from bench.table import Table

PARTS = ("hop", "calls", "lives", "starts", "memory", "large", "loop")
FULL = Effort(seconds=0.3, turns=5, whole=True)
QUICK = Effort(seconds=0.15, turns=3, whole=False)


def measure(bench: Bench, table: Table, effort: Effort, parts: list[str]) -> None:
    """Measure the parts that are asked for."""
    if "hop" in parts:
        calls.hop(bench, table, effort)
    if {"calls", "lives", "large"} & set(parts):
        drivers = {name: bench.driver(name) for name in (OURS, BARE, SDK)}
        for part in ("calls", "lives", "large"):
            if part in parts:
                getattr(calls, part)(bench, table, effort, drivers)
        for driver in drivers.values():
            driver.close()
    for part in ("starts", "memory", "loop"):
        if part in parts:
            getattr(life, part)(bench, table, effort)


def main() -> None:
    """Measure, print, and write what was asked for."""
    parser = argparse.ArgumentParser(prog="python -m bench", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="fewer cases and turns: under two minutes")
    parser.add_argument("--only", choices=PARTS, action="append", help="only this part")
    parser.add_argument("--json", type=Path, help="write the figures here")
    parser.add_argument("--readme", type=Path, help="put the tables between the markers of this document")
    words = parser.parse_args()
    table = Table()
    with Bench() as bench:
        measure(bench, table, QUICK if words.quick else FULL, words.only or list(PARTS))
    if words.json is not None:
        words.json.write_text(table.as_json(), "utf-8")
    if words.readme is not None:
        table.write_into(words.readme)
    for line in table.missed():
        print("missed:", line, file=sys.stderr)


if __name__ == "__main__":
    main()
