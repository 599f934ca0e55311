"""The transcripts of proto/transcripts, parsed and matched; their format stands in the README there."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from .exact import Number, dumps, loads
from .vectors import build

FOLDER = Path(__file__).parents[2] / "proto" / "transcripts"
TIME = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z")
INTEGER = re.compile(r"-?\d+")
MORE = "..."

Kind = Literal["send", "raw", "receive", "eof", "exit"]


@dataclass
class Step:
    """One line, or a group of lines that may come in any order."""

    kind: Kind
    number: int
    texts: list[str] = field(default_factory=list)
    unordered: bool = False


@dataclass
class Transcript:
    """One conversation."""

    steps: list[Step] = field(default_factory=list)
    ignored: set[str] = field(default_factory=set)
    only: str | None = None


def parse(text: str) -> Transcript:
    """Parse a transcript. Raises ValueError that names the line."""
    transcript = Transcript()
    for number, line in _joined(text):
        word, _, rest = line.partition(" ")
        steps = transcript.steps
        if word == "!ignore":
            transcript.ignored.add(rest)
        elif word == "!only":
            transcript.only = rest.partition(":")[0]
        elif word == "->":
            json.loads(rest)
            steps.append(Step("send", number, [rest]))
        elif word == "=>":
            steps.append(Step("raw", number, [rest]))
        elif word == "<-":
            json.loads(rest)
            steps.append(Step("receive", number, [rest]))
        elif word == "<|":
            json.loads(rest)
            if steps and steps[-1].unordered:
                steps[-1].texts.append(rest)
            else:
                steps.append(Step("receive", number, [rest], unordered=True))
        elif word == "eof":
            steps.append(Step("eof", number))
        elif word == "exit":
            steps.append(Step("exit", number, [rest]))
        else:
            raise ValueError(f"line {number}: {line!r} is no line of a transcript")
    return transcript


def _joined(text: str) -> list[tuple[int, str]]:
    lines: list[tuple[int, str]] = []
    for number, line in enumerate(text.splitlines(), 1):
        if line.startswith("#") or not line.strip():
            continue
        if line[0].isspace():
            first, start = lines.pop()
            lines.append((first, start + line.strip()))
        else:
            lines.append((number, line))
    return lines


def raw_line(text: str) -> bytes:
    """Return the bytes of a `=>` line: a list of parts, or the text itself."""
    try:
        parts = json.loads(text)
        return (build(parts) if isinstance(parts, list) else text.encode()) + b"\n"
    except ValueError:  # no JSON, or a list of something else
        return text.encode() + b"\n"


class MismatchError(AssertionError):
    """What came is not what the transcript says."""


class Matcher:
    """Compares lines with patterns, and remembers the texts that a transcript has named."""

    def __init__(self) -> None:
        """Begin without named texts."""
        self._named: dict[str, str] = {}

    def match(self, pattern: Any, value: Any, path: str = "") -> None:
        """Raise MismatchError unless the value fits the pattern."""
        if isinstance(pattern, str) and pattern.startswith("$"):
            self._variable(pattern, value, path)
        elif isinstance(pattern, dict):
            if not isinstance(value, dict):
                raise MismatchError(f"{path or '/'}: {dumps(value)} is no object")
            for key, part in pattern.items():
                if key == MORE:
                    continue
                if key not in value:
                    raise MismatchError(f"{path}/{key} is missing")
                self.match(part, value[key], f"{path}/{key}")
            if MORE not in pattern and (extra := value.keys() - pattern.keys()):
                raise MismatchError(f"{path or '/'}: {sorted(extra)} must not be there")
        elif isinstance(pattern, list):
            if not isinstance(value, list) or len(value) != len(pattern):
                raise MismatchError(f"{path or '/'}: {dumps(value)} is not {dumps(pattern)}")
            for index, part in enumerate(pattern):
                self.match(part, value[index], f"{path}/{index}")
        elif type(pattern) is not type(value) or pattern != value:
            raise MismatchError(f"{path or '/'}: {dumps(value)} is not {dumps(pattern)}")

    def _variable(self, pattern: str, value: Any, path: str) -> None:
        kind, _, name = pattern.partition(":")
        text = value if isinstance(value, str) else ""
        good = {
            "$any": True,
            "$int": isinstance(value, Number) and INTEGER.fullmatch(value.text) is not None,
            "$time": TIME.fullmatch(text) is not None,
            "$text": text != "",
        }[kind]
        if good and name:
            good = self._named.setdefault(name, text) == text
        if not good:
            raise MismatchError(f"{path or '/'}: {dumps(value)} is not {pattern}")


def files() -> list[Path]:
    """Return all transcripts."""
    return sorted(FOLDER.glob("*.txt"))


def load(path: Path) -> Transcript:
    """Read one transcript."""
    return parse(path.read_text(encoding="utf-8"))


def pattern_of(text: str) -> Any:
    """Parse the pattern of a received line."""
    return loads(text)
