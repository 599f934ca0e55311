"""Input-required rounds of the 2026-07-28 era: a server answers with questions, and gets the call again with answers.

The same questions as those of the older eras, brought to the same handlers. The server's state goes back byte for
byte, and only with the call that it came from.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any, Final

import msgspec

from sidecar import errors, frames
from sidecar.ops.questions import CAPABILITY, Later, Questions, settle
from sidecar.transports.channel import ServerAnswer
from sidecar.transports.faults import Payload, bad_peer

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Mapping

    from sidecar.connection import Connection
    from sidecar.request import Request

MAX_ROUNDS: Final = 10
METHODS: Final = frozenset({"tools/call", "prompts/get", "resources/read"})
"""Methods whose answer may be a round."""
_RESPONSES: Final = "inputResponses"
_STATE: Final = "requestState"
_PAUSE: Final = 0.05
_PAUSE_MAX: Final = 0.25
_TYPE: Final = b'"resultType"'
_COMPLETE: Final = b'"resultType":"complete"'


def result_type(result: Payload) -> str:
    """Return the type of a modern result; one that names none is complete. Raises BadPeerMessage for no string.

    Nothing is decoded unless something else than `complete` may stand at the top.
    """
    text = result if isinstance(result, bytes) else bytes(result)
    at = text.find(_TYPE)
    if at < 0 or (text.startswith(_COMPLETE, at) and text.find(_TYPE, at + len(_TYPE)) < 0):
        return "complete"
    raw = frames.member(msgspec.Raw(text), "resultType")
    if raw is None:
        return "complete"
    name = frames.text_of(raw)
    if name is None:
        raise bad_peer("resultType is not a string", "yes")
    return name


class Rounds:
    """Drives rounds to the result."""

    def __init__(self, questions: Questions) -> None:
        """Ask through `questions`."""
        self._questions = questions

    async def drive(
        self,
        request: Request,
        connection: Connection,
        params: Mapping[str, msgspec.Raw],
        first: Payload,
        send: Callable[[Mapping[str, msgspec.Raw], Later], Awaitable[Payload]],
    ) -> Payload:
        """Answer the questions of `first` and send the call again, until it is complete or a task.

        Raises InputRounds after ten rounds, CapabilityMissing for a question the host did not promise to answer,
        BadPeerMessage for what is no round.
        """
        if request.method not in METHODS:
            raise bad_peer(f"an input round in answer to {request.method}", "yes")
        result = first
        pause = _PAUSE
        for _ in range(MAX_ROUNDS):
            later = Later(request)
            asked, state = _read(result)
            follow = {name: value for name, value in params.items() if name not in {_RESPONSES, _STATE}}
            if asked:
                pause = _PAUSE
                follow[_RESPONSES] = msgspec.Raw(await self.answers(request, connection, asked))
            else:
                await asyncio.sleep(pause)
                pause = min(pause * 2, _PAUSE_MAX)
            if state is not None:
                follow[_STATE] = state
            try:
                result = await send(follow, later)
            except errors.SidecarError as error:
                raise after_first(error) from None
            if result_type(result) != "input_required":
                return result
        raise errors.InputRounds(
            f"the server asked for input in more than {MAX_ROUNDS} rounds", rounds=MAX_ROUNDS, delivered="yes"
        )

    async def answers(
        self, request: Request | None, connection: Connection, asked: Mapping[str, tuple[str, msgspec.Raw]]
    ) -> bytes:
        """Return the answers to several questions as a JSON object. Raises CapabilityMissing, BadPeerMessage."""
        questions = self._questions
        for method, params in asked.values():
            try:
                questions.check(connection, method, params)
            except ServerAnswer as refusal:
                raise _refused(refusal) from None
        tasks = [
            asyncio.ensure_future(questions.ask(connection, method, params, request))
            for method, params in asked.values()
        ]
        try:
            found = await settle(tasks)
        except ServerAnswer:
            # MCP has no place for this "no" inside a round.
            raise errors.CapabilityMissing(
                "the host declined to sample", capability="sampling", delivered="maybe"
            ) from None
        pairs = zip(asked, found, strict=True)
        return b"{" + b",".join(b"%b:%b" % (frames.quote(name), answer) for name, answer in pairs) + b"}"


def after_first(error: errors.SidecarError) -> errors.SidecarError:
    """Return an error of a later message of a call whose first one has arrived: never "no"."""
    if error.delivered == "no":
        error.delivered = "maybe"
    return error


def _refused(refusal: ServerAnswer) -> errors.SidecarError:
    data = refusal.data if isinstance(refusal.data, dict) else {}
    if "capability" not in data:
        return bad_peer(f"a malformed question: {refusal.message}", "yes")
    return errors.CapabilityMissing(
        "the server asks for what the host did not promise", capability=data["capability"], delivered="maybe"
    )


def _read(result: Payload) -> tuple[dict[str, tuple[str, msgspec.Raw]], msgspec.Raw | None]:
    """Return the questions and the state of a round. Raises BadPeerMessage."""
    parts = frames.members(msgspec.Raw(bytes(result)))
    state = parts.get(_STATE)
    if state is not None and bytes(state) == b"null":
        state = None
    if state is not None and frames.first(state) != b'"':
        raise bad_peer("requestState is not a string", "yes")
    asked = questions_of(parts.get("inputRequests"))
    if not asked and state is None:
        raise bad_peer("a round with neither inputRequests nor requestState", "yes")
    return asked, state


def questions_of(raw: msgspec.Raw | None) -> dict[str, tuple[str, msgspec.Raw]]:
    """Return `inputRequests` as method and params by key. Raises BadPeerMessage."""
    if raw is None or bytes(raw) == b"null":
        return {}
    found: dict[str, tuple[str, msgspec.Raw]] = {}
    try:
        for name, entry in frames.members(raw).items():
            parts = frames.members(entry)
            method = frames.text_of(parts.get("method", _EMPTY))
            if method not in CAPABILITY:
                raise bad_peer("a round asks with a method that is no question", "yes")
            found[name] = (method, parts.get("params", _EMPTY))
    except msgspec.DecodeError:
        raise bad_peer("inputRequests is not an object of requests", "yes") from None
    return found


_EMPTY: Final = msgspec.Raw(b"{}")


def refusal_of(result: Payload | Any) -> bool:
    """Tell whether a tool says that it cannot ask back on a connection of the modern era."""
    return isinstance(result, bytes) and any(text in result for text in _REFUSALS)


_REFUSALS: Final = (
    b"unavailable on 2026-07-28",  # FastMCP 4: ctx.elicit and the like
    b"no back-channel for server-initiated requests",  # MCP Python SDK 2
)
