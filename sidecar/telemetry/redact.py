"""Takes secrets out of text that people read: log lines, messages, a child's stderr. Never touches results."""

from __future__ import annotations

import logging
import re
from typing import Final

MASK: Final = "[redacted]"
_SHORTEST: Final = 8
_SHAPES: Final = (
    (re.compile(r"(?i)\b(bearer|basic|dpop)(\s+)[A-Za-z0-9._~+/=-]{6,}"), rf"\1\2{MASK}"),
    (re.compile(r"(?i)\b((?:set-)?cookie\s*[:=]\s*)[^\r\n]+"), rf"\1{MASK}"),
    (
        re.compile(
            r"(?i)([\"']?\b[a-z0-9_.-]*(?:token|secret|passw(?:or)?d|api[_-]?key|authorization|client_assertion|"
            r"code_verifier)[\"']?\s*[=:]\s*[\"']?)(?!\[redacted)[^\s\"'&,;}]{4,}"
        ),
        rf"\1{MASK}",
    ),
)


class Redactor:
    """The secrets that this process was given, and the shapes that secrets have."""

    def __init__(self) -> None:
        """Know no secret yet."""
        self._counts: dict[str, int] = {}

    def add(self, *secrets: str) -> None:
        """Learn secrets; values under 8 characters are left alone, since they would blot out ordinary words."""
        for secret in secrets:
            if len(secret) >= _SHORTEST:
                self._counts[secret] = self._counts.get(secret, 0) + 1

    def discard(self, *secrets: str) -> None:
        """Unlearn secrets that were added once more than now."""
        for secret in secrets:
            count = self._counts.get(secret, 0) - 1
            if count > 0:
                self._counts[secret] = count
            elif count == 0:
                del self._counts[secret]

    def clean(self, text: str) -> str:
        """Return `text` without secrets."""
        # One look for each: tokens come and go too often for a pattern of all of them.
        found = [secret for secret in list(self._counts) if secret in text]
        for secret in sorted(found, key=len, reverse=True):
            text = text.replace(secret, MASK)
        for shape, replacement in _SHAPES:
            text = shape.sub(replacement, text)
        return text


SECRETS: Final = Redactor()
"""The secrets of this process."""


class RedactingFilter(logging.Filter):
    """Cleans every record before it is written."""

    def filter(self, record: logging.LogRecord) -> bool:
        """Replace the message by its clean form; never drops a record."""
        record.msg, record.args = SECRETS.clean(record.getMessage()), None
        return True
