"""Grants without a person, logins on another device, and tokens that the host keeps."""

from __future__ import annotations

import json
import urllib.request
from typing import Any

import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from tests.answers import Json
from tests.auth.world import World, begin, oauth
from tests.conftest import Start
from tests.harness import Sidecar

KEY = ec.generate_private_key(ec.SECP256R1())
PEM = KEY.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()).decode()
ASSERTION = "eyJ.assertion.of-the-host"


def answer_host(sidecar: Sidecar, method: str, result: Json | None, count: int = 1) -> Json:
    """Wait for the question number `count` of the sidecar and answer it; None refuses. Return its params."""
    asked: list[Json] = sidecar.wait(
        lambda: len(found := [body for body in sidecar.calls if body["method"] == method]) >= count and found, method
    )
    body = asked[count - 1]
    reply: Json = {"jsonrpc": "2.0", "id": body["id"]}
    reply |= {"error": {"code": -32000, "message": "no"}} if result is None else {"result": result}
    sidecar.send(reply)
    params: Json = body["params"]
    return params


# -- client credentials -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("method", ["client_secret_basic", "client_secret_post"])
def test_client_credentials_need_no_person(shared: Sidecar, server: str, world: World, method: str) -> None:
    auth = {
        "type": "oauth",
        "grant": "client_credentials",
        "clientId": "svc",
        "clientSecret": "s3cret/+ 100%",
        "tokenEndpointAuthMethod": method,
    }
    info = shared.connect(server, world.transport(), auth=auth)
    assert (info["state"], info["auth"]["state"]) == ("ready", "valid")
    world.set(do="expire")
    assert shared.tool(server, "echo", {}).result
    assert len(world.grants("client_credentials")) == 2
    seen = world.grants("client_credentials")[0]
    if method == "client_secret_basic":
        assert seen["authorization"] == "Basic c3ZjOnMzY3JldCUyRiUyQiUyMDEwMCUyNQ=="
    else:
        assert (seen["form"]["client_id"], seen["form"]["client_secret"]) == ("svc", "s3cret/+ 100%")
    assert seen["form"]["resource"] == world.url
    shared.call("auth/begin", {"server": server}).is_error(-32602)


def test_a_private_key_proves_the_client(shared: Sidecar, server: str, world: World) -> None:
    auth = {
        "type": "oauth",
        "grant": "client_credentials",
        "clientId": "svc",
        "privateKey": {"pem": PEM, "algorithm": "ES256", "keyId": "k1"},
    }
    assert shared.connect(server, world.transport(), auth=auth)["state"] == "ready"
    form = world.grants("client_credentials")[0]["form"]
    assert form["client_assertion_type"] == "urn:ietf:params:oauth:client-assertion-type:jwt-bearer"
    claims = jwt.decode(form["client_assertion"], KEY.public_key(), ["ES256"], audience=world.issuer)
    assert (claims["iss"], claims["sub"]) == ("svc", "svc")
    assert jwt.get_unverified_header(form["client_assertion"])["kid"] == "k1"


def test_a_service_that_is_refused_fails_with_what_was_said(shared: Sidecar, server: str, world: World) -> None:
    world.set(token_fault={"status": 401, "body": '{"error":"invalid_client"}', "type": "application/json"})
    auth = {"type": "oauth", "grant": "client_credentials", "clientId": "svc", "clientSecret": "wrong-secret"}
    params = {"server": server, "transport": world.transport(), "auth": auth}
    shared.call("servers/connect", params).is_error(1302, oauthError="invalid_client")
    assert shared.call("servers/get", {"server": server}).result["state"] == "failed"


def test_a_service_whose_tokens_are_refused_asks_once_more_and_then_ends(
    shared: Sidecar, server: str, world: World
) -> None:
    world.set(token={"access_token": "never-valid"})
    auth = {"type": "oauth", "grant": "client_credentials", "clientId": "svc", "clientSecret": "some-secret"}
    params = {"server": server, "transport": world.transport(), "auth": auth}
    shared.call("servers/connect", params).is_error(1302, httpStatus=401)
    assert len(world.grants("client_credentials")) <= 2


