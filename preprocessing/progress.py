"""Progress of a long step: a bar on a terminal, elsewhere a `progress` event every 30 seconds."""

from __future__ import annotations

import sys
import time
from types import TracebackType
from typing import Any, Self

from tqdm import tqdm

from preprocessing import event_log, progress_file

EVENT_SECS = 30.0  # between two events


class Progress:
    """Counts how much of a task is done. Use as a context manager.

    On a terminal, with the log format `text`, there is a bar on stderr. Otherwise there are events, since each state of
    a bar would be part of one endless line. What is done touches the progress file.
    """

    def __init__(self, task: str, total: int, unit: str, *, done: int = 0, **bar: Any) -> None:
        """Start at `done` of `total` units.

        Args:
            task: What is done, for example "preprocessing".
            total: Units of the whole task.
            unit: Plural, for example "clips".
            done: Units that are done already.
            bar: Further arguments of `tqdm`.
        """
        self.done = done
        self._task, self._total, self._unit = task, total, unit
        self._note, self._fields = "", dict[str, Any]()
        self._has_bar = sys.stderr.isatty() and not event_log.is_json()
        self._logged_at = time.monotonic()
        options = {"leave": False, "dynamic_ncols": True, "disable": not self._has_bar, **bar}
        self._bar = tqdm(total=total, initial=done, desc=task, unit=f" {unit}", **options)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._bar.close()

    def advance(self, count: int = 1) -> None:
        """Count more units, and show them; a count of 0 only shows."""
        self.done += count
        self._bar.update(count)
        if count:
            progress_file.touch()
        if not self._has_bar and time.monotonic() - self._logged_at >= EVENT_SECS:
            self._log()

    def note(self, text: str, **fields: Any) -> None:
        """Show `text` beside the bar, or add it and its fields to the next event."""
        self._note, self._fields = text, fields
        self._bar.set_postfix_str(text)

    def _log(self) -> None:
        self._logged_at = time.monotonic()
        message = f"{self._task}: {self.done:,} of {self._total:,} {self._unit}"
        event_log.log_event(
            event_log.PROGRESS,
            f"{message}, {self._note}" if self._note else message,
            task=self._task,
            done=self.done,
            total=self._total,
            unit=self._unit,
            **self._fields,
        )
