"""Tokens that end: one refresh, no login, the tool ran once; and what an ill server must not break (bar 28, 29, 32)."""

from __future__ import annotations

import resource
from pathlib import Path
from typing import Any

import pytest

from tests.answers import Json
from tests.auth.world import World, begin, complete, connected, log_in, oauth
from tests.conftest import Start
from tests.harness import Sidecar


def test_calls_at_the_same_time_share_one_refresh(shared: Sidecar, server: str, world: World) -> None:
    connected(shared, server, world)
    world.set(do="expire", token_delay=0.2)
    keys = [shared.start_tool(server, "echo", {}) for _ in range(20)]
    for key in keys:
        assert shared.answer(key).result
    assert len(world.grants("refresh_token")) == 1
    assert world.count("calls") == 20
    assert len(world.log("/authorize")) == 1


def test_a_cancelled_call_leaves_the_rotation_that_it_began_whole(shared: Sidecar, server: str, world: World) -> None:
    connected(shared, server, world)
    world.set(do="expire", token_delay=0.5)
    key = shared.start_tool(server, "echo", {})
    shared.start_tool(server, "echo", {}, timeoutMs=200)
    world.wait_grant("refresh_token")  # on its way before the cancel
    shared.cancel(key)
    shared.answer(key).is_error(1004)
    assert shared.tool(server, "echo", {}).result
    assert len(world.grants("refresh_token")) == 1
    assert world.count("reused") == 0


def test_a_deadline_while_a_token_is_renewed_says_so(shared: Sidecar, server: str, world: World) -> None:
    connected(shared, server, world)
    world.set(do="expire", token_delay=1.5)
    shared.tool(server, "echo", {}, timeoutMs=500).is_error(1005, phase="authorize", delivered="no")
    assert shared.tool(server, "echo", {}).result
    assert world.count("calls") == 1


@pytest.mark.parametrize(
    "fault",
    [
        {"status": 500},
        {"status": 503, "body": '{"error":"invalid_grant"}', "type": "application/json"},
        {"status": 429},
        {"status": 200, "body": "<html>captive portal</html>"},
        {"status": 400, "body": "<html>"},
        {"status": 200, "body": "[]", "type": "application/json"},
        "reset",
    ],
    ids=str,
)
def test_an_ill_token_endpoint_keeps_everything(shared: Sidecar, server: str, world: World, fault: Any) -> None:
    connected(shared, server, world)
    world.set(do="expire", token_fault=fault)
    shared.tool(server, "echo", {}).is_error(1304, delivered="no", retry="after")
    info = shared.call("servers/get", {"server": server}).result
    assert info["state"] == "ready"
    world.set(token_fault=None)
    assert shared.tool(server, "echo", {}).result
    assert len(world.log("/authorize")) == 1
    assert world.count("calls") == 1


def test_a_token_endpoint_that_hangs_costs_ten_seconds_and_nothing_else(
    shared: Sidecar, server: str, world: World
) -> None:
    connected(shared, server, world)
    world.set(do="expire", token_fault="hang")
    shared.tool(server, "echo", {}).is_error(1304, delivered="no")
    world.set(token_fault=None)
    assert shared.tool(server, "echo", {}).result
    assert len(world.log("/authorize")) == 1


def test_a_token_endpoint_that_redirects_is_not_followed(shared: Sidecar, server: str, world: World) -> None:
    connected(shared, server, world)
    world.set(do="expire", token_fault={"location": world.canary})
    shared.tool(server, "echo", {}).is_error(1204, delivered="no")
    assert world.canary_hits() == []


def test_only_invalid_grant_ends_a_login(shared: Sidecar, server: str, world: World) -> None:
    connected(shared, server, world)
    told = len(shared.told("auth/required"))
    world.set(do="revoke")
    data = shared.tool(server, "echo", {}).is_error(1301, delivered="no")
    info = shared.call("servers/get", {"server": server}).result
    assert (info["state"], info["lastError"]["code"]) == ("authorizing", 1303)
    assert info["lastError"]["data"]["oauthError"] == "invalid_grant"
    assert info["authorization"] == data["authorization"]
    assert [body["authorization"] for body in shared.told("auth/required")[told:]] == [data["authorization"]]
    complete(shared, log_in(data["authorization"]["url"])).result  # noqa: B018 - fails where it is an error
    shared.wait(lambda: shared.states(server)[-1] == "ready", "ready")
    assert shared.tool(server, "echo", {}).result


