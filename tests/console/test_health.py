"""`sidecar/health`: facts about the process, and since when they hold."""

from __future__ import annotations

import time
from pathlib import Path

from tests.conftest import Start
from tests.harness import PATIENCE, Sidecar
from tests.programs import raw

HOST = {"protocolVersion": 1, "host": {"name": "t", "version": "1"}}
MEMBERS = {
    "status",
    "since",
    "version",
    "uptimeMs",
    "pid",
    "rssBytes",
    "cpuMs",
    "openFds",
    "servers",
    "inFlight",
    "vault",
}


def wait_status(sidecar: Sidecar, status: str) -> dict[str, object]:
    """Ask until the status is this one, and return the facts."""
    end = time.monotonic() + PATIENCE
    while time.monotonic() < end:
        health: dict[str, object] = sidecar.call("sidecar/health").result
        if health["status"] == status:
            return health
    raise AssertionError(f"never {status}: {health}")


def test_facts_are_exactly_those_of_the_contract(start: Start) -> None:
    sidecar = start()
    sidecar.connect("a", raw())
    sidecar.connect("b", raw(), lazy=True)
    key = sidecar.start_tool("a", "silent")
    health = wait_status(sidecar, "ok")
    assert health.keys() == MEMBERS
    assert health["pid"] == sidecar.process.pid
    assert health["servers"] == {"ready": 1, "idle": 1}
    assert health["inFlight"] == 1
    for name in ("uptimeMs", "rssBytes", "cpuMs", "openFds"):
        assert isinstance(health[name], int)
        assert health[name] > 0  # type: ignore[operator]  # just checked
    assert health["vault"] == {"type": "auto", "state": "unused", "why": None}
    sidecar.cancel(key)
    sidecar.answer(key).is_error(1004)


def test_since_is_when_the_status_came(start: Start) -> None:
    sidecar = start()
    first = sidecar.call("sidecar/health").result
    ready = wait_status(sidecar, "ok")
    assert str(ready["since"]) >= first["since"]
    assert sidecar.call("sidecar/health").result["since"] == ready["since"]
    sidecar.connect("a", raw())
    key = sidecar.start_tool("a", "silent", timeoutMs=800)
    stop = sidecar.request("shutdown", {"deadlineMs": 5000})
    draining = sidecar.call("sidecar/health").result
    assert draining["status"] == "draining"
    assert draining["since"] > ready["since"]
    sidecar.answer(key).is_error(1005)
    assert sidecar.answer(stop).result == {}
    sidecar.exit_code()


def test_vault_that_cannot_be_used_degrades_and_disturbs_nobody(start: Start, tmp_path: Path) -> None:
    key = tmp_path / "key"
    key.write_text("no key")
    sidecar = start()
    sidecar.call("initialize", HOST | {"vault": {"type": "file", "path": str(tmp_path / "v"), "keyFile": str(key)}})
    health = wait_status(sidecar, "degraded")
    assert health["vault"]["state"] == "unavailable"  # type: ignore[index]  # an object of the contract
    assert health["vault"]["why"]  # type: ignore[index]  # the same
    since = health["since"]
    sidecar.connect("a", raw())
    assert sidecar.tool("a", "echo").result
    assert sidecar.call("sidecar/health").result["since"] == since
