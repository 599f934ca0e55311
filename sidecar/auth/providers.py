"""Providers that people really use, as named sets of the fields of `auth`. Explicit fields win over them.

Each relaxes what its real counterpart needs, and nothing else; `ServerInfo.auth.relaxed` shows it.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from collections.abc import Mapping


@dataclass(frozen=True)
class Provider:
    """The fields of one provider; `templates` are filled from the environment: (field, variable, template)."""

    fields: Mapping[str, Any]
    templates: tuple[tuple[str, str, str], ...] = field(default=())


PROVIDERS: Final[Mapping[str, Provider]] = {
    # No metadata, no registration, no resource indicators, tokens without expiry, answers form-encoded unless asked
    # for JSON. RFC 8628 for devices.
    "github": Provider(
        {
            "issuer": "https://github.com",
            "authorization_endpoint": "https://github.com/login/oauth/authorize",
            "token_endpoint": "https://github.com/login/oauth/access_token",
            "device_authorization_endpoint": "https://github.com/login/device/code",
            "auth_method": "client_secret_post",
            "resource": "omit",
            "assume_s256": True,
        }
    ),
    # A refresh token only with access_type=offline, and again only after a new consent. RFC 7009 is offered.
    "google": Provider(
        {
            "issuer": "https://accounts.google.com",
            "authorization_endpoint": "https://accounts.google.com/o/oauth2/v2/auth",
            "token_endpoint": "https://oauth2.googleapis.com/token",
            "device_authorization_endpoint": "https://oauth2.googleapis.com/device/code",
            "revocation_endpoint": "https://oauth2.googleapis.com/revoke",
            "auth_method": "client_secret_post",
            "resource": "omit",
            "extra_params": {"access_type": "offline", "prompt": "consent"},
        }
    ),
    # Metadata without code_challenge_methods_supported, refuses `resource`; the tenant is part of every URL.
    "azure": Provider(
        {"resource": "omit", "assume_s256": True, "auth_method": "client_secret_post"},
        (("issuer", "AZURE_TENANT_ID", "https://login.microsoftonline.com/{}/v2.0"),),
    ),
    # The API is named by `audience`; the domain is the customer's own.
    "auth0": Provider(
        {"resource": "omit", "auth_method": "client_secret_post"},
        (("issuer", "AUTH0_DOMAIN", "https://{}/"),),
    ),
}
