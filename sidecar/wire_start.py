"""Generated from sidecar/wire.py by proto/generate.py: do not edit, run `make gen`.

The shapes that are answered before pydantic is imported, as msgspec structs.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

import msgspec


class Start(msgspec.Struct, forbid_unknown_fields=True, rename="camel", kw_only=True):
    """Base: camelCase on the wire, unknown keys refused."""


class HostInfo(Start):
    """Who drives the sidecar."""

    name: str
    version: str


class ElicitationPromise(Start):
    """Which elicitation modes the host can answer."""

    form: dict[str, Any] | None = None
    url: dict[str, Any] | None = None


class SamplingPromise(Start):
    """What the host can do when a server asks it to sample."""

    tools: dict[str, Any] | None = None
    context: dict[str, Any] | None = None


class RootsPromise(Start):
    """The host has file-system roots to tell."""

    list_changed: bool | None = None


class HostCapabilities(Start):
    """What the host promises to answer, once, for the process; a server is told only this."""

    elicitation: ElicitationPromise | None = None
    sampling: SamplingPromise | None = None
    roots: RootsPromise | None = None
    credentials: dict[str, Any] | None = None
    assertions: dict[str, Any] | None = None
    tokens: dict[str, Any] | None = None


class VaultConfig(Start):
    """Where credentials rest (section 2)."""

    type: Literal["auto", "keyring", "file", "memory", "host", "redis"]
    path: str | None = None
    url: str | None = None
    key_file: str | None = None


class Egress(Start):
    """Which URLs and commands the sidecar may use (section 2)."""

    allow_hosts: list[str] | None = None
    deny_hosts: list[str] | None = None
    allow_private: list[str] | None = None
    allow_http: list[str] | None = None
    allow_commands: list[str] | None = None
    trust_connect_origin: bool | None = None


class ProcessLimits(Start):
    """Limits of the whole process."""

    max_frame_bytes: Annotated[int, msgspec.Meta(gt=0)] = 67108864
    max_servers: Annotated[int, msgspec.Meta(gt=0)] = 20000
    max_servers_per_scope: Annotated[int, msgspec.Meta(gt=0)] = 10000
    max_processes: Annotated[int, msgspec.Meta(gt=0)] = 256
    max_in_flight: Annotated[int, msgspec.Meta(gt=0)] = 10000
    max_in_flight_per_scope: Annotated[int, msgspec.Meta(gt=0)] = 2000
    memory_budget_bytes: Annotated[int, msgspec.Meta(gt=0)] | None = None
    idle_timeout_ms: Annotated[int, msgspec.Meta(gt=0)] = 1800000


class InitializeParams(Start):
    """First line of a host that wants more than the defaults."""

    protocol_version: int
    host: HostInfo
    capabilities: HostCapabilities | None = None
    vault: VaultConfig | None = None
    egress: Egress | None = None
    limits: ProcessLimits | None = None
    timeout_ms: Annotated[int, msgspec.Meta(gt=0)] | None = None


class PingParams(Start):
    """Ask whether the sidecar's loop is alive; the payload comes back byte for byte."""

    payload: msgspec.Raw = msgspec.Raw()
    timeout_ms: Annotated[int, msgspec.Meta(gt=0)] | None = None
