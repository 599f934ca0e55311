"""Everything that crosses the pipe between the Go host and the sidecar, and nothing else.

This module is the source of the contract: `proto/generate.py` renders it to OpenRPC, to the Go types and to
`wire_start.py`. Meaning that a schema cannot hold stands in `proto/README.md` and the transcripts.
Our own models refuse unknown keys; MCP payloads are opaque and pass through as bytes.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Any, Final, Literal

from pydantic import BaseModel, ConfigDict, Field, StringConstraints
from pydantic.alias_generators import to_camel
from typing_extensions import TypeAliasType

PROTOCOL_VERSION: Final = 1
MIB: Final = 1024 * 1024
PROTOCOLS: Final = ("auto", "legacy", "push", "2026-07-28")
LOG_LEVELS: Final = ("debug", "info", "warning", "error")
RESERVED: Final = frozenset({"server", "scope", "timeoutMs", "all", "progress", "idempotent", "headers", "detach"})
"""Keys of MCP operations that are ours; every other key goes to the server unaltered (section 3)."""

ServerName = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9._-]{1,128}$")]
ScopePart = Annotated[str, StringConstraints(max_length=256)]
PositiveInt = Annotated[int, Field(gt=0, strict=True)]
Millis = Annotated[int, Field(gt=0, strict=True)]
Time = Annotated[str, Field(description="RFC 3339, UTC, milliseconds", json_schema_extra={"format": "date-time"})]
Headers = dict[str, str]


class Wire(BaseModel):
    """Base of every model of ours: camelCase on the wire, unknown keys refused, frozen."""

    model_config = ConfigDict(
        extra="forbid",
        frozen=True,
        strict=True,
        alias_generator=to_camel,
        populate_by_name=True,
        use_attribute_docstrings=True,
        defer_build=True,
        protected_namespaces=(),
    )


class Empty(Wire):
    """No fields."""


# -- process ------------------------------------------------------------------------------------------------------


class HostInfo(Wire):
    """Who drives the sidecar."""

    name: str
    version: str


class ElicitationPromise(Wire):
    """Which elicitation modes the host can answer."""

    form: dict[str, Any] | None = None
    url: dict[str, Any] | None = None


class SamplingPromise(Wire):
    """What the host can do when a server asks it to sample."""

    tools: dict[str, Any] | None = None
    context: dict[str, Any] | None = None


class RootsPromise(Wire):
    """The host has file-system roots to tell."""

    list_changed: bool | None = None


class HostCapabilities(Wire):
    """What the host promises to answer, once, for the process; a server is told only this."""

    elicitation: ElicitationPromise | None = None
    sampling: SamplingPromise | None = None
    roots: RootsPromise | None = None
    credentials: dict[str, Any] | None = None
    assertions: dict[str, Any] | None = None
    tokens: dict[str, Any] | None = None


class VaultConfig(Wire):
    """Where credentials rest. Until the credential store is built only the shape is checked."""

    type: Literal["auto", "keyring", "file", "memory", "host", "redis"]
    path: str | None = None
    url: str | None = None
    key_file: str | None = None


class Egress(Wire):
    """Which URLs and commands the sidecar may use (section 2)."""

    allow_hosts: list[str] | None = None
    deny_hosts: list[str] | None = None
    allow_private: list[str] | None = None
    allow_http: list[str] | None = None
    allow_commands: list[str] | None = None
    """Path globs; absent or null allows every command, an empty list none."""
    trust_connect_origin: bool | None = None


class ProcessLimits(Wire):
    """Limits of the whole process."""

    max_frame_bytes: PositiveInt = 64 * MIB
    """Bytes of one line, the newline not counted; both directions."""
    max_servers: PositiveInt = 20_000
    max_servers_per_scope: PositiveInt = 10_000
    max_processes: PositiveInt = 256
    max_in_flight: PositiveInt = 10_000
    max_in_flight_per_scope: PositiveInt = 2_000
    memory_budget_bytes: PositiveInt | None = None
    idle_timeout_ms: Millis = 1_800_000


class InitializeParams(Wire):
    """First line of a host that wants more than the defaults."""

    protocol_version: Annotated[int, Field(strict=True)]
    host: HostInfo
    capabilities: HostCapabilities | None = None
    vault: VaultConfig | None = None
    egress: Egress | None = None
    limits: ProcessLimits | None = None
    timeout_ms: Millis | None = None


class SidecarInfo(Wire):
    """Versions of what is running."""

    name: str
    version: str
    fastmcp: str
    mcp: str
    python: str
    pid: int


class Platform(Wire):
    """What this platform can guard."""

    os: str
    tree_guard: bool
    """True where no death of anyone leaves a process of a stdio server behind."""


class InitializeResult(Wire):
    """The sidecar's answer: versions, limits in force, platform."""

    protocol_version: int
    sidecar: SidecarInfo
    mcp_protocol_versions: list[str]
    limits: ProcessLimits
    platform: Platform


