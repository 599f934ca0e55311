"""Starting, memory, and how one call bears on another."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from typing import Any

from bench.calls import MB, MILLI, Effort
from bench.clients import BARE, ERAS, OURS, ROOT, SDK, SIDECAR, Bench, Driver
from bench.table import Bar, Table, median, repeated

KB = 1000
TEN = 10 * MB
EIGHTY = 80 * MB
FASTMCP_SERVER = [sys.executable, "-m", "tests.servers.stdio_server"]


def first_ping() -> float:
    """Return the seconds from exec to the answer of the first ping."""
    began = time.monotonic()
    with subprocess.Popen(
        [str(SIDECAR)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, cwd=ROOT, bufsize=0
    ) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        process.stdin.write(b'{"jsonrpc":"2.0","id":1,"method":"ping"}\n')
        process.stdout.read(10)
        took = time.monotonic() - began
        process.stdin.close()
    return took


def first_ready(bench: Bench, name: str, transport: dict[str, Any], era: str) -> float:
    """Return the seconds from exec of a client's program to its first connection."""
    began = time.monotonic()
    driver = bench.alone(name)
    driver.ask(do="connect", name="s", transport=transport, era=era)
    took = time.monotonic() - began
    driver.close()
    return took


def child_start() -> float:
    """Return the seconds that a server written with FastMCP needs for its first answer."""
    hello = {"protocolVersion": "2025-11-25", "capabilities": {}, "clientInfo": {"name": "m", "version": "1"}}
    line = json.dumps({"jsonrpc": "2.0", "id": 1, "method": "initialize", "params": hello}).encode() + b"\n"
    began = time.monotonic()
    with subprocess.Popen(
        FASTMCP_SERVER, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, cwd=ROOT, bufsize=0
    ) as child:
        assert child.stdin is not None
        assert child.stdout is not None
        child.stdin.write(line)
        child.stdout.read(10)
        took = time.monotonic() - began
        child.stdin.close()
    return took


def starts(bench: Bench, table: Table, effort: Effort) -> None:
    """Measure from exec."""
    count = effort.turns
    table.section("from exec, s", "ours", "FastMCP", "Go SDK")
    first_ping()
    table.row("first `ping`", {"ours": repeated(2 * count, first_ping)}, ours=Bar(0.15))
    http = bench.http("json", "modern")
    ready = {
        column: repeated(count, lambda name=name: first_ready(bench, name, http, "modern"))  # type: ignore[misc]
        for column, name in (("ours", OURS), ("FastMCP", BARE), ("Go SDK", SDK))
    }
    table.row("first `ready` to a running HTTP server", ready, ours=Bar(1.2))
    own = repeated(count, child_start)
    fast = {"command": ["env", f"PYTHONPATH={ROOT}", *FASTMCP_SERVER]}
    took = repeated(count, lambda: first_ready(bench, OURS, fast, "auto"))
    what = f"first `ready` to a FastMCP child over stdio, its own start of {own:.1f} s included"
    table.row(what, {"ours": took}, ours=Bar(1.5 + own / 2))


def memory(bench: Bench, table: Table, effort: Effort) -> None:
    """Measure resident memory: with the engine and no connection, and for each idle connection."""
    table.section("memory and many connections", "base MB", "kB each", "all MB", "open s", "one call each s")
    for era in ERAS:
        bars = {"kb_each": Bar(100 if era == "modern" else 130)}
        whole = {"all_mb": Bar(150), "open_s": Bar(15), "one_call_each_s": Bar(8)}
        for count in (1, 100, 1000):
            taken = [_idle(bench, era, count) for _ in range(3 if count < 1000 and effort.whole else 1)]
            values = {column: median(each[column] for each in taken) for column in taken[0]}
            limits = {} if count == 1 else bars if count == 100 else bars | whole
            table.row(f"{count} over HTTP, {era}", values, base_mb=Bar(95), **limits)


