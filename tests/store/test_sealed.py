"""Records in a vault: names, seals, versions, and what is done once for all."""

from __future__ import annotations

import asyncio

import pytest

from sidecar import errors
from sidecar.vault import Conflict, Vault
from sidecar.vault.base import Entry
from sidecar.vault.keys import GivenKey, KeySource
from sidecar.vault.memory import MemoryVault
from sidecar.vault.seal import Seal, encode
from sidecar.vault.sealed import MARKER, Sealed

from .stores import KEY, OTHER_KEY, fails, memory, run, sealed

RECORD = {"accessToken": "a-secret-token", "expiresAt": 5, "scopes": ["one"], "nothing": None}


def test_record_comes_back_with_its_version_and_is_gone_when_deleted() -> None:
    async def work() -> None:
        vault = memory()
        key = vault.key("tenant", "user")
        assert await vault.load(key) is None
        version = await vault.save(key, RECORD, None)
        assert await vault.load(key) == (RECORD, version)
        await vault.delete(key, version)
        assert await vault.load(key) is None
        await vault.delete(key)

    run(work())


def test_write_with_another_version_than_what_stands_is_a_conflict_and_changes_nothing() -> None:
    async def work() -> None:
        vault = memory()
        key = vault.key("tenant", "user")
        first = await vault.save(key, {"n": 1}, None)
        second = await vault.save(key, {"n": 2}, first)
        for stale in (None, first):
            with pytest.raises(Conflict):
                await vault.save(key, {"n": 3}, stale)
        with pytest.raises(Conflict):
            await vault.delete(key, first)
        assert await vault.load(key) == ({"n": 2}, second)
        gone = vault.key("another")
        with pytest.raises(Conflict):
            await vault.save(gone, {}, second)

    run(work())


def test_write_that_stands_already_is_no_conflict() -> None:
    """The first answer was lost: the same record again is what was meant."""

    async def work() -> None:
        vault = memory()
        key = vault.key("tenant", "user")
        version = await vault.save(key, RECORD, None)
        assert await vault.save(key, RECORD, None) == version

    run(work())


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (("a", "b__c"), ("a__b", "c")),
        (("a", "bc"), ("ab", "c")),
        (("a", ""), ("a",)),
        (("", "a"), ("a", "")),
        (("1:a",), ("a",)),
        (("a\0b",), ("a", "b")),
        (("a", "b"), ("a1:b",)),
        (("é",), ("e\u0301",)),
        (("x" * 4096,), ("x" * 4097,)),
        (("../a",), ("a",)),
    ],
)
def test_different_parts_have_different_names(one: tuple[str, ...], other: tuple[str, ...]) -> None:
    assert encode(one) != encode(other)
    name = Seal(KEY).name(encode(one))
    assert name != Seal(KEY).name(encode(other))
    assert name != Seal(OTHER_KEY).name(encode(one))
    assert len(name) == 64


def test_name_says_nothing_and_key_shows_nothing() -> None:
    vault = memory()
    key = vault.key("tenant-x", "https://issuer.example", scope={"tenant": "tenant-x"})
    assert "issuer" not in Seal(KEY).name(key.name)
    assert "issuer" not in repr(key)


def test_value_opens_only_whole_with_its_key_and_under_its_name() -> None:
    sealer = Seal(KEY)
    name, other = sealer.name(b"1"), sealer.name(b"2")
    value = sealer.close(name, b"plain")
    assert sealer.open(name, value) == b"plain"
    assert b"plain" not in value
    assert sealer.close(name, b"plain") != value
    bad = [value[:n] for n in range(len(value))] + [value + b"\0", b"plain", b'{"accessToken":"planted"}']
    bad += [value[:n] + bytes([value[n] ^ 1]) + value[n + 1 :] for n in range(len(value))]
    for wrong in bad:
        with pytest.raises(errors.StoreCorrupt):
            sealer.open(name, wrong)
    with pytest.raises(errors.StoreCorrupt):
        sealer.open(other, value)
    with pytest.raises(errors.StoreCorrupt):
        Seal(OTHER_KEY).open(name, value)


def test_store_that_another_key_sealed_is_unreadable_and_not_empty() -> None:
    async def work() -> None:
        store = MemoryVault()
        first = sealed(store)
        await first.save(first.key("a"), {"n": 1}, None)
        for source in (GivenKey(OTHER_KEY), NoKey()):
            second = sealed(store, source)
            data = await fails(second.load(second.key("a")), errors.StoreCorrupt)
            assert data["code"] == 1403
            assert data["retry"] == "reauth"
        third = sealed(store, GivenKey(OTHER_KEY))
        version = await third.save(third.key("a"), {"n": 2}, None)
        assert await third.load(third.key("a")) == ({"n": 2}, version)
        await fails(third.load(third.key("b")), errors.StoreCorrupt)
        loaded = await first.load(first.key("a"))
        assert loaded is not None
        assert loaded[0] == {"n": 1}

    run(work())


