"""Logins that the host hands over, looks at, revokes and forgets; and what it may not say."""

from __future__ import annotations

import json
import resource
import urllib.request
from pathlib import Path
from typing import Any

import pytest

from tests.answers import Json
from tests.auth.test_grants import PEM
from tests.auth.test_refresh import files
from tests.auth.world import REDIRECT, World, begin, complete, connected, log_in, oauth
from tests.conftest import Start
from tests.harness import Sidecar


def take(sidecar: Sidecar, server: str, world: World, tokens: Json, **more: Any) -> Any:
    """Import tokens."""
    params: Json = {
        "server": server,
        "tokens": tokens,
        "issuer": world.issuer,
        "tokenEndpoint": f"{world.issuer}/token",
        "client": {"clientId": "imported", "clientSecret": "imported-secret"},
        **more,
    }
    return sidecar.call("auth/import", {name: value for name, value in params.items() if value is not None})


# -- import -----------------------------------------------------------------------------------------------------


def test_a_login_that_the_host_holds_is_taken_over(shared: Sidecar, server: str, world: World) -> None:
    shared.connect(server, world.transport(), auth=oauth(clientId="other"), lazy=True)
    tokens = donated(world)
    info = take(shared, server, world, {**tokens, "expiresAt": "2020-01-01T00:00:00Z", "scope": "read"}).result
    assert (info["state"], info["auth"]["state"], info["auth"]["scopes"]) == ("idle", "expired", ["read"])
    assert shared.tool(server, "echo", {}).result
    (refresh,) = world.grants("refresh_token")
    assert refresh["form"]["refresh_token"] == tokens["refreshToken"]
    assert refresh["authorization"] == "Basic aW1wb3J0ZWQ6aW1wb3J0ZWQtc2VjcmV0"


def donated(world: World) -> Json:
    """Return tokens of a login that somebody else made."""
    with urllib.request.urlopen(f"{world.issuer}/donate") as answer:  # noqa: S310 - our own server
        body: Json = json.load(answer)
    return {"accessToken": body["access_token"], "refreshToken": body["refresh_token"]}


def test_an_import_wakes_an_address_that_waits_for_a_login(shared: Sidecar, server: str, world: World) -> None:
    authorization = shared.connect(server, world.transport(), auth=oauth())["authorization"]
    assert take(shared, server, world, donated(world)).result["state"] in {"connecting", "ready"}
    shared.wait(lambda: shared.states(server)[-1] == "ready", "ready")
    complete(shared, log_in(authorization["url"])).is_error(1306, rule="state")


@pytest.mark.parametrize(
    ("change", "path"),
    [
        ({"tokens": {"accessToken": "a\r\nb"}}, "/tokens/accessToken"),
        ({"tokens": {"accessToken": ""}}, "/tokens/accessToken"),
        ({"tokens": {"accessToken": "a", "refreshToken": "b c"}}, "/tokens/refreshToken"),
        ({"tokens": {"accessToken": "a", "expiresAt": "soon"}}, "/tokens/expiresAt"),
        ({"tokens": {"accessToken": "a", "tokenType": "mac"}}, "/tokens/tokenType"),
        ({"issuer": "javascript:alert(1)"}, "/issuer"),
        ({"tokenEndpoint": "https://u:p@h.example/"}, "/tokenEndpoint"),
        ({"client": None}, "/client"),
    ],
    ids=str,
)
def test_an_import_that_cannot_be_used_is_refused(
    shared: Sidecar, server: str, world: World, change: Json, path: str
) -> None:
    shared.connect(server, world.transport(), auth=oauth(), lazy=True)
    tokens = change.pop("tokens", {"accessToken": "good-token"})
    answer = take(shared, server, world, tokens, **change)
    answer.is_error(-32602)
    assert answer.data["path"].startswith(path)


def test_an_import_that_leads_where_it_must_not_is_refused(shared: Sidecar, server: str, world: World) -> None:
    shared.connect(server, world.transport(), auth=oauth(), lazy=True)
    take(shared, server, world, {"accessToken": "a"}, tokenEndpoint="https://10.0.0.1/token").is_error(
        1306, rule="egress"
    )


