"""Record a TensorBoard profile of a range of training steps."""

from __future__ import annotations

import re
from pathlib import Path

import tensorflow as tf

from preprocessing import event_log
from preprocessing.errors import UsageError


def parse_range(text: str) -> range:
    """Parse `--profile FIRST:LAST`, which includes both steps; the first step of a run is 1.

    Raises:
        CommandError: `text` is not such a range (exit code 2).
    """
    match = re.fullmatch(r"(\d+):(\d+)", text)
    first, last = map(int, match.groups()) if match else (0, 0)
    if not 1 <= first <= last:
        raise UsageError(f"`profile` must be FIRST:LAST with 1 <= FIRST <= LAST, not {text}")
    return range(first, last + 1)


class Profile:
    """Profiles `steps` into `folder`; if training resumes within them, it begins there."""

    def __init__(self, steps: range, folder: Path) -> None:
        self._steps, self._folder = steps, folder
        self._recording = False

    def before(self, step: int) -> None:
        """Begin to record if `step`, which is about to run, is one of the profiled steps."""
        if step in self._steps and not self._recording:
            tf.profiler.experimental.start(str(self._folder))
            self._recording = True

    def after(self, step: int) -> None:
        """Write the profile if `step`, which has ended, is the last of the profiled steps."""
        if self._recording and step == self._steps[-1]:
            self.close()

    def close(self) -> None:
        """Stop recording and write the profile, if a recording is in progress."""
        if self._recording:
            self._recording = False
            tf.profiler.experimental.stop()
            event_log.log_event(
                "profile", f"profile of steps {self._steps[0]} to {self._steps[-1]}: {self._folder}"
            )
