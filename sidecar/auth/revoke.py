"""Revocation at the authorization server (RFC 7009): tried once, told truly, and never a reason to keep a token."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Final

from sidecar import errors
from sidecar.auth.registration import present
from sidecar.auth.tokens import TokenEndpoint

if TYPE_CHECKING:
    from sidecar.auth.credential import Credential

logger: Final = logging.getLogger(__name__)


async def revoke(credential: Credential) -> bool:
    """Revoke the tokens at their authorization server; False where it offers no way or did not confirm it."""
    record = credential.record
    if record is None or record.tokens is None or record.authority.revocation_endpoint is None:
        return False
    tokens = record.tokens
    settings = credential.settings
    client = present(settings, record.authority, record.client)
    endpoint = TokenEndpoint(settings, record.authority, client, credential.fetcher, credential.proof_key)
    # The refresh token first: with it ends the grant and, at most servers, every access token of it.
    todo = [(tokens.refresh, "refresh_token")] if tokens.refresh is not None else []
    todo.append((tokens.access, "access_token"))
    done = True
    for token, hint in todo:
        form = {"token": token, "token_type_hint": hint}
        try:
            answer = await endpoint.send(record.authority.revocation_endpoint, "revocation endpoint", form)
        except errors.SidecarError as error:
            logger.info("a token was not revoked: %s", error.message)
            return False
        unsupported = hint == "access_token" and len(todo) > 1  # RFC 7009: a server need not know how
        done = done and (200 <= answer.status < 300 or unsupported)
    return done
