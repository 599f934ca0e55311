"""The programs of a run: the cheap servers, and the drivers of the three clients that are compared."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time
from contextlib import ExitStack
from pathlib import Path
from typing import IO, Any, NamedTuple, Self

import psutil

ROOT = Path(__file__).resolve().parents[1]
GO = ROOT / "bench" / "go"
SIDECAR = ROOT / ".venv" / "bin" / "mcp-sidecar"
OURS, BARE, SDK = "ours", "bare FastMCP", "Go SDK"
ERAS = ("legacy", "modern")


class DriverError(Exception):
    """A client cannot do what was asked; the figure says so."""


class Figures(NamedTuple):
    """What one command of a driver took: times in seconds, processor time by process."""

    calls: int
    wall: float
    p50: float
    p99: float
    cpu: dict[str, float]

    @property
    def per_call(self) -> float:
        """Wall time of one call, many in flight or not."""
        return self.wall / self.calls


def cpu_seconds(pid: int) -> float:
    """Return the processor time of a process and all its threads, to the nanosecond where the kernel tells."""
    try:
        return time.clock_gettime(~pid << 3 | 2)  # CPUCLOCK_SCHED of a process, see clock_getcpuclockid(3)
    except OSError:
        times = psutil.Process(pid).cpu_times()
        return float(times.user + times.system)


class Driver:
    """A client under measurement, driven by lines of JSON on its pipes."""

    def __init__(self, name: str, command: list[str], errors: IO[bytes], environment: dict[str, str]) -> None:
        """Start it; what it says goes to `errors`."""
        self.name = name
        self.process = subprocess.Popen(
            command,
            cwd=ROOT,
            env=os.environ | {"MCP_SIDECAR_COMMAND": str(SIDECAR)} | environment,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=errors,
        )
        self.pids: dict[str, int] = self.ask(do="pids")["pids"]

    def ask(self, **command: Any) -> dict[str, Any]:
        """Send one command and return its answer. Raises DriverError for an error."""
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.process.stdin.write(json.dumps(command).encode() + b"\n")
        self.process.stdin.flush()
        line = self.process.stdout.readline()
        if not line:
            raise DriverError(f"{self.name} has ended")
        answer: dict[str, Any] = json.loads(line)
        if "error" in answer:
            raise DriverError(f"{self.name}: {answer['error']}")
        return answer

    def measure(self, **command: Any) -> Figures:
        """Send one command and return what it took, and which processor time it cost."""
        before = {name: cpu_seconds(pid) for name, pid in self.pids.items()}
        answer = self.ask(**command)
        cpu = {name: cpu_seconds(pid) - before[name] for name, pid in self.pids.items()}
        return Figures(answer["calls"], answer["wall"], answer.get("p50", 0.0), answer.get("p99", 0.0), cpu)

    def rss(self, process: str) -> int:
        """Return the resident memory of one of its processes."""
        return int(psutil.Process(self.pids[process]).memory_info().rss)

    def close(self) -> None:
        """End it, and wait for its end; twice is fine."""
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.process.stdin.close()
        try:
            self.process.wait(30)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
        self.process.stdout.close()


class Bench:
    """Everything that runs during a run; ends it on the way out."""

    def __init__(self) -> None:
        """Build the Go half and start the servers over HTTP."""
        self._stack = ExitStack()
        self.folder = Path(self._stack.enter_context(tempfile.TemporaryDirectory()))
        self.program = self.folder / "bench"
        self.ca = str(self.folder / "ca.pem")
        self.log_path = self.folder / "log"
        self._log = self._stack.enter_context(self.log_path.open("wb"))
        self.plain = self.secure = 0

    def __enter__(self) -> Self:
        """Start."""
        try:
            self._start()
        except BaseException:
            self._stack.close()
            raise
        return self

    def _start(self) -> None:
        subprocess.run(["go", "build", "-o", str(self.program), "."], cwd=GO, check=True)
        servers = subprocess.Popen(
            [str(self.program), "http", "-ca", self.ca], stdin=subprocess.PIPE, stdout=subprocess.PIPE
        )
        self._stack.callback(self._stop, servers)
        assert servers.stdout is not None
        self.plain, self.secure = map(int, servers.stdout.readline().split())

    @staticmethod
    def _stop(servers: subprocess.Popen[bytes]) -> None:
        assert servers.stdin is not None
        assert servers.stdout is not None
        servers.stdin.close()
        servers.wait(10)
        servers.stdout.close()

    def __exit__(self, *_: object) -> None:
        """End everything."""
        self._stack.close()

    def driver(self, name: str) -> Driver:
        """Start a client that lives to the end of the run."""
        made = self.alone(name)
        self._stack.callback(made.close)
        return made

    def alone(self, name: str, environment: dict[str, str] | None = None) -> Driver:
        """Start a client that the caller closes."""
        command = {
            OURS: [str(self.program), "drive", "ours"],
            SDK: [str(self.program), "drive", "sdk"],
            BARE: [sys.executable, "-m", "bench.bare"],
        }[name]
        return Driver(name, command, self._log, environment or {})

    def stdio(self, era: str) -> dict[str, Any]:
        """Return the transport of the cheap server over stdio."""
        return {"command": [str(self.program), "stdio", *(["-modern"] if era == "modern" else [])]}

    def http(self, kind: str, era: str, *, tls: bool = False) -> dict[str, Any]:
        """Return the transport of the cheap server over HTTP; `kind` is json or stream."""
        if tls:
            return {"url": f"https://127.0.0.1:{self.secure}/{kind}/{era}", "ca": self.ca}
        return {"url": f"http://127.0.0.1:{self.plain}/{kind}/{era}"}
