"""Kills a writer of a vault again and again in mid-write, and looks each time at what is left; prints JSON.

A process without threads, so that it may fork: each child opens the vault and writes one version after the other.
"""

from __future__ import annotations

import asyncio
import itertools
import json
import os
import random
import signal
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from sidecar.vault import Sealed, open_vault
from sidecar.wire_start import VaultConfig

PAD = "p" * 20_000


def vault_in(folder: Path) -> Sealed:
    """Return the vault of files in a folder."""
    config = VaultConfig(type="file", path=str(folder))
    return open_vault(lambda: config, {"HOME": str(folder)}, None)


async def write(folder: Path, before: int, begun: Callable[[], Any]) -> None:
    """Write version after version until killed; tell when `before` of them are there."""
    vault = vault_in(folder)
    key = vault.key("tenant", "user")
    for number in itertools.count():
        if number == before:
            begun()
        found = await vault.load(key)
        record, version = found if found is not None else ({"n": 0}, None)
        await vault.save(key, {"n": record["n"] + 1, "pad": PAD, "end": record["n"] + 1}, version)


async def look(folder: Path) -> int:
    """Return which version is there, read whole, and write one more: no lock may be left."""
    vault = vault_in(folder)
    try:
        key = vault.key("tenant", "user")
        found = await vault.load(key)
        number = 0
        if found is not None:
            assert found[0] == {"n": found[0]["n"], "pad": PAD, "end": found[0]["n"]}
            number = found[0]["n"]
        async with vault.single_flight(key, 1):
            await vault.save(
                key, {"n": number + 1, "pad": PAD, "end": number + 1}, found[1] if found is not None else None
            )
        return number
    finally:
        await vault.aclose()


def killed(folder: Path, before: int, most: float) -> None:
    """Let a child write, and kill it within `most` seconds after it wrote `before` versions."""
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        os.close(reading)
        asyncio.run(write(folder, before, lambda: os.write(writing, b"x")))
    os.close(writing)
    assert os.read(reading, 1) == b"x"
    os.close(reading)
    time.sleep(random.uniform(0, most))  # the moment of the kill is what varies
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)


def main(where: Path, times: int, first_times: int) -> None:
    """Kill `times` writers of one vault, and `first_times` in the first moments of a vault."""
    last = written = torn = 0
    one_write = 0.005  # seconds, measured as we go: the disk may be slow or fast
    for _ in range(times):
        killed(where / "one", 1, 2 * one_write)
        torn += len(list((where / "one" / "entries").glob("*.new")))
        began = time.monotonic()
        number = asyncio.run(look(where / "one"))
        one_write = time.monotonic() - began
        assert number > last, f"{last} was there, now {number}"
        written += number - last
        last = number + 1
    for number in range(first_times):
        killed(where / f"first-{number}", 0, 3 * one_write)
        asyncio.run(look(where / f"first-{number}"))
    left = sorted(str(path.relative_to(where / "one")) for path in (where / "one").rglob("*.new"))
    locks = sorted(path.name for path in (where / "one" / "locks").iterdir())
    print(json.dumps({"written": written, "torn": torn, "left": left, "locks": locks}))


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3]))
