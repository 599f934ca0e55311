"""The guard: a small process that forks a keeper for each stdio server, so that no death of anyone leaves one behind.

Run as a program of its own (`python -I -S guard_main.py FD`), it imports nothing of the sidecar. It reads spawn
requests from a socket: one byte with four descriptors (status socket, and the server's stdin, stdout, stderr).

A keeper owns one server and all that it starts: it is their subreaper, so even a daemonised grandchild stays below
it. It kills the whole tree when the server ends, when it is told to, or when its status socket closes, which is how
the death of the sidecar reaches it. It outlives the guard; the guard, a subreaper too, kills what a killed keeper
leaves. The server itself dies with its keeper.

Status socket, sidecar to keeper: 4 bytes length, then a marshalled dict {argv, env, cwd, nofile}; later `T` (SIGTERM
to the tree) and `K` (kill it). Keeper to sidecar, a line each: `pid N`, or `errno N`; `exit N` or `signal N`; `gone`.
"""

import contextlib
import ctypes
import errno
import marshal
import os
import resource
import select
import signal
import socket
import struct
import sys
from typing import Any

PR_SET_PDEATHSIG = 1
PR_SET_CHILD_SUBREAPER = 36
LINUX = sys.platform == "linux"


def prctl(option: int, value: int) -> None:
    """Set a flag of this process (Linux); other systems have none, and a weaker guard."""
    if LINUX:
        ctypes.CDLL(None, use_errno=True).prctl(option, value, 0, 0, 0)


def descendants(root: int) -> list[int]:
    """Return the ids of all processes below `root`, parents first."""
    below: dict[int, list[int]] = {}
    for name in os.listdir("/proc") if LINUX else ():
        if name.isdigit():
            try:
                with open(f"/proc/{name}/stat", "rb") as file:
                    stat = file.read()
            except OSError:
                continue  # it has just ended
            parent = int(stat[stat.rindex(b")") + 2 :].split()[1])
            below.setdefault(parent, []).append(int(name))
    found: list[int] = []
    queue = [root]
    while queue:
        children = below.get(queue.pop(), [])
        found += children
        queue += children
    return found


def send_signal(pids: list[int], number: int) -> None:
    """Signal processes that may already have ended."""
    for pid in pids:
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.kill(pid, number)


def reap() -> dict[int, int]:
    """Collect every child that has ended: pid to wait status."""
    ended: dict[int, int] = {}
    while True:
        try:
            pid, status = os.waitpid(-1, os.WNOHANG)
        except ChildProcessError:
            ended[0] = 0  # no child is left at all
            return ended
        if pid == 0:
            return ended
        ended[pid] = status


def run_server(spec: dict[str, Any], fds: list[int], report: int) -> None:
    """Become the server: new session, its own descriptors and environment. Reports errno where that fails."""
    try:
        os.setsid()
        prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
        for number in (signal.SIGPIPE, signal.SIGXFSZ, signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGCHLD):
            signal.signal(number, signal.SIG_DFL)
        signal.pthread_sigmask(signal.SIG_SETMASK, ())
        for wanted, fd in enumerate(fds):
            os.dup2(fd, wanted)  # inheritable; every other descriptor is close-on-exec
        soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        if spec["nofile"] and spec["nofile"] < soft:
            resource.setrlimit(resource.RLIMIT_NOFILE, (spec["nofile"], hard))
        if spec["cwd"]:
            os.chdir(spec["cwd"])
        os.execvpe(spec["argv"][0], spec["argv"], spec["env"])  # noqa: S606 - that is what it is for
    except OSError as error:
        os.write(report, str(error.errno or errno.EIO).encode())
    except BaseException:
        os.write(report, str(errno.EINVAL).encode())
    finally:
        os._exit(127)


def keep(status: socket.socket, fds: list[int]) -> None:
    """Run one server to its end, and its whole tree with it."""
    os.setsid()
    prctl(PR_SET_CHILD_SUBREAPER, 1)
    spec = read_spec(status)
    if spec is None:
        return
    wake_read, wake_write = os.pipe()
    os.set_blocking(wake_write, False)
    os.set_blocking(wake_read, False)
    signal.signal(signal.SIGCHLD, lambda *_: None)
    signal.set_wakeup_fd(wake_write, warn_on_full_buffer=False)
    failed_read, failed_write = os.pipe()
    # Safe copies above 2, so that putting them in place cannot overwrite one that is still needed.
    safe = [os.dup(fd) for fd in fds]
    child = os.fork()
    if child == 0:
        signal.set_wakeup_fd(-1)
        run_server(spec, safe, failed_write)
    os.close(failed_write)
    for fd in (*fds, *safe):
        os.close(fd)
    failure = os.read(failed_read, 16)
    os.close(failed_read)
    if failure:
        os.waitpid(child, 0)
        tell(status, b"errno " + failure + b"\n")
        return
    tell(status, b"pid %d\n" % child)
    watch(status, wake_read, child)


