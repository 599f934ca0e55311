"""The hand-written authorization server in the hands of a test, and the person who logs in."""

from __future__ import annotations

import json
import urllib.error
import urllib.request
from typing import Any
from urllib.parse import parse_qsl, urlsplit

from tests.answers import Answer, Json
from tests.harness import PATIENCE, Sidecar
from tests.programs import Program

REDIRECT = "http://127.0.0.1:9/callback"
"""A redirect of the host; nobody listens there, since a test reads it from the answer."""
EGRESS: Json = {"allowPrivate": ["127.0.0.0/8"], "allowHttp": ["127.0.0.1"]}


class World:
    """One test's own servers."""

    def __init__(self, program: Program, key: str) -> None:
        """Use the part of the program that `key` names."""
        self.program = program
        self.key = key
        self.ports: dict[str, int] = program.get("/ports")
        self.url = f"{program.origin}/{key}/mcp"
        self.issuer = f"http://127.0.0.1:{self.ports['issuer']}/{key}"
        self.canary = f"http://127.0.0.1:{self.ports['canary']}"

    def set(self, **changes: Any) -> None:
        """Change what is answered."""
        body = json.dumps(changes).encode()
        request = urllib.request.Request(f"{self.program.origin}/control/{self.key}", body)  # noqa: S310 - our own server
        with urllib.request.urlopen(request, timeout=PATIENCE) as answer:  # noqa: S310 - our own server
            answer.read()

    def log(self, end: str | None = None) -> list[Json]:
        """Return what came, of paths that end so."""
        found: list[Json] = self.program.get(f"/log/{self.key}")["log"]
        return [entry for entry in found if end is None or entry["path"].endswith(end)]

    def grants(self, kind: str) -> list[Json]:
        """Return the token requests of a grant type."""
        return [entry for entry in self.log("/token") if entry["form"].get("grant_type", "").endswith(kind)]

    def wait_grant(self, kind: str, count: int = 1) -> None:
        """Wait until so many token requests of a grant type have come."""
        self.program.get(f"/wait/{self.key}?grant={kind}&count={count}")

    def count(self, name: str) -> int:
        """Return a number that the server keeps."""
        return int(self.program.get(f"/log/{self.key}")[name])

    def canary_hits(self) -> list[str]:
        """Return what reached the listener that nobody may ask."""
        hits: list[str] = self.program.get("/canary")["hits"]
        return hits

    def transport(self, **more: Any) -> Json:
        """Return the transport of the MCP server."""
        return {"type": "http", "url": self.url, **more}


def oauth(**more: Any) -> Json:
    """Return an auth of type oauth with the host's redirect."""
    return {"type": "oauth", "redirect": {"mode": "host", "uri": REDIRECT}, **more}


class _NoRedirect(urllib.request.HTTPRedirectHandler):
    def redirect_request(self, *_: Any) -> None:
        return None


def log_in(url: str) -> str:
    """Be the person: open the authorization URL and return where the browser is sent."""
    opener = urllib.request.build_opener(_NoRedirect)
    try:
        with opener.open(url, timeout=PATIENCE) as answer:
            answer.read()
    except urllib.error.HTTPError as error:
        error.close()
        if error.code in {302, 303}:
            return str(error.headers["location"])
    raise AssertionError("the authorization server did not redirect")


def query_of(url: str) -> dict[str, str]:
    """Return the query of a URL."""
    return dict(parse_qsl(urlsplit(url).query))


def complete(sidecar: Sidecar, callback: str, scope: Json | None = None) -> Answer:
    """Send the callback to the sidecar."""
    params: Json = {"callbackUrl": callback}
    if scope is not None:
        params["scope"] = scope
    return sidecar.call("auth/complete", params)


def connected(sidecar: Sidecar, server: str, world: World, auth: Json | None = None, **more: Any) -> Json:
    """Connect with a login and return the ServerInfo of the ready connection."""
    info = sidecar.connect(server, world.transport(), auth=auth or oauth(), **more)
    if info["state"] == "authorizing":
        scope = more.get("scope")
        complete(sidecar, log_in(info["authorization"]["url"]), scope).result  # noqa: B018 - fails where it is an error
        info = ready(sidecar, server, scope)
    assert info["state"] == "ready", info
    return info


def ready(sidecar: Sidecar, server: str, scope: Json | None = None) -> Json:
    """Wait until a connection is ready and return its ServerInfo."""
    sidecar.wait_told("servers/changed", lambda info: info["server"] == server and info["state"] == "ready")
    params: Json = {"server": server}
    if scope is not None:
        params["scope"] = scope
    info: Json = sidecar.call("servers/get", params).result
    return info


def begin(sidecar: Sidecar, capabilities: Json | None = None, egress: Json | None = None, **more: Any) -> Sidecar:
    """Say hello as a host that allows the loopback."""
    params: Json = {"protocolVersion": 1, "host": {"name": "test", "version": "1"}}
    params |= {"egress": EGRESS if egress is None else egress, "vault": {"type": "memory"}, **more}
    if capabilities is not None:
        params["capabilities"] = capabilities
    sidecar.call("initialize", params).result  # noqa: B018 - fails where it is an error
    return sidecar
