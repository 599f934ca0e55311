"""How children start: programs that cannot, environments, descriptors, silence."""

from __future__ import annotations

import os
import sys
import time
from pathlib import Path

import pytest

from tests.answers import Json
from tests.conftest import Start
from tests.harness import Sidecar
from tests.programs import raw

SAFE = {"HOME", "LOGNAME", "PATH", "SHELL", "TERM", "USER", "LANG", "LC_ALL", "LC_CTYPE", "TMPDIR", "TZ"}


def stdio(command: str, *args: str, **more: object) -> Json:
    """Return a stdio transport."""
    return {"type": "stdio", "command": command, "args": list(args), **more}


@pytest.mark.parametrize(
    ("command", "errno"),
    [("/nonexistent/program", "ENOENT"), ("no-such-program-anywhere", "ENOENT"), ("FILE", "EACCES"), ("/", "EACCES")],
)
def test_program_that_cannot_be_executed_is_1104(
    shared: Sidecar, server: str, command: str, errno: str, tmp_path: Path
) -> None:
    if command == "FILE":
        plain = tmp_path / "plain"
        plain.write_text("no program")
        command = str(plain)
    params = {"server": server, "transport": stdio(command)}
    answer = shared.call("servers/connect", params)
    answer.is_error(1104, kind="SpawnFailed", errno=errno, delivered="no", retry="never", server=server)
    assert command in answer.error["message"]


def test_working_directory_that_is_missing_is_1104(shared: Sidecar, server: str) -> None:
    params = {"server": server, "transport": raw(cwd="/nonexistent/folder")}
    shared.call("servers/connect", params).is_error(1104, errno="ENOENT")


def test_program_that_ends_at_its_start_is_1107_with_its_code(shared: Sidecar, server: str) -> None:
    params = {"server": server, "transport": stdio("/bin/false")}
    shared.call("servers/connect", params).is_error(1107, exitCode=1, delivered="no")
    info = shared.call("servers/get", {"server": server}).result
    assert info["state"] == "failed"


def test_last_words_are_in_the_error_without_secrets(shared: Sidecar, server: str) -> None:
    words = "cannot log in with hunter2-hunter2 and Bearer abcdefghijklmnop"
    transport = raw("--exit", "5", "--say", words, env={"PASSWORD": "hunter2-hunter2"})
    answer = shared.call("servers/connect", {"server": server, "transport": transport})
    tail = answer.is_error(1107, exitCode=5)["stderrTail"]
    assert "cannot log in with" in tail
    assert b"hunter2-hunter2" not in answer.line
    assert b"abcdefghijklmnop" not in answer.line
    assert b"hunter2-hunter2" not in shared.stderr
    assert b"abcdefghijklmnop" not in shared.stderr


def test_stderr_of_a_child_is_logged_with_its_address(shared: Sidecar, server: str) -> None:
    shared.connect(server, raw("--say", f"hello from {server}"), scope={"user": "u"})
    line = shared.wait_log(lambda line: f"hello from {server}" in line["msg"])
    assert line["server"] == server
    assert line["scope"] == {"user": "u"}
    shared.call("servers/disconnect", {"server": server, "scope": {"user": "u"}})
    shared.connect(server, raw(), lazy=True)


def test_discarded_stderr_is_not_logged(shared: Sidecar, server: str) -> None:
    shared.connect(server, raw("--say", f"discarded {server}", stderr="discard"))
    assert shared.tool(server, "echo").result
    assert not [line for line in shared.logs() if f"discarded {server}" in line["msg"]]


def test_program_that_never_answers_is_1005_connect(shared: Sidecar, server: str) -> None:
    params = {"server": server, "transport": stdio("/bin/sleep", "60"), "timeouts": {"connectMs": 1000}}
    began = time.monotonic()
    answer = shared.call("servers/connect", params)
    answer.is_error(1005, phase="connect", delivered="no")
    assert answer.at - began <= 2.0
    assert shared.call("servers/get", {"server": server}).result["state"] == "failed"


def test_handshake_without_a_common_version_is_1105(shared: Sidecar, server: str) -> None:
    params = {"server": server, "transport": raw("--handshake", "version"), "protocol": "legacy"}
    shared.call("servers/connect", params).is_error(1105, kind="HandshakeFailed", delivered="no", retry="never")
    assert shared.call("servers/get", {"server": server}).result["state"] == "failed"


