"""Callbacks: the right one ends the login, once; whatever else comes touches nothing (bar line 34)."""

from __future__ import annotations

from typing import Any
from urllib.parse import urlencode

import pytest

from tests.answers import Json
from tests.auth.world import REDIRECT, World, begin, complete, connected, log_in, oauth, query_of, ready
from tests.conftest import Start
from tests.harness import Sidecar


def authorizing(sidecar: Sidecar, server: str, world: World, **more: Any) -> Json:
    """Connect and return the Authorization."""
    info = sidecar.connect(server, world.transport(), auth=oauth(), **more)
    assert info["state"] == "authorizing"
    authorization: Json = info["authorization"]
    return authorization


def test_foreign_callbacks_touch_no_login(shared: Sidecar, server: str, world: World) -> None:
    authorization = authorizing(shared, server, world)
    state = authorization["state"]
    for params in (
        {"callbackUrl": f"{REDIRECT}?code=evil&state=evil"},
        {"callbackUrl": f"{REDIRECT}?error=access_denied"},
        {"callbackUrl": f"{REDIRECT}?code=evil"},
        {"callbackUrl": f"{REDIRECT}?" + urlencode([("state", state), ("state", state), ("code", "x")])},
        {"callbackUrl": f"{REDIRECT}?state={state[:-1]}&code=x"},
        {"callbackUrl": "http://[bad"},
        {"state": "evil", "error": "access_denied"},
        {"state": state, "code": "x", "scope": {"tenant": "other"}},
        {"state": state, "code": "x", "scope": {"user": "other"}},
        {"state": "\ud83d\ude00" * 10, "code": "x"},
        {"state": "x" * 100_000, "code": "x"},
    ):
        shared.call("auth/complete", params).is_error(1306, rule="state")
    assert shared.call("servers/get", {"server": server}).result["state"] == "authorizing"
    complete(shared, log_in(authorization["url"])).result  # noqa: B018 - fails where it is an error
    ready(shared, server)
    assert world.grants("authorization_code")[0]["form"]["code"].startswith("code-")


def test_a_callback_works_once_and_the_second_tab_changes_nothing(shared: Sidecar, server: str, world: World) -> None:
    authorization = authorizing(shared, server, world)
    first, second = log_in(authorization["url"]), log_in(authorization["url"])
    complete(shared, first).result  # noqa: B018 - fails where it is an error
    complete(shared, first).is_error(1306, rule="state")
    complete(shared, second).is_error(1306, rule="state")
    ready(shared, server)
    assert shared.tool(server, "echo", {}).result
    assert len(world.grants("authorization_code")) == 1


def test_parts_of_the_callback_do_as_well_as_the_whole(shared: Sidecar, server: str, world: World) -> None:
    query = query_of(log_in(authorizing(shared, server, world)["url"]))
    assert shared.call("auth/complete", query).result["server"] == server
    ready(shared, server)


def test_a_refusal_by_the_person_ends_the_login_and_begin_starts_anew(
    shared: Sidecar, server: str, world: World
) -> None:
    authorization = authorizing(shared, server, world)
    params = {"state": authorization["state"], "error": "access_denied", "iss": world.issuer, "errorDescription": "<b>"}
    shared.call("auth/complete", params).is_error(1302, oauthError="access_denied")
    info = shared.call("servers/get", {"server": server}).result
    assert (info["state"], info["lastError"]["code"]) == ("failed", 1302)
    shared.tool(server, "echo", {}).is_error(1302, delivered="no")
    again = shared.call("auth/begin", {"server": server}).result
    assert again["state"] != authorization["state"]
    assert shared.call("servers/get", {"server": server}).result["state"] == "authorizing"
    complete(shared, log_in(again["url"])).result  # noqa: B018 - fails where it is an error
    ready(shared, server)


@pytest.mark.parametrize("iss", [None, "https://evil.example", "slash"])
def test_a_wrong_or_missing_issuer_ends_the_login(shared: Sidecar, server: str, world: World, iss: str | None) -> None:
    authorization = authorizing(shared, server, world)
    world.set(callback={"iss": world.issuer + "/" if iss == "slash" else iss})
    complete(shared, log_in(authorization["url"])).is_error(1306, rule="issuer")
    assert world.grants("authorization_code") == []
    assert shared.call("servers/get", {"server": server}).result["state"] == "failed"


def test_a_missing_issuer_is_no_fault_where_none_was_promised(shared: Sidecar, server: str, world: World) -> None:
    world.set(metadata={"authorization_response_iss_parameter_supported": None}, callback={"iss": None})
    connected(shared, server, world)


