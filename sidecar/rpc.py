"""The JSON-RPC 2.0 peer of the host: ids, order, deadlines, cancellation, exactly one answer a request.

One reader feeds lines in order and never waits for a handler; one writer owns the pipe. A handler runs in two
steps: its synchronous part takes effect before the next line is looked at, the coroutine it returns runs beside.
The answer is written when the deadline or the cancel fires, not when the work has been unwound. Knows no MCP.
"""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import Callable, Coroutine, Hashable, Mapping
from typing import TYPE_CHECKING, Any, Final

import msgspec

from sidecar import errors, frames
from sidecar.frames import ABSENT, Envelope, FrameError, Key
from sidecar.request import Outcome, Request, seconds_of

if TYPE_CHECKING:
    from sidecar.stdio import LineWriter

logger: Final = logging.getLogger(__name__)

EMPTY: Final = b"{}"
CANCEL: Final = "notifications/cancelled"

Work = Coroutine[Any, Any, Outcome]
Handler = Callable[[Request], "Work | Outcome"]


class PeerError(Exception):
    """The host answered a request of ours with an error."""

    def __init__(self, code: int, message: str, data: Any = None) -> None:
        """Keep the members of the error object."""
        super().__init__(message)
        self.code = code
        self.message = message
        self.data = data


class _GateParams(msgspec.Struct):
    timeoutMs: msgspec.Raw = msgspec.Raw()  # noqa: N815 - the wire's name


class _CancelParams(msgspec.Struct):
    requestId: msgspec.Raw  # noqa: N815 - the wire's name


class _ErrorBody(msgspec.Struct):
    code: int = 0
    message: str = ""
    data: Any = None


