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
    """Where credentials rest (section 2)."""

    type: Literal["auto", "keyring", "file", "memory", "host", "redis"]
    path: str | None = None
    """The folder of `file`; the user's data folder where absent."""
    url: str | None = None
    """The server of `redis`."""
    key_file: str | None = None
    """A file with base64 of 32 bytes; made with mode 0600 where missing."""


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


class HostAuth(Wire):
    """The host owns the tokens: the sidecar asks `tokens/get` when it needs one."""

    type: Literal["host"]


class PrivateKey(Wire):
    """A key that signs assertions (RFC 7523): the client's own, or those of its grant."""

    pem: str
    algorithm: str
    key_id: str | None = None


class HostRedirect(Wire):
    """The host receives the redirect on a URL of its own."""

    mode: Literal["host"]
    uri: str


class LoopbackRedirect(Wire):
    """The sidecar receives the redirect on a loopback port."""

    mode: Literal["loopback"]
    port: Annotated[int, Field(gt=0, le=65535, strict=True)] | None = None


Redirect = TypeAliasType("Redirect", Annotated[HostRedirect | LoopbackRedirect, Field(discriminator="mode")])


class OAuth(Wire):
    """OAuth 2.1, run by the sidecar (section 4, Credentials). Explicit endpoints switch discovery off."""

    type: Literal["oauth"]
    grant: Literal["authorization_code", "device_code", "client_credentials", "jwt_bearer"] | None = None
    client_id: str | None = None
    client_secret: str | None = None
    token_endpoint_auth_method: str | None = None
    private_key: PrivateKey | None = None
    client_metadata_url: str | None = None
    client_name: str | None = None
    scopes: list[str] | None = None
    scope_ceiling: list[str] | None = None
    issuer: str | None = None
    authorization_endpoint: str | None = None
    token_endpoint: str | None = None
    device_authorization_endpoint: str | None = None
    revocation_endpoint: str | None = None
    resource: str | None = None
    """`auto`, `omit`, or the resource's URI."""
    pkce: Literal["require", "assumeS256"] | None = None
    provider: Literal["github", "google", "azure", "auth0"] | None = None
    owner: Literal["user", "tenant"] | None = None
    redirect: Redirect | None = None
    dpop: bool | None = None
    extra_params: dict[str, str] | None = None


Auth = TypeAliasType(
    "Auth", Annotated[NoAuth | BearerAuth | HeaderAuth | HostAuth | OAuth, Field(discriminator="type")]
)


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


class ToolPolicy(Wire):
    """Which tools of a server the host may see and call, and what is checked of them."""

    allow: list[str] | None = None
    """Globs; absent allows every tool, an empty list none."""
    deny: list[str] | None = None
    """Globs; they win over `allow`."""
    output_schema: Literal["pass", "enforce"] | None = None
    pin: Literal["off", "report", "enforce"] | None = None
    pins: dict[str, str] | None = None
    """Tool -> hash; without it the first list is the pin."""


class ConnectParams(Wire):
    """Make the connection of one address."""

    server: ServerName
    scope: Scope | None = None
    transport: Transport
    auth: Auth | None = None
    protocol: str | None = None
    client_info: ClientInfo | None = None
    capabilities: HostCapabilities | None = None
    """What the host promises on this connection; it may only narrow the promises of `initialize`."""
    roots: list[dict[str, Any]] | None = None
    """MCP's `Root` objects; `roots/list` is answered from them."""
    timeouts: Timeouts | None = None
    limits: ServerLimits | None = None
    tools: ToolPolicy | None = None
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


class UpdateParams(Wire):
    """Change a connection without reconnecting; each key given replaces its whole former value."""

    server: ServerName
    scope: Scope | None = None
    tools: ToolPolicy | None = None
    limits: ServerLimits | None = None
    timeouts: Timeouts | None = None
    headers: Headers | None = None
    token: str | None = None
    timeout_ms: Millis | None = None


