"""The vectors of proto/vectors as bytes; the format stands in proto/vectors/README.md."""

from __future__ import annotations

import base64
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from .exact import loads

FOLDER = Path(__file__).parents[2] / "proto" / "vectors"

Part = str | dict[str, Any]


@dataclass(frozen=True)
class Vector:
    """One line and what its receiver must do."""

    name: str
    line: bytes
    end: bytes
    expect: dict[str, Any]


@dataclass(frozen=True)
class VectorFile:
    """The vectors of one file, and the frame limit that its receiver is started with."""

    max_frame_bytes: int | None
    vectors: list[Vector]


def build(parts: str | list[Part]) -> bytes:
    """Return the bytes of a line that is given as a text or in parts."""
    ready = bytearray()
    pending: tuple[bytes, int] | None = None
    behind = bytearray()
    for part in [parts] if isinstance(parts, str) else parts:
        target = behind if pending else ready
        if isinstance(part, str):
            target += part.encode()
        elif "base64" in part:
            target += base64.b64decode(part["base64"])
        elif "repeat" in part:
            target += part["repeat"].encode() * int(part["times"])
        elif "until" in part:
            target += part["fill"].encode() * (int(part["until"]) - len(target))
        elif "total" in part:
            pending = part["fill"].encode(), int(part["total"])
        else:
            raise ValueError(f"unknown part {part}")
    if pending is not None:
        fill, total = pending
        ready += fill * (total - len(ready) - len(behind))
    return bytes(ready + behind)


def text_of(value: Any) -> bytes:
    """Return a payload that is given as a text or as `{parts}`."""
    return build(value if isinstance(value, str) else value["parts"])


def load(name: str) -> VectorFile:
    """Read one file of vectors."""
    raw = loads((FOLDER / name).read_text(encoding="utf-8"))
    vectors = [Vector(v["name"], build(v["line"]), v.get("end", "\n").encode(), v["expect"]) for v in raw["vectors"]]
    limit = raw.get("maxFrameBytes")
    return VectorFile(None if limit is None else int(limit), vectors)
