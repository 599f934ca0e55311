"""A login that waits for a person: what its redirect must bring, kept in the vault under its state, taken once."""

from __future__ import annotations

import time
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any, Final

from sidecar.auth.record import Authority, Client, authority_of, client_of, time_text
from sidecar.auth.settings import Settings
from sidecar.telemetry.redact import SECRETS

if TYPE_CHECKING:
    from collections.abc import Mapping

    from sidecar.vault import Key, Sealed

LOGIN_SECONDS: Final = 600.0


@dataclass(frozen=True)
class Pending:
    """One login on its way."""

    id: str
    state: str = field(repr=False)
    url: str = field(repr=False)
    expires: float
    settings: Settings
    authority: Authority
    client: Client
    scopes: tuple[str, ...]
    tenant: str
    user: str
    server: str
    """The address that began it, for the answer where this process knows it no more."""
    scope: Mapping[str, str]
    transport: str
    redirect_uri: str | None = None
    verifier: str | None = field(default=None, repr=False)
    dpop_pem: str | None = field(default=None, repr=False)
    step_up: bool = False
    device_code: str | None = field(default=None, repr=False)
    user_code: str | None = None
    verification_uri: str | None = None
    interval: int | None = None

    @property
    def secrets(self) -> tuple[str, ...]:
        """What must stand in no log line and no message."""
        own = (self.state, self.verifier, self.device_code, self.dpop_pem, self.client.secret)
        return tuple(text for text in own if text)

    def late(self) -> bool:
        """Tell whether its time is over."""
        return time.time() >= self.expires

    def authorization(self) -> dict[str, Any]:
        """Return the `Authorization` for the host."""
        body: dict[str, Any] = {
            "authorizationId": self.id,
            "url": self.url,
            "state": self.state,
            "expiresAt": time_text(self.expires),
        }
        if self.user_code is not None:
            body |= {"userCode": self.user_code, "verificationUri": self.verification_uri, "interval": self.interval}
        return body

    def to_json(self) -> dict[str, Any]:
        """Return it as the vault keeps it."""
        return {"v": 1, **asdict(self)}


def pending_of(body: Mapping[str, Any]) -> Pending:
    """Return a pending login that `to_json` made. Raises ValueError."""
    try:
        values = {name: value for name, value in body.items() if name != "v"}
        settings: dict[str, Any] = {
            name: tuple(value) if isinstance(value, list) else value for name, value in values["settings"].items()
        }
        values |= {
            "settings": Settings(**settings),
            "authority": authority_of(values["authority"]),
            "client": client_of(values["client"]),
            "scopes": tuple(values["scopes"]),
        }
        return Pending(**values)
    except (KeyError, TypeError) as error:
        raise ValueError("no pending login of this version") from error


class Shelf:
    """The pending logins of this process, and those that rest in the vault."""

    def __init__(self, vault: Sealed) -> None:
        """Know none."""
        self._vault = vault
        self._here: dict[str, Pending] = {}
        self._written: set[str] = set()

    def _key(self, state: str, pending: Pending | None = None) -> Key:
        if pending is None:
            return self._vault.key("pending", state)
        return self._vault.key("pending", state, scope=dict(pending.scope), server=pending.server)

    def here(self, state: str) -> Pending | None:
        """Return a login that this process began."""
        return self._here.get(state)

    async def put(self, pending: Pending) -> None:
        """Keep a login. Raises what the vault raises; it is known here all the same."""
        self._here[pending.state] = pending
        SECRETS.add(*pending.secrets)
        if pending.device_code is not None:
            return  # no redirect will name it
        await self._vault.save(self._key(pending.state, pending), pending.to_json(), None)
        self._written.add(pending.state)

    async def find(self, state: str) -> tuple[Pending, str | None] | None:
        """Return a login and the version under which it rests; None for an unknown, used or broken one."""
        known = self._here.get(state)
        if known is not None and known.device_code is not None:
            return None
        found = await self._vault.load(self._key(state, known))
        if found is None:
            if known is None or state not in self._written:
                return (known, None) if known is not None else None
            self.drop(known)  # another process has taken it
            return None
        try:
            return pending_of(found[0]), found[1]
        except ValueError:
            return None

    async def take(self, pending: Pending, version: str | None) -> bool:
        """Use a login up, for all processes; False where somebody else did."""
        from sidecar import errors
        from sidecar.vault import Conflict

        if pending.state in self._here or version is not None:
            try:
                if version is not None:
                    # Deleting alone would not tell who was first.
                    key = self._key(pending.state, pending)
                    version = await self._vault.save(key, {"v": 0}, version)
                    await self._vault.delete(key, version)
            except Conflict:
                self.drop(pending)
                return False
            except errors.StoreWriteFailed:
                pass  # its code works only once at the authorization server too
            self.drop(pending)
            return True
        return False

    async def withdraw(self, pending: Pending) -> None:
        """Forget a login that nobody waits for. Raises what the vault raises."""
        self.drop(pending)
        if pending.device_code is None:
            await self._vault.delete(self._key(pending.state, pending))

    def drop(self, pending: Pending) -> None:
        """Forget it in this process alone."""
        if self._here.pop(pending.state, None) is not None:
            self._written.discard(pending.state)
            SECRETS.discard(*pending.secrets)

    def close(self) -> None:
        """Forget all of them in this process; those in the vault wait for the next one."""
        for pending in list(self._here.values()):
            self.drop(pending)
