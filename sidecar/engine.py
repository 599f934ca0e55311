"""The seams into FastMCP 4 and the MCP Python SDK 2; everything that touches either stands here.

FastMCP's `Client` owns the session and negotiates the era. It is built over our channel through two public seams: a
`ClientTransport` of our own, and the `dispatcher=` parameter of the SDK's `ClientSession`. No monkey-patching.
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
import json
import os
import sys
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

import msgspec

from sidecar import errors

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Mapping

    from fastmcp import Client

    from sidecar.transports.channel import Channel

SETTINGS: Final = {
    "FASTMCP_ENV_FILE": os.devnull,  # or a `.env` of the working directory would configure the engine
    "FASTMCP_LOG_ENABLED": "false",
    "FASTMCP_TELEMETRY_MODE": "off",
    "FASTMCP_CHECK_FOR_UPDATES": "off",
    "PY_KEY_VALUE_DISABLE_BEARTYPE": "1",
}
LEGACY_VERSIONS: Final = ("2024-11-05", "2025-03-26", "2025-06-18", "2025-11-25")
MODERN_VERSION: Final = "2026-07-28"
EXTENSIONS: Final[dict[str, Any]] = {"io.modelcontextprotocol/skills": {}, "io.modelcontextprotocol/tasks": {}}
"""What servers of the modern era are told besides: extensions that the sidecar serves by itself."""
_UNSUPPORTED_VERSION: Final = -32022
_HTTP_MEANS_OTHER: Final = "HTTP 20"


def prepare_environment() -> None:
    """Clean what would configure the engine behind our back: a value it does not know makes its import fail."""
    for name in list(os.environ):
        if name.startswith("FASTMCP_"):
            del os.environ[name]
    os.environ.update(SETTINGS)


def load() -> None:
    """Import the engine; slow, so it runs in a thread behind the first answers."""
    import fastmcp.client  # noqa: F401 - the import is the work
    import mcp.client.session  # noqa: F401 - the import is the work


def versions() -> dict[str, str]:
    """Return the versions of the engine, read from its metadata: nothing is imported."""
    import importlib.metadata

    found = {}
    for name in ("fastmcp", "mcp"):
        try:
            found[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            found[name] = "missing"
    found["python"] = ".".join(map(str, sys.version_info[:3]))
    return found


@dataclass
class Negotiated:
    """What the handshake agreed on."""

    version: str
    modern: bool
    server_info: Any = None
    capabilities: Any = None
    instructions: str | None = None
    meta: dict[str, bytes] = field(default_factory=dict)
    """Modern era: members of `_meta` that every request carries, as JSON."""


class Session:
    """One FastMCP client over one channel. Entered and left by the connection's own task alone."""

    def __init__(
        self, channel: Channel, protocol: str, client_info: Mapping[str, str], capabilities: Mapping[str, Any]
    ) -> None:
        """Prepare; `capabilities` is exactly what servers are told of the host."""
        self._channel = channel
        self._protocol = protocol
        self._client_info = dict(client_info)
        self._capabilities = dict(capabilities)
        self._client: Client[Any] | None = None

    async def open(self, *, legacy_only: bool) -> Negotiated:
        """Negotiate and return what was agreed on. Raises a SidecarError."""
        from fastmcp import Client
        from mcp_types import Implementation

        mode = {"legacy": "legacy", "push": "legacy"}.get(self._protocol, self._protocol)
        transport = _transport_class()(self._channel, self._capabilities, legacy_only)
        self._client = Client(
            transport,
            name="sidecar",
            mode=mode,
            auto_initialize=False,
            client_info=Implementation.model_validate(self._client_info),
        )
        await self._client.__aenter__()  # type: ignore[no-untyped-call]  # FastMCP leaves it untyped
        try:
            return await self._negotiate(self._client)
        except errors.BadPeerMessage as error:
            if str(error.extra.get("reason")).startswith(_HTTP_MEANS_OTHER):
                raise
            raise errors.HandshakeFailed(f"the answer to the handshake is no JSON-RPC: {error.message}") from error
        except (errors.SidecarError, asyncio.CancelledError):
            raise
        except Exception as error:
            raise _handshake_error(error) from error

    async def _negotiate(self, client: Client[Any]) -> Negotiated:
        from mcp.shared.exceptions import MCPError
        from mcp_types import DiscoverResult

        if self._protocol == "push":
            try:
                await client.initialize()
            except MCPError:
                client.mode = "auto"
        if client.protocol_version is None:
            try:
                await client.initialize()
            except RuntimeError:
                # FastMCP raises where the modern era was negotiated, which has no InitializeResult.
                if client.protocol_version is None:
                    raise
        if self._protocol == MODERN_VERSION:
            # A pinned version is adopted without a word on the wire: ask, so that ready means answered.
            try:
                raw = await client.session.send_discover(MODERN_VERSION)
                client.session.adopt(DiscoverResult.model_validate(raw))
            except (MCPError, RuntimeError, ValueError) as error:
                supported = _supported(error)
                raise errors.HandshakeFailed(
                    f"the server does not speak {MODERN_VERSION}", supported=supported
                ) from error
        return self._agreed(str(client.protocol_version))

    def _agreed(self, version: str) -> Negotiated:
        from mcp_types import (
            CLIENT_CAPABILITIES_META_KEY,
            CLIENT_INFO_META_KEY,
            PROTOCOL_VERSION_META_KEY,
            SERVER_INFO_META_KEY,
        )

        raw = self._channel.handshake or {}
        modern = version not in LEGACY_VERSIONS
        meta: dict[str, bytes] = {}
        if modern:
            stamped = raw.get("_meta")
            info = stamped.get(SERVER_INFO_META_KEY) if isinstance(stamped, dict) else None
            for key, value in (
                (PROTOCOL_VERSION_META_KEY, version),
                (CLIENT_INFO_META_KEY, self._client_info),
                (CLIENT_CAPABILITIES_META_KEY, told(self._capabilities, version)),
            ):
                meta[key] = json.dumps(value, separators=(",", ":")).encode()
        else:
            info = raw.get("serverInfo")
        instructions = raw.get("instructions")
        return Negotiated(
            version=version,
            modern=modern,
            server_info=info,
            capabilities=raw.get("capabilities"),
            instructions=instructions if isinstance(instructions, str) else None,
            meta=meta,
        )

    async def close(self) -> None:
        """Leave the client; what it raises on the way out concerns nobody any more."""
        if self._client is not None:
            client, self._client = self._client, None
            with contextlib.suppress(Exception):
                await client.close()  # type: ignore[no-untyped-call]  # FastMCP leaves it untyped
                # Client, session and transport hold each other: taken apart they are freed now, not by the collector.
                vars(client).clear()


