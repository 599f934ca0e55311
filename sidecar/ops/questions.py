"""What a server asks the host: elicitation, sampling, roots. One way for requests, input rounds and tasks.

What the host did not promise is not asked. Silence, an error or a wrong shape means "no" (wire section 5).
"""

from __future__ import annotations

import asyncio
import logging
from typing import TYPE_CHECKING, Any, Final

import msgspec

from sidecar import frames
from sidecar.callbacks import Host, HostRefused
from sidecar.ops.forms import Form, Unfit
from sidecar.promises import ASKED, modes, plain
from sidecar.request import Request
from sidecar.transports.channel import METHOD_NOT_FOUND, Call, ServerAnswer

if TYPE_CHECKING:
    from collections.abc import Mapping

    from sidecar.connection import Connection

logger: Final = logging.getLogger(__name__)

SECONDS: Final = 300.0
"""How long a question waits that belongs to no call of the host."""
ELICIT: Final = "elicitation/create"
SAMPLE: Final = "sampling/createMessage"
ROOTS: Final = "roots/list"
CAPABILITY: Final = {ELICIT: "elicitation", SAMPLE: "sampling", ROOTS: "roots"}
OURS: Final = frozenset({"server", "scope", "timeoutMs", "requestId"})
"""Members that are the sidecar's in what it sends; a server's of the same name would be taken for them."""
RELATED_TASK: Final = "io.modelcontextprotocol/related-task"
_INVALID_PARAMS: Final = -32602
_REJECTED: Final = -1
_CANCEL: Final = b'{"action":"cancel"}'
_NO_ROOTS: Final = b'{"roots":[]}'
_ACTIONS: Final = frozenset({"accept", "decline", "cancel"})


class Later:
    """The `Track` of what follows a call's first message: its bytes have left, whatever happens to the next ones."""

    def __init__(self, request: Request) -> None:
        """Belong to a request of the host, which waits from now on."""
        self.request = request
        request.phase = "wait"
        request.delivered = "maybe"
        self.phase = "wait"
        self.delivered = "maybe"


def asker(call: Call | None) -> Request | None:
    """Return the host's request that a call to the server was made for."""
    if call is None:
        return None
    track = call.track
    if isinstance(track, Request):
        return track
    return track.request if isinstance(track, Later) else None


class Questions:
    """Asks the host what servers ask."""

    def __init__(self, host: Host) -> None:
        """Ask `host`."""
        self._host = host
        self.tasks: dict[tuple[int, str], Request] = {}
        """Host's requests that wait for a background task, by connection and task id."""
        self._asking: dict[Request, set[asyncio.Task[Any]]] = {}

    def promised(self, connection: Connection) -> dict[str, Any]:
        """Return what the server of a connection is told of its host."""
        given = connection.config.capabilities
        found = plain(self._host.capabilities) if given is None else given
        told = {name: found[name] for name in ASKED if name in found}
        if given is None and "roots" not in told and _roots(connection) is not None:
            told["roots"] = {"listChanged": True}  # a host that gives roots promises them
        return told

    async def serve(self, connection: Connection, method: str, params: msgspec.Raw, call: Call | None) -> bytes:
        """Answer a request of a server. Raises ServerAnswer."""
        if method not in CAPABILITY:
            raise ServerAnswer(METHOD_NOT_FOUND, f"Method not found: {method[:100]}")
        request = asker(call)
        self.check(connection, method, params)
        if request is not None:
            return await self.ask(connection, method, params, request)
        request = self.of_task(connection, params)
        task = asyncio.current_task()
        if request is None or task is None:
            return await self.ask(connection, method, params, request)
        asking = self._asking.setdefault(request, set())
        asking.add(task)
        try:
            return await self.ask(connection, method, params, request)
        finally:
            asking.discard(task)

    def left(self, request: Request) -> None:
        """Take back what was asked for a background task that this request waited for."""
        for task in self._asking.pop(request, ()):
            task.cancel()

    def of_task(self, connection: Connection, params: msgspec.Raw) -> Request | None:
        """Return the host's request that waits for the task a message belongs to."""
        if not self.tasks:
            return None
        try:
            related = frames.members(frames.members(params).get("_meta", _EMPTY)).get(RELATED_TASK)
        except msgspec.DecodeError:
            return None
        name = frames.member(related, "taskId") if related is not None else None
        text = frames.text_of(name) if name is not None else None
        return self.tasks.get((id(connection), text)) if text is not None else None

    def check(self, connection: Connection, method: str, params: msgspec.Raw) -> None:
        """Refuse what the host did not promise, or what is no question. Raises ServerAnswer; its data names it."""
        promised = self.promised(connection)
        capability = CAPABILITY[method]
        if capability not in promised:
            raise ServerAnswer(METHOD_NOT_FOUND, f"Method not found: {method}", {"capability": capability})
        try:
            parts = frames.members(params)
        except msgspec.DecodeError:
            raise ServerAnswer(_INVALID_PARAMS, "params must be an object") from None
        if method == ELICIT:
            mode = _mode(parts)
            if mode not in modes(promised["elicitation"]):
                raise ServerAnswer(
                    _INVALID_PARAMS, "the client does not support this elicitation mode", {"capability": _named(mode)}
                )
            if mode == "form":
                try:
                    Form(parts.get("requestedSchema", _EMPTY))
                except Unfit as error:
                    raise ServerAnswer(_INVALID_PARAMS, f"requestedSchema: {error}") from None
        elif method == SAMPLE and "tools" not in promised["sampling"] and parts.keys() & {"tools", "toolChoice"}:
            raise ServerAnswer(
                METHOD_NOT_FOUND, "the client does not support tools in sampling", {"capability": "sampling.tools"}
            )

    async def ask(self, connection: Connection, method: str, params: msgspec.Raw, request: Request | None) -> bytes:
        """Ask the host what was checked; return the result for the server. Raises ServerAnswer for a sampling no."""
        if method == ROOTS and (known := _roots(connection)) is not None:
            return b'{"roots":%b}' % known
        seconds = SECONDS if request is None else request.left()
        connection.keep("reverse")
        try:
            answer = await self._host.ask(method, addressed(connection, params, request), seconds)
        except HostRefused as refusal:
            logger.info("the host refused %s: %d %s", method, refusal.code, refusal.message, extra=connection.label)
        except TimeoutError:
            logger.info("the host did not answer %s in time", method, extra=connection.label)
        else:
            try:
                return _taken(method, params, answer)
            except (Unfit, msgspec.DecodeError) as error:
                logger.warning("the host's answer to %s was not taken: %s", method, error, extra=connection.label)
        finally:
            connection.let_go("reverse")
        if method == ELICIT:
            return _CANCEL
        if method == ROOTS:
            return _NO_ROOTS
        raise ServerAnswer(_REJECTED, "User rejected sampling request")