class PingParams(Wire):
    """Ask whether the sidecar's loop is alive; the payload comes back byte for byte."""

    payload: Any = None
    timeout_ms: Millis | None = None


class PingResult(Wire):
    """The payload, as it came."""

    payload: Any = None


class HealthParams(Wire):
    """No parameters."""

    timeout_ms: Millis | None = None


class VaultHealth(Wire):
    """The state of the credential store."""

    type: str
    state: Literal["unused", "ready", "locked", "unavailable"]
    why: str | None = None


class Health(Wire):
    """Facts about the process."""

    status: Literal["ok", "starting", "degraded", "draining"]
    since: Time
    version: str
    uptime_ms: int
    pid: int
    rss_bytes: int
    cpu_ms: int
    open_fds: int
    servers: dict[str, int]
    """Connections by state; states without a connection are left out."""
    in_flight: int
    vault: VaultHealth


class SetLogLevelParams(Wire):
    """Change the level of the log lines on stderr."""

    level: str
    timeout_ms: Millis | None = None


class ShutdownParams(Wire):
    """Stop politely; calls in flight may finish until the deadline."""

    deadline_ms: Annotated[int, Field(ge=0, strict=True)] | None = None
    timeout_ms: Millis | None = None


# -- connections --------------------------------------------------------------------------------------------------


class Scope(Wire):
    """Whose connection it is. Absent and empty are the same."""

    tenant: ScopePart | None = None
    user: ScopePart | None = None
    session: ScopePart | None = None


class TLSConfig(Wire):
    """TLS options of one HTTP connection."""

    ca_file: str | None = None
    cert_file: str | None = None
    key_file: str | None = None
    verify: bool | None = None


class HTTPTransport(Wire):
    """Streamable HTTP."""

    type: Literal["http"]
    url: str
    headers: Headers | None = None
    tls: TLSConfig | None = None
    proxy: str | None = None


class SSETransport(Wire):
    """The HTTP with SSE transport of 2024-11-05."""

    type: Literal["sse"]
    url: str
    headers: Headers | None = None
    tls: TLSConfig | None = None
    proxy: str | None = None


class StdioTransport(Wire):
    """A child process that speaks MCP on its stdin and stdout."""

    type: Literal["stdio"]
    command: str
    args: list[str] | None = None
    env: dict[str, str] | None = None
    inherit_env: list[str] | None = None
    """Names of variables of the sidecar's environment that the child gets, besides a short safe list."""
    cwd: str | None = None
    stderr: Literal["log", "discard"] | None = None


Transport = TypeAliasType(
    "Transport", Annotated[HTTPTransport | SSETransport | StdioTransport, Field(discriminator="type")]
)


class NoAuth(Wire):
    """No credentials."""

    type: Literal["none"]


class BearerAuth(Wire):
    """A fixed bearer token."""

    type: Literal["bearer"]
    token: str


