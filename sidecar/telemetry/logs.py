"""Log lines: one JSON object a line on stderr, written by a thread so that a slow reader never stops the loop."""

from __future__ import annotations

import datetime
import logging
import os
import queue
import threading
import traceback
from typing import Final

import msgspec

from sidecar.telemetry.redact import SECRETS

LEVELS: Final = {"debug": 10, "info": 20, "warning": 30, "error": 40}
_NAMES: Final = {10: "debug", 20: "info", 30: "warning", 40: "error", 50: "error"}
_EXTRA: Final = ("server", "scope", "corr")
_QUEUE: Final = 4096
_TEXT: Final = 8192


def now_text(when: float | None = None) -> str:
    """Return a time (seconds since the epoch; None is now) as RFC 3339, UTC, milliseconds."""
    moment = (
        datetime.datetime.now(datetime.UTC) if when is None else datetime.datetime.fromtimestamp(when, datetime.UTC)
    )
    return moment.isoformat(timespec="milliseconds").replace("+00:00", "Z")


def parse_level(text: str) -> int | None:
    """Return the number of a level name, in any case; None for a name that is none."""
    return LEVELS.get(text.strip().lower())


class JSONFormatter(logging.Formatter):
    """A record as one JSON object: time, level, msg, logger, and server, scope, corr where they apply."""

    def format(self, record: logging.LogRecord) -> str:
        """Return the line, without its newline; control characters are escaped by JSON."""
        body: dict[str, object] = {
            "time": now_text(record.created),
            "level": _NAMES.get(record.levelno, "info" if record.levelno < logging.WARNING else "error"),
            "msg": record.getMessage()[:_TEXT],
            "logger": record.name,
        }
        for name in _EXTRA:
            value = getattr(record, name, None)
            if value is not None:
                body[name] = value
        if record.exc_info and record.exc_info[0] is not None:
            body["error"] = SECRETS.clean("".join(traceback.format_exception(*record.exc_info))[-_TEXT:])
        return msgspec.json.encode(body).decode("utf-8", "replace")


class StderrHandler(logging.Handler):
    """Hands lines to a thread that writes them to fd 2; when that is stuck, lines are dropped and counted."""

    def __init__(self) -> None:
        """Start the writing thread."""
        super().__init__()
        self.dropped = 0
        self._lines: queue.Queue[bytes | None] = queue.Queue(_QUEUE)
        self._thread = threading.Thread(target=self._write, name="log", daemon=True)
        self._thread.start()

    def emit(self, record: logging.LogRecord) -> None:
        """Queue one record."""
        try:
            line = self.format(record).encode() + b"\n"
        except Exception:
            self.handleError(record)
            return
        try:
            self._lines.put_nowait(line)
        except queue.Full:
            self.dropped += 1

    def _write(self) -> None:
        while (line := self._lines.get()) is not None:
            try:
                while line:
                    line = line[os.write(2, line) :]
            except OSError:
                return

    def close(self) -> None:
        """Write what is queued, for at most half a second, and end the thread."""
        try:
            self._lines.put_nowait(None)
        except queue.Full:
            return
        self._thread.join(0.5)
        super().close()


def configure(level: int) -> StderrHandler:
    """Send every log record of the process to stderr as JSON; libraries only from warnings on."""
    handler = StderrHandler()
    handler.setFormatter(JSONFormatter())
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(logging.WARNING)
    logging.getLogger("sidecar").setLevel(level)
    logging.captureWarnings(capture=True)
    return handler


def set_level(level: int) -> None:
    """Change the level of our own log lines."""
    logging.getLogger("sidecar").setLevel(level)
