"""What the host has read of a server's lists, so that no change of them is lost with the stream that would tell it.

When a stream of notifications has died, or the connection came back, the pages that the host has read are read again
and compared; where they differ, the host is told what it would have been told.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from typing import TYPE_CHECKING, Final
from weakref import WeakKeyDictionary

import msgspec

from sidecar import errors, frames, wire
from sidecar.ops.payload import MAX_PAGES
from sidecar.ops.send import send

if TYPE_CHECKING:
    from collections.abc import Callable

    from sidecar.connection import Connection, Link
    from sidecar.transports.faults import Payload

logger: Final = logging.getLogger(__name__)

CHANGED: Final = {
    "tools/list": "notifications/tools/list_changed",
    "prompts/list": "notifications/prompts/list_changed",
    "resources/list": "notifications/resources/list_changed",
    "resources/templates/list": "notifications/resources/list_changed",
}
_PAUSE: Final = 2.0
"""Seconds between two comparisons of one connection: a stream that ends all the time costs no more."""
_SECONDS: Final = 30.0
_FIRST: Final = b""

Pages = dict[bytes, int]
"""Cursor -> a hash of the page."""


class Lists:
    """The pages that hosts have read, by connection and method."""

    def __init__(self, changed: Callable[[Connection, str], None]) -> None:
        """Tell `changed` which notification is due."""
        self._changed = changed
        self._pages: WeakKeyDictionary[Connection, dict[str, Pages]] = WeakKeyDictionary()
        self._comparing: WeakKeyDictionary[Connection, asyncio.Task[None]] = WeakKeyDictionary()
        self._again: WeakKeyDictionary[Connection, Link] = WeakKeyDictionary()

    def note(self, connection: Connection, method: str, cursor: msgspec.Raw | None, result: Payload) -> None:
        """Note a page that the host is about to get."""
        by_method = self._pages.get(connection)
        if by_method is None:
            by_method = self._pages[connection] = {}
        pages = by_method.setdefault(method, {})
        key = bytes(cursor) if cursor is not None and bytes(cursor) != b"null" else _FIRST
        page = _hash(method, result)
        if key == _FIRST and pages.get(key, page) != page:
            pages.clear()  # the other pages belong to the list as it was
        if len(pages) >= MAX_PAGES:
            pages.clear()  # a list without end is compared by nobody
        pages[key] = page

    def compare_soon(self, connection: Connection, link: Link) -> None:
        """Compare beside; one comparison at a time, and not too often."""
        if connection in self._comparing:
            self._again[connection] = link
        elif connection in self._pages:
            self._comparing[connection] = link.channel.spawn(self._compare(connection, link))

    async def _compare(self, connection: Connection, link: Link) -> None:
        try:
            due = set()
            for method in list(self._pages.get(connection, {})):
                if await self._differs(connection, link, method):
                    due.add(CHANGED[method])
            for name in sorted(due):
                self._changed(connection, name)
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(_PAUSE):
                    await link.channel.closed.wait()
        except (errors.SidecarError, msgspec.DecodeError, TimeoutError) as error:
            logger.debug("the lists could not be compared: %s", error, extra=connection.label)
        finally:
            del self._comparing[connection]
            again = self._again.pop(connection, None)
            if again is not None and again.channel.error is None:
                self.compare_soon(connection, again)

    async def _differs(self, connection: Connection, link: Link, method: str) -> bool:
        seen = self._pages[connection][method]
        now: Pages = {}
        cursor: msgspec.Raw | None = None
        async with asyncio.timeout(_SECONDS):
            for _ in range(len(seen)):
                params = {"cursor": cursor} if cursor is not None else {}
                result = await send(connection, link, method, params)
                now[bytes(cursor) if cursor is not None else _FIRST] = _hash(method, result)
                cursor = frames.member(msgspec.Raw(bytes(result)), "nextCursor")
                if cursor is None or bytes(cursor) == b"null":
                    break
        # Cursors may be spelled anew by a server that came back: the pages count.
        if sorted(now.values()) == sorted(seen.values()):
            return False
        self._pages[connection][method] = now
        return True


def _hash(method: str, result: Payload) -> int:
    parts = frames.members(msgspec.Raw(bytes(result)))
    more = parts.get("nextCursor")
    last = more is None or bytes(more) == b"null"
    return hash((bytes(parts.get(wire.LISTS[method], _NONE)), last))


_NONE: Final = msgspec.Raw(b"[]")
