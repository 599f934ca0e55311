"""The vault on a real Redis server: refusing, full, read-only, hung and gone; locks that end with their holders."""

from __future__ import annotations

import asyncio
import base64
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from sidecar import errors
from sidecar.telemetry.redact import SECRETS
from sidecar.vault import Sealed, open_vault
from sidecar.vault import redis as backend
from sidecar.vault.seal import Seal
from sidecar.wire_start import VaultConfig
from tests.harness import ROOT

from .servers import RedisServer
from .stores import KEY, calm, fails, run

pytestmark = [pytest.mark.needs("redis-server"), pytest.mark.usefixtures("servers")]


def vault_at(url: str) -> Sealed:
    """Return the vault on a server, as a new process would open it."""
    environ = {"MCP_SIDECAR_KEY": base64.b64encode(KEY).decode()}
    return open_vault(lambda: VaultConfig(type="redis", url=url), environ, None)


async def refused(vault: Sealed, *words: str) -> None:
    """Load, which must fail with 1402 within 3 s and without a stall."""

    async def load() -> dict[str, Any]:
        began = time.monotonic()
        told = await fails(vault.load(vault.key("a")), errors.StoreUnavailable)
        assert time.monotonic() - began <= 3.2
        return told

    data = await calm(load)
    assert data["backend"] == "redis"
    for word in words:
        assert word in data["message"]
    assert vault.health()["state"] == "unavailable"
    await vault.aclose()


def test_first_use_stalls_nobody(redis: RedisServer) -> None:
    """What the client library takes to load is done beside the loop: seen in a process that has not loaded it."""
    code = f"""
import asyncio
from tests.store.stores import stall
from tests.store.test_redis import vault_at
from sidecar import engine
engine.prepare_environment()
engine.load()
async def work():
    vault = vault_at({redis.url!r})
    _, worst = await stall(lambda: vault.save(vault.key("first"), {{}}, None))
    await vault.delete(vault.key("first"))
    await vault.aclose()
    print(worst)
import sys
assert "redis" not in sys.modules
asyncio.run(work())
"""
    worst = 1.0
    for _ in range(3):  # what we do to the loop we do each time; the machine may be busy elsewhere
        done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, timeout=40, check=True)
        worst = min(worst, float(done.stdout))
        if worst <= 0.05:
            return
    raise AssertionError(f"the loop stood still for {worst} s")


def test_server_that_is_not_there_or_refuses_the_password_is_1402(tmp_path: Path) -> None:
    with RedisServer(tmp_path, "--requirepass", "a-long-password") as server:
        run(refused(vault_at(server.url)))
        run(refused(vault_at(f"redis://:wrong-password@127.0.0.1:{server.port}/0")))
        url = f"redis://:a-long-password@127.0.0.1:{server.port}/0"

        async def work() -> None:
            vault = vault_at(url)
            await vault.save(vault.key("a"), {"n": 1}, None)
            await vault.aclose()

        run(work())
        assert "a-long-password" not in SECRETS.clean("the word is a-long-password")
    run(refused(vault_at(url), "reached"))


def test_server_that_hangs_is_1402_within_3_s_and_used_again_afterwards(tmp_path: Path) -> None:
    with RedisServer(tmp_path) as server:

        async def work() -> None:
            vault = vault_at(server.url)
            version = await vault.save(vault.key("a"), {"n": 1}, None)
            server.process.send_signal(signal.SIGSTOP)

            async def ask() -> None:
                began = time.monotonic()
                asked = (fails(vault.load(vault.key(str(n))), errors.StoreUnavailable) for n in range(100))
                await asyncio.gather(*asked)
                assert time.monotonic() - began <= 3.2

            await calm(ask)
            server.process.send_signal(signal.SIGCONT)
            assert await vault.load(vault.key("a")) == ({"n": 1}, version)
            await vault.aclose()

        run(work())


def test_full_or_read_only_server_is_1404_and_keeps_the_old_record(tmp_path: Path) -> None:
    with RedisServer(tmp_path) as server:

        async def work() -> None:
            vault = vault_at(server.url)
            version = await vault.save(vault.key("a"), {"n": 1}, None)
            for begin, end, name in (
                (("CONFIG", "SET", "maxmemory", "1"), ("CONFIG", "SET", "maxmemory", "0"), "ENOSPC"),
                (("REPLICAOF", "127.0.0.1", "1"), ("REPLICAOF", "NO", "ONE"), "EROFS"),
            ):
                server.ask(*begin)
                data = await fails(vault.save(vault.key("a"), {"n": 2}, version), errors.StoreWriteFailed)
                assert data["errno"] == name
                assert data["code"] == 1404
                assert await vault.load(vault.key("a")) == ({"n": 1}, version)
                assert vault.health()["state"] == "unavailable"
                server.ask(*end)
            await vault.save(vault.key("a"), {"n": 2}, version)
            assert vault.health()["state"] == "ready"
            await vault.aclose()

        run(work())


def test_hundreds_at_once_take_turns(redis: RedisServer) -> None:
    async def work() -> None:
        vault = vault_at(redis.url)
        keys = [vault.key(str(number)) for number in range(300)]
        await asyncio.gather(*(vault.save(key, {"n": 1}, None) for key in keys))
        await asyncio.gather(*(vault.delete(key) for key in keys))
        await vault.aclose()

    run(work())


def test_server_keeps_nothing_that_can_be_read(redis: RedisServer) -> None:
    async def work() -> None:
        vault = vault_at(redis.url)
        key = vault.key("tenant", "user", "https://as.example")
        await vault.save(key, {"accessToken": "secret"}, None)
        names = redis.ask("KEYS", "*")
        assert b"mcp-sidecar:" in names
        for name in names.split(b"\r\n"):
            for word in (b"tenant", b"user", b"example", b"secret"):
                assert word not in name + (redis.ask("HGETALL", name) if name.startswith(b"mcp") else b"")
        await vault.delete(key)
        await vault.aclose()

    run(work())


def test_lock_of_a_holder_that_died_ends_and_that_of_one_that_works_long_is_kept(
    redis: RedisServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(backend, "_LOCK_MS", 300)

    async def work() -> None:
        vault, other = vault_at(redis.url), vault_at(redis.url)
        key = vault.key("flight")
        async with vault.single_flight(key):
            with pytest.raises(TimeoutError):
                async with other.single_flight(key, 0.8):  # longer than a lock lives that nobody renews
                    pass
        async with other.single_flight(key, 1):
            pass
        for used in (vault, other):
            await used.aclose()
        assert b"lock" not in redis.ask("KEYS", "mcp-sidecar:*")
        redis.ask("SET", f"{backend.PREFIX}lock:{Seal(KEY).name(key.name)}", "dead", "PX", "300")
        third = vault_at(redis.url)
        async with third.single_flight(key, 5):
            pass
        await third.aclose()

    run(work())
