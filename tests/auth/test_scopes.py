"""Scopes: what is asked for, what a server may add, and where the host's ceiling ends it (bar line 35)."""

from __future__ import annotations

from tests.auth.world import World, complete, connected, log_in, oauth, query_of
from tests.harness import Sidecar


def asked(sidecar: Sidecar, server: str, world: World, **more: object) -> list[str] | None:
    """Connect and return the scopes of the authorization request."""
    info = sidecar.connect(server, world.transport(), auth=oauth(**more))
    scope = query_of(info["authorization"]["url"]).get("scope")
    return scope.split() if scope is not None else None


def test_a_challenge_beyond_the_configured_scopes_is_refused_at_the_first_login(
    shared: Sidecar, server: str, world: World
) -> None:
    world.set(challenge_scope="admin:* delete:everything read")
    params = {"server": server, "transport": world.transport(), "auth": oauth(scopes=["read"])}
    answer = shared.call("servers/connect", params)
    answer.is_error(1305, scopes=["admin:*", "delete:everything"], delivered="no", retry="user")
    assert world.log("/authorize") == world.log("/register") == []
    assert shared.call("servers/get", {"server": server}).result["state"] == "failed"


def test_a_challenge_adds_scopes_inside_the_ceiling(shared: Sidecar, server: str, world: World) -> None:
    world.set(challenge_scope="write")
    found = asked(shared, server, world, scopes=["read"], scopeCeiling=["read", "write"])
    assert found == ["read", "write"]


def test_without_configured_scopes_the_challenge_counts_then_the_resource_then_none(
    shared: Sidecar, world: World, name: str
) -> None:
    assert asked(shared, f"{name[:100]}-a", world) == ["read"]
    world.set(challenge_scope="files:read mail")
    assert asked(shared, f"{name[:100]}-b", world, clientName="b") is not None
    world.set(challenge_scope=None, prm={"scopes_supported": None})
    assert asked(shared, f"{name[:100]}-c", world, clientId="c") is None
    world.set(challenge_scope="files:read mail")
    assert asked(shared, f"{name[:100]}-d", world, clientId="d") == ["files:read", "mail"]
    for letter in "abcd":
        shared.call("servers/disconnect", {"server": f"{name[:100]}-{letter}"})


def test_what_the_resource_supports_is_cut_to_the_ceiling(shared: Sidecar, server: str, world: World) -> None:
    world.set(prm={"scopes_supported": ["read", "write", "admin"]})
    assert asked(shared, server, world, scopeCeiling=["read", "write"]) == ["read", "write"]


def test_offline_access_is_asked_for_where_the_authorization_server_lists_it(
    shared: Sidecar, server: str, world: World
) -> None:
    world.set(metadata={"scopes_supported": ["read", "offline_access"]})
    info = shared.connect(server, world.transport(), auth=oauth())
    query = query_of(info["authorization"]["url"])
    assert (query["scope"], query["prompt"]) == ("read offline_access", "consent")


def test_a_step_up_is_told_to_the_call_that_needs_it_while_the_old_token_serves_the_others(
    shared: Sidecar, server: str, world: World
) -> None:
    connected(shared, server, world, oauth(scopes=["read"], scopeCeiling=["read", "write"]))
    data = shared.tool(server, "echo", {"scope": "write"}).is_error(1301, delivered="no")
    assert shared.call("servers/get", {"server": server}).result["state"] == "ready"
    assert shared.tool(server, "echo", {}).result
    again = shared.tool(server, "echo", {"scope": "write"}).is_error(1301)
    assert again["authorization"] == data["authorization"]
    assert query_of(data["authorization"]["url"])["scope"] == "read write"
    assert complete(shared, log_in(data["authorization"]["url"])).result["state"] == "ready"
    assert shared.tool(server, "echo", {"scope": "write"}).result
    assert shared.call("servers/get", {"server": server}).result["auth"]["scopes"] == ["read", "write"]


def test_a_step_up_beyond_the_ceiling_is_refused(shared: Sidecar, server: str, world: World) -> None:
    connected(shared, server, world, oauth(scopes=["read"]))
    shared.tool(server, "echo", {"scope": "admin"}).is_error(1305, scopes=["admin"], delivered="no")
    assert shared.tool(server, "echo", {}).result
    assert len(world.log("/authorize")) == 1


def test_a_scope_that_was_asked_for_and_not_granted_is_no_reason_to_ask_again(
    shared: Sidecar, server: str, world: World
) -> None:
    world.set(token={"scope": "read"})
    connected(shared, server, world, oauth(scopes=["read", "write"]))
    shared.tool(server, "echo", {"scope": "write"}).is_error(1302, httpStatus=403, delivered="no")


def test_a_denied_step_up_leaves_the_connection_as_it_is(shared: Sidecar, server: str, world: World) -> None:
    connected(shared, server, world)
    data = shared.tool(server, "echo", {"scope": "write"}).is_error(1301)
    params = {"state": data["authorization"]["state"], "error": "access_denied", "iss": world.issuer}
    shared.call("auth/complete", params).is_error(1302, oauthError="access_denied")
    info = shared.call("servers/get", {"server": server}).result
    assert (info["state"], info["auth"]["state"]) == ("ready", "valid")
    assert shared.tool(server, "echo", {}).result
    fresh = shared.tool(server, "echo", {"scope": "write"}).is_error(1301)
    assert fresh["authorization"]["state"] != data["authorization"]["state"]


def test_a_403_without_a_scope_is_a_denial(shared: Sidecar, server: str, world: World) -> None:
    connected(shared, server, world)
    world.set(mcp_status=403)
    shared.tool(server, "echo", {}).is_error(1302, httpStatus=403, delivered="no")
