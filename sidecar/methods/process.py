"""The methods about the process itself."""

from __future__ import annotations

import os
import resource
import time
from pathlib import Path
from typing import TYPE_CHECKING, Final

import msgspec

from sidecar import __version__, config, wire
from sidecar.methods.common import params_of
from sidecar.request import seconds_of
from sidecar.rpc import EMPTY, Handler, Work
from sidecar.telemetry import logs

if TYPE_CHECKING:
    from sidecar.hub import Hub
    from sidecar.request import Outcome, Request
    from sidecar.serve import Process
    from sidecar.vault import Sealed

DRAIN_SECONDS: Final = 10.0


class ProcessMethods:
    """Serves `sidecar/*` and `shutdown`."""

    def __init__(self, process: Process, hub: Hub, vault: Sealed) -> None:
        """Tell about `process`, the connections of `hub` and the credential store."""
        self._process = process
        self._hub = hub
        self._vault_broken = False
        self._vault = vault

    def table(self) -> dict[str, Handler]:
        """Return the handlers by method name."""
        return {
            "sidecar/health": self.health,
            "sidecar/setLogLevel": self.set_log_level,
            "shutdown": self.shutdown,
        }

    def health(self, request: Request) -> Outcome:
        """Serve `sidecar/health`."""
        params_of(wire.HealthParams, request)
        process = self._process
        vault = self._vault.health()
        broken = vault["state"] in {"locked", "unavailable"}
        if broken != self._vault_broken:
            self._vault_broken = broken
            process.status_changed()
        status = "ok"
        if process.draining:
            status = "draining"
        elif process.engine_error is not None:
            status = "degraded"
        elif not process.engine_ready.is_set():
            status = "starting"
        elif broken:
            status = "degraded"
        usage = resource.getrusage(resource.RUSAGE_SELF)
        return msgspec.json.encode(
            {
                "status": status,
                "since": process.status_since,
                "version": __version__,
                "uptimeMs": int((time.monotonic() - process.started) * 1000),
                "pid": os.getpid(),
                "rssBytes": _rss_bytes(),
                "cpuMs": int((usage.ru_utime + usage.ru_stime) * 1000),
                "openFds": _open_fds(),
                "servers": self._hub.counts(),
                "inFlight": self._hub.in_flight,
                "vault": vault,
            }
        )

    def set_log_level(self, request: Request) -> Outcome:
        """Serve `sidecar/setLogLevel`."""
        params = params_of(wire.SetLogLevelParams, request)
        level = logs.parse_level(params.level)
        if level is None:
            raise config.invalid("/level", "unknown level", allowed=list(wire.LOG_LEVELS))
        logs.set_level(level)
        return EMPTY

    def shutdown(self, request: Request) -> Work:
        """Serve `shutdown`."""
        params = params_of(wire.ShutdownParams, request)
        seconds = seconds_of(params.deadline_ms) if params.deadline_ms is not None else DRAIN_SECONDS
        self._process.begin_draining(seconds)
        if params.timeout_ms is not None:
            request.arm(seconds_of(params.timeout_ms))
            request.phase = "wait"
        return self._process.shutdown(request, seconds)


def _rss_bytes() -> int:
    """Return the resident memory; where there is no /proc, its peak."""
    try:
        return int(Path("/proc/self/statm").read_text(encoding="ascii").split()[1]) * resource.getpagesize()
    except OSError:
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss  # bytes on macOS


def _open_fds() -> int:
    for folder in (Path("/proc/self/fd"), Path("/dev/fd")):
        if folder.is_dir():
            return sum(1 for _ in folder.iterdir())
    return 0
