"""Proofs of possession (RFC 9449): one key for a credential, one proof for each request, the nonces of each origin."""

from __future__ import annotations

import base64
import hashlib
import json
import re
import secrets
import time
from typing import TYPE_CHECKING, Any, Final

from sidecar.auth.egress import parse_url

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePrivateKey

_NONCE: Final = re.compile(r"[\x21\x23-\x5b\x5d-\x7e]{1,1024}\Z")
_MAX_NONCES: Final = 16


class Key:
    """An ES256 key and what it signs."""

    def __init__(self, pem: str) -> None:
        """Load a key that `new_key` made."""
        from cryptography.hazmat.primitives.serialization import load_pem_private_key

        self._key: EllipticCurvePrivateKey = load_pem_private_key(pem.encode(), None)  # type: ignore[assignment]  # new_key makes no other
        numbers = self._key.public_key().public_numbers()
        self._jwk = {
            "kty": "EC",
            "crv": "P-256",
            "x": _b64(numbers.x.to_bytes(32, "big")),
            "y": _b64(numbers.y.to_bytes(32, "big")),
        }
        self._header = _b64(json.dumps({"typ": "dpop+jwt", "alg": "ES256", "jwk": self._jwk}).encode())
        self._nonces: dict[str, str] = {}

    @property
    def thumbprint(self) -> str:
        """The key's JWK thumbprint (RFC 7638), for `dpop_jkt`."""
        text = json.dumps(self._jwk, sort_keys=True, separators=(",", ":"))
        return _b64(hashlib.sha256(text.encode()).digest())

    def proof(self, method: str, url: str, access: str | None = None) -> str:
        """Return the proof for one request; each is good for one."""
        from cryptography.hazmat.primitives.asymmetric.ec import ECDSA
        from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature
        from cryptography.hazmat.primitives.hashes import SHA256

        claims: dict[str, Any] = {
            "jti": secrets.token_urlsafe(16),
            "htm": method,
            "htu": url.partition("?")[0].partition("#")[0],
            "iat": int(time.time()),
        }
        if access is not None:
            claims["ath"] = _b64(hashlib.sha256(access.encode()).digest())
        nonce = self._nonces.get(_origin(url))
        if nonce is not None:
            claims["nonce"] = nonce
        signed = f"{self._header}.{_b64(json.dumps(claims).encode())}"
        r, s = decode_dss_signature(self._key.sign(signed.encode(), ECDSA(SHA256())))
        return f"{signed}.{_b64(r.to_bytes(32, 'big') + s.to_bytes(32, 'big'))}"

    def note_nonce(self, url: str, nonce: str | None) -> bool:
        """Keep the nonce that an answer from this origin brought; tell whether it is a new one."""
        if nonce is None or not _NONCE.match(nonce):
            return False
        origin = _origin(url)
        if self._nonces.get(origin) == nonce:
            return False
        if len(self._nonces) >= _MAX_NONCES:
            self._nonces.clear()
        self._nonces[origin] = nonce
        return True


def new_key() -> str:
    """Return a fresh key as PEM."""
    from cryptography.hazmat.primitives.asymmetric.ec import SECP256R1, generate_private_key
    from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

    key = generate_private_key(SECP256R1())
    return key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()).decode()


def _origin(url: str) -> str:
    return str(parse_url(url)[0])


def _b64(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()
