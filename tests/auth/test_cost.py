"""What a login costs a call: oauth against bearer, interleaved in one run."""

from __future__ import annotations

from statistics import median

from bench.clients import cpu_seconds
from tests.auth.test_grants import given
from tests.auth.world import World, connected
from tests.harness import Sidecar

ROUNDS = 6
CALLS = 200
MOST = 50e-6
"""Seconds of the sidecar's CPU that a call with a login may cost more than one with a fixed token."""


def test_a_login_costs_a_call_hardly_anything(shared: Sidecar, server: str, world: World) -> None:
    connected(shared, server, world)
    fixed = f"{server[:100]}-bearer"
    shared.connect(fixed, world.transport(), auth={"type": "bearer", "token": given(world)})

    def batch(name: str) -> float:
        before = cpu_seconds(shared.process.pid)
        for _ in range(CALLS):
            assert shared.tool(name, "echo", {}).result
        return (cpu_seconds(shared.process.pid) - before) / CALLS

    for name in (server, fixed):
        batch(name)
    costs = [batch(server) - batch(fixed) for _ in range(ROUNDS)]
    shared.call("servers/disconnect", {"server": fixed})
    assert median(costs) <= MOST, [round(cost * 1e6) for cost in costs]
    print(f"oauth minus bearer: {median(costs) * 1e6:.1f} us a call")
