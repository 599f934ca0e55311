"""`make soak`: measure the whole bar at full size, print it as a table, and write docs/bar.md.

`python -m tests.bar [--quick] [--only NAME]`; an hour at full size. Lines that are a matter of right or wrong are the
tests named beside them.
"""

from __future__ import annotations

import argparse
import datetime
import itertools
import os
import shlex
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from functools import partial

from tests.bar import measures
from tests.bar.measures import MB, Row
from tests.harness import ROOT

PAGE = ROOT / "docs" / "bar.md"

FULL: dict[str, Callable[[], Iterator[Row]]] = {
    "sigkills": partial(measures.sigkills, 100),
    "executions": partial(measures.executions, 50),
    "floods": partial(measures.floods, 1.0),
    "big-line": partial(measures.big_line, 100 * MB),
    "never-ready": partial(measures.never_ready, None),
    "drops": partial(measures.drops, 40, 25),
    "tenants": partial(measures.tenants, 2000),
    "connections": partial(measures.connections, 1000),
    "addresses": partial(measures.addresses, 10_000),
    "cycles": partial(measures.cycles, 300),
    "descriptors": partial(measures.descriptors, 150),
    "clocks": measures.clocks,
    "calls": partial(measures.calls, 1_000_000),
}
PYTEST: tuple[tuple[str, str, str], ...] = (
    (
        "10",
        "bad bytes of a child",
        "tests/stdio/test_faults.py tests/faults/test_table.py -k 'stdio or answer or line'",
    ),
    ("11", "a child that stops reading", "tests/stdio/test_faults.py -k 'stops_reading or recycled'"),
    ("14", "heirs of a child's pipe", "tests/stdio tests/faults/test_table.py -k heir"),
    ("15", "environment and descriptors of a child", "tests/stdio/test_spawn.py -k 'safe_variables or unaltered'"),
    ("17", "statuses and Retry-After", "tests/http/test_faults.py -k 'status or retry_after'"),
    ("18", "one of twenty calls breaks", "tests/http/test_faults.py -k twenty"),
    ("19", "resumption, retry, standalone streams", "tests/http/test_streams.py"),
    ("20", "a session that is gone", "tests/http -k 'session'"),
    ("21", "sizes and bombs", "tests/http/test_caps.py"),
    ("22", "answers with a foreign id", "tests/http/test_faults.py -k protocol"),
    ("23", "TLS, names, ports", "tests/http/test_connect.py -k 'certificate or resolve or refused or tls'"),
    ("43", "schemas that cost time", "tests/checks/test_results.py"),
    ("44", "tools that change", "tests/checks/test_pins.py tests/checks/test_definitions.py"),
    ("54", "floods beside a neighbour", "tests/load/test_fair.py tests/faults/test_mixed.py"),
)
GO: tuple[tuple[str, str, str], ...] = (
    ("45-51", "the Go host, its sidecar, and what dies of either", "go test -race -count=1 ./..."),
)


def measured(names: list[str]) -> Iterator[tuple[str, str, str, str, bool]]:
    """Yield the rows of the figures."""
    for name in names:
        began = time.monotonic()
        for row in FULL[name]():
            limit = f"{row.limit:g} {row.unit}".strip()
            value = f"{row.value:.3g} {row.unit}".strip()
            yield (str(row.line), row.what, value, limit, row.ok)
        print(f"    {name}: {time.monotonic() - began:.0f} s", file=sys.stderr, flush=True)


def tested() -> Iterator[tuple[str, str, str, str, bool]]:
    """Yield the rows of what is right or wrong."""
    for line, what, arguments in PYTEST:
        command = [sys.executable, "-m", "pytest", "-q", *shlex.split(arguments)]
        done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
        words = [text for text in done.stdout.splitlines() if " passed" in text or " failed" in text]
        found = words[-1] if words else "no result"
        yield (line, f"{what} (`pytest {arguments}`)", found, "all pass", not done.returncode)
    environment = {"MCP_SIDECAR_COMMAND": str(ROOT / ".venv/bin/mcp-sidecar")} | os.environ
    for line, what, text in GO:
        folder = ROOT / "go-client"
        failed = subprocess.call(shlex.split(text), cwd=folder, env=environment, stdout=subprocess.DEVNULL)
        yield (line, f"{what} (`cd go-client && {text}`)", "failed" if failed else "passed", "all pass", not failed)


HEAD = """# The bar

What must hold of connections, hostile servers and load, and what was measured. The figures are of one run of
`make soak` on two cores that other work shared; the same code runs at a smaller size in `make test`
(`tests/bar/test_bar.py`). A p99 is that of calls of another tenant, one after the other, while the fault goes on.

"""


def main() -> None:
    """Measure, print, and write the page."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--only", choices=FULL, action="append", help="measure this alone, and write nothing")
    only = parser.parse_args().only
    rows = []
    sources = [measured(only or list(FULL)), *([tested()] if only is None else [])]
    for row in itertools.chain(*sources):
        rows.append(row)
        print(" | ".join((*row[:4], "ok" if row[4] else "MISSED")), flush=True)
    if only is None:
        rows.sort(key=lambda row: int(row[0].partition("-")[0]))
        table = ["| line | what | measured | bar | holds |", "|---|---|---|---|---|"]
        table += [f"| {' | '.join(row[:4])} | {'yes' if row[4] else '**no**'} |" for row in rows]
        today = datetime.datetime.now(datetime.UTC).date().isoformat()
        PAGE.write_text(f"{HEAD}Measured on {today} with `make soak`.\n\n" + "\n".join(table) + "\n")
    sys.exit(not all(row[4] for row in rows))


if __name__ == "__main__":
    main()
