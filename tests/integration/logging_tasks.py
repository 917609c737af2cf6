"""Tasks that log and print."""

from __future__ import annotations

import logging
import os
import sys
import threading
import time
from typing import Self

logger = logging.getLogger("tasks.of.tests")


class StubbornError(Exception):
    """An exception that can't be made without what isn't in it."""

    def __new__(cls, text: str, *, secret: object) -> Self:
        return super().__new__(cls, text)

    def __init__(self, text: str, *, secret: object) -> None:
        super().__init__(text)


def say(i: int) -> int:
    """Log at each level, and print."""
    logger.debug("debug %d", i)
    logger.info("info %d", i)
    logger.warning("warning %d", i)
    logging.getLogger("tasks.quiet").warning("quiet %d", i)
    logging.error("root %d", i)
    # One write each, also where nothing is buffered.
    sys.stdout.write(f"printed {i}\n")
    sys.stderr.write(f"complained {i}\n")
    return os.getpid()


def fail_aloud(i: int) -> int:
    """Log exceptions, one of which can't be sent."""
    stubborn = StubbornError(f"stubborn {i}", secret=i)
    for error in (ValueError(f"plain {i}"), stubborn):
        try:
            raise error
        except Exception:
            logger.exception("failed", extra={"item": i, "about": {"i": i}})
    return i


def say_and_die(i: int, home: int) -> int:
    """Log, and end the process at once."""
    logger.warning("last words %d", i)
    if os.getpid() != home:
        os._exit(3)
    return i


def storm(i: int, n: int) -> int:
    """Log more than anyone wants to hear, from two threads."""

    def say_much() -> None:
        for k in range(n):
            logger.warning("storm %d", k)

    thread = threading.Thread(target=say_much)
    thread.start()
    say_much()
    thread.join()
    return i


def set_up(i: int) -> int:
    """Set up logging for this process, and log."""
    logging.basicConfig(level=logging.INFO, format="own %(message)s", stream=sys.stderr)
    logger.info("info %d", i)
    return i


def say_in_fork(i: int) -> int:
    """Log in a process that is forked from this one."""
    pid = os.fork()
    if not pid:
        logger.warning("of a child %d", i)
        os._exit(0)
    return os.waitpid(pid, 0)[1]


def wait_to_be_heard(i: int, heard: str) -> bool:
    """Log, and say whether it was heard while the task goes on."""
    logger.warning("heard? %d", i)
    end = time.monotonic() + 30
    while not os.path.exists(heard):
        if time.monotonic() > end:
            return False
        time.sleep(0.005)
    return True
