"""The seams into the engine (docs/engine-seams.md): each test fails when upstream changes what it stands on."""

from __future__ import annotations

import asyncio
import inspect
import json
import os
import re
import subprocess
import sys
from typing import TYPE_CHECKING, Any, TypeVar

import httpcore2
import msgspec
import pytest
from fastmcp import Client
from fastmcp.client.transports.base import ClientTransport
from mcp import ClientSession
from mcp.shared import inbound
from mcp_types import ElicitResult

from sidecar import engine, errors
from sidecar.transports.channel import Call, Channel
from sidecar.transports.net import Backend, Stream
from tests.harness import ROOT

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Mapping
    from pathlib import Path

T = TypeVar("T")
PATIENCE = 20.0
DISCOVERED = {
    "resultType": "complete",
    "supportedVersions": ["2026-07-28"],
    "capabilities": {"tools": {}},
    "ttlMs": 0,
    "cacheScope": "private",
    "_meta": {"io.modelcontextprotocol/serverInfo": {"name": "n", "version": "1"}},
}
INITIALIZED = {"protocolVersion": "2025-06-18", "capabilities": {}, "serverInfo": {"name": "n", "version": "1"}}


class Scripted(Channel):
    """A channel whose server answers by method, and whose messages are noted."""

    def __init__(self, answers: Mapping[str, Any]) -> None:
        """Answer with these results; every other request is unknown."""
        super().__init__(1 << 20, {})
        self._answers = answers
        self.sent: list[str] = []
        self.params: dict[str, Any] = {}

    async def _perform(self, call: Call, message: bytes, headers: Mapping[str, str] | None) -> bytes:
        del headers
        self.sent.append(call.method)
        self.params[call.method] = msgspec.json.decode(message)["params"]
        if call.method not in self._answers:
            raise errors.RemoteError("unknown", delivered="yes", remote={"code": -32601, "message": "unknown"})
        return json.dumps(self._answers[call.method]).encode()

    def _send_soon(self, message: bytes) -> None:
        self.sent.append(msgspec.json.decode(message)["method"])

    async def aclose(self) -> None:
        """End the channel."""
        self.fail(errors.ConnectionLost("closed", reason="closed"))


def opened(
    answers: Mapping[str, Any], protocol: str, capabilities: Mapping[str, Any] | None = None
) -> tuple[Scripted, engine.Negotiated]:
    """Open the engine's session on a scripted channel, close it, and return what was sent and agreed on."""

    async def run() -> tuple[Scripted, engine.Negotiated]:
        channel = Scripted(answers)
        session = engine.Session(channel, protocol, {"name": "host", "version": "1"}, capabilities or {})
        try:
            return channel, await session.open(legacy_only=False)
        finally:
            await session.close()
            await channel.aclose()

    return in_loop(run)


def stock_client(answers: Mapping[str, Any], mode: str) -> tuple[str | None, list[str]]:
    """Let the client alone negotiate the modern era; return its version and what was sent."""

    async def run() -> tuple[str | None, list[str]]:
        channel = Scripted(answers)
        client: Any = Client(engine._transport_class()(channel, {}, False), mode=mode, auto_initialize=False)
        await client.__aenter__()
        with pytest.raises(RuntimeError):
            await client.initialize()
        version = client.protocol_version
        await client.close()
        await channel.aclose()
        return version, channel.sent

    return in_loop(run)


def in_loop(work: Callable[[], Awaitable[T]]) -> T:
    """Run in a loop of its own, bounded, and check that no task is left."""

    async def bounded() -> T:
        result = await asyncio.wait_for(work(), PATIENCE)
        assert asyncio.all_tasks() == {asyncio.current_task()}
        return result

    return asyncio.run(bounded())


def test_client_and_session_still_take_what_the_sidecar_gives_them() -> None:
    """The parameters of the two constructors and of the transport are public and there."""
    assert {"transport", "name", "mode", "auto_initialize", "client_info"} <= inspect.signature(
        Client
    ).parameters.keys()
    assert "dispatcher" in inspect.signature(ClientSession).parameters
    assert "transport_options" in inspect.signature(ClientTransport.connect_session).parameters


def test_negotiation_sends_nothing_but_the_handshake() -> None:
    """Legacy, after the probe of the modern era; a hidden request would show here."""
    channel, agreed = opened({"initialize": INITIALIZED}, "auto")
    assert channel.sent == ["server/discover", "initialize", "notifications/initialized"]
    assert (agreed.version, agreed.modern) == ("2025-06-18", False)


def test_modern_negotiation_is_one_request() -> None:
    """And the client's own `initialize` raises although it has succeeded, which the session must forgive."""
    channel, agreed = opened({"server/discover": DISCOVERED}, "auto")
    assert channel.sent == ["server/discover"]
    assert (agreed.version, agreed.modern) == ("2026-07-28", True)

    assert stock_client({"server/discover": DISCOVERED}, "auto") == ("2026-07-28", ["server/discover"])


