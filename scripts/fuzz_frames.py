#!/usr/bin/env python3
"""Fuzz the line splitter and the peer with coverage guidance (bar line 1): `make fuzz`, 60 s.

Each input is a stream in chunks of its own choosing, with a good ping after it. Whatever the bytes are, nothing may
raise, every line that comes out is a frame, and the ping is answered once. It starts from the contract's vectors.
"""

from __future__ import annotations

import asyncio
import json
import os
import sys
from pathlib import Path

import atheris

ROOT = Path(__file__).parents[1]
CORPUS = ROOT / "build" / "corpus"
sys.path.insert(0, str(ROOT))

with atheris.instrument_imports(include=["sidecar"]):
    from sidecar import early, errors, frames, rpc
    from sidecar.stdio import LineSplitter, LineWriter

LIMIT = 4096
PING = b'\n{"jsonrpc":"2.0","id":"the last","method":"ping"}\n'


class Sink:
    """The peer behind the splitter, as the process has it."""

    def __init__(self, peer: rpc.Peer) -> None:
        """Hand lines to `peer`."""
        self.line = peer.line
        self.too_long = peer.too_long

    def end(self, error: OSError | None) -> None:
        """Part of the line sink."""


async def play(data: bytes) -> bytes:
    """Feed one stream and return what was written."""
    read, write = os.pipe()
    os.set_blocking(read, False)
    try:
        writer = LineWriter(write, lambda _: None)
        peer = rpc.Peer(writer, {"ping": early.ping}, early=early.EARLY, max_frame=LIMIT)
        peer.open_gate()
        splitter = LineSplitter(Sink(peer), LIMIT)
        step = data[0] + 1 if data else 1
        for start in range(0, len(data), step):
            splitter.feed(data[start : start + step])
        splitter.feed(PING)
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        for request in list(peer.in_flight.values()):
            request.abort(errors.Cancelled("the end"))
        await asyncio.sleep(0)
        out = b""
        while True:
            try:
                out += os.read(read, 1 << 20)
            except BlockingIOError:
                return out
    finally:
        os.close(read)
        os.close(write)


def check(data: bytes) -> None:
    """Play one input and look at the answers."""
    out = loop.run_until_complete(play(data))
    ids = []
    for line in out.splitlines():
        frames.decode(line)
        ids.append(json.loads(line)["id"])
    # An input may itself hold a request with that id.
    if ids.count("the last") != 1 and b"last" not in data:
        raise AssertionError(f"the ping has {ids.count('the last')} answers after {data!r}: {out!r}")


def seed() -> None:
    """Put the contract's vectors into the corpus."""
    CORPUS.mkdir(parents=True, exist_ok=True)
    for file in sorted((ROOT / "proto" / "vectors").glob("*.json")):
        found = json.loads(file.read_text(encoding="utf-8"))
        for number, vector in enumerate(found if isinstance(found, list) else found.get("vectors", [])):
            line = vector.get("line")
            if isinstance(line, str) and len(line) < LIMIT:
                (CORPUS / f"{file.stem}-{number}").write_bytes(b"\x40" + line.encode("utf-8", "surrogatepass"))


loop = asyncio.new_event_loop()

if __name__ == "__main__":
    seed()
    atheris.Setup([*sys.argv, str(CORPUS)], check)
    atheris.Fuzz()
