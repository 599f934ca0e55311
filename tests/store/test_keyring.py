"""The vault on a real keyring: there or not, open, locked or hung; never read as empty, never in the loop's way."""

from __future__ import annotations

import asyncio
import shutil
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from sidecar import errors
from sidecar.vault import Sealed, open_vault
from sidecar.wire_start import VaultConfig

from .session import Session
from .stores import calm, fails, run

pytestmark = pytest.mark.needs("dbus-run-session", "gnome-keyring-daemon")

Make = Callable[[str], Session]
LIMIT = 3.0


@pytest.fixture
def make(request: pytest.FixtureRequest) -> Iterator[Make]:
    """Return what starts a session of a state; a bus needs a short path."""
    sessions: list[Session] = []

    def begin(state: str) -> Session:
        sessions.append(Session(Path("/tmp") / f"session-{abs(hash(request.node.nodeid)) % 10**8}", state))
        return sessions[-1]

    yield begin
    for session in sessions:
        session.close()
        shutil.rmtree(session.home, ignore_errors=True)


def vault_in(env: Mapping[str, str], kind: str = "keyring") -> Sealed:
    """Return the vault as a new process of the session would open it."""
    return open_vault(lambda: VaultConfig(type=kind), env, None)  # type: ignore[arg-type]  # a literal


async def refused(vault: Sealed, kind: type[errors.SidecarError]) -> dict[str, Any]:
    """Load, which must fail as `kind` within 3 s and without a stall; return what was told."""

    async def load() -> dict[str, Any]:
        began = time.monotonic()
        told = await fails(vault.load(vault.key("tenant", "user")), kind)
        assert time.monotonic() - began <= LIMIT
        return told

    data = await calm(load)
    assert data["backend"] == "keyring"
    return data


async def held(vault: Sealed, number: int) -> None:
    """Check that the record is there, with this number."""
    found = await vault.load(vault.key("tenant", "user"))
    assert found is not None
    assert found[0] == {"n": number}


def test_without_a_bus_the_keyring_is_1402() -> None:
    async def work() -> None:
        for env in (
            {},
            {"DBUS_SESSION_BUS_ADDRESS": "unix:path=/nonexistent"},
            {"DBUS_SESSION_BUS_ADDRESS": "rubbish"},
        ):
            vault = vault_in({"HOME": "/nonexistent", **env})
            data = await refused(vault, errors.StoreUnavailable)
            assert data["code"] == 1402
            assert vault.health()["state"] == "unavailable"
            await vault.aclose()

    run(work())


@pytest.mark.parametrize("state", ["absent", "empty"])
def test_keyring_that_is_absent_or_has_no_collection_is_1402(make: Make, state: str) -> None:
    async def work() -> None:
        vault = vault_in(make(state).env)
        data = await refused(vault, errors.StoreUnavailable)
        assert data["code"] == 1402
        assert ("collection" in data["message"]) is (state == "empty")
        await fails(vault.save(vault.key("tenant", "user"), {"n": 1}, None), errors.StoreUnavailable)
        assert vault.health() == {"type": "keyring", "state": "unavailable", "why": data["message"]}
        await vault.aclose()

    run(work())


def test_open_keyring_keeps_records_over_starts_and_a_locked_one_is_1401_until_it_is_unlocked(make: Make) -> None:
    async def work() -> None:
        session = make("unlocked")
        vault = vault_in(session.env)
        await calm(lambda: vault.save(vault.key("tenant", "user"), {"n": 1}, None))
        assert vault.health() == {"type": "keyring", "state": "ready", "why": None}
        later = vault_in(session.env)
        await held(later, 1)
        assert len(session.items()) == 3  # the record, the master key, and the marker of that key
        for text, secret in session.items():
            assert "tenant" not in text
            assert b"tenant" not in secret
        session.lock()
        for locked in (vault, later, vault_in(session.env)):
            data = await refused(locked, errors.StoreLocked)
            assert data["code"] == 1401
            assert data["retry"] == "user"
            await fails(locked.save(locked.key("tenant", "user"), {"n": 2}, None), errors.StoreLocked)
            assert locked.health() == {"type": "keyring", "state": "locked", "why": data["message"]}
        session.unlock()
        await held(later, 1)
        assert later.health()["state"] == "ready"
        for used in (vault, later, locked):
            await used.aclose()

    run(work())


