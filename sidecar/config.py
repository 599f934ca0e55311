"""What `servers/connect` asks for, checked once and kept in the form the connection needs."""

from __future__ import annotations

import dataclasses
import os
import re
import shutil
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, TypeVar

import msgspec
from pydantic import BaseModel, ValidationError

from sidecar import errors, wire
from sidecar.auth.egress import BadURL, parse_url
from sidecar.auth.settings import BadSetting, Settings, settings_of
from sidecar.early import VAULT_KEY
from sidecar.promises import narrowed, plain
from sidecar.request import seconds_of

if TYPE_CHECKING:
    from collections.abc import Mapping

M = TypeVar("M", bound=BaseModel)

_HEADER_NAME: Final = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+\Z")
_HEADER_VALUE: Final = re.compile(r"[^\x00-\x08\x0a-\x1f\x7f]*\Z")
_OURS: Final = ("authorization", "host")
_OUR_PREFIXES: Final = ("mcp-", "content-")
_HOP: Final = frozenset({"host", "content-length", "transfer-encoding", "connection"})
_NOT_CONFIG: Final = ("timeoutMs", "wait", "lazy", "replace", "server", "scope")
DEFAULT_CONNECT_MS: Final = 30_000
DEFAULT_REQUEST_MS: Final = 60_000


def pointer(*parts: object) -> str:
    """Return a JSON pointer (RFC 6901)."""
    return "".join("/" + str(part).replace("~", "~0").replace("/", "~1") for part in parts)


def invalid(path: str, message: str, **extra: Any) -> errors.InvalidParams:
    """Return the -32602 that names the member at fault."""
    return errors.InvalidParams(f"{path or 'params'}: {message}", path=path, **extra)


def validate(model: type[M], params: bytes) -> M:
    """Return params as a model. Raises InvalidParams for the first fault, without repeating any value."""
    try:
        return model.model_validate_json(params)
    except ValidationError as error:
        fault = error.errors(include_url=False, include_input=False, include_context=False)[0]
        if fault["type"] == "json_invalid":
            raise invalid("", "not valid JSON for this method") from None
        loc = list(fault["loc"])
        if loc and loc[0] in _UNIONS:
            del loc[1:2]  # pydantic puts the union's tag here
        if loc[:2] == ["auth", "redirect"] and len(loc) > _TAGGED:
            del loc[2]
        message = "unknown key" if fault["type"] == "extra_forbidden" else fault["msg"]
        raise invalid(pointer(*loc), message) from None


_UNIONS: Final = frozenset({"transport", "auth"})
_TAGGED: Final = 3


@dataclass(frozen=True)
class ServerConfig:
    """One server's configuration. `identity` tells two of them apart."""

    transport: str
    identity: dict[str, Any]
    auth: str = "none"
    oauth: Settings | None = None
    protocol: str = "auto"
    capabilities: Mapping[str, Any] | None = None
    """What the host promises on this connection, where that is less than it promised at all."""
    roots: bytes | None = None
    """The roots that the host gave, as a JSON array."""
    client_info: Mapping[str, str] = field(default_factory=dict)
    connect_seconds: float = DEFAULT_CONNECT_MS / 1000
    request_seconds: float = DEFAULT_REQUEST_MS / 1000
    idle_seconds: float | None = None
    """`timeouts.idleMs`, where the host gave it."""
    max_in_flight: int = 1000
    max_result: int = 16 * wire.MIB
    rate: float | None = None
    burst: int | None = None
    url: str = ""
    headers: Mapping[str, str] = field(default_factory=dict)
    tls: Mapping[str, Any] | None = None
    proxy: str | None = None
    argv: tuple[str, ...] = ()
    env: Mapping[str, str] = field(default_factory=dict)
    inherit_env: tuple[str, ...] = ()
    cwd: str | None = None
    log_stderr: bool = True
    secrets: tuple[str, ...] = ()
    tools: wire.ToolPolicy | None = None
    params: wire.ConnectParams | None = field(default=None, repr=False)
    """What it was made from, for `servers/update`."""


