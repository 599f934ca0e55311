"""Processes in tests: whether they live, and that none is left."""

from __future__ import annotations

import contextlib
import ctypes
import os
import select
import time
from collections.abc import Container, Iterable
from pathlib import Path

import psutil

PR_SET_CHILD_SUBREAPER = 36
CHECKER = str(Path(__file__).parents[1] / "sidecar" / "checks" / "worker.py")


def alive(process: psutil.Process) -> bool:
    """Tell whether a process runs; a zombie does not."""
    try:
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def adopt_orphans() -> None:
    """Make this process the parent of every orphan below it, so that none can hide."""
    ctypes.CDLL(None).prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)


def offspring() -> set[psutil.Process]:
    """Return all descendants of this process that live."""
    return {child for child in psutil.Process().children(recursive=True) if alive(child)}


def belongs_to(process: psutil.Process, running: Container[int]) -> bool:
    """Tell whether a process is the guard of a sidecar that runs, a checker of one, or has just ended."""
    try:
        family = (process, *process.children())
        return process.ppid() in running or any(member.cmdline()[-1:] == [CHECKER] for member in family)
    except psutil.NoSuchProcess:
        return True


def wait_gone(processes: Iterable[psutil.Process], seconds: float) -> list[psutil.Process]:
    """Wait until the processes are gone; return those that still live afterwards."""
    waiting = [process for process in processes if alive(process)]
    fds = {}
    for process in waiting:
        with contextlib.suppress(ProcessLookupError):
            fds[os.pidfd_open(process.pid)] = process
    try:
        return _poll(fds, seconds)
    finally:
        for fd in fds:
            os.close(fd)


def _poll(fds: dict[int, psutil.Process], seconds: float) -> list[psutil.Process]:
    end = time.monotonic() + seconds
    poller = select.poll()
    for fd in fds:
        poller.register(fd, select.POLLIN)
    open_fds = set(fds)
    while open_fds and (left := end - time.monotonic()) > 0:
        for fd, _ in poller.poll(left * 1000):
            poller.unregister(fd)
            open_fds.discard(fd)
    return [fds[fd] for fd in open_fds if alive(fds[fd])]


def assert_gone(processes: Iterable[psutil.Process], seconds: float = 3.0) -> None:
    """Fail where one of the processes still lives after `seconds`."""
    left = wait_gone(processes, seconds)
    assert not left, f"still alive after {seconds} s: {[describe(process) for process in left]}"


def reap() -> None:
    """Collect adopted orphans that have ended."""
    for child in psutil.Process().children():
        with contextlib.suppress(psutil.NoSuchProcess, ChildProcessError):
            if child.status() == psutil.STATUS_ZOMBIE:
                os.waitpid(child.pid, os.WNOHANG)


def describe(process: psutil.Process) -> str:
    """Return the id and the command line."""
    try:
        return f"{process.pid} {' '.join(process.cmdline())[:200]}"
    except psutil.NoSuchProcess:
        return f"{process.pid} gone"
