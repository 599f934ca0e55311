"""A hand-written authorization server and MCP server of which every word can be changed; prints its port.

Three listeners: the MCP server (its port is printed), the authorization server, and a second one that no test wants to
be asked. A path is `/KEY/...`; KEY belongs to one test. `POST /control/KEY` changes what is answered, `/log/KEY` tells
what came, `/ports` the other ports. Without changes it is a correct server of the 2026-07-28 era.
"""

from __future__ import annotations

import asyncio
import base64
import hashlib
import json
import secrets
import sys
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl, urlencode

sys.path.insert(0, str(Path(__file__).parents[2]))

from tests.servers import lifetime
from tests.servers.http_wire import Request, read_request

Json = dict[str, Any]
_INFO = {"name": "protected", "version": "1"}
_DISCOVERED = {
    "supportedVersions": ["2026-07-28"],
    "capabilities": {"tools": {}},
    "ttlMs": 0,
    "cacheScope": "private",
    "resultType": "complete",
    "_meta": {"io.modelcontextprotocol/serverInfo": {"name": "protected", "version": "1"}},
}


class World:
    """The servers as one test sees them."""

    def __init__(self, key: str, resource_origin: str, issuer_origin: str) -> None:
        """Begin correct."""
        self.key = key
        self.resource = f"{resource_origin}/{key}/mcp"
        self.metadata_url = f"{resource_origin}/{key}/prm"
        self.issuer = f"{issuer_origin}/{key}"
        self.set: Json = {}
        self.log: list[Json] = []
        self.codes: dict[str, Json] = {}
        self.access: dict[str, Json] = {}
        self.refresh: dict[str, Json] = {}
        self.devices: dict[str, Json] = {}
        self.clients: dict[str, Json] = {}
        self.news = asyncio.Condition()
        self.reused = 0
        self.calls = 0

    def resource_metadata(self) -> Json:
        """Return the protected resource metadata."""
        body = {"resource": self.resource, "authorization_servers": [self.issuer], "scopes_supported": ["read"]}
        return _changed(body, self.set.get("prm"))

    def metadata(self) -> Json:
        """Return the authorization server metadata."""
        body = {
            "issuer": self.issuer,
            "authorization_endpoint": f"{self.issuer}/authorize",
            "token_endpoint": f"{self.issuer}/token",
            "registration_endpoint": f"{self.issuer}/register",
            "revocation_endpoint": f"{self.issuer}/revoke",
            "device_authorization_endpoint": f"{self.issuer}/device",
            "response_types_supported": ["code"],
            "code_challenge_methods_supported": ["S256"],
            "token_endpoint_auth_methods_supported": ["none", "client_secret_basic", "client_secret_post"],
            "authorization_response_iss_parameter_supported": True,
        }
        return _changed(body, self.set.get("metadata"))

    def give(self, grant: Json, *, rotate: str | None = None) -> Json:
        """Return fresh tokens of a grant."""
        access, refresh = "at-" + secrets.token_urlsafe(24), "rt-" + secrets.token_urlsafe(24)
        body: Json = {"access_token": access, "token_type": "Bearer", "expires_in": 3600}
        if grant["scope"]:
            body["scope"] = grant["scope"]
        if self.set.get("refresh", True) and grant.get("person"):
            self.refresh[refresh] = grant
            body["refresh_token"] = refresh
        if rotate is not None:
            self.refresh[rotate] = {**grant, "used": True}
        body = _changed(body, self.set.get("token"))
        self.access[access] = {**grant, "scope": body.get("scope", "")}
        return body


def _changed(body: Json, changes: Json | None) -> Json:
    for name, value in (changes or {}).items():
        if value is None:
            body.pop(name, None)
        else:
            body[name] = value
    return body