def _idle(bench: Bench, era: str, count: int) -> dict[str, float]:
    driver = bench.alone(OURS)
    where = {"transport": bench.http("json", era), "era": era}
    # The first connection loads what all share.
    driver.ask(do="connect", name="first", **where)
    driver.ask(do="calls", name="first", count=1)
    driver.ask(do="disconnect", name="first")
    base = driver.rss("sidecar")
    opened = driver.ask(do="open", name="i", count=count, flight=64, **where)
    grown = driver.rss("sidecar") - base
    called = driver.ask(do="each", name="i", count=count, flight=64)
    driver.ask(do="shut", name="i", count=count, flight=64)
    driver.close()
    return {
        "base MB": base / MB,
        "kB each": grown / count / KB,
        "all MB": grown / MB,
        "open s": opened["wall"],
        "one call each s": called["wall"],
    }


PROBE = """
import asyncio.events, os, time
run, fd = asyncio.events.Handle._run, os.open(os.environ["STALLS"], os.O_WRONLY | os.O_CREAT | os.O_APPEND)
def timed(handle):
    began, cpu = time.perf_counter(), time.thread_time()
    run(handle)
    took = time.perf_counter() - began
    if took > 0.002:
        os.write(fd, b"%f %f\\n" % (took, time.thread_time() - cpu))
asyncio.events.Handle._run = timed
"""
"""Notes how long each callback of the loop holds it, from inside the process."""


def loop(bench: Bench, table: Table, effort: Effort) -> None:
    """Measure how one call bears on another: stalls of the loop, growth with size, a blocked server."""
    table.section("one call beside another", "value")
    stalls = bench.folder / "stalls"
    probe = bench.folder / "probe"
    probe.mkdir(exist_ok=True)
    (probe / "sitecustomize.py").write_text(PROBE)
    environment = {"PYTHONPATH": f"{probe}:{os.environ.get('PYTHONPATH', '')}", "STALLS": str(stalls)}
    driver = bench.alone(OURS, environment)
    for kind in ("stdio", "json", "stream"):
        where = bench.stdio("modern") if kind == "stdio" else bench.http(kind, "modern")
        driver.ask(do="connect", name=kind, transport=where, era="modern")
        driver.ask(do="big", name=kind, size=TEN, count=1)
        stalls.write_text("")
        driver.ask(do="big", name=kind, size=TEN, count=effort.turns)
        found = [tuple(map(float, line.split())) for line in stalls.read_text().splitlines()]
        held = max((cpu for _, cpu in found), default=0.0) * MILLI
        table.row(f"10 MB over {kind}: longest hold of the loop, ms of processor time", {"value": held}, value=Bar(50))
    half, whole = (_big(driver, size) for size in (EIGHTY // 2, EIGHTY))
    table.row("80 MB over stdio against twice 40 MB (1 is linear)", {"value": whole / (2 * half)}, value=Bar(1.3))
    driver.close()
    table.row("rise of another server's p99 beside a blocked call, ms", {"value": _rise(bench, effort)}, value=Bar(5))


def _big(driver: Driver, size: int) -> float:
    driver.ask(do="big", name="stdio", size=size, count=1)
    return median(driver.measure(do="big", name="stdio", size=size, count=1).wall for _ in range(3))


def _rise(bench: Bench, effort: Effort) -> float:
    driver = bench.alone(OURS)
    for name in ("free", "blocked"):
        driver.ask(do="connect", name=name, transport=bench.stdio("modern"), era="modern")
    count = 2000 if effort.whole else 500
    rises = []
    driver.ask(do="calls", name="free", count=200)
    for _ in range(5):
        alone = driver.measure(do="calls", name="free", count=count).p99
        driver.ask(do="block", name="blocked")
        beside = driver.measure(do="calls", name="free", count=count).p99
        driver.ask(do="unblock")
        rises.append(beside - alone)
    driver.close()
    return median(rises) * MILLI
