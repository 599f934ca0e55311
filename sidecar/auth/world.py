"""What the logins need of the process around them, and what an address looks like to them."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, Protocol

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from sidecar import errors
    from sidecar.auth.egress import EgressPolicy
    from sidecar.callbacks import Host, Notices
    from sidecar.vault import Sealed

audit: Final = logging.getLogger("sidecar.audit")
"""One line for each thing that happens to a credential; never a secret."""


@dataclass(frozen=True)
class World:
    """The process around the logins."""

    vault: Sealed
    host: Host
    notices: Notices
    policy: Callable[[], EgressPolicy]
    environ: Mapping[str, str]


class Address(Protocol):
    """A connection, as far as its credentials know it."""

    name: str
    scope: dict[str, str]
    state: str
    authorization: dict[str, Any] | None

    def needs_login(self, error: errors.AuthRequired) -> None:
        """Wait for a person."""

    def authorized(self) -> None:
        """Go on after a login."""

    def login_failed(self, error: errors.SidecarError) -> None:
        """End the wait for a person."""

    def fail(self, error: errors.SidecarError) -> None:
        """End in `failed`."""

    def reset(self) -> None:
        """Become `idle` as if new."""

    def tell(self) -> None:
        """Tell that something else of the `ServerInfo` has changed."""


@dataclass(frozen=True)
class Owner:
    """Whose credential it is: one user's, or shared by all users of a tenant."""

    tenant: str
    user: str
    kind: str

    @classmethod
    def of(cls, scope: Mapping[str, str], kind: str) -> Owner:
        """Return the owner of the credentials of an address; the session never counts."""
        return cls(scope.get("tenant", ""), "" if kind == "tenant" else scope.get("user", ""), kind)

    def scope(self) -> dict[str, str]:
        """Return the owner as a scope."""
        parts = {"tenant": self.tenant, "user": self.user}
        return {name: part for name, part in parts.items() if part}