class ImportParams(Wire):
    """Make addresses of the servers in a desktop client's configuration."""

    config: dict[str, Any]
    """`{mcpServers: {name: entry}}`."""
    scope: Scope | None = None
    env: dict[str, str] | None = None
    """Where the values of `${VAR}` come from, and nowhere else."""
    connect: bool | None = None
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


class Authorization(Wire):
    """A login that waits for a person."""

    authorization_id: str
    url: str
    state: str
    expires_at: Time
    user_code: str | None = None
    verification_uri: str | None = None
    interval: int | None = None
    """Seconds between two polls of a device code."""


class ToolWarning(Wire):
    """Something odd in a tool's definition."""

    tool: str
    kind: Literal["invisibleUnicode"]
    path: str
    """JSON pointer into the tool."""


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
    authorization: Authorization | None = None
    facts: Facts
    last_error: ErrorObject | None = None
    attempts: int
    pid: int | None = None
    pins: dict[str, str] | None = None
    """Tool -> hash, where tools are pinned."""
    warnings: list[ToolWarning] | None = None


class ListServersResult(Wire):
    """The connections asked for."""

    servers: list[ServerInfo]


class TestTimings(Wire):
    """How long the steps of a test took."""

    connect_ms: int
    init_ms: int
    list_ms: int


class TestResult(Wire):
    """What `servers/test` found; nothing stays behind."""

    ok: bool
    server_info: Any = None
    tools: int | None = None
    resources: int | None = None
    prompts: int | None = None
    error: ErrorObject | None = None
    timings: TestTimings


class ImportResult(Wire):
    """The addresses that were made, and every fault."""

    servers: list[ServerInfo]
    errors: list[ErrorObject]


# -- credentials --------------------------------------------------------------------------------------------------


class AuthBeginParams(Wire):
    """Begin a login of a known address."""

    server: ServerName
    scope: Scope | None = None
    flow: Literal["redirect", "device"] | None = None
    timeout_ms: Millis | None = None


class AuthCompleteParams(Wire):
    """End a login with what the redirect brought: the whole callback URL, or its parts."""

    callback_url: str | None = None
    state: str | None = None
    code: str | None = None
    iss: str | None = None
    error: str | None = None
    error_description: str | None = None
    scope: Scope | None = None
    timeout_ms: Millis | None = None


class ImportedTokens(Wire):
    """Tokens that the host already holds."""

    access_token: str
    refresh_token: str | None = None
    expires_at: Time | None = None
    scope: str | None = None
    token_type: str | None = None


class ImportedClient(Wire):
    """The client registration that the tokens belong to."""

    client_id: str
    client_secret: str | None = None


class AuthImportParams(Wire):
    """Take over a login that the host already holds."""

    server: ServerName
    scope: Scope | None = None
    tokens: ImportedTokens
    client: ImportedClient | None = None
    issuer: str
    token_endpoint: str
    timeout_ms: Millis | None = None


class AuthStatusParams(Wire):
    """Whose credentials to tell; without a server all known addresses of that tenant and user."""

    server: ServerName | None = None
    scope: Scope | None = None
    timeout_ms: Millis | None = None


class CredentialStatus(Wire):
    """One stored login; never a secret."""

    server: str
    issuer: str | None = None
    scopes: list[str] | None = None
    expires_at: Time | None = None
    refreshable: bool
    stored_in: str


class AuthStatus(Wire):
    """The stored logins."""

    credentials: list[CredentialStatus]


class AuthRevoked(Wire):
    """Whether the authorization server confirmed the revocation (RFC 7009)."""

    revoked_at_server: bool


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


# -- requests of the sidecar --------------------------------------------------------------------------------------


class Reverse(BaseModel):
    """The envelope of what a server asks the host; all other keys are MCP's own, unaltered."""

    model_config = ConfigDict(
        extra="allow", frozen=True, alias_generator=to_camel, defer_build=True, use_attribute_docstrings=True
    )

    server: str
    scope: Scope
    timeout_ms: Millis | None = None
    request_id: int | str | None = None
    """The host's call that this belongs to, where the protocol proves it (section 5)."""


