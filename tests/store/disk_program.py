"""What a vault of files does on a disk of its own that gets full and read-only; prints one JSON object.

Runs in a mount namespace of its own (`unshare`), so that nothing stays mounted. With `limit` instead of a folder to
mount on, the process may not write a longer file than the first one.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import resource
import subprocess
import sys
from pathlib import Path
from typing import Any

from sidecar import errors
from sidecar.vault import Sealed, open_vault
from sidecar.wire_start import VaultConfig

OLD = {"refreshToken": "old", "pad": "o" * 5000}
NEW = {"refreshToken": "new", "pad": "n" * 60_000}
TOLD: dict[str, Any] = {}


def vault_in(folder: Path) -> Sealed:
    """Return the vault of files in a folder, as a new process would open it."""
    config = VaultConfig(type="file", path=str(folder))
    return open_vault(lambda: config, {"HOME": str(folder)}, None)


async def tell(name: str, vault: Sealed, version: str | None) -> None:
    """Note what writing does, and what is there afterwards."""
    key = vault.key("tenant", "user")
    try:
        await vault.save(key, NEW, version)
        TOLD[name] = "saved"
    except errors.StoreWriteFailed as error:
        TOLD[name] = [error.code, error.extra["errno"]]
    found = await vault.load(key)
    TOLD[name + " leaves"] = found[0]["refreshToken"] if found is not None else None
    TOLD[name + " shows"] = vault.health()["state"]
    async with vault.single_flight(key, 1):
        second = vault_in(Path(vault_folder))
        try:
            async with second.single_flight(second.key("tenant", "user"), 0.1):
                TOLD[name + " flight"] = "two at once"
        except TimeoutError:
            TOLD[name + " flight"] = "one"
        await second.aclose()


async def full(disk: Path) -> None:
    """Fill the disk, then take the right to write."""
    global vault_folder  # noqa: PLW0603 - a program of one run
    vault_folder = str(disk / "vault")
    mount("-t", "tmpfs", "-o", "size=160k", "tmpfs", str(disk))
    vault = vault_in(disk / "vault")
    version = await vault.save(vault.key("tenant", "user"), OLD, None)
    fill(disk / "filler")
    await tell("full", vault, version)
    again = vault_in(disk / "vault")
    await tell("full for a new process", again, version)
    await again.aclose()
    vault_folder = str(disk / "fresh")
    fresh = vault_in(disk / "fresh")
    await tell("full from the first", fresh, None)
    await fresh.aclose()
    vault_folder = str(disk / "vault")
    (disk / "filler").unlink()
    await vault.save(vault.key("other"), OLD, None)
    TOLD["room again"] = vault.health()["state"]
    mount("-o", "remount,ro", str(disk))
    await tell("read-only", vault, version)
    await vault.aclose()
    vault_folder = str(disk / "fresh")
    fresh = vault_in(disk / "fresh")
    key = fresh.key("tenant", "user")
    TOLD["read-only from the first"] = await fresh.load(key)
    try:
        await fresh.save(key, NEW, None)
    except errors.StoreWriteFailed as error:
        TOLD["read-only from the first"] = [error.code, error.extra["errno"]]
    await fresh.aclose()
    mount("-o", "remount,rw", str(disk))
    vault = vault_in(disk / "vault")
    await tell("writable again", vault, version)
    await vault.aclose()


async def limited(folder: Path) -> None:
    """Cut every file at 6000 bytes."""
    global vault_folder  # noqa: PLW0603 - a program of one run
    vault_folder = str(folder / "vault")
    vault = vault_in(folder / "vault")
    version = await vault.save(vault.key("tenant", "user"), OLD, None)
    resource.setrlimit(resource.RLIMIT_FSIZE, (6000, resource.RLIM_INFINITY))
    await tell("limited", vault, version)
    resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
    await tell("unlimited", vault, version)
    await vault.aclose()


def fill(path: Path) -> None:
    """Write until nothing more goes on the disk, to the last byte."""
    with path.open("wb", buffering=0) as file:
        for size in (4096, 1):
            with contextlib.suppress(OSError):
                while True:
                    file.write(b"\0" * size)


def mount(*words: str) -> None:
    """Mount in this program's own namespace."""
    subprocess.run(["mount", *words], check=True)


vault_folder = ""
if __name__ == "__main__":
    what, where = sys.argv[1:]
    asyncio.run((full if what == "full" else limited)(Path(where)))
    print(json.dumps(TOLD))
