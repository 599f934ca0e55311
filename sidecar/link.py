"""What a connection is made of: the live link, what the host wants of every link, what the process around gives."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    import msgspec

    from sidecar.connection import Connection
    from sidecar.engine import Negotiated, Session
    from sidecar.transports.channel import Call, Channel


class Link:
    """A live connection: the channel, the engine's session on it, and what they agreed on."""

    def __init__(self, channel: Channel, session: Session, agreed: Negotiated) -> None:
        """Join the three."""
        self.channel = channel
        self.session = session
        self.agreed = agreed
        self.header_maps: dict[str, dict[tuple[str, ...], str]] = {}
        """Modern era: which arguments of which tool go into which Mcp-Param header."""
        self.refused_tools: set[str] = set()
        self.parts: dict[str, Any] = {}
        """What others keep as long as this link, and not longer."""

    async def close(self) -> None:
        """Close politely, then in any case."""
        await self.session.close()
        await self.channel.aclose()
        # Whoever remembers a link must not keep its connection alive with it.
        self.channel.upcalls = None


@dataclass
class Desired:
    """What the host has set and every new link must have."""

    log_level: bytes | None = None
    """The JSON of the level."""
    roots: bytes | None = None
    """The JSON array of `roots/set`."""
    subscriptions: dict[str, msgspec.Raw] = field(default_factory=dict)
    """URI -> the params of `resources/subscribe`."""


@dataclass(frozen=True)
class Services:
    """What a connection needs of the process around it."""

    make_channel: Callable[[Connection], Channel]
    engine: Callable[[], Awaitable[None]]
    changed: Callable[[Connection], None]
    capabilities: Callable[[Connection], dict[str, Any]]
    admit: Callable[[Connection], list[Awaitable[None]]]
    """Asks for a place among what is open; returns what must close first. Raises QuotaExceeded."""
    used: Callable[[Connection], None]
    serve: Callable[[Connection, str, msgspec.Raw, Call | None], Awaitable[bytes]]
    notified: Callable[[Connection, str, msgspec.Raw, Call | None], None]
    missed: Callable[[Connection], None]
    """Told that notifications of a server may be missing."""
    pressed: Callable[[], bool]
    idle_seconds: Callable[[], float]
    """The idle time of connections that name none."""
    restore: Callable[[Connection, Link], Awaitable[None]]
    """Brings a new link to what is desired, before anybody sees that it is ready."""
