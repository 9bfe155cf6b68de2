"""A TensorBoard profile of some training steps."""

from __future__ import annotations

import re
from pathlib import Path

import tensorflow as tf

from preprocessing.errors import USAGE, CommandError
from trainer import event_log


def parse_range(text: str) -> range:
    """The steps that `--profile FIRST:LAST` means, both included; the first step of a run is 1.

    Raises:
        CommandError: It is no such range (exit code 2).
    """
    found = re.fullmatch(r"(\d+):(\d+)", text)
    first, last = map(int, found.groups()) if found else (0, 0)
    if not 1 <= first <= last:
        raise CommandError(f"--profile must be FIRST:LAST with 1 <= FIRST <= LAST, not {text}", USAGE)
    return range(first, last + 1)


class Profile:
    """Records `steps`, from the first of them that is taken, into `folder`."""

    def __init__(self, steps: range, folder: Path) -> None:
        self._steps, self._folder = steps, folder
        self._recording = False

    def before(self, step: int) -> None:
        """Told of each step before it is taken."""
        if step in self._steps and not self._recording:
            tf.profiler.experimental.start(str(self._folder))
            self._recording = True

    def after(self, step: int) -> None:
        """Told of each step when it is done."""
        if self._recording and step == self._steps[-1]:
            self.close()

    def close(self) -> None:
        """Writes what was recorded, if something is."""
        if self._recording:
            self._recording = False
            tf.profiler.experimental.stop()
            event_log.log_event(
                "profile", f"a profile of steps {self._steps[0]} to {self._steps[-1]}: {self._folder}"
            )
