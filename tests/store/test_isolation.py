"""What one tenant stored is never another's, whoever writes into the store itself."""

from __future__ import annotations

import asyncio
import itertools
import json

import pytest

from sidecar import errors
from sidecar.vault import Conflict, Key, Sealed
from sidecar.vault.keys import GivenKey
from sidecar.vault.seal import Seal

from .conftest import SHARED, STORES, Open
from .stores import KEY, OTHER_KEY, fails, run, sealed

pytestmark = pytest.mark.usefixtures("servers")

NAMES = (
    ("a", "b__c"),
    ("a__b", "c"),
    ("../a", "b"),
    ("a", "../../../../etc/passwd"),
    ("a\0", "b"),
    ("a", "\0b"),
    ("t" * 4096, "u"),
    ("t", "u" * 4096),
    ("", "a"),
    ("a", ""),
    ("A", "b"),
    ("é", "日本"),
    ("a\n", "b"),
    ("*", "?"),
    ("a'; DROP TABLE x", "$(touch /tmp/pwn)"),
)
"""Tenants and users that a careless store would mix, or take for a path."""


def name_of(key: Key) -> str:
    """Return the name under which a store keeps an entry."""
    return Seal(KEY).name(key.name)


async def filled(vault: Sealed) -> list[Key]:
    """Store one record for each name and return the keys."""
    keys = [vault.key(*names, "https://as.example", "https://rs.example/mcp", "client") for names in NAMES]
    for number, key in enumerate(keys):
        await vault.save(key, {"accessToken": f"secret-{number}"}, None)
    return keys


async def cleared(vault: Sealed, keys: list[Key]) -> None:
    """Remove them again and close: tests share servers."""
    for key in keys:
        await vault.delete(key)
    await vault.aclose()


@pytest.mark.parametrize("open_store", STORES, indirect=True)
def test_every_owner_finds_its_own_record_and_no_other(open_store: Open) -> None:
    async def work() -> None:
        vault = sealed(open_store())
        keys = await filled(vault)
        for number, key in enumerate(keys):
            found = await vault.load(key)
            assert found is not None
            assert found[0] == {"accessToken": f"secret-{number}"}
        for names in (("a", "b"), ("b__c", "a"), ("t" * 4095, "u"), ("passwd",)):
            assert await vault.load(vault.key(*names, "https://as.example", "https://rs.example/mcp", "client")) is None
        await cleared(vault, keys)

    run(work())


@pytest.mark.parametrize("open_store", STORES, indirect=True)
def test_swapped_planted_cut_and_changed_entries_are_1403_and_their_neighbours_fine(open_store: Open) -> None:
    async def work() -> None:
        store = open_store()
        vault = sealed(store)
        one, two, three = keys = [vault.key(tenant, "user") for tenant in ("one", "two", "three")]
        for key in keys:
            await vault.save(key, {"accessToken": "secret"}, None)

        async def put(key: Key, value: bytes) -> None:
            standing = await store.get(name_of(key))
            assert standing is not None
            await store.put(name_of(key), value, standing.version)

        values = []
        for key in keys:
            entry = await store.get(name_of(key))
            assert entry is not None
            assert b"secret" not in entry.value
            values.append(entry.value)
        first, second, _ = values
        plain = json.dumps({"accessToken": "planted"}).encode()
        flipped = [first[:n] + bytes([first[n] ^ 0x80]) + first[n + 1 :] for n in (0, 3, 5, 20, len(first) - 1)]
        for wrong in (second, plain, b"", first[:-1], first[:10], first + b"\0", *flipped):
            await put(one, wrong)
            data = await fails(vault.load(one), errors.StoreCorrupt)
            assert data["retry"] == "reauth"
            assert "planted" not in str(data)
            for other in (two, three):
                assert await vault.load(other) is not None
        await put(two, first)
        await fails(vault.load(two), errors.StoreCorrupt)
        version = await vault.save(one, {"accessToken": "new"}, None)  # a new login mends what it touches
        assert await vault.load(one) == ({"accessToken": "new"}, version)
        await fails(vault.load(two), errors.StoreCorrupt)
        await vault.delete(two)
        assert await vault.load(two) is None
        assert await vault.load(three) is not None
        await cleared(vault, keys)

    run(work())


@pytest.mark.parametrize("open_store", STORES, indirect=True)
def test_store_opened_with_another_key_reads_nothing_and_tells_so(open_store: Open) -> None:
    async def work() -> None:
        first = sealed(open_store())
        key = first.key("tenant", "user")
        await first.save(key, {"accessToken": "secret"}, None)
        second = sealed(open_store(), GivenKey(OTHER_KEY))
        await fails(second.load(key), errors.StoreCorrupt)
        assert (await first.load(key) or [None])[0] == {"accessToken": "secret"}
        await second.aclose()
        await cleared(first, [key])

    run(work())


@pytest.mark.parametrize("open_store", STORES, indirect=True)
def test_two_that_swap_at_once_lose_no_write(open_store: Open) -> None:
    """Each of two processes adds to one counter, by what they read."""

    async def work() -> None:
        vaults = [sealed(open_store()) for _ in range(2)]
        key = vaults[0].key("counter")
        conflicts = 0

        async def add(vault: Sealed) -> None:
            nonlocal conflicts
            for _ in range(10):
                while True:
                    found = await vault.load(key)
                    record, version = found if found is not None else ({"by": []}, None)
                    try:
                        # No two writes are alike: the same record twice would count as one.
                        await vault.save(key, {"by": [*record["by"], id(vault)]}, version)
                    except Conflict:
                        conflicts += 1
                    else:
                        break

        await asyncio.gather(*map(add, vaults))
        found = await vaults[0].load(key)
        assert found is not None
        assert len(found[0]["by"]) == 20, conflicts
        await vaults[1].aclose()
        await cleared(vaults[0], [key])

    run(work())


@pytest.mark.parametrize("open_store", SHARED, indirect=True)
def test_one_at_a_time_works_on_an_entry_over_all_that_share_the_store(open_store: Open) -> None:
    async def work() -> None:
        vaults = [sealed(open_store()) for _ in range(3)]
        key, other = vaults[0].key("flight"), vaults[0].key("other")
        inside = most = 0

        async def one(vault: Sealed) -> None:
            nonlocal inside, most
            async with vault.single_flight(key):
                inside += 1
                most = max(most, inside)
                await asyncio.sleep(0.005)  # time in which a second one could enter
                inside -= 1

        await asyncio.gather(*(one(vault) for vault in itertools.islice(itertools.cycle(vaults), 12)))
        assert most == 1
        async with vaults[0].single_flight(key):
            with pytest.raises(TimeoutError):
                async with vaults[1].single_flight(key, 0.1):
                    pass
            async with vaults[1].single_flight(other):
                pass
            cut = asyncio.ensure_future(vaults[2].single_flight(key).__aenter__())
            await asyncio.sleep(0.02)  # it waits for a lock that tells nobody who waits
            cut.cancel()
            with pytest.raises(asyncio.CancelledError):
                await cut
        async with vaults[2].single_flight(key, 2):
            pass
        for vault in vaults:
            await vault.aclose()

    run(work())
