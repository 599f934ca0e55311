"""The command line: what a person types and reads."""

from __future__ import annotations

import json
import os
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from tests.harness import MODULE, PROGRAM, ROOT
from tests.programs import RAW_STDIO, Program

WRAPPER = (str(ROOT / "fastmcp_wrapper.py"),)
PING = b'{"jsonrpc":"2.0","id":1,"method":"ping"}\n'
PONG = b'{"jsonrpc":"2.0","id":1,"result":{}}\n'
RAW = shlex.join([sys.executable, RAW_STDIO])


def run(
    *arguments: str,
    program: tuple[str, ...] = PROGRAM,
    cwd: Path = ROOT,
    data: bytes = b"",
    variables: dict[str, str] | None = None,
) -> subprocess.CompletedProcess[bytes]:
    """Run the program to its end."""
    environment = {key: value for key, value in os.environ.items() if not key.startswith(("MCP_", "FASTMCP_"))}
    return subprocess.run(
        [*program, *arguments],
        input=data,
        capture_output=True,
        timeout=40,
        cwd=cwd,
        env=environment | (variables or {}),
        check=False,
    )


@pytest.mark.parametrize("program", [PROGRAM, WRAPPER], ids=["command", "wrapper"])
@pytest.mark.parametrize("arguments", [(), ("serve",), ("--verbose",), ("--log-level", "error", "serve")])
def test_program_speaks_the_wire_from_any_folder(
    tmp_path: Path, program: tuple[str, ...], arguments: tuple[str, ...]
) -> None:
    done = run(*arguments, program=program, cwd=tmp_path, data=PING)
    assert (done.returncode, done.stdout) == (0, PONG)
    assert all(json.loads(line)["level"] for line in done.stderr.splitlines())


def test_module_is_the_same_program() -> None:
    assert run(program=MODULE, data=PING).stdout == PONG


def test_piped_lines_are_all_answered_and_the_exit_code_is_0() -> None:
    connect = {"server": "s", "transport": {"type": "stdio", "command": sys.executable, "args": [RAW_STDIO]}}
    call = {"server": "s", "name": "echo", "arguments": {"n": 1}}
    lines = [
        {"jsonrpc": "2.0", "id": 1, "method": "servers/connect", "params": connect},
        {"jsonrpc": "2.0", "id": 2, "method": "tools/call", "params": call},
        {"jsonrpc": "2.0", "id": 3, "method": "nonsense"},
    ]
    text = "\n".join(json.dumps(line) for line in lines)
    command = f"printf %s {shlex.quote(text)} | {shlex.quote(PROGRAM[0])}"
    done = subprocess.run(["sh", "-c", command], capture_output=True, timeout=40, cwd=ROOT, check=False)
    assert done.returncode == 0
    answers = {body["id"]: body for body in map(json.loads, done.stdout.splitlines()) if "id" in body}
    assert answers[1]["result"]["state"] == "ready"
    assert answers[2]["result"]["structuredContent"]["params"]["arguments"] == {"n": 1}
    assert answers[3]["error"]["code"] == -32601


def test_empty_input_exits_0() -> None:
    done = run(data=b"")
    assert (done.returncode, done.stdout) == (0, b"")


def test_version_names_what_is_installed() -> None:
    done = run("--version")
    assert done.returncode == 0
    assert done.stdout.startswith(b"mcp-sidecar 0.")
    assert b"4.1.2" in done.stdout


def test_help_teaches() -> None:
    done = run("--help")
    assert done.returncode == 0
    for word in (b"serve", b"call", b"--log-level", b"--verbose", b"printf"):
        assert word in done.stdout


@pytest.mark.parametrize(
    "arguments",
    [
        ("--nonsense",),
        ("nonsense",),
        ("--log-level", "loud"),
        ("call",),
        ("call", "tools/list", "not json"),
        ("call", "tools/list", "[]"),
        ("call", "tools/list", "--url", "http://x.invalid", "--command", "y"),
        ("call", "tools/list", "--header", "no colon", "--url", "http://127.0.0.1:1/"),
    ],
)
def test_words_that_do_not_fit_exit_2_with_a_reason(arguments: tuple[str, ...]) -> None:
    done = run(*arguments)
    assert done.returncode == 2
    assert done.stdout == b""
    assert done.stderr
    assert b"Traceback" not in done.stderr


def test_call_prints_the_result_as_indented_json() -> None:
    done = run("call", "tools/call", '{"name":"echo","arguments":{"a":1.0}}', "--command", RAW)
    assert done.returncode == 0, done.stderr
    result = json.loads(done.stdout)
    assert result["structuredContent"]["params"]["arguments"] == {"a": 1.0}
    assert b'\n  "' in done.stdout


def test_call_of_a_process_method_needs_no_server() -> None:
    done = run("call", "sidecar/health")
    assert done.returncode == 0
    assert json.loads(done.stdout)["version"]


def test_call_to_a_url_sends_its_headers(raw_http: Program) -> None:
    url = f"{raw_http.origin}/json/legacy/cli"
    done = run(
        "call", "tools/call", '{"name":"headers"}', "--url", url, "--header", "X-Mine: yes", "--header", "X-Two: 2"
    )
    assert done.returncode == 0, done.stderr
    sent = json.loads(done.stdout)["structuredContent"]
    assert sent["x-mine"] == "yes"
    assert sent["x-two"] == "2"


def test_call_uses_the_name_cli_or_the_given_one() -> None:
    assert json.loads(run("call", "servers/get", "--command", RAW).stdout)["server"] == "cli"
    assert json.loads(run("call", "servers/get", "--command", RAW, "--server", "mine").stdout)["server"] == "mine"