class Servers:
    """All three listeners."""

    def __init__(self) -> None:
        """Know no world yet."""
        self.worlds: dict[str, World] = {}
        self.ports: dict[str, int] = {}
        self.canary: list[str] = []

    def world(self, key: str) -> World:
        """Return the world of a test."""
        if key not in self.worlds:
            origin = f"http://127.0.0.1:{self.ports['resource']}", f"http://127.0.0.1:{self.ports['issuer']}"
            self.worlds[key] = World(key, *origin)
        return self.worlds[key]

    async def connection(self, name: str, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Serve one connection of the listener `name`."""
        try:
            while (request := await read_request(reader, writer)) is not None:
                await self.serve(name, request)
        except (ConnectionError, OSError):
            pass
        finally:
            writer.close()

    async def serve(self, name: str, request: Request) -> None:
        """Answer one request."""
        if name == "canary":
            self.canary.append(f"{request.method} {request.path}")
            await request.reply(200, b"{}")
            return
        parts = request.path.strip("/").split("/")
        if parts[0] == "ports":
            await _json(request, self.ports)
        elif parts[0] == "canary":
            await _json(request, {"hits": self.canary})
        elif parts[0] == "control":
            await self.control(self.world(parts[1]), request)
        elif parts[0] == "log":
            world = self.world(parts[1])
            await _json(request, {"log": world.log, "reused": world.reused, "calls": world.calls})
        elif parts[0] == "wait":
            await self.wait(self.world(parts[1]), request)
        elif parts[0] == ".well-known":
            await self.well_known(name, parts, request)
        elif len(parts) > 1:
            world = self.world(parts[0])
            await self.answer(world, name, parts[1], request)
        else:
            await request.reply(404)

    async def wait(self, world: World, request: Request) -> None:
        """Answer as soon as `count` requests have come whose grant type ends in `grant`."""

        def enough() -> bool:
            kinds = [entry.get("form", {}).get("grant_type", "") for entry in world.log]
            return bool(sum(kind.endswith(request.query["grant"]) for kind in kinds) >= int(request.query["count"]))

        async with world.news:
            await world.news.wait_for(enough)
        await _json(request, {})

    async def control(self, world: World, request: Request) -> None:
        """Change a world."""
        body = json.loads(request.body)
        do = body.pop("do", None)
        world.set.update(body)
        if do == "expire":
            world.access.clear()
        elif do == "revoke":
            world.access.clear()
            world.refresh.clear()
        elif do == "forget":
            world.log.clear()
        elif do == "approve":
            for device in world.devices.values():
                device["approved"] = True
        await _json(request, {})

    async def well_known(self, name: str, parts: list[str], request: Request) -> None:
        """Answer under /.well-known: the key stands in the path behind it, if anywhere."""
        key = parts[2] if len(parts) > 2 else ""
        world = self.world(key)
        world.log.append({"at": name, "path": request.path})
        kind = parts[1]
        if name == "issuer" and kind == "oauth-authorization-server" and not world.set.get("no_metadata"):
            await self.document(world, "metadata", world.metadata(), request)
        elif name == "resource" and world.set.get("prm_at") == request.path:
            await self.document(world, "prm", world.resource_metadata(), request)
        else:
            await request.reply(world.set.get("absent_status", 404))

    async def document(self, world: World, name: str, body: Json, request: Request) -> None:
        """Answer with metadata, or what stands in its place."""
        if (redirect := world.set.get(f"{name}_redirect")) is not None:
            await request.reply(302, b"", Location=redirect)
        elif (raw := world.set.get(f"{name}_raw")) is not None:
            await request.reply(world.set.get(f"{name}_status", 200), raw.encode(), "text/html")
        else:
            await _json(request, body, world.set.get(f"{name}_status", 200))

    async def answer(self, world: World, name: str, what: str, request: Request) -> None:
        """Answer a request of the world."""
        form = dict(parse_qsl(request.body.decode("latin-1"))) if what != "mcp" else {}
        seen = {
            "at": name,
            "path": request.path,
            "method": request.method,
            "form": form,
            "query": request.query,
            "authorization": request.headers.get("authorization"),
            "dpop": request.headers.get("dpop"),
        }
        if what == "register":
            seen["body"] = json.loads(request.body or b"{}")
        world.log.append(seen)
        async with world.news:
            world.news.notify_all()
        if name == "resource" and what == "prm":
            await self.document(world, "prm", world.resource_metadata(), request)
        elif name == "resource" and what == "mcp":
            await self.mcp(world, request)
        elif name == "issuer":
            await getattr(self, f"do_{what}", self.nothing)(world, request, form)
        else:
            await request.reply(404)

    async def nothing(self, world: World, request: Request, form: Json) -> None:
        """Answer what there is not."""
        del world, form
        await request.reply(404)

    # -- the authorization server -----------------------------------------------------------------------------

    async def do_authorize(self, world: World, request: Request, form: Json) -> None:
        del form
        query = request.query
        code = "code-" + secrets.token_urlsafe(16)
        world.codes[code] = {**query, "person": True}
        back = {"code": code, "state": query.get("state", ""), "iss": world.issuer}
        back = _changed(back, world.set.get("callback"))
        mark = "&" if "?" in query["redirect_uri"] else "?"
        await request.reply(302, b"", Location=query["redirect_uri"] + mark + urlencode(back))

    async def do_donate(self, world: World, request: Request, form: Json) -> None:
        """Hand out tokens as a login of somebody else would have."""
        del form
        await _json(request, world.give({"scope": "read", "person": True}))

    async def do_register(self, world: World, request: Request, form: Json) -> None:
        del form
        asked = json.loads(request.body)
        client = {**asked, "client_id": "client-" + secrets.token_urlsafe(8)}
        if asked.get("token_endpoint_auth_method") != "none":
            client["client_secret"] = "secret-" + secrets.token_urlsafe(16)
        client = _changed(client, world.set.get("register"))
        world.clients[client.get("client_id", "")] = client
        await _json(request, client, world.set.get("register_status", 201))

    async def do_device(self, world: World, request: Request, form: Json) -> None:
        code = "device-" + secrets.token_urlsafe(16)
        world.devices[code] = {"scope": form.get("scope", ""), "person": True}
        body = {
            "device_code": code,
            "user_code": "WDJB-MJHT",
            "verification_uri": f"{world.issuer}/activate",
            "verification_uri_complete": f"{world.issuer}/activate?user_code=WDJB-MJHT",
            "expires_in": 600,
            "interval": 1,
        }
        await _json(request, _changed(body, world.set.get("device")))

    async def do_token(self, world: World, request: Request, form: Json) -> None:
        if delay := world.set.get("token_delay"):
            await asyncio.sleep(delay)
        script = world.set.get("token_script")
        fault = script.pop(0) if script else world.set.get("token_fault")
        if fault == "reset":
            request.reset()
        elif fault == "hang":
            await request.left()
        elif isinstance(fault, dict) and "location" in fault:
            await request.reply(307, b"", Location=fault["location"])
        elif isinstance(fault, dict):
            await request.reply(fault["status"], fault.get("body", "").encode(), fault.get("type", "text/html"))
        elif form.get("grant_type") == "authorization_code":
            await self.code(world, request, form)
        elif form.get("grant_type") == "refresh_token":
            await self.rotate(world, request, form)
        elif form.get("grant_type", "").endswith("device_code"):
            device = world.devices.get(form["device_code"])
            if device is None or not device.get("approved"):
                await _json(request, {"error": world.set.get("device_error", "authorization_pending")}, 400)
            else:
                await _json(request, world.give(device))
        else:
            await _json(request, world.give({"scope": form.get("scope", "")}))

    async def code(self, world: World, request: Request, form: Json) -> None:
        """Exchange a code, once, with its verifier, redirect and client."""
        asked = world.codes.pop(form.get("code", ""), None)
        digest = hashlib.sha256(form.get("code_verifier", "").encode()).digest()
        challenge = base64.urlsafe_b64encode(digest).rstrip(b"=").decode()
        if asked is None or asked.get("code_challenge") != challenge or form["redirect_uri"] != asked["redirect_uri"]:
            await _json(request, {"error": "invalid_grant"}, 400)
            return
        if world.set.get("refuse_resource") and ("resource" in form or "resource" in asked):
            await _json(request, {"error": "invalid_request"}, 400)
            return
        body = world.give({"scope": asked.get("scope", ""), "person": True})
        if world.set.get("form_encoded"):
            await request.reply(200, urlencode(body).encode(), "application/x-www-form-urlencoded")
        else:
            await _json(request, body)

    async def rotate(self, world: World, request: Request, form: Json) -> None:
        """Refresh with rotation; a token that comes twice ends the whole family."""
        grant = world.refresh.get(form["refresh_token"])
        if grant is None or grant.get("used"):
            if grant is not None:
                world.reused += 1
                world.access.clear()
                world.refresh.clear()
            await _json(request, {"error": "invalid_grant"}, 400)
            return
        await _json(request, world.give(grant, rotate=form["refresh_token"]))

    async def do_revoke(self, world: World, request: Request, form: Json) -> None:
        if status := world.set.get("revoke_status"):
            await request.reply(status, b"", Location="/elsewhere")
            return
        world.access.pop(form["token"], None)
        world.refresh.pop(form["token"], None)
        await request.reply(200)

    # -- the MCP server ---------------------------------------------------------------------------------------

    async def mcp(self, world: World, request: Request) -> None:
        """Serve MCP to whoever brings a token."""
        scheme, _, token = request.headers.get("authorization", "").partition(" ")
        grant = world.access.get(token) if scheme in {"Bearer", "DPoP"} else None
        if grant is None and not world.set.get("open"):
            shown = world.set.get("shown_metadata", world.metadata_url)
            words = [f'resource_metadata="{shown}"'] if shown else []
            if (scope := world.set.get("challenge_scope")) is not None:
                words.append(f'scope="{scope}"')
            if token:
                words.append('error="invalid_token"')
            await request.reply(401, b"no", "text/plain", WWW_Authenticate="Bearer " + ", ".join(words))
            return
        if status := world.set.get("mcp_status"):
            await request.reply(status, b"no", "text/plain")
            return
        if request.method != "POST":
            await request.reply(405 if request.method == "GET" else 200)
            return
        message = json.loads(request.body)
        if world.set.get("legacy") and message["method"] == "server/discover":
            await request.reply(400, b"no session", "text/plain")
            return
        if message["method"] == "initialize":
            answer = {"protocolVersion": "2025-11-25", "capabilities": {"tools": {}}, "serverInfo": _INFO}
            body = json.dumps({"jsonrpc": "2.0", "id": message["id"], "result": answer}).encode()
            await request.reply(200, body, Mcp_Session_Id="session-1")
            return
        if "id" not in message:
            await request.reply(202)
            return
        result: Json = {}
        if message["method"] == "server/discover":
            result = _DISCOVERED
        elif message["method"] == "tools/list":
            result = {"tools": [{"name": "echo", "inputSchema": {"type": "object"}}], "ttlMs": 0}
        elif message["method"] == "tools/call":
            arguments = message["params"].get("arguments", {})
            needed = arguments.get("scope")
            if needed and not set(needed.split()) <= set((grant or {}).get("scope", "").split()):
                challenge = (
                    f'Bearer error="insufficient_scope", scope="{needed}", resource_metadata="{world.metadata_url}"'
                )
                await request.reply(403, b"no", "text/plain", WWW_Authenticate=challenge)
                return
            world.calls += 1
            await asyncio.sleep(arguments.get("seconds", 0))
            text = arguments.get("text", "ok")
            result = {"content": [{"type": "text", "text": text}]}
        result.setdefault("resultType", "complete")
        await _json(request, {"jsonrpc": "2.0", "id": message["id"], "result": result})


async def _json(request: Request, body: Any, status: int = 200) -> None:
    await request.reply(status, json.dumps(body).encode())


async def main() -> None:
    """Listen three times on the loopback."""
    lifetime.end_with_parent()
    servers = Servers()
    listeners = []
    for name in ("resource", "issuer", "canary"):

        async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, name: str = name) -> None:
            await servers.connection(name, reader, writer)

        listener = await asyncio.start_server(serve, "127.0.0.1", 0, limit=1 << 24, backlog=512)
        servers.ports[name] = listener.sockets[0].getsockname()[1]
        listeners.append(listener)
    print(servers.ports["resource"], flush=True)
    await asyncio.gather(*(listener.serve_forever() for listener in listeners))


if __name__ == "__main__":
    asyncio.run(main())
