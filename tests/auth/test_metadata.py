"""Metadata that leads astray: refused by rule, nothing contacted, nothing guessed (bar lines 25, 26, 27 and 35)."""

from __future__ import annotations

import sys
from typing import Any

import pytest

from tests.answers import Answer
from tests.auth.world import World, begin, connected, oauth
from tests.conftest import Start
from tests.harness import Sidecar

FIELDS = (
    "authorization_endpoint",
    "token_endpoint",
    "registration_endpoint",
    "revocation_endpoint",
    "device_authorization_endpoint",
    "jwks_uri",
)
PLACES = (*FIELDS, "authorization_servers", "resource_metadata")
T4 = (
    "javascript:alert(1)",
    "file:///etc/passwd",
    "data:text/html,x",
    "vbscript:x",
    "--upload-pack=x",
    'https://as.example/a"&calc.exe&"',
    "http://h.example/$(touch /tmp/pwn)",
    "https://u:p@h.example/",
    "http://as.example/authorize",
    "https://as.example/authorize?client_id=evil&redirect_uri=https://evil.example",
)


def connect(sidecar: Sidecar, server: str, world: World, **more: Any) -> Answer:
    """Try to connect."""
    return sidecar.call(
        "servers/connect", {"server": server, "transport": world.transport(), "auth": oauth(**more), "timeoutMs": 15000}
    )


def put(world: World, field: str, url: str) -> None:
    """Let one field of what the server and its authorization server say be `url`."""
    if field == "resource_metadata":
        world.set(shown_metadata=url)
    elif field == "authorization_servers":
        world.set(prm={"authorization_servers": [url]})
    else:
        world.set(metadata={field: url})


@pytest.fixture(scope="module")
def strict() -> Any:
    """Return a sidecar whose host allows the one address of the test's authorization server, and no other."""
    with Sidecar() as sidecar:
        egress = {"allowPrivate": ["127.0.0.1/32"], "allowHttp": ["127.0.0.1"]}
        yield begin(sidecar, egress=egress)


@pytest.mark.parametrize("field", PLACES)
def test_no_field_of_the_metadata_leads_to_an_address_that_is_not_allowed(
    strict: Sidecar, world: World, name: str, field: str
) -> None:
    port = world.ports["canary"]
    forms = (
        f"http://127.0.0.2:{port}/x",
        f"https://127.0.0.2:{port}/x",
        f"http://localhost:{port}/x",
        f"http://[::1]:{port}/x",
        f"http://[::ffff:127.0.0.1]:{port}/x",
        f"http://[64:ff9b::7f00:2]:{port}/x",
        f"http://0x7f000001:{port}/x",
        f"http://2130706433:{port}/x",
        f"http://0177.0.0.1:{port}/x",
        f"http://127.1:{port}/x",
        "http://169.254.169.254/latest/meta-data/iam",
        "https://10.0.0.1/x",
        f"https://127.0.0.3:{port}/x",
        f"http://0.0.0.0:{port}/x",
    )
    for number, url in enumerate(forms):
        put(world, field, url)
        server = f"{name[:100]}-{number}"
        data = connect(strict, server, world).is_error(1306, rule="egress", delivered="no")
        assert url not in str(data)
        strict.call("servers/disconnect", {"server": server})
    assert world.canary_hits() == []
    assert world.log("/authorize") == world.log("/register") == world.log("/token") == []


@pytest.mark.parametrize("field", FIELDS)
def test_the_ten_bad_urls_are_refused_and_nothing_takes_their_place(
    shared: Sidecar, world: World, name: str, field: str
) -> None:
    for number, url in enumerate(T4):
        put(world, field, url)
        server = f"{name[:100]}-{number}"
        answer = connect(shared, server, world)
        answer.is_error(1306, rule="egress" if url.startswith("http://as") else "scheme", delivered="no")
        assert url not in str(answer.body)
        assert shared.call("servers/get", {"server": server}).result["state"] == "failed"
        shared.call("servers/disconnect", {"server": server})
    assert world.log("/authorize") == world.log("/register") == world.log("/token") == []


@pytest.mark.parametrize("methods", [None, ["plain"], []])
def test_a_server_without_pkce_is_refused(
    shared: Sidecar, server: str, world: World, methods: list[str] | None
) -> None:
    world.set(metadata={"code_challenge_methods_supported": methods})
    connect(shared, server, world).is_error(1306, rule="pkce")
    assert world.log("/authorize") == world.log("/register") == []


def test_a_host_may_assume_s256_where_the_metadata_is_silent(shared: Sidecar, server: str, world: World) -> None:
    world.set(metadata={"code_challenge_methods_supported": None})
    info = connected(shared, server, world, oauth(pkce="assumeS256"))
    assert info["auth"]["relaxed"] == ["pkce"]


def test_a_resource_that_is_not_this_server_is_refused(shared: Sidecar, world: World, name: str) -> None:
    origin = world.program.origin
    for number, resource in enumerate(
        (
            "https://evil.example/mcp",
            f"{origin}/{world.key}/other",
            f"{origin}/{world.key}/mc",
            f"{origin}/{world.key}/mcp/deeper",
            f"{origin}:80/{world.key}",
            f"{origin}/{world.key}/mcp#x",
            f"{origin}/{world.key}/x/../mcp",
            origin.replace("http", "https") + f"/{world.key}/mcp",
            "",
            None,
            7,
        )
    ):
        world.set(prm={"resource": resource})
        connect(shared, f"{name[:100]}-{number}", world).is_error(1306, rule="resource")
        shared.call("servers/disconnect", {"server": f"{name[:100]}-{number}"})
    assert world.log("/authorize") == world.log("/register") == []