def test_keyring_that_hangs_is_1402_within_3_s_for_all_who_ask_and_goes_on_afterwards(make: Make) -> None:
    async def work() -> None:
        session = make("unlocked")
        vault = vault_in(session.env)
        await vault.save(vault.key("tenant", "user"), {"n": 1}, None)
        fresh = vault_in(session.env)
        threads = threading.active_count()
        session.stop()
        try:

            async def all_at_once() -> None:
                began = time.monotonic()
                waiting: list[Any] = []
                for used in (vault, fresh):
                    asked = [fails(used.load(used.key(str(n))), errors.StoreUnavailable) for n in range(100)]
                    asked.append(fails(used.save(used.key("tenant", "user"), {"n": 2}, None), errors.StoreUnavailable))
                    waiting.append(asyncio.gather(*asked))
                await asyncio.gather(*waiting)
                assert time.monotonic() - began <= LIMIT

            await calm(all_at_once)
            assert threading.active_count() <= threads + 2  # one for the keyring, one for the disk
            assert vault.health()["state"] == "unavailable"
        finally:
            session.resume()
        await held(vault, 1)  # what was given up was never written
        await held(fresh, 1)
        await vault.save(
            vault.key("tenant", "user"), {"n": 3}, (await vault.load(vault.key("tenant", "user")) or ("", ""))[1]
        )
        await held(fresh, 3)
        for used in (vault, fresh):
            await used.aclose()

    run(work())


def test_keyring_that_dies_is_1402_and_one_that_comes_back_is_used(make: Make) -> None:
    async def work() -> None:
        session = make("unlocked")
        vault = vault_in(session.env)
        await vault.save(vault.key("tenant", "user"), {"n": 1}, None)
        session.end_keyring()
        # The bus starts another one, whose collection nobody has unlocked.
        await refused(vault, errors.StoreLocked)
        session.unlock()
        await held(vault, 1)
        await vault.aclose()

    run(work())


def test_auto_takes_an_open_keyring_and_stays_with_it_when_it_is_locked_or_gone(make: Make) -> None:
    async def work() -> None:
        session = make("unlocked")
        vault = vault_in(session.env, "auto")
        assert vault.health() == {"type": "auto", "state": "unused", "why": None}
        await vault.save(vault.key("tenant", "user"), {"n": 1}, None)
        assert vault.health()["type"] == "keyring"
        assert '"keyring"' in (session.home / "data" / "mcp-sidecar" / "vault.json").read_text()
        session.lock()
        later = vault_in(session.env, "auto")
        await refused(later, errors.StoreLocked)
        assert later.health()["type"] == "keyring"
        without = vault_in({**session.env, "DBUS_SESSION_BUS_ADDRESS": "unix:path=/nonexistent"}, "auto")
        await refused(without, errors.StoreUnavailable)
        session.unlock()
        await held(later, 1)
        for used in (vault, later, without):
            await used.aclose()

    run(work())


@pytest.mark.parametrize("state", ["absent", "empty"])
def test_auto_takes_files_where_no_keyring_works_and_stays_with_them(make: Make, state: str) -> None:
    async def work() -> None:
        session = make(state)
        vault = vault_in(session.env, "auto")
        await calm(lambda: vault.save(vault.key("tenant", "user"), {"n": 1}, None))
        assert vault.health() == {"type": "file", "state": "ready", "why": None}
        assert (session.home / "data" / "mcp-sidecar" / "key").stat().st_mode & 0o777 == 0o600
        if state == "absent":
            session.start_keyring()
        later = vault_in(session.env, "auto")
        await held(later, 1)
        assert later.health()["type"] == "file"
        for used in (vault, later):
            await used.aclose()

    run(work())


def test_auto_decides_nothing_while_the_keyring_is_locked_or_hangs(make: Make) -> None:
    async def work() -> None:
        session = make("unlocked")
        session.lock()
        vault = vault_in(session.env, "auto")
        await refused(vault, errors.StoreLocked)
        session.stop()
        await refused(vault, errors.StoreUnavailable)
        session.resume()
        assert not (session.home / "data" / "mcp-sidecar").exists()
        session.unlock()
        await vault.save(vault.key("tenant", "user"), {"n": 1}, None)
        assert vault.health() == {"type": "keyring", "state": "ready", "why": None}
        await vault.aclose()

    run(work())


def test_files_have_their_key_in_an_open_keyring_and_are_1401_where_it_is_locked(make: Make) -> None:
    async def work() -> None:
        session = make("unlocked")
        vault = vault_in(session.env, "file")
        await vault.save(vault.key("tenant", "user"), {"n": 1}, None)
        folder = session.home / "data" / "mcp-sidecar"
        assert not (folder / "key").exists()
        assert len(session.items()) == 1
        session.lock()
        later = vault_in(session.env, "file")
        data = await refused(later, errors.StoreLocked)
        assert later.health() == {"type": "file", "state": "locked", "why": data["message"]}
        session.unlock()
        await held(later, 1)
        for used in (vault, later):
            await used.aclose()

    run(work())
