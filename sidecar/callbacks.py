"""The way to the host: what the sidecar asks it, for a server or for itself, and what it tells it.

Answers are never dropped. When the host reads too slowly, logs and progress are dropped and counted, and state
changes are merged per server (wire section 5).
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any, Final

import msgspec

from sidecar.rpc import PeerError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from sidecar.rpc import Peer

PROGRESS: Final = "notifications/progress"
CHANGED: Final = "servers/changed"
DROPPED: Final = "sidecar/dropped"
_DROPPED_SECONDS: Final = 0.5


class HostRefused(Exception):
    """The host answered a question with an error, or cannot answer any more."""

    def __init__(self, code: int, message: str, data: Any = None) -> None:
        """Keep the members of the error object."""
        super().__init__(message)
        self.code = code
        self.message = message
        self.data = data


class Host:
    """Asks the host. What silence or an error means is the caller's to say (wire section 5)."""

    def __init__(self, peer: Peer, capabilities: Mapping[str, Any]) -> None:
        """Ask `peer`, which promised `capabilities` in `initialize`."""
        self._peer = peer
        self.capabilities: dict[str, Any] = {}
        self.promise(capabilities)

    def promise(self, capabilities: Mapping[str, Any]) -> None:
        """Note what the host promised."""
        self.capabilities = {name: value for name, value in capabilities.items() if value is not None}

    def promises(self, name: str) -> bool:
        """Tell whether the host promised this capability: a question that it did not promise is not asked."""
        return name in self.capabilities

    async def ask(self, method: str, params: Mapping[str, Any] | bytes, seconds: float) -> bytes:
        """Send a request to the host and return the bytes of its result.

        `params` is an object without `timeoutMs`, or the JSON text of one; the deadline is added. Raises HostRefused
        for the host's error and TimeoutError after `seconds`. When the deadline passes, or the caller is cancelled,
        the host is told with `notifications/cancelled`, and a late answer is ignored.
        """
        body = params if isinstance(params, bytes) else msgspec.json.encode(dict(params))
        rest = body.strip()[1:].lstrip()
        head = b'{"timeoutMs":%d' % max(1, int(seconds * 1000))
        try:
            async with asyncio.timeout(seconds):
                return await self._peer.call(method, b"".join((head, b"" if rest == b"}" else b",", rest)))
        except PeerError as error:
            raise HostRefused(error.code, error.message, error.data) from None


class Notices:
    """The notifications of the sidecar to the host."""

    def __init__(self, peer: Peer) -> None:
        """Tell `peer`."""
        self._peer = peer
        self.pressed = False
        """Whether the host reads too slowly."""
        self._dropped = {"logs": 0, "progress": 0}
        self._telling: asyncio.TimerHandle | None = None
        self._states: dict[Any, dict[str, Any]] = {}

    def pressure(self, pressed: bool) -> None:
        """Note that the host reads too slowly, or keeps up again."""
        self.pressed = pressed
        if pressed:
            return
        states, self._states = self._states, {}
        for info in states.values():
            self._peer.notify(CHANGED, msgspec.json.encode(info))
        self._tell_dropped()

    def dropped(self, what: str) -> None:
        """Count something that was dropped; the host is told soon, once for many."""
        self._dropped[what] += 1
        if self._telling is None and not self.pressed:
            self._telling = asyncio.get_running_loop().call_later(_DROPPED_SECONDS, self._tell_dropped)

    def _tell_dropped(self) -> None:
        if self._telling is not None:
            self._telling.cancel()
            self._telling = None
        if self.pressed:
            return
        for what, count in self._dropped.items():
            if count:
                self._dropped[what] = 0
                self._peer.notify(DROPPED, msgspec.json.encode({"what": what, "count": count}))

    def state(self, key: Any, info: dict[str, Any]) -> None:
        """Tell the new state of the connection `key`."""
        if self.pressed:
            self._states.pop(key, None)
            self._states[key] = info
        else:
            self._peer.notify(CHANGED, msgspec.json.encode(info))

    def tell(self, method: str, params: Mapping[str, Any]) -> None:
        """Tell something that is never dropped and rare."""
        self._peer.notify(method, msgspec.json.encode(dict(params)))

    def send(self, method: str, body: bytes) -> None:
        """Tell what a server told; `body` is the params as JSON."""
        self._peer.notify(method, body)

    def progress(self, body: bytes) -> None:
        """Tell progress; `body` is the params as JSON."""
        if self.pressed:
            self.dropped("progress")
        else:
            self._peer.notify(PROGRESS, body)
