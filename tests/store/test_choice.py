"""Which store a configuration means, where its key comes from, and what is told about one that cannot be."""

from __future__ import annotations

import asyncio
import base64
import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from sidecar import errors
from sidecar.telemetry.redact import SECRETS
from sidecar.vault import Conflict, Sealed, open_vault
from sidecar.wire_start import VaultConfig

from .servers import KeepingHost
from .stores import KEY, OTHER_KEY, fails, run

TEXT = base64.b64encode(KEY).decode()
OTHER_TEXT = base64.b64encode(OTHER_KEY).decode()


def vault_in(
    home: Path, env: Mapping[str, str] | None = None, host: KeepingHost | None = None, **config: Any
) -> Sealed:
    """Return the vault that a configuration means."""
    return open_vault(lambda: VaultConfig(**config), {"HOME": str(home), **(env or {})}, host)


async def refused(vault: Sealed, *words: str) -> None:
    """Check that the vault cannot be used, seen in its health before its use and after."""
    why = vault.health()["why"]
    data = await fails(vault.load(vault.key("a")), errors.StoreUnavailable)
    assert data["code"] == 1402
    assert why in (data["message"], None)
    for word in words:
        assert word in data["message"]
    assert vault.health()["state"] == "unavailable"
    await vault.aclose()


@pytest.mark.parametrize("kind", ["host", "redis"])
def test_host_and_redis_need_a_key_of_the_host(tmp_path: Path, kind: str) -> None:
    async def work() -> None:
        config: dict[str, Any] = {"type": kind, "url": "redis://127.0.0.1:1/0"}
        vault = vault_in(tmp_path, host=KeepingHost(), **config)
        assert vault.health()["state"] == "unavailable"
        await refused(vault, "MCP_SIDECAR_KEY", "keyFile")
        for bad in ("short", TEXT[:-4], base64.b64encode(bytes(33)).decode(), "ü" * 44):
            vault = vault_in(tmp_path, {"MCP_SIDECAR_KEY": bad}, KeepingHost(), **config)
            await refused(vault, "MCP_SIDECAR_KEY", "32 bytes")

    run(work())


def test_vault_of_a_host_that_promised_none_is_1402(tmp_path: Path) -> None:
    class Silent(KeepingHost):
        def promises(self, name: str) -> bool:
            return name == "tokens"

    run(refused(vault_in(tmp_path, {"MCP_SIDECAR_KEY": TEXT}, Silent(), type="host"), "credentials"))


@pytest.mark.parametrize(
    "url", [None, "", "http://127.0.0.1/", "redis:127.0.0.1", "127.0.0.1:6379", "redis://[::1", "redis://h:port"]
)
def test_redis_without_a_usable_url_is_1402(tmp_path: Path, url: str | None) -> None:
    run(refused(vault_in(tmp_path, {"MCP_SIDECAR_KEY": TEXT}, type="redis", url=url), "url"))


def test_missing_key_file_is_made_for_its_owner_alone_and_used_by_later_starts(tmp_path: Path) -> None:
    async def work() -> None:
        host = KeepingHost()
        path = tmp_path / "keys" / "sidecar"
        vault = vault_in(tmp_path, host=host, type="host", key_file=str(path))
        assert await vault.load(vault.key("a")) is None
        assert not path.exists()  # reading makes nothing
        await vault.save(vault.key("a"), {"n": 1}, None)
        assert path.stat().st_mode & 0o777 == 0o600
        assert len(base64.b64decode(path.read_text())) == 32
        later = vault_in(tmp_path, host=host, type="host", key_file=str(path))
        assert await later.load(later.key("a")) is not None
        path.unlink()
        gone = vault_in(tmp_path, host=host, type="host", key_file=str(path))
        await fails(gone.load(gone.key("a")), errors.StoreCorrupt)
        for used in (vault, later, gone):
            await used.aclose()

    run(work())


def test_many_that_make_the_same_key_at_once_agree_on_one(tmp_path: Path) -> None:
    async def work() -> None:
        vaults = [vault_in(tmp_path, type="file", path=str(tmp_path / "vault")) for _ in range(8)]
        saved = [vault.save(vault.key(str(number)), {"n": number}, None) for number, vault in enumerate(vaults)]
        await asyncio.gather(*saved)
        for reader in vaults:
            for number in range(8):
                assert await reader.load(reader.key(str(number))) is not None
            await reader.aclose()

    run(work())


@pytest.mark.parametrize("kind", ["host", "file", "auto"])
def test_key_file_that_others_can_read_or_that_holds_no_key_is_1402(tmp_path: Path, kind: str) -> None:
    async def work() -> None:
        path = tmp_path / "key"
        for mode in (0o644, 0o640, 0o604, 0o620):
            path.write_text(TEXT)
            path.chmod(mode)
            vault = vault_in(tmp_path, host=KeepingHost(), type=kind, key_file=str(path))
            assert vault.health()["state"] == "unavailable"
            await refused(vault, "chmod 600")
        path.chmod(0o600)
        for text in ("", "short", TEXT + TEXT, "!" * 44):
            path.write_text(text)
            await refused(vault_in(tmp_path, host=KeepingHost(), type=kind, key_file=str(path)), "32 bytes")
        await refused(vault_in(tmp_path, host=KeepingHost(), type=kind, key_file=str(tmp_path)), str(tmp_path))
        path.write_text(TEXT + "\n")
        vault = vault_in(tmp_path, host=KeepingHost(), type=kind, key_file=str(path))
        await vault.save(vault.key("a"), {"n": 1}, None)
        await vault.aclose()

    run(work())


