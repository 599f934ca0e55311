"""SIGKILL around a rotation: the next start is silent or asks for one login; the store always opens (bar line 31)."""

from __future__ import annotations

import os
import threading
from pathlib import Path

from tests.auth.test_refresh import files
from tests.auth.world import World, begin, complete, log_in, oauth
from tests.conftest import Start

ROUNDS = int(os.environ.get("CRASH_ROUNDS", "1"))
DELAY = 0.1
POINTS = [0.0, 0.02, 0.05, 0.08, 0.1, 0.102, 0.104, 0.107, 0.11, 0.13]
"""Seconds after the token request has come; the answer leaves after `DELAY`."""


def test_a_kill_at_any_point_of_a_rotation_costs_one_login_at_most(start: Start, world: World, tmp_path: Path) -> None:
    vault = files(tmp_path)
    silent = logins = 0
    sidecar = begin(start(), vault=vault)
    for point in POINTS * ROUNDS:
        info = sidecar.connect("a", world.transport(), auth=oauth())
        if info["state"] == "authorizing":
            logins += 1
            complete(sidecar, log_in(info["authorization"]["url"])).result  # noqa: B018 - fails where it is an error
            sidecar.wait(lambda: sidecar.states("a")[-1] == "ready", "ready")  # noqa: B023 - waited for here
        else:
            silent += 1
        world.set(do="expire", token_delay=DELAY)
        before = len(world.grants("refresh_token"))
        sidecar.start_tool("a", "echo", {})
        world.wait_grant("refresh_token", before + 1)
        threading.Event().wait(point)
        sidecar.kill()
        world.set(token_delay=0)
        sidecar = begin(start(), vault=vault)
        status = sidecar.call("servers/connect", {"server": "a", "transport": world.transport(), "auth": oauth()})
        info = status.result  # never 1403: the store opens
        assert info["state"] in {"ready", "authorizing"}
        assert len(sidecar.told("auth/required")) == (info["state"] == "authorizing")
        if info["state"] == "authorizing":
            assert info["lastError"]["code"] in {1301, 1303}
    assert silent + logins == len(POINTS) * ROUNDS
