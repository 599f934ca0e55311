"""A sidecar whose lines a test takes one after the other."""

from __future__ import annotations

from typing import Any

from tests.harness import MODULE, Sidecar


class Talk(Sidecar):
    """One process, and how many of its lines were taken."""

    def __init__(self, *arguments: str, **options: Any) -> None:
        """Start `python -m sidecar`."""
        self._taken = 0
        super().__init__(*arguments, program=MODULE, **options)

    def line(self) -> bytes | None:
        """Return the next line, or None at the end of output. Fails when nothing comes in time."""
        self.wait(lambda: self.ended or len(self.lines) > self._taken, "next line")
        if len(self.lines) == self._taken:
            return None
        self._taken += 1
        return self.lines[self._taken - 1]

    def lines_until_exit(self) -> list[bytes]:
        """Return all lines that are still to come, and wait for the end of the process."""
        rest = []
        while (line := self.line()) is not None:
            rest.append(line)
        self.exit_code()
        return rest

    def close(self, code: int = 0) -> None:
        """Close strictly. Ids may come again: whoever plays lines has compared each of them already."""
        self.duplicates.clear()
        super().close(code)

    def log(self) -> str:
        """Return the end of what the process wrote to stderr."""
        return self.stderr[-4000:].decode(errors="replace")