@pytest.mark.parametrize("path", ["", "/", "/{}", "/{}/"])
def test_a_parent_path_is_taken_as_published(shared: Sidecar, server: str, world: World, path: str) -> None:
    resource = world.program.origin + path.format(world.key)
    world.set(prm={"resource": resource})
    connected(shared, server, world)
    assert world.grants("authorization_code")[0]["form"]["resource"] == resource


@pytest.mark.parametrize("issuer", ["https://evil.example", "{}/", "{}x", None, 7])
def test_metadata_of_another_issuer_is_refused(shared: Sidecar, server: str, world: World, issuer: Any) -> None:
    world.set(metadata={"issuer": issuer.format(world.issuer) if isinstance(issuer, str) else issuer})
    connect(shared, server, world).is_error(1306, rule="issuer")


@pytest.mark.parametrize(
    "change",
    [
        {"prm_raw": "<html>"},
        {"metadata_raw": "<html>"},
        {"metadata_raw": "[]"},
        {"prm_raw": '{"resource": "' + "x" * 70_000 + '"}'},
        {"metadata_raw": " " * 70_000 + "{}"},
        {"prm": {"authorization_servers": []}},
        {"prm": {"authorization_servers": "x"}},
        {"prm": {"authorization_servers": None}},
        {"metadata": {"token_endpoint": None}},
        {"metadata": {"token_endpoint": 7}},
        {"metadata": {"scopes_supported": "read"}},
        {"metadata": {"authorization_endpoint": None}},
        {"no_metadata": True},
    ],
    ids=str,
)
def test_bad_metadata_ends_the_login_and_nothing_is_guessed(
    shared: Sidecar, server: str, world: World, change: Any
) -> None:
    world.set(**change)
    data = connect(shared, server, world).is_error(1309, retry="never")
    assert data["reason"]
    assert world.log("/authorize") == world.log("/register") == world.log("/token") == []
    assert shared.call("servers/get", {"server": server}).result["state"] == "failed"


@pytest.mark.parametrize("what", ["prm", "metadata"])
def test_discovery_follows_three_redirects_and_no_more(shared: Sidecar, server: str, world: World, what: str) -> None:
    place = f"{world.program.origin}/{world.key}/prm" if what == "prm" else f"{world.issuer}/x"
    if what == "metadata":
        place = world.issuer.replace(f"/{world.key}", f"/.well-known/oauth-authorization-server/{world.key}")
    world.set(**{f"{what}_redirect": place})
    connect(shared, server, world).is_error(1309, reason="too many redirects")


def test_a_redirect_of_metadata_passes_the_same_policy(strict: Sidecar, world: World, name: str) -> None:
    world.set(prm_redirect=f"http://127.0.0.2:{world.ports['canary']}/x")
    connect(strict, name, world).is_error(1306, rule="egress")
    assert world.canary_hits() == []
    strict.call("servers/disconnect", {"server": name})


@pytest.mark.parametrize("status", [500, 503, 429])
def test_an_ill_authorization_server_is_transient(shared: Sidecar, server: str, world: World, status: int) -> None:
    world.set(metadata_status=status)
    connect(shared, server, world).is_error(1304, retry="after", delivered="no")
    world.set(metadata_status=200)
    connected(shared, server, world)


def test_without_any_metadata_the_endpoints_of_the_origin_stand_in(start: Start, world: World) -> None:
    sidecar = begin(start())
    world.set(shown_metadata="", absent_status=404, no_metadata=True)
    info = sidecar.connect("old", world.transport(), auth=oauth(clientId="me"))
    assert info["auth"]["relaxed"] == ["no-metadata"]
    assert info["auth"]["issuer"] == world.program.origin
    assert info["authorization"]["url"].startswith(f"{world.program.origin}/authorize?")
    assert "code_challenge_method=S256" in info["authorization"]["url"]


def test_without_metadata_an_answer_other_than_404_is_no_invitation(start: Start, world: World) -> None:
    sidecar = begin(start())
    world.set(shown_metadata="", absent_status=403, no_metadata=True)
    connect(sidecar, "old", world).is_error(1309)


def test_a_name_that_leads_to_a_private_address_is_refused_when_it_is_resolved(start: Start, world: World) -> None:
    # The resolver of this sidecar answers a public address first and the loopback from then on.
    code = (
        "import asyncio, sys\n"
        "old = asyncio.BaseEventLoop.getaddrinfo\n"
        "seen = []\n"
        "async def rebinding(self, host, port, **more):\n"
        "    if host != 'rebind.example': return await old(self, host, port, **more)\n"
        "    seen.append(host)\n"
        "    address = '93.184.216.34' if len(seen) == 1 else '127.0.0.2'\n"
        "    return await old(self, address, port, **more)\n"
        "asyncio.BaseEventLoop.getaddrinfo = rebinding\n"
        "from sidecar.__main__ import main\n"
        "sys.argv[1:] = []\n"
        "main()\n"
    )
    sidecar = begin(
        start(program=(sys.executable, "-c", code)),
        egress={"allowPrivate": ["127.0.0.1/32"], "allowHttp": ["127.0.0.1", "rebind.example"]},
    )
    port = world.ports["canary"]
    for field in ("registration_endpoint", "token_endpoint"):
        world.set(metadata={field: f"http://rebind.example:{port}/x"})
        answer = connect(sidecar, field, world)
        answer.is_error(1306, rule="egress")
    assert world.canary_hits() == []
