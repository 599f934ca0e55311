"""The method table: each name of the contract and the function that serves it."""

from __future__ import annotations

import resource
from typing import TYPE_CHECKING, Any

from sidecar import wire
from sidecar.auth.book import Book
from sidecar.auth.egress import EgressPolicy
from sidecar.auth.world import World
from sidecar.callbacks import Host, Notices
from sidecar.checks.pool import Checkers
from sidecar.early import limits_body
from sidecar.hub import Hub
from sidecar.methods.auth import AuthMethods
from sidecar.methods.process import ProcessMethods
from sidecar.methods.servers import ServerMethods
from sidecar.methods.workbench import WorkbenchMethods
from sidecar.ops import Operations
from sidecar.ops.talk import Talk
from sidecar.ops.tools import Tools
from sidecar.transports.guard import Guard
from sidecar.vault import open_vault

if TYPE_CHECKING:
    from sidecar.rpc import Handler
    from sidecar.serve import Process


class Methods:
    """Serves everything but `initialize` and `ping`."""

    def __init__(self, process: Process) -> None:
        """Build what serves; the settings are those of the process's agreement."""
        self._agreement = process.agreement
        soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
        self.host = Host(process.peer, {})
        self.vault = open_vault(lambda: self._agreement.vault, process.environ, self.host)
        self._notices = Notices(process.peer)
        guard = Guard(soft)
        talk = Talk(self.host, self._notices)
        self.hub = Hub(self._notices, guard, process.engine, process.environ, talk)
        world = World(self.vault, self.host, self._notices, lambda: self.hub.policy, process.environ)
        self._book = Book(world)
        self.hub.seat = lambda connection: self._book.take_seat(connection, connection.config)
        self.agree()
        self._checkers = Checkers(guard)
        tools = Tools(self._checkers, self._notices.tell)
        self.hub.restorers += [tools.opened, talk.restore]
        self.hub.listeners += [tools.notified, talk.notified]
        self.hub.gap_listeners += [tools.changed, talk.missed]
        talk.also_missed = tools.changed
        self._operations = Operations(self.hub, self._notices, tools, talk)
        workbench = WorkbenchMethods(process, self.hub, self._operations)
        self._parts = (
            ProcessMethods(process, self.hub, self.vault),
            ServerMethods(process, self.hub, self._operations, self._book),
            AuthMethods(self.hub, self._book),
            workbench,
        )
        workbench.know(self._agreement.servers)

    def agree(self) -> None:
        """Take over what `initialize` agreed on: it may come after the models were loaded."""
        self.host.promise(self._agreement.capabilities)
        self.hub.policy = _policy(self._agreement.egress)
        self.hub.limits = limits_body(self._agreement.limits)

    def table(self) -> dict[str, Handler]:
        """Return the handlers by method name."""
        table: dict[str, Handler] = dict.fromkeys(
            (method.name for method in wire.METHODS if method.params is wire.Operation), self._operations.serve
        )
        for part in self._parts:
            table |= part.table()
        return table

    def pressure(self, pressed: bool) -> None:
        """Note that the host reads too slowly, or keeps up again."""
        self._notices.pressure(pressed)
        self.hub.pressure(pressed)

    async def close(self) -> None:
        """Close every connection, then the vault."""
        await self._checkers.aclose()
        self._book.begin_closing()
        await self.hub.close_all()
        await self._book.aclose()
        await self.vault.aclose()


def _policy(egress: Any) -> EgressPolicy:
    return EgressPolicy(
        allow_hosts=tuple(egress.allow_hosts) if egress.allow_hosts is not None else None,
        deny_hosts=tuple(egress.deny_hosts or ()),
        allow_private=tuple(egress.allow_private or ()),
        allow_http=tuple(egress.allow_http or ()),
        allow_commands=tuple(egress.allow_commands) if egress.allow_commands is not None else None,
        trust_connect_origin=egress.trust_connect_origin is not False,
    )