def addressed(connection: Connection, params: msgspec.Raw, request: Request | None = None) -> bytes:
    """Return params of a server as what goes to the host: its members, and whose they are."""
    parts = [
        b'{"server":%b,"scope":%b' % (frames.quote(connection.name), msgspec.json.encode(connection.scope)),
    ]
    if request is not None:
        parts.append(b',"requestId":' + request.raw_id)
    try:
        members = frames.members(params)
    except msgspec.DecodeError:
        members = {}
    parts += [
        b",%b:%b" % (frames.quote(name), frames.one_line(bytes(value)))
        for name, value in members.items()
        if name not in OURS
    ]
    return b"".join((*parts, b"}"))


def _taken(method: str, params: msgspec.Raw, answer: bytes) -> bytes:
    """Return the host's answer as the server gets it. Raises Unfit or DecodeError for a wrong shape."""
    parts = frames.members(answer)
    if method == ELICIT:
        return _elicited(frames.members(params), parts, answer)
    if method == ROOTS:
        listed = frames.elements(parts.get("roots", _EMPTY))
        if any(frames.text_of(frames.members(root).get("uri", _EMPTY)) is None for root in listed):
            raise Unfit("a root has no uri")
    else:
        for name in ("role", "model"):
            if frames.text_of(parts.get(name, _EMPTY)) is None:
                raise Unfit(f"{name} is not a string")
        if frames.first(parts.get("content", _NULL)) not in {b"{", b"["}:
            raise Unfit("content is missing")
    return frames.one_line(answer)


def _elicited(asked: Mapping[str, msgspec.Raw], parts: dict[str, msgspec.Raw], answer: bytes) -> bytes:
    action = frames.text_of(parts.get("action", _EMPTY))
    if action not in _ACTIONS:
        raise Unfit("action is not accept, decline or cancel")
    if action != "accept":
        return frames.one_line(answer)
    content = parts.pop("content", None)
    members = [b"%b:%b" % (frames.quote(name), frames.one_line(bytes(value))) for name, value in parts.items()]
    if _mode(asked) == "form":
        if content is not None and bytes(content) == b"null":
            content = None
        members.append(b'"content":' + frames.one_line(Form(asked.get("requestedSchema", _EMPTY)).complete(content)))
    return b"{" + b",".join(members) + b"}"


def _mode(parts: Mapping[str, msgspec.Raw]) -> str | None:
    raw = parts.get("mode")
    return "form" if raw is None or bytes(raw) == b"null" else frames.text_of(raw)


def _named(mode: str | None) -> str:
    return f"elicitation.{mode}" if mode in {"form", "url"} else "elicitation"


def _roots(connection: Connection) -> bytes | None:
    """Return the roots that the host has given, as a JSON array."""
    return connection.desired.roots if connection.desired.roots is not None else connection.config.roots


_EMPTY: Final = msgspec.Raw(b"{}")
_NULL: Final = msgspec.Raw(b"null")


async def settle(work: list[asyncio.Task[bytes]]) -> list[bytes]:
    """Wait for all of several questions; the first that fails ends the others."""
    try:
        return list(await asyncio.gather(*work))
    except BaseException:
        for task in work:
            task.cancel()
        await asyncio.wait(work)
        raise
