"""Things that happen too often to log each: counted, and told once a second."""

from __future__ import annotations

import logging
import time
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from collections.abc import Mapping

logger: Final = logging.getLogger(__name__)

_LOG_SECONDS: Final = 1.0


class Tally:
    """Counts one kind of thing of one connection."""

    def __init__(self, what: str, label: Mapping[str, Any]) -> None:
        """Begin at 0; log lines say `what`, and carry `label`."""
        self.count = 0
        self._what = what
        self._label = dict(label)
        self._logged = float("-inf")

    def note(self, reason: str) -> None:
        """Count one more."""
        self.count += 1
        now = time.monotonic()
        if now - self._logged >= _LOG_SECONDS:
            self._logged = now
            logger.warning("%s (%d so far): %s", self._what, self.count, reason, extra=self._label)
