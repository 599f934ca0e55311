"""Plays the host's half of a transcript against a running sidecar."""

from __future__ import annotations

import json
import sys
from typing import TYPE_CHECKING, Any

from tests.harness import ROOT

from .exact import loads
from .transcript import Matcher, MismatchError, pattern_of, raw_line

if TYPE_CHECKING:
    from .talk import Talk
    from .transcript import Step, Transcript

SCRIPTED = {
    "type": "stdio",
    "command": sys.executable,
    "args": ["-m", "tests.contract.server"],
    "cwd": str(ROOT),
}
"""The transport that `{{server:scripted}}` stands for."""


class Player:
    """One conversation with one sidecar."""

    def __init__(self, transcript: Transcript, sidecar: Talk) -> None:
        """Prepare to play."""
        self._transcript = transcript
        self._sidecar = sidecar
        self._matcher = Matcher()
        self._unsent = b""

    def play(self) -> None:
        """Play all steps. Raises MismatchError at the line where the sidecar says something else."""
        for step in self._transcript.steps:
            if step.kind in {"send", "raw"}:
                self._unsent += self._bytes(step)
                continue
            self._flush()
            if step.kind == "receive":
                self._receive(step)
            elif step.kind == "eof":
                self._sidecar.end_input()
            else:
                self._exit(step)

    def _bytes(self, step: Step) -> bytes:
        text = step.texts[0]
        if step.kind == "raw":
            return raw_line(text)
        return text.replace('"{{server:scripted}}"', json.dumps(SCRIPTED)).encode() + b"\n"

    def _flush(self) -> None:
        if self._unsent:
            self._sidecar.send_bytes(self._unsent)
            self._unsent = b""

    def _next(self, number: int) -> tuple[bytes, Any]:
        while True:
            line = self._sidecar.line()
            if line is None:
                raise MismatchError(f"line {number}: the output ended; stderr: {self._sidecar.log()}")
            message = loads(line)
            if message.get("method") not in self._transcript.ignored or "id" in message:
                return line, message

    def _receive(self, step: Step) -> None:
        patterns = [pattern_of(text) for text in step.texts]
        while patterns:
            line, message = self._next(step.number)
            why = []
            for pattern in candidates(patterns, message):
                try:
                    self._matcher.match(pattern, message)
                except MismatchError as mismatch:
                    why.append(str(mismatch))
                else:
                    patterns.remove(pattern)
                    break
            else:
                raise MismatchError(f"line {step.number}: {'; '.join(why)}\n  in {line.decode(errors='replace')}")

    def _exit(self, step: Step) -> None:
        rest = self._sidecar.lines_until_exit()
        rest = [line for line in rest if loads(line).get("method") not in self._transcript.ignored]
        if rest:
            raise MismatchError(f"line {step.number}: more came: {rest!r}")
        if self._sidecar.exit_code() != int(step.texts[0]):
            raise MismatchError(f"line {step.number}: exit {self._sidecar.exit_code()}; stderr: {self._sidecar.log()}")


def candidates(patterns: list[Any], message: Any) -> list[Any]:
    """Return the patterns that may match: of notifications of one method only the first, so they keep their order."""
    method = message.get("method")
    same = [pattern for pattern in patterns if pattern.get("method") == method]
    return same[:1] if method is not None else same
