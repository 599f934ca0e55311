"""The client that the official conformance suite tests: a small host over the bare sidecar, one pipe, one thread.

The suite starts it once for each scenario, with the URL of its server as the last argument, the scenario's name in
MCP_CONFORMANCE_SCENARIO, and for some scenarios credentials or arguments in MCP_CONFORMANCE_CONTEXT. It does what a
host does: connect, log in where that is asked for, list everything, call every tool. It exits 0 if all that worked,
or failed as the scenario wants it to fail. The Go client has a driver of its own; together they place a failure.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import urllib.error
import urllib.parse
import urllib.request
from pathlib import Path
from typing import Any

Json = dict[str, Any]

PROGRAM = Path(sys.executable).parent / "mcp-sidecar"
CALLBACK = "http://localhost:3000/callback"
METADATA = "https://conformance-test.local/client-metadata.json"
TIMEOUT_MS = 40_000
LOGINS = 3
TOO_MANY_LOGINS = "the server asks for a login again and again"
AUTH_REQUIRED = 1301
CAPABILITY_MISSING = 1505
FAILURES: dict[str, int | str] = {
    "auth/resource-mismatch": 1306,
    "auth/iss-supported-missing": 1306,
    "auth/iss-wrong-issuer": 1306,
    "auth/iss-unexpected": 1306,
    "auth/iss-normalized": 1306,
    "auth/metadata-issuer-mismatch": 1306,
    "auth/scope-retry-limit": TOO_MANY_LOGINS,
    "sep-2640-client-verify-digest": 1502,
    "sep-2640-client-verify-size": 1502,
    "sep-2640-client-verify-frontmatter": 1502,
}
"""Scenarios in which the server or its authorization server is wrong, and what must come of it."""


class WireError(Exception):
    """The sidecar answered with an error."""

    def __init__(self, body: Json) -> None:
        """Keep the error object."""
        super().__init__(json.dumps(body)[:2000])
        self.code: int = body["code"]
        self.data: Json = body.get("data") or {}


class TooManyLoginsError(Exception):
    """A person would not put up with it."""


class Host:
    """One scenario over one sidecar."""

    def __init__(self, name: str, url: str, given: Json) -> None:
        """Start the sidecar and promise everything: the suite looks at what is promised, and asks."""
        self.name = name
        self.url = url
        self.given = given
        self.process = subprocess.Popen([str(PROGRAM)], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        self.answers: dict[int, Json] = {}
        self.last = 0
        self.logins = 0
        self.asked = 0
        local = {"allowHttp": ["localhost", "127.0.0.1"], "allowPrivate": ["localhost", "127.0.0.0/8", "::1/128"]}
        self.call(
            "initialize",
            {
                "protocolVersion": 1,
                "host": {"name": "mcp-sidecar-conformance", "version": "1"},
                "capabilities": {
                    "elicitation": {"form": {}, "url": {}},
                    "sampling": {"tools": {}},
                    "roots": {"listChanged": True},
                    "assertions": {},
                },
                "vault": {"type": "memory"},
                "egress": local,
            },
        )

    # -- the wire ---------------------------------------------------------------------------------------------

    def send(self, message: Json) -> None:
        """Write one frame."""
        assert self.process.stdin is not None
        self.process.stdin.write(json.dumps({"jsonrpc": "2.0", **message}).encode() + b"\n")
        self.process.stdin.flush()

    def call(self, method: str, params: Json) -> Any:
        """Send a request, and serve the sidecar's own until the answer is there. Raises WireError."""
        self.last += 1
        key = self.last
        self.send({"id": key, "method": method, "params": params})
        assert self.process.stdout is not None
        while key not in self.answers:
            line = self.process.stdout.readline()
            if not line:
                raise RuntimeError("the sidecar has ended")
            message = json.loads(line)
            if "method" not in message:
                self.answers[message["id"]] = message
            elif "id" in message:
                self.serve(message)
        answer = self.answers.pop(key)
        if "error" in answer:
            raise WireError(answer["error"])
        return answer["result"]

    def serve(self, message: Json) -> None:
        """Answer a question."""
        method, params = message["method"], message["params"]
        if method == "elicitation/create":
            result: Json = self.elicit(params)
        elif method == "sampling/createMessage":
            result = {"role": "assistant", "model": "none", "content": {"type": "text", "text": "A sample."}}
        elif method == "roots/list":
            result = {"roots": []}
        else:
            result = {"assertion": self.assertion(params)}
        self.send({"id": message["id"], "result": result})

    def elicit(self, params: Json) -> Json:
        """Accept everything; what has a default is left out. Between two rounds of a call make another one."""
        self.asked += 1
        if self.name == "sep-2322-client-request-state" and self.asked == 1:
            self.at("tools/call", name="test_mrtr_unrelated", arguments={})
        return {"action": "accept", "content": fill(params.get("requestedSchema") or {}, leave_defaults=True)}

    def assertion(self, asked: Json) -> str:
        """Return the workload's token, or exchange the identity provider's for one (RFC 8693)."""
        if "valid_jwt" in self.given:
            return str(self.given["valid_jwt"])
        form = {
            "grant_type": "urn:ietf:params:oauth:grant-type:token-exchange",
            "subject_token": self.given["idp_id_token"],
            "subject_token_type": "urn:ietf:params:oauth:token-type:id_token",
            "requested_token_type": "urn:ietf:params:oauth:token-type:id-jag",
            "audience": asked["audience"],
            "resource": asked.get("resource", ""),
            "client_id": self.given["idp_client_id"],
        }
        data = urllib.parse.urlencode(form).encode()
        with urllib.request.urlopen(self.given["idp_token_endpoint"], data, timeout=20) as answer:  # noqa: S310 - the suite's
            return str(json.load(answer)["access_token"])

    # -- what a host does -------------------------------------------------------------------------------------

    def at(self, method: str, **params: Any) -> Any:
        """Make an operation on the server, logging in as often as that is asked for."""
        return self.logged_in(method, {"server": "conformance", "timeoutMs": TIMEOUT_MS, **params})

    def logged_in(self, method: str, params: Json) -> Any:
        """Send a request, and again after each login. Raises WireError, TooManyLoginsError."""
        while True:
            try:
                result = self.call(method, params)
            except WireError as error:
                if error.code != AUTH_REQUIRED:
                    raise
                authorization = error.data["authorization"]
            else:
                if method != "servers/connect" or result["state"] != "authorizing":
                    return result
                authorization = result["authorization"]
            self.logins += 1
            if self.logins > LOGINS:
                raise TooManyLoginsError(TOO_MANY_LOGINS)
            self.call("auth/complete", {"callbackUrl": visit(authorization["url"])})

    def use(self) -> None:
        """Do everything."""
        params: Json = {
            "server": "conformance",
            "transport": {"type": "http", "url": self.url},
            "timeoutMs": TIMEOUT_MS,
        }
        if self.name.startswith("auth/"):
            params["auth"] = self.auth()
        info = self.logged_in("servers/connect", params)
        if info["state"] != "ready":
            self.logged_in("servers/connect", params)
        info = self.call("servers/get", {"server": "conformance"})
        offered = info.get("capabilities") or {}
        if "io.modelcontextprotocol/skills" in (offered.get("extensions") or {}):
            self.skills()
        else:
            self.tools()
            self.others("resources/list", "resources", "resources/read", "uri")
            self.others("prompts/list", "prompts", "prompts/get", "name")
        self.call("servers/disconnect", {"server": "conformance"})

    def auth(self) -> Json:
        """Return the credentials of the scenario."""
        given = self.given
        auth: Json = {"type": "oauth", "clientName": "conformance"}
        auth |= {
            ours: given[theirs]
            for ours, theirs in (("clientId", "client_id"), ("clientSecret", "client_secret"))
            if theirs in given
        }
        if self.name == "auth/client-credentials-basic":
            return auth | {"grant": "client_credentials", "tokenEndpointAuthMethod": "client_secret_basic"}
        if self.name == "auth/client-credentials-jwt":
            key = {"pem": given["private_key_pem"], "algorithm": given["signing_algorithm"]}
            return auth | {
                "grant": "client_credentials",
                "tokenEndpointAuthMethod": "private_key_jwt",
                "privateKey": key,
            }
        if self.name == "auth/enterprise-managed-authorization":
            return auth | {"grant": "jwt_bearer", "tokenEndpointAuthMethod": "client_secret_basic"}
        if self.name == "auth/wif-jwt-bearer":
            return auth | {"grant": "jwt_bearer", "tokenEndpointAuthMethod": "none"}
        if self.name.startswith("auth/dpop"):
            auth["dpop"] = True
        auth["redirect"] = {"mode": "host", "uri": CALLBACK}
        if "clientId" not in auth:
            auth["clientMetadataUrl"] = METADATA  # used where the authorization server takes it, else it registers
        return auth

    def tools(self) -> None:
        """List the tools and call each once, or make the calls that the suite names."""
        tools = self.at("tools/list", all=True)["tools"]
        if self.name == "json-schema-ref-no-deref":
            return  # its server only lists
        for call in self.given.get("toolCalls") or calls_for(tools):
            if call["name"] != "test_mrtr_unrelated":  # that one is called in the middle of another
                self.at("tools/call", name=call["name"], arguments=call["arguments"])

    def others(self, method: str, member: str, read: str, key: str) -> None:
        """List what the server offers of one kind, and get each."""
        try:
            found = self.at(method).get(member, [])
        except WireError as error:
            if error.code == CAPABILITY_MISSING:
                return
            raise
        for element in found:
            self.at(read, **{key: element[key]})

    def skills(self) -> None:
        """List the skills and, where the scenario is about reading, read each with all its files."""
        for skill in self.at("skills/list", all=True)["skills"]:
            if self.name != "sep-2640-client-no-prefetch":
                self.at("skills/read", uri=skill["uri"])
                for file in skill["resources"]:
                    self.at("skills/read", uri=file["uri"])

    def end(self) -> int:
        """End the sidecar and return its exit code."""
        assert self.process.stdin is not None
        self.process.stdin.close()
        return self.process.wait(20)


