"""Frames of JSON-RPC 2.0, one a line: decoded without touching the payload, checked like section 1 says.

The same checks serve both hops: a host's line, and a server's message. Only the envelope is decoded; `params`,
`result` and `error` stay the bytes they were. Knows no MCP and imports nothing heavy.
"""

from __future__ import annotations

import re
from itertools import accumulate
from typing import Final

import msgspec

MAX_DEPTH: Final = 512
"""Arrays and objects open at once."""
MAX_ID_CHARS: Final = 256
MAX_ID_INT: Final = 2**53
HEAD_BYTES: Final = 4096
"""How much of a cut or broken line is searched for its id."""

_NOT_STRUCTURE: Final = bytes(c for c in range(256) if c not in b'[]{}"')
_RUNS: Final = re.compile(rb"[\[{]+|[\]}]+")
_PASSES: Final = 16
_SHORT_INT: Final = 16
"""Digits that cannot pass 2^53."""
_COPY_BYTES: Final = 1 << 16
_INTEGER: Final = re.compile(rb"-?(?:0|[1-9][0-9]*)\Z")
_TOKEN: Final = re.compile(rb'"((?:[^"\\]|\\.)*)"|([\[{])|([\]}])|([^"\[\]{}]+)', re.DOTALL)
_ID_VALUE: Final = re.compile(rb'\s*:\s*(-?[0-9]{1,17}(?=[\s,}])|"(?:[^"\\\x00-\x1f]|\\["\\/bfnrtu]){0,256}")')

_TAIL_ID: Final = re.compile(
    rb'[,}\]"\s]\s*"id"\s*:\s*(-?[0-9]{1,17}|"[^"\\]{0,256}")\s*(?:,\s*"jsonrpc"\s*:\s*"2\.0"\s*)?\}\s*\Z'
)

Key = int | str
"""An id of JSON-RPC."""


ABSENT: Final = msgspec.Raw()
"""Stands for a member that is not there; compare with `is`."""


class Envelope(msgspec.Struct):
    """A message with its parts undecoded and uncopied; a member that is not there is `ABSENT`."""

    jsonrpc: msgspec.Raw = ABSENT
    id: msgspec.Raw = ABSENT
    method: msgspec.Raw = ABSENT
    params: msgspec.Raw = ABSENT
    result: msgspec.Raw = ABSENT
    error: msgspec.Raw = ABSENT


_decoder: Final = msgspec.json.Decoder(Envelope)
_members: Final = msgspec.json.Decoder(dict[str, msgspec.Raw])
_elements: Final = msgspec.json.Decoder(list[msgspec.Raw])


class FrameError(Exception):
    """A fault of the frame itself. `parse` is true for -32700, false for -32600; `raw_id` is its id if readable."""

    def __init__(self, message: str, *, parse: bool = False, raw_id: bytes | None = None) -> None:
        """Keep the message for people, the kind of fault, and the id as it was spelled."""
        super().__init__(message)
        self.message = message
        self.parse = parse
        self.raw_id = raw_id


def is_blank(line: bytes) -> bool:
    """Tell whether a line has nothing but JSON's white space."""
    return not line or (line[:1] in b" \t\r\n" and not line.strip(b" \t\r\n"))


def decode(line: bytes) -> Envelope:
    """Decode one message.

    Raises FrameError with `parse=True` for what is not JSON in UTF-8, holds a lone surrogate or nests too deep,
    and with `parse=False` for JSON that is no object (a batch among them).
    """
    try:
        envelope = _decoder.decode(line)
        if not line.isascii():
            str(line, "utf-8")
    except msgspec.ValidationError:
        check_text(line)
        what = "a batch is not supported: send one object a line" if line.lstrip()[:1] == b"[" else "not an object"
        raise FrameError(f"invalid request: {what}") from None
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise FrameError(f"parse error: {_why(error)}", parse=True, raw_id=find_id(line[:HEAD_BYTES])) from None
    if too_deep(line):
        message = f"parse error: nesting over {MAX_DEPTH}"
        raise FrameError(message, parse=True, raw_id=bytes(envelope.id) or None)
    return envelope


def check_text(text: bytes) -> None:
    """Raise FrameError unless `text` is one JSON value in UTF-8 of at most 512 levels."""
    try:
        msgspec.json.decode(text, type=msgspec.Raw)
        str(text, "utf-8")
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise FrameError(f"parse error: {_why(error)}", parse=True) from None
    if too_deep(text):
        raise FrameError(f"parse error: nesting over {MAX_DEPTH}", parse=True)


def members(raw: bytes | msgspec.Raw) -> dict[str, msgspec.Raw]:
    """Return the members of a JSON object with their bytes as they stand. Raises msgspec.DecodeError."""
    return _members.decode(raw)


def elements(raw: bytes | msgspec.Raw) -> list[msgspec.Raw]:
    """Return the elements of a JSON array with their bytes as they stand. Raises msgspec.DecodeError."""
    return _elements.decode(raw)


def _why(error: Exception) -> str:
    if isinstance(error, UnicodeDecodeError):
        return f"not UTF-8 (byte {error.start})"
    if isinstance(error, RecursionError):
        return f"nesting over {MAX_DEPTH}"
    return str(error)


