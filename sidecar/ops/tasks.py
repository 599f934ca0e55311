"""Background tasks of both eras: driven to their end inside the call, or left to the host as a task object.

2025-11-25 has them in its core (`task` in the params, `tasks/result`), the modern era as an extension (`resultType`
"task", the outcome inside `tasks/get`). Input that a task asks for goes to the same handlers as everything else.
"""

from __future__ import annotations

import asyncio
import logging
from typing import TYPE_CHECKING, Final

import msgspec

from sidecar import errors, frames
from sidecar.config import invalid
from sidecar.ops.questions import Later, Questions
from sidecar.ops.rounds import MAX_ROUNDS, Rounds, after_first, questions_of
from sidecar.ops.send import send
from sidecar.transports.faults import Payload, bad_peer, remote_error

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from sidecar.connection import Connection, Link
    from sidecar.request import Request

logger: Final = logging.getLogger(__name__)

ENDED: Final = frozenset({"completed", "failed", "cancelled"})
_POLL: Final = 0.02
_POLL_DEFAULT: Final = 0.5
_POLL_MAX: Final = 60.0
_CANCEL_SECONDS: Final = 5.0
_RESULT: Final = "tasks/result"


def object_of(result: Payload, *, modern: bool) -> msgspec.Raw | None:
    """Return the task object that a call was answered with; None for a result."""
    raw = msgspec.Raw(bytes(result))
    return raw if modern else frames.member(raw, "task")


def augments(link: Link) -> bool:
    """Tell whether a server of the older era takes calls as tasks."""
    found = link.agreed.capabilities
    for name in ("tasks", "requests", "tools", "call"):
        found = found.get(name) if isinstance(found, dict) else None
    return found is not None


def named(params: Mapping[str, msgspec.Raw]) -> str:
    """Return the task that an operation is about. Raises InvalidParams."""
    name = frames.text_of(params.get("taskId", _EMPTY))
    if name is None:
        raise invalid("/taskId", "must be a string")
    return name


