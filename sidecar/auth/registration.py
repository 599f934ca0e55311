"""Who the client is at an authorization server: given by the host, a metadata document, or registered (RFC 7591)."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import urlsplit

import msgspec

from sidecar import errors
from sidecar.auth.record import Client
from sidecar.auth.tokens import is_plain

if TYPE_CHECKING:
    from sidecar.auth.fetch import Fetcher
    from sidecar.auth.record import Authority
    from sidecar.auth.settings import Settings

_LOOPBACK: Final = frozenset({"127.0.0.1", "::1", "localhost"})
_MOST_WANTED: Final = ("none", "client_secret_basic", "client_secret_post")
_GRANT_NAMES: Final = {
    "authorization_code": "authorization_code",
    "device_code": "urn:ietf:params:oauth:grant-type:device_code",
    "jwt_bearer": "urn:ietf:params:oauth:grant-type:jwt-bearer",
}


async def identify(
    settings: Settings,
    authority: Authority,
    fetcher: Fetcher,
    *,
    grant: str,
    redirect_uri: str | None,
    scopes: tuple[str, ...],
    known: Client | None,
) -> Client:
    """Return the client to use. Raises RegistrationFailed.

    `known` is an earlier registration at this same issuer; it is used again while it lives and its redirect fits.
    """
    if settings.client_id is not None:
        return Client(settings.client_id, given_method(settings, authority), settings.client_secret)
    if settings.metadata_url is not None and authority.client_documents:
        method = "private_key_jwt" if settings.key_pem is not None else "none"
        return Client(settings.metadata_url, method, origin="document")
    if known is not None and known.origin == "registered" and _usable(known, redirect_uri):
        return known
    if authority.registration_endpoint is None:
        text = "the authorization server offers no registration of clients: give clientId"
        raise errors.RegistrationFailed(text)
    return await _register(settings, authority, fetcher, grant, redirect_uri, scopes)


def present(settings: Settings, authority: Authority, client: Client) -> Client:
    """Return a stored client with the proof that the host gives today, where the client is the host's own."""
    if client.origin == "given" and settings.client_id == client.id:
        return Client(client.id, given_method(settings, authority), settings.client_secret)
    return client


def _usable(client: Client, redirect_uri: str | None) -> bool:
    alive = client.secret_expires is None or client.secret_expires > time.time()
    return alive and client.redirect_uri == redirect_uri


def given_method(settings: Settings, authority: Authority) -> str:
    """Choose the proof of a client that the host gave, as its settings and the metadata say."""
    if settings.auth_method is not None:
        return settings.auth_method
    if settings.client_secret is None:
        # A key signs the assertion of its own grant; elsewhere it proves the client.
        return "private_key_jwt" if settings.key_pem is not None and settings.grant != "jwt_bearer" else "none"
    offered = authority.auth_methods
    if offered is not None and "client_secret_basic" not in offered and "client_secret_post" in offered:
        return "client_secret_post"
    return "client_secret_basic"


async def _register(
    settings: Settings,
    authority: Authority,
    fetcher: Fetcher,
    grant: str,
    redirect_uri: str | None,
    scopes: tuple[str, ...],
) -> Client:
    assert authority.registration_endpoint is not None
    body: dict[str, Any] = {
        "client_name": settings.client_name,
        "grant_types": [_GRANT_NAMES[grant], "refresh_token"],
        "token_endpoint_auth_method": _wanted_method(settings, authority),
    }
    if redirect_uri is not None:
        body["redirect_uris"] = [redirect_uri]
        body["response_types"] = ["code"]
        body["application_type"] = "native" if is_native(redirect_uri) else "web"
    else:
        body["redirect_uris"] = []
        body["response_types"] = []
    if scopes:
        body["scope"] = " ".join(scopes)
    if settings.dpop:
        body["dpop_bound_access_tokens"] = True
    kind = {"content-type": "application/json"}
    answer = await fetcher.post(
        authority.registration_endpoint, "registration endpoint", msgspec.json.encode(body), kind
    )
    found = answer.json_object()
    if answer.status >= 500 or answer.status == 429:
        raise errors.AuthTransient(f"the registration endpoint cannot answer now (HTTP {answer.status})")
    if found is None or not 200 <= answer.status < 300:
        code = oauth_error(found)
        text = f"the registration was refused ({code or f'HTTP {answer.status}'})"
        raise errors.RegistrationFailed(text, oauthError=code)
    return _client(found, redirect_uri)


def is_native(redirect_uri: str) -> bool:
    """Tell whether a redirect ends on the user's own machine."""
    parts = urlsplit(redirect_uri)
    return parts.scheme not in {"http", "https"} or (parts.hostname or "") in _LOOPBACK


def _wanted_method(settings: Settings, authority: Authority) -> str:
    if settings.auth_method is not None:
        return settings.auth_method
    offered = authority.auth_methods
    if offered is None:
        return "none" if not authority.discovered else "client_secret_basic"
    return next((method for method in _MOST_WANTED if method in offered), "none")


def _client(body: dict[str, Any], redirect_uri: str | None) -> Client:
    client_id, secret = body.get("client_id"), body.get("client_secret")
    method = body.get("token_endpoint_auth_method")
    if not is_plain(client_id) or not (secret is None or is_plain(secret)):
        raise errors.RegistrationFailed("the registration brought no usable client id")
    if method is None:
        method = "client_secret_basic" if secret else "none"
    if method not in _MOST_WANTED or (method != "none" and not secret):
        raise errors.RegistrationFailed("the registration brought no usable way to authenticate the client")
    ends = body.get("client_secret_expires_at")
    expires = float(ends) if isinstance(ends, int | float) and not isinstance(ends, bool) and ends > 0 else None
    return Client(str(client_id), str(method), secret, "registered", redirect_uri, expires)


def oauth_error(body: dict[str, Any] | None) -> str | None:
    """Return the error code of an OAuth answer; only what looks like one, since it is shown."""
    code = body.get("error") if body is not None else None
    if isinstance(code, str) and 0 < len(code) <= 64 and all(char.isalnum() or char in "_-." for char in code):
        return code if code.isascii() else None
    return None