def test_only_an_import_tells_that_the_vault_cannot_be_written(start: Start, world: World, tmp_path: Path) -> None:
    sidecar = begin(start(), vault=files(tmp_path))
    connected(sidecar, "a", world)
    hard = resource.prlimit(sidecar.process.pid, resource.RLIMIT_FSIZE)[1]
    resource.prlimit(sidecar.process.pid, resource.RLIMIT_FSIZE, (0, hard))
    take(sidecar, "a", world, {"accessToken": "other-token"}).is_error(1404)
    assert sidecar.tool("a", "echo", {}).result


# -- status, revoke, forget -------------------------------------------------------------------------------------


def test_status_lists_the_logins_of_one_person_and_no_secret(shared: Sidecar, server: str, world: World) -> None:
    scope: Json = {"tenant": server[-40:], "user": "u"}
    auth = oauth()
    for session in ("a", "b"):
        connected(shared, server, world, auth, scope={**scope, "session": session})
    answer = shared.call("auth/status", {"scope": scope})
    assert [each["server"] for each in answer.result["credentials"]] == [server, server]
    assert b"at-" not in answer.line
    assert b"rt-" not in answer.line
    assert shared.call("auth/status", {"scope": {"tenant": server[-40:], "user": "v"}}).result["credentials"] == []
    shared.call("auth/status", {"server": server, "scope": scope}).is_error(1101)
    for session in ("a", "b"):
        shared.call("servers/disconnect", {"server": server, "scope": {**scope, "session": session}})


def test_a_revoked_login_is_gone_at_its_server_and_here(shared: Sidecar, server: str, world: World) -> None:
    connected(shared, server, world)
    assert shared.call("auth/revoke", {"server": server}).result == {"revokedAtServer": True}
    assert [entry["form"]["token_type_hint"] for entry in world.log("/revoke")] == ["refresh_token", "access_token"]
    info = shared.call("servers/get", {"server": server}).result
    assert (info["state"], info["auth"]["state"], info.get("lastError")) == ("idle", "none", None)
    assert shared.call("auth/status", {"server": server}).result["credentials"] == []
    shared.tool(server, "echo", {}).is_error(1301)
    assert len(world.log("/register")) == 2
    log = shared.wait_log(lambda line: "revoked" in line["msg"] and line.get("server") == server)
    assert log["logger"] == "sidecar.audit"


@pytest.mark.parametrize("status", [500, 302])
def test_a_revocation_that_is_not_confirmed_forgets_all_the_same(
    shared: Sidecar, server: str, world: World, status: int
) -> None:
    connected(shared, server, world)
    world.set(revoke_status=status)
    assert shared.call("auth/revoke", {"server": server}).result == {"revokedAtServer": False}
    shared.tool(server, "echo", {}).is_error(1301)


def test_forget_takes_the_login_with_the_address(start: Start, world: World, tmp_path: Path) -> None:
    sidecar = begin(start(), vault=files(tmp_path))
    connected(sidecar, "a", world)
    sidecar.call("servers/disconnect", {"server": "a"}).result  # noqa: B018 - fails where it is an error
    assert sidecar.connect("a", world.transport(), auth=oauth())["state"] == "ready"
    sidecar.call("servers/disconnect", {"server": "a", "forget": True}).result  # noqa: B018 - fails on an error
    assert len(world.log("/revoke")) == 2
    assert sidecar.connect("a", world.transport(), auth=oauth())["state"] == "authorizing"


def test_begin_speaks_of_known_addresses_with_a_login(shared: Sidecar, server: str, world: World) -> None:
    for method in ("auth/begin", "auth/status", "auth/revoke"):
        shared.call(method, {"server": "nobody"}).is_error(1101)
        shared.call(method, {"server": "nobody", "x": 1}).is_error(-32602, path="/x")
    world.set(open=True)
    shared.connect(server, world.transport())
    shared.call("auth/begin", {"server": server}).is_error(-32602)
    shared.call("auth/revoke", {"server": server}).is_error(-32602)


def test_a_host_begins_a_login_before_the_first_use(shared: Sidecar, server: str, world: World) -> None:
    shared.connect(server, world.transport(), auth=oauth(), lazy=True)
    authorization = shared.call("auth/begin", {"server": server}).result
    info = shared.call("servers/get", {"server": server}).result
    assert (info["state"], info["authorization"]) == ("authorizing", authorization)
    assert complete(shared, log_in(authorization["url"])).result["state"] in {"connecting", "ready"}
    shared.wait(lambda: shared.states(server)[-1] == "ready", "ready")


