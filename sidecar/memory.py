"""Memory that closed connections leave: the engine's objects hold each other, so only the collector frees them."""

from __future__ import annotations

import gc
import time
from typing import Final

_PAUSE: Final = 1.0
_SHARE: Final = 20
_next = 0.0


def collect() -> None:
    """Collect, but not more than once a second, nor for more than a twentieth of the time."""
    global _next  # noqa: PLW0603 - there is one collector in a process
    began = time.monotonic()
    if began < _next:
        return
    gc.collect()
    ended = time.monotonic()
    _next = ended + max(_PAUSE, _SHARE * (ended - began))
