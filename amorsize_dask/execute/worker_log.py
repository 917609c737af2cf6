"""What is logged in a worker, from when something there imports `logging`.

Most tasks never do, and `logging` with all that sends its records takes a fifth of what
a worker process boots in.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from amorsize_dask.imported import when_imported

if TYPE_CHECKING:
    from amorsize_dask.execute.channel import WorkerChannel
    from amorsize_dask.execute.log_sender import LogSender


def debug(name: str, text: str, *args: object) -> None:
    """Log something as a module of this name, in a process that may not log at all.

    What `log_sender` imports uses this: the import of `logging` leads there. Without a
    descriptor to import it with nothing is said.
    """
    try:
        import logging
    except OSError:
        return
    logging.getLogger(name).debug(text, *args)


class WorkerLog:
    """A `LogSender` as soon as there is a use for one."""

    def __init__(self) -> None:
        self._sender: LogSender | None = None
        self._channel: WorkerChannel | None = None

    def install(self) -> None:
        """Take all records that no one else does."""
        when_imported("logging", self._install)

    def _install(self) -> None:
        from amorsize_dask.execute.log_sender import LogSender

        sender = LogSender()
        sender.install()
        if self._channel is not None:
            sender.open(self._channel)
        self._sender = sender

    def open(self, channel: WorkerChannel) -> None:
        """Send from now on what is logged, and what was before."""
        self._channel = channel
        if self._sender is not None:
            self._sender.open(channel)

    def close_batch(self, channel: WorkerChannel) -> None:
        """Send all that waits, however long that takes, and nothing after it."""
        self._channel = None
        if self._sender is not None:
            self._sender.close_batch(channel)
