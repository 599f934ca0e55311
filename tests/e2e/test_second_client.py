"""The same server asked by a second client, written by others: what comes back is the same to the last field."""

from __future__ import annotations

import json
import subprocess
import sys
from typing import Any

import pytest

from tests.answers import Json
from tests.harness import ROOT, Sidecar

NODE = str(ROOT / "node_modules/.bin/node")
INSPECTOR = str(ROOT / "node_modules/@modelcontextprotocol/inspector-cli/build/cli.js")
SERVERS: dict[str, list[str]] = {
    "everything": [NODE, str(ROOT / "node_modules/@modelcontextprotocol/server-everything/dist/index.js"), "stdio"],
    "fastmcp": [sys.executable, "-m", "tests.servers.stdio_server"],
    "talker": [sys.executable, "-m", "tests.servers.talker"],
}
pytestmark = pytest.mark.needs(NODE, INSPECTOR)


def inspected(server: str, method: str, *arguments: str) -> Any:
    """Return what the Inspector's command line prints for one request."""
    command = [NODE, INSPECTOR, "--cli", *SERVERS[server], "--method", method, *arguments]
    done = subprocess.run(command, capture_output=True, timeout=50, cwd=ROOT, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    return json.loads(done.stdout)


@pytest.fixture(scope="module")
def ours() -> Any:
    """Return a sidecar with all the servers, in the era that the other client speaks."""
    with Sidecar() as sidecar:
        for name, (command, *arguments) in SERVERS.items():
            transport: Json = {"type": "stdio", "command": command, "args": arguments, "cwd": str(ROOT)}
            sidecar.connect(name, transport, protocol="legacy")
        yield sidecar


CASES: tuple[tuple[str, str, Json, tuple[str, ...]], ...] = (
    ("everything", "tools/list", {}, ()),
    ("everything", "resources/templates/list", {}, ()),
    ("everything", "prompts/list", {}, ()),
    (
        "everything",
        "tools/call",
        {"name": "get-structured-content", "arguments": {"location": "Chicago"}},
        ("--tool-name", "get-structured-content", "--tool-arg", "location=Chicago"),
    ),
    (
        "everything",
        "tools/call",
        {"name": "get-annotated-message", "arguments": {"messageType": "error", "includeImage": True}},
        ("--tool-name", "get-annotated-message", "--tool-arg", "messageType=error", "--tool-arg", "includeImage=true"),
    ),
    ("fastmcp", "tools/list", {}, ()),
    ("fastmcp", "resources/read", {"uri": "text://hello"}, ("--uri", "text://hello")),
    (
        "fastmcp",
        "prompts/get",
        {"name": "about", "arguments": {"topic": "tea"}},
        ("--prompt-name", "about", "--prompt-args", "topic=tea"),
    ),
    (
        "talker",
        "tools/call",
        {"name": "echo", "arguments": {"text": "  blanks  ", "none": None, "list": [1, {"a": None}], "no": False}},
        (
            "--tool-name",
            "echo",
            "--tool-arg",
            "text=  blanks  ",
            "--tool-arg",
            "none=null",
            "--tool-arg",
            'list=[1,{"a":null}]',
            "--tool-arg",
            "no=false",
        ),
    ),
)


@pytest.mark.parametrize(("server", "method", "params", "arguments"), CASES)
def test_second_client_gets_the_same_result(
    ours: Sidecar, server: str, method: str, params: Json, arguments: tuple[str, ...]
) -> None:
    assert ours.call(method, {"server": server, **params}).result == inspected(server, method, *arguments)
