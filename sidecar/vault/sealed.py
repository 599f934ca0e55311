"""Records in a vault: named by HMAC, sealed, compared before they are swapped.

Nothing is opened, imported or asked before the first use. Whatever happens to the store is seen in `health`.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import logging
from typing import TYPE_CHECKING, Any, Final

import msgspec

from sidecar import errors
from sidecar.vault import seal
from sidecar.vault.base import ADDRESS, FLIGHT_SECONDS, Conflict, Entry, Key, Vault

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Iterator, Mapping

    from sidecar.vault.keys import KeySource

logger: Final = logging.getLogger(__name__)

MARKER: Final = hashlib.sha256(b"mcp-sidecar vault marker").hexdigest()
"""Under this name stands which key sealed the store: with another key it is not empty, it is unreadable."""

Opened = tuple[Vault, "KeySource"]


class Sealed:
    """The vault as the rest of the sidecar uses it."""

    def __init__(
        self,
        kind: Callable[[], str],
        opener: Callable[[], Awaitable[Opened]],
        problem: Callable[[], errors.SidecarError | None] = lambda: None,
        closer: Callable[[], Awaitable[None]] | None = None,
    ) -> None:
        """Use what `opener` opens at the first use; `problem` tells what is wrong with the settings alone.

        `closer` lets go of what `opener` holds, also where it never succeeded.
        """
        self._kind = kind
        self._opener = opener
        self._problem = problem
        self._closer = closer
        self._opened: Opened | None = None
        self._shared: dict[str, asyncio.Task[Any]] = {}
        self._seal: seal.Seal | None = None
        self._ours: bool | None = None
        """Whether the marker is that of our key; None while nobody has looked."""
        self._state = "unused"
        self._why: str | None = None
        self._unwritten: str | None = None

    @property
    def kind(self) -> str:
        """The kind that was asked for, and the one that was chosen as soon as it is known."""
        return self._opened[0].kind if self._opened is not None else self._kind()

    def key(self, *parts: str, scope: Mapping[str, str] | None = None, server: str | None = None) -> Key:
        """Return the key of an entry; `scope` and `server` are told to a host that keeps it, and name nothing."""
        return Key(seal.encode(parts), dict(scope or {}), server)

    async def load(self, key: Key) -> tuple[dict[str, Any], str] | None:
        """Return a record and its version; None only where it truly is not there.

        Raises StoreLocked, StoreUnavailable, or StoreCorrupt for an entry (or a whole store) that does not open.
        """
        with self._use(key):
            vault, sealer = await self._ready(make=False)
            name = sealer.name(key.name) if sealer is not None else None
            entry = await vault.get(name) if name is not None else None
            if entry is None and not await self._is_ours(vault, sealer):
                raise seal.corrupt()
        if entry is None or sealer is None or name is None:
            return None
        return _record(sealer.open(name, entry.value)), entry.version

    async def save(self, key: Key, record: Mapping[str, Any], if_version: str | None) -> str:
        """Write a record where `if_version` stands (None: where nothing stands) and return its version.

        Raises Conflict, StoreLocked, StoreUnavailable or StoreWriteFailed. An entry that does not open counts as
        nothing: a new login mends it.
        """
        with self._use(key, writes=True):
            vault, sealer = await self._ready(make=True)
            assert sealer is not None
            name = sealer.name(key.name)
            plain = msgspec.json.encode(record)
            value = sealer.close(name, plain)
            await self._mark(vault, sealer)
            try:
                return (await vault.put(name, value, if_version)).version
            except Conflict as conflict:
                standing = conflict.entry
                if standing is None:
                    raise
                found = _opened_or_none(sealer, name, standing)
                if found is not None and found == msgspec.json.decode(plain):
                    return standing.version  # written before, and the answer was lost
                if found is not None or if_version is not None:
                    raise
                return (await vault.put(name, value, standing.version)).version

    async def delete(self, key: Key, if_version: str | None = None) -> None:
        """Forget a record; with `if_version` only that version. Raises Conflict and what `save` raises."""
        with self._use(key, writes=True):
            vault, sealer = await self._ready(make=False)
            if sealer is not None:
                await vault.delete(sealer.name(key.name), if_version)

    @contextlib.asynccontextmanager
    async def single_flight(self, key: Key, seconds: float = FLIGHT_SECONDS) -> AsyncIterator[None]:
        """Let one at a time work on this entry: across tasks, and across processes where the store can do that.

        Waits for `seconds` at most. Raises TimeoutError, StoreLocked, StoreUnavailable or StoreWriteFailed.
        """
        async with contextlib.AsyncExitStack() as stack:
            with self._use(key):
                vault, sealer = await self._ready(make=False)
                # Without a key there is nothing yet to keep apart from other processes: a lock is no place for a name.
                name = sealer.name(key.name) if sealer is not None else MARKER
                await stack.enter_async_context(vault.single_flight(name, seconds))
            yield

    def health(self) -> dict[str, Any]:
        """Return the vault's member of `sidecar/health`."""
        state, why = self._state, self._why
        if state == "unused" and (problem := self._problem()) is not None:
            state, why = "unavailable", problem.message
        elif state == "ready" and self._unwritten is not None:
            state, why = "unavailable", self._unwritten
        return {"type": self.kind, "state": state, "why": why}

    async def aclose(self) -> None:
        """Let go of what was opened."""
        for task in list(self._shared.values()):
            task.cancel()
        opened, self._opened = self._opened, None
        if opened is not None:
            await asyncio.gather(opened[0].aclose(), opened[1].aclose())
        if self._closer is not None:
            await self._closer()

    # -- opening ----------------------------------------------------------------------------------------------

    async def _ready(self, *, make: bool) -> tuple[Vault, seal.Seal | None]:
        """Return the store and its seal; the seal is None while no key was ever made and none is to be made now."""
        if self._opened is None:
            await self._share("open", self._open)
        assert self._opened is not None
        vault, source = self._opened
        if self._seal is None:
            master = await self._share("make" if make else "get", source.make if make else source.get)
            if self._seal is None and master is not None:
                self._seal = seal.Seal(master)
        return vault, self._seal

    async def _open(self) -> None:
        if (problem := self._problem()) is not None:
            raise problem
        self._opened = await self._opener()

    async def _share(self, name: str, begin: Callable[[], Coroutine[Any, Any, Any]]) -> Any:
        """Do a thing once for all who wait for it: a store that hangs costs each of them one time-out, not the sum."""
        task = self._shared.get(name)
        if task is None:
            task = self._shared[name] = asyncio.get_running_loop().create_task(begin())

            def settle(done: asyncio.Task[Any]) -> None:
                del self._shared[name]
                if not done.cancelled():
                    done.exception()  # seen, also where nobody waits for it any more

            task.add_done_callback(settle)
        return await asyncio.shield(task)

    async def _is_ours(self, vault: Vault, sealer: seal.Seal | None) -> bool:
        """Say whether the store is empty or sealed with our key: else what we do not find may well be there."""
        if self._ours is None:
            entry = await vault.get(MARKER)
            if entry is None or not seal.is_marker(entry.value):
                return True
            ours = sealer is not None and entry.value == sealer.marker
            if sealer is None:
                return ours
            self._ours = ours
        return self._ours

    async def _mark(self, vault: Vault, sealer: seal.Seal) -> None:
        """Note which key seals this store, before the first entry is written."""
        if self._ours is not None:
            return
        entry = await vault.get(MARKER)
        if entry is not None and seal.is_marker(entry.value):
            self._ours = entry.value == sealer.marker
            return
        with contextlib.suppress(Conflict):  # somebody else was faster: looked at again with the next entry
            await vault.put(MARKER, sealer.marker, entry.version if entry is not None else None)
            self._ours = True

    # -- health -----------------------------------------------------------------------------------------------

    @contextlib.contextmanager
    def _use(self, key: Key, *, writes: bool = False) -> Iterator[None]:
        """Note what one use told about the store, and for whom it is."""
        token = ADDRESS.set((dict(key.scope), key.server))
        try:
            yield
        except errors.StoreLocked as error:
            self._note("locked", error)
            raise
        except errors.StoreUnavailable as error:
            self._note("unavailable", error)
            raise
        except errors.StoreWriteFailed as error:
            self._unwritten = error.message
            self._note("ready", None)
            raise
        except (Conflict, errors.StoreCorrupt, TimeoutError):
            self._note("ready", None)
            raise
        else:
            if writes:
                self._unwritten = None
            self._note("ready", None)
        finally:
            ADDRESS.reset(token)

    def _note(self, state: str, error: errors.SidecarError | None) -> None:
        if state != self._state and error is not None:
            logger.warning("the credential store (%s) is %s: %s", self.kind, state, error.message)
        self._state, self._why = state, error.message if error is not None else None


def _record(plain: bytes) -> dict[str, Any]:
    try:
        return msgspec.json.decode(plain, type=dict[str, Any])
    except msgspec.DecodeError:
        raise seal.corrupt() from None


def _opened_or_none(sealer: seal.Seal, name: str, entry: Entry) -> dict[str, Any] | None:
    try:
        return _record(sealer.open(name, entry.value))
    except errors.StoreCorrupt:
        return None
