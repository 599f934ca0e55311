"""The redirect on this machine: one listener for one login, on 127.0.0.1 alone, and a page that says what happened."""

from __future__ import annotations

import socket
import urllib.error
import urllib.request
from typing import Any
from urllib.parse import urlencode, urlsplit

import psutil

from tests.answers import Json
from tests.auth.world import World, log_in, oauth, query_of
from tests.harness import PATIENCE, Sidecar

LOOPBACK: Json = {"mode": "loopback"}


def page(url: str, **headers: str) -> tuple[int, str]:
    """Open a page as a browser does; return status and text."""
    request = urllib.request.Request(url, headers=headers)  # noqa: S310 - our own listener
    try:
        with urllib.request.urlopen(request, timeout=PATIENCE) as answer:  # noqa: S310 - our own listener
            return answer.status, answer.read().decode()
    except urllib.error.HTTPError as error:
        with error:
            return error.code, error.read().decode()


def listeners(sidecar: Sidecar) -> list[Any]:
    """Return where the sidecar listens."""
    return [each.laddr for each in sidecar.handle.net_connections("tcp") if each.status == psutil.CONN_LISTEN]


def test_the_browser_ends_the_login_and_reads_so(shared: Sidecar, server: str, world: World) -> None:
    url = shared.connect(server, world.transport(), auth=oauth(redirect=LOOPBACK))["authorization"]["url"]
    redirect = query_of(url)["redirect_uri"]
    (listener,) = listeners(shared)
    assert (listener.ip, listener.port) == ("127.0.0.1", urlsplit(redirect).port)
    for stray, status in (
        (redirect.replace("/callback", "/favicon.ico"), 404),
        (f"{redirect}?code=evil&state=evil", 400),
        (f"{redirect}?error=access_denied", 400),
        (redirect, 400),
    ):
        found, text = page(stray)
        assert found == status
        assert "evil" not in text
    assert page(f"{redirect}?state={query_of(url)['state']}&code=x", Host="evil.example")[0] == 400
    assert shared.call("servers/get", {"server": server}).result["state"] == "authorizing"
    callback = log_in(url)
    status, text = page(callback)
    assert (status, "You are logged in" in text) == (200, True)
    shared.wait(lambda: shared.states(server)[-1] == "ready", "ready")
    assert shared.tool(server, "echo", {}).result
    shared.wait(lambda: not listeners(shared), "no listener")
    assert world.log("/register")[0]["body"]["application_type"] == "native"


def test_a_refusal_is_told_to_the_person_without_repeating_words(shared: Sidecar, server: str, world: World) -> None:
    url = shared.connect(server, world.transport(), auth=oauth(redirect=LOOPBACK))["authorization"]["url"]
    query = query_of(url)
    back = {"state": query["state"], "iss": world.issuer, "error": "access_denied", "error_description": "<script>x"}
    status, text = page(f"{query['redirect_uri']}?{urlencode(back)}")
    assert (status, "did not succeed (access_denied)" in text, "<script>" in text) == (400, True, False)
    shared.wait(lambda: shared.states(server)[-1] == "failed", "failed")
    assert shared.call("servers/get", {"server": server}).result["lastError"]["code"] == 1302


def test_a_taken_port_is_refused_before_anybody_is_asked(shared: Sidecar, server: str, world: World) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        auth = oauth(redirect={**LOOPBACK, "port": taken.getsockname()[1]})
        params = {"server": server, "transport": world.transport(), "auth": auth}
        shared.call("servers/connect", params).is_error(1306, rule="redirect")
    assert world.log("/register") == world.log("/authorize") == []


def test_a_fixed_port_serves_one_login_after_the_other(shared: Sidecar, server: str, world: World) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    auth = oauth(redirect={**LOOPBACK, "port": port})
    first = shared.connect(server, world.transport(), auth=auth)["authorization"]
    assert query_of(first["url"])["redirect_uri"] == f"http://127.0.0.1:{port}/callback"
    shared.call("servers/disconnect", {"server": server}).result  # noqa: B018 - fails where it is an error
    second = shared.connect(server, world.transport(), auth=auth)["authorization"]
    assert page(log_in(second["url"]))[0] == 200
    shared.wait(lambda: shared.states(server)[-1] == "ready", "ready")


def test_a_slow_or_endless_request_to_the_listener_does_not_hinder_the_login(
    shared: Sidecar, server: str, world: World
) -> None:
    url = shared.connect(server, world.transport(), auth=oauth(redirect=LOOPBACK))["authorization"]["url"]
    port = urlsplit(query_of(url)["redirect_uri"]).port
    with socket.create_connection(("127.0.0.1", port)) as idle, socket.create_connection(("127.0.0.1", port)) as flood:
        idle.sendall(b"GET /callback?")
        flood.sendall(b"x" * 100_000)
        assert page(log_in(url))[0] == 200
    shared.wait(lambda: shared.states(server)[-1] == "ready", "ready")
