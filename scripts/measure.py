#!/usr/bin/env python3
"""Measure the figures of the README and print them as a table; nothing here is a test.

`.venv/bin/python scripts/measure.py [--quick]`. Medians, on an otherwise idle machine; the limits are for two cores.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from tests.harness import PROGRAM, ROOT, Sidecar
from tests.programs import Program, fast_stdio, raw

MB = 1_000_000
TEN = 10 * MB
EIGHTY = 80 * MB
MIB = 1 << 20
LIMITS = {"maxFrameBytes": 256 * MIB}
HELLO = {"protocolVersion": 1, "host": {"name": "measure", "version": "1"}, "limits": LIMITS}
ROWS: list[tuple[str, float, str, float | None]] = []


def row(what: str, value: float, unit: str, limit: float | None = None) -> None:
    """Print one line of the table."""
    ROWS.append((what, value, unit, limit))
    verdict = "" if limit is None else f"<= {limit:g} {unit:4} {'ok' if value <= limit else 'MISSED'}"
    print(f"{what:66} {value:9.3f} {unit:4} {verdict}", flush=True)


def median(times: int, measure: Callable[[], float]) -> float:
    """Return the median of repeated measurements."""
    return statistics.median(measure() for _ in range(times))


def first_ping() -> float:
    """Return the seconds from exec to the answer of the first ping."""
    began = time.monotonic()
    with subprocess.Popen(PROGRAM, stdin=subprocess.PIPE, stdout=subprocess.PIPE, cwd=ROOT, bufsize=0) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        process.stdin.write(b'{"jsonrpc":"2.0","id":1,"method":"ping"}\n')
        process.stdout.read(10)
        took = time.monotonic() - began
        process.stdin.close()
    return took


def first_ready(transport: dict[str, object]) -> float:
    """Return the seconds from exec to the first ready connection."""
    began = time.monotonic()
    with Sidecar() as sidecar:
        key = sidecar.request("servers/connect", {"server": "s", "transport": transport})
        return sidecar.answer(key).at - began


def child_start() -> float:
    """Return the seconds that the FastMCP child needs by itself for its first answer."""
    hello = {"protocolVersion": "2025-11-25", "capabilities": {}, "clientInfo": {"name": "m", "version": "1"}}
    line = json.dumps({"jsonrpc": "2.0", "id": 1, "method": "initialize", "params": hello}).encode() + b"\n"
    began = time.monotonic()
    command = [sys.executable, "-m", "tests.servers.stdio_server"]
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, cwd=ROOT, bufsize=0
    ) as child:
        assert child.stdin is not None
        assert child.stdout is not None
        child.stdin.write(line)
        child.stdout.read(10)
        took = time.monotonic() - began
        child.stdin.close()
    return took


def memory() -> float:
    """Return the memory of a process with the engine loaded and no connection, in MB."""
    with Sidecar() as sidecar:
        sidecar.connect("s", raw())
        sidecar.call("servers/disconnect", {"server": "s"})
        return sidecar.rss() / MB


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


def big(sidecar: Sidecar, server: str, size: int) -> float:
    """Return the seconds from the request of a big result to the end of its line."""
    began = time.monotonic()
    key = sidecar.start_tool(server, "big", {"size": size})
    took = sidecar.answer(key, 60).at - began
    sidecar.answers.clear()
    sidecar.order.clear()
    sidecar.lines.clear()
    return took


def bigs(raw_http: Program, times: int, folder: Path) -> None:
    """Measure big results over stdio, a JSON body and an event stream."""
    (folder / "sitecustomize.py").write_text(PROBE)
    stalls = folder / "stalls"
    with Sidecar(env={"PYTHONPATH": str(folder), "STALLS": str(stalls)}) as sidecar:
        sidecar.call("initialize", HELLO)
        limits = {"maxResultBytes": 200 * MIB}
        stdio = raw(*(option for size in (TEN, EIGHTY // 2, EIGHTY) for option in ("--prepare", str(size))))
        paths = {"a JSON body": "/json/legacy/m", "an event stream": "/stream/legacy/m"}
        transports = {"stdio": stdio} | {kind: raw_http.http(path) for kind, path in paths.items()}
        for kind, transport in transports.items():
            server = kind.replace(" ", "-")
            sidecar.connect(server, transport, limits=limits)
            big(sidecar, server, TEN)
            stalls.write_text("")
            row(f"10 MB over {kind}, end to end", median(times, partial(big, sidecar, server, TEN)), "s", 0.5)
            found = [tuple(map(float, line.split())) for line in stalls.read_text().splitlines()]
            wall, cpu = (max((pair[index] for pair in found), default=0.0) * 1000 for index in (0, 1))
            row(f"10 MB over {kind}, longest stall of the loop in {times} calls", wall, "ms", 50)
            row("    of that kind, in processor time (what a busy machine cannot change)", cpu, "ms")
        half = median(3, partial(big, sidecar, "stdio", EIGHTY // 2))
        whole = median(3, partial(big, sidecar, "stdio", EIGHTY))
        row("80 MB over stdio, end to end", whole, "s")
        row("80 MB against twice 40 MB over stdio (1 is linear)", whole / (2 * half), "", 1.3)


def p99(sidecar: Sidecar, calls: int) -> float:
    """Return the 99th percentile of calls one after the other, in ms."""
    taken = []
    for _ in range(calls):
        before = time.monotonic()
        taken.append(sidecar.answer(sidecar.start_tool("free", "echo")).at - before)
    sidecar.answers.clear()
    sidecar.order.clear()
    sidecar.lines.clear()
    return sorted(taken)[int(calls * 0.99)] * 1000


def blocked(calls: int) -> None:
    """Compare calls to one server while another's call hangs, in interleaved pairs."""
    rises = []
    with Sidecar() as sidecar:
        sidecar.connect("free", raw())
        sidecar.connect("blocked", raw())
        p99(sidecar, 200)
        for _ in range(5):
            alone = p99(sidecar, calls)
            key = sidecar.start_tool("blocked", "silent", timeoutMs=30_000)
            beside = p99(sidecar, calls)
            sidecar.cancel(key)
            sidecar.answer(key)
            rises.append(beside - alone)
    row("one blocked call: rise of another server's p99, median of 5 pairs", statistics.median(rises), "ms", 5)


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="fewer repetitions")
    quick = parser.parse_args().quick
    times = 3 if quick else 10
    first_ping()
    row("first ping after exec", median(times, first_ping), "s", 0.15)
    with Program("modern_http") as modern, Program("raw_http") as raw_http:
        row("first ready to a running HTTP server", median(times, lambda: first_ready(modern.http())), "s", 1.2)
        own = median(times, child_start)
        row("the FastMCP child's own start", own, "s")
        row(
            "first ready to that child over stdio", median(times, lambda: first_ready(fast_stdio())), "s", 1.5 + own / 2
        )
        row("memory with the engine and no connection", median(3, memory), "MB", 95)
        with tempfile.TemporaryDirectory() as folder:
            bigs(raw_http, times, Path(folder))
    blocked(200 if quick else 2000)
    sys.exit(any(limit is not None and value > limit for _, value, _, limit in ROWS))


if __name__ == "__main__":
    main()
