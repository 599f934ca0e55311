"""Tools under watch: pins compared before a call, results checked against their schemas after it.

Lists of the host are looked at as they pass. Lists of the sidecar's own are read for connections whose policy pins
tools or enforces schemas: when a link is made, when the server says that its tools have changed, and, under
`pin: "enforce"`, before each call unless the server said how long its list holds (`ttlMs`).
"""

from __future__ import annotations

import asyncio
import logging
import time
import weakref
from typing import TYPE_CHECKING, Any, Final

import msgspec

from sidecar import errors, frames
from sidecar.checks.book import Change, ToolBook
from sidecar.checks.definitions import may_hide
from sidecar.hub import scope_key
from sidecar.ops.payload import MAX_PAGES, build, listed, modern_headers
from sidecar.transports.channel import Steps
from sidecar.transports.faults import bad_peer, copy_error

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from sidecar import wire
    from sidecar.checks.pool import Checkers
    from sidecar.connection import Connection, Link
    from sidecar.transports.channel import Call
    from sidecar.transports.faults import Payload

logger: Final = logging.getLogger(__name__)

LIST: Final = "tools/list"
CHANGED: Final = "catalog/toolChanged"
_ALL_BYTES: Final = 64 << 20
_TTL_MAX: Final = 3600.0


class _Watch:
    """One address under watch."""

    def __init__(self) -> None:
        self.book = ToolBook()
        self.link: weakref.ref[Link] | None = None
        """The link that the book was last read over."""
        self.fresh_until = 0.0
        self.reading: asyncio.Task[None] | None = None
        self.next: asyncio.Task[None] | None = None


