"""What `auth: {type: "oauth"}` asks for: checked once, completed from a provider's fields, and kept."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import urlsplit

from sidecar import errors
from sidecar.auth.clientauth import ALGORITHMS, METHODS, usable_key
from sidecar.auth.egress import parse_url
from sidecar.auth.providers import PROVIDERS
from sidecar.auth.urls import OAUTH_NAMES, well_formed

if TYPE_CHECKING:
    from collections.abc import Mapping

    from sidecar import wire

PERSONAL: Final = frozenset({"authorization_code", "device_code"})
"""Grants that need a person."""
_ENDPOINTS: Final = (
    "authorization_endpoint",
    "token_endpoint",
    "device_authorization_endpoint",
    "revocation_endpoint",
)
_TEXTS: Final = ("client_id", "client_secret", "client_name")


@dataclass(frozen=True)
class Settings:
    """The settings of one server's OAuth; `secrets` are learned by the redaction."""

    server_url: str
    grant: str = "authorization_code"
    client_id: str | None = None
    client_secret: str | None = None
    auth_method: str | None = None
    key_pem: str | None = field(default=None, repr=False)
    key_algorithm: str | None = None
    key_id: str | None = None
    metadata_url: str | None = None
    client_name: str = "mcp-sidecar"
    scopes: tuple[str, ...] | None = None
    ceiling: tuple[str, ...] | None = None
    issuer: str | None = None
    authorization_endpoint: str | None = None
    token_endpoint: str | None = None
    device_authorization_endpoint: str | None = None
    revocation_endpoint: str | None = None
    resource: str = "auto"
    assume_s256: bool = False
    provider: str | None = None
    owner: str = "user"
    redirect_mode: str | None = None
    redirect_uri: str | None = None
    redirect_port: int | None = None
    dpop: bool = False
    extra_params: Mapping[str, str] = field(default_factory=dict)
    tls_ca: str | None = None
    proxy: str | None = None

    @property
    def explicit(self) -> bool:
        """Whether endpoints were given: nothing is discovered then."""
        return any(getattr(self, name) is not None for name in _ENDPOINTS)

    @property
    def personal(self) -> bool:
        """Whether the grant needs a person."""
        return self.grant in PERSONAL

    @property
    def relaxed(self) -> list[str]:
        """The strict defaults that these settings switch off."""
        found = [] if self.resource == "auto" else ["resource"]
        return [*found, "pkce"] if self.assume_s256 else found

    @property
    def secrets(self) -> tuple[str, ...]:
        """What must stand in no log line and no message."""
        return tuple(text for text in (self.client_secret, self.key_pem) if text)

    def allowed(self) -> frozenset[str] | None:
        """Return the scopes that may be asked for; None where the host set no bound."""
        bound = self.ceiling if self.ceiling is not None else self.scopes
        return frozenset(bound) if bound is not None else None

    def identity(self) -> str:
        """Return what tells the logins of one person at one server apart: who the client is and what it asks for.

        How the client proves itself and where the redirect goes are left out: a new secret loses no login.
        """
        parts = (
            self.grant,
            self.client_id,
            self.metadata_url,
            self.scopes,
            self.ceiling,
            self.issuer,
            *(getattr(self, name) for name in _ENDPOINTS),
            self.resource,
            self.dpop,
            sorted(self.extra_params.items()),
        )
        return hashlib.sha256(json.dumps(parts).encode()).hexdigest()

    def completed(self, environ: Mapping[str, str]) -> Settings:
        """Return the settings with the provider's client id and secret from the environment, where none are given."""
        if self.provider is None:
            return self
        prefix = self.provider.upper()
        client_id = self.client_id or environ.get(f"{prefix}_CLIENT_ID") or None
        secret = self.client_secret or environ.get(f"{prefix}_CLIENT_SECRET") or None
        filled = replace(self, client_id=client_id, client_secret=secret)
        for name, variable, template in PROVIDERS[self.provider].templates:
            value = environ.get(variable)
            if getattr(filled, name) is None and value is not None:
                change: dict[str, Any] = {name: template.format(value)}
                filled = replace(filled, **change)
        return filled


class BadSetting(ValueError):
    """A setting that cannot be used: `path` leads to it inside `auth`."""

    def __init__(self, path: tuple[str, ...], text: str) -> None:
        """Keep both; the value is never repeated."""
        super().__init__(text)
        self.path = path


def settings_of(auth: wire.OAuth, server_url: str, *, assertions: bool) -> Settings:
    """Return the settings that `auth` asks for; `assertions` says what the host promised. Raises BadSetting."""
    values: dict[str, Any] = {
        "client_id": auth.client_id,
        "client_secret": auth.client_secret,
        "auth_method": auth.token_endpoint_auth_method,
        "metadata_url": auth.client_metadata_url,
        "client_name": auth.client_name,
        "scopes": _scopes(auth.scopes, "scopes"),
        "ceiling": _scopes(auth.scope_ceiling, "scopeCeiling"),
        "issuer": auth.issuer,
        **{name: getattr(auth, name) for name in _ENDPOINTS},
        "resource": auth.resource,
        "assume_s256": None if auth.pkce is None else auth.pkce == "assumeS256",
        "provider": auth.provider,
        "owner": auth.owner,
        "dpop": auth.dpop,
        "grant": auth.grant,
        "extra_params": auth.extra_params,
    }
    if auth.provider is not None:
        preset = PROVIDERS[auth.provider].fields
        given = dict(auth.extra_params or {})
        values = {name: preset.get(name) if value is None else value for name, value in values.items()}
        values["extra_params"] = {**preset.get("extra_params", {}), **given}
    if auth.redirect is not None:
        values["redirect_mode"] = auth.redirect.mode
        values["redirect_uri"] = getattr(auth.redirect, "uri", None)
        values["redirect_port"] = getattr(auth.redirect, "port", None)
    if auth.private_key is not None:
        values |= {
            "key_pem": auth.private_key.pem,
            "key_algorithm": auth.private_key.algorithm,
            "key_id": auth.private_key.key_id,
        }
    settings = Settings(server_url, **{name: value for name, value in values.items() if value is not None})
    _check(settings, assertions=assertions)
    return settings


