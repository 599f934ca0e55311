"""Who may give tokens for a server: protected resource metadata (RFC 9728), then the issuer's own (RFC 8414, OIDC).

Metadata that is there but bad ends the login; nothing is guessed in its place. Only where every well-known place
answers 404 do the three endpoints of 2025-03-26 stand in, at the server's own origin.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import urlsplit

from sidecar import errors
from sidecar.auth.egress import parse_url
from sidecar.auth.record import Authority

if TYPE_CHECKING:
    from collections.abc import Mapping

    from sidecar.auth.fetch import Answer, Fetcher
    from sidecar.auth.settings import Settings

_PRM: Final = "/.well-known/oauth-protected-resource"
_AS: Final = "/.well-known/oauth-authorization-server"
_OIDC: Final = "/.well-known/openid-configuration"
_NOT_FOUND: Final = 404
_ENDPOINTS: Final = {
    "authorization_endpoint": "authorization_endpoint",
    "token_endpoint": "token_endpoint",
    "registration_endpoint": "registration_endpoint",
    "device_authorization_endpoint": "device_endpoint",
    "revocation_endpoint": "revocation_endpoint",
}
_UNUSED: Final = ("jwks_uri", "introspection_endpoint", "pushed_authorization_request_endpoint", "userinfo_endpoint")
"""URLs that are never contacted, but that no honest metadata points at what the policy refuses."""
_MAX_LIST: Final = 200


@dataclass(frozen=True)
class _Resource:
    """The metadata of the protected resource."""

    resource: str
    issuers: tuple[str, ...]
    scopes: tuple[str, ...]


async def discover(settings: Settings, fetcher: Fetcher, challenge: Mapping[str, str]) -> Authority:
    """Return the authority of the server. Raises AuthPolicy, AuthTransient or BadMetadata."""
    if settings.explicit:
        return await _explicit(settings, fetcher)
    found, absent = await _resource(settings, fetcher, challenge.get("resource_metadata"))
    if found is not None:
        issuer = _choose(found, settings.issuer)
    elif settings.issuer is not None:
        issuer = settings.issuer
    else:
        return await _of_origin(settings, fetcher, all_absent=absent)
    metadata, _ = await _authority(fetcher, issuer)
    if metadata is None:
        reason = "the issuer has no metadata"
        raise errors.BadMetadata("the authorization server publishes no metadata", reason=reason)
    authority = await _checked(settings, fetcher, metadata, {issuer})
    resource = _sent_resource(settings, found)
    return replace(authority, resource=resource, resource_scopes=found.scopes if found is not None else ())


async def _explicit(settings: Settings, fetcher: Fetcher) -> Authority:
    """Take the endpoints as the host gave them; its URLs pass the same policy."""
    gate = fetcher.gate
    assert settings.token_endpoint is not None
    named = {
        "authorization endpoint": settings.authorization_endpoint,
        "token endpoint": settings.token_endpoint,
        "device authorization endpoint": settings.device_authorization_endpoint,
        "revocation endpoint": settings.revocation_endpoint,
    }
    await gate.check_resolved([gate.check(url, what) for what, url in named.items() if url is not None])
    return Authority(
        issuer=settings.issuer or str(parse_url(settings.token_endpoint)[0]),
        token_endpoint=settings.token_endpoint,
        authorization_endpoint=settings.authorization_endpoint,
        device_endpoint=settings.device_authorization_endpoint,
        revocation_endpoint=settings.revocation_endpoint,
        resource=_sent_resource(settings, None),
        client_documents=settings.metadata_url is not None,
        relaxed=tuple(settings.relaxed),
        discovered=False,
    )


# -- the protected resource -----------------------------------------------------------------------------------


async def _resource(settings: Settings, fetcher: Fetcher, advertised: str | None) -> tuple[_Resource | None, bool]:
    """Return the resource's metadata, or None and whether every place answered 404."""
    origin, target = parse_url(settings.server_url)
    path = target.partition("?")[0].rstrip("/")
    places = [f"{origin}{_PRM}{path}", f"{origin}{_PRM}"] if path else [f"{origin}{_PRM}"]
    if advertised is not None and advertised not in places:
        places.insert(0, advertised)
    elif advertised is not None:
        places = [advertised, *(place for place in places if place != advertised)]
    absent = True
    for place in places:
        answer = await fetcher.get(place, "protected resource metadata")
        if _is_there(answer, "protected resource metadata"):
            return _read_resource(settings, answer), False
        absent = absent and answer.status == _NOT_FOUND
    return None, absent