class HeaderAuth(Wire):
    """Fixed headers that carry the credentials."""

    type: Literal["headers"]
    headers: Headers


Auth = TypeAliasType("Auth", Annotated[NoAuth | BearerAuth | HeaderAuth, Field(discriminator="type")])


class ClientInfo(Wire):
    """What a server is told about the client."""

    name: str
    version: str
    title: str | None = None


class Timeouts(Wire):
    """Times of one connection."""

    connect_ms: Millis | None = None
    """Bounds one connection attempt; 30 000."""
    request_ms: Millis | None = None
    """Default deadline of a request; 60 000."""
    idle_ms: Millis | None = None


class ServerLimits(Wire):
    """Limits of one connection."""

    max_in_flight: PositiveInt = 1000
    max_result_bytes: PositiveInt = 16 * MIB
    """Bytes of a message: line, body or event, after decompression."""
    rate_per_second: Annotated[float, Field(gt=0)] | None = None
    burst: PositiveInt | None = None


class ConnectParams(Wire):
    """Make the connection of one address."""

    server: ServerName
    scope: Scope | None = None
    transport: Transport
    auth: Auth | None = None
    protocol: str | None = None
    client_info: ClientInfo | None = None
    timeouts: Timeouts | None = None
    limits: ServerLimits | None = None
    wait: bool | Literal["ready"] | None = None
    lazy: bool | None = None
    replace: bool | None = None
    timeout_ms: Millis | None = None


class Address(Wire):
    """One connection, by name and scope."""

    server: ServerName
    scope: Scope | None = None
    timeout_ms: Millis | None = None


class DisconnectParams(Wire):
    """Close a connection and forget its address."""

    server: ServerName
    scope: Scope | None = None
    forget: bool | None = None
    timeout_ms: Millis | None = None


class ListServersParams(Wire):
    """Which connections to list."""

    scope: Scope | None = None
    all_scopes: bool | None = None
    timeout_ms: Millis | None = None


State = Literal["idle", "connecting", "authorizing", "ready", "retrying", "failed", "closed"]


class AuthInfo(Wire):
    """The state of a connection's credentials; never a secret."""

    type: str
    state: Literal["none", "valid", "expired", "pending", "dead"]
    expires_at: Time | None = None
    scopes: list[str] | None = None
    issuer: str | None = None
    relaxed: list[str] | None = None


class Facts(Wire):
    """What is known about a server, each fact by itself."""

    process: bool | None = None
    """Whether the child process lives; only for stdio."""
    reachable: bool
    auth_ok: bool
    tools_listed_at: Time | None = None
    last_success_at: Time | None = None


class ErrorObject(Wire):
    """An error inside a result."""

    code: int
    message: str
    data: Any = None


class ServerInfo(Wire):
    """One connection as the host sees it. Never a URL, a header or a variable."""

    server: str
    scope: Scope
    state: State
    since: Time
    generation: int
    transport: Literal["http", "sse", "stdio"]
    protocol_version: str | None = None
    era: Literal["legacy", "modern"] | None = None
    server_info: Any = None
    """The server's `Implementation`, as it came; null where it sent none."""
    capabilities: Any = None
    instructions: str | None = None
    hint: Literal["needsPush"] | None = None
    auth: AuthInfo
    facts: Facts
    last_error: ErrorObject | None = None
    attempts: int
    pid: int | None = None


class ListServersResult(Wire):
    """The connections asked for."""

    servers: list[ServerInfo]


# -- MCP operations -----------------------------------------------------------------------------------------------


class Operation(BaseModel):
    """The envelope of every MCP operation; all other keys are MCP's own and go to the server unaltered."""

    model_config = ConfigDict(
        extra="allow", frozen=True, alias_generator=to_camel, defer_build=True, use_attribute_docstrings=True
    )

    server: ServerName
    scope: Scope | None = None
    timeout_ms: Millis | None = None
    all: bool | None = None
    """Lists only: follow the pages and answer with all of them."""
    progress: bool | None = None
    """`tools/call` only: send `notifications/progress` for this request."""
    idempotent: bool | None = None
    """`tools/call` only: may be repeated after an uncertain delivery."""
    headers: Headers | None = None
    """HTTP headers of this call."""
    detach: bool | None = None


