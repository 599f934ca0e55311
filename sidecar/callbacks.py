"""What a server asks or tells, brought to the host; and what the sidecar tells by itself.

Answers are never dropped. When the host reads too slowly, logs and progress are dropped and counted, and state
changes are merged per server (wire section 5).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import msgspec

if TYPE_CHECKING:
    from sidecar.rpc import Peer

PROGRESS: Final = "notifications/progress"
CHANGED: Final = "servers/changed"
DROPPED: Final = "sidecar/dropped"


class Notices:
    """The notifications of the sidecar to the host."""

    def __init__(self, peer: Peer) -> None:
        """Tell `peer`."""
        self._peer = peer
        self._pressed = False
        self._dropped = {"logs": 0, "progress": 0}
        self._states: dict[Any, dict[str, Any]] = {}

    def pressure(self, pressed: bool) -> None:
        """Note that the host reads too slowly, or keeps up again."""
        self._pressed = pressed
        if pressed:
            return
        states, self._states = self._states, {}
        for info in states.values():
            self._peer.notify(CHANGED, msgspec.json.encode(info))
        for what, count in self._dropped.items():
            if count:
                self._dropped[what] = 0
                self._peer.notify(DROPPED, msgspec.json.encode({"what": what, "count": count}))

    def state(self, key: Any, info: dict[str, Any]) -> None:
        """Tell the new state of the connection `key`."""
        if self._pressed:
            self._states.pop(key, None)
            self._states[key] = info
        else:
            self._peer.notify(CHANGED, msgspec.json.encode(info))

    def progress(self, body: bytes) -> None:
        """Tell progress; `body` is the params as JSON."""
        if self._pressed:
            self._dropped["progress"] += 1
        else:
            self._peer.notify(PROGRESS, body)