# -- what servers/connect refuses -------------------------------------------------------------------------------

CC = {"grant": "client_credentials"}


@pytest.mark.parametrize(
    ("auth", "path"),
    [
        ({"redirect": None}, "/auth/redirect"),
        ({"provider": "myspace"}, "/auth/provider"),
        ({"grant": "password"}, "/auth/grant"),
        ({"pkce": "plain"}, "/auth/pkce"),
        ({"owner": "world"}, "/auth/owner"),
        ({"extraParams": {"state": "x"}}, "/auth/extraParams/state"),
        ({"extraParams": {"Client_ID": "x"}}, "/auth/extraParams/Client_ID"),
        ({"tokenEndpoint": "https://as.example/token"}, "/auth/authorizationEndpoint"),
        ({"authorizationEndpoint": "https://as.example/a"}, "/auth/tokenEndpoint"),
        ({"issuer": "javascript:alert(1)"}, "/auth/issuer"),
        ({"issuer": "https://as.example/?x=1"}, "/auth/issuer"),
        ({"tokenEndpointAuthMethod": "tls_client_auth"}, "/auth/tokenEndpointAuthMethod"),
        ({"clientId": "a", "tokenEndpointAuthMethod": "client_secret_basic"}, "/auth/tokenEndpointAuthMethod"),
        ({"clientSecret": "x"}, "/auth/clientSecret"),
        ({"clientId": ""}, "/auth/clientId"),
        ({"clientId": "a\nb"}, "/auth/clientId"),
        ({"clientMetadataUrl": "http://h.example/c.json"}, "/auth/clientMetadataUrl"),
        ({"clientMetadataUrl": "https://h.example"}, "/auth/clientMetadataUrl"),
        ({"scopes": ["a b"]}, "/auth/scopes/0"),
        ({"scopeCeiling": [""]}, "/auth/scopeCeiling/0"),
        ({"resource": "nonsense"}, "/auth/resource"),
        ({"redirect": {"mode": "host", "uri": "nonsense"}}, "/auth/redirect/uri"),
        ({"redirect": {"mode": "host", "uri": "javascript:alert(1)"}}, "/auth/redirect/uri"),
        ({"redirect": {"mode": "host", "uri": REDIRECT + "#x"}}, "/auth/redirect/uri"),
        ({"redirect": {"mode": "loopback", "port": 70000}}, "/auth/redirect/port"),
        ({"privateKey": {"pem": "x", "algorithm": "ES256"}}, "/auth/privateKey/pem"),
        ({"privateKey": {"pem": PEM, "algorithm": "none"}}, "/auth/privateKey/algorithm"),
        ({"privateKey": {"pem": PEM, "algorithm": "RS256"}}, "/auth/privateKey/pem"),
        (CC, "/auth/clientId"),
        ({**CC, "clientId": "a"}, "/auth/clientSecret"),
        ({"grant": "device_code", "tokenEndpoint": "https://as.example/t"}, "/auth/deviceAuthorizationEndpoint"),
        ({"unknown": 1}, "/auth/unknown"),
    ],
    ids=str,
)
def test_settings_that_cannot_work_are_refused_where_they_stand(
    shared: Sidecar, world: World, auth: Json, path: str
) -> None:
    whole = {name: value for name, value in {**oauth(), **auth}.items() if value is not None}
    answer = shared.call("servers/connect", {"server": "x", "transport": world.transport(), "auth": whole})
    answer.is_error(-32602)
    assert answer.data["path"] == path, answer.error
    shared.call("servers/get", {"server": "x"}).is_error(1101)
    assert PEM.splitlines()[1].encode() not in answer.line


def test_what_the_host_did_not_promise_is_refused_at_connect(start: Start, world: World) -> None:
    sidecar = begin(start())
    params: Json = {"server": "x", "transport": world.transport()}
    sidecar.call("servers/connect", {**params, "auth": {"type": "host"}}).is_error(-32602, path="/auth/type")
    auth = {"type": "oauth", "grant": "jwt_bearer", "clientId": "a"}
    sidecar.call("servers/connect", {**params, "auth": auth}).is_error(-32602, path="/auth/grant")
    stdio = {"type": "stdio", "command": "true"}
    sidecar.call("servers/connect", {"server": "x", "transport": stdio, "auth": oauth()}).is_error(-32602, path="/auth")
