"""How the client proves itself at the token endpoint: basic, post, none, private_key_jwt (RFC 6749, RFC 7523)."""

from __future__ import annotations

import base64
import secrets
import time
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import quote

if TYPE_CHECKING:
    from sidecar.auth.record import Client
    from sidecar.auth.settings import Settings

METHODS: Final = ("client_secret_basic", "client_secret_post", "none", "private_key_jwt")
ALGORITHMS: Final = ("RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256", "ES384", "ES512", "EdDSA")
ASSERTION_TYPE: Final = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer"
_ASSERTION_SECONDS: Final = 300


def usable_key(pem: str, algorithm: str | None) -> bool:
    """Tell whether a PEM holds a private key that signs with the algorithm."""
    try:
        sign({}, pem, str(algorithm), None)
    except Exception:  # whatever a library says about a broken key: it cannot be used
        return False
    return True


def sign(claims: dict[str, Any], pem: str, algorithm: str, key_id: str | None) -> str:
    """Return a signed JWT."""
    import jwt

    return jwt.encode(claims, pem, algorithm=algorithm, headers={"kid": key_id} if key_id else None)


def signed_assertion(settings: Settings, client_id: str, audience: str, subject: str | None = None) -> str:
    """Return an assertion that the client signs itself (RFC 7523); valid for five minutes, used once."""
    now = int(time.time())
    claims = {
        "iss": client_id,
        "sub": subject or client_id,
        "aud": audience,
        "iat": now,
        "exp": now + _ASSERTION_SECONDS,
        "jti": secrets.token_urlsafe(24),
    }
    assert settings.key_pem is not None
    return sign(claims, settings.key_pem, str(settings.key_algorithm), settings.key_id)


def prove(client: Client, settings: Settings, audience: str, form: dict[str, str], headers: dict[str, str]) -> None:
    """Add the client's proof to a request for the token, device or revocation endpoint."""
    if client.method == "client_secret_basic" and client.secret is not None:
        # RFC 6749 section 2.3.1: both parts are form-encoded before they are joined.
        pair = f"{quote(client.id, safe='')}:{quote(client.secret, safe='')}"
        headers["authorization"] = "Basic " + base64.b64encode(pair.encode()).decode()
        return
    form["client_id"] = client.id
    if client.method == "client_secret_post" and client.secret is not None:
        form["client_secret"] = client.secret
    elif client.method == "private_key_jwt":
        form["client_assertion_type"] = ASSERTION_TYPE
        form["client_assertion"] = signed_assertion(settings, client.id, audience)
