"""`servers/test` of a server that wants a login: it tells so, and begins none that stays."""

from __future__ import annotations

from tests.answers import Json
from tests.auth.world import World, connected, oauth
from tests.harness import Sidecar


def trial(sidecar: Sidecar, server: str, world: World, auth: Json) -> Json:
    """Test the server of a world and return the result."""
    params = {"server": server, "transport": world.transport(), "auth": auth}
    result: Json = sidecar.call("servers/test", params).result
    return result


def test_trial_that_needs_a_person_says_so_and_leaves_no_login(shared: Sidecar, name: str, world: World) -> None:
    told = len(shared.told("auth/required"))
    result = trial(shared, name, world, oauth())
    assert result["ok"] is False
    assert result["error"]["code"] == 1301
    assert "authorization" not in result["error"]["data"]
    assert len(shared.told("auth/required")) == told
    assert shared.call("servers/list").result["servers"] == []
    info = shared.connect(name, world.transport(), auth=oauth())
    assert info["state"] == "authorizing"
    shared.call("servers/disconnect", {"server": name})


def test_trial_uses_the_login_that_is_there(shared: Sidecar, server: str, world: World) -> None:
    connected(shared, server, world)
    result = trial(shared, f"{server[:90]}-trial", world, oauth())
    assert (result["ok"], result["tools"] > 0) == (True, True)
    assert len(world.grants("authorization_code")) == 1
    assert shared.tool(server, "echo", {"text": "hi"}).result["content"][0]["text"] == "hi"


def test_trial_leaves_a_login_that_another_address_waits_for(shared: Sidecar, server: str, world: World) -> None:
    info = shared.connect(server, world.transport(), auth=oauth())
    assert info["state"] == "authorizing"
    assert trial(shared, f"{server[:90]}-trial", world, oauth())["error"]["code"] == 1301
    assert shared.call("servers/get", {"server": server}).result["authorization"] == info["authorization"]