def watch(status: socket.socket, wake: int, child: int) -> None:
    """Pass on the server's end and the sidecar's orders until nothing of the tree is left."""
    ending = False
    alive = True
    while alive:
        readable, _, _ = select.select([status.fileno(), wake], [], [], 0.05 if ending else None)
        if wake in readable:
            os.read(wake, 512)
        if not ending and status.fileno() in readable:
            order = status.recv(1)
            if order == b"T":
                send_signal(descendants(os.getpid()), signal.SIGTERM)
            else:  # `K`, or the sidecar is gone
                ending = True
        ended = reap()
        if child in ended:
            code = os.waitstatus_to_exitcode(ended[child])
            tell(status, b"exit %d\n" % code if code >= 0 else b"signal %d\n" % -code)
            ending = True
        alive = 0 not in ended
        if ending and alive:
            rest = descendants(os.getpid())
            send_signal(rest, signal.SIGKILL)
            if not LINUX:
                with contextlib.suppress(ProcessLookupError, PermissionError):
                    os.killpg(child, signal.SIGKILL)
    tell(status, b"gone\n")


def tell(status: socket.socket, line: bytes) -> None:
    """Report to the sidecar; one that is gone needs no report."""
    with contextlib.suppress(OSError):
        status.sendall(line)


def read_spec(status: socket.socket) -> dict[str, Any] | None:
    """Read what to run; None where the sidecar ended meanwhile."""
    head = b""
    while len(head) < 4:
        part = status.recv(4 - len(head))
        if not part:
            return None
        head += part
    size = struct.unpack("!I", head)[0]
    body = bytearray()
    while len(body) < size:
        part = status.recv(min(size - len(body), 1 << 20))
        if not part:
            return None
        body += part
    spec: dict[str, Any] = marshal.loads(bytes(body))  # noqa: S302 - written by the process that started us
    return spec


def serve(control: socket.socket) -> None:
    """Fork a keeper for each request until the sidecar is gone, then wait for the keepers."""
    keepers: set[int] = set()
    wake_read, wake_write = os.pipe()
    os.set_blocking(wake_write, False)
    os.set_blocking(wake_read, False)
    signal.signal(signal.SIGCHLD, lambda *_: None)
    signal.set_wakeup_fd(wake_write, warn_on_full_buffer=False)
    open_ = True
    while open_ or keepers:
        readable, _, _ = select.select([control.fileno(), wake_read] if open_ else [wake_read], [], [])
        if wake_read in readable:
            os.read(wake_read, 512)
            before = len(keepers)
            keepers -= set(reap())
            if len(keepers) != before:  # a killed keeper leaves its tree to us
                adopted = [pid for pid in descendants(os.getpid()) if pid not in keepers]
                owned = {pid for keeper in keepers for pid in descendants(keeper)}
                send_signal([pid for pid in adopted if pid not in owned], signal.SIGKILL)
        if open_ and control.fileno() in readable:
            message, fds, _, _ = socket.recv_fds(control, 1, 4)
            if not message:
                open_ = False
                continue
            keeper = os.fork()
            if keeper == 0:
                code = 1
                try:
                    signal.set_wakeup_fd(-1)
                    control.close()
                    os.close(wake_read)
                    os.close(wake_write)
                    for fd in fds:
                        os.set_inheritable(fd, False)
                    keep(socket.socket(fileno=fds[0]), fds[1:])
                    code = 0
                finally:
                    os._exit(code)
            keepers.add(keeper)
            for fd in fds:
                os.close(fd)


def main() -> None:
    """Become the guard."""
    control = socket.socket(fileno=int(sys.argv[1]))
    control.set_inheritable(False)
    prctl(PR_SET_CHILD_SUBREAPER, 1)
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    serve(control)


if __name__ == "__main__":
    main()