def test_a_service_steps_up_by_itself_within_the_ceiling(shared: Sidecar, server: str, world: World) -> None:
    auth = {
        "type": "oauth",
        "grant": "client_credentials",
        "clientId": "svc",
        "clientSecret": "some-secret",
        "scopes": ["read"],
        "scopeCeiling": ["read", "write"],
    }
    shared.connect(server, world.transport(), auth=auth)
    assert shared.tool(server, "echo", {"scope": "write"}).result
    shared.tool(server, "echo", {"scope": "admin"}).is_error(1305, scopes=["admin"])
    assert [each["form"]["scope"] for each in world.grants("client_credentials")] == ["read", "read write"]


# -- jwt bearer -------------------------------------------------------------------------------------------------


def test_the_host_makes_the_assertion(shared: Sidecar, server: str, world: World) -> None:
    auth = {"type": "oauth", "grant": "jwt_bearer", "clientId": "wif"}
    key = shared.request("servers/connect", {"server": server, "transport": world.transport(), "auth": auth})
    asked = answer_host(shared, "assertions/create", {"assertion": ASSERTION})
    assert asked == {
        "server": server,
        "scope": {},
        "audience": world.issuer,
        "resource": world.url,
        "timeoutMs": asked["timeoutMs"],
    }
    assert shared.answer(key).result["state"] == "ready"
    form = world.grants("jwt-bearer")[0]["form"]
    assert (form["assertion"], form["client_id"], "client_secret" in form) == (ASSERTION, "wif", False)


@pytest.mark.parametrize("result", [None, {"assertion": 7}, {"assertion": "a\nb"}])
def test_no_assertion_is_transient(start: Start, world: World, result: Json | None) -> None:
    sidecar = begin(start(), {"assertions": {}})
    auth = {"type": "oauth", "grant": "jwt_bearer", "clientId": "wif"}
    key = sidecar.request("servers/connect", {"server": "a", "transport": world.transport(), "auth": auth})
    answer_host(sidecar, "assertions/create", result)
    sidecar.answer(key).is_error(1304)


def test_a_private_key_signs_the_assertion_here(shared: Sidecar, server: str, world: World) -> None:
    auth = {
        "type": "oauth",
        "grant": "jwt_bearer",
        "clientId": "wif",
        "privateKey": {"pem": PEM, "algorithm": "ES256"},
    }
    assert shared.connect(server, world.transport(), auth=auth)["state"] == "ready"
    form = world.grants("jwt-bearer")[0]["form"]
    assert jwt.decode(form["assertion"], KEY.public_key(), ["ES256"], audience=world.issuer)["sub"] == "wif"


def test_an_assertion_that_is_not_honoured_ends_a_service(start: Start, world: World) -> None:
    sidecar = begin(start(), {"assertions": {}})
    world.set(token_fault={"status": 400, "body": '{"error":"invalid_grant"}', "type": "application/json"})
    auth = {"type": "oauth", "grant": "jwt_bearer", "clientId": "wif"}
    key = sidecar.request("servers/connect", {"server": "a", "transport": world.transport(), "auth": auth})
    answer_host(sidecar, "assertions/create", {"assertion": ASSERTION})
    sidecar.answer(key).is_error(1303, oauthError="invalid_grant", retry="reauth")
    info = sidecar.call("servers/get", {"server": "a"}).result
    assert (info["state"], info["auth"]["state"]) == ("failed", "dead")


# -- device -----------------------------------------------------------------------------------------------------


def test_a_person_logs_in_at_another_device(shared: Sidecar, server: str, world: World) -> None:
    info = shared.connect(server, world.transport(), auth={"type": "oauth", "grant": "device_code"})
    assert info["state"] == "authorizing"
    authorization = info["authorization"]
    assert authorization["userCode"] == "WDJB-MJHT"
    assert authorization["verificationUri"] == f"{world.issuer}/activate"
    assert authorization["interval"] == 1
    params = {"state": authorization["state"], "code": "x"}
    shared.call("auth/complete", params).is_error(1306, rule="state")
    world.wait_grant("device_code")
    world.set(do="approve")
    shared.wait(lambda: shared.states(server)[-1] == "ready", "ready")
    assert shared.tool(server, "echo", {}).result


