"""Named providers against local servers shaped like them; the strict defaults stay strict for everybody else."""

from __future__ import annotations

from tests.answers import Json
from tests.auth.world import World, begin, complete, log_in, oauth, query_of
from tests.conftest import Start
from tests.harness import Sidecar


def local(world: World, provider: str, *, device: bool = False) -> Json:
    """Return a provider's auth with the endpoints of this machine in place of its own."""
    auth = oauth(
        provider=provider,
        authorizationEndpoint=f"{world.issuer}/authorize",
        tokenEndpoint=f"{world.issuer}/token",
        revocationEndpoint=f"{world.issuer}/revoke",
        issuer=world.issuer,
    )
    return {**auth, "deviceAuthorizationEndpoint": f"{world.issuer}/device"} if device else auth


def finish(sidecar: Sidecar, server: str, world: World, auth: Json) -> Json:
    """Log in and return the query of the authorization request."""
    info = sidecar.connect(server, world.transport(), auth=auth)
    complete(sidecar, log_in(info["authorization"]["url"])).result  # noqa: B018 - fails where it is an error
    sidecar.wait(lambda: sidecar.states(server)[-1] == "ready", "ready")
    return query_of(info["authorization"]["url"])


def test_github_has_no_registration_no_expiry_and_answers_as_a_form(start: Start, world: World) -> None:
    env = {"GITHUB_CLIENT_ID": "gh-id", "GITHUB_CLIENT_SECRET": "gh-secret-value"}
    sidecar = begin(start(env=env))
    world.set(
        form_encoded=True, token={"expires_in": None, "scope": "repo,user"}, refresh=False, callback={"iss": None}
    )
    query = finish(sidecar, "gh", world, {**local(world, "github"), "scopes": ["repo", "user"]})
    assert (query["client_id"], "resource" in query, query["scope"]) == ("gh-id", False, "repo user")
    form = world.grants("authorization_code")[0]["form"]
    assert (form["client_secret"], "resource" in form) == ("gh-secret-value", False)
    info = sidecar.call("servers/get", {"server": "gh"}).result
    assert info["auth"]["scopes"] == ["repo", "user"]
    assert "expiresAt" not in info["auth"]
    assert set(info["auth"]["relaxed"]) == {"resource", "pkce"}
    assert sidecar.tool("gh", "echo", {}).result
    assert world.log("/register") == []
    # Its errors come with HTTP 200.
    world.set(do="expire")
    data = sidecar.tool("gh", "echo", {}).is_error(1301)
    world.set(token_fault={"status": 200, "body": "error=bad_verification_code", "type": FORM})
    complete(sidecar, log_in(data["authorization"]["url"])).is_error(1303, oauthError="invalid_grant")


FORM = "application/x-www-form-urlencoded"


def test_a_form_encoded_answer_is_no_oauth_from_anybody_else(shared: Sidecar, server: str, world: World) -> None:
    info = shared.connect(server, world.transport(), auth=oauth())
    world.set(form_encoded=True)
    complete(shared, log_in(info["authorization"]["url"])).is_error(1304)


def test_google_gives_a_refresh_token_for_offline_access_by_parameter(start: Start, world: World) -> None:
    sidecar = begin(start(env={"GOOGLE_CLIENT_ID": "g-id", "GOOGLE_CLIENT_SECRET": "g-secret-value"}))
    query = finish(sidecar, "g", world, {**local(world, "google"), "scopes": ["https://www.googleapis.com/auth/drive"]})
    assert (query["access_type"], query["prompt"], "resource" in query) == ("offline", "consent", False)
    world.set(do="expire")
    assert sidecar.tool("g", "echo", {}).result
    assert world.grants("refresh_token")[0]["form"]["client_secret"] == "g-secret-value"
    assert sidecar.call("auth/revoke", {"server": "g"}).result == {"revokedAtServer": True}


def test_azure_has_no_pkce_metadata_and_refuses_a_resource(start: Start, world: World) -> None:
    sidecar = begin(start(env={"AZURE_CLIENT_ID": "az-id", "AZURE_CLIENT_SECRET": "az-secret-value"}))
    world.set(
        metadata={"code_challenge_methods_supported": None, "registration_endpoint": None},
        refuse_resource=True,
    )
    auth = oauth(provider="azure", issuer=world.issuer, scopes=["api://x/.default"])
    query = finish(sidecar, "az", world, auth)
    assert (query["client_id"], "resource" in query) == ("az-id", False)
    assert "code_challenge" in query
    info = sidecar.call("servers/get", {"server": "az"}).result
    assert set(info["auth"]["relaxed"]) == {"resource", "pkce"}
    strict = {**auth, "clientId": "az-id", "clientSecret": "az-secret-value"}
    del strict["provider"]
    params = {"server": "strict", "transport": world.transport(), "auth": strict}
    sidecar.call("servers/connect", params).is_error(1306, rule="pkce")


def test_auth0_names_the_api_by_audience(start: Start, world: World) -> None:
    sidecar = begin(start(env={"AUTH0_CLIENT_ID": "a0-id", "AUTH0_CLIENT_SECRET": "a0-secret-value"}))
    auth = oauth(provider="auth0", issuer=world.issuer, extraParams={"audience": "https://api.example"})
    query = finish(sidecar, "a0", world, auth)
    assert (query["audience"], "resource" in query) == ("https://api.example", False)


def test_explicit_fields_win_over_a_provider(start: Start, world: World) -> None:
    sidecar = begin(start(env={"GITHUB_CLIENT_ID": "from-the-environment"}))
    auth = {**local(world, "github"), "clientId": "explicit", "clientSecret": "explicit-secret", "resource": "auto"}
    world.set(callback={"iss": None})
    query = finish(sidecar, "gh", world, auth)
    assert (query["client_id"], query["resource"]) == ("explicit", world.url)