class Tasks:
    """Drives tasks, and knows which ones the host has taken over."""

    def __init__(self, questions: Questions, rounds: Rounds) -> None:
        """Ask the host through `questions`."""
        self._questions = questions
        self._rounds = rounds
        self.on_ended: Callable[[Connection, str], None] = lambda *_: None
        """Told of each task that the host had taken over when it is over."""
        self._detached: dict[tuple[int, str], Connection] = {}

    # -- the host's own ---------------------------------------------------------------------------------------

    def detach(self, connection: Connection, task: msgspec.Raw) -> str:
        """Leave a task to the host; its connection stays open for it. Raises BadPeerMessage for no task object."""
        name = _name(task)
        key = (id(connection), name)
        if key not in self._detached:
            self._detached[key] = connection
            connection.keep("task")
            for member in ("ttlMs", "ttl"):
                seconds = _seconds(frames.member(task, member))
                if seconds is not None:
                    asyncio.get_running_loop().call_later(seconds, self.ended, connection, name)
                    break
        return name

    def ended(self, connection: Connection, name: str) -> None:
        """Note that a task that the host has taken over is over."""
        if self._detached.pop((id(connection), name), None) is not None:
            connection.let_go("task")
            self.on_ended(connection, name)

    def seen(self, connection: Connection, task: Payload | msgspec.Raw) -> None:
        """Note the status of a task that was told."""
        if not self._detached:
            return
        raw = task if isinstance(task, msgspec.Raw) else msgspec.Raw(bytes(task))
        name = frames.text_of(frames.member(raw, "taskId") or _EMPTY)
        if name is not None and _status(raw) in ENDED:
            self.ended(connection, name)

    # -- to the end -------------------------------------------------------------------------------------------

    async def drive(self, request: Request, connection: Connection, link: Link, task: msgspec.Raw) -> Payload:
        """Return what the task of a call ends with. Leaving early cancels it: nobody would ever fetch its result."""
        name = _name(task)
        done = False
        try:
            outcome = await self.result(request, connection, link, name)
            done = True
        except (errors.RemoteError, errors.Cancelled):
            done = True
            raise
        except errors.SidecarError as error:
            raise after_first(error) from None
        finally:
            if not done:
                link.channel.spawn(_cancel(connection, link, name))
        return outcome

    async def result(self, request: Request, connection: Connection, link: Link, name: str) -> Payload:
        """Wait for the end of a task and return it as its call would have. Raises RemoteError, Cancelled."""
        key = (id(connection), name)
        before = self._questions.tasks.get(key)
        self._questions.tasks[key] = request
        way = self._modern if link.agreed.modern else self._legacy
        try:
            return await way(request, connection, link, name)
        finally:
            self._questions.left(request)
            if before is not None:
                self._questions.tasks[key] = before
            else:
                del self._questions.tasks[key]

    async def _modern(self, request: Request, connection: Connection, link: Link, name: str) -> Payload:
        params = {"taskId": msgspec.Raw(frames.quote(name))}
        told: set[str] = set()
        rounds = 0
        delay = _POLL
        while True:
            parts = await self._get(request, connection, link, params)
            status = frames.text_of(parts.get("status", _EMPTY))
            if status == "completed":
                found = parts.get("result", _EMPTY)
                if frames.first(found) != b"{":
                    raise bad_peer("a completed task has no result", "yes")
                return frames.one_line(bytes(found))
            if status == "failed":
                raise remote_error(parts.get("error", _EMPTY))
            if status == "cancelled":
                raise _cancelled()
            if status == "input_required":
                asked = {key: ask for key, ask in questions_of(parts.get("inputRequests")).items() if key not in told}
                if asked:
                    rounds += 1
                    if rounds > MAX_ROUNDS:
                        raise errors.InputRounds(
                            f"the task asked for input in more than {MAX_ROUNDS} rounds",
                            rounds=MAX_ROUNDS,
                            delivered="yes",
                        )
                    answers = await self._rounds.answers(request, connection, asked)
                    update = params | {"inputResponses": msgspec.Raw(answers)}
                    await send(connection, link, "tasks/update", update, Later(request))
                    told |= asked.keys()
                    delay = _POLL
                    continue
            elif status != "working":
                raise bad_peer("a task with an unknown status", "yes")
            delay = await _pause(delay, parts.get("pollIntervalMs"))

    async def _legacy(self, request: Request, connection: Connection, link: Link, name: str) -> Payload:
        params = {"taskId": msgspec.Raw(frames.quote(name))}
        delay = _POLL
        while True:
            parts = await self._get(request, connection, link, params)
            status = frames.text_of(parts.get("status", _EMPTY))
            if status == "cancelled":
                raise _cancelled()
            if status in {"completed", "failed"}:
                return await send(connection, link, _RESULT, params, Later(request))
            if status == "input_required":
                # Its questions come on the stream of this request, which waits for the end.
                try:
                    return await send(connection, link, _RESULT, params, Later(request))
                except errors.RemoteError:
                    parts = await self._get(request, connection, link, params)
                    if frames.text_of(parts.get("status", _EMPTY)) == "cancelled":
                        raise _cancelled() from None
                    raise
            if status != "working":
                raise bad_peer("a task with an unknown status", "yes")
            delay = await _pause(delay, parts.get("pollInterval"))

    async def _get(
        self, request: Request, connection: Connection, link: Link, params: Mapping[str, msgspec.Raw]
    ) -> dict[str, msgspec.Raw]:
        result = await send(connection, link, "tasks/get", params, Later(request))
        return frames.members(msgspec.Raw(bytes(result)))


async def _pause(delay: float, asked: msgspec.Raw | None) -> float:
    """Wait before the next poll, and return how long to wait then: short first, never longer than asked."""
    most = _seconds(asked)
    most = min(max(most, _POLL), _POLL_MAX) if most else _POLL_DEFAULT
    await asyncio.sleep(min(delay, most))
    return min(delay * 2, most)


async def _cancel(connection: Connection, link: Link, name: str) -> None:
    try:
        async with asyncio.timeout(_CANCEL_SECONDS):
            await send(connection, link, "tasks/cancel", {"taskId": msgspec.Raw(frames.quote(name))})
    except (errors.SidecarError, TimeoutError) as error:
        logger.info("a task that nobody waits for was not cancelled: %s", error, extra=connection.label)


def _cancelled() -> errors.Cancelled:
    return errors.Cancelled("the task was cancelled", delivered="maybe")


def _name(task: msgspec.Raw) -> str:
    name = frames.text_of(frames.member(task, "taskId") or _EMPTY)
    if name is None:
        raise bad_peer("a task without a taskId", "yes")
    return name


def _status(task: msgspec.Raw) -> str | None:
    return frames.text_of(frames.member(task, "status") or _EMPTY)


def _seconds(raw: msgspec.Raw | None) -> float | None:
    try:
        value = msgspec.json.decode(raw, type=float | None) if raw is not None else None
    except msgspec.DecodeError:
        return None
    return min(max(value, 0.0), 10**9) / 1000 if value is not None else None


_EMPTY: Final = msgspec.Raw(b"{}")
