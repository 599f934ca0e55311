"""`doctor`, `schema` and `completion`: what a person asks before anything runs."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.harness import PROGRAM, ROOT


def run(*arguments: str, **variables: str) -> subprocess.CompletedProcess[bytes]:
    """Run the program to its end, with a home of its own."""
    environment = {key: value for key, value in os.environ.items() if not key.startswith(("MCP_", "FASTMCP_", "XDG_"))}
    return subprocess.run(
        [*PROGRAM, *arguments], capture_output=True, timeout=50, cwd=ROOT, env=environment | variables, check=False
    )


def findings(done: subprocess.CompletedProcess[bytes]) -> dict[str, Any]:
    """Return the findings of a doctor by name."""
    body = json.loads(done.stdout)
    assert body["ok"] is (done.returncode == 0)
    return {check["name"]: check for check in body["checks"]}


def test_doctor_finds_a_whole_machine_well_and_leaves_nothing(tmp_path: Path) -> None:
    home = {"HOME": str(tmp_path)}
    done = run("doctor", "--json", "--vault", "file", **home)
    assert done.returncode == 0, done.stdout
    found = findings(done)
    assert {check["state"] for check in found.values()} == {"ok"}
    assert {"program", "packages", "platform", "files", "child", "loopback", "vault"} <= found.keys()
    assert "fastmcp 4.1.2" in found["program"]["text"]
    assert list(tmp_path.iterdir()) == []
    text = run("doctor", "--vault", "file", **home)
    assert text.returncode == 0
    assert text.stdout.splitlines()[-1] == b"all is well"
    assert b"ok       child" in text.stdout
    assert text.stderr == b""


def test_doctor_tells_what_is_broken_and_how_to_mend_it(tmp_path: Path) -> None:
    key = tmp_path / "key"
    key.write_text("not base64 of 32 bytes")
    key.chmod(0o644)
    config = tmp_path / "config.json"
    servers = {"gone": {"command": "/nonexistent/program"}, "here": {"command": sys.executable}}
    vault = {"type": "file", "path": str(tmp_path / "vault"), "keyFile": str(key)}
    config.write_text(json.dumps({"mcpServers": servers, "vault": vault}))
    done = run("--config", str(config), "doctor", "--json", HOME=str(tmp_path))
    assert done.returncode == 1
    found = findings(done)
    assert found["vault"]["state"] == "problem"
    assert found["vault"]["mend"]
    servers_told = [check for check in json.loads(done.stdout)["checks"] if check["name"] == "server"]
    assert [check["state"] for check in servers_told] == ["problem", "ok"]
    assert "gone" in servers_told[0]["text"]
    assert servers_told[0]["mend"]
    text = run("--config", str(config), "doctor", HOME=str(tmp_path)).stdout.decode()
    assert "problem  vault" in text
    assert "-> " in text


def test_doctor_tells_the_faults_of_a_file_and_goes_on(tmp_path: Path) -> None:
    config = tmp_path / "config.json"
    config.write_text('{"mcpServers":{"a":{}},"x":1}')
    done = run("doctor", "--json", "--config", str(config), HOME=str(tmp_path))
    assert done.returncode == 1
    told = [check["text"] for check in json.loads(done.stdout)["checks"] if check["name"] == "config"]
    assert [text.partition(":")[0] for text in told] == ["/mcpServers/a", "/x"]
    assert findings(done)["child"]["state"] == "ok"


def test_doctor_takes_a_policy_for_a_policy(tmp_path: Path) -> None:
    config = tmp_path / "config.json"
    config.write_text('{"egress":{"allowCommands":[],"trustConnectOrigin":false},"vault":{"type":"file"}}')
    done = run("doctor", "--json", "--config", str(config), HOME=str(tmp_path))
    assert done.returncode == 0, done.stdout
    found = findings(done)
    assert (found["child"]["state"], found["loopback"]["state"]) == ("warning", "warning")
    assert "allowCommands" in found["child"]["text"]


def test_doctor_on_a_bare_machine_says_which_package_is_wrong(tmp_path: Path) -> None:
    for name in ("fastmcp", "mcp"):  # what an older installation looks like to the program
        folder = tmp_path / f"{name}-0.0.1.dist-info"
        folder.mkdir()
        (folder / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 0.0.1\n")
    done = run("doctor", "--json", "--vault", "memory", PYTHONPATH=str(tmp_path), HOME=str(tmp_path))
    assert done.returncode == 1
    found = findings(done)["packages"]
    assert found["state"] == "problem"
    assert "fastmcp 0.0.1 instead of" in found["text"]
    assert "make setup" in found["mend"]


def test_doctor_tells_an_engine_that_cannot_be_loaded(tmp_path: Path) -> None:
    package = tmp_path / "fastmcp"
    package.mkdir()
    (package / "__init__.py").write_text("raise ImportError('broken')\n")
    done = run("doctor", "--json", "--vault", "memory", PYTHONPATH=str(tmp_path), HOME=str(tmp_path))
    assert done.returncode == 1
    found = findings(done)
    assert (found["child"]["state"], found["loopback"]["state"]) == ("problem", "problem")
    assert "make setup" in found["child"]["mend"]


def test_program_without_its_packages_says_so_in_a_sentence(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-S", "-m", "sidecar", "doctor"],
        capture_output=True,
        timeout=30,
        cwd=ROOT,
        env={"HOME": str(tmp_path), "PATH": os.environ["PATH"]},
        check=False,
    )
    assert (done.returncode, done.stdout) == (1, b"")
    assert b"is missing: run make setup" in done.stderr
    assert b"Traceback" not in done.stderr


def test_schema_prints_the_contract_of_this_version() -> None:
    done = run("schema")
    assert done.returncode == 0
    assert done.stdout == (ROOT / "proto" / "openrpc.json").read_bytes()
    assert {"servers/import", "tools/call"} <= {method["name"] for method in json.loads(done.stdout)["methods"]}


COMPLETE = r"""
source <("$1" completion bash)
COMP_WORDS=(mcp-sidecar "${@:2}")
COMP_CWORD=$(($# - 1))
_mcp_sidecar
printf '%s\n' "${COMPREPLY[@]}"
"""


def complete(*words: str, cwd: Path = ROOT) -> list[str]:
    """Return what a real bash offers for the last of the words."""
    done = subprocess.run(
        ["bash", "--norc", "-euc", COMPLETE, "bash", PROGRAM[0], *words],
        capture_output=True,
        timeout=30,
        cwd=cwd,
        check=True,
    )
    assert done.stderr == b""
    return done.stdout.decode().split("\n")[:-1]


@pytest.mark.needs("bash")
@pytest.mark.parametrize(
    ("words", "offered"),
    [
        (["d"], ["doctor"]),
        (["c"], ["call", "completion"]),
        (["--ver"], ["--version", "--verbose"]),
        (["call", "tools/"], ["tools/call", "tools/list"]),
        (["--verbose", "call", "servers/t"], ["servers/test"]),
        (["--log-level", "debug", "call", "sidecar/h"], ["sidecar/health"]),
        (["call", "tools/list", "--s"], ["--server"]),
        (["--log-level", "w"], ["warning"]),
        (["--vault", "re"], ["redis"]),
        (["completion", "z"], ["zsh"]),
        (["doctor", "--j"], ["--json"]),
        (["call", "tools/list", "--server", "x"], [""]),
    ],
)
def test_bash_completes_commands_methods_and_values(words: list[str], offered: list[str]) -> None:
    assert complete(*words) == offered


@pytest.mark.needs("bash")
def test_bash_completes_files_with_blanks(tmp_path: Path) -> None:
    (tmp_path / "my config.json").touch()
    assert complete("--config", "my", cwd=tmp_path) == ["my config.json"]


@pytest.mark.parametrize("shell", ["zsh", "fish"])
def test_scripts_of_other_shells_are_complete_and_parse(shell: str, tmp_path: Path) -> None:
    done = run("completion", shell)
    assert done.returncode == 0
    for word in (b"servers/import", b"doctor", b"--json" if shell == "zsh" else b"-l json", b"keyring"):
        assert word in done.stdout
    assert b"@" not in done.stdout.replace(b"${@", b"")
    if shutil.which(shell) is not None:
        script = tmp_path / "script"
        script.write_bytes(done.stdout)
        subprocess.run([shell, "-n", str(script)], check=True, timeout=30)


def test_unknown_shell_is_a_mistake_in_the_words() -> None:
    done = run("completion", "tcsh")
    assert (done.returncode, done.stdout) == (2, b"")
