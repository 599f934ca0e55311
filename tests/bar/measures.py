"""Each function measures one line of the bar at a given size, and returns what it found beside its limit."""

from __future__ import annotations

import base64
import contextlib
import shutil
import statistics
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.answers import Answer, Json
from tests.harness import PROGRAM, Sidecar
from tests.neighbour import FEWEST, Neighbour
from tests.programs import Program, journal, raw

MB = 1_000_000
MIB = 1 << 20


@dataclass(frozen=True)
class Row:
    """One figure of the table."""

    line: int
    what: str
    value: float
    limit: float
    unit: str

    @property
    def ok(self) -> bool:
        """Whether the bar holds."""
        return self.value <= self.limit

    def __str__(self) -> str:
        """Say it in words."""
        return f"{self.line}. {self.what}: {self.value:g} {self.unit} (at most {self.limit:g})"


def forget(sidecar: Sidecar) -> None:
    """Drop what the harness has kept of the conversation."""
    sidecar.answers.clear()
    sidecar.order.clear()
    sidecar.lines.clear()
    sidecar.calls.clear()


def sigkills(times: int) -> Iterator[Row]:
    """Kill a child in the middle of calls, again and again (line 9)."""
    failed, back = [], []
    with Sidecar() as sidecar:
        sidecar.connect("s", raw())
        for _ in range(times):
            waiting = sidecar.start_tool("s", "silent")
            assert sidecar.tool("s", "echo").result
            began = time.monotonic()
            killed = sidecar.start_tool("s", "kill")
            for key in (waiting, killed):
                answer = sidecar.answer(key)
                answer.is_error(1107, signal="SIGKILL", delivered="maybe")
                failed.append(answer.at - began)
            began = time.monotonic()
            answer = sidecar.tool("s", "echo")
            assert answer.result
            back.append(answer.at - began)
            forget(sidecar)
    yield Row(9, f"SIGKILL in mid-call, {times} times: the last call failed after", max(failed), 0.5, "s")
    yield Row(9, "the next call was answered after", max(back), 2.0, "s")


NOTE = b'{"jsonrpc":"2.0","method":"notifications/message","params":{"level":"info","data":"x"}}'


