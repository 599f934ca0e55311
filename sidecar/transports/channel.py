"""One JSON-RPC channel to an MCP server: ids, what is in flight, and the payload path that never decodes a result.

A channel is the `Dispatcher` that the MCP SDK's `ClientSession` is built on (its public seam): the engine negotiates
the era and speaks the handshake through it, while the host's calls go straight through `request` as bytes.
Subclasses carry messages: stdio, Streamable HTTP, SSE.
"""

from __future__ import annotations

import abc
import asyncio
import logging
from typing import TYPE_CHECKING, Any, Final

import msgspec

from sidecar import errors, frames
from sidecar.frames import ABSENT, Envelope, FrameError
from sidecar.transports.calls import Call, Clocked, OnProgress, ServerAnswer, Steps, Track, Upcalls
from sidecar.transports.fair import Fair
from sidecar.transports.faults import Payload, bad_peer, copy_error, flat, remote_error, result_too_large
from sidecar.transports.tally import Tally

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

__all__ = ["METHOD_NOT_FOUND", "Call", "Channel", "OnProgress", "ServerAnswer", "Steps", "Track", "Upcalls"]

logger: Final = logging.getLogger(__name__)

UNCANCELLABLE: Final = frozenset({"initialize", "server/discover"})
"""Requests that MCP forbids to cancel."""
METHOD_NOT_FOUND: Final = -32601
_PROBE: Final = "server/discover"
_ANSWERING_MAX: Final = 256
_TIMED_OUT: Final = -32001