class TokensGetParams(Wire):
    """Ask the host for a token of one address."""

    server: str
    scope: Scope
    timeout_ms: Millis | None = None
    reason: Literal["missing", "expiring", "rejected"]


class HostToken(Wire):
    """A token of the host."""

    access_token: str
    token_type: str | None = None
    expires_at: Time | None = None


class AssertionParams(Wire):
    """Ask the host for an assertion (RFC 7523)."""

    server: str
    scope: Scope
    timeout_ms: Millis | None = None
    audience: str
    resource: str | None = None


class Assertion(Wire):
    """An assertion of the host."""

    assertion: str


class CredentialsGetParams(Wire):
    """Read one sealed record of the host's database."""

    server: str | None = None
    scope: Scope
    timeout_ms: Millis | None = None
    key: str


class CredentialRecord(Wire):
    """One sealed record, base64; null where there is none."""

    value: str | None = None
    version: str | None = None


class CredentialsPutParams(Wire):
    """Write one sealed record, if its version still is `ifVersion`; null: it must not exist."""

    server: str | None = None
    scope: Scope
    timeout_ms: Millis | None = None
    key: str
    value: str
    if_version: str | None


class CredentialsPutResult(Wire):
    """The new version; or, where `ok` is false, what stands there instead."""

    ok: bool
    version: str | None = None
    value: str | None = None


class CredentialsDeleteParams(Wire):
    """Delete one sealed record, if its version still is `ifVersion` where that is given."""

    server: str | None = None
    scope: Scope
    timeout_ms: Millis | None = None
    key: str
    if_version: str | None = None


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


class ServerNotice(BaseModel):
    """A server's notification with its address; all other keys are MCP's own, unaltered."""

    model_config = ConfigDict(
        extra="allow", frozen=True, alias_generator=to_camel, defer_build=True, use_attribute_docstrings=True
    )

    server: str
    scope: Scope
    request_id: int | str | None = None
    """`notifications/message` only: the host's call that this belongs to, where the protocol proves it."""


class AuthRequiredParams(Wire):
    """A person must log in."""

    server: str
    scope: Scope
    authorization: Authorization


class ToolChangedParams(Wire):
    """A pinned tool has another definition now, is new (`oldHash` null) or gone (`newHash` null)."""

    server: str
    scope: Scope
    tool: str
    old_hash: str | None
    new_hash: str | None
    diff: Any = None


class StoreDegradedParams(Wire):
    """The vault cannot be written; the new credentials are kept in memory."""

    backend: str
    error: ErrorObject


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
    Method("servers/update", UpdateParams, ServerInfo, "Change a connection without reconnecting."),
    Method("servers/test", ConnectParams, TestResult, "Try a connection; nothing stays behind."),
    Method("servers/import", ImportParams, ImportResult, "Make addresses of a desktop client's configuration."),
    Method("servers/disconnect", DisconnectParams, Empty, "Close a connection and forget its address."),
    Method("servers/list", ListServersParams, ListServersResult, "List connections."),
    Method("servers/get", Address, ServerInfo, "Tell one connection."),
    Method("servers/ping", Address, Empty, "Ask the server whether it answers; whatever its era has for it."),
    Method("auth/begin", AuthBeginParams, Authorization, "Begin a login."),
    Method("auth/complete", AuthCompleteParams, ServerInfo, "End a login with what its redirect brought."),
    Method("auth/import", AuthImportParams, ServerInfo, "Take over a login that the host already holds."),
    Method("auth/status", AuthStatusParams, AuthStatus, "Tell the stored logins; never a secret."),
    Method("auth/revoke", Address, AuthRevoked, "Revoke and forget a login."),
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
    _mcp("resources/subscribe", "SubscribeParams", "EmptyResult", "Be told when a resource changes."),
    _mcp("resources/unsubscribe", "UnsubscribeParams", "EmptyResult", "Be told no more."),
    _mcp("prompts/list", "ListPromptsParams", "ListPromptsResult", "List the server's prompts."),
    _mcp("prompts/get", "GetPromptParams", "GetPromptResult", "Get a prompt."),
    _mcp("completion/complete", "CompleteParams", "CompleteResult", "Complete an argument."),
    _mcp("logging/setLevel", "SetLoggingLevelParams", "EmptyResult", "Set the level of the server's log messages."),
    Method("roots/set", Operation, Empty, "Set the roots of one connection; the server is told."),
    Method("tasks/get", Operation, None, "Tell a detached background task."),
    Method("tasks/result", Operation, None, "Wait for a detached task and answer as its call would have."),
    Method("tasks/cancel", Operation, None, "Cancel a detached task."),
    Method("skills/list", Operation, None, "List the server's skills."),
    Method("skills/get", Operation, None, "Tell one skill."),
    Method("skills/read", Operation, None, "Read a skill's file, checked against the skill's entry."),
)
"""Requests, host to sidecar."""


