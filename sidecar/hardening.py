"""What a process that holds tokens switches off: its memory is never written to disk when it crashes."""

from __future__ import annotations

import contextlib
import resource
from pathlib import Path
from typing import Final

_FILTER: Final = Path("/proc/self/coredump_filter")


def no_core_dumps() -> None:
    """Leave no core of this process or its children, neither as a file nor for a program that collects them.

    The limit alone does not hold where the system pipes cores to a program (core(5)); there the filter leaves nothing
    to write. The process stays dumpable in the kernel's sense: otherwise it could not list its own descriptors.
    """
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    with contextlib.suppress(OSError):  # Linux alone has it
        _FILTER.write_text("0x0")