def test_another_refusal_at_a_refresh_is_told_and_keeps_the_login(shared: Sidecar, server: str, world: World) -> None:
    connected(shared, server, world)
    fault = {"status": 401, "body": '{"error":"invalid_client"}', "type": "application/json"}
    world.set(do="expire", token_fault=fault)
    shared.tool(server, "echo", {}).is_error(1302, oauthError="invalid_client")
    world.set(token_fault=None)
    assert shared.tool(server, "echo", {}).result


def test_a_token_that_is_refused_after_a_refresh_leads_to_a_login_and_not_to_a_loop(
    shared: Sidecar, server: str, world: World
) -> None:
    connected(shared, server, world)
    world.set(do="expire", token={"access_token": "never-valid"})
    shared.tool(server, "echo", {}).is_error(1301)
    assert len(world.grants("refresh_token")) == 1


def test_a_token_that_is_refused_right_after_the_login_is_no_reason_for_another(
    shared: Sidecar, server: str, world: World
) -> None:
    info = shared.connect(server, world.transport(), auth=oauth())
    world.set(token={"access_token": "never-valid"})
    complete(shared, log_in(info["authorization"]["url"])).result  # noqa: B018 - fails where it is an error
    shared.wait(lambda: shared.states(server)[-1] == "failed", "failed")
    info = shared.call("servers/get", {"server": server}).result
    assert info["lastError"]["code"] == 1302
    assert info["lastError"]["data"]["httpStatus"] == 401
    assert len(world.log("/authorize")) == 1


def test_a_short_lived_token_is_renewed_beside_the_calls_before_it_ends(
    shared: Sidecar, server: str, world: World
) -> None:
    world.set(token={"expires_in": 1})  # counts as 30 s, of which the last quarter is the margin
    connected(shared, server, world)
    status = shared.call("auth/status", {"server": server}).result["credentials"][0]
    assert status["expiresAt"]
    assert shared.tool(server, "echo", {}).result
    assert len(world.log("/authorize")) == 1


def files(tmp_path: Path) -> Json:
    """Return a vault that outlives a process."""
    return {"type": "file", "path": str(tmp_path / "vault"), "keyFile": str(tmp_path / "key")}


def test_after_a_restart_secrets_go_to_the_recorded_issuer_alone(start: Start, world: World, tmp_path: Path) -> None:
    vault = files(tmp_path)
    world.set(metadata={"token_endpoint_auth_methods_supported": ["client_secret_post"]})
    first = begin(start(), vault=vault)
    connected(first, "a", world)
    first.close()
    # Meanwhile the server names another authorization server, and nobody answers for the metadata any more.
    world.set(do="expire", prm={"authorization_servers": [world.canary]}, no_metadata=True)
    second = begin(start(), vault=vault)
    assert second.connect("a", world.transport(), auth=oauth())["state"] == "ready"
    assert second.tool("a", "echo", {}).result
    (refresh,) = world.grants("refresh_token")
    assert refresh["at"] == "issuer"
    assert refresh["form"]["client_secret"]
    assert world.canary_hits() == []
    assert [
        entry["path"] for entry in world.log() if entry["at"] == "resource" and "form" in entry and entry["form"]
    ] == []


def test_a_client_of_the_hosts_own_is_shown_to_no_other_authorization_server(
    shared: Sidecar, server: str, world: World, oauth_program: Any
) -> None:
    auth = oauth(clientId="mine", clientSecret="pre-registered-secret", tokenEndpointAuthMethod="client_secret_post")
    connected(shared, server, world, auth)
    other = World(oauth_program, world.key + "-other")
    world.set(do="revoke", prm={"authorization_servers": [other.issuer]})
    shared.tool(server, "echo", {}).is_error(1306, rule="issuer")
    assert [entry for entry in other.log() if "form" in entry] == []


