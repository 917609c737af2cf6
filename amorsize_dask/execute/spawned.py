"""A worker process that is an interpreter of its own, where there is no fork server.

No one kills it when the caller dies, so it watches the caller itself.
"""

from __future__ import annotations

import gc
import os
import socket
import threading
import time

from amorsize_dask.execute import worker
from amorsize_dask.execute.batch import flush

#: Seconds between two looks at whether the caller is still there. Smaller: needless
#: wake-ups; larger: a worker outlives a killed caller by that much.
LOOK_S = 0.5


def main(sock_fd: int, idle_s: float | None, modules: list[str]) -> None:
    """Import modules, and serve the caller over the socket that was inherited."""
    worker.preload(modules)
    gc.enable()
    threading.Thread(target=_follow, args=(os.getppid(),), daemon=True).start()
    worker.main(socket.socket(fileno=sock_fd), idle_s)
    # Threads that tasks have left running must not keep it alive.
    flush()
    os._exit(0)


def _follow(parent: int) -> None:
    """End this process, whatever it is doing, when its parent has gone."""
    while os.getppid() == parent:
        time.sleep(LOOK_S)
    worker.remove_place()
    os._exit(1)
