"""One credential as it rests in the vault: who issued it, for what, to which client, and its tokens."""

from __future__ import annotations

import time
from dataclasses import asdict, dataclass, field, fields, replace
from typing import TYPE_CHECKING, Any, Final, TypeVar

from sidecar.telemetry.logs import now_text

if TYPE_CHECKING:
    from collections.abc import Mapping

T = TypeVar("T")
_MARGIN: Final = 60.0
_MARGIN_PART: Final = 0.25


@dataclass(frozen=True)
class Authority:
    """The authorization server of one login, as its metadata or the settings name it."""

    issuer: str
    token_endpoint: str
    authorization_endpoint: str | None = None
    registration_endpoint: str | None = None
    device_endpoint: str | None = None
    revocation_endpoint: str | None = None
    resource: str | None = None
    """What is sent as `resource` (RFC 8707); None sends none."""
    auth_methods: tuple[str, ...] | None = None
    scopes_supported: tuple[str, ...] = ()
    """Of the authorization server."""
    resource_scopes: tuple[str, ...] = ()
    """Of the protected resource."""
    client_documents: bool = False
    sends_iss: bool = False
    relaxed: tuple[str, ...] = ()
    discovered: bool = True


@dataclass(frozen=True)
class Client:
    """Who we are at the authorization server."""

    id: str
    method: str
    secret: str | None = field(default=None, repr=False)
    origin: str = "given"
    """`given` by the host, `document` (its URL is the id), or `registered` dynamically."""
    redirect_uri: str | None = None
    secret_expires: float | None = None


@dataclass(frozen=True)
class Tokens:
    """What the token endpoint gave."""

    access: str = field(repr=False)
    type: str = "Bearer"
    refresh: str | None = field(default=None, repr=False)
    expires: float | None = None
    """Seconds since the epoch; None where the answer names no end."""
    obtained: float = 0.0
    scopes: tuple[str, ...] | None = None

    def expired(self, now: float | None = None) -> bool:
        """Tell whether the access token's life is over."""
        return self.expires is not None and (time.time() if now is None else now) >= self.expires

    def expiring(self, now: float | None = None) -> bool:
        """Tell whether it is time for a new one: a minute before the end, or the last quarter of a short life."""
        if self.expires is None:
            return False
        moment = time.time() if now is None else now
        margin = min(_MARGIN, max(0.0, self.expires - self.obtained) * _MARGIN_PART)
        return moment >= self.expires - margin

    @property
    def secrets(self) -> tuple[str, ...]:
        """What must stand in no log line and no message."""
        return (self.access, self.refresh) if self.refresh else (self.access,)


@dataclass(frozen=True)
class Record:
    """One credential."""

    authority: Authority
    client: Client
    tokens: Tokens | None = None
    requested: tuple[str, ...] = ()
    """The scopes of the last login: a step-up asks for these and the new ones."""
    dpop_pem: str | None = field(default=None, repr=False)
    generation: int = 0
    """Counts the logins; a refresh does not change it."""

    def with_tokens(self, tokens: Tokens | None) -> Record:
        """Return the record with other tokens."""
        return replace(self, tokens=tokens)

    @property
    def secrets(self) -> tuple[str, ...]:
        """What must stand in no log line and no message."""
        own = tuple(text for text in (self.client.secret, self.dpop_pem) if text)
        return own + (self.tokens.secrets if self.tokens is not None else ())

    @property
    def scopes(self) -> tuple[str, ...]:
        """The scopes that the tokens have, as far as known."""
        granted = self.tokens.scopes if self.tokens is not None else None
        return granted if granted is not None else self.requested

    def to_json(self) -> dict[str, Any]:
        """Return the record as the vault keeps it."""
        return {"v": 1, **asdict(self)}


def record_of(body: Mapping[str, Any]) -> Record:
    """Return a record that `to_json` made. Raises ValueError for anything else."""
    try:
        tokens = body["tokens"]
        return Record(
            authority=authority_of(body["authority"]),
            client=_made(Client, body["client"]),
            tokens=_made(Tokens, tokens) if tokens is not None else None,
            requested=tuple(body["requested"]),
            dpop_pem=body["dpop_pem"],
            generation=body["generation"],
        )
    except (KeyError, TypeError) as error:
        raise ValueError("no credential record of this version") from error


def authority_of(body: Mapping[str, Any]) -> Authority:
    """Return an authority from its JSON."""
    return _made(Authority, body)


def client_of(body: Mapping[str, Any]) -> Client:
    """Return a client from its JSON."""
    return _made(Client, body)


def _made(kind: type[T], body: Mapping[str, Any]) -> T:
    known = {each.name for each in fields(kind)}  # type: ignore[arg-type]  # all of them are dataclasses
    values = {name: tuple(value) if isinstance(value, list) else value for name, value in body.items() if name in known}
    return kind(**values)


def time_text(seconds: float | None) -> str | None:
    """Return a time for the wire."""
    return now_text(seconds) if seconds is not None else None
