"""`ServerInfo`: one connection as the host sees it. Never a URL, a header or a variable."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from sidecar import errors
from sidecar.telemetry.logs import now_text

if TYPE_CHECKING:
    from sidecar.connection import Connection


def server_info(connection: Connection) -> dict[str, Any]:
    """Return the `ServerInfo` of a connection as it is now."""
    link = connection.link
    body: dict[str, Any] = {
        "server": connection.name,
        "scope": connection.scope,
        "state": connection.state,
        "since": connection.since,
        "generation": connection.generation,
        "transport": connection.config.transport,
    }
    if link is not None:
        agreed = link.agreed
        body["protocolVersion"] = agreed.version
        body["era"] = "modern" if agreed.modern else "legacy"
        body["serverInfo"] = agreed.server_info
        if agreed.capabilities is not None:
            body["capabilities"] = agreed.capabilities
        if agreed.instructions is not None:
            body["instructions"] = agreed.instructions
    if connection.hint is not None:
        body["hint"] = connection.hint
    auth = auth_info(connection)
    body["auth"] = auth
    if connection.authorization is not None:
        body["authorization"] = connection.authorization
    body["facts"] = _facts(connection, auth)
    if connection.last_error is not None:
        body["lastError"] = connection.last_error.to_wire()
    body["attempts"] = connection.attempts
    if connection.pid is not None:
        body["pid"] = connection.pid
    body |= connection.extra_info
    return body


def auth_info(connection: Connection) -> dict[str, Any]:
    """Return the state of the credentials."""
    if connection.credentials is not None:
        found: dict[str, Any] = connection.credentials.info()
        return found
    kind = connection.config.auth
    if kind == "none":
        return {"type": kind, "state": "none"}
    dead = isinstance(connection.last_error, errors.AuthDenied)
    return {"type": kind, "state": "dead" if dead else "valid"}


def _facts(connection: Connection, auth: dict[str, Any]) -> dict[str, Any]:
    facts: dict[str, Any] = {
        "reachable": connection.reachable,
        "authOk": connection.auth_ok and auth["state"] in {"none", "valid"},
    }
    if connection.config.transport == "stdio":
        facts = {"process": connection.pid is not None, **facts}
    if connection.tools_listed is not None:
        facts["toolsListedAt"] = now_text(connection.tools_listed)
    if connection.last_success is not None:
        facts["lastSuccessAt"] = now_text(connection.last_success)
    return facts