class Peer:
    """The host's counterpart. `handlers` serve its requests; those in `early` are served before the gate opens."""

    def __init__(
        self,
        writer: LineWriter,
        handlers: Mapping[str, Handler],
        *,
        early: frozenset[str],
        max_frame: int,
        gate_seconds: float = 60.0,
    ) -> None:
        """Serve `handlers` over `writer`; frames over `max_frame` bytes are refused both ways."""
        self.loop = asyncio.get_running_loop()
        self.max_frame = max_frame
        self.open = False
        self.refuse: Callable[[Request], errors.WireError | None] | None = None
        """Asked when a request is read; an error it returns is the answer."""
        self.fatal = False
        """The models cannot be loaded: what waited for them is refused too."""
        self.seen_request = False
        self.in_flight: dict[Key, Request] = {}
        self._writer = writer
        self._handlers = handlers
        self._early = early
        self._gate_seconds = gate_seconds
        self._waiting: deque[Request] = deque()
        self._pending: dict[int, asyncio.Future[bytes]] = {}
        self._last_id = 0
        self._deaf = False
        self._idle: list[asyncio.Future[None]] = []
        self._tasks: set[asyncio.Task[Outcome]] = set()

    # -- lines in ---------------------------------------------------------------------------------------------

    def line(self, line: bytes) -> None:
        """Take one line of the host."""
        if frames.is_blank(line):
            return
        try:
            self._take(frames.decode(line))
        except FrameError as fault:
            self._fault(fault, answer=frames.looks_like_answer(line[: frames.HEAD_BYTES]))
        except Exception:
            # Whatever one line did to us, the next one is served.
            logger.exception("a line of the host could not be taken")
            self._fault(FrameError("internal error of the sidecar; its log has the details"))

    def too_long(self, head: bytes, tail: bytes, size: int) -> None:  # noqa: ARG002 - section 1 looks at the head alone
        """Answer a line over the frame limit, which was skipped to its newline."""
        fault = FrameError(f"invalid request: a line of at least {size} bytes is over maxFrameBytes")
        fault.raw_id = frames.find_id(head)
        self._fault(fault, limit=self.max_frame, answer=frames.looks_like_answer(head))

    def _fault(self, fault: FrameError, limit: int | None = None, *, answer: bool = False) -> None:
        data: dict[str, Any] = {}
        if answer:
            # Its id is one of ours: nobody else will answer that request, and in `data.id` the host would take it
            # for one of its own.
            key = frames.key_or_none(fault.raw_id or b"")
            waiter = self._pending.get(key) if isinstance(key, int) else None
            if waiter is not None and not waiter.done():
                waiter.set_exception(PeerError(errors.PARSE_ERROR, "the host's answer could not be read"))
        elif fault.raw_id is not None:
            data["id"] = msgspec.Raw(fault.raw_id)
        if limit is not None:
            data["limit"] = limit
        code = errors.PARSE_ERROR if fault.parse else errors.INVALID_REQUEST
        body: dict[str, Any] = {"code": code, "message": fault.message}
        if data:
            body["data"] = data
        self.send_parts(b'{"jsonrpc":"2.0","id":null,"error":', msgspec.json.encode(body), b"}\n")

    def _take(self, envelope: Envelope) -> None:
        raw_id = bytes(envelope.id)
        if bytes(envelope.jsonrpc) != b'"2.0"' and not _is_version(envelope.jsonrpc):
            raise FrameError('invalid request: "jsonrpc" must be "2.0"', raw_id=_readable(raw_id))
        if envelope.method is not ABSENT:
            raw_method = bytes(envelope.method)
            if raw_method[:1] != b'"':
                raise FrameError("invalid request: the method is not a string", raw_id=_readable(raw_id))
            method: str = msgspec.json.decode(raw_method)
            if envelope.id is not ABSENT:
                self._request(frames.key_of(raw_id), raw_id, method, envelope.params)
            else:
                self._notification(method, envelope.params)
        elif envelope.id is not ABSENT and not (envelope.result is ABSENT and envelope.error is ABSENT):
            self._answer(raw_id, envelope)
        else:
            raise FrameError("invalid request: neither a request nor an answer", raw_id=_readable(raw_id))

    def _request(self, key: Key, raw_id: bytes, method: str, params: msgspec.Raw) -> None:
        if key in self.in_flight:
            raise FrameError("invalid request: this id is already in flight", raw_id=raw_id)
        raw = EMPTY if params is ABSENT else params
        request = Request(self, key, raw_id, method, raw)
        self.in_flight[key] = request
        if frames.first(raw) != b"{":
            request.fail(errors.InvalidParams("params must be an object", path=""))
        elif method in self._early:
            if not self._refused(request):
                self._serve(request)
        elif self.open:
            self.seen_request = True
            if not self._refused(request):
                self._serve(request)
        else:
            self.seen_request = True
            if not self._refused(request):
                request.arm(_gate_timeout(raw, self._gate_seconds))
                self._waiting.append(request)

    def _refused(self, request: Request) -> bool:
        """Refuse what is new work when its line is read; what waits for the models has been taken."""
        refusal = self.refuse(request) if self.refuse is not None else None
        if refusal is not None:
            request.fail(refusal)
        return refusal is not None

    def _serve(self, request: Request) -> None:
        handler = self._handlers.get(request.method)
        if handler is None:
            request.fail(errors.MethodNotFound(f"unknown method {request.method[:100]!r}"))
            return
        try:
            work = handler(request)
        except errors.WireError as error:
            request.fail(error)
        except Exception:
            request.fail(self._internal(request))
        else:
            if isinstance(work, bytes | msgspec.Raw):
                request.reply(work)
            else:
                task = self.loop.create_task(self._run(request, work))
                self._tasks.add(task)
                request.task = task

    async def _run(self, request: Request, work: Work) -> Outcome:
        try:
            outcome = await work
            request.reply(outcome)
        except errors.WireError as error:
            request.fail(error)
        except asyncio.CancelledError:
            # Whoever cancels answers first; a request cancelled by nobody we know is still answered.
            request.fail(errors.Internal("the work was cancelled"))
        except Exception:
            request.fail(self._internal(request))
        else:
            return outcome
        finally:
            task = request.task
            if task is not None:
                self._tasks.discard(task)
        return EMPTY

    def _internal(self, request: Request) -> errors.WireError:
        corr = errors.new_corr()
        logger.exception("%s failed inside the sidecar", request.method, extra={"corr": corr})  # noqa: LOG004 - called from except blocks alone
        return errors.Internal("internal error of the sidecar; its log has the details", corr=corr)

    def open_gate(self) -> None:
        """Serve the lines that waited for the models, in order, and from now on every line at once."""
        self.open = True
        while self._waiting:
            request = self._waiting.popleft()
            if not request.answered and not (self.fatal and self._refused(request)):
                self._serve(request)

    def _notification(self, method: str, params: msgspec.Raw) -> None:
        if method != CANCEL:
            logger.debug("ignored notification %s", method[:100])
            return
        try:
            key = frames.key_of(msgspec.json.decode(params, type=_CancelParams).requestId)
        except (msgspec.DecodeError, FrameError):
            logger.debug("ignored a cancel without a usable requestId")
            return
        request = self.in_flight.get(key)
        if request is not None and request.method not in _NEVER_CANCELLED:
            request.abort(errors.Cancelled(f"{request.method} was cancelled by the host", delivered=request.delivered))

    # -- answers ----------------------------------------------------------------------------------------------

    def forget(self, request: Request) -> None:
        """Drop an answered request from the table."""
        self.in_flight.pop(request.key, None)
        for waiter in self._idle:
            if not waiter.done():
                waiter.set_result(None)
        self._idle.clear()

    async def one_answered(self) -> None:
        """Return when one more request has been answered."""
        waiter: asyncio.Future[None] = self.loop.create_future()
        self._idle.append(waiter)
        await waiter

    def abort_all(self, make: Callable[[Request], errors.WireError], but: Request | None = None) -> None:
        """Answer every request in flight, except `but`, with the error that `make` gives."""
        for request in list(self.in_flight.values()):
            if request is not but:
                request.abort(make(request))

    # -- our own requests -------------------------------------------------------------------------------------

    async def call(self, method: str, params: bytes) -> bytes:
        """Send a request to the host and return the bytes of its result.

        Raises PeerError for the host's error; cancelling the caller sends `notifications/cancelled`.
        """
        if self._deaf:
            raise PeerError(errors.INTERNAL_ERROR, "the host closed the wire")
        self._last_id += 1
        key = self._last_id
        waiter: asyncio.Future[bytes] = self.loop.create_future()
        self._pending[key] = waiter
        head = b'{"jsonrpc":"2.0","id":%d,"method":%b,"params":' % (key, frames.quote(method))
        if len(head) + len(params) + 1 > self.max_frame:
            del self._pending[key]
            raise PeerError(errors.INVALID_REQUEST, "longer than maxFrameBytes", {"limit": self.max_frame})
        self.send_parts(head, params, b"}\n")
        try:
            return await waiter
        except asyncio.CancelledError:
            if key in self._pending:
                self.notify(CANCEL, b'{"requestId":%d}' % key)
            raise
        finally:
            self._pending.pop(key, None)

    def notify(self, method: str, params: bytes) -> None:
        """Send a notification to the host."""
        self.send_parts(b'{"jsonrpc":"2.0","method":' + frames.quote(method) + b',"params":', params, b"}\n")

    def no_more_answers(self) -> None:
        """Fail every request of ours that the host has not answered: its end of the pipe is closed."""
        self._deaf = True
        for waiter in self._pending.values():
            if not waiter.done():
                waiter.set_exception(PeerError(errors.INTERNAL_ERROR, "the host closed the wire"))

    def _answer(self, raw_id: bytes, envelope: Envelope) -> None:
        error = None
        if envelope.error is not ABSENT:
            try:
                error = msgspec.json.decode(envelope.error, type=_ErrorBody)
            except msgspec.DecodeError:
                error = _ErrorBody(errors.INTERNAL_ERROR, "the host sent a malformed error")
        if raw_id == b"null":
            # A fault of a frame of ours: the request whose id it names will get no other answer.
            # One that is in flight twice is untouched: only the second line was refused.
            data = error.data if error is not None and isinstance(error.data, dict) else {}
            twice = error is not None and error.code == errors.INVALID_REQUEST and "limit" not in data
            named = data.get("id")
            waiter = self._pending.get(named) if isinstance(named, int) and not twice else None
        else:
            key = frames.key_of(raw_id)
            waiter = self._pending.get(key) if isinstance(key, int) else None
        if waiter is None or waiter.done():
            logger.debug("ignored an answer to no request of ours")
        elif envelope.result is not ABSENT and error is not None:
            waiter.set_exception(PeerError(errors.INVALID_REQUEST, "the host answered with a result and an error"))
        elif error is not None:
            waiter.set_exception(PeerError(error.code, error.message, error.data))
        else:
            waiter.set_result(bytes(envelope.result))

    def send_parts(self, *parts: bytes | memoryview) -> None:
        """Write one frame, given in parts; small ones are joined, large ones never copied."""
        if sum(map(len, parts)) < _JOIN_BYTES:
            self._writer.write(b"".join(parts))
        else:
            self._writer.write(*parts)

    def send_large(self, lane: Hashable, *parts: bytes | memoryview) -> None:
        """Write one large frame, given in parts; small frames and other lanes may pass it while the host is slow."""
        self._writer.write_large(lane, *parts)

    def in_order(self) -> None:
        """Have every frame so far written before the next one."""
        self._writer.in_order()


_JOIN_BYTES: Final = 1 << 16
_NEVER_CANCELLED: Final = frozenset({"initialize", "shutdown"})


def _is_version(raw: msgspec.Raw) -> bool:
    raw_bytes = bytes(raw)
    return raw_bytes[:1] == b'"' and msgspec.json.decode(raw_bytes) == "2.0"


def _readable(raw_id: bytes) -> bytes | None:
    """Return an id that may be repeated in `data.id`, or None."""
    try:
        frames.key_of(raw_id)
    except FrameError as fault:
        return fault.raw_id
    return raw_id or None


def _gate_timeout(params: bytes | msgspec.Raw, default: float) -> float:
    try:
        value = int(bytes(msgspec.json.decode(params, type=_GateParams).timeoutMs)[:20])
    except (msgspec.DecodeError, ValueError):
        return default  # its own handler will find the fault
    return seconds_of(value) if value > 0 else default
