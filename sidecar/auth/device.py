"""Logins on another device (RFC 8628): a code for the person, and the patient question whether it was entered."""

from __future__ import annotations

import asyncio
import time
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Final

from sidecar import errors
from sidecar.auth import dpop
from sidecar.auth.tokens import OAuthFailure, TokenEndpoint, is_plain

if TYPE_CHECKING:
    from sidecar.auth.fetch import Fetcher
    from sidecar.auth.pending import Pending
    from sidecar.auth.record import Tokens

GRANT: Final = "urn:ietf:params:oauth:grant-type:device_code"
_INTERVAL: Final = 5
_SLOWER: Final = 5
_MAX_INTERVAL: Final = 60
_MAX_SECONDS: Final = 1800.0


async def request_code(pending: Pending, fetcher: Fetcher) -> Pending:
    """Return the login with the codes that the authorization server gave for it."""
    settings, authority = pending.settings, pending.authority
    assert authority.device_endpoint is not None
    form: dict[str, str] = {}
    if pending.scopes:
        form["scope"] = " ".join(pending.scopes)
    if authority.resource is not None:
        form["resource"] = authority.resource
    form |= settings.extra_params
    endpoint = TokenEndpoint(settings, authority, pending.client, fetcher, None)
    answer = await endpoint.send(authority.device_endpoint, "device authorization endpoint", form)
    body = endpoint.body(answer)
    if not 200 <= answer.status < 300 or "error" in body:
        failure = endpoint.failure(answer, body)
        raise failure.as_error() if isinstance(failure, OAuthFailure) else failure
    device_code, user_code, uri = body.get("device_code"), body.get("user_code"), body.get("verification_uri")
    if not is_plain(device_code) or not isinstance(user_code, str) or not 0 < len(user_code) <= 128:
        raise errors.AuthTransient("the device authorization endpoint answered something else than OAuth")
    if not isinstance(uri, str) or not user_code.isprintable():
        raise errors.AuthTransient("the device authorization endpoint answered something else than OAuth")
    fetcher.gate.check(uri, "verification URI")
    whole = body.get("verification_uri_complete")
    if isinstance(whole, str):
        fetcher.gate.check(whole, "verification URI")
    ends = _number(body.get("expires_in"), _MAX_SECONDS)
    return replace(
        pending,
        url=whole if isinstance(whole, str) else uri,
        verifier=None,
        device_code=str(device_code),
        user_code=user_code,
        verification_uri=uri,
        interval=max(1, int(_number(body.get("interval"), _INTERVAL))),
        expires=time.time() + min(max(ends, 1.0), _MAX_SECONDS),
    )


async def poll(pending: Pending, fetcher: Fetcher) -> Tokens:
    """Ask until the person has logged in. Raises AuthDenied, AuthTimeout and what else ends the login."""
    assert pending.device_code is not None
    key = dpop.Key(pending.dpop_pem) if pending.dpop_pem is not None else None
    endpoint = TokenEndpoint(pending.settings, pending.authority, pending.client, fetcher, key)
    form = {"grant_type": GRANT, "device_code": pending.device_code}
    if pending.authority.resource is not None:
        form["resource"] = pending.authority.resource
    interval = float(pending.interval or _INTERVAL)
    while True:
        await asyncio.sleep(interval)
        if pending.late():
            raise errors.AuthTimeout("the device code expired: begin the login anew with auth/begin")
        try:
            return await endpoint.ask(form)
        except OAuthFailure as failure:
            if failure.code == "slow_down":
                interval = min(interval + _SLOWER, _MAX_INTERVAL)
            elif failure.code == "expired_token":
                raise errors.AuthTimeout("the device code expired: begin the login anew with auth/begin") from None
            elif failure.code != "authorization_pending":
                raise failure.as_error() from None
        except errors.AuthTransient:
            # RFC 8628 section 3.5: a time-out makes the questions rarer, it ends nothing.
            interval = min(interval * 2, _MAX_INTERVAL)


def _number(value: Any, default: float) -> float:
    fits = isinstance(value, int | float) and not isinstance(value, bool) and value == value and value > 0  # noqa: PLR0124 - NaN is not equal to itself
    return float(min(value, _MAX_SECONDS)) if fits else default