def told(capabilities: Mapping[str, Any], version: str) -> dict[str, Any]:
    """Return the capabilities that a server of this version is told."""
    return dict(capabilities) if version in LEGACY_VERSIONS else {**capabilities, "extensions": EXTENSIONS}


def capabilities_meta(capabilities: Mapping[str, Any], version: str) -> dict[str, bytes]:
    """Return the member of `_meta` that tells a modern server of capabilities."""
    from mcp_types import CLIENT_CAPABILITIES_META_KEY

    return {CLIENT_CAPABILITIES_META_KEY: msgspec.json.encode(told(capabilities, version))}


@functools.cache
def _transport_class() -> Callable[[Channel, Mapping[str, Any], bool], Any]:
    """Return the FastMCP transport that puts the SDK's session on a channel, made when the engine is loaded."""
    from fastmcp.client.transports.base import ClientTransport
    from mcp import ClientSession
    from mcp_types import ClientCapabilities

    class RawSession(ClientSession):
        """Tells servers exactly what the host promised: the stock session promises every mode of a handler."""

        promised: Mapping[str, Any]

        def _build_capabilities(self, version: str) -> ClientCapabilities:
            return ClientCapabilities.model_validate(told(self.promised, version))

    class ChannelTransport(ClientTransport):
        """Yields a session whose dispatcher is the channel."""

        def __init__(self, channel: Channel, capabilities: Mapping[str, Any], legacy_only: bool) -> None:
            self.channel = channel
            self.capabilities = capabilities
            self.legacy_only = legacy_only

        @contextlib.asynccontextmanager
        async def connect_session(self, *, transport_options: Any = None, **kwargs: Any) -> AsyncIterator[Any]:
            del transport_options
            session = RawSession(dispatcher=self.channel, **kwargs)
            session.promised = self.capabilities
            try:
                async with session:
                    yield session
            finally:
                vars(session).clear()

    return ChannelTransport


def _supported(error: Exception) -> list[Any] | None:
    """Return the versions that a refusal names."""
    data = getattr(getattr(error, "error", None), "data", None)
    supported = data.get("supported") if isinstance(data, dict) else None
    return supported if isinstance(supported, list) else None


def _handshake_error(error: Exception) -> errors.SidecarError:
    from mcp.shared.exceptions import MCPError

    if isinstance(error, MCPError):
        data = error.error.data
        supported = _supported(error)
        if error.error.code == _UNSUPPORTED_VERSION or supported is not None:
            return errors.HandshakeFailed("no common protocol version", supported=supported)
        if isinstance(error.__cause__, errors.SidecarError):
            return error.__cause__
        remote: dict[str, Any] = {"code": error.error.code, "message": error.error.message}
        if data is not None:
            remote["data"] = data
        return errors.RemoteError(
            f"the server refused the handshake: {error.error.message[:300]}", delivered="yes", remote=remote
        )
    text = str(error)
    if isinstance(error, RuntimeError) and "protocol version" in text:
        offered = text.rpartition(": ")[2]
        supported = [offered] if offered[:4].isdigit() else None
        return errors.HandshakeFailed("no common protocol version", supported=supported)
    return errors.HandshakeFailed("the answer to the handshake is malformed")