def test_noise_instead_of_a_handshake_is_1005_connect(shared: Sidecar, server: str) -> None:
    params = {"server": server, "transport": raw("--handshake", "html"), "timeouts": {"connectMs": 1000}}
    shared.call("servers/connect", params | {"protocol": "legacy"}).is_error(1005, phase="connect", delivered="no")


def test_program_that_exits_in_the_handshake_is_1107(shared: Sidecar, server: str) -> None:
    params = {"server": server, "transport": raw("--handshake", "exit")}
    shared.call("servers/connect", params).is_error(1107, exitCode=7, delivered="no")


def test_legacy_program_is_reached_by_auto_in_one_attempt(shared: Sidecar, server: str) -> None:
    assert shared.connect(server, raw(), protocol="auto")["era"] == "legacy"


def test_modern_pin_on_a_legacy_program_is_1105(shared: Sidecar, server: str) -> None:
    params = {"server": server, "transport": raw(), "protocol": "2026-07-28"}
    shared.call("servers/connect", params).is_error(1105, delivered="no")


def test_child_gets_only_the_safe_variables_and_what_was_given(start: Start, tmp_path: Path) -> None:
    folder = tmp_path / "folder"
    folder.mkdir()
    sidecar = start(env={"SECRET_OF_THE_HOST": "s3cret", "PASSED_ON": "yes"})
    transport = raw("--pages", "1", env={"GIVEN": "1"}, inheritEnv=["PASSED_ON", "NOT_SET"], cwd=str(folder))
    sidecar.connect("s", transport)
    seen = sidecar.tool("s", "environment").result["structuredContent"]
    assert "SECRET_OF_THE_HOST" not in seen["env"]
    assert seen["env"]["GIVEN"] == "1"
    assert seen["env"]["PASSED_ON"] == "yes"
    assert "NOT_SET" not in seen["env"]
    assert seen["env"]["PATH"] == os.environ["PATH"]
    assert seen["env"].keys() - SAFE <= {"GIVEN", "PASSED_ON", "PWD", "SHLVL", "_", "LC_CTYPE"}
    assert seen["cwd"] == str(folder)
    assert seen["fds"] == [0, 1, 2]
    assert seen["argv"] == ["--pages", "1"]


def test_arguments_reach_the_child_unaltered(shared: Sidecar, server: str) -> None:
    odd = "  a b'\"$(touch x) `x` \u00e9 \\ "
    shared.connect(server, raw("--journal", "/dev/null", "--say", odd))
    seen = shared.tool(server, "environment").result["structuredContent"]
    assert seen["argv"] == ["--journal", "/dev/null", "--say", odd]


@pytest.mark.parametrize("command", ["", "a\0b"])
def test_impossible_command_is_32602_and_leaves_no_address(shared: Sidecar, name: str, command: str) -> None:
    data = shared.call("servers/connect", {"server": name, "transport": stdio(command)}).is_error(-32602)
    assert data["path"] == "/transport/command"
    shared.call("servers/get", {"server": name}).is_error(1101)


def test_nul_in_arguments_is_32602(shared: Sidecar, name: str) -> None:
    params = {"server": name, "transport": stdio("/bin/true", "a\0b")}
    assert str(shared.call("servers/connect", params).is_error(-32602)["path"]).startswith("/transport/args")
    shared.call("servers/get", {"server": name}).is_error(1101)


@pytest.mark.parametrize("allowed", [[], ["/usr/bin/*"]])
def test_command_outside_the_egress_rule_is_1306(start: Start, allowed: list[str]) -> None:
    sidecar = start()
    egress = {"allowCommands": allowed}
    sidecar.call("initialize", {"protocolVersion": 1, "host": {"name": "t", "version": "1"}, "egress": egress})
    answer = sidecar.call("servers/connect", {"server": "s", "transport": stdio("/nonexistent/program")})
    answer.is_error(1306, rule="egress", delivered="no", retry="never")
    assert "allowCommands" in answer.error["message"]


def test_command_inside_the_egress_rule_starts(start: Start) -> None:
    sidecar = start()
    egress = {"allowCommands": [str(Path(sys.executable).parent / "*")]}
    sidecar.call("initialize", {"protocolVersion": 1, "host": {"name": "t", "version": "1"}, "egress": egress})
    assert sidecar.connect("s", raw())["state"] == "ready"