def calls_for(tools: list[Json]) -> list[Json]:
    """Make one call for each tool. The tool that echoes a schema gets that of the first, as it came."""
    calls = []
    for tool in tools:
        arguments = fill(tool["inputSchema"])
        if "schema" in arguments and len(tools) > 1:
            arguments["schema"] = tools[0]["inputSchema"]
        calls.append({"name": tool["name"], "arguments": arguments})
    return calls


def fill(schema: Json, *, leave_defaults: bool = False) -> Json:
    """Return an object that fits, with every property; those with a default may be left out."""
    properties = schema.get("properties") or {}
    return {name: value_for(part) for name, part in properties.items() if not (leave_defaults and "default" in part)}


def value_for(schema: Json) -> Any:
    """Return a value that fits."""
    for name in ("default", "const"):
        if name in schema:
            return schema[name]
    if schema.get("enum"):
        return schema["enum"][0]
    if schema.get("oneOf"):
        return value_for(schema["oneOf"][0])
    plain: Json = {"integer": 1, "number": 1, "boolean": True, "null": None}
    kind = schema.get("type")
    if kind in plain:
        return schema.get("minimum", plain[kind])
    if kind == "array":
        return [value_for(schema.get("items") or {}) for _ in range(schema.get("minItems", 0))]
    return fill(schema) if kind == "object" else "text"


