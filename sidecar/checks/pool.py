"""The checkers: worker processes that do foreign work under a budget, so that no schema holds up the loop.

A job that uses up its processor time takes its worker with it, and nothing else: the next job gets a new one. Jobs
of different scopes take turns. Workers start when they are needed and end when they have nothing to do.
"""

from __future__ import annotations

import asyncio
import hashlib
import logging
import sys
from collections import OrderedDict, deque
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import msgspec

from sidecar import errors, frames
from sidecar.checks.definitions import digest, invisible, may_hide
from sidecar.stdio import LineSplitter
from sidecar.transports.output import Output, StderrRing
from sidecar.transports.stdio import ChildInput

if TYPE_CHECKING:
    from collections.abc import Hashable, Sequence

    from sidecar.transports.faults import Payload
    from sidecar.transports.guard import Child, Guard

logger: Final = logging.getLogger(__name__)

WORKERS: Final = 2
CPU_SECONDS: Final = 0.05
"""Processor time of one check."""
_CPU_PER_MIB: Final = 0.025
_WALL_SECONDS: Final = 0.6
"""How long a check may take on a busy machine, once its worker has begun it."""
_WALL_PER_MIB: Final = 0.2
_START_SECONDS: Final = 10.0
_IDLE_SECONDS: Final = 60.0
_INLINE: Final = 16 << 10
"""Bytes of definitions that are hashed at once, on the loop; more goes to a worker."""
_DIGEST_CPU: Final = 5.0
_KNOWN: Final = 8192
_LINE: Final = 8 << 20
_PROGRAM: Final = str(Path(__file__).with_name("worker.py"))


@dataclass(frozen=True)
class Digest:
    """What is known of one tool definition."""

    hash: str
    hidden: tuple[str, ...] = ()
    """JSON pointers to invisible characters."""


@dataclass
class _Job:
    scope: Hashable
    head: bytes
    cpu: float
    wall: float
    schema: bytes = b""
    future: asyncio.Future[dict[str, Any]] = field(default_factory=lambda: asyncio.get_running_loop().create_future())


class OutOfBudget(Exception):
    """A job used up its time or its worker's memory."""


class Checkers:
    """Does jobs in worker processes, fairly between scopes."""

    def __init__(self, guard: Guard) -> None:
        """Start workers through `guard`, once there is work."""
        self._guard = guard
        self._queues: OrderedDict[Hashable, deque[_Job]] = OrderedDict()
        self._tasks: set[asyncio.Task[None]] = set()
        self._idle: list[asyncio.Future[None]] = []
        self._known: OrderedDict[bytes, Digest] = OrderedDict()
        self._closed = False

    # -- results against schemas ------------------------------------------------------------------------------

    async def check(self, scope: Hashable, schema: bytes, value: Payload) -> None:
        """Check a structured result. Raises SchemaViolation where it fails, or the check runs out of budget."""
        mib = len(value) / (1 << 20)
        cpu = CPU_SECONDS + mib * _CPU_PER_MIB
        key = hashlib.blake2b(schema, digest_size=16).hexdigest()
        head = b'"op":"check","key":"%b","cpu":%f,"value":%b' % (key.encode(), cpu, frames.one_line(bytes(value)))
        job = _Job(scope, head, cpu, _WALL_SECONDS + mib * _WALL_PER_MIB, frames.one_line(schema))
        try:
            outcome = await self._do(job)
        except OutOfBudget:
            text = f"checking the result against its output schema took more than {int(cpu * 1000)} ms"
            raise errors.SchemaViolation(text, delivered="yes", path="", budget=True) from None
        except errors.SidecarError as error:
            error.delivered = "yes"  # whatever kept us from checking, the tool has run
            raise
        if "path" in outcome:
            path = str(outcome["path"])
            text = f"the result does not pass its output schema at {path or 'its top'}: {outcome['why']}"
            budget = True if outcome.get("budget") else None
            raise errors.SchemaViolation(text, delivered="yes", path=path, budget=budget)

    # -- tool definitions -------------------------------------------------------------------------------------

    async def digests(self, scope: Hashable, tools: Sequence[msgspec.Raw]) -> list[Digest]:
        """Return what is to know of each definition. Those seen before cost nothing, many new ones go to a worker."""
        texts = [frames.one_line(bytes(tool)) for tool in tools]
        keys = [hashlib.blake2b(text, digest_size=16).digest() for text in texts]
        missing = {key: text for key, text in zip(keys, texts, strict=True) if key not in self._known}
        found: dict[bytes, Digest] = {}
        if sum(map(len, missing.values())) <= _INLINE:
            for key, text in missing.items():
                hidden = tuple(invisible(text)) if may_hide(text) else ()
                found[key] = Digest(digest(text), hidden)
        else:
            body = b",".join(missing.values())
            job = _Job(scope, b'"op":"digest","cpu":%f,"tools":[%b]' % (_DIGEST_CPU, body), _DIGEST_CPU, 30.0)
            try:
                outcome = await self._do(job)
            except OutOfBudget:
                raise errors.BadPeerMessage(
                    "the server's tool definitions are too large to be compared",
                    reason="tool definitions too large",
                    delivered="yes",
                ) from None
            for key, (hashed, hidden) in zip(missing, outcome["tools"], strict=True):
                found[key] = Digest(hashed, tuple(hidden))
        for key, known in found.items():
            self._known[key] = known
        answer = [found[key] if key in found else self._known[key] for key in keys]
        while len(self._known) > _KNOWN:
            self._known.popitem(last=False)
        return answer

    # -- jobs -------------------------------------------------------------------------------------------------

    async def _do(self, job: _Job) -> dict[str, Any]:
        if self._closed:
            raise errors.Draining("shutdown has begun", delivered="yes", deadlineMs=0)
        self._queues.setdefault(job.scope, deque()).append(job)
        while self._idle:
            waiter = self._idle.pop()
            if not waiter.done():
                waiter.set_result(None)
                break
        else:
            if len(self._tasks) < WORKERS:
                task = asyncio.get_running_loop().create_task(self._serve())
                self._tasks.add(task)
                task.add_done_callback(self._tasks.discard)
        return await job.future

    def _next(self) -> _Job | None:
        """Return the next job: each scope's oldest in turn."""
        while self._queues:
            scope, queue = self._queues.popitem(last=False)
            while queue:
                job = queue.popleft()
                if job.future.done():  # whoever asked has left
                    continue
                if queue:
                    self._queues[scope] = queue  # at the end: the others come first
                return job
        return None

    async def _serve(self) -> None:
        """Run one worker after the other, as long as there is work."""
        worker: _Worker | None = None
        try:
            while not self._closed:
                job = self._next()
                if job is None:
                    waiter: asyncio.Future[None] = asyncio.get_running_loop().create_future()
                    self._idle.append(waiter)
                    done, _ = await asyncio.wait({waiter}, timeout=_IDLE_SECONDS)
                    if not done:
                        self._idle.remove(waiter)
                        return
                    continue
                worker = await self._run(job, worker)
        finally:
            if worker is not None:
                worker.close()

    async def _run(self, job: _Job, worker: _Worker | None) -> _Worker | None:
        """Do one job; return the worker where it is still good."""
        try:
            if worker is None or worker.ended:
                async with asyncio.timeout(_START_SECONDS):
                    worker = await _Worker.start(self._guard)
            outcome = await worker.do(job)
        except OutOfBudget as error:
            assert worker is not None
            worker.close()
            worker = None
            _fail(job, error)
        except errors.SidecarError as error:
            _fail(job, error)
        except TimeoutError:
            _fail(job, errors.Unresponsive("the checker did not start", delivered="yes", stalledMs=int(1e4)))
        except asyncio.CancelledError:
            _fail(job, errors.Draining("shutdown has begun", delivered="yes", deadlineMs=0))
            raise
        except Exception as error:
            logger.exception("a check failed inside the sidecar")
            _fail(job, error)
        else:
            if not job.future.done():
                job.future.set_result(outcome)
        return worker

    async def aclose(self) -> None:
        """End every worker; checks that wait fail."""
        self._closed = True
        tasks = list(self._tasks)
        for task in tasks:
            task.cancel()
        while (job := self._next()) is not None:
            _fail(job, errors.Draining("shutdown has begun", delivered="yes", deadlineMs=0))
        if tasks:
            await asyncio.wait(tasks, timeout=2.0)