def test_key_of_the_environment_seals_files_and_another_one_reads_none_of_them(tmp_path: Path) -> None:
    async def work() -> None:
        vault = vault_in(tmp_path, {"MCP_SIDECAR_KEY": TEXT}, type="file")
        await vault.save(vault.key("a"), {"n": 1}, None)
        folder = tmp_path / ".local" / "share" / "mcp-sidecar"
        assert sorted(path.name for path in folder.iterdir()) == ["entries", "locks"]  # no key, nothing decided
        later = vault_in(tmp_path, {"MCP_SIDECAR_KEY": f" {TEXT}\n"}, type="file")
        assert await later.load(later.key("a")) is not None
        other = vault_in(tmp_path, {"MCP_SIDECAR_KEY": OTHER_TEXT}, type="file")
        await fails(other.load(other.key("a")), errors.StoreCorrupt)
        assert TEXT not in SECRETS.clean(f"the key is {TEXT}")
        for used in (vault, later, other):
            await used.aclose()

    run(work())


def test_what_was_decided_and_cannot_be_read_is_1402_and_not_decided_anew(tmp_path: Path) -> None:
    async def work() -> None:
        folder = tmp_path / "vault"
        vault = vault_in(tmp_path, type="auto", path=str(folder))
        await vault.save(vault.key("a"), {"n": 1}, None)
        assert json.loads((folder / "vault.json").read_text()) == {"vault": "file", "key": "file"}
        (folder / "vault.json").write_text("{")
        later = vault_in(tmp_path, type="auto", path=str(folder))
        data = await fails(later.load(later.key("a")), errors.StoreUnavailable)
        assert "vault.json" in data["message"]
        for used in (vault, later):
            await used.aclose()

    run(work())


def test_keyring_that_the_environment_switches_off_is_no_keyring(tmp_path: Path) -> None:
    env = {**os.environ, "PYTHON_KEYRING_BACKEND": "keyring.backends.fail.Keyring"}
    run(refused(vault_in(tmp_path, env, type="keyring"), "PYTHON_KEYRING_BACKEND"))


def test_host_is_asked_as_the_contract_says(tmp_path: Path) -> None:
    async def work() -> None:
        host = KeepingHost()
        vault = vault_in(tmp_path, {"MCP_SIDECAR_KEY": TEXT}, host, type="host")
        key = vault.key("tenant", "user", scope={"tenant": "t"}, server="s")
        assert await vault.load(key) is None
        version = await vault.save(key, {"n": 1}, None)
        assert await vault.load(key) == ({"n": 1}, version)
        await vault.delete(key, version)
        assert await vault.load(key) is None
        for method, params, seconds in host.asked:
            assert params["scope"] == {"tenant": "t"}
            assert params["server"] == "s"
            assert seconds == 3.0
            wanted = {
                "credentials/get": set(),
                "credentials/put": {"value", "ifVersion"},
                "credentials/delete": {"ifVersion"},
            }
            assert set(params) == {"key", "scope", "server"} | wanted[method]
        without = vault.key("tenant", "user")
        await vault.delete(without)
        assert set(host.asked[-1][1]) == {"key", "scope"}
        await vault.save(key, {"n": 1}, None)
        with pytest.raises(Conflict):
            await vault.save(key, {"n": 2}, "another")
        await vault.aclose()

    run(work())


@pytest.mark.parametrize(
    "answer",
    [
        b"null",
        b"[]",
        b"{}",
        b'{"value":5,"version":"1"}',
        b'{"value":"!","version":"1"}',
        b'{"value":"YQ==","version":null}',
        b"no JSON",
    ],
)
def test_host_that_answers_nonsense_or_refuses_is_1402_and_not_empty(tmp_path: Path, answer: bytes) -> None:
    async def work() -> None:
        host = KeepingHost()
        vault = vault_in(tmp_path, {"MCP_SIDECAR_KEY": TEXT}, host, type="host")
        host.answer = answer
        data = await fails(vault.load(vault.key("a")), errors.StoreUnavailable)
        assert data["backend"] == "host"
        await fails(vault.save(vault.key("a"), {"n": 1}, None), errors.StoreUnavailable)
        host.answer, host.refuses = None, True
        data = await fails(vault.load(vault.key("a")), errors.StoreUnavailable)
        assert "-32601" in data["message"]
        host.refuses = False
        await vault.save(vault.key("a"), {"n": 1}, None)
        assert vault.health() == {"type": "host", "state": "ready", "why": None}
        await vault.aclose()

    run(work())