def server_config(
    params: wire.ConnectParams, default_client: Mapping[str, str], promised: Mapping[str, Any] | None = None
) -> ServerConfig:
    """Return the configuration that `servers/connect` asks for. Raises InvalidParams.

    `promised` are the host's capabilities, which a connection's own may not pass; None where that was checked before.
    """
    protocol = params.protocol if params.protocol is not None else "auto"
    if protocol not in wire.PROTOCOLS:
        raise invalid("/protocol", "unknown protocol", allowed=list(wire.PROTOCOLS))
    for index, root in enumerate(params.roots or ()):
        if not isinstance(root.get("uri"), str):
            raise invalid(pointer("roots", index, "uri"), "must be a string")
    if isinstance(params.auth, wire.HostAuth) and promised is not None and promised.get("tokens") is None:
        raise invalid("/auth/type", "host auth needs the host capability `tokens`, promised in initialize")
    timeouts = params.timeouts or wire.Timeouts()
    limits = params.limits or wire.ServerLimits()
    values: dict[str, Any] = {
        "transport": params.transport.type,
        "identity": _identity(params),
        "auth": params.auth.type if params.auth is not None else "none",
        "protocol": protocol,
        "capabilities": _capabilities(params.capabilities, promised),
        "roots": msgspec.json.encode(params.roots) if params.roots is not None else None,
        "client_info": params.client_info.model_dump(exclude_none=True) if params.client_info else default_client,
        "connect_seconds": seconds_of(timeouts.connect_ms or DEFAULT_CONNECT_MS),
        "request_seconds": seconds_of(timeouts.request_ms or DEFAULT_REQUEST_MS),
        "idle_seconds": seconds_of(timeouts.idle_ms) if timeouts.idle_ms is not None else None,
        "max_in_flight": limits.max_in_flight,
        "max_result": limits.max_result_bytes,
        "rate": limits.rate_per_second,
        "burst": limits.burst,
        "tools": params.tools,
        "params": params,
    }
    if isinstance(params.transport, wire.StdioTransport):
        values |= _stdio(params.transport, params.auth)
    else:
        values |= _http(params.transport, params.auth)
        if isinstance(params.auth, wire.OAuth):
            values["oauth"] = _oauth(params.auth, params.transport, promised)
            values["secrets"] += values["oauth"].secrets
    return ServerConfig(**values)


def _oauth(
    auth: wire.OAuth, transport: wire.HTTPTransport | wire.SSETransport, promised: Mapping[str, Any] | None
) -> Settings:
    assertions = promised is None or promised.get("assertions") is not None
    try:
        settings = settings_of(auth, transport.url, assertions=assertions)
    except BadSetting as error:
        raise invalid(pointer("auth", *error.path), str(error)) from None
    ca_file = transport.tls.ca_file if transport.tls is not None else None
    return dataclasses.replace(settings, tls_ca=ca_file, proxy=transport.proxy)


def _capabilities(given: wire.HostCapabilities | None, promised: Mapping[str, Any] | None) -> Mapping[str, Any] | None:
    if given is None:
        return None
    body = given.model_dump(by_alias=True)
    return narrowed(body, promised) if promised is not None else plain(body)


def updated(have: ServerConfig, update: wire.UpdateParams, default_client: Mapping[str, str]) -> ServerConfig:
    """Return the configuration after `servers/update`: each key given replaces its whole former value.

    Raises InvalidParams, with pointers into the params of the update.
    """
    params = have.params
    assert params is not None
    changes: dict[str, Any] = {
        name: value for name in ("tools", "limits", "timeouts") if (value := getattr(update, name)) is not None
    }
    auth = params.auth
    if update.token is not None:
        if not isinstance(auth, wire.BearerAuth):
            raise invalid("/token", "the auth of this server is not bearer")
        changes["auth"] = auth.model_copy(update={"token": update.token})
    if update.headers is not None:
        if isinstance(params.transport, wire.StdioTransport):
            raise invalid("/headers", "a stdio server has no headers")
        if isinstance(auth, wire.HeaderAuth):
            changes["auth"] = auth.model_copy(update={"headers": update.headers})
        else:
            changes["transport"] = params.transport.model_copy(update={"headers": update.headers})
    try:
        config = server_config(params.model_copy(update=changes), default_client)
        # What is in flight, and a child's late words, may still hold what was replaced just now.
        former = server_config(params, default_client).secrets
        return dataclasses.replace(config, secrets=(*config.secrets, *former))
    except errors.InvalidParams as error:
        path = str(error.extra["path"])
        short = re.sub(r"^/(?:auth|transport)(?=/(?:headers|token))", "", path)
        raise invalid(short, error.message.removeprefix(f"{path}: ")) from None


def _identity(params: wire.ConnectParams) -> dict[str, Any]:
    """Return what tells two configurations apart: what is spelled out as its default is as if absent."""
    body = params.model_dump(by_alias=True, mode="json", exclude_none=True, exclude_defaults=True)
    defaults = {"auth": {"type": "none"}, "protocol": "auto", "limits": {}, "timeouts": {}, "tools": {}}
    if "tools" in body:
        plain = {"deny": [], "outputSchema": "pass", "pin": "off"}
        body["tools"] = {key: value for key, value in body["tools"].items() if plain.get(key) != value}
    found = {key: value for key, value in body.items() if key not in _NOT_CONFIG and defaults.get(key) != value}
    transport = {key: value for key, value in found["transport"].items() if value not in ({}, [])}
    if transport.get("stderr") == "log":
        del transport["stderr"]
    return found | {"transport": transport}


