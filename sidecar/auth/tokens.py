"""The token endpoint: one request, and an answer that is believed only where every part of it is sound."""

from __future__ import annotations

import math
import re
import time
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import parse_qsl

from sidecar import errors
from sidecar.auth import clientauth, dpop
from sidecar.auth.challenge import scopes as split_scopes
from sidecar.auth.record import Tokens
from sidecar.telemetry.redact import SECRETS

if TYPE_CHECKING:
    from collections.abc import Mapping

    from sidecar.auth.fetch import Answer, Fetcher
    from sidecar.auth.record import Authority, Client
    from sidecar.auth.settings import Settings

_PLAIN: Final = re.compile(r"[\x21-\x7e]{1,16384}\Z")
_SHORTEST: Final = 30.0
_LONGEST: Final = 365 * 24 * 3600.0
_FORM: Final = "application/x-www-form-urlencoded"
_GITHUB_DEAD: Final = frozenset({"bad_refresh_token", "bad_verification_code"})
NONCE_ERROR: Final = "use_dpop_nonce"


def is_plain(value: Any) -> bool:
    """Tell whether a value is a string that may stand in a header: visible ASCII, at most 16 kB, not empty."""
    return isinstance(value, str) and _PLAIN.match(value) is not None


class OAuthFailure(Exception):
    """The endpoint answered with an OAuth error; `code` has the form of one."""

    def __init__(self, code: str, status: int) -> None:
        """Keep both."""
        super().__init__(code)
        self.code = code
        self.status = status

    def as_error(self) -> errors.SidecarError:
        """Return the failure for the wire."""
        if self.code == "invalid_grant":
            text = "the authorization server no longer honours this grant (invalid_grant)"
            return errors.GrantRevoked(text, oauthError=self.code)
        if self.code in {"temporarily_unavailable", "server_error", "slow_down"}:
            return errors.AuthTransient(f"the authorization server cannot answer now ({self.code})")
        return errors.AuthDenied(f"the authorization server refused ({self.code})", oauthError=self.code)


class TokenEndpoint:
    """Asks for tokens in the name of one client."""

    def __init__(
        self, settings: Settings, authority: Authority, client: Client, fetcher: Fetcher, key: dpop.Key | None
    ) -> None:
        """Ask the token endpoint of `authority` and nobody else."""
        self._settings = settings
        self._authority = authority
        self._client = client
        self._fetcher = fetcher
        self._key = key

    async def ask(self, form: Mapping[str, str], *, previous: Tokens | None = None) -> Tokens:
        """Return new tokens; what the answer leaves out is taken from `previous`.

        Raises OAuthFailure for the endpoint's own error, AuthTransient for an answer that is no OAuth, AuthDenied for
        a kind of token that was not asked for, AuthPolicy and RedirectRefused.
        """
        answer = await self.send(self._authority.token_endpoint, "token endpoint", form)
        body = self.body(answer)
        if not 200 <= answer.status < 300 or "error" in body:
            raise self.failure(answer, body)
        return self._tokens(body, previous)

    async def send(self, url: str, what: str, form: Mapping[str, str]) -> Answer:
        """Post a form with the client's proof, and once more with a nonce where the server asks for one."""
        for last in (False, True):
            fields = dict(form)
            headers: dict[str, str] = {}
            # RFC 7523 allows the issuer as audience, which no other server can use; and so does the suite of MCP.
            clientauth.prove(self._client, self._settings, self._authority.issuer, fields, headers)
            if self._key is not None:
                headers["dpop"] = self._key.proof("POST", url)
            secrets = [text for name, text in fields.items() if name in _SECRET_FIELDS]
            SECRETS.add(*secrets)
            try:
                answer = await self._fetcher.form(url, what, fields, headers)
            finally:
                SECRETS.discard(*secrets)
            if self._key is not None:
                self._key.note_nonce(url, answer.headers.get("dpop-nonce"))
                if not last and (answer.json_object() or {}).get("error") == NONCE_ERROR:
                    continue
            break
        return answer

    def body(self, answer: Answer) -> dict[str, Any]:
        """Return the answer as an object. Raises AuthTransient for what is no OAuth."""
        body = answer.json_object()
        if body is None and answer.body and answer.media_type == _FORM and self._settings.provider == "github":
            body = dict(parse_qsl(answer.body.decode("utf-8", "replace")))
        if body is None:
            if answer.status >= 400 and answer.status not in {408, 429} and answer.status < 500:
                text = f"the token endpoint refused (HTTP {answer.status}) without saying why"
            else:
                text = f"the token endpoint answered something else than OAuth (HTTP {answer.status})"
            raise errors.AuthTransient(text)
        return body

    def failure(self, answer: Answer, body: dict[str, Any]) -> Exception:
        """Return what an answer that brings no tokens means."""
        from sidecar.auth.registration import oauth_error

        code = oauth_error(body)
        if answer.status >= 500 or answer.status == 429 or code is None:
            return errors.AuthTransient(f"the token endpoint cannot answer now (HTTP {answer.status})")
        if self._settings.provider == "github" and code in _GITHUB_DEAD:
            code = "invalid_grant"
        return OAuthFailure(code, answer.status)

    def _tokens(self, body: Mapping[str, Any], previous: Tokens | None) -> Tokens:
        access, refresh = body.get("access_token"), body.get("refresh_token")
        if not is_plain(access):
            raise _unsound("no usable access token")
        if refresh is not None and not is_plain(refresh):
            raise _unsound("no usable refresh token")
        wanted = "DPoP" if self._key is not None else "Bearer"
        kind = body.get("token_type", wanted if self._settings.provider is not None else None)
        if not isinstance(kind, str) or kind.lower() != wanted.lower():
            text = f"the authorization server gave another kind of token than {wanted}"
            raise errors.AuthDenied(text)
        now = time.time()
        scope = body.get("scope")
        scopes: tuple[str, ...] | None = None
        if isinstance(scope, str) and scope:
            separated = scope.replace(",", " ") if self._settings.provider == "github" else scope
            scopes = tuple(split_scopes(separated))
        elif previous is not None:
            scopes = previous.scopes
        life = lifetime(body.get("expires_in"))
        return Tokens(
            access=str(access),
            type=wanted,
            refresh=refresh if refresh is not None else (previous.refresh if previous is not None else None),
            expires=now + life if life is not None else None,
            obtained=now,
            scopes=scopes,
        )


_SECRET_FIELDS: Final = frozenset(
    {"code", "code_verifier", "refresh_token", "client_secret", "client_assertion", "assertion", "device_code", "token"}
)


def lifetime(value: Any) -> float | None:
    """Return the life of a token in seconds, between 30 s and a year; None where the answer names none.

    An end that has passed already or makes no sense must not begin one login after another: it counts as 30 s, and
    the server's 401 says the rest.
    """
    if value is None:
        return None
    if isinstance(value, str):
        try:
            value = float(value)
        except ValueError:
            return _SHORTEST
    if isinstance(value, bool) or not isinstance(value, int | float) or math.isnan(value):
        return _SHORTEST
    return float(min(max(value, _SHORTEST), _LONGEST))


def _unsound(why: str) -> errors.AuthTransient:
    return errors.AuthTransient(f"the token endpoint answered something else than OAuth: {why}")
