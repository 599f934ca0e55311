"""Children that are hard to end."""

from __future__ import annotations

import psutil

from tests.harness import Sidecar
from tests.processes import describe
from tests.programs import raw

SHAPES = {
    "plain": (),
    "ignores end of input": ("--ignore-eof",),
    "ignores end of input and SIGTERM": ("--ignore-eof", "--ignore-term"),
    "has grandchildren": ("--grandchild", "plain", "--grandchild", "stubborn"),
    "ignores everything and has grandchildren": (
        *("--ignore-eof", "--ignore-term"),
        *("--grandchild", "plain", "--grandchild", "stubborn"),
    ),
}


def connect_all(sidecar: Sidecar) -> list[psutil.Process]:
    """Connect one server of each shape, and return every process below the sidecar."""
    keys = []
    for number, options in enumerate(SHAPES.values()):
        keys.append(sidecar.request("servers/connect", {"server": f"s{number}", "transport": raw(*options)}))
    pids = [sidecar.answer(key).result["pid"] for key in keys]
    for number in range(len(SHAPES)):
        told = sidecar.tool(f"s{number}", "pids").result["structuredContent"]
        assert told["pid"] == pids[number]
        pids += told["children"]
    tree = sidecar.tree()
    missing = set(pids) - {process.pid for process in tree}
    assert not missing, f"not below the sidecar: {missing} of {[describe(process) for process in tree]}"
    return tree