def test_addresses_of_one_login_share_it_and_go_on_together(shared: Sidecar, server: str, world: World) -> None:
    sessions: list[Json] = [{"tenant": "t", "user": "u", "session": name} for name in ("a", "b")]
    infos = [shared.connect(server, world.transport(), auth=oauth(), scope=scope) for scope in sessions]
    first, second = (info["authorization"] for info in infos)
    assert first == second
    assert len(world.log("/register")) == 1
    foreign = shared.connect(server, world.transport(), auth=oauth(), scope={"tenant": "t", "user": "v"})
    assert foreign["authorization"]["state"] != first["state"]
    callback = log_in(first["url"])
    complete(shared, callback, {"tenant": "t", "user": "v"}).is_error(1306, rule="state")
    complete(shared, callback, {"tenant": "t", "user": "u", "session": "c"}).result  # noqa: B018 - fails where it is one
    for scope in sessions:
        ready(shared, server, scope)
        assert shared.tool(server, "echo", {}, scope=scope).result
    assert (
        shared.call("servers/get", {"server": server, "scope": {"tenant": "t", "user": "v"}}).result["state"]
        == "authorizing"
    )
    for scope in (*sessions, {"tenant": "t", "user": "v"}):
        shared.call("servers/disconnect", {"server": server, "scope": scope})


def test_a_login_ends_when_the_last_address_that_waits_is_disconnected(
    shared: Sidecar, server: str, world: World
) -> None:
    authorization = authorizing(shared, server, world)
    shared.call("servers/disconnect", {"server": server}).result  # noqa: B018 - fails where it is an error
    complete(shared, log_in(authorization["url"])).is_error(1306, rule="state")
    assert authorizing(shared, server, world)["state"] != authorization["state"]


def test_one_login_serves_the_whole_tenant_where_it_is_the_owner(shared: Sidecar, server: str, world: World) -> None:
    ann: Json = {"tenant": "t1", "user": "ann"}
    bob: Json = {"tenant": "t1", "user": "bob"}
    eve: Json = {"tenant": "t2", "user": "ann"}
    auth = oauth(owner="tenant")
    authorization = shared.connect(server, world.transport(), auth=auth, scope=ann)["authorization"]
    complete(shared, log_in(authorization["url"]), {"tenant": "t1", "user": "carl"}).result  # noqa: B018 - fails on error
    assert shared.connect(server, world.transport(), auth=auth, scope=bob, wait="ready")["state"] == "ready"
    assert shared.connect(server, world.transport(), auth=auth, scope=eve)["state"] == "authorizing"
    for scope in (ann, bob, eve):
        shared.call("servers/disconnect", {"server": server, "scope": scope})


def test_wait_ready_waits_for_the_person(shared: Sidecar, server: str, world: World) -> None:
    key = shared.request(
        "servers/connect", {"server": server, "transport": world.transport(), "auth": oauth(), "wait": "ready"}
    )
    told = shared.wait_told("auth/required", lambda params: params["server"] == server)
    complete(shared, log_in(told["authorization"]["url"])).result  # noqa: B018 - fails where it is an error
    assert shared.answer(key).result["state"] == "ready"


def test_wait_ready_says_that_it_waited_for_a_person(shared: Sidecar, server: str, world: World) -> None:
    params = {
        "server": server,
        "transport": world.transport(),
        "auth": oauth(),
        "wait": "ready",
        "timeoutMs": 1500,
    }
    shared.call("servers/connect", params).is_error(1005, phase="authorize", delivered="no")
    assert shared.call("servers/get", {"server": server}).result["state"] == "authorizing"


def test_a_pending_login_outlives_the_sidecar_where_the_vault_persists(
    start: Start, world: World, tmp_path: Any
) -> None:
    vault = {"type": "file", "path": str(tmp_path / "vault"), "keyFile": str(tmp_path / "key")}
    scope: Json = {"tenant": "t", "user": "u", "session": "s"}
    first = begin(start(), vault=vault)
    authorization = authorizing(first, "mine", world, scope=scope)
    first.close()
    second = begin(start(), vault=vault)
    callback = log_in(authorization["url"])
    complete(second, callback, {"tenant": "t"}).is_error(1306, rule="state")
    info = complete(second, callback, {"tenant": "t", "user": "u"}).result
    assert (info["server"], info["scope"], info["state"], info["generation"]) == ("mine", scope, "closed", 0)
    assert second.connect("mine", world.transport(), auth=oauth(), scope=scope)["state"] == "ready"
    assert len(world.grants("authorization_code")) == 1
    second.close()
    third = begin(start(), vault=vault)
    assert third.connect("other", world.transport(), auth=oauth(), scope=scope)["state"] == "ready"
    assert third.tool("other", "echo", {}, scope=scope).result
    assert len(world.log("/authorize")) == 1


def test_a_login_in_one_process_wakes_another_with_the_same_vault(start: Start, world: World, tmp_path: Any) -> None:
    vault = {"type": "file", "path": str(tmp_path / "vault"), "keyFile": str(tmp_path / "key")}
    here, there = (begin(start(), vault=vault) for _ in range(2))
    authorization = authorizing(here, "a", world)
    other = authorizing(there, "a", world)
    complete(here, log_in(authorization["url"])).result  # noqa: B018 - fails where it is an error
    there.wait(lambda: there.states("a")[-1] == "ready", "ready")
    complete(there, log_in(other["url"])).is_error(1306, rule="state")
    assert there.tool("a", "echo", {}).result
