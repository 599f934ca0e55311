"""`--config FILE`: its servers are known before the first line, `initialize` wins, and any fault is exit 2."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import Start
from tests.harness import PROGRAM, ROOT
from tests.programs import RAW_STDIO

CHILD = {"command": sys.executable, "args": [RAW_STDIO]}
PING = b'{"jsonrpc":"2.0","id":1,"method":"ping"}\n'
HOST = {"protocolVersion": 1, "host": {"name": "t", "version": "1"}}


@pytest.fixture
def file(tmp_path: Path) -> Any:
    """Return a function that writes a configuration file, and its path."""

    def write(content: Any) -> str:
        path = tmp_path / "config.json"
        text = content if isinstance(content, str | bytes) else json.dumps(content)
        path.write_bytes(text if isinstance(text, bytes) else text.encode())
        return str(path)

    return write


def run(*arguments: str, data: bytes = b"", **variables: str) -> subprocess.CompletedProcess[bytes]:
    """Run the program to its end."""
    environment = {key: value for key, value in os.environ.items() if not key.startswith(("MCP_", "FASTMCP_"))}
    return subprocess.run(
        [*PROGRAM, *arguments],
        input=data,
        capture_output=True,
        timeout=40,
        cwd=ROOT,
        env=environment | variables,
        check=False,
    )


def test_servers_of_the_file_are_lazy_addresses_before_the_first_line(start: Start, file: Any) -> None:
    path = file(
        {"mcpServers": {"a": CHILD | {"env": {"MODE": "${MODE}-${OTHER:-x}"}}, "b": {"url": "https://b.example/"}}}
    )
    sidecar = start("--config", path, env={"MODE": "m"})
    environment = sidecar.tool("a", "environment").result["structuredContent"]["env"]
    assert environment["MODE"] == "m-x"
    infos = sidecar.call("servers/list").result["servers"]
    assert [(info["server"], info["scope"], info["state"]) for info in infos] == [("a", {}, "ready"), ("b", {}, "idle")]


def test_initialize_wins_key_by_key(start: Start, file: Any) -> None:
    limits = {"maxServers": 5, "maxInFlight": 7}
    egress = {"allowCommands": [], "denyHosts": ["evil.example"]}
    sidecar = start("--config", file({"limits": limits, "egress": egress, "vault": {"type": "memory"}}))
    agreed = sidecar.call("initialize", HOST | {"limits": {"maxInFlight": 9}, "egress": {"allowCommands": None}}).result
    assert (agreed["limits"]["maxServers"], agreed["limits"]["maxInFlight"]) == (5, 9)
    assert sidecar.call("sidecar/health").result["vault"]["type"] == "memory"
    sidecar.connect("a", {"type": "stdio", **CHILD})
    refused = sidecar.call(
        "servers/connect", {"server": "b", "transport": {"type": "http", "url": "https://evil.example/"}}
    )
    refused.is_error(1306, rule="egress")


def test_settings_of_the_file_hold_without_initialize(start: Start, file: Any) -> None:
    sidecar = start("--config", file({"egress": {"allowCommands": []}, "limits": {"maxServersPerScope": 1}}))
    sidecar.call("servers/connect", {"server": "a", "transport": {"type": "stdio", **CHILD}}).is_error(1306)
    params = {"server": "b", "transport": {"type": "stdio", **CHILD}, "lazy": True}
    sidecar.call("servers/connect", params).is_error(1007, limit="maxServersPerScope")


def test_vault_of_the_words_goes_before_that_of_the_file_and_after_that_of_initialize(start: Start, file: Any) -> None:
    path = file({"vault": {"type": "redis", "url": "redis://localhost/"}})
    assert start("--config", path, "--vault", "memory").call("sidecar/health").result["vault"]["type"] == "memory"
    sidecar = start("--vault", "memory")
    sidecar.call("initialize", HOST | {"vault": {"type": "file"}})
    assert sidecar.call("sidecar/health").result["vault"]["type"] == "file"


def test_call_uses_a_server_of_the_file(file: Any) -> None:
    path = file({"mcpServers": {"mine": CHILD}})
    done = run("--config", path, "call", "tools/call", '{"name":"echo","arguments":{"a":1}}', "--server", "mine")
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["structuredContent"]["params"]["arguments"] == {"a": 1}
    done = run("call", "tools/list", "--config", path, "--server", "other")
    assert done.returncode == 1
    assert json.loads(done.stderr.splitlines()[-1])["code"] == 1101


FAULTY: list[tuple[Any, list[str]]] = [
    ("", ["not JSON"]),
    ("{\n  // a comment\n}", ["not JSON", "line 2"]),
    (b'{"vault": "\xff"}', ["not UTF-8"]),
    ("[]", ["must be an object"]),
    ('{"mcpServers":{"a":{"command":"x","args":' + "[" * 600 + "]" * 600 + "}}}", ["nested too deeply"]),
    ("[" * 100_000, ["nested too deeply"]),
    ({"servers": {}, "x": 1}, ["/servers", "/x"]),
    ({"mcpServers": []}, ["/mcpServers: "]),
    (
        {"mcpServers": {"a b": CHILD, "c": {"command": "x", "url": "y"}, "d": {"url": "ws://h/"}, "e": "x"}},
        ["/mcpServers/a b: ", "/mcpServers/c: ", "/mcpServers/d/url: ", "/mcpServers/e: "],
    ),
    ({"mcpServers": {"a": CHILD | {"disabled": True}}}, ["/mcpServers/a/disabled: "]),
    ({"mcpServers": {"a": {"command": "${NO_SUCH_VARIABLE}"}}}, ["/mcpServers/a/command: ", "NO_SUCH_VARIABLE"]),
    ('{"mcpServers":{"a":{"command":"x"},"a":{"command":"y"}}}', ["/mcpServers/a: ", "twice"]),
    ('{"limits":{"maxServers":1,"maxServers":2}}', ["/limits/maxServers: ", "twice"]),
    (
        {"vault": {"type": "paper", "folder": "x"}, "egress": {"allowHosts": "x"}, "limits": {"maxServers": 0}},
        ["/vault/type: ", "/vault/folder: ", "/egress/allowHosts: ", "/limits/maxServers: "],
    ),
    ({"vault": {"path": "${NO_SUCH_VARIABLE}"}}, ["/vault/path: ", "/vault/type: "]),
    ({"mcpServers": {"a": CHILD, "b": CHILD}, "limits": {"maxServersPerScope": 1}}, ["/mcpServers: "]),
]


@pytest.mark.parametrize(("content", "told"), FAULTY, ids=[str(number) for number in range(len(FAULTY))])
def test_any_fault_is_exit_2_with_every_one_on_stderr(file: Any, content: Any, told: list[str]) -> None:
    done = run("--config", file(content), data=PING)
    assert (done.returncode, done.stdout) == (2, b"")
    lines = [json.loads(line)["msg"] for line in done.stderr.splitlines()]
    for text in told:
        assert any(text in line for line in lines), (text, lines)
    assert b"Traceback" not in done.stderr


def test_file_that_is_not_there_is_exit_2(tmp_path: Path) -> None:
    for arguments in (("--config", str(tmp_path / "none.json")), ("serve", "--config", str(tmp_path))):
        done = run(*arguments, data=PING)
        assert (done.returncode, done.stdout) == (2, b"")
        assert b"cannot be read" in done.stderr


def test_fault_of_the_file_is_the_last_line_of_a_call(file: Any) -> None:
    path = file({"mcpServers": {"a": {"command": "x", "url": "y"}, "b": {}}})
    done = run("call", "tools/list", "--config", path, "--server", "a")
    assert (done.returncode, done.stdout) == (2, b"")
    error = json.loads(done.stderr.splitlines()[-1])
    assert error["code"] == -32602
    assert [fault["data"]["path"] for fault in error["data"]["errors"]] == ["/mcpServers/a", "/mcpServers/b"]


def test_byte_order_mark_is_no_fault(start: Start, file: Any) -> None:
    sidecar = start("--config", file(b"\xef\xbb\xbf" + json.dumps({"mcpServers": {"a": CHILD}}).encode()))
    assert sidecar.call("servers/get", {"server": "a"}).result["state"] == "idle"