def test_call_gives_the_words_to_a_method_that_takes_a_transport() -> None:
    result = json.loads(run("call", "servers/test", "--command", RAW).stdout)
    assert (result["ok"], result["tools"]) == (True, 1)
    info = json.loads(run("call", "servers/connect", '{"tools":{"allow":[]}}', "--command", RAW).stdout)
    assert (info["server"], info["state"]) == ("cli", "ready")


@pytest.mark.parametrize(
    ("method", "params", "member"),
    [
        ("servers/import", '{"config":{"mcpServers":{"a":{"command":"x"}}}}', "errors"),
        ("servers/list", "{}", "servers"),
        ("auth/status", "{}", "credentials"),
    ],
)
def test_call_of_a_method_without_a_server_adds_none(method: str, params: str, member: str) -> None:
    done = run("call", method, params)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)[member] == []


def test_reader_that_has_read_enough_sees_no_traceback() -> None:
    done = subprocess.run(
        ["sh", "-c", f"{shlex.quote(PROGRAM[0])} schema | head -c 1"],
        capture_output=True,
        timeout=40,
        cwd=ROOT,
        check=True,
    )
    assert (done.stdout, done.stderr) == (b"{", b"")


@pytest.mark.parametrize(
    ("arguments", "code"),
    [
        (("call", "nonsense"), -32601),
        (("call", "servers/get", "--server", "nobody"), 1101),
        (("call", "tools/list", "--command", "/nonexistent/program"), 1104),
        (("call", "tools/list", "--url", "http://127.0.0.1:1/"), 1102),
        (("call", "tools/call", '{"name":"error"}', "--command", RAW), 1501),
    ],
)
def test_error_is_the_last_line_of_stderr_and_the_exit_code_is_1(arguments: tuple[str, ...], code: int) -> None:
    done = run(*arguments)
    assert done.returncode == 1
    assert done.stdout == b""
    error = json.loads(done.stderr.splitlines()[-1])
    assert error["code"] == code
    assert error["message"]


def test_failure_of_a_tool_exits_1_with_its_result() -> None:
    done = run("call", "tools/call", '{"name":"tool_error"}', "--command", RAW)
    assert done.returncode == 1
    assert json.loads(done.stdout)["isError"] is True


@pytest.mark.parametrize("program", [PROGRAM, WRAPPER], ids=["command", "wrapper"])
@pytest.mark.parametrize(
    "variables",
    [
        {"FASTMCP_LOG_LEVEL": "bogus"},
        {"FASTMCP_LOG_LEVEL": "DEBUG"},
        {"FASTMCP_LOG_LEVEL": ""},
        {"FASTMCP_DEBUG": "1"},
        {"FASTMCP_DEBUG": "bogus"},
        {"FASTMCP_DEBUG": "bogus", "FASTMCP_LOG_LEVEL": "Warning"},
    ],
)
def test_any_value_of_the_log_variables_starts_and_the_engine_works(
    program: tuple[str, ...], variables: dict[str, str]
) -> None:
    connect = {"server": "s", "transport": {"type": "stdio", "command": sys.executable, "args": [RAW_STDIO]}}
    line = json.dumps({"jsonrpc": "2.0", "id": 1, "method": "servers/connect", "params": connect})
    done = run(program=program, data=line.encode(), variables=variables)
    assert done.returncode == 0
    assert b'"state":"ready"' in done.stdout
    assert b"Traceback" not in done.stderr


@pytest.mark.parametrize(
    ("arguments", "variables", "debug"),
    [
        ((), {}, False),
        (("--verbose",), {}, True),
        (("--log-level", "debug"), {}, True),
        (("--log-level", "DEBUG"), {}, True),
        ((), {"FASTMCP_DEBUG": "1"}, True),
        ((), {"FASTMCP_DEBUG": "true"}, True),
        ((), {"FASTMCP_DEBUG": "0"}, False),
        ((), {"FASTMCP_LOG_LEVEL": "debug"}, True),
        ((), {"FASTMCP_LOG_LEVEL": "error"}, False),
    ],
)
def test_log_level_comes_from_options_and_variables(
    arguments: tuple[str, ...], variables: dict[str, str], debug: bool
) -> None:
    lines = b'{"jsonrpc":"2.0","method":"unknown/notification"}\n' + PING
    done = run(*arguments, data=lines, variables=variables)
    assert done.stdout == PONG
    assert any(json.loads(line)["level"] == "debug" for line in done.stderr.splitlines()) is debug


def test_env_file_of_the_working_directory_is_not_read(tmp_path: Path) -> None:
    (tmp_path / ".env").write_text("FASTMCP_LOG_LEVEL=bogus\nFASTMCP_DEBUG=1\nPYTHONPATH=/nonexistent\n")
    connect = {"server": "s", "transport": {"type": "stdio", "command": sys.executable, "args": [RAW_STDIO]}}
    line = json.dumps({"jsonrpc": "2.0", "id": 1, "method": "servers/connect", "params": connect})
    done = run(cwd=tmp_path, data=line.encode())
    assert done.returncode == 0
    assert b'"state":"ready"' in done.stdout
    assert not any(json.loads(text)["level"] == "debug" for text in done.stderr.splitlines())


def test_modules_of_the_working_directory_are_not_imported(tmp_path: Path) -> None:
    for name in ("json.py", "fastmcp.py", "msgspec.py", "pydantic.py"):
        (tmp_path / name).write_text("raise SystemExit('imported from the working directory')\n")
    for program in (PROGRAM, WRAPPER):
        done = run(program=program, cwd=tmp_path, data=b'{"jsonrpc":"2.0","id":1,"method":"servers/list"}\n')
        assert done.stdout == b'{"jsonrpc":"2.0","id":1,"result":{"servers":[]}}\n'
