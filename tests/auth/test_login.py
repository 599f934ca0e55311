"""A person logs in through the host: the whole way, and what everybody sees of it."""

from __future__ import annotations

from tests.auth.world import World, begin, complete, connected, log_in, oauth, query_of, ready
from tests.conftest import Start
from tests.harness import Sidecar


def test_connect_answers_with_a_login_and_is_ready_after_the_callback(
    shared: Sidecar, server: str, world: World
) -> None:
    info = shared.connect(server, world.transport(), auth=oauth(clientName="Ada's host"))
    assert info["state"] == "authorizing"
    assert info["auth"] == {"type": "oauth", "state": "pending", "issuer": world.issuer}
    told = shared.wait_told("auth/required", lambda params: params["server"] == server)
    assert told["authorization"] == info["authorization"]
    query = query_of(info["authorization"]["url"])
    assert query["resource"] == world.url
    assert query["code_challenge_method"] == "S256"
    assert query["scope"] == "read"
    shared.tool(server, "echo", {}).is_error(1301, authorization=info["authorization"], delivered="no", retry="user")
    done = complete(shared, log_in(info["authorization"]["url"])).result
    assert done["state"] in {"connecting", "ready"}
    info = ready(shared, server)
    assert info["auth"]["state"] == "valid"
    assert info["auth"]["scopes"] == ["read"]
    assert shared.tool(server, "echo", {"text": "hi"}).result["content"][0]["text"] == "hi"
    (registered,) = world.log("/register")
    assert registered["body"]["client_name"] == "Ada's host"
    (code,) = world.grants("authorization_code")
    assert code["form"]["resource"] == world.url
    status = shared.call("auth/status", {"server": server}).result["credentials"]
    assert [(each["server"], each["issuer"], each["refreshable"], each["storedIn"]) for each in status] == [
        (server, world.issuer, True, "memory")
    ]


def test_an_expired_token_is_refreshed_in_the_call_that_finds_it_so(shared: Sidecar, server: str, world: World) -> None:
    connected(shared, server, world)
    world.set(do="expire")
    assert shared.tool(server, "echo", {}).result
    assert len(world.grants("refresh_token")) == 1
    assert world.count("calls") == 1


def test_every_request_of_a_session_carries_the_token(shared: Sidecar, server: str, world: World) -> None:
    world.set(legacy=True)
    info = connected(shared, server, world)
    assert info["era"] == "legacy"
    assert shared.tool(server, "echo", {}).result
    shared.call("servers/disconnect", {"server": server}).result  # noqa: B018 - fails where it is an error
    seen = {entry["method"]: entry["authorization"] or "" for entry in world.log("/mcp")}
    assert set(seen) == {"POST", "GET", "DELETE"}
    assert all(value.startswith("Bearer at-") for value in seen.values()), seen


def test_a_vault_that_cannot_be_used_begins_no_login(start: Start, world: World) -> None:
    sidecar = begin(start(), {"credentials": {}}, vault={"type": "host"})  # which needs a key
    params = {"server": "a", "transport": world.transport(), "auth": oauth()}
    sidecar.call("servers/connect", params).is_error(1402, delivered="no")
    assert sidecar.told("auth/required") == []
    assert world.log("/register") == world.log("/authorize") == []
    world.set(open=True)
    assert sidecar.connect("b", world.transport())["state"] == "ready"
