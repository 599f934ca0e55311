"""The `mcpServers` of desktop clients, read into the params of `servers/connect` (wire section 4, `servers/import`).

Every fault is found, each with its JSON pointer: an unsupported key costs itself, any other fault its server.
"""

from __future__ import annotations

import json
import re
from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

from pydantic import ValidationError

from sidecar import config, errors, wire
from sidecar.config import pointer

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

_PLACEHOLDER: Final = re.compile(r"\$\{([^}]*)\}?")
_VARIABLE: Final = re.compile(r"([A-Za-z_][A-Za-z0-9_]*)(?::-(.*))?\Z", re.DOTALL)
_SURROGATE: Final = re.compile("[\ud800-\udfff]")
_SERVER_NAME: Final = re.compile(r"[A-Za-z0-9._-]{1,128}\Z")
_KEYS: Final = {
    "http": frozenset({"type", "url", "headers"}),
    "sse": frozenset({"type", "url", "headers"}),
    "stdio": frozenset({"type", "command", "args", "env", "cwd"}),
}
_TYPES: Final = {"http": "http", "streamable-http": "http", "sse": "sse", "stdio": "stdio"}
_MODELS: Final[dict[str, type[wire.HTTPTransport | wire.SSETransport | wire.StdioTransport]]] = {
    "http": wire.HTTPTransport,
    "sse": wire.SSETransport,
    "stdio": wire.StdioTransport,
}
_HARMLESS: Final[dict[str, Any]] = {"url": "https://example.com/", "command": "true", "args": ""}
"""What stands in for a faulty value while the next fault is looked for; other members are left out."""
HINTS: Final = {
    "servers": "unknown key: this is the form of another client, rename it to mcpServers",
    "disabled": "unsupported key: leave a server out of the file instead; it is imported",
    "envFile": "unsupported key: the file is not read, name the variables in env",
    "inputs": "unsupported key: nobody is asked, write ${NAME} and give env",
}


class Pairs(list[tuple[str, Any]]):
    """A JSON object as its members stand, repeated names too."""


def parse(text: bytes | str) -> Any:
    """Return JSON with its objects as `Pairs`. Raises ValueError with what is wrong and where."""
    try:
        if isinstance(text, bytes):
            text = text.decode("utf-8-sig")
        return json.loads(text, object_pairs_hook=Pairs, parse_constant=_no_constant)
    except UnicodeDecodeError:
        raise ValueError("not UTF-8") from None
    except json.JSONDecodeError as error:
        raise ValueError(f"not JSON: {error.msg}, line {error.lineno} column {error.colno}") from None
    except RecursionError:
        raise ValueError("not JSON: nested too deeply") from None


def _no_constant(name: str) -> Any:
    raise ValueError(f"not JSON: {name}")


def plain(value: Any, path: str, faults: list[errors.InvalidParams]) -> Any:
    """Return parsed JSON with dictionaries for objects; a name that comes twice is a fault."""
    if isinstance(value, Pairs):
        found: dict[str, Any] = {}
        for name, member in value:
            where = path + pointer(name)
            if name in found:
                faults.append(config.invalid(where, "this name comes twice"))
            found[name] = plain(member, where, faults)
        return found
    if isinstance(value, list):
        return [plain(member, path + pointer(index), faults) for index, member in enumerate(value)]
    return value


@dataclass
class Found:
    """What a configuration holds: the servers that can be made, and every fault."""

    servers: list[tuple[str, wire.ConnectParams]] = field(default_factory=list)
    """Each with the pointer to its entry."""
    faults: list[errors.InvalidParams] = field(default_factory=list)


def read(document: Any, env: Mapping[str, str], scope: wire.Scope | None = None) -> Found:
    """Return the servers of `{mcpServers: {name: entry}}`, parsed by `parse`; `${VAR}` come from `env` alone."""
    found = Found()
    if not isinstance(document, Pairs):
        found.faults.append(config.invalid("", "must be an object with mcpServers"))
        return found
    servers: Any = None
    for name, value in document:
        if name != "mcpServers":
            found.faults.append(config.invalid(pointer(name), HINTS.get(name, "unsupported key")))
        elif servers is not None:
            found.faults.append(config.invalid("/mcpServers", "this name comes twice"))
        else:
            servers = value
    if not isinstance(servers, Pairs):
        why = "missing" if servers is None else "must be an object of servers by name"
        found.faults.append(config.invalid("/mcpServers", why))
        return found
    read_servers(servers, env, scope, found)
    return found


def read_servers(servers: Pairs, env: Mapping[str, str], scope: wire.Scope | None, found: Found) -> None:
    """Add the servers of a `mcpServers` object, and their faults."""
    count = Counter(name for name, _ in servers)
    told: set[str] = set()
    for name, raw in servers:
        where = pointer("mcpServers", name)
        if count[name] > 1:
            if name not in told:
                told.add(name)
                found.faults.append(config.invalid(where, "this name comes twice"))
            continue
        entry = _Entry(name, where, env, scope)
        params = entry.read(raw)
        found.faults += entry.faults
        if params is not None:
            found.servers.append((where, params))


