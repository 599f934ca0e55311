"""One thread for what blocks: the loop never waits for a disk or a keyring, and threads never pile up.

A job that has not ended in time is told as such and left to the thread; what stands behind it is not begun any more
once its own time is over. The thread is a daemon: a call that never returns does not keep the process alive.
"""

from __future__ import annotations

import asyncio
import contextlib
import queue
import threading
import time
from typing import TYPE_CHECKING, Any, Final, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable

T = TypeVar("T")

_END_SECONDS: Final = 0.5


class Worker:
    """Does jobs in order, beside the loop."""

    def __init__(self, name: str) -> None:
        """Start no thread before the first job."""
        self._name = name
        self._jobs: queue.SimpleQueue[Callable[[], None] | None] = queue.SimpleQueue()
        self._thread: threading.Thread | None = None

    async def run(self, job: Callable[[float], T], seconds: float) -> T:
        """Do a job, which is told its deadline on the monotonic clock. Raises TimeoutError, and what the job raises."""
        loop = asyncio.get_running_loop()
        done: asyncio.Future[T] = loop.create_future()
        deadline = time.monotonic() + seconds

        def work() -> None:
            if done.cancelled() or time.monotonic() >= deadline:
                return
            result, error = None, None
            try:
                result = job(deadline)
            except BaseException as caught:
                error = caught
            with contextlib.suppress(RuntimeError):  # the loop has ended meanwhile
                loop.call_soon_threadsafe(_settle, done, result, error)

        if self._thread is None:
            self._thread = threading.Thread(target=self._serve, name=self._name, daemon=True)
            self._thread.start()
        self._jobs.put(work)
        async with asyncio.timeout_at(loop.time() + seconds):
            return await done

    def _serve(self) -> None:
        while (work := self._jobs.get()) is not None:
            work()

    async def aclose(self, last: Callable[[], None] = lambda: None) -> None:
        """End the thread after its jobs and `last`; one that hangs is left to the end of the process."""
        thread, self._thread = self._thread, None
        if thread is None:
            return
        loop = asyncio.get_running_loop()
        ended: asyncio.Future[None] = loop.create_future()

        def end() -> None:
            last()
            with contextlib.suppress(RuntimeError):
                loop.call_soon_threadsafe(_settle, ended, None, None)

        self._jobs.put(end)
        self._jobs.put(None)
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(_END_SECONDS):
                await ended
            thread.join(_END_SECONDS)  # it has nothing left to do


def _settle(done: asyncio.Future[Any], result: object, error: BaseException | None) -> None:
    if done.done():
        return
    if error is not None:
        done.set_exception(error)
    else:
        done.set_result(result)
