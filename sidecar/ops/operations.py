"""MCP operations of the host: the envelope is ours, everything else goes to the server as the bytes it is.

The way of one call: envelope -> connection -> channel -> server, and the bytes of its result back.
"""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING, Any, Final

import msgspec

from sidecar import errors, frames, wire
from sidecar.config import invalid
from sidecar.hub import Hub, ScopeKey, scope_body
from sidecar.ops import policy
from sidecar.ops.dialogue import Dialogue
from sidecar.ops.envelope import Envelope, Envelopes
from sidecar.ops.payload import MAX_PAGES, X_HEADER, build, has_more, join_list, listed
from sidecar.ops.send import stamp
from sidecar.ops.tools import guards_calls
from sidecar.request import Request, seconds_of
from sidecar.transports.faults import Payload, bad_peer
from sidecar.transports.http import SessionGone

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from sidecar.callbacks import Notices
    from sidecar.connection import Connection, Link
    from sidecar.ops.talk import Talk
    from sidecar.ops.tools import Tools
    from sidecar.request import Outcome
    from sidecar.rpc import Work
    from sidecar.transports.channel import OnProgress, Track

TRIES: Final = 3
TRY_SECONDS: Final = 1.0
_RETRIED: Final = (errors.ConnectFailed, errors.ConnectionLost, errors.ServerExited, errors.Unresponsive)
_NEVER_AFTER_MAYBE: Final = frozenset(
    {"tools/call", "logging/setLevel", "resources/subscribe", "resources/unsubscribe", "tasks/cancel"}
)
_NOTED: Final = frozenset({*wire.LISTS, "skills/get"})
_CAPABILITY: Final = {
    "tools": "tools",
    "resources": "resources",
    "prompts": "prompts",
    "completion": "completions",
    "logging": "logging",
}
_EXTENSIONS: Final = {"tasks": "io.modelcontextprotocol/tasks", "skills": "io.modelcontextprotocol/skills"}
_UNDECLARED: Final = frozenset({("completions", "2024-11-05"), ("logging", "2026-07-28")})
"""Offers that a version has, but no capability for."""