def floods(scale: float) -> Iterator[Row]:
    """Flood from a child's stderr and stdout (line 12), beside a neighbour (line 54)."""
    lines = max(1000, int(1_000_000 * scale) // 1000 * 1000)
    kinds: tuple[tuple[str, str, Json], ...] = (
        (f"{200 * scale:g} MB of stderr", "stderr", {"size": int(200 * MB * scale)}),
        (f"{lines} garbage lines", "noise", {"line": base64.b64encode(b"this is no JSON").decode(), "count": lines}),
        (f"{lines} notifications", "noise", {"line": base64.b64encode(NOTE).decode(), "count": lines}),
        (f"{int(50_000 * scale)} pings", "pings", {"count": int(50_000 * scale)}),
    )
    for what, tool, arguments in kinds:
        with Sidecar() as sidecar:
            sidecar.connect("s", raw())
            other = Neighbour(sidecar, "neighbour")
            base = sidecar.rss()
            key = sidecar.start_tool("s", tool, arguments, timeoutMs=600_000)
            peak = base
            while key not in sidecar.answers or len(other.taken) < FEWEST:
                other.call()
                peak = max(peak, sidecar.rss())
                if len(sidecar.lines) > 5000:
                    done = sidecar.answers.get(key)
                    forget(sidecar)
                    if done is not None:
                        sidecar.answers[key] = done
            assert sidecar.answer(key).result
            assert sidecar.tool("s", "echo").result
            yield Row(12, f"{what}: memory rose by", (peak - base) / MIB, 64, "MiB")
            yield Row(12, f"{what}: bytes of log", len(sidecar.stderr) / MIB, 1, "MiB")
            yield Row(54, f"{what}: p99 of another tenant's calls", other.p99 * 1000, 250, "ms")


def big_line(size: int) -> Iterator[Row]:
    """Have a child write one line far over the cap (lines 13 and 54)."""
    with Sidecar() as sidecar:
        sidecar.connect("s", raw())
        other = Neighbour(sidecar, "neighbour")
        base = peak = sidecar.rss()
        began = time.monotonic()
        key = sidecar.start_tool("s", "long_line", {"size": size})
        while key not in sidecar.answers or len(other.taken) < FEWEST:
            other.call()
            peak = max(peak, sidecar.rss())
        answer = sidecar.answer(key)
        answer.is_error(1006, delivered="yes")
        assert sidecar.tool("s", "echo").result
    yield Row(13, f"a line of {size // MB} MB: 1006 after", answer.at - began, 3.0, "s")
    yield Row(13, "memory rose by", (peak - base) / MIB, 64, "MiB")
    yield Row(54, f"a line of {size // MB} MB: p99 of another tenant's calls", other.p99 * 1000, 250, "ms")


def never_ready(seconds: float | None) -> Iterator[Row]:
    """Connect a program that is no server (line 16); None is the default of 30 s."""
    with Sidecar() as sidecar:
        more: Json = {} if seconds is None else {"timeouts": {"connectMs": int(seconds * 1000)}}
        sidecar.connect("loads-the-engine", raw())
        transport = {"type": "stdio", "command": "/bin/sleep", "args": ["600"]}
        began = time.monotonic()
        key = sidecar.request("servers/connect", {"server": "s", "transport": transport, "timeoutMs": 60_000, **more})
        answer = sidecar.answer(key, 60)
        answer.is_error(1005, phase="connect")
    yield Row(16, "a program that never answers: 1005 after", answer.at - began, (seconds or 30) + 0.3, "s")


def drops(calls: int, times: int) -> Iterator[Row]:
    """Cut the streams of calls again and again (line 19)."""
    with Program("raw_streams") as program, Sidecar() as sidecar:
        sidecar.connect("s", program.http("/mcp/drops"))
        assert sidecar.tool("s", "echo").result
        base, descriptors = sidecar.rss(), sidecar.handle.num_fds()
        arguments = {"times": times - 1, "retry": 0}
        keys = [sidecar.start_tool("s", "drop", arguments, timeoutMs=600_000) for _ in range(calls)]
        began = time.monotonic()
        assert all(sidecar.answer(key, 600).result for key in keys)
        seen = [entry for entry in program.get("/seen?key=drops") if entry["what"] == "GET" and entry["last"]]
        rate = max(
            sum(entry["last"].startswith(f"call-{number}/") for entry in seen) for number in range(2, calls + 2)
        ) / (time.monotonic() - began)
        rise = (sidecar.rss() - base) / MIB
        left = sidecar.handle.num_fds() - descriptors
    yield Row(19, f"{calls * times} cut streams: requests a second of one call, with retry: 0", rate, 5, "/s")
    yield Row(19, "memory rose by", rise, 16, "MiB")
    yield Row(19, "descriptors left but 64 idle connections", max(0, left - 64), 0, "")


def tenants(calls: int) -> Iterator[Row]:
    """Have two tenants call the same URL at once, each with words of its own (line 42)."""
    foreign = 0
    with Program("raw_http") as program, Sidecar() as sidecar:
        scopes = [{"tenant": "a"}, {"tenant": "b"}]
        for scope in scopes:
            sidecar.connect("s", program.http("/stream/legacy/tenants"), scope=scope)
        sidecar.connect("own", program.http("/stream/legacy/tenants"), scope=scopes[0])
        keys: dict[Any, str] = {}
        for number in range(calls):
            for scope in scopes:
                nonce = f"{scope['tenant']}-{number}"
                keys[sidecar.start_tool("s", "echo", {"nonce": nonce}, scope=scope)] = nonce
            if number % 200 == 199:
                foreign += _foreign(sidecar, keys)
        foreign += _foreign(sidecar, keys)
        sidecar.tool("own", "echo", scope=scopes[1]).is_error(1101)
    yield Row(42, f"2 x {calls} calls of two tenants: words of the other's", foreign, 0, "")


def _foreign(sidecar: Sidecar, keys: dict[Any, str]) -> int:
    found = 0
    for key, nonce in keys.items():
        got: Answer = sidecar.answer(key)
        found += got.result["structuredContent"]["params"]["arguments"]["nonce"] != nonce
    keys.clear()
    forget(sidecar)
    return found


def connections(count: int) -> Iterator[Row]:
    """Open many HTTP connections, use each, close them (line 52)."""
    with Program("raw_http") as program, Sidecar() as sidecar:
        sidecar.connect("first", program.http("/json/legacy/many"))
        assert sidecar.tool("first", "echo").result
        base, descriptors = sidecar.rss(), sidecar.handle.num_fds()
        opened = _timed(
            sidecar,
            [
                ("servers/connect", {"server": f"s{number}", "transport": program.http("/json/legacy/many")})
                for number in range(count)
            ],
        )
        rise = (sidecar.rss() - base) / MB
        called = _timed(
            sidecar,
            [("tools/call", {"server": f"s{number}", "name": "echo", "arguments": {}}) for number in range(count)],
        )
        rise = max(rise, (sidecar.rss() - base) / MB)
        closed = _timed(sidecar, [("servers/disconnect", {"server": f"s{number}"}) for number in range(count)])
        assert sidecar.tool("first", "echo").result
        left = sidecar.handle.num_fds() - descriptors
    per = count / 1000
    yield Row(52, f"{count} connections: opened in", opened, 15 * per, "s")
    yield Row(52, "memory rose by", rise, 150 * per, "MB")
    yield Row(52, "one call on each in", called, 8 * per, "s")
    yield Row(52, "closed in", closed, 5 * per, "s")
    yield Row(52, "descriptors left", max(0, left), 0, "")


def addresses(count: int) -> Iterator[Row]:
    """Connect many addresses inside a memory budget that cannot hold them all, and use each twice."""
    with Program("raw_http") as program, Sidecar() as sidecar:
        budget = 120 * MB
        hello = {"protocolVersion": 1, "host": {"name": "bar", "version": "1"}, "limits": {"memoryBudgetBytes": budget}}
        assert sidecar.call("initialize", hello).result
        peak = 0
        for number in range(count):
            sidecar.connect(f"s{number}", program.http("/json/modern/addresses"))
            if number % 100 == 0:
                peak = max(peak, sidecar.rss())
                forget(sidecar)
        for number in range(0, count, 7):
            assert sidecar.tool(f"s{number}", "echo").result
            if number % 100 == 0:
                peak = max(peak, sidecar.rss())
                forget(sidecar)
    yield Row(
        52, f"{count} addresses in a budget of {budget // MB} MB: memory at most", peak / MB, budget / MB + 16, "MB"
    )


def _timed(sidecar: Sidecar, requests: list[tuple[str, Json]]) -> float:
    began = time.monotonic()
    keys = [sidecar.request(*request) for request in requests]
    last = 0.0
    for key in keys:
        answer = sidecar.answer(key, 120)
        assert answer.result is not None
        last = max(last, answer.at)
    forget(sidecar)
    return last - began


def cycles(count: int) -> Iterator[Row]:
    """Connect and disconnect again and again (line 53)."""
    with Program("raw_http") as program, Sidecar() as sidecar:
        transports = (program.http("/json/legacy/cycles"), raw())

        def cycle(number: int) -> None:
            sidecar.connect("s", transports[number % 2])
            assert sidecar.tool("s", "echo").result
            assert sidecar.call("servers/disconnect", {"server": "s"}).result == {}
            forget(sidecar)

        for number in range(20):
            cycle(number)
        base, descriptors = sidecar.rss(), sidecar.handle.num_fds()
        for number in range(count):
            cycle(number)
        rise = (sidecar.rss() - base) / MB
        left = sidecar.handle.num_fds() - descriptors
    yield Row(53, f"{count} connections made and closed: memory rose by", rise, 5, "MB")
    yield Row(53, "descriptors left", max(0, left), 0, "")


def calls(count: int) -> Iterator[Row]:
    """Make very many calls over stdio and HTTP (line 53)."""
    with Program("raw_http") as program, Sidecar() as sidecar:
        sidecar.connect("h", program.http("/json/modern/soak"))
        sidecar.connect("s", raw())
        descriptors = 0
        points: list[tuple[int, int]] = []
        batch = 200
        for done in range(0, count, batch):
            keys = [sidecar.start_tool("s" if number % 2 else "h", "echo") for number in range(batch)]
            assert all(sidecar.answer(key).result for key in keys)
            forget(sidecar)
            if done >= count // 5:  # after the warm-up
                points.append((done, sidecar.rss()))
                descriptors = descriptors or sidecar.handle.num_fds()
        left = sidecar.handle.num_fds() - descriptors
        with contextlib.suppress(OSError):
            program.get("/requests?key=nobody")
    slope = statistics.linear_regression([at for at, _ in points], [rss for _, rss in points]).slope * 100_000 / MB
    yield Row(53, f"{count} calls: memory rose for each 100 000 by", max(0.0, slope), 1, "MB")
    yield Row(53, "descriptors left", max(0, left), 0, "")


def descriptors(servers: int, limit: int = 100) -> Iterator[Row]:
    """Run out of descriptors, and recover (line 55)."""
    started = time.monotonic()
    with tempfile.TemporaryDirectory() as folder, Program("raw_http") as program:
        script = Path(folder) / "few"
        script.write_text(f'#!/bin/sh\nulimit -n {limit}\nexec "{PROGRAM[0]}" "$@"\n')
        script.chmod(0o755)
        with Sidecar(program=(str(script),)) as sidecar:
            good, refused = [], 0
            for number in range(servers):
                params = {"server": f"s{number}", "transport": program.http("/json/legacy/few")}
                answer = sidecar.call("servers/connect", params)
                if "result" in answer.body:
                    good.append(f"s{number}")
                else:
                    answer.is_error(1007, limit="openFiles", delivered="no", retry="after")
                    refused += 1
            assert good
            assert refused
            lost = sum("result" not in sidecar.tool(name, "echo").body for name in good[:10])
            for number in range(servers):
                sidecar.call("servers/disconnect", {"server": f"s{number}"})
            again = sidecar.connect("again", raw())
            assert sidecar.tool("again", "echo").result
            assert again["state"] == "ready"
    yield Row(55, f"{limit} descriptors, {servers} servers: open ones that were lost", lost, 0, "")
    yield Row(55, "refused with 1007, then all well again after", time.monotonic() - started, 60, "s")


def clocks() -> Iterator[Row]:
    """Run with a clock that is a day off, either way (line 56)."""
    program = shutil.which("faketime")
    assert program is not None, "faketime is not installed"
    worst = 0.0
    for shift in ("+1d", "-1d"):
        with Sidecar(program=(program, "-f", shift, *PROGRAM)) as sidecar:
            sidecar.connect("s", raw())
            for millis in (300, 1000):
                began = time.monotonic()
                answer = sidecar.tool("s", "silent", timeoutMs=millis)
                answer.is_error(1005, phase="wait")
                worst = max(worst, abs(answer.at - began - millis / 1000))
            assert sidecar.tool("s", "echo").result
    yield Row(56, "the clock a day off, either way: deadlines missed by", worst, 0.3, "s")


def executions(kills: int) -> Iterator[Row]:
    """Count how often calls ran while their server was killed (lines 9 and 46's rule for the sidecar's own servers)."""
    with tempfile.TemporaryDirectory() as folder, Sidecar() as sidecar:
        notes = Path(folder) / "journal"
        sidecar.connect("s", raw("--journal", str(notes)))
        for _ in range(kills):
            sidecar.tool("s", "kill").is_error(1107)
            assert sidecar.tool("s", "echo").result
        ran = journal(notes).count("call kill")
    yield Row(9, f"{kills} killed calls ran in all", ran, kills, "times")