# -- notifications ------------------------------------------------------------------------------------------------


class CancelledParams(Wire):
    """Cancel the request with this id."""

    request_id: int | str
    reason: str | None = None


class ProgressParams(Wire):
    """Progress of the host's own request."""

    server: str
    scope: Scope
    request_id: int | str
    progress: float
    total: float | None = None
    message: str | None = None


class DroppedParams(Wire):
    """What was dropped because the host read too slowly, since the last one."""

    what: Literal["logs", "progress"]
    count: int


# -- the table ----------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Method:
    """One row of the contract. `mcp` names MCP's own result type where the result is a server's."""

    name: str
    params: type[BaseModel]
    result: type[BaseModel] | None
    doc: str
    mcp: tuple[str, str] | None = None
    direction: Literal["host", "sidecar"] = "host"


def _mcp(name: str, params: str, result: str, doc: str) -> Method:
    return Method(name, Operation, None, doc, mcp=(params, result))


METHODS: Final = (
    Method("initialize", InitializeParams, InitializeResult, "Agree on the version, capabilities and limits."),
    Method("ping", PingParams, PingResult, "Ask whether the sidecar's loop is alive."),
    Method("sidecar/health", HealthParams, Health, "Facts about the process."),
    Method("sidecar/setLogLevel", SetLogLevelParams, Empty, "Change the level of the log lines."),
    Method("shutdown", ShutdownParams, Empty, "Drain, close everything, exit 0."),
    Method("servers/connect", ConnectParams, ServerInfo, "Make the connection of one address."),
    Method("servers/disconnect", DisconnectParams, Empty, "Close a connection and forget its address."),
    Method("servers/list", ListServersParams, ListServersResult, "List connections."),
    Method("servers/get", Address, ServerInfo, "Tell one connection."),
    Method("servers/ping", Address, Empty, "Ask the server whether it answers; whatever its era has for it."),
    _mcp("tools/list", "ListToolsParams", "ListToolsResult", "List the server's tools."),
    _mcp("tools/call", "CallToolParams", "CallToolResult", "Call a tool."),
    _mcp("resources/list", "ListResourcesParams", "ListResourcesResult", "List the server's resources."),
    _mcp(
        "resources/templates/list",
        "ListResourceTemplatesParams",
        "ListResourceTemplatesResult",
        "List the server's resource templates.",
    ),
    _mcp("resources/read", "ReadResourceParams", "ReadResourceResult", "Read a resource."),
    _mcp("prompts/list", "ListPromptsParams", "ListPromptsResult", "List the server's prompts."),
    _mcp("prompts/get", "GetPromptParams", "GetPromptResult", "Get a prompt."),
    _mcp("completion/complete", "CompleteParams", "CompleteResult", "Complete an argument."),
    _mcp("logging/setLevel", "SetLoggingLevelParams", "EmptyResult", "Set the level of the server's log messages."),
)
"""Requests, host to sidecar."""

NOTIFICATIONS: Final = (
    Method("notifications/cancelled", CancelledParams, None, "Cancel a request."),
    Method("notifications/progress", ProgressParams, None, "Progress of a request.", direction="sidecar"),
    Method("servers/changed", ServerInfo, None, "A connection changed its state.", direction="sidecar"),
    Method("sidecar/dropped", DroppedParams, None, "Something was dropped for a slow host.", direction="sidecar"),
)

LISTS: Final = {
    "tools/list": "tools",
    "resources/list": "resources",
    "resources/templates/list": "resourceTemplates",
    "prompts/list": "prompts",
}
"""Paged methods and the key of their elements."""
