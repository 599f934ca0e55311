"""No death of anyone leaves a process behind."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time

import psutil
import pytest

from tests.conftest import Start
from tests.harness import MODULE, PROGRAM, ROOT
from tests.life.shapes import connect_all
from tests.processes import assert_gone
from tests.programs import raw

HOST = """
import os, subprocess, sys
child = subprocess.Popen(sys.argv[1:], stdin=int(os.environ["IN"]), stdout=int(os.environ["OUT"]), stderr=2,
                         start_new_session=True)
os.close(int(os.environ["IN"])); os.close(int(os.environ["OUT"]))
print(child.pid, flush=True)
child.wait()
"""


def guards(tree: list[psutil.Process], sidecar: int) -> list[psutil.Process]:
    """Return the direct children of the sidecar."""
    return [process for process in tree if process.ppid() == sidecar]


def test_end_of_input_leaves_nothing_whatever_the_children_do(start: Start) -> None:
    sidecar = start()
    tree = connect_all(sidecar)
    sidecar.end_input()
    assert sidecar.exit_code() == 0
    assert_gone(tree, 0.5)


def test_shutdown_leaves_nothing_whatever_the_children_do(start: Start) -> None:
    sidecar = start()
    tree = connect_all(sidecar)
    assert sidecar.call("shutdown").result == {}
    assert sidecar.exit_code() == 0
    assert_gone(tree, 0.5)


def test_sigterm_leaves_nothing_whatever_the_children_do(start: Start) -> None:
    sidecar = start()
    tree = connect_all(sidecar)
    sidecar.process.send_signal(signal.SIGTERM)
    assert sidecar.exit_code() == 0
    assert_gone(tree, 0.5)


def test_second_signal_stops_at_once_and_leaves_nothing(start: Start) -> None:
    sidecar = start()
    tree = connect_all(sidecar)
    sidecar.start_tool("s0", "silent")
    sidecar.tool("s0", "echo")
    sidecar.process.send_signal(signal.SIGTERM)
    sidecar.request("tools/list", {"server": "s0"}, key="refused")
    sidecar.answer("refused").is_error(1002, delivered="no")
    began = time.monotonic()
    sidecar.process.send_signal(signal.SIGTERM)
    sidecar.exit_code()
    assert time.monotonic() - began <= 1.0
    assert_gone(tree, 3.0)


def test_sigkill_of_the_sidecar_leaves_nothing(start: Start) -> None:
    sidecar = start()
    tree = connect_all(sidecar)
    sidecar.process.kill()
    assert_gone(tree, 3.0)


def test_sigkill_of_the_sidecar_and_the_guard_at_once_leaves_nothing(start: Start) -> None:
    sidecar = start()
    tree = connect_all(sidecar)
    (guard,) = guards(tree, sidecar.process.pid)
    guard.suspend()
    sidecar.process.kill()
    guard.kill()
    assert_gone(tree, 3.0)


def test_sigkill_of_the_guard_costs_no_orphan_and_calls_go_on(start: Start) -> None:
    sidecar = start()
    tree = connect_all(sidecar)
    (guard,) = guards(tree, sidecar.process.pid)
    guard.kill()
    assert_gone([guard])
    assert sidecar.tool("s0", "echo").result
    assert sidecar.connect("one-more", raw("--ignore-eof"))["state"] == "ready"
    tree += sidecar.tree()
    sidecar.end_input()
    assert sidecar.exit_code() == 0
    assert_gone(tree, 3.0)


@pytest.mark.parametrize("program", [PROGRAM, MODULE], ids=["command", "module"])
def test_death_of_the_host_ends_everything_though_the_pipes_stay_open(program: tuple[str, ...]) -> None:
    their_in, our_out = os.pipe()
    our_in, their_out = os.pipe()
    environment = os.environ | {"IN": str(their_in), "OUT": str(their_out)}
    host = subprocess.Popen(
        [sys.executable, "-c", HOST, *program],
        cwd=ROOT,
        env=environment,
        pass_fds=[their_in, their_out],
        stdout=subprocess.PIPE,
    )
    os.close(their_in)
    os.close(their_out)
    assert host.stdout is not None
    sidecar = psutil.Process(int(host.stdout.readline()))
    try:
        transport = raw("--ignore-eof", "--ignore-term", "--grandchild", "stubborn")
        hello = {"protocolVersion": 1, "host": {"name": "t", "version": "1"}}
        for key, method, params in (
            (1, "initialize", hello),
            (2, "servers/connect", {"server": "s", "transport": transport}),
        ):
            line = json.dumps({"jsonrpc": "2.0", "id": key, "method": method, "params": params})
            os.write(our_out, line.encode() + b"\n")
        text = b""
        while b'"id":2' not in text:
            text += os.read(our_in, 1 << 16)
        assert b'"state":"ready"' in text
        tree = [sidecar, *sidecar.children(recursive=True)]
        assert len(tree) >= 4
        host.kill()
        host.wait(10)
        assert_gone(tree, 3.0)
    finally:
        host.kill()
        host.wait(10)
        host.stdout.close()
        os.close(our_in)
        os.close(our_out)


def test_death_of_the_sidecars_process_group_leaves_nothing(start: Start) -> None:
    sidecar = start(program=("setsid", *PROGRAM))
    tree = connect_all(sidecar)
    assert os.getpgid(sidecar.process.pid) != os.getpgid(0)
    os.killpg(os.getpgid(sidecar.process.pid), signal.SIGKILL)
    assert_gone(tree, 3.0)


def test_killed_child_leaves_no_zombie_and_no_grandchild(start: Start) -> None:
    sidecar = start()
    connect_all(sidecar)
    told = sidecar.tool("s3", "pids").result["structuredContent"]
    family = [psutil.Process(pid) for pid in (told["pid"], *told["children"])]
    psutil.Process(told["pid"]).kill()
    assert_gone(family, 3.0)
    assert sidecar.tool("s3", "echo").result
