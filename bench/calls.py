"""The hop, calls through it, whole lives of connections, and large results; clients take turns, ratios are of turns."""

from __future__ import annotations

import itertools
from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from bench.clients import BARE, ERAS, OURS, SDK, Bench, Driver, DriverError, Figures
from bench.table import Bar, Table, median

MICRO = 1e6
MILLI = 1e3
MB = 1_000_000
CALLS = ("stdio", "json", "stream")
NAMES = {"stdio": "stdio", "json": "HTTP JSON", "stream": "HTTP event stream"}

Turns = dict[str, list[Figures]]


@dataclass(frozen=True)
class Effort:
    """How much is measured: seconds of a turn, turns, and whether every case is."""

    seconds: float
    turns: int
    whole: bool


def transport(bench: Bench, kind: str, era: str, *, tls: bool = False) -> dict[str, Any]:
    """Return where the cheap server of that kind is."""
    return bench.stdio(era) if kind == "stdio" else bench.http(kind, era, tls=tls)


def hop(bench: Bench, table: Table, effort: Effort) -> None:
    """Measure `ping` between the Go client and the sidecar."""
    table.section("the hop: `ping` with a payload", "p50 ms", "p99 ms", "round trips/s", "Python CPU µs", "Go CPU µs")
    driver = bench.driver(OURS)
    driver.ask(do="ping", seconds=0.2, flight=8)
    bars = {1000: {"p50_ms": Bar(0.2)}, 10 * MB: {"p50_ms": Bar(300)}}
    for size in (100, 1000, 100_000, MB, 10 * MB):
        most = {"count": 5 * effort.turns} if size == 10 * MB else {"seconds": effort.seconds * effort.turns}
        _hop_row(
            table, f"{size:,} bytes".replace(",", " "), driver.measure(do="ping", size=size, **most), bars.get(size, {})
        )
    taken = driver.measure(do="ping", flight=64, seconds=effort.seconds * effort.turns)
    _hop_row(table, "64 in flight, no payload", taken, {"round_trips_s": Bar(25_000, least=True)})
    driver.close()


def _hop_row(table: Table, what: str, taken: Figures, bars: Mapping[str, Bar]) -> None:
    values = {
        "p50 ms": taken.p50 * MILLI,
        "p99 ms": taken.p99 * MILLI,
        "round trips/s": taken.calls / taken.wall,
        "Python CPU µs": taken.cpu["sidecar"] / taken.calls * MICRO,
        "Go CPU µs": taken.cpu["client"] / taken.calls * MICRO,
    }
    table.row(what, values, **bars)


def in_turn(drivers: Mapping[str, Driver], turns: int, **command: Any) -> Turns:
    """Let each client do the same, one after the other and again; one that fails drops out."""
    taken: Turns = defaultdict(list)
    names = list(drivers)
    failed: set[str] = set()
    for turn in range(turns):
        for name in names[turn % len(names) :] + names[: turn % len(names)]:
            if name in failed:
                continue
            try:
                taken[name].append(drivers[name].measure(**command))
            except DriverError:
                failed.add(name)
                taken.pop(name, None)
    return taken


def wall(taken: Turns, name: str) -> float | None:
    """Return the median wall time of one call."""
    return median(figures.per_call for figures in taken[name]) if name in taken else None


def cpu(taken: Turns, name: str) -> float | None:
    """Return the median processor time of one call: ours is the sidecar's, the hop included."""
    if name not in taken:
        return None
    process = "sidecar" if name == OURS else "client"
    return median(figures.cpu[process] / figures.calls for figures in taken[name])


def ratio(taken: Turns, other: str, *, of_cpu: bool = False) -> float | None:
    """Return the median over the turns of ours against another's."""
    if OURS not in taken or other not in taken:
        return None
    pairs = zip(taken[OURS], taken[other], strict=True)
    if of_cpu:
        return median((a.cpu["sidecar"] / a.calls) / (b.cpu["client"] / b.calls) for a, b in pairs)
    return median(a.per_call / b.per_call for a, b in pairs)


CLIENTS = (OURS, BARE, SDK)
RATIOS = ("CPU / FastMCP", "wall / FastMCP", "wall / Go SDK")
COLUMNS = ("ours", "FastMCP", "Go SDK", "CPU ours", "CPU FastMCP", "CPU Go SDK", *RATIOS)