class _Stay(urllib.request.HTTPRedirectHandler):
    def redirect_request(self, *_: Any, **__: Any) -> None:
        return None


def visit(url: str) -> str:
    """Be the person with the browser: open the URL and return where it leads, without going there."""
    try:
        urllib.request.build_opener(_Stay).open(url, timeout=20)
    except urllib.error.HTTPError as answer:
        with answer:
            location = answer.headers.get("Location")
            if location is not None:
                return str(location)
            raise
    raise RuntimeError("the authorization server answers without a redirect")


def main() -> int:
    """Run the scenario that the environment names."""
    name = os.environ.get("MCP_CONFORMANCE_SCENARIO", "")
    given = json.loads(os.environ.get("MCP_CONFORMANCE_CONTEXT") or "{}")
    host = Host(name, sys.argv[-1], given)
    why: int | str | None = None
    try:
        host.use()
    except WireError as error:
        why = error.code
        print(f"conformance: {name}: {error}", file=sys.stderr)
    except TooManyLoginsError:
        why = TOO_MANY_LOGINS
    code = host.end()
    if why != FAILURES.get(name):
        print(f"conformance: {name}: ended with {why!r}, not {FAILURES.get(name)!r}", file=sys.stderr)
        return 1
    return code


if __name__ == "__main__":
    sys.exit(main())
