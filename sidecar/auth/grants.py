"""Grants without a person: client_credentials and jwt_bearer (RFC 7523), and the scopes that any login asks for."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import msgspec

from sidecar import errors
from sidecar.auth import challenge as challenges
from sidecar.auth import clientauth, dpop
from sidecar.auth.discovery import discover
from sidecar.auth.record import Record
from sidecar.auth.registration import identify
from sidecar.auth.tokens import OAuthFailure, TokenEndpoint, is_plain
from sidecar.callbacks import HostRefused
from sidecar.telemetry.redact import SECRETS

if TYPE_CHECKING:
    from collections.abc import Mapping

    from sidecar.auth.credential import Credential
    from sidecar.auth.record import Authority, Client
    from sidecar.auth.settings import Settings

JWT_BEARER: Final = "urn:ietf:params:oauth:grant-type:jwt-bearer"
_ASSERTION_SECONDS: Final = 300.0
OFFLINE: Final = "offline_access"


async def obtain(credential: Credential, challenge: Mapping[str, str], more: tuple[str, ...], *, anew: bool) -> Record:
    """Return the credential with a token of a grant that needs no person.

    `anew` says that the server itself asked: then what was known about the authorization server is read again.
    Raises the error of the login.
    """
    settings, record = credential.settings, credential.record
    authority = record.authority if record is not None and not anew else None
    if authority is None:
        authority = await discover(settings, credential.fetcher, challenge)
    require_same_issuer(settings, record, authority)
    scopes = wanted_scopes(settings, authority, challenge, record, more)
    known = record.client if record is not None and record.authority.issuer == authority.issuer else None
    client = await identify(
        settings, authority, credential.fetcher, grant=settings.grant, redirect_uri=None, scopes=scopes, known=known
    )
    pem = (record.dpop_pem if record is not None else None) or dpop.new_key() if settings.dpop else None
    key = dpop.Key(pem) if pem is not None else None
    form = {"grant_type": "client_credentials"}
    if settings.grant == "jwt_bearer":
        form = {"grant_type": JWT_BEARER, "assertion": await _assertion(credential, authority, client)}
    if scopes:
        form["scope"] = " ".join(scopes)
    if authority.resource is not None:
        form["resource"] = authority.resource
    form |= settings.extra_params
    try:
        tokens = await TokenEndpoint(settings, authority, client, credential.fetcher, key).ask(form)
    except OAuthFailure as failure:
        error = failure.as_error()
        credential.dead = error if isinstance(error, errors.GrantRevoked) else None
        raise error from None
    generation = record.generation + 1 if record is not None else 1
    return Record(authority, client, tokens, requested=scopes, dpop_pem=pem, generation=generation)


async def _assertion(credential: Credential, authority: Authority, client: Client) -> str:
    """Return the assertion of a jwt_bearer grant: signed here with the given key, or made by the host."""
    settings = credential.settings
    if settings.key_pem is not None:
        return clientauth.signed_assertion(settings, client.id, authority.issuer)
    question: dict[str, Any] = {
        **credential.asker,
        "audience": authority.issuer,
        "resource": authority.resource or settings.server_url,
    }
    try:
        raw = await credential.world.host.ask("assertions/create", question, _ASSERTION_SECONDS)
        found = msgspec.json.decode(raw)
    except (HostRefused, TimeoutError, msgspec.DecodeError):
        raise errors.AuthTransient("the host gave no assertion") from None
    assertion = found.get("assertion") if isinstance(found, dict) else None
    if not is_plain(assertion):
        raise errors.AuthTransient("the host's assertion has not the form of one")
    SECRETS.add(str(assertion))
    SECRETS.discard(str(assertion))
    return str(assertion)


def require_same_issuer(settings: Settings, record: Record | None, authority: Authority) -> None:
    """Refuse to show a client that the host registered elsewhere to another authorization server. Raises AuthPolicy."""
    given = settings.client_id is not None and settings.issuer is None and not settings.explicit
    if given and record is not None and record.authority.issuer != authority.issuer:
        text = (
            "the server names another authorization server than before, and clientId belongs to the former: "
            "revoke the login, or name the issuer"
        )
        raise errors.AuthPolicy(text, rule="issuer")


def wanted_scopes(
    settings: Settings,
    authority: Authority,
    challenge: Mapping[str, str],
    record: Record | None,
    more: tuple[str, ...] = (),
) -> tuple[str, ...]:
    """Return the scopes to ask for. Raises InsufficientScope where the server needs more than the host allows."""
    bound = settings.allowed()
    asked = (*challenges.scopes(challenge.get("scope")), *more)
    if bound is not None:
        refuse_beyond(bound, (*(settings.scopes or ()), *asked))
    if settings.scopes is not None:
        found = [*settings.scopes, *asked]
    elif asked:
        found = list(asked)
    else:
        supported = authority.resource_scopes
        found = [scope for scope in supported if bound is None or scope in bound]
        if supported and not found:
            text = "the server supports none of the scopes in scopeCeiling"
            raise errors.InsufficientScope(text, scopes=list(supported))
    if more and record is not None:
        found = [*record.requested, *record.scopes, *found]
    offline = OFFLINE in authority.scopes_supported and (bound is None or OFFLINE in bound)
    if offline and settings.personal:
        found.append(OFFLINE)
    return tuple(dict.fromkeys(found))


def refuse_beyond(bound: frozenset[str], asked: tuple[str, ...]) -> None:
    """Raise InsufficientScope for scopes outside the bound."""
    beyond = [scope for scope in asked if scope not in bound]
    if beyond:
        text = "the server needs more scopes than scopeCeiling allows"
        raise errors.InsufficientScope(text, scopes=beyond)