def test_damaged_marker_spoils_nothing_and_is_written_anew() -> None:
    async def work() -> None:
        store = MemoryVault()
        vault = sealed(store)
        version = await vault.save(vault.key("a"), {"n": 1}, None)
        marker = await store.get(MARKER)
        assert marker is not None
        for value in (b"", marker.value[:-1], marker.value + b"x", b"\0" * len(marker.value)):
            standing = await store.get(MARKER)
            await store.put(MARKER, value, standing.version if standing else None)
            vault = sealed(store)
            assert await vault.load(vault.key("a")) == ({"n": 1}, version)
            assert await vault.load(vault.key("new")) is None
        await vault.save(vault.key("b"), {"n": 2}, None)
        mended = await store.get(MARKER)
        assert mended is not None
        assert mended.value == marker.value

    run(work())


def test_entry_that_does_not_open_is_1403_alone_and_a_new_login_mends_it() -> None:
    async def work() -> None:
        store = MemoryVault()
        vault = sealed(store)
        good, bad = vault.key("good"), vault.key("bad")
        await vault.save(good, {"n": 1}, None)
        version = await vault.save(bad, {"n": 2}, None)
        await store.put(Seal(KEY).name(bad.name), b"planted", version)
        data = await fails(vault.load(bad), errors.StoreCorrupt)
        assert data["kind"] == "StoreCorrupt"
        assert await vault.load(good) is not None
        assert vault.health() == {"type": "memory", "state": "ready", "why": None}
        version = await vault.save(bad, {"n": 3}, None)
        assert await vault.load(bad) == ({"n": 3}, version)

    run(work())


def test_reading_an_empty_store_makes_no_key_and_writes_nothing() -> None:
    async def work() -> None:
        store = MemoryVault()
        vault = sealed(store, NoKey())
        assert await vault.load(vault.key("a")) is None
        await vault.delete(vault.key("a"))
        async with vault.single_flight(vault.key("a")):
            pass
        assert store._entries == {}

    run(work())


def test_store_that_hangs_costs_all_who_wait_one_time_out_together() -> None:
    async def work() -> None:
        attempts = 0

        async def opener() -> tuple[Vault, KeySource]:
            nonlocal attempts
            attempts += 1
            await asyncio.sleep(0.2)  # the store that hangs
            raise errors.StoreUnavailable("no answer", backend="keyring")

        vault = Sealed(lambda: "keyring", opener)
        assert vault.health() == {"type": "keyring", "state": "unused", "why": None}
        began = asyncio.get_running_loop().time()
        async with asyncio.TaskGroup() as tasks:
            for n in range(50):
                tasks.create_task(fails(vault.load(vault.key(str(n))), errors.StoreUnavailable))
        assert attempts == 1
        assert asyncio.get_running_loop().time() - began < 1
        assert vault.health() == {"type": "keyring", "state": "unavailable", "why": "no answer"}
        await fails(vault.load(vault.key("again")), errors.StoreUnavailable)
        assert attempts == 2

    run(work())


def test_one_at_a_time_works_on_a_key_and_waiting_for_it_ends() -> None:
    async def work() -> None:
        vault = memory()
        inside = most = 0

        async def one() -> None:
            nonlocal inside, most
            async with vault.single_flight(vault.key("a")):
                inside += 1
                most = max(most, inside)
                await asyncio.sleep(0)
                inside -= 1

        async with asyncio.TaskGroup() as tasks:
            for _ in range(50):
                tasks.create_task(one())
        assert most == 1
        async with vault.single_flight(vault.key("a")), vault.single_flight(vault.key("b")):
            with pytest.raises(TimeoutError):
                async with vault.single_flight(vault.key("a"), 0.05):
                    pass
        async with vault.single_flight(vault.key("a")):
            pass

    run(work())


def test_write_that_fails_shows_in_the_health_until_one_succeeds() -> None:
    class Full(MemoryVault):
        full = True

        async def put(self, key: str, value: bytes, if_version: str | None) -> Entry:
            if self.full:
                raise errors.StoreWriteFailed("the disk is full", errno="ENOSPC")
            return await super().put(key, value, if_version)

    async def work() -> None:
        store = Full()
        vault = sealed(store)
        data = await fails(vault.save(vault.key("a"), {}, None), errors.StoreWriteFailed)
        assert data["errno"] == "ENOSPC"
        assert await vault.load(vault.key("a")) is None
        assert vault.health() == {"type": "memory", "state": "unavailable", "why": "the disk is full"}
        store.full = False
        await vault.save(vault.key("a"), {}, None)
        assert vault.health()["state"] == "ready"

    run(work())


class NoKey:
    """A place where no key was ever made."""

    async def get(self) -> bytes | None:
        """Return none."""
        return None

    async def make(self) -> bytes:
        """Never asked for."""
        raise AssertionError("a key was made for reading")

    async def aclose(self) -> None:
        """Nothing is held."""
