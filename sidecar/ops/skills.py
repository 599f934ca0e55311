"""Skills (the extension of SEP-2640): entries are listed, files are read only when asked for, and only as listed.

A file is held against its skill's entry before it is passed on: size, digest, and of `SKILL.md` the front matter. As
long as a skill's `SKILL.md` has not passed, no other file of it is read.
"""

from __future__ import annotations

import asyncio
import base64
import binascii
import hashlib
import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final
from weakref import WeakKeyDictionary

import msgspec

from sidecar import errors, frames
from sidecar.config import invalid
from sidecar.ops.questions import Later
from sidecar.ops.send import send
from sidecar.transports.faults import Payload, bad_peer

if TYPE_CHECKING:
    from collections.abc import Mapping

    from sidecar.connection import Connection, Link
    from sidecar.request import Request

EXTENSION: Final = "io.modelcontextprotocol/skills"
MAX_PAGES: Final = 1000
MAX_SHELF_BYTES: Final = 8 << 20
"""How much of entries is remembered of a link; what is forgotten is looked up again."""
_MATTER: Final = re.compile(rb"\A(?:\xef\xbb\xbf)?---[ \t]*\r?\n(.*?)(?:\r?\n)?---[ \t]*(?:\r?\n|\Z)", re.DOTALL)
_MATTER_BYTES: Final = 64 * 1024
_MAIN: Final = "/SKILL.md"


@dataclass
class Skill:
    """One entry: what a server says of a skill and its files."""

    uri: str
    matter: Any
    files: dict[str, tuple[str, int]]
    """URI -> digest and size; empty where they are dynamic."""
    dynamic: bool
    until: float
    """When the entry must be looked up again."""
    passed: bool = False
    """Whether `SKILL.md` was read and found to be what the entry says."""

    def has(self, uri: str) -> bool:
        """Tell whether a file belongs to this skill."""
        return (
            uri == self.uri or uri in self.files or (self.dynamic and uri.startswith(self.uri.removesuffix("SKILL.md")))
        )


@dataclass
class Shelf:
    """The entries that a link has seen."""

    skills: dict[str, Skill] = field(default_factory=dict)
    size: int = 0
    """Bytes of entries since it was last emptied."""

    def find(self, uri: str, now: float) -> Skill | None:
        """Return the entry that a file belongs to, while it is fresh."""
        found = self.skills.get(uri) or next((skill for skill in self.skills.values() if skill.has(uri)), None)
        return found if found is not None and found.until > now else None


class Skills:
    """Serves `skills/read`, and remembers what `skills/list` and `skills/get` told."""

    def __init__(self) -> None:
        """Know no entry."""
        self._shelves: WeakKeyDictionary[Link, Shelf] = WeakKeyDictionary()

    def note(self, link: Link, method: str, result: Payload) -> None:
        """Remember the entries of a result that is about to be passed on; a bad entry is the reader's to refuse."""
        for raw, seconds in _entries(method, result):
            try:
                self._keep(link, raw, seconds)
            except (errors.BadPeerMessage, msgspec.DecodeError):
                continue

    def _keep(self, link: Link, raw: msgspec.Raw, seconds: float) -> Skill:
        skill = _skill(raw, asyncio.get_running_loop().time() + seconds)
        shelf = self._shelves.setdefault(link, Shelf())
        before = shelf.skills.get(skill.uri)
        if before is not None and (before.matter, before.files) == (skill.matter, skill.files):
            skill.passed = before.passed
        shelf.size += len(memoryview(raw))
        if shelf.size > MAX_SHELF_BYTES:
            shelf.skills.clear()
            shelf.size = len(memoryview(raw))
        shelf.skills[skill.uri] = skill
        return skill

    async def read(
        self, request: Request, connection: Connection, link: Link, params: Mapping[str, msgspec.Raw]
    ) -> Payload:
        """Serve `skills/read`. Raises BadPeerMessage for a file that is not what its entry says."""
        uri = frames.text_of(params.get("uri", _EMPTY))
        if uri is None:
            raise invalid("/uri", "must be a string")
        skill = await self._entry(request, connection, link, uri)
        if uri != skill.uri and not skill.passed:
            await self._file(request, connection, link, skill, skill.uri, {})
        more = {name: value for name, value in params.items() if name != "uri"}
        return await self._file(request, connection, link, skill, uri, more)

    async def _entry(self, request: Request, connection: Connection, link: Link, uri: str) -> Skill:
        shelf = self._shelves.setdefault(link, Shelf())
        skill = shelf.find(uri, asyncio.get_running_loop().time())
        if skill is not None:
            return skill
        cursor: msgspec.Raw | None = None
        for _ in range(MAX_PAGES):
            page = {"cursor": cursor} if cursor is not None else {}
            result = await send(connection, link, "skills/list", page, _track(request))
            for raw, seconds in _entries("skills/list", result):
                found = self._keep(link, raw, seconds)
                if found.has(uri):
                    return found
            cursor = frames.member(msgspec.Raw(bytes(result)), "nextCursor")
            if cursor is None or bytes(cursor) == b"null":
                raise bad_peer("no skill of the server has this file", "maybe")
        raise bad_peer(f"the list of skills has more than {MAX_PAGES} pages", "maybe")

    async def _file(
        self,
        request: Request,
        connection: Connection,
        link: Link,
        skill: Skill,
        uri: str,
        more: Mapping[str, msgspec.Raw],
    ) -> Payload:
        asked = {"uri": msgspec.Raw(frames.quote(uri)), **more}
        result = await send(connection, link, "resources/read", asked, _track(request))
        contents = frames.member(msgspec.Raw(bytes(result)), "contents")
        try:
            found = frames.elements(contents) if contents is not None else []
        except msgspec.DecodeError:
            found = []
        if len(found) != 1:
            raise bad_peer("a file of a skill is not one content", "yes")
        data = _bytes(found[0])
        # Hashing and parsing what a server sent is bounded by maxResultBytes, but not the loop's work.
        reason = await asyncio.to_thread(_fault, skill, uri, data)
        if reason is not None:
            if uri == skill.uri:
                skill.passed = False
            raise bad_peer(reason, "yes")
        if uri == skill.uri:
            skill.passed = True
        return result


