"""The life of the process: start, serve, drain, stop (wire section 2)."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import importlib
import logging
import os
import signal
import sys
import threading
import time
from typing import TYPE_CHECKING, Final

from sidecar import early, engine, errors, stdio
from sidecar.rpc import Handler, Peer
from sidecar.telemetry.logs import now_text

if TYPE_CHECKING:
    from collections.abc import Callable, Hashable, Mapping

    from sidecar.methods import Methods
    from sidecar.request import Outcome, Request

logger: Final = logging.getLogger(__name__)

DRAIN_SECONDS: Final = 10.0
_IMPORT_DELAY: Final = 0.01
_PARENT_SECONDS: Final = 0.5
_FLUSH_SECONDS: Final = 5.0


class Process:
    """One sidecar on one pair of descriptors."""

    def __init__(
        self,
        wire_in: int,
        wire_out: int,
        *,
        agreement: early.Agreement,
        environ: Mapping[str, str],
        parent: int,
    ) -> None:
        """Prepare to serve; `environ` is the environment as it was at the start, `parent` who started us."""
        self.agreement = agreement
        self.environ = environ
        self.draining = False
        self.drain_seconds = DRAIN_SECONDS
        self.status_since = now_text()
        self.started = time.monotonic()
        self.engine_ready = asyncio.Event()
        self.engine_error: str | None = None
        self.methods: Methods | None = None
        self._parent = parent
        self._loop = asyncio.get_running_loop()
        self._stopped: asyncio.Future[int] = self._loop.create_future()
        self._handlers: dict[str, Handler] = {"initialize": self._initialize, "ping": early.ping}
        self.writer = stdio.LineWriter(wire_out, self._broken, self._pressure)
        self.writer.large.on_pressure = self._lane_pressure
        self.peer = Peer(self.writer, self._handlers, early=early.EARLY, max_frame=agreement.limits.max_frame_bytes)
        self.peer.refuse = self._refuse
        self.reader = stdio.LineReader(wire_in, self, agreement.limits.max_frame_bytes)
        self._drainer: asyncio.Task[None] | None = None
        self._importing = False
        self._shutting_down = False
        self._signals = 0

    # -- serving ----------------------------------------------------------------------------------------------

    async def run(self) -> int:
        """Serve until the end and return the exit code."""
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, self._on_signal)
        self.reader.start()
        # What stands in the pipe is answered first; then the imports run beside.
        self._loop.call_later(_IMPORT_DELAY, self._import)
        watch = self._loop.create_task(self._watch_parent())
        try:
            return await self._stopped
        finally:
            watch.cancel()
            self.reader.stop()
            if self.peer.in_flight:
                # Stopped at once: what is in flight is told so, as far as the pipe takes it in one turn.
                self.peer.abort_all(self._cut)
                await asyncio.sleep(0)

    def line(self, line: bytes) -> None:
        """Take one line of the host."""
        self.peer.line(line)
        self.reader.splitter.limit = self.peer.max_frame

    def too_long(self, head: bytes, tail: bytes, size: int) -> None:
        """Answer a line over the limit."""
        self.peer.too_long(head, tail, size)

    def end(self, error: OSError | None) -> None:
        """Drain, or stop at once: the host sends no more."""
        del error
        self.peer.no_more_answers()
        if stdio.peer_gone(self.writer.fd) or os.getppid() != self._parent:
            self._stop(0)
        elif self._drainer is None and not self.draining:
            seconds = DRAIN_SECONDS if self.agreement.initialized else None
            self._drainer = self._loop.create_task(self._drain(seconds))

    def _initialize(self, request: Request) -> Outcome:
        outcome = self.agreement.initialize(request)
        if self.methods is not None:
            self.methods.agree()
        return outcome

    def _import(self) -> None:
        if not self._importing:
            self._importing = True
            threading.Thread(target=self._load, name="import", daemon=True).start()

    def _load(self) -> None:
        interval = sys.getswitchinterval()
        sys.setswitchinterval(0.0005)  # answers come first while modules load
        gc.disable()  # nothing that an import makes is garbage
        try:
            methods = importlib.import_module("sidecar.methods")
            self._loop.call_soon_threadsafe(self._open, methods.Methods)
            engine.load()
            self._loop.call_soon_threadsafe(self._engine_loaded)
        except RuntimeError:
            return  # the loop has ended meanwhile
        except BaseException:
            logger.exception("the engine cannot be loaded")
            with contextlib.suppress(RuntimeError):
                self._loop.call_soon_threadsafe(self._engine_failed)
        finally:
            gc.freeze()
            gc.enable()
            sys.setswitchinterval(interval)

    def _open(self, build: Callable[[Process], Methods]) -> None:
        self.methods = build(self)
        self._handlers.update(self.methods.table())
        self.peer.open_gate()

    def _engine_loaded(self) -> None:
        self.engine_ready.set()
        self.status_changed()

    def status_changed(self) -> None:
        """Note that the status of `sidecar/health` is another from now on; a process that drains stays draining."""
        if not self.draining:
            self.status_since = now_text()

    def _engine_failed(self) -> None:
        self.status_changed()
        self.engine_error = "the engine cannot be loaded: see the log, and run `make setup` or reinstall"
        self.engine_ready.set()
        if not self.peer.open:
            self.peer.refuse = lambda _: errors.Internal(str(self.engine_error))
            self.peer.fatal = True
            self.peer.open_gate()

    async def engine(self) -> None:
        """Wait until the engine is loaded."""
        await self.engine_ready.wait()
        if self.engine_error is not None:
            raise errors.NotReady(self.engine_error)

    def _refuse(self, request: Request) -> errors.WireError | None:
        if self.draining and request.method not in _STILL_SERVED:
            return errors.Draining("the sidecar is shutting down", deadlineMs=int(self.drain_seconds * 1000))
        return None

    def _pressure(self, pressed: bool) -> None:
        if self.methods is not None:
            self.methods.pressure(pressed)

    def _lane_pressure(self, lane: Hashable, pressed: bool) -> None:
        if self.methods is not None:
            self.methods.hub.lane_pressure(lane, pressed)

    # -- ending -----------------------------------------------------------------------------------------------

    async def shutdown(self, request: Request, seconds: float) -> Outcome:
        """Serve `shutdown`: drain, close everything, answer, exit."""
        self._shutting_down = True
        if self._drainer is not None:
            self._drainer.cancel()
        finished = asyncio.Event()
        # Its own task: a deadline of the request ends the waiting, not the drain.
        self._drainer = self._loop.create_task(self._drain(seconds, request, finished))
        await finished.wait()
        return b"{}"

    async def _drain(
        self, seconds: float | None, request: Request | None = None, finished: asyncio.Event | None = None
    ) -> None:
        await self._finish(seconds, request)
        if request is not None and finished is not None:
            finished.set()
            while not request.answered:
                await self.peer.one_answered()
        await self._exit()

    def begin_draining(self, seconds: float = DRAIN_SECONDS) -> None:
        """Take no new work from now on."""
        if not self.draining:
            self.draining = True
            self.drain_seconds = seconds
            self.status_since = now_text()

    async def _finish(self, seconds: float | None, but: Request | None) -> None:
        try:
            async with asyncio.timeout(seconds):
                while any(request is not but for request in self.peer.in_flight.values()):
                    await self.peer.one_answered()
        except TimeoutError:
            self.drain_seconds = seconds or 0.0
            self.peer.abort_all(self._cut, but)
        if self.methods is not None:
            await self.methods.close()

    def _cut(self, request: Request) -> errors.WireError:
        millis = int(self.drain_seconds * 1000)
        return errors.Draining("the sidecar is shutting down", deadlineMs=millis, delivered=request.delivered)

    async def _exit(self) -> None:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(_FLUSH_SECONDS):
                await self.writer.drained()
        self._stop(0)

    def _stop(self, code: int) -> None:
        if not self._stopped.done():
            self._stopped.set_result(code)

    def _on_signal(self, number: int, frame: object) -> None:
        """Note a signal at once: a line that comes after it is new work, also where both wait for the loop."""
        del frame
        self._signals += 1
        self.begin_draining()
        with contextlib.suppress(RuntimeError):
            self._loop.call_soon_threadsafe(self._signalled, number, self._signals)

    def _signalled(self, number: int, count: int) -> None:
        if count > 1:
            self._stop(128 + number)
        elif self._drainer is None and not self._shutting_down:
            self._drainer = self._loop.create_task(self._drain(DRAIN_SECONDS))

    def _broken(self, error: OSError) -> None:
        logger.info("the host's end of the wire is closed: %s", error)
        self._stop(0 if self.agreement.initialized else 1)

    async def _watch_parent(self) -> None:
        """Stop when the host has died but something else still holds its end of the pipe."""
        while True:
            await asyncio.sleep(_PARENT_SECONDS)
            if os.getppid() != self._parent:
                self._stop(1)


_STILL_SERVED: Final = frozenset({"ping", "sidecar/health"})
