"""How far an event stream was read, and how soon it may be asked for again."""

from __future__ import annotations

import random
from collections import OrderedDict
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from sidecar.transports.events import Event

RETRY_FLOOR: Final = 0.5
RETRY_CEILING: Final = 60.0
RETRY_DEFAULT: Final = 1.0
_SEEN_MAX: Final = 1024
_SEEN_BYTES: Final = 256


class Place:
    """The place in one stream over all the connections that carry it."""

    def __init__(self) -> None:
        """Stand before the first event."""
        self.last_id: bytes | None = None
        """The id to resume after; None or empty where the stream cannot be resumed."""
        self.delay = RETRY_DEFAULT
        """How long the server asks to wait, in seconds."""
        self.asked = False
        """Whether it asked for that."""
        self.news = False
        """Whether the present connection has brought anything."""
        self._seen: OrderedDict[bytes, None] = OrderedDict()

    def begin(self) -> None:
        """Note a new connection."""
        self.news = False

    def note(self, event: Event) -> bool:
        """Note an event; false for one that was seen before, which a server may send again after a resumption."""
        if event.retry is not None:
            self.delay = event.retry / 1000
            self.asked = True
        if event.id is not None:
            self.last_id = event.id
            if event.id in self._seen:
                return False
            if event.id and len(event.id) <= _SEEN_BYTES:
                self._seen[event.id] = None
                if len(self._seen) > _SEEN_MAX:
                    self._seen.popitem(last=False)
        self.news = True
        return True


def between(seconds: float) -> float:
    """Return a wait within the floor and the ceiling, with up to a tenth of jitter that keeps within both."""
    wait = min(max(seconds, RETRY_FLOOR), RETRY_CEILING)
    jitter = random.random() / 10  # noqa: S311 - jitter
    return min(wait * (1 + jitter), RETRY_CEILING)
