"""Tool definitions: their hash, what differs between two of them, and characters in them that nobody sees.

Pure functions; the worker of `pool` and the sidecar itself use them alike.
"""

from __future__ import annotations

import hashlib
import re
from typing import TYPE_CHECKING, Any, Final

import msgspec
import rfc8785

if TYPE_CHECKING:
    from collections.abc import Iterator

MEMBERS: Final = ("name", "title", "description", "inputSchema", "outputSchema", "annotations")
"""What a hash covers: all that a model or a validator reads of a tool."""
_SAFE_INT: Final = 2**53 - 1
_DIFF_MAX: Final = 50
_TEXT_MAX: Final = 1000
_PATHS_MAX: Final = 20
_INVISIBLE: Final = (
    "\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f"  # control characters but tab and line breaks
    "\u00ad\u034f\u061c\u115f\u1160\u17b4\u17b5\u180b-\u180f"  # soft hyphen, joiners, fillers
    "\u200b-\u200f\u202a-\u202e\u2060-\u206f"  # zero width, bidirectional controls, invisible operators
    "\u3164\ufe00-\ufe0d\ufeff\uffa0\ufff9-\ufffb"  # fillers, variation selectors but those of emoji, byte order mark
    "\U0001d173-\U0001d17a\U000e0000-\U000e0fff"  # musical controls, tags, more variation selectors
)
_HIDDEN: Final = re.compile(f"[{_INVISIBLE}]")


def digest(tool: bytes | msgspec.Raw) -> str:
    """Return the hash of a tool: SHA-256 over the canonical form (RFC 8785) of the members that count.

    A definition that has no canonical form, such as one with a number past the range of a double, is hashed as it
    stands: another spelling is then another definition.
    """
    try:
        decoded = msgspec.json.decode(tool)
        text = rfc8785.dumps(_doubles({name: decoded[name] for name in MEMBERS if name in decoded}))
    except (rfc8785.CanonicalizationError, msgspec.DecodeError, OverflowError, RecursionError, TypeError):
        text = bytes(tool)
    return hashlib.sha256(text).hexdigest()


def _doubles(value: Any) -> Any:
    """Return a value with each integer past 2^53 as the double that JSON's canonical form makes of it."""
    if isinstance(value, dict):
        return {name: _doubles(member) for name, member in value.items()}
    if isinstance(value, list):
        return [_doubles(element) for element in value]
    if isinstance(value, int) and abs(value) > _SAFE_INT:
        return float(value)
    return value


def may_hide(text: bytes) -> bool:
    """Tell quickly whether JSON text may hold an invisible character; false is certain."""
    return not text.isascii() or b"\\u" in text or b"\x7f" in text


def invisible(tool: bytes | msgspec.Raw) -> list[str]:
    """Return JSON pointers to the strings and names of a tool that hold invisible characters, the first 20."""
    found: list[str] = []
    try:
        decoded = msgspec.json.decode(tool)
    except msgspec.DecodeError:
        return found
    for path, text in _texts(decoded, ""):
        if _HIDDEN.search(text) is not None and path not in found:
            found.append(path)
            if len(found) >= _PATHS_MAX:
                break
    return found


def _texts(value: Any, path: str) -> Iterator[tuple[str, str]]:
    if isinstance(value, str):
        yield path, value
    elif isinstance(value, dict):
        for name, member in value.items():
            inner = f"{path}/{_token(name)}"
            yield inner, name
            yield from _texts(member, inner)
    elif isinstance(value, list):
        for index, element in enumerate(value):
            yield from _texts(element, f"{path}/{index}")


def _token(name: str) -> str:
    return name.replace("~", "~0").replace("/", "~1")


def difference(old: bytes | None, new: bytes | None) -> list[dict[str, Any]] | None:
    """Return what differs between two definitions: `{path, old?, new?}` each, the first 50; None where one is unknown.

    Long texts are cut; a member that is absent on one side has no value there.
    """
    if old is None or new is None:
        return None
    try:
        before, after = msgspec.json.decode(old), msgspec.json.decode(new)
    except msgspec.DecodeError:
        return None
    sides = [{name: side[name] for name in MEMBERS if name in side} for side in (before, after)]
    changes: list[dict[str, Any]] = []
    _compare(sides[0], sides[1], "", changes)
    return changes


def _compare(old: Any, new: Any, path: str, changes: list[dict[str, Any]]) -> None:
    if len(changes) >= _DIFF_MAX or (type(old) is type(new) and old == new):
        return
    if isinstance(old, dict) and isinstance(new, dict):
        for name in [*old, *(name for name in new if name not in old)]:
            inner = f"{path}/{_token(name)}"
            if len(changes) >= _DIFF_MAX:
                return
            if name not in new:
                changes.append({"path": inner, "old": _short(old[name])})
            elif name not in old:
                changes.append({"path": inner, "new": _short(new[name])})
            else:
                _compare(old[name], new[name], inner, changes)
    elif isinstance(old, list) and isinstance(new, list) and len(old) == len(new):
        for index, (one, other) in enumerate(zip(old, new, strict=True)):
            _compare(one, other, f"{path}/{index}", changes)
    else:
        changes.append({"path": path, "old": _short(old), "new": _short(new)})


def _short(value: Any) -> Any:
    if isinstance(value, str):
        return value if len(value) <= _TEXT_MAX else value[:_TEXT_MAX] + "..."
    text = msgspec.json.encode(value)
    return value if len(text) <= _TEXT_MAX else text[:_TEXT_MAX].decode("utf-8", "replace") + "..."
