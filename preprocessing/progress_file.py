"""The progress file: its modification time tells a liveness probe when this process last made progress.

Each unit of work that is done touches the file, at most once a second. A phase without units, such as the compilation
of a model, touches it while the process consumes CPU time, for at most `PHASE_SECS`: a process that waits for a device,
for storage or for another process consumes next to none, and one that computes forever is found after that time.
"""

from __future__ import annotations

import contextlib
import threading
import time
from pathlib import Path

from preprocessing.errors import UsageError

TOUCH_SECS = 1.0  # shortest time between two touches
PHASE_SECS = 1_800.0  # longest phase without units of work; XLA compiles for minutes
BUSY_FRACTION = 0.05  # of one core, above which a phase makes progress


class _ProgressFile:
    """The file of this process, and the thread that watches the phases without units of work."""

    def __init__(self) -> None:
        self.path: Path | None = None
        self._touched_at = 0.0
        self._phase_ends_at = 0.0

    def open(self, path: Path) -> None:
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.touch()
        except OSError as error:
            raise UsageError(f"`progress_file` {path} cannot be written: {error.strerror}") from error
        self.path = path
        self.start_phase()
        threading.Thread(target=self._watch, args=(path,), daemon=True).start()

    def start_phase(self) -> None:
        self._phase_ends_at = time.monotonic() + PHASE_SECS

    def end_phase(self) -> None:
        self._phase_ends_at = 0.0

    def touch(self) -> None:
        if self.path is None or time.monotonic() - self._touched_at < TOUCH_SECS:
            return
        self._touched_at = time.monotonic()
        with contextlib.suppress(OSError):  # a full disk must not end the work; the probe sees an old file
            self.path.touch()

    def _watch(self, path: Path) -> None:
        consumed = time.process_time()
        while self.path == path:
            time.sleep(TOUCH_SECS)
            before, consumed = consumed, time.process_time()
            is_busy = consumed - before >= BUSY_FRACTION * TOUCH_SECS
            if is_busy and time.monotonic() < self._phase_ends_at:
                self.touch()


_file = _ProgressFile()


def configure(path: Path | None) -> None:
    """Touch `path` from now on, as this process makes progress; None: nothing. A first phase begins.

    Raises:
        CommandError: The file cannot be written (exit code 2).
    """
    _file.path = None
    if path is not None:
        _file.open(path)


def touch() -> None:
    """Note that a unit of work is done. Cheap, and safe in any thread."""
    _file.touch()


def start_phase() -> None:
    """Begin a phase without units of work, in which CPU time counts as progress."""
    _file.start_phase()


def end_phase() -> None:
    """End the phase: from now on only units of work count."""
    _file.end_phase()