class Channel(abc.ABC):
    """Base of the three transports."""

    modern = False

    def __init__(self, max_result: int, label: Mapping[str, Any]) -> None:
        """Refuse messages over `max_result` bytes; `label` goes into log lines."""
        self.max_result = max_result
        self.label = dict(label)
        self.pending: dict[int, Call] = {}
        self.streams: dict[int, Call] = {}
        """Requests that stand for a subscription: they wait for no answer, and nobody waits for them."""
        self.receivers: dict[frames.Key | None, OnProgress] = {}
        """Who hears progress of calls whose answer was a background task: their tokens hold on."""
        self.upcalls: Upcalls | None = None
        self.error: errors.SidecarError | None = None
        self.handshake: dict[str, Any] | None = None
        """The decoded result of `initialize` or `server/discover`, as it came."""
        self.bad = Tally("bad message from the server", self.label)
        self.dropped = Tally("message to the server dropped", self.label)
        self.share = Fair().share("")
        """The part of the loop that taking its messages apart may use."""
        self.closed = asyncio.Event()
        self._last_id = 0
        self._answering: dict[frames.Key, asyncio.Task[None]] = {}
        self._background: set[asyncio.Task[Any]] = set()

    # -- for the connection -----------------------------------------------------------------------------------

    async def open(self) -> None:  # noqa: B027 - a transport that has nothing to do here is whole
        """Make the transport ready to send. Raises a SidecarError."""

    async def aclose(self) -> None:  # noqa: B027 - a transport that has nothing to do here is whole
        """End the transport politely; bounded in time, never raises."""

    def pause(self, paused: bool) -> None:  # noqa: B027 - a transport that has nothing to do here is whole
        """Stop or go on reading from the server: the host reads too slowly."""

    def configure(self, headers: Mapping[str, str]) -> None:  # noqa: B027 - stdio has no headers
        """Send other headers from the next request on, and take messages of the present `max_result`."""

    async def request(
        self,
        method: str,
        params: Payload,
        track: Track,
        *,
        headers: Mapping[str, str] | None = None,
        on_progress: Callable[[int], tuple[Payload, OnProgress]] | None = None,
        standing: bool = False,
    ) -> Payload:
        """Send a request, its params as JSON bytes, and return the bytes of its result.

        `on_progress` is given the progress token and returns the params that carry it and the receiver; `standing`
        is a request that stands for a subscription. Raises
        RemoteError for the server's own error and other SidecarErrors for everything that broke on the way, each
        with `delivered`. Cancelling the caller tells the server.
        """
        if self.error is not None:
            raise copy_error(self.error, "no")
        self._last_id += 1
        call = Call(self._last_id, method, track, None)
        if on_progress is not None:
            params, call.on_progress = on_progress(call.id)
        table = self.streams if standing else self.pending
        table[call.id] = call
        head = b'{"jsonrpc":"2.0","id":%d,"method":%b,"params":' % (call.id, frames.quote(method))
        try:
            return await self._perform(call, b"".join((head, params, b"}")), headers)
        except asyncio.CancelledError:
            if method not in UNCANCELLABLE and call.id in table:
                self._abandon(call)
            raise
        finally:
            table.pop(call.id, None)
            if call.asked is not None:
                for task in call.asked:
                    task.cancel()

    def notify_raw(self, method: str, params: Payload) -> None:
        """Send a notification, its params as JSON bytes; nobody waits for it."""
        self._send_soon(b"".join((b'{"jsonrpc":"2.0","method":', frames.quote(method), b',"params":', params, b"}")))

    # -- for the transports -----------------------------------------------------------------------------------

    @abc.abstractmethod
    async def _perform(self, call: Call, message: bytes, headers: Mapping[str, str] | None) -> Payload:
        """Send `message` and return the result of `call`."""

    @abc.abstractmethod
    def _send_soon(self, message: bytes) -> None:
        """Send a message that nobody waits for."""

    def _abandon(self, call: Call) -> None:
        """Tell the server that nobody waits for `call` any more."""
        if call.track.delivered != "no":
            self.notify_raw("notifications/cancelled", b'{"requestId":%d,"reason":"cancelled by the host"}' % call.id)

    def receive(self, text: bytes, own: Call | None = None) -> None:
        """Take one message. `own` is the call on whose own response it came: the answer must be to that one."""
        try:
            envelope = frames.decode(text)
            if bytes(envelope.jsonrpc) != b'"2.0"':
                raise FrameError('"jsonrpc" is not "2.0"', raw_id=bytes(envelope.id) or None)
            self._take(envelope, own, breaks=frames.has_breaks(text))
        except FrameError as fault:
            self._bad(fault.message, fault.raw_id, own)

    def _take(self, envelope: Envelope, own: Call | None, *, breaks: bool) -> None:
        if envelope.method is not ABSENT:
            method = frames.text_of(envelope.method)
            if method is None:
                raise FrameError("the method is not a string")
            if envelope.id is not ABSENT:
                self._serve(method, envelope, own)
            else:
                self._notified(method, envelope.params, own)
            return
        if envelope.id is ABSENT or (envelope.result is ABSENT) == (envelope.error is ABSENT):
            raise FrameError("neither a request nor an answer", raw_id=bytes(envelope.id) or None)
        call = self._call_of(bytes(envelope.id))
        if own is not None and call is not own:
            # A foreign id on this response is a forgery or a mix-up: only the call it came for pays.
            own.fail(bad_peer("the answer carries another request's id", "maybe"))
            return
        if call is None:
            self.bad.note("an answer to no request in flight")
            return
        if envelope.result is not ABSENT:
            if frames.first(envelope.result) != b"{":
                call.fail(bad_peer("the result is not an object", "yes"))
                return
            call.succeed(flat(envelope.result, breaks=breaks))
        else:
            call.fail(remote_error(envelope.error))

    def _call_of(self, raw_id: bytes) -> Call | None:
        try:
            key = frames.key_of(raw_id)
        except FrameError:
            return None
        if isinstance(key, str):  # some servers echo 7 as "7"
            key = int(key) if key.isascii() and key.isdigit() and len(key) < len(str(2**53)) else -1
        return self.pending.get(key) or self.streams.get(key)

    def _bad(self, reason: str, raw_id: bytes | None, own: Call | None) -> None:
        self.bad.note(reason)
        call = own
        delivered = "yes"
        if call is None and raw_id is not None:
            call = self._call_of(raw_id)
        if call is not None:
            call.fail(bad_peer(reason, delivered))

    def too_large(self, size: int, call: Call | None) -> None:
        """Note a message over the limit; its call, or the only one in flight, fails."""
        if call is None and len(self.pending) == 1:
            call = next(iter(self.pending.values()))
        if call is None:
            self.bad.note(f"a message of {size} bytes is over maxResultBytes, and its id was not found")
        else:
            call.fail(result_too_large(size, self.max_result))

    def _notified(self, method: str, params: msgspec.Raw, own: Call | None) -> None:
        raw = _EMPTY if params is ABSENT else params
        if method == "notifications/progress":
            token = frames.member(raw, "progressToken")
            call = self._call_of(bytes(token)) if token is not None else None
            receiver = call.on_progress if call is not None else None
            if receiver is None and self.receivers and token is not None:
                receiver = self.receivers.get(frames.key_or_none(bytes(token)))
            if receiver is not None:
                receiver(raw)
            return
        if method == "notifications/cancelled":
            named = frames.member(raw, "requestId")
            key = frames.key_or_none(bytes(named)) if named is not None else None
            task = self._answering.get(key) if key is not None else None
            if task is not None:
                task.cancel()
            return
        if self.upcalls is not None:
            self.upcalls.server_notification(method, raw, own)

    def _serve(self, method: str, envelope: Envelope, own: Call | None) -> None:
        raw_id = bytes(envelope.id)
        key = frames.key_of(raw_id)
        if method == "ping":
            self._answer(raw_id, b'"result":{}')
        elif len(self._answering) >= _ANSWERING_MAX or key in self._answering:
            self._answer(raw_id, b'"error":{"code":-32603,"message":"too many requests at once"}')
        else:
            params = _EMPTY if envelope.params is ABSENT else envelope.params
            task = asyncio.get_running_loop().create_task(self._serve_slow(key, raw_id, method, params, own))
            self._answering[key] = task
            if own is not None:
                own.asked = own.asked if own.asked is not None else set()
                own.asked.add(task)
                task.add_done_callback(own.asked.discard)

    async def _serve_slow(
        self, key: frames.Key, raw_id: bytes, method: str, params: msgspec.Raw, own: Call | None
    ) -> None:
        try:
            if self.upcalls is None:
                raise ServerAnswer(METHOD_NOT_FOUND, "Method not found")
            result = await self.upcalls.server_request(method, params, own)
            self._answer(raw_id, b'"result":' + result)
        except ServerAnswer as refusal:
            body: dict[str, Any] = {"code": refusal.code, "message": refusal.message}
            if refusal.data is not None:
                body["data"] = refusal.data
            self._answer(raw_id, b'"error":' + msgspec.json.encode(body))
        except Exception:
            logger.exception("answering %s of a server failed", method[:100], extra=self.label)
            self._answer(raw_id, b'"error":{"code":-32603,"message":"Internal error"}')
        finally:
            self._answering.pop(key, None)

    def _answer(self, raw_id: bytes, body: bytes) -> None:
        self._send_soon(b'{"jsonrpc":"2.0","id":' + raw_id + b"," + body + b"}")

    def fail_pending(self, error: errors.SidecarError) -> None:
        """Fail everything in flight with this error and its own `delivered`; the channel can still be closed."""
        for call in (*self.pending.values(), *self.streams.values()):
            call.fail(copy_error(error, call.track.delivered))

    def fail(self, error: errors.SidecarError) -> None:
        """End the channel: everything in flight fails with this error and its own `delivered`."""
        if self.error is not None:
            return
        self.error = error
        self.fail_pending(error)
        for task in list(self._answering.values()):
            task.cancel()
        self.closed.set()
        if self.upcalls is not None:
            self.upcalls.lost(error)

    def spawn(self, work: Any) -> asyncio.Task[Any]:
        """Run a coroutine beside, held until it ends."""
        task = asyncio.get_running_loop().create_task(work)
        self._background.add(task)
        task.add_done_callback(self._background.discard)
        return task

    # -- the SDK's Dispatcher ---------------------------------------------------------------------------------

    async def run(
        self,
        on_request: Any,  # noqa: ARG002 - servers' messages go to the upcalls as bytes
        on_notify: Any,  # noqa: ARG002 - servers' messages go to the upcalls as bytes
        on_notify_intercept: Any = None,  # noqa: ARG002 - servers' messages go to the upcalls as bytes
        *,
        task_status: Any = None,
    ) -> None:
        """Stand by until the channel ends; messages are taken where they arrive."""
        if task_status is not None:
            task_status.started()
        await self.closed.wait()

    async def send_raw_request(
        self, method: str, params: Mapping[str, Any] | None, opts: Mapping[str, Any] | None = None
    ) -> dict[str, Any]:
        """Send a request of the engine and return its decoded result.

        Raises MCPError for what the era negotiation may take for an answer, and SidecarErrors for the rest.
        """
        from mcp.shared.exceptions import MCPError

        opts = opts or {}
        body = msgspec.json.encode(dict(params or {}))
        try:
            async with asyncio.timeout(opts.get("timeout")) as clock:
                steps = Clocked(clock, opts.get("timeout"))
                raw = await self.request(method, body, steps, headers=opts.get("headers"))
        except TimeoutError:
            raise MCPError(code=_TIMED_OUT, message=f"no answer to {method}") from None
        except errors.RemoteError as error:
            remote = msgspec.json.decode(msgspec.json.encode(error.extra["remote"]))
            raise MCPError(code=remote["code"], message=remote["message"], data=remote.get("data")) from None
        except (errors.HTTPStatus, errors.Unavailable, errors.BadPeerMessage) as error:
            if method != _PROBE:
                raise
            # An older server may answer the probe with any status: that is no outage but an era.
            raise MCPError(code=METHOD_NOT_FOUND, message=error.message) from error
        result: dict[str, Any] = msgspec.json.decode(raw)
        if method in UNCANCELLABLE:
            self.handshake = result
        return result

    async def notify(
        self, method: str, params: Mapping[str, Any] | None, opts: Mapping[str, Any] | None = None
    ) -> None:
        """Send a notification of the engine."""
        del opts
        self.notify_raw(method, msgspec.json.encode(dict(params or {})))


_EMPTY: Final = msgspec.Raw(b"{}")