class Operations:
    """Serves the MCP operations of the contract."""

    def __init__(self, hub: Hub, notices: Notices, tools: Tools, talk: Talk) -> None:
        """Find connections in `hub`; tell progress through `notices`.

        `tools` watches lists and calls, `talk` follows servers that ask back.
        """
        self._hub = hub
        self._notices = notices
        self.tools = tools
        self._envelopes = Envelopes()
        self._dialogue = Dialogue(talk, self._send)
        self._works = {"logging/setLevel": self._set_level, **self._dialogue.works()}

    def serve(self, request: Request) -> Work:
        """Take an operation: everything that can be wrong with it on this side is found here, at once."""
        envelope = self._envelopes.read(request)
        connection = self._hub.find(envelope.scope, envelope.server)
        request.address = (envelope.server, scope_body(envelope.scope))
        envelope.tools = connection.config.tools
        if request.method == "tools/call":
            policy.check_call(envelope.tools, envelope.params)
        millis = envelope.timeout_ms
        seconds = seconds_of(millis) if millis is not None else connection.config.request_seconds
        self._admit(request, envelope.scope)
        request.arm(seconds)
        request.on_abandoned = connection.abandoned
        return self._run(request, envelope, connection)

    def _admit(self, request: Request, scope: ScopeKey) -> None:
        hub = self._hub
        for count, limit in (
            (hub.in_flight, "maxInFlight"),
            (hub.in_flight_by_scope[scope], "maxInFlightPerScope"),
        ):
            if count >= hub.limits[limit]:
                raise errors.Overloaded(
                    "too many operations in flight: wait for answers, or raise the limit",
                    limit=limit,
                    value=hub.limits[limit],
                )
        hub.in_flight += 1
        hub.in_flight_by_scope[scope] += 1

        def answered() -> None:
            hub.in_flight -= 1
            hub.in_flight_by_scope[scope] -= 1
            if not hub.in_flight_by_scope[scope]:
                del hub.in_flight_by_scope[scope]

        request.on_answered = answered

    # -- running ----------------------------------------------------------------------------------------------

    async def _run(self, request: Request, envelope: Envelope, connection: Connection) -> Outcome:
        if request.method == "roots/set":
            return self._dialogue.set_roots(envelope, connection)
        work = self._works.get(request.method, self._once)
        if envelope.all:
            work = self._all_pages
        elif request.method == "tools/call" and guards_calls(envelope.tools):
            work = self._guarded
        return await self._with_retry(request, envelope, connection, work)

    async def _with_retry(
        self,
        request: Request,
        envelope: Envelope,
        connection: Connection,
        work: Callable[[Request, Envelope, Connection, Link], Any],
    ) -> Outcome:
        """Run `work`, and again only as wire section 6 allows it."""
        begun = request.peer.loop.time()
        tries = 0
        repeated = False
        lost: errors.SidecarError | None = None
        while True:
            tries += 1
            link = await _link(connection, request, lost, begun + TRY_SECONDS)
            request.delivered = "no"
            try:
                return await self._try(request, envelope, connection, link, work)
            except SessionGone as error:
                connection.renew(link)
                if tries > 1:
                    raise
                lost = error
            except _RETRIED as error:
                if isinstance(error, errors.ConnectFailed):
                    connection.unreachable(link, error)
                if error.extra.get("reason") == "disconnected":
                    raise
                if error.delivered == "no" and tries < TRIES and request.peer.loop.time() - begun < TRY_SECONDS:
                    pass
                elif error.delivered == "maybe" and not repeated and _repeatable(request.method, envelope):
                    repeated = True
                else:
                    raise
                lost = error
            request.attempts = tries + 1

    async def _try(
        self,
        request: Request,
        envelope: Envelope,
        connection: Connection,
        link: Link,
        work: Callable[[Request, Envelope, Connection, Link], Any],
    ) -> Outcome:
        """Make one try over one link, and let the connection know how it went."""
        _check_offered(request.method, link)
        trying = connection.circuit.check()
        error: errors.SidecarError | None = errors.Cancelled("left")
        try:
            await connection.gate.enter(request)
            try:
                outcome: Payload = await work(request, envelope, connection, link)
            finally:
                connection.gate.leave()
            error = None
        except errors.SidecarError as caught:
            error = caught
            raise
        finally:
            connection.finished(error, trying=trying)
        return outcome  # type: ignore[return-value]  # a view of bytes is written like bytes

    async def _guarded(self, request: Request, envelope: Envelope, connection: Connection, link: Link) -> Payload:
        """Call a tool whose policy has a say before and after."""
        assert envelope.tools is not None
        request.phase = "connect"
        schema = await self.tools.before(connection, link, envelope.tools, envelope.params)
        result = await self._once(request, envelope, connection, link)
        left = envelope.detach and frames.member(msgspec.Raw(bytes(result)), "taskId") is not None
        if schema is not None and not left:
            await self.tools.after(connection, schema, result)
        return result

    async def _once(self, request: Request, envelope: Envelope, connection: Connection, link: Link) -> Payload:
        params = self._dialogue.outgoing(request, envelope, link)
        try:
            result = await self._send(request, envelope, connection, link, params)
        except errors.RemoteError as error:
            result = await self._dialogue.failed(request, envelope, connection, link, params, error)
        result = await self._dialogue.finish(request, envelope, connection, link, params, result)
        if request.method in _NOTED:
            self._dialogue.passed(request.method, connection, link, params, result)
        if request.method != "tools/list":
            return result
        connection.tools_listed = time.time()
        looked_at = self.tools.looks_at(connection, result)
        rebuilt = policy.restricts(envelope.tools) or (link.agreed.modern and X_HEADER in bytes(result))
        if not looked_at and not rebuilt:
            return result
        elements = listed(link, result, request.method)
        if looked_at:
            whole = "cursor" not in envelope.params and not has_more(result)
            await self.tools.listed(connection, elements, whole=whole)
        if not rebuilt:
            return result
        found = policy.visible(envelope.tools, elements)
        return join_list(request.method, result, found)

    async def _send(
        self,
        request: Request,
        envelope: Envelope,
        connection: Connection,
        link: Link,
        params: Mapping[str, msgspec.Raw],
        method: str | None = None,
        track: Track | None = None,
    ) -> Payload:
        method = method if method is not None else request.method
        meta, headers = stamp(connection, link, method, params, envelope.headers)
        on_progress: Callable[[int], tuple[Payload, OnProgress]] | None = None
        if envelope.progress:

            def on_progress(token: int) -> tuple[Payload, OnProgress]:
                with_token = {**meta, "progressToken": b"%d" % token}
                envelope.hears = (token, self._progress(request, connection))
                return build(params, with_token), envelope.hears[1]

            body: Payload = b""
        else:
            body = build(params, meta)
        track = track if track is not None else request
        return await link.channel.request(method, body, track, headers=headers, on_progress=on_progress)

    def _progress(self, request: Request, connection: Connection) -> OnProgress:
        head = b'{"server":%b,"scope":%b,"requestId":%b' % (
            frames.quote(connection.name),
            msgspec.json.encode(connection.scope),
            request.raw_id,
        )

        def tell(raw: msgspec.Raw) -> None:
            if request.answered:
                return
            parts = frames.members(raw)
            body = [head]
            for name in ("progress", "total", "message"):
                value = parts.get(name)
                if value is not None and bytes(value) != b"null":
                    body.append(b',"%b":%b' % (name.encode(), frames.one_line(bytes(value))))
            if "progress" in parts:
                self._notices.progress(b"".join((*body, b"}")))

        return tell

    async def _set_level(self, request: Request, envelope: Envelope, connection: Connection, link: Link) -> Payload:
        level = envelope.params.get("level")
        if link.agreed.modern and (level is None or frames.text_of(level) is None):
            raise invalid("/level", "must be a string")
        if not link.agreed.modern:
            await self._send(request, envelope, connection, link, envelope.params)
        # The modern era has no such request: the level rides on every request instead.
        connection.desired.log_level = bytes(level) if level is not None else None
        return b"{}"

    async def _all_pages(self, request: Request, envelope: Envelope, connection: Connection, link: Link) -> Payload:
        """Follow the pages and return one list; elements keep their bytes."""
        last, found = await self._pages(request, envelope, connection, link)
        if request.method == "tools/list":
            connection.tools_listed = time.time()
            await self.tools.listed(connection, found, whole="cursor" not in envelope.params)
            found = policy.visible(envelope.tools, found)
        return join_list(request.method, last, found)

    async def count(self, request: Request, connection: Connection, link: Link, method: str) -> int | None:
        """Return how many elements a list has that the host would see; None where the server does not offer it."""
        try:
            _check_offered(method, link)
        except errors.CapabilityMissing:
            return None
        tools = connection.config.tools if method == "tools/list" else None
        listing = Request(request.peer, request.key, request.raw_id, method, b"{}")
        envelope = Envelope(("", "", ""), connection.name, None, True, False, False, {}, {}, tools)
        try:
            _, found = await self._pages(listing, envelope, connection, link)
        except errors.RemoteError:
            if link.agreed.capabilities:
                raise
            return None  # it declares nothing at all, and has no such list
        return len(policy.visible(tools, found))

    async def _pages(
        self, request: Request, envelope: Envelope, connection: Connection, link: Link
    ) -> tuple[Payload, list[msgspec.Raw]]:
        """Follow the pages; return the last one, and the elements of all."""
        found: list[msgspec.Raw] = []
        params = dict(envelope.params)
        seen: set[bytes] = set()
        size = 0
        for _ in range(MAX_PAGES):
            result = await self._send(request, envelope, connection, link, params)
            elements = listed(link, result, request.method)
            self._dialogue.passed(request.method, connection, link, params, result)
            size += len(result)
            if size > request.peer.max_frame:
                raise errors.ResultTooLarge(
                    "all pages together are longer than maxFrameBytes: read page by page",
                    delivered="yes",
                    bytes=size,
                    limit=request.peer.max_frame,
                )
            found += elements
            cursor = frames.member(msgspec.Raw(bytes(result)), "nextCursor")
            if cursor is None or bytes(cursor) == b"null":
                return result, found
            if bytes(cursor) in seen:
                raise bad_peer("the list repeats a cursor", "yes")
            seen.add(bytes(cursor))
            params["cursor"] = cursor
        raise bad_peer(f"the list has more than {MAX_PAGES} pages", "yes")

    async def ping(self, request: Request, connection: Connection) -> Outcome:
        """Ask the server whether it answers, with what its era has for it."""

        async def work(request: Request, envelope: Envelope, connection: Connection, link: Link) -> Payload:
            method = "server/discover" if link.agreed.modern else "ping"
            await self._send(request, envelope, connection, link, {}, method)
            return b"{}"

        scope = ("", "", "")
        nothing = Envelope(scope, connection.name, None, False, False, True, {}, {})
        return await self._with_retry(request, nothing, connection, work)


