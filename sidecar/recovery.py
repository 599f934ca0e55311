"""When a connection tries again, and when it rests: the back-off, the slow probe and the circuit (section 4)."""

from __future__ import annotations

import asyncio
import random
from typing import Final

from sidecar import errors

DELAYS: Final = (0.2, 0.5, 1.0, 2.0, 5.0)
"""Seconds before each attempt of a connection that was lost; after the last one it is `failed`."""
PROBE_SECONDS: Final = 60.0
SETTLED_SECONDS: Final = 60.0
"""A link that lived this long has proved itself, also where nobody called."""
_JITTER: Final = 0.2
_FINAL: Final = (
    errors.TLSFailed,
    errors.SpawnFailed,
    errors.HandshakeFailed,
    errors.HTTPStatus,
    errors.RedirectRefused,
    errors.AuthRequired,
    errors.AuthDenied,
    errors.GrantRevoked,
    errors.InsufficientScope,
    errors.AuthPolicy,
    errors.AuthTimeout,
    errors.RegistrationFailed,
    errors.BadMetadata,
)
"""What no repetition mends by itself: `failed` at once, and never probed."""


def is_final(error: errors.SidecarError) -> bool:
    """Return whether an attempt that ended so is not repeated by itself."""
    return isinstance(error, _FINAL)


def jitter(seconds: float) -> float:
    """Spread a pause over +-20 %, so that many connections do not come back in step."""
    return seconds * (1 - _JITTER + 2 * _JITTER * random.random())  # noqa: S311 - no secret


class Backoff:
    """The attempts of one connection that was lost."""

    def __init__(self) -> None:
        """Nothing is lost yet."""
        self._used = 0
        self._loop = asyncio.get_running_loop()
        self._ready_at: float | None = None
        self._answered = False

    def ready(self) -> None:
        """Note that an attempt has succeeded; whether it counts is for what follows to show."""
        self._ready_at = self._loop.time()
        self._answered = False

    def answered(self) -> None:
        """Note that a call was answered: what is lost later is a new loss."""
        self._answered = True

    def next(self) -> float | None:
        """Return the seconds before the next attempt, or None where all are used up."""
        settled = self._ready_at is not None and self._loop.time() - self._ready_at >= SETTLED_SECONDS
        if self._answered or settled:
            self._used = 0
        self._answered, self._ready_at = False, None
        if self._used >= len(DELAYS):
            return None
        self._used += 1
        return jitter(DELAYS[self._used - 1])

    def reset(self) -> None:
        """Begin anew: the host asked for the connection."""
        self._used = 0
        self._answered, self._ready_at = False, None


class Circuit:
    """Rests a ready connection whose last five calls all found it broken, and lets one call through after that."""

    _FAILURES: Final = 5
    _FIRST: Final = 5.0
    _LAST: Final = 60.0
    _COUNTED: Final = frozenset({1106, 1109, 1202})

    def __init__(self) -> None:
        """Start closed: calls pass."""
        self._failures = 0
        self._rest = 0.0
        self._until: float | None = None
        self._trying = False
        self._loop = asyncio.get_running_loop()

    def check(self) -> bool:
        """Let a call pass, and return whether it is the one that tries. Raises CircuitOpen."""
        if self._until is None:
            return False
        left = self._until - self._loop.time()
        if left <= 0 and not self._trying:
            self._trying = True
            return True
        wait = max(1, int(1000 * max(left, 0.0))) if left > 0 else int(self._FIRST * 1000)
        raise errors.CircuitOpen("the last five calls found this connection broken; it rests", retry_after_ms=wait)

    def record(self, code: int | None, *, trying: bool) -> None:
        """Note how a call ended: None for an answer, else the code."""
        if trying:
            self._trying = False
        if code == errors.Cancelled.code:
            return  # the host's wish says nothing about the server
        if code not in self._COUNTED:
            self._failures, self._until, self._rest = 0, None, 0.0
            return
        self._failures += 1
        if trying or (self._until is None and self._failures >= self._FAILURES):
            self._rest = min(self._rest * 2, self._LAST) if self._rest else self._FIRST
            self._until = self._loop.time() + self._rest
