"""Answers of a token endpoint that must not be believed, and never be shown (bar line 36)."""

from __future__ import annotations

from typing import Any

import pytest

from tests.auth.world import World, complete, connected, log_in, oauth
from tests.harness import Sidecar

CANARY = "CANARY-value-of-a-token"


@pytest.mark.parametrize(
    "token",
    [
        {"access_token": f"{CANARY}\r\nX-Evil: 1"},
        {"access_token": f"{CANARY}\x00"},
        {"access_token": f"{CANARY} with blanks"},
        {"access_token": f"{CANARY}é"},
        {"access_token": ""},
        {"access_token": None},
        {"access_token": 7},
        {"access_token": [CANARY]},
        {"access_token": CANARY + "x" * 20_000},
        {"access_token": CANARY + "x" * 1_000_000},
        {"refresh_token": f"{CANARY}\n"},
    ],
    ids=lambda token: str(token)[:40],
)
def test_a_poisoned_token_is_not_used_and_not_shown(
    shared: Sidecar, server: str, world: World, token: dict[str, Any]
) -> None:
    world.set(token=token)
    info = shared.connect(server, world.transport(), auth=oauth())
    answer = complete(shared, log_in(info["authorization"]["url"]))
    answer.is_error(1304, delivered="no")
    assert CANARY.encode() not in answer.line
    assert CANARY.encode() not in shared.stderr
    assert shared.call("servers/get", {"server": server}).result["state"] == "failed"
    assert len(world.log("/authorize")) == 1


@pytest.mark.parametrize("kind", ["DPoP", "mac", None, 7])
def test_a_token_of_another_kind_is_a_denial(shared: Sidecar, server: str, world: World, kind: Any) -> None:
    world.set(token={"token_type": kind})
    info = shared.connect(server, world.transport(), auth=oauth())
    complete(shared, log_in(info["authorization"]["url"])).is_error(1302)


@pytest.mark.parametrize("seconds", [-5, 0, 10**30, 1e30, "abc", "3600", None, True, [], 0.001])
def test_an_odd_lifetime_begins_no_storm(shared: Sidecar, server: str, world: World, seconds: Any) -> None:
    world.set(token={"expires_in": seconds})
    connected(shared, server, world)
    for _ in range(3):
        assert shared.tool(server, "echo", {}).result
    assert len(world.log("/authorize")) == 1
    assert len(world.log("/token")) == 1


@pytest.mark.parametrize(
    ("body", "code"),
    [
        ('{"error":"invalid_grant","error_description":"%s"}', 1303),
        ('{"error":"access_denied","error_description":"<script>%s</script>"}', 1302),
        ('{"error":"%s \\u0000 not a code"}', 1304),
        ("<html>%s</html>", 1304),
    ],
)
def test_the_words_of_an_authorization_server_are_not_repeated(
    shared: Sidecar, server: str, world: World, body: str, code: int
) -> None:
    info = shared.connect(server, world.transport(), auth=oauth())
    world.set(token_fault={"status": 400, "body": body % CANARY, "type": "application/json"})
    answer = complete(shared, log_in(info["authorization"]["url"]))
    answer.is_error(code)
    assert CANARY.encode() not in answer.line
    assert CANARY.encode() not in shared.stderr


@pytest.mark.parametrize(
    ("change", "oauth_error"),
    [
        ({"register_status": 400, "register": {"error": "invalid_redirect_uri"}}, "invalid_redirect_uri"),
        ({"register": {"client_id": None}}, None),
        ({"register": {"client_id": "a\r\nb"}}, None),
        ({"register": {"token_endpoint_auth_method": "tls_client_auth"}}, None),
        ({"register": {"token_endpoint_auth_method": "client_secret_basic", "client_secret": None}}, None),
        ({"metadata": {"registration_endpoint": None}}, None),
    ],
    ids=str,
)
def test_a_registration_that_fails_says_so(
    shared: Sidecar, server: str, world: World, change: dict[str, Any], oauth_error: str | None
) -> None:
    world.set(**change)
    params = {"server": server, "transport": world.transport(), "auth": oauth()}
    shared.call("servers/connect", params).is_error(1308, oauthError=oauth_error)
    assert world.log("/authorize") == []
