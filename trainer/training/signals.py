"""SIGTERM and SIGINT: heeded between steps; a second signal stops at once."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager

from preprocessing.errors import STOPPED, CommandError


class StoppedError(CommandError):
    """The run stopped on request, and is saved as far as it came (exit code 75)."""

    def __init__(self, epoch: int) -> None:
        super().__init__(f"stopped on request in epoch {epoch} and saved: the same command goes on", STOPPED)


class StopRequest:
    """Whether a signal has asked the program to stop."""

    def __init__(self) -> None:
        self.asked = False

    def _handle(self, signum: int, frame: object) -> None:
        if self.asked:
            raise KeyboardInterrupt
        self.asked = True


@contextmanager
def stop_requests() -> Iterator[StopRequest]:
    """Listens to both signals inside the block; a thread other than the main one cannot, and does not."""
    request = StopRequest()
    if threading.current_thread() is not threading.main_thread():
        yield request
        return
    before = {number: signal.signal(number, request._handle) for number in (signal.SIGTERM, signal.SIGINT)}
    try:
        yield request
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