def _track(request: Request) -> Any:
    """Return the call itself for its first message, and what follows it for the later ones."""
    return Later(request) if request.delivered != "no" else request


def _fault(skill: Skill, uri: str, data: bytes) -> str | None:
    """Return why a file is not what its entry says, or None."""
    listed = skill.files.get(uri)
    if listed is None and not skill.dynamic:
        return "the skill's entry does not list this file"
    if listed is not None:
        digest, size = listed
        if len(data) != size:
            return "the file's size is not that of the skill's entry"
        if "sha256:" + hashlib.sha256(data).hexdigest() != digest:
            return "the file's digest is not that of the skill's entry"
    if uri == skill.uri:
        try:
            matter = front_matter(data)
        except ValueError as error:
            return f"the front matter of SKILL.md cannot be read: {error}"
        if not _same(matter, skill.matter):
            return "the front matter of SKILL.md is not that of the skill's entry"
    return None


def front_matter(data: bytes) -> Any:
    """Return the YAML front matter of a SKILL.md. Raises ValueError; aliases and duplicate keys are refused."""
    import yaml  # type: ignore[import-untyped]  # it ships no types

    class Loader(yaml.SafeLoader):  # type: ignore[misc]  # the library is untyped
        """Reads what JSON can say."""

        def compose_node(self, parent: Any, index: Any) -> Any:
            if self.check_event(yaml.AliasEvent):
                raise yaml.YAMLError("aliases are not allowed")
            return super().compose_node(parent, index)

        def construct_mapping(self, node: Any, deep: bool = False) -> dict[Any, Any]:
            keys = [self.construct_object(key, deep=deep) for key, _ in node.value]
            if len(set(keys)) != len(keys) or not all(isinstance(key, str) for key in keys):
                raise yaml.YAMLError("keys are texts, each once")
            found: dict[Any, Any] = super().construct_mapping(node, deep=deep)
            return found

    found = _MATTER.match(data)
    if found is None:
        raise ValueError("there is none")
    if len(found[1]) > _MATTER_BYTES:
        raise ValueError("it is longer than 64 kB")
    try:
        return yaml.load(found[1].decode("utf-8"), Loader=Loader)  # noqa: S506 - a SafeLoader
    except (yaml.YAMLError, UnicodeDecodeError, RecursionError, TypeError):
        raise ValueError("it is not YAML that JSON can say") from None


def _same(one: Any, other: Any) -> bool:
    """Tell whether two JSON values are equal; unlike in Python, true is not 1."""
    if isinstance(one, dict) and isinstance(other, dict):
        return one.keys() == other.keys() and all(_same(value, other[key]) for key, value in one.items())
    if isinstance(one, list) and isinstance(other, list):
        return len(one) == len(other) and all(map(_same, one, other))
    return isinstance(one, bool) == isinstance(other, bool) and bool(one == other)


def _bytes(content: msgspec.Raw) -> bytes:
    parts = frames.members(content)
    text = frames.text_of(parts.get("text", _EMPTY))
    if text is not None:
        return text.encode()
    blob = frames.text_of(parts.get("blob", _EMPTY))
    try:
        return base64.b64decode(blob or "", validate=True) if blob is not None else _raise()
    except binascii.Error:
        return _raise()


def _raise() -> bytes:
    raise bad_peer("a file of a skill has neither text nor blob", "yes")


def _entries(method: str, result: Payload) -> list[tuple[msgspec.Raw, float]]:
    """Return the entries of a result with the seconds for which they hold."""
    try:
        parts = frames.members(msgspec.Raw(bytes(result)))
        if method == "skills/get":
            found = [parts["skill"]] if "skill" in parts else []
        else:
            found = frames.elements(parts.get("skills", _NONE))
        ttl = msgspec.json.decode(parts.get("ttlMs", _ZERO), type=float)
    except msgspec.DecodeError:
        raise bad_peer("the result has no list of skills", "yes") from None
    return [(raw, min(max(ttl, 0.0), 86_400_000.0) / 1000) for raw in found]


def _skill(raw: msgspec.Raw, until: float) -> Skill:
    """Return an entry. Raises BadPeerMessage for one that says no skill."""
    body = msgspec.json.decode(raw)
    try:
        uri, matter, resources = body["uri"], body["frontmatter"], body["resources"]
        dynamic = resources == "dynamic"
        files = {} if dynamic else {part["uri"]: (part["digest"], part["size"]) for part in resources}
        whole = isinstance(uri, str) and isinstance(matter, dict) and uri.endswith(_MAIN)
        whole = whole and all(isinstance(name, str) for name in files)
    except (KeyError, TypeError):
        whole = False
    if not whole or not (dynamic or uri in files):
        raise bad_peer("a skill's entry is malformed", "yes")
    return Skill(uri, matter, files, dynamic, until)


_EMPTY: Final = msgspec.Raw(b"{}")
_NONE: Final = msgspec.Raw(b"[]")
_ZERO: Final = msgspec.Raw(b"0")
