"""One request in flight to a server, and what a channel tells the connection above it."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Any, Protocol

import msgspec

if TYPE_CHECKING:
    from sidecar import errors
    from sidecar.transports.faults import Payload

OnProgress = Callable[[msgspec.Raw], None]


class Track(Protocol):
    """How far a call came; the host's request or a stand-in."""

    phase: str
    delivered: str


class Steps:
    """A `Track` for requests that no host waits for."""

    def __init__(self) -> None:
        """Start before the first byte."""
        self.phase: str = "connect"
        self.delivered = "no"


class Clocked(Steps):
    """Steps of a request of the engine, whose clock stands still while credentials are got: that is no slow server."""

    def __init__(self, clock: asyncio.Timeout, seconds: float | None) -> None:
        """Stop and start `clock`, which runs for `seconds`."""
        self._clock, self._seconds = clock, seconds
        super().__init__()

    @property
    def phase(self) -> str:
        """What the request waits for."""
        return self._phase

    @phase.setter
    def phase(self, phase: str) -> None:
        self._phase = phase
        if self._seconds is not None and phase in {"authorize", "connect"} and not self._clock.expired():
            running = phase == "connect"
            self._clock.reschedule(asyncio.get_running_loop().time() + self._seconds if running else None)


class ServerAnswer(Exception):
    """Raised by an upcall to answer a server's request with a JSON-RPC error."""

    def __init__(self, code: int, message: str, data: Any = None) -> None:
        """Keep the members of the error object."""
        super().__init__(message)
        self.code = code
        self.message = message
        self.data = data


class Upcalls(Protocol):
    """What a channel tells the connection above it."""

    def server_request(self, method: str, params: msgspec.Raw, call: Call | None) -> Awaitable[bytes]:
        """Answer a request of the server; `call` is the host's call it provably belongs to."""

    def server_notification(self, method: str, params: msgspec.Raw, call: Call | None) -> None:
        """Take a notification of the server."""

    def lost(self, error: errors.SidecarError) -> None:
        """Note that the channel has ended by itself."""

    def expired(self) -> None:
        """Note that the server no longer knows the session."""

    def gap(self) -> None:
        """Note that notifications of the server may be missing: its stream was cut, and does not resume."""


class Call:
    """One request in flight to the server."""

    __slots__ = ("asked", "future", "id", "method", "on_progress", "track")

    def __init__(self, number: int, method: str, track: Track, on_progress: OnProgress | None) -> None:
        """Enter a request that nothing has been written of."""
        self.id = number
        self.method = method
        self.track = track
        self.on_progress = on_progress
        self.asked: set[asyncio.Task[None]] | None = None
        """Questions of the server that came on this call's own response; they end with it."""
        self.future: asyncio.Future[Payload] = asyncio.get_running_loop().create_future()

    def succeed(self, result: Payload) -> None:
        """Hand over the result."""
        if not self.future.done():
            self.future.set_result(result)

    def fail(self, error: BaseException) -> None:
        """Hand over the failure."""
        if not self.future.done():
            self.future.set_exception(error)
            self.future.exception()  # whoever waited may have left: that is no unhandled error