async def _link(connection: Connection, request: Request, lost: errors.SidecarError | None, until: float) -> Link:
    """Return the live link. A repetition of what never left waits no longer than the second it has."""
    if lost is None:
        return await connection.acquire(request)
    bounded = lost.delivered == "no" and not isinstance(lost, SessionGone)
    try:
        async with asyncio.timeout_at(until if bounded else None):
            return await connection.acquire(request)
    except TimeoutError:
        raise lost from None
    except errors.SidecarError as error:
        if isinstance(lost, SessionGone):
            raise errors.SessionExpired(
                f"the session expired, and a new one could not be made: {error.message}", delivered="no"
            ) from None
        # Never say "no" of a call that may have arrived, and what it died of says more than what came after.
        raise lost from None


def _check_offered(method: str, link: Link) -> None:
    """Refuse what the server does not offer. One that declares nothing at all is asked all the same."""
    kind = method.partition("/")[0]
    offered = link.agreed.capabilities
    if kind in _EXTENSIONS and isinstance(offered, dict) and offered:
        parts = offered.get("extensions")
        core = kind == "tasks" and not link.agreed.modern and offered.get(kind) is not None
        if not core and (not isinstance(parts, dict) or _EXTENSIONS[kind] not in parts):
            raise errors.CapabilityMissing(f"the server does not offer {kind}", capability=kind)
        return
    capability = _CAPABILITY.get(kind)
    if capability is None or not isinstance(offered, dict) or not offered or offered.get(capability) is not None:
        return
    if (capability, link.agreed.version) in _UNDECLARED:
        return
    raise errors.CapabilityMissing(f"the server does not offer {capability}", capability=capability)


def _repeatable(method: str, envelope: Envelope) -> bool:
    return method not in _NEVER_AFTER_MAYBE or (method == "tools/call" and envelope.idempotent)
