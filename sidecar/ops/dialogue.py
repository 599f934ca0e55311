"""The operations in which a server has more to say than one answer: rounds, tasks, subscriptions, roots, skills."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any, Final

import msgspec

from sidecar import engine, errors, frames
from sidecar.config import invalid, pointer
from sidecar.ops import tasks
from sidecar.ops.payload import listed
from sidecar.ops.questions import Later
from sidecar.ops.rounds import after_first, refusal_of, result_type
from sidecar.ops.send import send
from sidecar.transports.faults import Payload, bad_peer

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Mapping

    from sidecar.connection import Connection, Link
    from sidecar.ops.envelope import Envelope
    from sidecar.ops.talk import Talk
    from sidecar.request import Outcome, Request

    Work = Callable[[Request, Envelope, Connection, Link], Awaitable[Payload]]

logger: Final = logging.getLogger(__name__)

HEADER_MISMATCH: Final = -32020
_RELIST_PAGES: Final = 1000
_CALL: Final = "tools/call"
_TASK: Final = "task"


class Dialogue:
    """Serves what takes more than one message."""

    def __init__(self, talk: Talk, ask: Callable[..., Awaitable[Payload]]) -> None:
        """Send a call of the host with `ask`."""
        self._talk = talk
        self._ask = ask

    def works(self) -> dict[str, Work]:
        """Return what serves methods that are more than one request."""
        return {
            "resources/subscribe": self._subscribe,
            "resources/unsubscribe": self._unsubscribe,
            "tasks/get": self._task,
            "tasks/cancel": self._task,
            "tasks/result": self._task_result,
            "skills/read": self._read_skill,
        }

    # -- calls ------------------------------------------------------------------------------------------------

    def outgoing(self, request: Request, envelope: Envelope, link: Link) -> Mapping[str, msgspec.Raw]:
        """Return the params of a call as they are sent: to leave it in the background, the older era must be asked."""
        params = envelope.params
        if envelope.detach and not link.agreed.modern and _TASK not in params and tasks.augments(link):
            return {**params, _TASK: _EMPTY}
        del request
        return params

    async def finish(
        self,
        request: Request,
        envelope: Envelope,
        connection: Connection,
        link: Link,
        params: Mapping[str, msgspec.Raw],
        result: Payload,
    ) -> Payload:
        """Follow a first answer to the result: through rounds, and to the end of a task."""
        if not link.agreed.modern:
            if request.method == _CALL and _TASK in params and tasks.augments(link):
                task = tasks.object_of(result, modern=False)
                if task is not None:
                    return await self._background(request, envelope, connection, link, task)
            return result
        kind = result_type(result)
        if kind == "input_required":

            async def again(follow: Mapping[str, msgspec.Raw], later: Later) -> Payload:
                return await self._ask(request, envelope, connection, link, follow, track=later)

            result = await self._talk.rounds.drive(request, connection, params, result, again)
            kind = result_type(result)
        if kind == _TASK and request.method == _CALL:
            task = tasks.object_of(result, modern=True)
            assert task is not None
            return await self._background(request, envelope, connection, link, task)
        if kind != "complete":
            raise bad_peer(f"unknown resultType {kind[:60]!r}", "yes")
        if request.method == _CALL and refusal_of(result):
            self.needs_push(connection)
        return result

    async def _background(
        self, request: Request, envelope: Envelope, connection: Connection, link: Link, task: msgspec.Raw
    ) -> Payload:
        if not envelope.detach:
            # The token of the call holds for its task too.
            token, receiver = envelope.hears or (None, None)
            if receiver is not None:
                link.channel.receivers[token] = receiver
            try:
                return await self._talk.tasks.drive(request, connection, link, task)
            finally:
                link.channel.receivers.pop(token, None)
        name = self._talk.tasks.detach(connection, task)
        if link.agreed.modern:
            self._talk.subscriptions.watch_task(connection, link, name)
        return frames.one_line(bytes(task))

    async def failed(
        self,
        request: Request,
        envelope: Envelope,
        connection: Connection,
        link: Link,
        params: Mapping[str, msgspec.Raw],
        error: errors.RemoteError,
    ) -> Payload:
        """Mend a call that the server refused for its headers: read the tools again, send once more.

        Raises `error` for everything else.
        """
        if not link.agreed.modern:
            raise error
        remote = error.extra["remote"]
        if refusal_of(error.message.encode()):
            self.needs_push(connection)
        if request.method != _CALL or bytes(remote["code"]) != b"%d" % HEADER_MISMATCH:
            raise error
        try:
            await self._relist(request, connection, link)
        except errors.SidecarError as why:
            logger.info("the tools could not be read again: %s", why, extra=connection.label)
            raise error from None
        try:
            return await self._ask(request, envelope, connection, link, params, track=Later(request))
        except errors.SidecarError as again:
            raise after_first(again) from None

    async def _relist(self, request: Request, connection: Connection, link: Link) -> None:
        cursor: msgspec.Raw | None = None
        for _ in range(_RELIST_PAGES):
            page = {"cursor": cursor} if cursor is not None else {}
            result = await send(connection, link, "tools/list", page, Later(request))
            listed(link, result, "tools/list")
            cursor = frames.member(msgspec.Raw(bytes(result)), "nextCursor")
            if cursor is None or bytes(cursor) == b"null":
                return

    def needs_push(self, connection: Connection) -> None:
        """Hint that this server asks back in a way that this connection has no place for."""
        if connection.hint is None:
            connection.hint = "needsPush"
            connection.tell()

    # -- subscriptions and roots ------------------------------------------------------------------------------

    async def _subscribe(self, request: Request, envelope: Envelope, connection: Connection, link: Link) -> Payload:
        async def ask() -> Payload:
            return await self._ask(request, envelope, connection, link, envelope.params)

        return await self._talk.subscriptions.subscribe(connection, link, envelope.params, ask)

    async def _unsubscribe(self, request: Request, envelope: Envelope, connection: Connection, link: Link) -> Payload:
        async def ask() -> Payload:
            return await self._ask(request, envelope, connection, link, envelope.params)

        return await self._talk.subscriptions.unsubscribe(connection, link, envelope.params, ask)

    def set_roots(self, envelope: Envelope, connection: Connection) -> Outcome:
        """Serve `roots/set`: nothing is opened for it; a server that was promised so is told."""
        raw = envelope.params.get("roots")
        try:
            roots = frames.elements(raw) if raw is not None else None
            uris = [frames.text_of(frames.members(root).get("uri", _EMPTY)) for root in roots or ()]
        except msgspec.DecodeError:
            roots = None
        if raw is None or roots is None:
            raise invalid("/roots", "must be an array of roots")
        for index, uri in enumerate(uris):
            if uri is None:
                raise invalid(pointer("roots", index, "uri"), "must be a string")
        connection.desired.roots = frames.one_line(bytes(raw))
        link = connection.link
        if link is not None:
            promised = self._talk.promised(connection)
            if link.agreed.modern:
                link.agreed.meta |= engine.capabilities_meta(promised, link.agreed.version)
            elif promised.get("roots", {}).get("listChanged") is True:
                link.channel.notify_raw("notifications/roots/list_changed", b"{}")
        return b"{}"

    # -- tasks and skills -------------------------------------------------------------------------------------

    async def _task(self, request: Request, envelope: Envelope, connection: Connection, link: Link) -> Payload:
        name = tasks.named(envelope.params)
        result = await self._ask(request, envelope, connection, link, envelope.params)
        if request.method == "tasks/cancel":
            self._talk.tasks.ended(connection, name)
        else:
            self._talk.tasks.seen(connection, result)
        return result

    async def _task_result(self, request: Request, envelope: Envelope, connection: Connection, link: Link) -> Payload:
        name = tasks.named(envelope.params)
        try:
            result = await self._talk.tasks.result(request, connection, link, name)
        except (errors.RemoteError, errors.Cancelled):
            self._talk.tasks.ended(connection, name)
            raise
        self._talk.tasks.ended(connection, name)
        return result

    async def _read_skill(self, request: Request, envelope: Envelope, connection: Connection, link: Link) -> Payload:
        return await self._talk.skills.read(request, connection, link, envelope.params)

    def passed(self, method: str, connection: Connection, link: Link, params: Any, result: Payload) -> None:
        """Note what a list says before it is passed on."""
        if method.startswith("skills/"):
            self._talk.skills.note(link, method, result)
        else:
            self._talk.lists.note(connection, method, params.get("cursor"), result)


_EMPTY: Final = msgspec.Raw(b"{}")