def _is_there(answer: Answer, what: str) -> bool:
    """Tell whether an answer brings metadata. Raises AuthTransient where the server is ill."""
    if answer.status >= 500 or answer.status == 429:
        raise errors.AuthTransient(f"the {what} cannot be read now (HTTP {answer.status})")
    return 200 <= answer.status < 300


def _read_resource(settings: Settings, answer: Answer) -> _Resource:
    body = _object(answer, "protected resource metadata")
    resource = body.get("resource")
    if not isinstance(resource, str):
        raise errors.AuthPolicy("the protected resource metadata names no resource", rule="resource")
    if settings.resource in {"auto", "omit"} and not covers(resource, settings.server_url):
        text = "the protected resource metadata is about another resource than this server"
        raise errors.AuthPolicy(text, rule="resource")
    issuers = _texts(body, "authorization_servers", "protected resource metadata")
    if not issuers:
        reason = "no authorization server is named"
        raise errors.BadMetadata(f"the protected resource metadata is bad: {reason}", reason=reason)
    return _Resource(resource, issuers, _texts(body, "scopes_supported", "protected resource metadata"))


def covers(resource: str, server_url: str) -> bool:
    """Tell whether a resource is the server's URL or a parent path of it on the same origin."""
    try:
        theirs, target = parse_url(resource)
        ours, wanted = parse_url(server_url)
    except ValueError:
        return False
    if "#" in resource or theirs != ours:
        return False
    path, _, query = target.partition("?")
    wanted_path, _, wanted_query = wanted.partition("?")
    if query:
        return path == wanted_path and query == wanted_query
    base = path.rstrip("/")
    segments = base.split("/")
    if "." in segments or ".." in segments:
        return False
    return base == wanted_path.rstrip("/") or wanted_path.startswith(base + "/")


def _choose(found: _Resource, wanted: str | None) -> str:
    if wanted is None:
        return found.issuers[0]
    if wanted not in found.issuers:
        text = "the server names another authorization server than the configured issuer"
        raise errors.AuthPolicy(text, rule="issuer")
    return wanted


def _sent_resource(settings: Settings, found: _Resource | None) -> str | None:
    if settings.resource == "omit":
        return None
    if settings.resource != "auto":
        return settings.resource
    return found.resource if found is not None else settings.server_url.partition("#")[0]


# -- the authorization server -----------------------------------------------------------------------------------


async def _authority(fetcher: Fetcher, issuer: str) -> tuple[dict[str, Any] | None, bool]:
    """Return the issuer's metadata from the first place that has it, or None and whether all answered 404."""
    origin = str(fetcher.gate.check(issuer, "issuer", query=False))
    path = urlsplit(issuer).path.rstrip("/")
    places = [f"{origin}{_AS}{path}", f"{origin}{_OIDC}{path}"]
    if path:
        places.append(f"{origin}{path}{_OIDC}")
    absent = True
    for place in places:
        answer = await fetcher.get(place, "authorization server metadata")
        if _is_there(answer, "authorization server metadata"):
            return _object(answer, "authorization server metadata"), False
        absent = absent and answer.status == _NOT_FOUND
    return None, absent