def expand(value: Any, path: str, env: Mapping[str, str], fault: Callable[[str, str], None]) -> Any:
    """Return parsed JSON with `${NAME}` and `${NAME:-default}` in its texts replaced, names of members as they are.

    What cannot be replaced is told to `fault` with its pointer.
    """
    if isinstance(value, list):
        return [expand(member, path + pointer(index), env, fault) for index, member in enumerate(value)]
    if isinstance(value, dict):
        return {name: expand(member, path + pointer(name), env, fault) for name, member in value.items()}
    if not isinstance(value, str):
        return value
    if _SURROGATE.search(value):
        fault(path, "not valid Unicode")
        return ""

    def variable(found: re.Match[str]) -> str:
        name = _VARIABLE.match(found[1]) if found[0].endswith("}") else None
        if name is None:
            fault(path, "only ${NAME} and ${NAME:-default} are understood")
            return ""
        have = env.get(name[1])
        if name[2] is not None:
            return have or name[2]
        if have is None:
            fault(path, f"the variable {name[1]} is not set")
        return have or ""

    return _PLACEHOLDER.sub(variable, value)


class _Entry:
    """One server of the file, while it is read."""

    def __init__(self, name: str, where: str, env: Mapping[str, str], scope: wire.Scope | None) -> None:
        self.faults: list[errors.InvalidParams] = []
        self._name = name
        self._where = where
        self._env = env
        self._scope = scope
        self._fatal = False
        self._blank: set[str] = set()
        """Where a variable is missing: what its text would have been cannot be judged."""

    def read(self, raw: Any) -> wire.ConnectParams | None:
        """Return the params of `servers/connect`; None where a fault keeps the server out."""
        if not _SERVER_NAME.match(self._name):
            self._fault("", "a server's name is 1-128 of A-Z a-z 0-9 . _ -")
        if not isinstance(raw, Pairs):
            self._fault("", "must be an object")
            return None
        before = len(self.faults)
        entry = {name: value for name, value in plain(raw, self._where, self.faults).items() if value is not None}
        self._fatal = self._fatal or len(self.faults) > before
        kind = self._kind(entry)
        if kind is None:
            return None
        for name in [name for name in entry if name not in _KEYS[kind]]:
            del entry[name]
            text = HINTS.get(name, f"unsupported key for a server of type {kind}: it is left out")
            self.faults.append(config.invalid(self._where + pointer(name), text))
        entry = expand(entry, "", self._env, self._missing)
        params = self._params(kind, entry)
        return None if self._fatal else params

    def _fault(self, path: str, message: str) -> None:
        """Note a fault that keeps the server out; `path` is a pointer into the entry."""
        self._fatal = True
        self.faults.append(config.invalid(self._where + path, message))

    def _missing(self, path: str, message: str) -> None:
        self._blank.add(path)
        self._fault(path, message)

    def _kind(self, entry: dict[str, Any]) -> str | None:
        """Return the type of the transport; None where it cannot be told."""
        if "command" in entry and "url" in entry:
            self._fault("", "command and url exclude each other")
            return None
        if "type" not in entry:
            if "command" not in entry and "url" not in entry:
                self._fault("", "a server needs a command or a url")
                return None
            return "stdio" if "command" in entry else "http"
        kind = _TYPES.get(entry["type"]) if isinstance(entry["type"], str) else None
        if kind is None:
            self._fault("/type", "the type is stdio, http, streamable-http or sse")
        return kind

    def _params(self, kind: str, entry: dict[str, Any]) -> wire.ConnectParams | None:
        """Return the params of `servers/connect`, and note everything that it would refuse."""
        try:
            transport = _MODELS[kind].model_validate({**entry, "type": kind})
        except ValidationError as error:
            for fault in error.errors(include_url=False, include_input=False, include_context=False):
                self._fault(pointer(*fault["loc"]), "missing" if fault["type"] == "missing" else fault["msg"])
            return None
        params = wire.ConnectParams.model_construct(server=self._name, scope=self._scope, transport=transport)
        for path, message in _refusals(params):
            if path not in self._blank:
                self._fault(path, message)
        return params


def _refusals(params: wire.ConnectParams) -> Iterator[tuple[str, str]]:
    """Yield every fault that `servers/connect` would find in a transport, as pointers into the transport.

    It tells one fault at a time: what is told is taken out, and the rest is asked again.
    """
    body = params.transport.model_dump(by_alias=True, exclude_none=True)
    while True:
        transport = type(params.transport).model_validate(body)
        try:
            config.server_config(params.model_copy(update={"transport": transport}), {})
        except errors.InvalidParams as error:
            path = str(error.extra["path"])
            short = path.removeprefix("/transport")
            yield short, error.message.removeprefix(f"{path}: ")
            if not _take_out(body, short):
                return
        else:
            return


def _take_out(body: dict[str, Any], path: str) -> bool:
    """Take the value at a pointer out of a transport; say whether that was possible."""
    name, *rest = [part.replace("~1", "/").replace("~0", "~") for part in path.split("/")[1:]]
    if name not in body:
        return False
    if rest and isinstance(body[name], list):
        body[name][int(rest[0])] = _HARMLESS["args"]
    elif rest and isinstance(body[name], dict):
        return body[name].pop(rest[0], None) is not None
    elif name in _HARMLESS:
        if body[name] == _HARMLESS[name]:
            return False
        body[name] = _HARMLESS[name]
    else:
        del body[name]
    return True
