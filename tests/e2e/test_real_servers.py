"""Servers that others wrote, as their users install them."""

from __future__ import annotations

import os
import re
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.answers import Json
from tests.harness import PATIENCE, ROOT, Sidecar

EVERYTHING = ROOT / "node_modules" / "@modelcontextprotocol" / "server-everything" / "dist" / "index.js"
needs_node = pytest.mark.needs("node", str(EVERYTHING))


class Everything:
    """server-everything over one of its HTTP transports."""

    def __init__(self, kind: str) -> None:
        """Start it on a free port and wait until it listens."""
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port = free.getsockname()[1]
        self.process = subprocess.Popen(
            ["node", str(EVERYTHING), kind],
            env=os.environ | {"PORT": str(self.port)},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
        )
        assert self.process.stderr is not None
        for line in self.process.stderr:
            if re.search(r"listening|running on port", line, re.IGNORECASE):
                break

    def stop(self) -> None:
        """End it."""
        self.process.kill()
        self.process.wait(PATIENCE)
        assert self.process.stderr is not None
        self.process.stderr.close()


@pytest.fixture(scope="module", params=["stdio", "http", "sse"])
def everything(request: pytest.FixtureRequest) -> Iterator[Json]:
    """Return a transport to server-everything."""
    if request.param == "stdio":
        yield {"type": "stdio", "command": "node", "args": [str(EVERYTHING), "stdio"]}
        return
    server = Everything({"http": "streamableHttp", "sse": "sse"}[request.param])
    path = {"http": "/mcp", "sse": "/sse"}[request.param]
    yield {"type": request.param, "url": f"http://127.0.0.1:{server.port}{path}"}
    server.stop()


@needs_node
def test_everything_works_over_each_of_its_transports(shared: Sidecar, server: str, everything: Json) -> None:
    info = shared.connect(server, everything)
    assert info["state"] == "ready"
    assert info["era"] == "legacy"
    tools = {tool["name"] for tool in shared.call("tools/list", {"server": server, "all": True}).result["tools"]}
    assert {"echo", "get-sum"} <= tools
    echo = shared.tool(server, "echo", {"message": "h\u00e9llo"}).result
    assert "h\u00e9llo" in echo["content"][0]["text"]
    assert "5" in shared.tool(server, "get-sum", {"a": 2, "b": 3}).result["content"][0]["text"]
    resources = shared.call("resources/list", {"server": server, "all": True}).result["resources"]
    contents = shared.call("resources/read", {"server": server, "uri": resources[0]["uri"]}).result["contents"]
    assert contents
    prompts = shared.call("prompts/list", {"server": server}).result["prompts"]
    plain = next(prompt["name"] for prompt in prompts if not prompt.get("arguments"))
    assert shared.call("prompts/get", {"server": server, "name": plain}).result["messages"]
    assert shared.call("servers/ping", {"server": server}).result == {}
    shared.tool(server, "nonsense").body  # noqa: B018 - an answer of any kind


@needs_node
def test_long_call_shows_progress_and_can_be_cancelled(shared: Sidecar, server: str, everything: Json) -> None:
    shared.connect(server, everything)
    name = "trigger-long-running-operation"
    key = shared.start_tool(server, name, {"duration": 0.5, "steps": 5}, progress=True)
    assert shared.answer(key).result["content"]
    told = [params["progress"] for params in shared.told("notifications/progress") if params["requestId"] == key]
    assert told == sorted(told)
    assert len(told) >= 3
    key = shared.start_tool(server, name, {"duration": 30, "steps": 300}, progress=True)
    shared.wait_told("notifications/progress", lambda params: params["requestId"] == key)
    shared.cancel(key)
    shared.answer(key).is_error(1004, delivered="maybe")
    assert shared.tool(server, "echo", {"message": "after"}).result


def test_time_server_of_python_tells_the_time(shared: Sidecar, server: str) -> None:
    program = Path(sys.executable).parent / "mcp-server-time"
    info = shared.connect(server, {"type": "stdio", "command": str(program)})
    assert info["state"] == "ready"
    result = shared.tool(server, "get_current_time", {"timezone": "Europe/Berlin"}).result
    assert "Europe/Berlin" in result["content"][0]["text"]
    failed = shared.tool(server, "get_current_time", {"timezone": "Mars/Base"}).result
    assert failed["isError"] is True