async def _of_origin(settings: Settings, fetcher: Fetcher, *, all_absent: bool) -> Authority:
    """Return the authority of a server of 2025-03-26: the server's own origin is the issuer."""
    origin = str(fetcher.gate.server)
    metadata, absent = await _authority(fetcher, origin)
    if metadata is not None:
        authority = await _checked(settings, fetcher, metadata, {origin, origin + "/"})
        return replace(authority, resource=_sent_resource(settings, None))
    if not (absent and all_absent):
        reason = "no metadata, and not every well-known place answers 404"
        raise errors.BadMetadata("the server asks for a login but publishes no metadata", reason=reason)
    return Authority(
        issuer=origin,
        token_endpoint=f"{origin}/token",
        authorization_endpoint=f"{origin}/authorize",
        registration_endpoint=f"{origin}/register",
        resource=_sent_resource(settings, None),
        relaxed=(*settings.relaxed, "no-metadata"),
        discovered=False,
    )


async def _checked(settings: Settings, fetcher: Fetcher, body: Mapping[str, Any], issuers: set[str]) -> Authority:
    """Return what the metadata says, every part of it checked before anything is done with any."""
    what = "authorization server metadata"
    issuer = body.get("issuer")
    if not isinstance(issuer, str) or issuer not in issuers:
        raise errors.AuthPolicy("the metadata is that of another issuer than the one asked", rule="issuer")
    urls: dict[str, Any] = {}
    origins = []
    for name in (*_ENDPOINTS, *_UNUSED):
        url = body.get(name)
        if url is None:
            continue
        if not isinstance(url, str):
            raise _bad(f"{name} is not a string")
        origins.append(fetcher.gate.check(url, name.replace("_", " ")))
        if name in _ENDPOINTS:
            urls[_ENDPOINTS[name]] = url
    if "token_endpoint" not in urls:
        raise _bad("token_endpoint is missing")
    _require_flow(settings, body, urls)
    await fetcher.gate.check_resolved(origins)
    methods = body.get("token_endpoint_auth_methods_supported")
    return Authority(
        issuer=issuer,
        **urls,
        auth_methods=None if methods is None else _texts(body, "token_endpoint_auth_methods_supported", what),
        scopes_supported=_texts(body, "scopes_supported", what),
        client_documents=_flag(body, "client_id_metadata_document_supported"),
        sends_iss=_flag(body, "authorization_response_iss_parameter_supported"),
        relaxed=tuple(settings.relaxed),
    )


def _require_flow(settings: Settings, body: Mapping[str, Any], urls: Mapping[str, str]) -> None:
    """Refuse an authority that cannot do what the grant needs, PKCE above all."""
    if settings.grant == "device_code" and "device_endpoint" not in urls:
        raise _bad("device_authorization_endpoint is missing")
    if settings.grant != "authorization_code":
        return
    if "authorization_endpoint" not in urls:
        raise _bad("authorization_endpoint is missing")
    challenge = body.get("code_challenge_methods_supported")
    if challenge is None and settings.assume_s256:
        return
    if challenge is None or "S256" not in _texts(body, "code_challenge_methods_supported", "metadata"):
        text = 'the authorization server does not offer PKCE with S256 (a known provider may need pkce: "assumeS256")'
        raise errors.AuthPolicy(text, rule="pkce")


def _object(answer: Answer, what: str) -> dict[str, Any]:
    if answer.body is None:
        raise errors.BadMetadata(f"the {what} is larger than 64 kB", reason="too large")
    body = answer.json_object()
    if body is None:
        raise errors.BadMetadata(f"the {what} is no JSON object", reason="not a JSON object")
    return body


def _texts(body: Mapping[str, Any], name: str, what: str) -> tuple[str, ...]:
    value = body.get(name)
    if value is None:
        return ()
    if not isinstance(value, list) or len(value) > _MAX_LIST or not all(isinstance(text, str) for text in value):
        reason = f"{name} is no list of strings"
        raise errors.BadMetadata(f"the {what} is bad: {reason}", reason=reason)
    return tuple(value)


def _flag(body: Mapping[str, Any], name: str) -> bool:
    value = body.get(name)
    if value is not None and not isinstance(value, bool):
        raise _bad(f"{name} is neither true nor false")
    return value is True


def _bad(reason: str) -> errors.BadMetadata:
    return errors.BadMetadata(f"the authorization server metadata is bad: {reason}", reason=reason)