def _fail(job: _Job, error: BaseException) -> None:
    if not job.future.done():
        job.future.set_exception(error)
        job.future.exception()  # whoever waited may have left


class _Worker:
    """One process; one job at a time."""

    def __init__(self, child: Child) -> None:
        self._child = child
        self._answer: asyncio.Future[dict[str, Any]] | None = None
        self._number = 0
        self._input = ChildInput(child.stdin, self.close)
        self._output = Output(child.stdout, LineSplitter(self, _LINE), lambda: None)
        self._stderr = StderrRing({"logger": "sidecar.checks"}, log=True)
        self._stderr.attach(child.stderr)
        child.exited.add_done_callback(lambda _: self._gone())

    @classmethod
    async def start(cls, guard: Guard) -> _Worker:
        """Start a process and wait for its first word. Raises SidecarErrors."""
        worker = cls(await guard.spawn([sys.executable, "-I", "-B", _PROGRAM], {}, None))
        try:
            await worker._reply()
        except BaseException:
            worker.close()
            raise
        return worker

    @property
    def ended(self) -> bool:
        return self._child.exited.done()

    async def do(self, job: _Job) -> dict[str, Any]:
        """Do a job. Raises OutOfBudget, after which the worker is of no use."""
        try:
            async with asyncio.timeout(job.wall):
                self._send(job, b"")
                outcome = await self._reply()
                if "unknown" in outcome:
                    self._send(job, b',"schema":' + job.schema)
                    outcome = await self._reply()
        except TimeoutError:
            raise OutOfBudget from None
        return outcome

    def _send(self, job: _Job, schema: bytes) -> None:
        self._number += 1
        self._input.put(b'{"id":%d,%b%b}\n' % (self._number, job.head, schema), None)

    async def _reply(self) -> dict[str, Any]:
        if self.ended:
            raise OutOfBudget
        self._answer = asyncio.get_running_loop().create_future()
        return await self._answer

    def _gone(self) -> None:
        if self._answer is not None and not self._answer.done():
            self._answer.set_exception(OutOfBudget())
            self._answer.exception()

    # -- the line sink ----------------------------------------------------------------------------------------

    def line(self, line: bytes) -> None:
        """Take one outcome."""
        outcome: dict[str, Any] = msgspec.json.decode(line)
        if self._answer is not None and not self._answer.done() and outcome.pop("id") == self._number:
            self._answer.set_result(outcome)

    def too_long(self, head: bytes, tail: bytes, size: int) -> None:
        """Part of the line sink; outcomes are short."""

    def end(self, error: OSError | None) -> None:
        """Part of the line sink; the end is told by the process."""

    def close(self) -> None:
        """End the process."""
        self._child.kill()
        self._input.close()
        self._output.close()
        self._stderr.close()
        self._gone()
