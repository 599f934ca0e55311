"""What is answered before the models and the engine are imported: `initialize` and `ping` (wire section 2)."""

from __future__ import annotations

import os
import re
import sys
from typing import TYPE_CHECKING, Any, Final

import msgspec

from sidecar import __version__, engine, errors
from sidecar.wire_start import Egress, InitializeParams, PingParams, ProcessLimits, VaultConfig

if TYPE_CHECKING:
    from collections.abc import Sequence

    from sidecar.request import Outcome, Request
    from sidecar.wire import ConnectParams

PROTOCOL_VERSION: Final = 1
_AT: Final = re.compile(r" - at `\$(.*)`\Z")
_UNKNOWN: Final = re.compile(r"Object contains unknown field `(.*)`\Z")
_MISSING: Final = re.compile(r"Object missing required field `(.*)`\Z")
_ABSENT: Final = PingParams().payload

VAULT_KEY: Final = "MCP_SIDECAR_KEY"
"""The variable that opens every stored credential: no child inherits it, whoever asks for it."""
EARLY: Final = frozenset({"initialize", "ping"})


class Agreement:
    """What `initialize` agreed on; the defaults until it comes, and for good where it never does."""

    def __init__(
        self,
        limits: ProcessLimits | None = None,
        egress: Egress | None = None,
        vault: VaultConfig | None = None,
        servers: Sequence[ConnectParams] = (),
    ) -> None:
        """Start from the defaults, or from what the configuration file says."""
        self.initialized = False
        self.client: dict[str, str] = {"name": "mcp-sidecar", "version": __version__}
        self.capabilities: dict[str, Any] = {}
        self.limits = limits if limits is not None else ProcessLimits()
        self.egress = egress if egress is not None else Egress()
        self.vault = vault
        self.servers = servers
        """What the configuration file names: known before the first line is read."""

    def prefer_vault(self, kind: Any) -> None:
        """Use this kind of vault, with what the configuration file says of it, unless `initialize` names another."""
        if self.vault is None:
            self.vault = VaultConfig(type=kind)
        else:
            self.vault = msgspec.structs.replace(self.vault, type=kind)

    def initialize(self, request: Request) -> Outcome:
        """Serve `initialize`. Raises VersionMismatch, InvalidParams or InvalidRequest; a refused one may come again."""
        if self.initialized:
            raise errors.InvalidRequest("initialize was sent already: it comes once")
        if request.peer.seen_request:
            raise errors.InvalidRequest("initialize must be the first request")
        params = decode(InitializeParams, request.params)
        if params.protocol_version != PROTOCOL_VERSION:
            raise errors.VersionMismatch(
                f"this sidecar speaks version {PROTOCOL_VERSION} of the wire",
                want=params.protocol_version,
                have=PROTOCOL_VERSION,
            )
        self.initialized = True
        if params.capabilities is not None:
            self.capabilities = msgspec.to_builtins(params.capabilities)
        if params.limits is not None:
            given = frames_keys(request.params, "limits")
            self.limits = _merge(self.limits, params.limits, given)
        if params.egress is not None:
            given = frames_keys(request.params, "egress")
            self.egress = _merge(self.egress, params.egress, given)
        if params.vault is not None:
            given = frames_keys(request.params, "vault")
            self.vault = _merge(self.vault, params.vault, given) if self.vault is not None else params.vault
        request.peer.max_frame = self.limits.max_frame_bytes
        found = engine.versions()
        return msgspec.json.encode(
            {
                "protocolVersion": PROTOCOL_VERSION,
                "sidecar": {"name": "mcp-sidecar", "version": __version__, **found, "pid": os.getpid()},
                "mcpProtocolVersions": [*engine.LEGACY_VERSIONS, engine.MODERN_VERSION],
                "limits": limits_body(self.limits),
                "platform": {"os": sys.platform, "treeGuard": sys.platform == "linux"},
            }
        )


def ping(request: Request) -> Outcome:
    """Serve `ping`: the payload comes back byte for byte."""
    request.peer.seen_request = True
    params = decode(PingParams, request.params)
    if params.payload is _ABSENT:
        return b"{}"
    payload = memoryview(params.payload)
    return b"".join((b'{"payload":', payload, b"}"))


def limits_body(limits: ProcessLimits) -> dict[str, int]:
    """Return the limits in force; one that is not set is left out."""
    body: dict[str, int | None] = msgspec.to_builtins(limits)
    return {name: value for name, value in body.items() if value is not None}


def decode(model: type[Any], params: bytes | msgspec.Raw) -> Any:
    """Return params as a struct. Raises InvalidParams with the JSON pointer of the first fault."""
    try:
        return msgspec.json.decode(params, type=model)
    except msgspec.ValidationError as error:
        text = str(error)
        path = ""
        if found := _AT.search(text):
            path = re.sub(r"\[(\d+)\]", r".\1", found[1]).replace(".", "/")
            text = text[: found.start()]
        for pattern in (_UNKNOWN, _MISSING):
            if found := pattern.match(text):
                path += "/" + found[1]
                text = "unknown key" if pattern is _UNKNOWN else "missing"
        raise errors.InvalidParams(f"{path or 'params'}: {text}", path=path) from None


def frames_keys(params: bytes | msgspec.Raw, member: str) -> set[str]:
    """Return the keys that an object inside params has."""
    inner = msgspec.json.decode(params, type=dict[str, msgspec.Raw])[member]
    return set(msgspec.json.decode(inner, type=dict[str, msgspec.Raw]))


def _merge(base: Any, over: Any, given: set[str]) -> Any:
    """Return `base` with the keys that were given taken from `over`."""
    camel = dict(zip(type(base).__struct_encode_fields__, type(base).__struct_fields__, strict=True))
    return msgspec.structs.replace(base, **{camel[key]: getattr(over, camel[key]) for key in given})