def _http(transport: wire.HTTPTransport | wire.SSETransport, auth: Any) -> dict[str, Any]:
    try:
        parse_url(transport.url)
    except BadURL as error:
        raise invalid("/transport/url", str(error)) from None
    headers: dict[str, str] = {}
    secrets: list[str] = []
    for name, value in (transport.headers or {}).items():
        check_header(name, value, "/transport/headers")
        headers[name.lower()] = value
        secrets.append(value)
    if isinstance(auth, wire.BearerAuth):
        check_header_value(auth.token, "/auth/token")
        if not auth.token.strip():
            raise invalid("/auth/token", "the token is empty")
        headers["authorization"] = f"Bearer {auth.token}"
        secrets.append(auth.token)
    elif isinstance(auth, wire.HeaderAuth):
        for name, value in auth.headers.items():
            check_header(name, value, "/auth/headers")
            headers[name.lower()] = value
            secrets.append(value)
    if transport.proxy is not None:
        try:
            parse_url(transport.proxy)
        except BadURL as error:
            raise invalid("/transport/proxy", str(error)) from None
    tls = transport.tls.model_dump(by_alias=True, exclude_none=True) if transport.tls is not None else None
    for name, value in (tls or {}).items():
        if isinstance(value, str) and "\0" in value:
            raise invalid(pointer("transport", "tls", name), "NUL is not allowed")
    secrets = [part for secret in secrets for part in (secret, secret.rpartition(" ")[2])]
    return {"url": transport.url, "headers": headers, "tls": tls, "proxy": transport.proxy, "secrets": tuple(secrets)}


def _stdio(transport: wire.StdioTransport, auth: Any) -> dict[str, Any]:
    if auth is not None and auth.type != "none":
        raise invalid("/auth", "a stdio server takes its credentials from env, not from auth")
    texts: list[tuple[str, str]] = [("/transport/command", transport.command)]
    texts += [(pointer("transport", "args", index), arg) for index, arg in enumerate(transport.args or ())]
    for name, value in (transport.env or {}).items():
        where = pointer("transport", "env", name)
        if not name or "=" in name:
            raise invalid(where, "a variable's name is not empty and has no '='")
        texts += [(where, name), (where, value)]
    if transport.cwd is not None:
        texts.append(("/transport/cwd", transport.cwd))
    for where, text in texts:
        if "\0" in text:
            raise invalid(where, "NUL is not allowed")
        if any("\ud800" <= char <= "\udfff" for char in text):
            raise invalid(where, "not valid Unicode")
    if not transport.command:
        raise invalid("/transport/command", "the command is empty")
    return {
        "argv": (transport.command, *(transport.args or ())),
        "env": dict(transport.env or {}),
        "inherit_env": tuple(transport.inherit_env or ()),
        "cwd": transport.cwd,
        "log_stderr": transport.stderr != "discard",
        "secrets": tuple((transport.env or {}).values()),
    }


def check_header(name: str, value: str, path: str) -> None:
    """Refuse a header of the object at `path` that HTTP does not allow or that is ours. Raises InvalidParams."""
    if not _HEADER_NAME.match(name):
        raise invalid(path + pointer(name), "a header's name has characters that HTTP does not allow")
    check_header_value(value, path + pointer(name))
    if name.lower() in _HOP:
        raise invalid(path + pointer(name), "this header belongs to the HTTP client")


def check_header_value(value: str, path: str) -> None:
    """Refuse a value that HTTP does not allow. Raises InvalidParams."""
    if not _HEADER_VALUE.match(value):
        raise invalid(path, "the value has control characters")


def check_call_headers(headers: Mapping[str, str]) -> None:
    """Refuse a call's header that is not the call's to set. Raises InvalidParams."""
    for name, value in headers.items():
        check_header(name, value, "/headers")
        if name.lower() in _OURS or name.lower().startswith(_OUR_PREFIXES):
            raise invalid(pointer("headers", name), "a call may not set Authorization, Host, Mcp-* or Content-*")


def child_environment(config: ServerConfig, ours: Mapping[str, str], safe: tuple[str, ...]) -> dict[str, str]:
    """Return the whole environment of a child: the safe list, the names it inherits, and its own."""
    env = {name: ours[name] for name in (*safe, *config.inherit_env) if name in ours and name != VAULT_KEY}
    return env | dict(config.env)


def command_path(config: ServerConfig, env: Mapping[str, str]) -> str:
    """Return the path that the command leads to, for the egress policy."""
    command = config.argv[0]
    if os.sep in command:
        return os.path.normpath(Path(config.cwd or Path.cwd()) / command)
    return shutil.which(command, path=env.get("PATH")) or command
