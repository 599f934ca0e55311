"""Files of the vault on real disks: full, read-only, cut off in mid-write, and seen by others."""

from __future__ import annotations

import json
import os
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from sidecar import errors
from sidecar.vault import Sealed, open_vault
from sidecar.vault.file import data_folder
from sidecar.wire_start import VaultConfig
from tests.answers import Json
from tests.harness import ROOT

from .stores import fails, run


def program(name: str, *words: str, before: tuple[str, ...] = ()) -> Json:
    """Run a program of this folder and return what it tells."""
    done = subprocess.run(
        [*before, sys.executable, "-m", f"tests.store.{name}", *words],
        cwd=ROOT,
        capture_output=True,
        timeout=50,
        check=False,
    )
    if before and b"unshare" in done.stderr:
        pytest.skip(f"no mount namespace of one's own here: {done.stderr.decode().strip()}")
    assert done.returncode == 0, done.stderr.decode()
    told: Json = json.loads(done.stdout)
    return told


def vault_in(folder: Path) -> Sealed:
    """Return the vault of files in a folder."""
    config = VaultConfig(type="file", path=str(folder))
    return open_vault(lambda: config, {"HOME": str(folder)}, None)


@pytest.mark.needs("unshare", "mount")
def test_full_and_read_only_disks_keep_the_old_record_and_tell_their_errno(tmp_path: Path) -> None:
    told = program("disk_program", "full", str(tmp_path), before=("unshare", "-Urm"))
    for name, code in (("full", "ENOSPC"), ("full for a new process", "ENOSPC"), ("read-only", "EROFS")):
        assert told[name] == [1404, code]
        assert told[name + " leaves"] == "old"
        assert told[name + " shows"] == "unavailable"
        assert told[name + " flight"] == "one"
    assert told["full from the first"] == [1404, "ENOSPC"]
    assert told["full from the first leaves"] is None
    assert told["read-only from the first"] == [1404, "EROFS"]
    assert told["room again"] == "ready"
    assert told["writable again"] == "saved"
    assert told["writable again leaves"] == "new"
    assert told["writable again shows"] == "ready"


def test_write_that_ends_halfway_keeps_the_old_record(tmp_path: Path) -> None:
    told = program("disk_program", "limited", str(tmp_path))
    assert told["limited"] == [1404, "EFBIG"]
    assert told["limited leaves"] == "old"
    assert told["limited flight"] == "one"
    assert told["unlimited"] == "saved"
    assert told["unlimited leaves"] == "new"
    assert sorted(path.name for path in tmp_path.rglob("*.new")) == []


def test_writers_killed_two_hundred_times_in_mid_write_leave_the_old_or_the_new_record(tmp_path: Path) -> None:
    told = program("killed_program", str(tmp_path), "200", "40")
    assert told["written"] >= 200
    assert told["torn"] > 5  # some were really hit between the first byte and the rename
    assert told["left"] == []
    assert told["locks"] == []


def test_folders_and_files_are_for_their_owner_alone_whatever_the_umask(tmp_path: Path) -> None:
    given = tmp_path / "given"
    given.mkdir(0o755)
    used = tmp_path / "used"
    used.mkdir(0o755)
    (used / "of-somebody").write_text("else")
    before = os.umask(0o022)
    try:
        for folder in (tmp_path / "deep" / "er" / "vault", given, used):
            run(save(folder))
            for path in [folder, *folder.rglob("*")]:
                mode = stat.S_IMODE(path.stat().st_mode)
                if path == used:
                    assert mode == 0o755  # not ours: what is in it is
                elif path.name != "of-somebody":
                    assert mode == (0o700 if path.is_dir() else 0o600), path
    finally:
        os.umask(before)
    for made in (tmp_path / "deep", tmp_path / "deep" / "er"):
        assert stat.S_IMODE(made.stat().st_mode) == 0o700


async def save(folder: Path) -> None:
    """Store one record."""
    vault = vault_in(folder)
    await vault.save(vault.key("tenant", "user", "https://as.example"), {"accessToken": "secret-token"}, None)
    await vault.aclose()


def test_nothing_that_can_be_read_stands_in_names_or_files(tmp_path: Path) -> None:
    run(save(tmp_path / "vault"))
    for path in (tmp_path / "vault").rglob("*"):
        text = path.name.encode() + (path.read_bytes() if path.is_file() else b"")
        for word in (b"tenant", b"user", b"example", b"secret", b"accessToken"):
            assert word not in text


def test_links_pipes_and_folders_in_the_place_of_an_entry_are_1403_and_followed_by_none(tmp_path: Path) -> None:
    async def work() -> None:
        folder = tmp_path / "vault"
        vault = vault_in(folder)
        key = vault.key("a")
        version: str | None = None
        for plant in ("link", "dangling", "fifo", "folder"):
            version = await vault.save(key, {"n": 1}, version)
            entry = max((folder / "entries").iterdir(), key=lambda path: path.stat().st_mtime_ns)
            bait = tmp_path / "bait"
            bait.write_bytes(entry.read_bytes())
            entry.unlink()
            if plant == "link":
                entry.symlink_to(bait)
            elif plant == "dangling":
                entry.symlink_to(tmp_path / "nowhere")
            elif plant == "fifo":
                os.mkfifo(entry)
            else:
                entry.mkdir()
            await fails(vault.load(key), errors.StoreCorrupt)
            kept = bait.read_bytes()
            if plant == "folder":
                await fails(vault.save(key, {"n": 2}, None), errors.StoreWriteFailed)
                entry.rmdir()
                version = None
            else:
                version = await vault.save(key, {"n": 2}, None)
            assert bait.read_bytes() == kept
            assert not (tmp_path / "nowhere").exists()
        await vault.aclose()

    run(work())


def test_folder_that_was_removed_meanwhile_is_empty_and_is_made_anew(tmp_path: Path) -> None:
    async def work() -> None:
        folder = tmp_path / "vault"
        vault = vault_in(folder)
        key = vault.key("a")
        await vault.save(key, {"n": 1}, None)
        for path in sorted(folder.rglob("*"), reverse=True):
            path.rmdir() if path.is_dir() else path.unlink()
        folder.rmdir()
        assert await vault.load(key) is None
        await vault.save(key, {"n": 2}, None)
        loaded = await vault.load(key)
        assert loaded is not None
        await vault.aclose()

    run(work())


def test_path_that_is_no_folder_or_belongs_to_another_user_is_1402(tmp_path: Path) -> None:
    async def work() -> None:
        (tmp_path / "file").write_text("")
        foreign = tmp_path / "foreign"
        foreign.mkdir()
        paths = [tmp_path / "file"]
        if os.geteuid() == 0:
            os.chown(foreign, 12345, 12345)
            paths.append(foreign)
        for path in paths:
            vault = vault_in(path)
            data = await fails(vault.load(vault.key("a")), errors.StoreUnavailable)
            assert data["backend"] == "file"
            assert data["code"] == 1402
            assert vault.health()["state"] == "unavailable"
            await vault.aclose()

    run(work())


def test_data_folder_is_that_of_the_user() -> None:
    assert data_folder({"HOME": "/h", "XDG_DATA_HOME": "/x"}).endswith("mcp-sidecar")
    if sys.platform == "linux":
        assert data_folder({"HOME": "/h", "XDG_DATA_HOME": "/x"}) == "/x/mcp-sidecar"
        assert data_folder({"HOME": "/h", "XDG_DATA_HOME": "relative"}) == "/h/.local/share/mcp-sidecar"
