"""The sidecar's end of the guard: starts servers as child processes that cannot outlive it.

All that is special to an operating system stands here and in `guard_main`.
"""

from __future__ import annotations

import asyncio
import contextlib
import ctypes
import errno
import logging
import marshal
import os
import signal
import socket
import struct
import subprocess
import sys
from pathlib import Path
from typing import Any, Final

from sidecar import errors

logger: Final = logging.getLogger(__name__)

TREE_GUARD: Final = sys.platform == "linux"
_PROGRAM: Final = str(Path(__file__).with_name("guard_main.py"))
_PR_SET_CHILD_SUBREAPER: Final = 36


class Exit:
    """How a server ended: an exit code or the name of a signal."""

    def __init__(self, code: int | None, signal_name: str | None) -> None:
        """Exactly one of the two is set; neither where nobody could see it."""
        self.code = code
        self.signal = signal_name

    def __str__(self) -> str:
        """Say it in words."""
        if self.signal is not None:
            return f"was ended by {self.signal}"
        return "ended" if self.code is None else f"ended with exit code {self.code}"


class Child:
    """One running server: its pid, its three descriptors, and its end."""

    def __init__(self, status: socket.socket, stdin: int, stdout: int, stderr: int) -> None:
        """Watch `status`; the descriptors belong to the caller from now on."""
        loop = asyncio.get_running_loop()
        self.pid = 0
        self.stdin = stdin
        self.stdout = stdout
        self.stderr = stderr
        self.started: asyncio.Future[int] = loop.create_future()
        self.exited: asyncio.Future[Exit] = loop.create_future()
        self.gone: asyncio.Future[None] = loop.create_future()
        self._status = status
        self._loop = loop
        self._buffer = b""
        status.setblocking(False)
        loop.add_reader(status.fileno(), self._readable)

    def terminate(self) -> None:
        """Send SIGTERM to the whole tree."""
        self._order(b"T")

    def kill(self) -> None:
        """Kill the whole tree."""
        self._order(b"K")

    def _order(self, order: bytes) -> None:
        with contextlib.suppress(OSError):
            self._status.send(order)

    def _readable(self) -> None:
        try:
            chunk = self._status.recv(4096)
        except BlockingIOError:
            return
        except OSError:
            chunk = b""
        if not chunk:
            self._ended()
            return
        *lines, self._buffer = (self._buffer + chunk).split(b"\n")
        for line in lines:
            word, _, number = line.partition(b" ")
            self._told(word.decode(), int(number or 0))

    def _told(self, word: str, number: int) -> None:
        if word == "pid":
            self.pid = number
            _settle(self.started, number)
        elif word == "errno":
            if not self.started.done():
                self.started.set_exception(OSError(number, os.strerror(number)))
            self._ended()
        elif word == "exit":
            _settle(self.exited, Exit(number, None))
        elif word == "signal":
            _settle(self.exited, Exit(None, signal_name(number)))
        elif word == "gone":
            self._ended()

    def _ended(self) -> None:
        if self.gone.done():
            return
        self._loop.remove_reader(self._status.fileno())
        self._status.close()
        if not self.started.done():
            self.started.set_exception(OSError(errno.ECHILD, "the guard ended"))
        _settle(self.exited, Exit(None, None))
        self.gone.set_result(None)


def _settle(future: asyncio.Future[Any], value: object) -> None:
    if not future.done():
        future.set_result(value)


def signal_name(number: int) -> str:
    """Return a signal's name, such as SIGKILL."""
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"SIG{number}"


class Guard:
    """Starts the guard process when the first server needs it, and again should it be killed."""

    def __init__(self, nofile: int) -> None:
        """Give children a soft descriptor limit of `nofile` (0: as it is)."""
        self._nofile = nofile
        self._control: socket.socket | None = None
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def pid(self) -> int | None:
        """The guard's process id while it runs."""
        return self._process.pid if self._process is not None and self._process.poll() is None else None

    async def spawn(self, argv: list[str], env: dict[str, str], cwd: str | None) -> Child:
        """Start a program.

        Raises SpawnFailed with the errno of exec, or QuotaExceeded where descriptors have run out.
        """
        fds: list[int] = []
        try:
            child_in, our_in = _pipe(fds)
            our_out, child_out = _pipe(fds)
            our_err, child_err = _pipe(fds)
            ours, theirs = socket.socketpair()
            fds.append(theirs.detach())
            spec = marshal.dumps({"argv": argv, "env": env, "cwd": cwd, "nofile": self._nofile})
            self._request([fds[-1], child_in, child_out, child_err])
        except OSError as error:
            _close(fds)
            raise _no_descriptors(error) from None
        _close([child_in, child_out, child_err, fds[-1]])
        ours.setblocking(False)
        child = Child(ours, our_in, our_out, our_err)
        try:
            await asyncio.get_running_loop().sock_sendall(ours, struct.pack("!I", len(spec)) + spec)
            await child.started
        except OSError as error:
            _close([our_in, our_out, our_err])
            name = errno.errorcode.get(error.errno or 0, "EIO")
            text = f"cannot start {argv[0]!r}: {os.strerror(error.errno or 0)}"
            raise errors.SpawnFailed(text, errno=name) from None
        except BaseException:
            child.kill()
            _close([our_in, our_out, our_err])
            raise
        return child

    def _request(self, fds: list[int]) -> None:
        for attempt in (0, 1):
            if self._control is None or self.pid is None:
                self._start()
            assert self._control is not None
            try:
                socket.send_fds(self._control, [b"S"], fds)
            except (BrokenPipeError, ConnectionResetError):
                self.close()
                if attempt:
                    raise
            else:
                return

    def _start(self) -> None:
        self.close()
        if TREE_GUARD:
            # Should the guard be killed, its keepers become our children and stay in reach.
            ctypes.CDLL(None).prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with theirs:
            self._process = subprocess.Popen(  # noqa: S603 - our own program
                [sys.executable, "-I", "-S", "-B", _PROGRAM, str(theirs.fileno())],
                pass_fds=[theirs.fileno()],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                env={},
                start_new_session=True,
            )
        self._control = ours

    def close(self) -> None:
        """Let the guard end once its servers have; it is not waited for."""
        if self._control is not None:
            self._control.close()
            self._control = None
        if self._process is not None:
            self._process.poll()
            self._process = None

    async def aclose(self, seconds: float = 2.0) -> None:
        """Let the guard end and wait for that, up to `seconds`."""
        process = self._process
        if self._control is not None:
            self._control.close()
            self._control = None
        if process is None:
            return
        loop = asyncio.get_running_loop()
        end = loop.time() + seconds
        while process.poll() is None and loop.time() < end:  # noqa: ASYNC110 - a process that is no child watcher's has no event
            await asyncio.sleep(0.005)
        if process.poll() is None:
            process.kill()
        self._process = None


def _pipe(fds: list[int]) -> tuple[int, int]:
    pair = os.pipe()
    fds.extend(pair)
    return pair


def _close(fds: list[int]) -> None:
    for fd in fds:
        with contextlib.suppress(OSError):
            os.close(fd)


def _no_descriptors(error: OSError) -> errors.SidecarError:
    if error.errno in {errno.EMFILE, errno.ENFILE}:
        return errors.QuotaExceeded("out of file descriptors", limit="openFiles", value=_open_files_limit())
    return errors.SpawnFailed(f"cannot start a process: {error.strerror}", errno=errno.errorcode.get(error.errno or 0))


def _open_files_limit() -> int:
    import resource

    return resource.getrlimit(resource.RLIMIT_NOFILE)[0]