@pytest.mark.parametrize(("error", "code"), [("expired_token", 1307), ("access_denied", 1302)])
def test_a_device_login_that_ends_badly_says_how(
    shared: Sidecar, server: str, world: World, error: str, code: int
) -> None:
    world.set(device_error=error)
    shared.connect(server, world.transport(), auth={"type": "oauth", "grant": "device_code"})
    shared.wait(lambda: shared.states(server)[-1] == "failed", "failed")
    assert shared.call("servers/get", {"server": server}).result["lastError"]["code"] == code


def test_a_device_code_that_expires_ends_the_login(shared: Sidecar, server: str, world: World) -> None:
    world.set(device={"expires_in": 1})
    shared.connect(server, world.transport(), auth={"type": "oauth", "grant": "device_code"})
    shared.wait(lambda: shared.states(server)[-1] == "failed", "failed")
    shared.tool(server, "echo", {}).is_error(1307, retry="user", delivered="no")


def test_a_host_may_choose_the_device_for_a_login(shared: Sidecar, server: str, world: World) -> None:
    first = shared.connect(server, world.transport(), auth=oauth())["authorization"]
    authorization = shared.call("auth/begin", {"server": server, "flow": "device"}).result
    assert authorization["userCode"]
    shared.call("auth/complete", {"state": first["state"], "code": "x"}).is_error(1306, rule="state")
    world.set(do="approve")
    shared.wait(lambda: shared.states(server)[-1] == "ready", "ready")


# -- host -------------------------------------------------------------------------------------------------------


def test_tokens_stay_with_the_host(start: Start, world: World) -> None:
    sidecar = begin(start(), {"tokens": {}})
    params = {"server": "a", "transport": world.transport(), "auth": {"type": "host"}, "scope": {"user": "u"}}
    token = given(world)
    key = sidecar.request("servers/connect", params)
    asked = answer_host(sidecar, "tokens/get", {"accessToken": token, "expiresAt": "2099-01-01T00:00:00.000Z"})
    assert (asked["server"], asked["scope"], asked["reason"]) == ("a", {"user": "u"}, "missing")
    info = sidecar.answer(key).result
    assert (info["state"], info["auth"]["type"], info["auth"]["state"]) == ("ready", "host", "valid")
    world.set(do="expire")
    key = sidecar.start_tool("a", "echo", {}, scope={"user": "u"})
    assert answer_host(sidecar, "tokens/get", {"accessToken": given(world)}, 2)["reason"] == "rejected"
    assert sidecar.answer(key).result
    world.set(do="expire")
    key = sidecar.start_tool("a", "echo", {}, scope={"user": "u"})
    answer_host(sidecar, "tokens/get", {"accessToken": "no-good-token"}, 3)
    sidecar.answer(key).is_error(1302, httpStatus=401, delivered="no")
    assert world.count("calls") == 1


@pytest.mark.parametrize(
    "result",
    [
        None,
        {},
        {"accessToken": "a\r\nb"},
        {"accessToken": "x", "tokenType": 7},
        {"accessToken": "x", "expiresAt": "soon"},
    ],
)
def test_a_host_without_a_token_is_transient(start: Start, world: World, result: Json | None) -> None:
    sidecar = begin(start(), {"tokens": {}})
    key = sidecar.request("servers/connect", {"server": "a", "transport": world.transport(), "auth": {"type": "host"}})
    answer_host(sidecar, "tokens/get", result)
    sidecar.answer(key).is_error(1304)


def test_a_token_of_the_host_that_ends_is_asked_for_before_it_is_used(start: Start, world: World) -> None:
    sidecar = begin(start(), {"tokens": {}})
    key = sidecar.request("servers/connect", {"server": "a", "transport": world.transport(), "auth": {"type": "host"}})
    answer_host(sidecar, "tokens/get", {"accessToken": given(world), "expiresAt": "2020-01-01T00:00:00.000Z"})
    sidecar.answer(key)
    key = sidecar.start_tool("a", "echo", {})
    assert answer_host(sidecar, "tokens/get", {"accessToken": given(world)}, 2)["reason"] == "expiring"
    assert sidecar.answer(key).result


def given(world: World) -> str:
    """Return a token that the server honours, as a host would have it."""
    body = b"grant_type=client_credentials&scope=read"
    with urllib.request.urlopen(f"{world.issuer}/token", body) as answer:  # noqa: S310 - our own server
        token: Any = json.load(answer)["access_token"]
    return str(token)
