"""Which store a configuration means, and what was decided where it leaves that open (wire section 2, VaultConfig).

`auto` is the keyring where one works, else files; files without a key of the host's have theirs in the keyring where
one works, else beside them. Both are decided once, at the first use, and recorded in the folder: a later start that
finds the keyring locked or gone says so, and never begins an empty store beside the full one.
"""

from __future__ import annotations

import importlib
import os
from typing import TYPE_CHECKING, Final

import msgspec

from sidecar import errors
from sidecar.telemetry.redact import SECRETS
from sidecar.vault.keys import VARIABLE, GivenKey, KeyFile, KeySource, parse_key, read_key

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from sidecar.vault.folder import Folder
    from sidecar.vault.host import Asker
    from sidecar.vault.keyring import KeyringVault
    from sidecar.vault.sealed import Opened
    from sidecar.vault.worker import Worker
    from sidecar.wire_start import VaultConfig

RECORD: Final = "vault.json"
KEY: Final = "key"
_REDIS: Final = ("redis://", "rediss://", "unix://")
_IMPORT_SECONDS: Final = 30.0
_MEND: Final = f"give vault.keyFile, or base64 of 32 bytes in {VARIABLE}"


class Decided(msgspec.Struct, omit_defaults=True):
    """What was decided for a folder; a member is absent until it was needed."""

    version: int = 1
    vault: str | None = None
    """What `auto` is: `keyring` or `file`."""
    key: str | None = None
    """Where the key of the files is: `keyring` or `file`."""


class Choice:
    """A configuration, read."""

    def __init__(
        self, config: Callable[[], VaultConfig | None], environ: Mapping[str, str], host: Asker | None
    ) -> None:
        """Read `config` when the vault is used first; nothing is touched."""
        self._config = config
        self._environ = environ
        self._host = host
        self._local: Local | None = None

    def kind(self) -> str:
        """Return the kind that is asked for."""
        config = self._config()
        return config.type if config is not None else "auto"

    def path(self) -> str:
        """Return the folder of `file`, of what `auto` decided, and of the keyring's locks."""
        from sidecar.vault.file import data_folder

        config = self._config()
        given = config.path if config is not None else None
        return os.path.abspath(given) if given else data_folder(self._environ)  # noqa: PTH100 - links stay links

    def problem(self) -> errors.SidecarError | None:
        """Return what is wrong with the settings themselves, seen without asking any store."""
        config, kind = self._config(), self.kind()
        try:
            if config is not None and any("\0" in (text or "") for text in (config.path, config.url, config.key_file)):
                raise errors.StoreUnavailable("a setting of the vault holds NUL", backend=kind)
            if kind == "host" and (self._host is None or not self._host.promises("credentials")):
                raise errors.StoreUnavailable("the host did not promise `credentials` in initialize", backend=kind)
            if kind == "redis" and not (config and config.url and config.url.startswith(_REDIS)):
                why = "vault.url must name the Redis server: redis://, rediss:// or unix://"
                raise errors.StoreUnavailable(why, backend=kind)
            if kind in {"host", "redis"} and self._given(kind) is None and not (config and config.key_file):
                raise errors.StoreUnavailable(f"the vault {kind} needs a key: {_MEND}", backend=kind)
            if kind == "file":
                self._given(kind)
            if kind in {"host", "redis", "file", "auto"} and config is not None and config.key_file:
                read_key(config.key_file, kind)
        except errors.StoreUnavailable as error:
            return error
        return None

    async def open(self) -> Opened:
        """Open the store. Raises StoreLocked or StoreUnavailable."""
        kind = self.kind()
        if kind == "memory":
            from sidecar.vault.memory import MemoryVault

            return MemoryVault(), GivenKey()
        if kind == "host":
            from sidecar.vault.host import HostVault

            assert self._host is not None
            return HostVault(self._host), self._given_source(kind)
        if kind == "redis":
            await self._import("redis.asyncio")
            from sidecar.vault.redis import RedisVault

            config = self._config()
            assert config is not None
            assert config.url is not None
            try:
                return RedisVault(config.url), self._given_source(kind)
            except ValueError:
                raise errors.StoreUnavailable("vault.url is no URL of a Redis server", backend=kind) from None
        if self._local is None:
            self._local = Local(self)
        return await self._local.open()

    async def aclose(self) -> None:
        """Let go of what was needed to choose."""
        local, self._local = self._local, None
        if local is not None:
            await local.aclose()

    @staticmethod
    async def _import(name: str) -> None:
        """Import beside the loop what takes its time."""
        from sidecar.vault.worker import Worker

        worker = Worker("vault-import")
        try:
            await worker.run(lambda _: importlib.import_module(name), _IMPORT_SECONDS)
        finally:
            await worker.aclose()

    # -- keys of the host -------------------------------------------------------------------------------------

    def _given(self, kind: str) -> bytes | None:
        text = self._environ.get(VARIABLE)
        return parse_key(text, VARIABLE, kind) if text else None

    def given_source(self, kind: str, worker: Worker) -> KeySource | None:
        """Return the key that the host gave: its file before the variable. Raises StoreUnavailable."""
        config = self._config()
        if config is not None and config.key_file:
            return KeyFile(config.key_file, kind, worker, ours=False)
        key = self._given(kind)
        if key is None:
            return None
        SECRETS.add(self._environ[VARIABLE].strip())
        return GivenKey(key)

    def _given_source(self, kind: str) -> KeySource:
        from sidecar.vault.worker import Worker

        source = self.given_source(kind, Worker("vault-key"))
        assert source is not None
        return source

    def keyring(self, folder: Folder, disk: Worker) -> KeyringVault:
        """Return the user's keyring; nothing is asked yet."""
        from sidecar.vault.keyring import KeyringVault
        from sidecar.vault.worker import Worker

        return KeyringVault(self._environ, folder, Worker("vault-keyring"), disk)


