"""How much may be open at once: processes and memory. A full budget closes what was used least recently."""

from __future__ import annotations

import ctypes
import logging
import math
from collections import OrderedDict
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from sidecar import errors
from sidecar.memory import collect
from sidecar.opening import OPEN

if TYPE_CHECKING:
    from collections.abc import Awaitable, Mapping

    from sidecar.connection import Connection

logger: Final = logging.getLogger(__name__)

COST: Final = 128 * 1024
"""Bytes of memory that one open connection is taken to hold (measured: 60 to 130 kB)."""
_EVICTIONS: Final = 16
"""Connections that one newcomer may cost: memory comes back to the system late."""
_STATM: Final = Path("/proc/self/statm")
_PAGE: Final = 4096


class Budget:
    """The connections that are open, in the order of their last use."""

    def __init__(self) -> None:
        """Start empty."""
        self._open: OrderedDict[Connection, None] = OrderedDict()
        self._processes: set[Connection] = set()

    def used(self, connection: Connection) -> None:
        """Note a use."""
        if connection in self._open:
            self._open.move_to_end(connection)

    def changed(self, connection: Connection) -> None:
        """Note a change of state."""
        if connection.state in OPEN:
            self._open.setdefault(connection)
            if connection.config.transport == "stdio":
                self._processes.add(connection)
        else:
            self._open.pop(connection, None)
            self._processes.discard(connection)

    def admit(self, newcomer: Connection, limits: Mapping[str, Any]) -> list[Awaitable[None]]:
        """Make room for a newcomer and return what must close before it opens. Raises QuotaExceeded."""
        first: list[Awaitable[None]] = []
        if newcomer.config.transport == "stdio" and newcomer not in self._processes:
            limit = limits["maxProcesses"]
            if len(self._processes) >= limit:
                victims = self._victims(newcomer, 1, processes=True)
                if not victims:
                    raise errors.QuotaExceeded(
                        f"{limit} server processes run already and none can go: disconnect some or raise the limit",
                        limit="maxProcesses",
                        value=limit,
                    )
                first += [victim.evict() for victim in victims]
        memory = limits.get("memoryBudgetBytes")
        if memory is not None and newcomer not in self._open:
            first += self._room(newcomer, memory)
        return first

    def _room(self, newcomer: Connection, memory: int) -> list[Awaitable[None]]:
        over = resident_bytes() + COST - memory
        if over <= 0:
            return []
        collect()
        _trim()
        over = resident_bytes() + COST - memory
        if over <= 0:
            return []
        victims = self._victims(newcomer, min(math.ceil(over / COST), _EVICTIONS), processes=False)
        if not victims:
            raise errors.QuotaExceeded(
                f"the memory budget of {memory} bytes is used up and no connection can be closed",
                limit="memoryBudgetBytes",
                value=memory,
            )
        return [victim.evict() for victim in victims]

    def _victims(self, newcomer: Connection, wanted: int, *, processes: bool) -> list[Connection]:
        """Return up to `wanted` connections that may go, the least recently used first; subscribed ones last."""
        found: list[Connection] = []
        subscribed: list[Connection] = []
        for connection in self._open:
            if connection is newcomer or (processes and connection not in self._processes):
                continue
            will = connection.evictable()
            if will == 0:
                found.append(connection)
            elif will is not None:
                subscribed.append(connection)
            if len(found) >= wanted:
                return found
        return (found + subscribed)[:wanted]


def resident_bytes() -> int:
    """Return the resident memory of this process; 0 where the system does not tell."""
    try:
        return int(_STATM.read_bytes().split()[1]) * _PAGE
    except (OSError, ValueError, IndexError):
        return 0


def _trim() -> None:
    """Give freed memory back to the system, where the C library can."""
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
    if trim is not None:
        trim(0)
