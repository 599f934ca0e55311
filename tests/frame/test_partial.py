"""A slow reader and small pipes: frames whole; a broken pipe ends the process."""

from __future__ import annotations

import os
import subprocess

from tests.conftest import Start
from tests.harness import PROGRAM, ROOT


def test_frames_are_whole_through_a_small_pipe_and_a_reader_of_single_bytes(start: Start) -> None:
    sidecar = start(pipe_bytes=4096, chunk=1)
    payloads = {f"p{n}": chr(97 + n) * 9000 for n in range(5)}
    sidecar.send(*[sidecar.frame("ping", {"payload": text}, key=key)[1] for key, text in payloads.items()])
    for key, text in payloads.items():
        assert sidecar.answer(key).result == {"payload": text}


def test_broken_stdout_ends_the_process_at_once() -> None:
    read, write = os.pipe()
    process = subprocess.Popen(
        PROGRAM, stdin=subprocess.PIPE, stdout=write, stderr=subprocess.PIPE, cwd=ROOT, bufsize=0
    )
    os.close(write)
    with process:
        assert process.stdin is not None
        assert process.stderr is not None
        process.stdin.write(b'{"jsonrpc":"2.0","id":1,"method":"servers/list"}\n')
        assert os.read(read, 1000)
        os.close(read)
        process.stdin.write(b'{"jsonrpc":"2.0","id":2,"method":"ping"}\n')
        process.wait(1.0)
        assert b"Traceback" not in process.stderr.read()
