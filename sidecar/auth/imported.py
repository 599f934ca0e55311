"""Logins that the host already holds (`auth/import`), checked as if they came from a server."""

from __future__ import annotations

import dataclasses
import datetime
import time
from typing import TYPE_CHECKING

from sidecar import errors
from sidecar.auth.challenge import scopes as split_scopes
from sidecar.auth.discovery import discover
from sidecar.auth.record import Authority, Client, Record, Tokens
from sidecar.auth.registration import given_method
from sidecar.auth.tokens import is_plain
from sidecar.auth.urls import well_formed

if TYPE_CHECKING:
    from sidecar import wire
    from sidecar.auth.credential import Credential


async def imported_record(credential: Credential, params: wire.AuthImportParams) -> Record:
    """Return the credential that the host hands over. Raises InvalidParams and AuthPolicy.

    Nothing is contacted but the metadata of the authorization server, for what a later revocation needs of it.
    """
    settings, tokens = credential.settings, params.tokens
    for path, text in (("/tokens/accessToken", tokens.access_token), ("/tokens/refreshToken", tokens.refresh_token)):
        if text is not None and not is_plain(text):
            raise _invalid(path, "a token is visible ASCII, at most 16 kB")
    if tokens.token_type is not None and tokens.token_type.lower() != "bearer":
        raise _invalid("/tokens/tokenType", "only bearer tokens can be imported")
    for path, url in (("/issuer", params.issuer), ("/tokenEndpoint", params.token_endpoint)):
        try:
            well_formed(url, "URL", query=path != "/issuer")
        except errors.AuthPolicy as error:
            raise _invalid(path, error.message) from None
    if params.client is None and settings.client_id is None:
        raise _invalid("/client", "missing: the login needs its client, here or as auth.clientId")
    gate = credential.fetcher.gate
    gate.check(params.issuer, "issuer", query=False)
    gate.check(params.token_endpoint, "token endpoint")
    authority = await _authority(credential, params)
    if params.client is not None:
        client_id, secret = params.client.client_id, params.client.client_secret
        if not is_plain(client_id) or not (secret is None or is_plain(secret)):
            raise _invalid("/client", "the client's id and secret are visible ASCII, at most 16 kB")
    else:
        client_id, secret = str(settings.client_id), settings.client_secret
    method = given_method(dataclasses.replace(settings, client_id=client_id, client_secret=secret), authority)
    expires = _moment(tokens.expires_at)
    scopes = tuple(split_scopes(tokens.scope)) if tokens.scope is not None else None
    return Record(
        authority=authority,
        client=Client(client_id, method, secret, "imported"),
        tokens=Tokens(
            tokens.access_token, "Bearer", tokens.refresh_token, expires, obtained=time.time(), scopes=scopes
        ),
        requested=scopes or settings.scopes or (),
        generation=credential.record.generation + 1 if credential.record is not None else 1,
    )


async def _authority(credential: Credential, params: wire.AuthImportParams) -> Authority:
    """Return the authority as the host names it; what its metadata adds is used only where it agrees."""
    settings = credential.settings
    named = Authority(
        issuer=params.issuer,
        token_endpoint=params.token_endpoint,
        revocation_endpoint=settings.revocation_endpoint,
        resource=None if settings.resource == "omit" else settings.server_url,
        relaxed=tuple(settings.relaxed),
        discovered=False,
    )
    try:
        found = await discover(settings, credential.fetcher, {})
    except errors.SidecarError:
        return named
    if found.issuer != params.issuer:
        return named
    return dataclasses.replace(found, token_endpoint=params.token_endpoint)


def _moment(text: str | None) -> float | None:
    if text is None:
        return None
    try:
        moment = datetime.datetime.fromisoformat(text)
    except ValueError:
        raise _invalid("/tokens/expiresAt", "must be an RFC 3339 time") from None
    if moment.tzinfo is None:
        raise _invalid("/tokens/expiresAt", "must be an RFC 3339 time with its zone")
    return moment.timestamp()


def _invalid(path: str, text: str) -> errors.InvalidParams:
    return errors.InvalidParams(f"{path}: {text}", path=path)