def test_pinned_version_is_adopted_without_a_word_by_the_client_alone() -> None:
    """So the session asks by itself, or `ready` would mean nothing."""
    channel, agreed = opened({"server/discover": DISCOVERED}, "2026-07-28")
    assert channel.sent == ["server/discover"]
    assert agreed.capabilities == {"tools": {}}

    assert stock_client({}, "2026-07-28") == ("2026-07-28", [])


def test_servers_are_told_exactly_what_the_host_promised() -> None:
    """The stock session promises every elicitation mode as soon as it has a handler; ours says what it is given."""

    async def elicit(*_: Any) -> ElicitResult:
        return ElicitResult(action="cancel")

    stock = ClientSession(dispatcher=Scripted({}), elicitation_callback=elicit)  # type: ignore[arg-type]  # never called
    promised = stock._build_capabilities("2025-11-25").elicitation
    assert promised is not None
    assert promised.url is not None

    channel, _ = opened({"initialize": INITIALIZED}, "legacy", {"elicitation": {"form": {}}})
    assert channel.params["initialize"]["capabilities"] == {"elicitation": {"form": {}}}


def test_mirrored_headers_of_the_modern_era_come_from_the_sdk() -> None:
    """The four functions that turn names and arguments into headers."""
    assert inbound.encode_header_value("plain") == "plain"
    assert inbound.encode_header_value("grüße").isascii()
    schema = {"type": "object", "properties": {"region": {"type": "string", "x-mcp-header": "Region"}}}
    assert inbound.find_invalid_x_mcp_header(schema) is None
    header_map = inbound.x_mcp_header_map(schema)
    headers = inbound.mcp_param_headers(header_map, {"region": "eu"})
    assert {name.lower(): value for name, value in headers.items()} == {"mcp-param-region": "eu"}
    schema["properties"]["region"]["x-mcp-header"] = "not a token"  # type: ignore[index]  # a literal of ours
    assert inbound.find_invalid_x_mcp_header(schema) is not None


def test_network_layer_implements_all_of_the_http_library_s_interface() -> None:
    """Streams and the backend under the connection pool; a new method upstream would fall back to refusing."""
    for ours, theirs in ((Stream, httpcore2.AsyncNetworkStream), (Backend, httpcore2.AsyncNetworkBackend)):
        for name, method in inspect.getmembers(theirs, inspect.isfunction):
            if not name.startswith("_") and name not in {"sleep", "connect_unix_socket"}:
                assert getattr(ours, name) is not method, f"{ours.__name__}.{name} is not implemented"
    assert "network_backend" in inspect.signature(httpcore2.AsyncConnectionPool).parameters


@pytest.mark.parametrize("how", ["variable", "file"])
def test_engine_is_configured_by_the_environment_which_the_sidecar_cleans(how: str, tmp_path: Path) -> None:
    """A value that the engine does not know makes its import fail; so may a `.env` of the working directory."""
    (tmp_path / ".env").write_text("FASTMCP_LOG_LEVEL=loud\n" if how == "file" else "", encoding="utf-8")
    environment = {key: value for key, value in os.environ.items() if not key.startswith("FASTMCP_")}
    environment["PYTHONPATH"] = str(ROOT)
    if how == "variable":
        environment["FASTMCP_LOG_LEVEL"] = "loud"

    def run(program: str) -> int:
        command = [sys.executable, "-c", program]
        done = subprocess.run(
            command, cwd=tmp_path, env=environment, capture_output=True, timeout=3 * PATIENCE, check=False
        )
        return done.returncode

    assert run("import fastmcp") != 0
    assert run("from sidecar import engine; engine.prepare_environment(); engine.load()") == 0


def test_engine_is_imported_only_where_the_page_says() -> None:
    """Every import of FastMCP, the SDK and their HTTP layer stands in a file that the page names."""
    engine_import = re.compile(r"^\s*(?:from|import) (?:fastmcp|mcp|mcp_types|httpcore2|httpx2)\b", re.MULTILINE)
    importing = {
        path.relative_to(ROOT).as_posix()
        for path in (ROOT / "sidecar").rglob("*.py")
        if engine_import.search(path.read_text(encoding="utf-8"))
    }
    page = (ROOT / "docs" / "engine-seams.md").read_text(encoding="utf-8")
    assert importing == set(re.findall(r"`(sidecar/[\w/]+\.py)`", page))


def test_page_of_the_seams_names_these_tests() -> None:
    """Every test of this file stands in the page, and every test that the page names stands here."""
    page = (ROOT / "docs" / "engine-seams.md").read_text(encoding="utf-8")
    named = set(re.findall(r"`(test_\w+)`", page))
    here = {name for name in globals() if name.startswith("test_")} - {
        "test_page_of_the_seams_names_these_tests",
        "test_engine_is_imported_only_where_the_page_says",
    }
    assert named == here