def _ask(name: str, params: type[BaseModel], result: type[BaseModel], doc: str) -> Method:
    return Method(name, params, result, doc, direction="sidecar")


def _ask_mcp(name: str, params: str, result: str, doc: str) -> Method:
    return Method(name, Reverse, None, doc, mcp=(params, result), direction="sidecar")


REVERSE: Final = (
    _ask_mcp("elicitation/create", "ElicitParams", "ElicitResult", "A server asks the person for input."),
    _ask_mcp("sampling/createMessage", "CreateMessageParams", "CreateMessageResult", "A server asks for a sample."),
    _ask_mcp("roots/list", "ListRootsParams", "ListRootsResult", "A server asks for the roots."),
    _ask("tokens/get", TokensGetParams, HostToken, "Give a token that the host owns."),
    _ask("assertions/create", AssertionParams, Assertion, "Make an assertion for a token endpoint."),
    _ask("credentials/get", CredentialsGetParams, CredentialRecord, "Read a sealed record."),
    _ask("credentials/put", CredentialsPutParams, CredentialsPutResult, "Write a sealed record, compare-and-swap."),
    _ask("credentials/delete", CredentialsDeleteParams, Empty, "Delete a sealed record."),
)
"""Requests, sidecar to host."""


def _tell(name: str, params: type[BaseModel], doc: str) -> Method:
    return Method(name, params, None, doc, direction="sidecar")


NOTIFICATIONS: Final = (
    Method("notifications/cancelled", CancelledParams, None, "Cancel a request."),
    _tell("notifications/progress", ProgressParams, "Progress of a request."),
    _tell("notifications/message", ServerNotice, "A log message of a server."),
    _tell("notifications/tools/list_changed", ServerNotice, "The tools of a server have changed."),
    _tell("notifications/prompts/list_changed", ServerNotice, "The prompts of a server have changed."),
    _tell("notifications/resources/list_changed", ServerNotice, "The resources of a server have changed."),
    _tell("notifications/resources/updated", ServerNotice, "A subscribed resource has changed."),
    _tell("notifications/elicitation/complete", ServerNotice, "What a URL elicitation asked for is done."),
    _tell("notifications/tasks", ServerNotice, "The status of a background task."),
    _tell("servers/changed", ServerInfo, "A connection changed its state."),
    _tell("auth/required", AuthRequiredParams, "A person must log in."),
    _tell("catalog/toolChanged", ToolChangedParams, "A pinned tool has changed."),
    _tell("store/degraded", StoreDegradedParams, "The vault cannot be written."),
    _tell("sidecar/dropped", DroppedParams, "Something was dropped for a slow host."),
)

LISTS: Final = {
    "tools/list": "tools",
    "resources/list": "resources",
    "resources/templates/list": "resourceTemplates",
    "prompts/list": "prompts",
    "skills/list": "skills",
}
"""Paged methods and the key of their elements."""
