"""Credentials in a Redis server, so that several machines share logins; compared and swapped by the server itself."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import secrets
from typing import TYPE_CHECKING, Any, Final

from sidecar import errors
from sidecar.telemetry.redact import SECRETS
from sidecar.vault.base import STORE_SECONDS, Conflict, Entry, Flights

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

    from redis.asyncio import Redis

logger: Final = logging.getLogger(__name__)

PREFIX: Final = "mcp-sidecar:"
_LOCK_MS: Final = 20_000
"""A lock whose holder died ends after so long; one that is held is renewed three times in that time."""
_CONNECTIONS: Final = 16
"""So many at most; further requests wait their turn inside their 3 s."""
_POLL: Final = (0.01, 0.2)
_PUT: Final = """
local version = redis.call('HGET', KEYS[1], 'version')
if version ~= (ARGV[1] ~= '' and ARGV[1]) then
  return redis.call('HMGET', KEYS[1], 'value', 'version')
end
redis.call('HSET', KEYS[1], 'value', ARGV[2], 'version', ARGV[3])
return 'OK'
"""
_DELETE: Final = """
local version = redis.call('HGET', KEYS[1], 'version')
if version and version ~= ARGV[1] then
  return redis.call('HMGET', KEYS[1], 'value', 'version')
end
redis.call('DEL', KEYS[1])
return 'OK'
"""
_RENEW: Final = "return redis.call('GET', KEYS[1]) == ARGV[1] and redis.call('PEXPIRE', KEYS[1], ARGV[2])"
_RELEASE: Final = "return redis.call('GET', KEYS[1]) == ARGV[1] and redis.call('DEL', KEYS[1])"
_FULL: Final = {"OOM": "ENOSPC", "MISCONF": "ENOSPC", "READONLY": "EROFS", "NOREPLICAS": "EROFS"}
"""Refusals of a write, and the error of a disk that says the same."""
_WORDS: Final = {"OutOfMemoryError": "OOM", "ReadOnlyError": "READONLY"}
"""Errors that the library makes of a refusal, without its word."""


class RedisVault:
    """Keeps each entry as a hash of value and version."""

    kind: Final = "redis"

    def __init__(self, url: str) -> None:
        """Use the server at `url`, which was checked; nothing is opened."""
        from redis.asyncio import Redis
        from redis.asyncio.retry import Retry
        from redis.backoff import NoBackoff

        self._redis: Redis = Redis.from_url(
            url,
            socket_timeout=2 * STORE_SECONDS,  # ends what was given up
            socket_connect_timeout=2 * STORE_SECONDS,
            retry=Retry(NoBackoff(), 1),  # a connection that the server closed while it was idle is opened anew
            client_name="mcp-sidecar",
        )
        password = self._redis.connection_pool.connection_kwargs.get("password")
        if isinstance(password, str):
            SECRETS.add(password)
        self._flights = Flights()
        self._turns = asyncio.Semaphore(_CONNECTIONS)
        self._tasks: set[asyncio.Task[Any]] = set()

    async def get(self, key: str) -> Entry | None:
        """Return what stands under `key`."""
        return _entry(await self._ask(lambda: self._redis.hmget(PREFIX + key, "value", "version")))

    async def put(self, key: str, value: bytes, if_version: str | None) -> Entry:
        """Write by compare-and-swap, in one script of the server."""
        version = secrets.token_hex(16)
        done = await self._script(_PUT, key, if_version or "", value, version)
        if done != b"OK":
            raise Conflict(_entry(done))
        return Entry(value, version)

    async def delete(self, key: str, if_version: str | None = None) -> None:
        """Forget an entry."""
        if if_version is None:
            await self._ask(lambda: self._redis.delete(PREFIX + key))
        elif (done := await self._script(_DELETE, key, if_version)) != b"OK":
            raise Conflict(_entry(done))

    @contextlib.asynccontextmanager
    async def single_flight(self, key: str, seconds: float) -> AsyncIterator[None]:
        """Let one at a time do the work of `key`, of all machines with this server."""
        loop = asyncio.get_running_loop()
        end = loop.time() + seconds
        async with self._flights.one(key, seconds):
            name, token = f"lock:{key}", secrets.token_hex(16)
            pause = _POLL[0]
            try:
                while not await self._ask(lambda: self._redis.set(PREFIX + name, token, nx=True, px=_LOCK_MS)):
                    if loop.time() >= end:
                        raise TimeoutError
                    await asyncio.sleep(pause)
                    pause = min(pause * 1.5, _POLL[1])
            except asyncio.CancelledError:
                self._let_go(name, token)  # it may have been taken just now
                raise
            renewing = loop.create_task(self._renew(name, token))
            try:
                yield
            finally:
                renewing.cancel()
                self._let_go(name, token)

    def _let_go(self, name: str, token: str) -> None:
        """Release a lock without waiting: where that fails, it ends by itself."""
        task = asyncio.get_running_loop().create_task(self._release(name, token))
        self._tasks.add(task)
        task.add_done_callback(self._settled)

    async def _release(self, name: str, token: str) -> None:
        with contextlib.suppress(errors.SidecarError):
            await self._script(_RELEASE, name, token)

    async def _renew(self, name: str, token: str) -> None:
        while True:
            await asyncio.sleep(_LOCK_MS / 3000)
            try:
                await self._script(_RENEW, name, token, str(_LOCK_MS))
            except errors.SidecarError as error:
                logger.warning("a lock in the credential store could not be renewed: %s", error.message)

    async def _script(self, script: str, key: str, *arguments: bytes | str) -> Any:
        return await self._ask(lambda: self._redis.eval(script, 1, PREFIX + key, *arguments))

    async def _ask(self, work: Callable[[], Any]) -> Any:
        """Ask the server. The answer is there in time also where the library does not end when it is cancelled."""
        from redis.exceptions import RedisError, ResponseError

        task = asyncio.get_running_loop().create_task(self._turn(work))
        self._tasks.add(task)
        task.add_done_callback(self._settled)
        try:
            done, _ = await asyncio.wait({task}, timeout=STORE_SECONDS)
        finally:
            task.cancel()
        if not done:
            raise _unavailable(f"it did not answer within {STORE_SECONDS:.0f} s")
        try:
            return task.result()
        except ResponseError as error:
            word = _WORDS.get(type(error).__name__) or str(error).split(" ", 1)[0].rstrip(":")
            if word in _FULL:
                text = f"the Redis server does not take writes: {word}"
                raise errors.StoreWriteFailed(text, errno=_FULL[word]) from None
            raise _unavailable(f"it answered {word[:40]}") from None
        except (RedisError, OSError) as error:
            raise _unavailable(f"it cannot be reached ({type(error).__name__})") from None

    async def _turn(self, work: Callable[[], Any]) -> Any:
        async with self._turns:
            return await work()

    def _settled(self, task: asyncio.Task[Any]) -> None:
        self._tasks.discard(task)
        if not task.cancelled():
            task.exception()  # seen, also where nobody waits for it any more

    async def aclose(self) -> None:
        """Close the connections, after the locks were let go."""
        if self._tasks:
            await asyncio.wait(self._tasks, timeout=STORE_SECONDS)
        await self._redis.aclose()


def _entry(found: Any) -> Entry | None:
    value, version = found
    if version is None:
        return None
    return Entry(bytes(value or b""), bytes(version).decode("latin-1"))


def _unavailable(why: str) -> errors.StoreUnavailable:
    return errors.StoreUnavailable(f"the Redis server of the credential store cannot be used: {why}", backend="redis")