def _scopes(given: list[str] | None, name: str) -> tuple[str, ...] | None:
    if given is None:
        return None
    for index, scope in enumerate(given):
        if not scope or any(not "!" <= char <= "~" or char in '"\\' for char in scope):
            raise BadSetting((name, str(index)), "a scope has no blanks, quotes or backslashes")
    return tuple(dict.fromkeys(given))


def _check(settings: Settings, *, assertions: bool) -> None:
    for name in _TEXTS:
        text = getattr(settings, name)
        if text is not None and (not text or any(char < " " or char == "\x7f" for char in text)):
            raise BadSetting((camel(name),), "must not be empty or have control characters")
    for name in ("issuer", *_ENDPOINTS):
        url = getattr(settings, name)
        if url is not None:
            _url(url, camel(name), query=name != "issuer")
    _check_client(settings)
    _check_grant(settings, assertions=assertions)
    if settings.resource not in {"auto", "omit"}:
        parts = urlsplit(settings.resource)
        if not parts.scheme or "#" in settings.resource or any(char <= " " for char in settings.resource):
            raise BadSetting(("resource",), 'must be "auto", "omit" or an absolute URI without a fragment')
    for name in settings.extra_params:
        if name.lower() in OAUTH_NAMES:
            raise BadSetting(("extraParams", name), "this parameter belongs to the flow itself")


def _check_client(settings: Settings) -> None:
    method = settings.auth_method
    if method is not None and method not in METHODS:
        raise BadSetting(("tokenEndpointAuthMethod",), f"must be one of {', '.join(METHODS)}")
    own = settings.client_id is not None and settings.provider is None
    if own and method in {"client_secret_basic", "client_secret_post"} and settings.client_secret is None:
        raise BadSetting(("tokenEndpointAuthMethod",), "this method needs clientSecret")
    if method == "private_key_jwt" and settings.key_pem is None:
        raise BadSetting(("tokenEndpointAuthMethod",), "this method needs privateKey")
    if settings.client_secret is not None and settings.client_id is None and settings.provider is None:
        raise BadSetting(("clientSecret",), "a secret needs its clientId")
    if settings.key_pem is not None:
        if settings.key_algorithm not in ALGORITHMS:
            raise BadSetting(("privateKey", "algorithm"), f"must be one of {', '.join(ALGORITHMS)}")
        if not usable_key(settings.key_pem, settings.key_algorithm):
            raise BadSetting(("privateKey", "pem"), "no unencrypted private key in PEM that fits the algorithm")
    if settings.metadata_url is not None:
        _url(settings.metadata_url, "clientMetadataUrl")
        parts = urlsplit(settings.metadata_url)
        if parts.scheme != "https" or parts.path in {"", "/"}:
            raise BadSetting(("clientMetadataUrl",), "must be an https URL with a path")


def _check_grant(settings: Settings, *, assertions: bool) -> None:
    grant = settings.grant
    if grant == "authorization_code":
        if settings.redirect_mode is None:
            raise BadSetting(("redirect",), "the grant authorization_code needs a redirect")
        if settings.explicit and settings.authorization_endpoint is None:
            raise BadSetting(("authorizationEndpoint",), "explicit endpoints switch discovery off: give this one too")
    if grant == "device_code" and settings.explicit and settings.device_authorization_endpoint is None:
        raise BadSetting(("deviceAuthorizationEndpoint",), "explicit endpoints switch discovery off: give this one too")
    if settings.explicit and settings.token_endpoint is None:
        raise BadSetting(("tokenEndpoint",), "explicit endpoints switch discovery off: give this one too")
    if grant == "jwt_bearer" and settings.key_pem is None and not assertions:
        raise BadSetting(("grant",), "jwt_bearer needs the host capability `assertions`, or a privateKey")
    if grant == "client_credentials" and settings.provider is None:
        if settings.client_id is None:
            raise BadSetting(("clientId",), "the grant client_credentials needs a clientId")
        if settings.client_secret is None and settings.key_pem is None:
            raise BadSetting(("clientSecret",), "the grant client_credentials needs clientSecret or privateKey")
    if settings.redirect_uri is not None:
        _redirect(settings.redirect_uri)


def _redirect(uri: str) -> None:
    """Refuse a redirect that no authorization server could follow; where it leads is the host's own business."""
    parts = urlsplit(uri)
    if any(char <= " " or char == "\x7f" for char in uri) or "#" in uri:
        raise BadSetting(("redirect", "uri"), "has blanks, control characters or a fragment")
    if parts.scheme in {"http", "https"}:
        try:
            parse_url(uri)
        except ValueError as error:
            raise BadSetting(("redirect", "uri"), str(error)) from None
    elif "." not in parts.scheme:
        raise BadSetting(("redirect", "uri"), "must be an http(s) URL, or a private scheme with a dot in it (RFC 8252)")


def _url(url: str, name: str, *, query: bool = True) -> None:
    try:
        well_formed(url, "URL", query=query)
    except errors.AuthPolicy as error:
        raise BadSetting((name,), error.message) from None


def camel(name: str) -> str:
    """Return a field's name as it stands on the wire."""
    head, *rest = name.split("_")
    return head + "".join(part.title() for part in rest)
