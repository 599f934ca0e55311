"""One request of the host: from its line to its one answer."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import msgspec

from sidecar import errors, frames

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Callable

    from sidecar.frames import Key
    from sidecar.rpc import Peer

Outcome = bytes | msgspec.Raw
"""A result as JSON text."""

_ANSWER_BYTES: Final = len(b'{"jsonrpc":"2.0","id":,"result":}')


LARGE: Final = 1 << 18
"""Bytes of a result that lets others pass while the host is slow."""
MAX_MS: Final = 10 * 365 * 24 * 3600 * 1000
"""Ten years: a longer time is as good, and a float can still hold it."""


def seconds_of(millis: int) -> float:
    """Return milliseconds of the wire, however many, as seconds of the loop."""
    return min(millis, MAX_MS) / 1000


class Request:
    """One request of the host, from its line to its one answer.

    The layers below write down how far it came: `phase` for the deadline's error, `delivered` for every error.
    """

    __slots__ = (
        "address",
        "answered",
        "attempts",
        "began",
        "delivered",
        "key",
        "method",
        "on_abandoned",
        "on_answered",
        "params",
        "peer",
        "phase",
        "raw_id",
        "task",
        "timer",
    )

    def __init__(self, peer: Peer, key: Key, raw_id: bytes, method: str, params: bytes | msgspec.Raw) -> None:
        """Note a request; nothing has been done for it yet."""
        self.peer = peer
        self.key = key
        self.raw_id = raw_id
        self.method = method
        self.params = params
        self.began = peer.loop.time()
        self.phase = "queue"
        self.delivered = "no"
        self.attempts: int | None = None
        self.address: tuple[str, dict[str, str]] | None = None
        self.answered = False
        self.task: asyncio.Task[Outcome] | None = None
        self.timer: asyncio.TimerHandle | None = None
        self.on_abandoned: Callable[[asyncio.Task[Outcome]], None] | None = None
        self.on_answered: Callable[[], None] | None = None

    def arm(self, seconds: float) -> None:
        """Set the whole deadline, counted from the line: what was spent waiting for the models counts too."""
        if self.timer is not None:
            self.timer.cancel()
        self.timer = self.peer.loop.call_at(self.began + seconds, self._expired)

    def left(self) -> float:
        """Return the seconds until the deadline."""
        return max(0.001, self.timer.when() - self.peer.loop.time()) if self.timer is not None else 0.001

    def _expired(self) -> None:
        if not self.peer.open:
            self.abort(errors.NotReady("the sidecar is still starting: send the request again"))
            return
        late = self.phase in {"write", "wait"}
        text = f"the deadline of {self.method} passed in phase {self.phase}"
        self.abort(errors.DeadlineExceeded(text, phase=self.phase, delivered="maybe" if late else "no"))

    def abort(self, error: errors.WireError) -> None:
        """Answer with `error` now and unwind the work behind it; does nothing after the answer."""
        if self.answered:
            return
        self.fail(error)
        task = self.task
        if task is not None and not task.done():
            task.cancel()
            if self.on_abandoned is not None:
                self.on_abandoned(task)

    def reply(self, result: Outcome) -> None:
        """Write the one answer, its result as the bytes given."""
        if self.answered:
            return
        peer = self.peer
        body = frames.view(result)
        size = len(body)
        if size + len(self.raw_id) + _ANSWER_BYTES > peer.max_frame:
            self.fail(
                errors.ResultTooLarge(
                    f"the answer to {self.method} is longer than maxFrameBytes",
                    delivered="no" if self.phase == "queue" else "yes",
                    bytes=size + len(self.raw_id) + _ANSWER_BYTES,
                    limit=peer.max_frame,
                )
            )
            return
        self._finish()
        head = b'{"jsonrpc":"2.0","id":' + self.raw_id + b',"result":'
        if size > LARGE and self.address is not None:
            peer.send_large(tuple(self.address[1].items()), head, body, b"}\n")
        else:
            if self.method == "shutdown":
                peer.in_order()
            peer.send_parts(head, body, b"}\n")

    def fail(self, error: errors.WireError) -> None:
        """Write the one answer, an error."""
        if self.answered:
            return
        if isinstance(error, errors.SidecarError):
            if self.address is not None:
                error.at(*self.address)
            if self.attempts is not None and error.attempts is None:
                error.attempts = self.attempts
        self._finish()
        body = msgspec.json.encode(error.to_wire())
        self.peer.send_parts(b'{"jsonrpc":"2.0","id":' + self.raw_id + b',"error":', body, b"}\n")

    def _finish(self) -> None:
        self.answered = True
        if self.timer is not None:
            self.timer.cancel()
        self.peer.forget(self)
        if self.on_answered is not None:
            self.on_answered()
