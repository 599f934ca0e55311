"""The whole way against a certified authorization server that others wrote (bar lines 30 and 37)."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.answers import Json
from tests.auth.oidc import Oidc, browse
from tests.auth.test_refresh import files
from tests.auth.world import begin, complete, oauth, query_of
from tests.conftest import Start
from tests.harness import Sidecar

pytestmark = pytest.mark.needs("node")


@pytest.fixture(scope="module")
def oidc() -> Iterator[Oidc]:
    """Return the running servers."""
    with Oidc() as program:
        yield program


def logged_in(sidecar: Sidecar, server: str, oidc: Oidc, auth: Json | None = None) -> None:
    """Connect and log in."""
    info = sidecar.connect(server, oidc.transport(), auth=auth or oauth())
    if info["state"] == "authorizing":
        complete(sidecar, browse(info["authorization"]["url"])).result  # noqa: B018 - fails where it is an error
        sidecar.wait(lambda: sidecar.states(server)[-1] == "ready", "ready")


def test_register_log_in_refresh_and_revoke(shared: Sidecar, server: str, oidc: Oidc) -> None:
    before = oidc.stats
    logged_in(shared, server, oidc)
    assert shared.tool(server, "whoami", {}).result["content"][0]["text"] == "ann"
    info = shared.call("servers/get", {"server": server}).result
    assert info["auth"]["issuer"] == before["issuer"]
    for number in range(1, 4):
        oidc.get("/expire")
        assert shared.tool(server, "whoami", {}).result
        assert oidc.stats["refreshes"] - before["refreshes"] == number
    assert shared.call("auth/revoke", {"server": server}).result == {"revokedAtServer": True}
    after = oidc.stats
    assert after["registrations"] - before["registrations"] == 1
    assert after["reuse"] == before["reuse"]
    assert after["strangers"] == 0
    shared.tool(server, "whoami", {}).is_error(1301)


def test_offline_access_is_asked_for_with_consent(shared: Sidecar, server: str, oidc: Oidc) -> None:
    query = query_of(shared.connect(server, oidc.transport(), auth=oauth())["authorization"]["url"])
    assert (query["scope"], query["prompt"]) == ("read offline_access", "consent")


def test_tokens_are_bound_to_a_key_and_nonces_are_followed(shared: Sidecar, server: str, oidc: Oidc) -> None:
    logged_in(shared, server, oidc, oauth(dpop=True))
    assert shared.tool(server, "whoami", {}).result
    oidc.get("/nonces")
    oidc.get("/expire")
    before = oidc.stats["refreshes"]
    assert shared.tool(server, "whoami", {}).result
    assert oidc.stats["refreshes"] - before == 1


def test_two_processes_with_many_connections_refresh_once_for_each_expiry(
    start: Start, oidc: Oidc, tmp_path: Path
) -> None:
    sidecars = [begin(start(), vault=files(tmp_path)) for _ in range(2)]
    logged_in(sidecars[0], "n0", oidc)
    names = [f"n{number}" for number in range(25)]
    for sidecar in sidecars:
        keys = [
            sidecar.request("servers/connect", {"server": name, "transport": oidc.transport(), "auth": oauth()})
            for name in names
        ]
        for key in keys:
            assert sidecar.answer(key).result["state"] == "ready"
    before = oidc.stats
    expiries = 20
    for _ in range(expiries):
        oidc.get("/expire")
        calls = [(sidecar, sidecar.start_tool(name, "whoami", {})) for name in names for sidecar in sidecars]
        for sidecar, key in calls:
            assert sidecar.answer(key).result
    after = oidc.stats
    assert after["refreshes"] - before["refreshes"] == expiries
    assert (after["reuse"], after["logins"]) == (before["reuse"], before["logins"])
    assert after["calls"] - before["calls"] == expiries * len(names) * 2
