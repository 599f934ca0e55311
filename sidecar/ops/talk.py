"""What servers ask and tell by themselves, for all connections: the hub's counterpart of the host's operations."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any, Final
from weakref import WeakKeyDictionary

import msgspec

from sidecar import frames
from sidecar.inbox import Inbox
from sidecar.ops.lists import CHANGED, Lists
from sidecar.ops.questions import Questions, addressed, asker
from sidecar.ops.rounds import Rounds
from sidecar.ops.skills import Skills
from sidecar.ops.subscriptions import ACKNOWLEDGED, Subscriptions
from sidecar.ops.tasks import Tasks

if TYPE_CHECKING:
    from collections.abc import Callable

    from sidecar.callbacks import Host, Notices
    from sidecar.connection import Connection, Link
    from sidecar.transports.channel import Call

logger: Final = logging.getLogger(__name__)

MESSAGE: Final = "notifications/message"
UPDATED: Final = "notifications/resources/updated"
ELICITED: Final = "notifications/elicitation/complete"
TASKS: Final = "notifications/tasks"
_TASK_NAMES: Final = frozenset({TASKS, "notifications/tasks/status"})
_LISTS: Final = frozenset(CHANGED.values())


class Talk:
    """Brings what servers say to the host, and what the host wants of them to every new link."""

    def __init__(self, host: Host, notices: Notices) -> None:
        """Ask `host`; tell through `notices`."""
        self.questions = Questions(host)
        self.rounds = Rounds(self.questions)
        self.tasks = Tasks(self.questions, self.rounds)
        self.lists = Lists(self._list_changed)
        self.subscriptions = Subscriptions(self._gap)
        self.tasks.on_ended = self.subscriptions.forget_task
        self.also_missed: Callable[[Connection], None] = lambda _: None
        """Told, besides, that changes of a modern server's lists may have been missed."""
        self.skills = Skills()
        self._notices = notices
        self._inboxes: WeakKeyDictionary[Connection, Inbox] = WeakKeyDictionary()

    def promised(self, connection: Connection) -> dict[str, Any]:
        """Return what the server of a connection is told of its host."""
        return self.questions.promised(connection)

    async def serve(self, connection: Connection, method: str, params: msgspec.Raw, call: Call | None) -> bytes:
        """Answer a request of a server. Raises ServerAnswer."""
        return await self.questions.serve(connection, method, params, call)

    async def restore(self, connection: Connection, link: Link) -> None:
        """Bring a new link to what the host wants of every link."""
        await self.subscriptions.restore(connection, link)
        if connection.generation:
            self.lists.compare_soon(connection, link)

    def notified(self, connection: Connection, method: str, params: msgspec.Raw, call: Call | None) -> None:
        """Take a notification of a server."""
        if method == MESSAGE:
            request = asker(call) or self.questions.of_task(connection, params)
            self._inbox(connection).log(MESSAGE, addressed(connection, params, request))
        elif method in _LISTS:
            self._inbox(connection).change(method, method, addressed(connection, params), apart=True)
        elif method == UPDATED:
            uri = frames.member(params, "uri")
            key = (UPDATED, bytes(uri) if uri is not None else b"")
            self._inbox(connection).change(key, UPDATED, addressed(connection, params), apart=True)
        elif method == ELICITED:
            self._inbox(connection).change(None, ELICITED, addressed(connection, params))
        elif method in _TASK_NAMES:
            self.tasks.seen(connection, params)
            self._inbox(connection).change(None, TASKS, addressed(connection, params))
        elif method == ACKNOWLEDGED:
            self.subscriptions.acknowledged(connection, params, call)
        else:
            logger.debug("a notification of the server: %s", method[:100], extra=connection.label)

    def missed(self, connection: Connection) -> None:
        """Look up what a stream that died may have told."""
        if connection.link is not None:
            self.lists.compare_soon(connection, connection.link)

    def _gap(self, connection: Connection, link: Link) -> None:
        self.lists.compare_soon(connection, link)
        self.also_missed(connection)

    def _list_changed(self, connection: Connection, method: str) -> None:
        self._inbox(connection).change(method, method, addressed(connection, _EMPTY), apart=True)

    def _inbox(self, connection: Connection) -> Inbox:
        inbox = self._inboxes.get(connection)
        if inbox is None:
            inbox = self._inboxes[connection] = Inbox(self._notices)
        return inbox


_EMPTY: Final = msgspec.Raw(b"{}")
