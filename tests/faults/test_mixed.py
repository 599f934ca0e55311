"""Faults in any order, on several connections at once: each costs its own call alone, and no neighbour waits."""

from __future__ import annotations

import threading

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.faults.table import HTTP, STDIO, Fault, meet
from tests.harness import Sidecar
from tests.neighbour import Neighbour
from tests.programs import Program, raw

stdio_faults = st.lists(st.sampled_from(STDIO), min_size=1, max_size=4)
http_faults = st.lists(st.sampled_from(HTTP), min_size=1, max_size=6)


def test_faults_in_any_order_cost_their_own_calls_alone(streams: Program) -> None:
    with Sidecar() as sidecar:
        for server, transport in (
            ("one", raw()),
            ("two", raw()),
            ("legacy", streams.http("/mcp/mixed")),
            ("modern", streams.http("/modern/mixed")),
        ):
            sidecar.connect(server, transport)
        other = Neighbour(sidecar, "neighbour")

        @settings(max_examples=10, deadline=None, suppress_health_check=list(HealthCheck))
        @given(one=stdio_faults, two=stdio_faults, legacy=http_faults, modern=http_faults)
        def mix(one: list[Fault], two: list[Fault], legacy: list[Fault], modern: list[Fault]) -> None:
            failures: list[BaseException] = []

            def walk(server: str, faults: list[Fault]) -> None:
                try:
                    for fault in faults:
                        meet(sidecar, server, fault)
                except BaseException as error:  # noqa: BLE001 - told by the test itself
                    failures.append(error)

            threads = [
                threading.Thread(target=walk, args=pair)
                for pair in (("one", one), ("two", two), ("legacy", legacy), ("modern", modern))
            ]
            other.taken.clear()
            for thread in threads:
                thread.start()
            try:
                other.until(lambda: not any(thread.is_alive() for thread in threads))
            finally:
                for thread in threads:
                    thread.join(30)
            if failures:
                raise failures[0]
            other.check()

        mix()