def test_a_new_secret_of_the_client_serves_the_login_that_there_is(shared: Sidecar, server: str, world: World) -> None:
    auth = oauth(clientId="mine", clientSecret="the-old-secret", tokenEndpointAuthMethod="client_secret_post")
    connected(shared, server, world, auth)
    info = shared.connect(server, world.transport(), auth={**auth, "clientSecret": "the-new-secret"}, replace=True)
    assert info["state"] == "ready"
    world.set(do="expire")
    assert shared.tool(server, "echo", {}).result
    assert world.grants("refresh_token")[0]["form"]["client_secret"] == "the-new-secret"
    assert len(world.log("/authorize")) == 1


def test_a_registered_client_is_registered_anew_at_another_authorization_server(
    shared: Sidecar, server: str, world: World, oauth_program: Any
) -> None:
    connected(shared, server, world)
    other = World(oauth_program, world.key + "-other")
    world.set(do="revoke", prm={"authorization_servers": [other.issuer]})
    data = shared.tool(server, "echo", {}).is_error(1301)
    assert data["authorization"]["url"].startswith(other.issuer)
    assert len(other.log("/register")) == 1


def test_a_stored_login_serves_a_new_process_without_a_word_to_the_authorization_server(
    start: Start, world: World, tmp_path: Path
) -> None:
    first = begin(start(), vault=files(tmp_path))
    connected(first, "a", world)
    first.close()
    world.set(do="forget")
    second = begin(start(), vault=files(tmp_path))
    info = second.connect("a", world.transport(), auth=oauth())
    assert info["auth"]["state"] == "valid"
    assert [entry for entry in world.log() if entry["at"] == "issuer"] == []


def test_two_processes_refresh_once(start: Start, world: World, tmp_path: Path) -> None:
    sidecars = [begin(start(), vault=files(tmp_path)) for _ in range(2)]
    connected(sidecars[0], "a", world)
    for number in range(5):
        sidecars[0].connect(f"n{number}", world.transport(), auth=oauth())
        sidecars[1].connect(f"n{number}", world.transport(), auth=oauth())
    for expiry in range(1, 4):
        world.set(do="expire", token_delay=0.1)
        keys = [(each, each.start_tool(f"n{number}", "echo", {})) for each in sidecars for number in range(5)]
        for each, key in keys:
            assert each.answer(key).result
        assert len(world.grants("refresh_token")) == expiry
    assert world.count("reused") == 0
    assert len(world.log("/authorize")) == 1


def test_twenty_calls_of_a_second_take_a_second(shared: Sidecar, server: str, world: World) -> None:
    connected(shared, server, world)
    keys = [shared.start_tool(server, "echo", {"seconds": 1}) for _ in range(20)]
    answers = [shared.answer(key) for key in keys]
    assert all(answer.result for answer in answers)
    begun = min(answer.at for answer in answers)
    assert max(answer.at for answer in answers) - begun <= 0.5


def test_the_vault_that_cannot_be_written_fails_no_call(start: Start, world: World, tmp_path: Path) -> None:
    sidecar = begin(start(), vault=files(tmp_path))
    connected(sidecar, "a", world)
    hard = resource.prlimit(sidecar.process.pid, resource.RLIMIT_FSIZE)[1]
    resource.prlimit(sidecar.process.pid, resource.RLIMIT_FSIZE, (0, hard))  # as a full disk does it
    world.set(do="expire")
    assert sidecar.tool("a", "echo", {}).result
    sidecar.wait_told("store/degraded", lambda body: body["backend"] == "file")
    world.set(do="expire")
    assert sidecar.tool("a", "echo", {}).result
    assert len(world.log("/authorize")) == 1
    assert sidecar.call("auth/status", {"server": "a"}).result["credentials"][0]["storedIn"] == "memory"
    resource.prlimit(sidecar.process.pid, resource.RLIMIT_FSIZE, (hard, hard))
    world.set(do="expire")
    assert sidecar.tool("a", "echo", {}).result
    assert sidecar.call("auth/status", {"server": "a"}).result["credentials"][0]["storedIn"] == "file"