def compared(taken: Turns, unit: float) -> dict[str, float | None]:
    """Return the columns of a comparison."""
    times = [wall(taken, name) for name in CLIENTS] + [cpu(taken, name) for name in CLIENTS]
    ratios = [ratio(taken, BARE, of_cpu=True), ratio(taken, BARE), ratio(taken, SDK)]
    scaled = [None if time is None else time * unit for time in times]
    return dict(zip(COLUMNS, scaled + ratios, strict=True))


def calls(bench: Bench, table: Table, effort: Effort, drivers: Mapping[str, Driver]) -> None:
    """Compare small calls."""
    table.section("`tools/call`, µs a call", *COLUMNS)
    for kind, era, tls in itertools.product(CALLS, ERAS, (False, True)):
        if (tls and kind == "stdio") or (not effort.whole and (tls or era == "legacy")):
            continue
        for driver in drivers.values():
            driver.ask(do="connect", name="s", transport=transport(bench, kind, era, tls=tls), era=era)
            driver.ask(do="calls", name="s", seconds=effort.seconds / 4, flight=4)
        for flight in (1, 16, 64):
            taken = in_turn(drivers, effort.turns, do="calls", name="s", seconds=effort.seconds, flight=flight)
            what = f"{NAMES[kind]}{' over TLS' if tls else ''}, {era}, {flight} in flight"
            table.row(what, compared(taken, MICRO), **_call_bars(kind, flight, tls=tls))
        for driver in drivers.values():
            driver.ask(do="disconnect", name="s")


def _call_bars(kind: str, flight: int, *, tls: bool) -> dict[str, Bar]:
    limits = {("stdio", 1): 1.15, ("stdio", 16): 0.95, ("json", 1): 1.0, ("json", 16): 1.0, ("json", 64): 1.0}
    limit = None if tls else limits.get((kind, flight))
    return {} if limit is None else {"cpu___fastmcp": Bar(limit)}


def lives(bench: Bench, table: Table, effort: Effort, drivers: Mapping[str, Driver]) -> None:
    """Compare whole lives of a connection; bare FastMCP shares one TLS context over all of them."""
    table.section("connect + call + close, ms", *COLUMNS)
    for kind in ("stdio", "json"):
        for era in ERAS:
            for tls in (False, True) if kind == "json" and effort.whole else (False,):
                command = {"transport": transport(bench, kind, era, tls=tls), "era": era}
                in_turn(drivers, 1, do="cycle", name="l", count=3, **command)
                taken = in_turn(drivers, effort.turns, do="cycle", name="l", seconds=2 * effort.seconds, **command)
                what = f"{NAMES[kind]}{' over TLS' if tls else ''}, {era}"
                bars = {"wall___fastmcp": Bar(1.3)} if kind == "json" else {}
                table.row(what, compared(taken, MILLI), **bars)


def large(bench: Bench, table: Table, effort: Effort, drivers: Mapping[str, Driver]) -> None:
    """Compare a structured result of 10 MB: ours arrives as bytes, the others decode it."""
    table.section("a structured result of 10 MB, ms", *COLUMNS)
    for kind in CALLS:
        for era in ERAS if effort.whole else ERAS[1:]:
            for driver in drivers.values():
                driver.ask(do="connect", name="b", transport=transport(bench, kind, era), era=era)
            one = {"do": "big", "name": "b", "size": 10 * MB}
            in_turn(drivers, 1, **one, count=1)
            count = 3 if effort.whole else 1
            taken = in_turn(drivers, effort.turns, **one, count=count)
            table.row(f"{NAMES[kind]}, {era}", compared(taken, MILLI), wall___go_sdk=Bar(0.5))
            if kind == "json":
                both = {name: drivers[name] for name in (OURS, SDK)}
                taken = in_turn(both, effort.turns, **one, count=count, decode=True)
                values = {name: value for name, value in compared(taken, MILLI).items() if "FastMCP" not in name}
                table.row(f"{NAMES[kind]}, {era}, decoded to maps by ours too", values)
            for driver in drivers.values():
                driver.ask(do="disconnect", name="b")
