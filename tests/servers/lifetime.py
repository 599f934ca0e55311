"""A server that a test run started ends with that run, however the run ends."""

from __future__ import annotations

import ctypes
import os
import signal

PR_SET_PDEATHSIG = 1
ASKED = "TESTS_END_WITH_PARENT"
"""Set by who forks from a thread that lives on: the signal comes when that thread ends, and Go ends threads."""


def end_with_parent() -> None:
    """Ask for SIGKILL when the parent dies; not for stdio servers, whose end is what the tests look at."""
    if ASKED not in os.environ:
        return
    parent = os.getppid()
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
    if os.getppid() != parent:
        os._exit(1)
