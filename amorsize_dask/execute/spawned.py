"""A worker process that is an interpreter of its own, where there is no fork server.

No one kills it when the caller dies, so it watches the caller itself.
"""

from __future__ import annotations

import os
import socket
import threading
import time

from amorsize_dask.execute import worker

#: Seconds between two looks at whether the caller is still there. Smaller: needless
#: wake-ups; larger: a worker outlives a killed caller by that much.
LOOK_S = 0.5


def main(sock_fd: int, idle_s: float | None, modules: list[str]) -> None:
    """Import modules, and serve the caller over the socket that was inherited."""
    worker.preload(modules)
    threading.Thread(target=_follow, args=(os.getppid(),), daemon=True).start()
    worker.main(socket.socket(fileno=sock_fd), idle_s)


def _follow(parent: int) -> None:
    """End this process, whatever it is doing, when its parent has gone."""
    while os.getppid() == parent:
        time.sleep(LOOK_S)
    os._exit(1)
