"""One event loop beside the run, in which coroutines of many threads wait together."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Coroutine
from concurrent.futures import Future
from contextlib import suppress
from contextvars import copy_context
from typing import Any


class EventLoop:
    """Runs coroutines in a thread of its own, which starts with the first of them."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._thread: threading.Thread | None = None
        self._is_closed = False

    def run(self, coroutine: Coroutine[Any, Any, Any]) -> Any:
        """Return what a coroutine returns; raise what it raises.

        Raises
        ------
        CancelledError
            If the loop is closed meanwhile, or was before.
        """
        try:
            future = self._begin(coroutine)
        except BaseException:
            # No one is going to wait for it: the loop is closed, or this thread has
            # been interrupted.
            coroutine.close()
            raise
        return future.result()

    def _begin(self, coroutine: Coroutine[Any, Any, Any]) -> Future[Any]:
        with self._lock:
            if self._is_closed:
                raise asyncio.CancelledError
            if self._loop is None:
                self._loop = asyncio.new_event_loop()
                self._thread = threading.Thread(
                    target=copy_context().run,
                    args=(self._serve, self._loop),
                    name="amorsize-event-loop",
                    daemon=True,
                )
                self._thread.start()
            return asyncio.run_coroutine_threadsafe(coroutine, self._loop)

    def close(self) -> None:
        """Cancel what is running, and end the thread."""
        with self._lock:
            self._is_closed = True
            loop, thread = self._loop, self._thread
        if loop is not None and thread is not None:
            loop.call_soon_threadsafe(loop.stop)
            thread.join()

    @staticmethod
    def _serve(loop: asyncio.AbstractEventLoop) -> None:
        try:
            while True:
                # They end the loop besides, in which others wait. Who waits for the
                # coroutine that has raised gets them from its future.
                with suppress(KeyboardInterrupt, SystemExit):
                    loop.run_forever()
                    break
            loop.run_until_complete(_cancel_all())
            loop.run_until_complete(loop.shutdown_asyncgens())
        finally:
            loop.close()


async def _cancel_all() -> None:
    tasks = asyncio.all_tasks() - {asyncio.current_task()}
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