class Tools:
    """The tool books of all connections."""

    def __init__(self, checkers: Checkers, tell: Callable[[str, Mapping[str, Any]], None]) -> None:
        """Have `checkers` do what may cost time, and `tell` the host of changes."""
        self._checkers = checkers
        self._tell = tell
        self._watches: weakref.WeakKeyDictionary[Connection, _Watch] = weakref.WeakKeyDictionary()
        self._tasks: set[asyncio.Task[None]] = set()

    def notified(self, connection: Connection, method: str, params: msgspec.Raw, call: Call | None) -> None:
        """Take a notification of a server: of interest is that its tools have changed."""
        del params, call
        if method == "notifications/tools/list_changed":
            self.changed(connection)

    # -- what happens to a connection -------------------------------------------------------------------------

    async def opened(self, connection: Connection, link: Link) -> None:
        """Read the tools of a new link, before anybody sees that it is ready."""
        if not pinned(connection.config.tools):
            return
        try:
            await self._read(connection, link)
        except errors.SidecarError as error:
            if link.channel.error is not None:
                raise
            # Under `enforce` each call asks again, and is refused as long as there is no list.
            logger.warning("the tools cannot be listed to pin them: %s", error.message, extra=connection.label)

    def changed(self, connection: Connection) -> None:
        """Take the server's word that its tools have changed."""
        watch = self._watches.get(connection)
        if watch is not None:
            watch.fresh_until = 0.0
            watch.link = None
        self._read_soon(connection)

    def _read_soon(self, connection: Connection) -> None:
        if pinned(connection.config.tools) and connection.link is not None:
            task = asyncio.get_running_loop().create_task(self._reread(connection, connection.link))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    async def _reread(self, connection: Connection, link: Link) -> None:
        try:
            await self._fresh(connection, link)
        except errors.SidecarError as error:
            logger.warning("the changed tools cannot be listed: %s", error.message, extra=connection.label)

    def policy_changed(self, connection: Connection) -> None:
        """Show what the new policy makes of the pins, and read the tools where it pins them for the first time."""
        watch = self._watch(connection)
        self._show(connection, watch)
        if watch.book.first is None:
            self._read_soon(connection)

    # -- calls ------------------------------------------------------------------------------------------------

    async def before(
        self, connection: Connection, link: Link, policy: wire.ToolPolicy, params: Mapping[str, msgspec.Raw]
    ) -> bytes | None:
        """Compare a tool with its pin and return the schema that its result must pass. Raises ToolChanged."""
        name = frames.text_of(params.get("name", frames.ABSENT))
        if name is None:
            return None
        watch = self._watch(connection)
        loop = asyncio.get_running_loop()
        stale = loop.time() >= watch.fresh_until if policy.pin == "enforce" else False
        if watch.link is None or watch.link() is not link or stale:
            await self._fresh(connection, link)
        if policy.pin == "enforce":
            watch.book.check(policy, name)
        return watch.book.schemas.get(name) if policy.output_schema == "enforce" else None

    async def after(self, connection: Connection, schema: bytes, result: Payload) -> None:
        """Check a result of a tool against its schema. Raises SchemaViolation."""
        members = frames.members(bytes(result))
        kind = members.get("resultType")
        if kind is not None and frames.text_of(kind) not in {None, "complete"}:
            return  # a question or a task: no result yet
        if "task" in members or bytes(members.get("isError", frames.ABSENT)) == b"true":
            return  # what failed has no structure to promise
        structured = members.get("structuredContent")
        if structured is None:
            text = "the tool promises structured content, and its result has none"
            raise errors.SchemaViolation(text, delivered="yes", path="")
        await self._checkers.check(scope_key(connection.scope), schema, frames.view(structured))

    # -- lists ------------------------------------------------------------------------------------------------

    def looks_at(self, connection: Connection, result: Payload) -> bool:
        """Tell quickly whether a list of the host is of interest as it passes."""
        watch = self._watches.get(connection)
        known = watch is not None and bool(watch.book.warnings)
        return known or watched(connection.config.tools) or may_hide(bytes(result))

    async def listed(self, connection: Connection, tools: Sequence[msgspec.Raw], *, whole: bool) -> None:
        """Take a list of the host, or a page of it; `whole` where it has all tools."""
        if connection not in self._watches and not watched(connection.config.tools):
            tools = [tool for tool in tools if may_hide(bytes(tool))]
            if not tools:
                return
        await self._learn(connection, self._watch(connection), tools, whole=whole)

    async def _learn(self, connection: Connection, watch: _Watch, tools: Sequence[msgspec.Raw], *, whole: bool) -> None:
        named = [(name, tool) for tool in tools if (name := _name(tool)) is not None]
        digests = await self._checkers.digests(scope_key(connection.scope), [tool for _, tool in named])
        for change in watch.book.learn(connection.config.tools, named, digests, whole=whole):
            self._tell_change(connection, change)
        self._show(connection, watch)

    def _tell_change(self, connection: Connection, change: Change) -> None:
        logger.warning("the definition of tool %r is not as it was pinned", change.tool[:200], extra=connection.label)
        body: dict[str, Any] = {"server": connection.name, "scope": connection.scope, "tool": change.tool}
        body |= {"oldHash": change.old_hash, "newHash": change.new_hash, "diff": change.diff}
        self._tell(CHANGED, body)

    def _show(self, connection: Connection, watch: _Watch) -> None:
        info = watch.book.info(connection.config.tools)
        for name in ("pins", "warnings"):
            if name in info:
                connection.extra_info[name] = info[name]
            else:
                connection.extra_info.pop(name, None)

    def _watch(self, connection: Connection) -> _Watch:
        watch = self._watches.get(connection)
        if watch is None:
            watch = self._watches[connection] = _Watch()
        return watch

    # -- lists of our own -------------------------------------------------------------------------------------

    async def _fresh(self, connection: Connection, link: Link) -> None:
        """Wait for a list that is asked for from now on; all who wait at the same time share one."""
        watch = self._watch(connection)
        if watch.next is None:
            watch.next = asyncio.get_running_loop().create_task(self._read_after(connection, link, watch))
            watch.next.add_done_callback(_retrieve)
        try:
            await asyncio.shield(watch.next)
        except errors.SidecarError as error:
            raise copy_error(error, "no") from None

    async def _read_after(self, connection: Connection, link: Link, watch: _Watch) -> None:
        if watch.reading is not None:
            await asyncio.wait({watch.reading})
        watch.reading, watch.next = watch.next, None
        try:
            async with asyncio.timeout(connection.config.request_seconds):
                await self._read(connection, link)
        except TimeoutError:
            raise errors.DeadlineExceeded("the server did not list its tools in time", phase="connect") from None
        finally:
            watch.reading = None

    async def _read(self, connection: Connection, link: Link) -> None:
        """Read all pages of the tools and learn them."""
        watch = self._watch(connection)
        found: list[msgspec.Raw] = []
        params: dict[str, msgspec.Raw] = {}
        ttl = _TTL_MAX
        size = 0
        asked = asyncio.get_running_loop().time()
        for _ in range(MAX_PAGES if _offers_tools(link) else 0):
            result = await self._page(link, params)
            size += len(result)
            found += listed(link, result, LIST)
            raw = msgspec.Raw(bytes(result))
            ttl = min(ttl, _ttl(frames.member(raw, "ttlMs")))
            cursor = frames.member(raw, "nextCursor")
            if cursor is None or bytes(cursor) == b"null":
                break
            if size > _ALL_BYTES or bytes(cursor) == bytes(params.get("cursor", frames.ABSENT)):
                raise bad_peer("the list of tools does not end", "yes")
            params["cursor"] = cursor
        else:
            if _offers_tools(link):
                raise bad_peer(f"the list of tools has more than {MAX_PAGES} pages", "yes")
        await self._learn(connection, watch, found, whole=True)
        connection.tools_listed = time.time()
        watch.link = weakref.ref(link)
        watch.fresh_until = asked + ttl

    async def _page(self, link: Link, params: Mapping[str, msgspec.Raw]) -> Payload:
        meta: dict[str, bytes] = {}
        headers: dict[str, str] | None = None
        if link.agreed.modern:
            meta = dict(link.agreed.meta)
            headers = modern_headers(link, LIST, params)
        return await link.channel.request(LIST, build(params, meta), Steps(), headers=headers)


def pinned(policy: wire.ToolPolicy | None) -> bool:
    """Tell whether a policy pins tools."""
    return policy is not None and policy.pin in {"report", "enforce"}


def watched(policy: wire.ToolPolicy | None) -> bool:
    """Tell whether a policy needs to know the tools."""
    return policy is not None and (pinned(policy) or policy.output_schema == "enforce")


def guards_calls(policy: wire.ToolPolicy | None) -> bool:
    """Tell whether a policy has something to say before or after a call."""
    return policy is not None and (policy.pin == "enforce" or policy.output_schema == "enforce")


def _name(tool: msgspec.Raw) -> str | None:
    return frames.text_of(frames.member(tool, "name") or frames.ABSENT)


def _ttl(raw: msgspec.Raw | None) -> float:
    if raw is None or not frames.is_integer(bytes(raw)):
        return 0.0
    return max(0, int(bytes(raw)[:12])) / 1000


def _offers_tools(link: Link) -> bool:
    offered = link.agreed.capabilities
    return not isinstance(offered, dict) or not offered or offered.get("tools") is not None


def _retrieve(task: asyncio.Task[None]) -> None:
    if not task.cancelled():
        task.exception()  # whoever waited may have left