def too_deep(text: bytes) -> bool:
    """Tell whether more than 512 arrays and objects are open at once somewhere in valid JSON.

    Linear and done by bulk operations: what is neither bracket nor quote is deleted, then strings, then the innermost
    pairs, two levels a pass. Only text that is still there after that is counted bracket by bracket.
    """
    if len(text) <= MAX_DEPTH or (len(text) < _COPY_BYTES and text.count(b"[") + text.count(b"{") <= MAX_DEPTH):
        return False
    if b"\\" in text:
        text = text.replace(b"\\\\", b"").replace(b'\\"', b"")
    text = text.translate(None, _NOT_STRUCTURE)
    if 2 * text.count(b'""') == text.count(b'"'):  # no string holds a bracket
        text = text.translate(None, b'"')
    else:
        text = b"".join(text.replace(b'""', b"").split(b'"')[::2])
    if len(text) <= MAX_DEPTH:
        return False
    rest = text
    for _ in range(_PASSES):
        rest = rest.replace(b"[]", b"").replace(b"{}", b"")
        if not rest:
            return False
    # What the passes removed stood at most two levels a pass above the rest.
    depth = _depth(rest)
    return depth > MAX_DEPTH or (depth + 2 * _PASSES > MAX_DEPTH and _depth(text) > MAX_DEPTH)


def _depth(brackets: bytes) -> int:
    runs = _RUNS.findall(brackets)
    return max(accumulate(len(run) if run[0] in b"[{" else -len(run) for run in runs), default=0)


def find_id(head: bytes) -> bytes | None:
    """Return the id of a broken or cut message as it is spelled, if it stands at the top level of `head`.

    Works on any bytes: strings and brackets are stepped over by their form alone.
    """
    depth = 0
    at = 0
    while (token := _TOKEN.match(head, at)) is not None:
        at = token.end()
        if token[1] is not None:
            if depth == 1 and token[1] == b"id" and (value := _ID_VALUE.match(head, at)) is not None:
                return value[1] if key_or_none(value[1]) is not None else None
        elif token[2] is not None:
            depth += 1
        elif token[3] is not None:
            depth -= 1
    return None


def looks_like_answer(head: bytes) -> bool:
    """Tell whether a broken or cut message was meant as an answer: a result or an error, and no method."""
    names = _top_names(head)
    return "method" not in names and ("result" in names or "error" in names)


def _top_names(head: bytes) -> set[str]:
    names: set[str] = set()
    depth = 0
    at = 0
    while (token := _TOKEN.match(head, at)) is not None:
        at = token.end()
        if token[1] is not None:
            if depth == 1 and head[at : at + 8].lstrip()[:1] == b":":
                names.add(token[1].decode("latin-1"))
        elif token[2] is not None:
            depth += 1
        elif token[3] is not None:
            depth -= 1
    return names


def key_of(raw_id: bytes | msgspec.Raw) -> Key:
    """Return the id as a key of a table. Raises FrameError for an id that section 1 refuses."""
    raw = bytes(raw_id)
    if _INTEGER.match(raw):
        if len(raw) < _SHORT_INT or -MAX_ID_INT <= int(raw[:32]) <= MAX_ID_INT:
            return int(raw)
        why = "outside +-2^53"
    elif raw[:1] == b'"':
        text: str = msgspec.json.decode(raw)
        if len(text) <= MAX_ID_CHARS:
            return text
        why = f"longer than {MAX_ID_CHARS} characters"
    elif raw[:1] in b"-0123456789":
        why = "not spelled as an integer"
    else:
        why = "not a string or an integer"
    readable = raw and raw[:1] in b'-0123456789"' and len(raw) <= MAX_ID_CHARS
    raise FrameError(f"invalid request: the id is {why}", raw_id=raw if readable else None)


def one_line(text: bytes) -> bytes:
    """Return JSON text with each byte of a line break between tokens made a blank; other bytes stay as they are."""
    if has_breaks(text):
        return text.replace(b"\n", b" ").replace(b"\r", b" ")
    return text


def view(raw: bytes | msgspec.Raw) -> bytes | memoryview:
    """Return the bytes of `raw`; large ones are not copied."""
    if type(raw) is bytes:
        return raw
    seen = memoryview(raw)
    return seen if len(seen) > _COPY_BYTES else bytes(seen)


def first(raw: bytes | msgspec.Raw) -> bytes:
    """Return the first byte of JSON text: it tells the kind of value."""
    return bytes(memoryview(raw)[:1])


def has_breaks(text: bytes) -> bool:
    """Tell whether a line break stands in `text`."""
    return b"\n" in text or b"\r" in text


def text_of(raw: msgspec.Raw) -> str | None:
    """Return a JSON string decoded; None for anything else."""
    if first(raw) != b'"':
        return None
    text: str = msgspec.json.decode(raw)
    return text


def is_integer(raw: bytes) -> bool:
    """Tell whether JSON text is spelled as an integer."""
    return _INTEGER.match(raw) is not None


def member(raw: msgspec.Raw, name: str) -> msgspec.Raw | None:
    """Return one member of a JSON object; None where it is not there or `raw` is no object."""
    try:
        return members(raw).get(name)
    except msgspec.DecodeError:
        return None


def key_or_none(raw_id: bytes) -> Key | None:
    """Return the id as a key of a table; None for an id that section 1 refuses."""
    try:
        str(raw_id, "utf-8")
        return key_of(raw_id)
    except (FrameError, UnicodeDecodeError, msgspec.DecodeError):
        return None


def find_id_in_tail(tail: bytes) -> bytes | None:
    """Return the id of a cut message if it stands among the last members of its end."""
    found = _TAIL_ID.search(tail)
    return found[1] if found else None


def quote(text: str) -> bytes:
    """Return a string as JSON in UTF-8."""
    return msgspec.json.encode(text)