class Local:
    """The stores of this machine, and what was decided about them."""

    def __init__(self, choice: Choice) -> None:
        """Open nothing yet."""
        from sidecar.vault.folder import Folder
        from sidecar.vault.worker import Worker

        self._choice = choice
        self._kind = choice.kind()
        self._folder = Folder(choice.path(), self._kind if self._kind != "auto" else "file")
        self._disk = Worker("vault-disk")
        self._keyring = choice.keyring(self._folder, self._disk)

    async def open(self) -> Opened:
        """Open the keyring or the files, as asked for or as decided."""
        from sidecar.vault.file import FileVault
        from sidecar.vault.keyring import KeyringKey

        kind = self._kind
        if kind == "auto":
            kind = await self._decide()
        if kind == "keyring":
            return self._keyring, KeyringKey(self._keyring)
        source = self._choice.given_source(kind, self._disk) or await self._key_source()
        return FileVault(self._folder, self._disk), source

    async def aclose(self) -> None:
        """End the threads."""
        await self._keyring.aclose()

    async def _decide(self) -> str:
        """Return what `auto` is here. Raises StoreLocked, or StoreUnavailable for a keyring that does not answer."""
        decided = await self._read()
        if decided.vault is None:
            works = await self._keyring_works(told_if_unclear=True)
            decided.vault = "keyring" if works else "file"
            if not works and decided.key is None:
                decided.key = "file"
            await self._write(decided)
        return decided.vault

    async def _key_source(self) -> KeySource:
        """Return where the key of the files is."""
        from sidecar.vault.keyring import KeyringKey

        decided = await self._read()
        if decided.key is None:
            works = await self._keyring_works(told_if_unclear=False)
            decided.key = "keyring" if works else "file"
            await self._write(decided)
        if decided.key == "keyring":
            return KeyringKey(self._keyring)
        return KeyFile(os.path.join(self._folder.path, KEY), "file", self._disk, ours=True)  # noqa: PTH118 - a string

    async def _keyring_works(self, *, told_if_unclear: bool) -> bool:
        """Say whether a keyring takes entries now; one that is locked or does not answer is no answer yet."""
        from sidecar.vault.keyring import Silent

        try:
            await self._keyring.probe()
        except errors.StoreLocked:
            if told_if_unclear:
                raise
        except Silent:
            if told_if_unclear:
                raise
        except errors.StoreUnavailable:
            pass
        else:
            return True
        await self._keyring.end()  # it is not needed any more
        return False

    async def _read(self) -> Decided:
        from sidecar.vault.file import in_time

        text = await in_time(self._disk, lambda _: self._folder.read("", RECORD), "file")
        if text is None:
            return Decided()
        try:
            return msgspec.json.decode(text, type=Decided)
        except msgspec.DecodeError:
            why = f"what was decided about the vault, {self._folder.path}/{RECORD}, cannot be read: repair or remove it"
            raise errors.StoreUnavailable(why, backend="file") from None

    async def _write(self, decided: Decided) -> None:
        from sidecar.vault.file import in_time

        text = msgspec.json.encode(decided) + b"\n"
        try:
            await in_time(self._disk, lambda _: self._folder.write("", RECORD, text), "file")
        except errors.StoreWriteFailed:
            return  # nothing can be stored here either, so nothing can be lost by deciding anew
