"""What a program says while it works: a line for people, or one JSON object for a collector of logs.

The names `severity`, `message` and `time` are those that Google Cloud Logging takes out of a JSON line.
"""

from __future__ import annotations

import json
import math
import sys
import time
from datetime import UTC, datetime
from types import TracebackType
from typing import Any

from tqdm import tqdm

LOG_FORMATS = ("text", "json")
INFO, WARNING, ERROR = "INFO", "WARNING", "ERROR"
BAR = "{desc}: {percentage:3.0f}% |{bar}| {n_fmt}/{total_fmt} steps, {remaining} left{postfix}"
PROGRESS_SECS = 30.0  # between two lines on how far an epoch is, where there is no bar

_format = LOG_FORMATS[0]  # one for a process, as is the stream it writes to


def use(format_: str) -> None:
    """Chooses one of `LOG_FORMATS` for all that is said from now on."""
    global _format
    _format = format_


def log_event(event: str, message: str, severity: str = INFO, **fields: Any) -> None:
    """Says that `event` has happened; `fields` are for the collector, null where they are no number."""
    if _format == "text":
        if severity == ERROR:
            print(message, file=sys.stderr)
        else:
            tqdm.write(f"warning: {message}" if severity == WARNING else message)
        return
    values = {
        name: None if isinstance(value, float) and not math.isfinite(value) else value
        for name, value in fields.items()
    }
    now = datetime.now(UTC).isoformat(timespec="milliseconds")
    line = {"time": now, "severity": severity, "event": event, "message": message, **values}
    print(json.dumps(line), flush=True)


class Progress:
    """How far an epoch is: a bar, or a JSON line now and then."""

    def __init__(self, epoch: int, epochs: int, steps: int, done: int) -> None:
        self._epoch, self._steps, self._done = epoch, steps, done
        self._label = f"epoch {epoch}/{epochs}"
        self._told_at = time.monotonic()
        self._bar = tqdm(
            total=steps,
            initial=done,
            desc=self._label,
            unit=" steps",
            leave=False,
            disable=_format == "json",
            bar_format=BAR,
        )

    def __enter__(self) -> Progress:
        return self

    def __exit__(self, kind: type | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._bar.close()

    def advance(self) -> None:
        """One step more."""
        self._done += 1
        self._bar.update()

    def show(self, elbo: float, clips_per_sec: float, snr_db: float | None) -> None:
        """The figures so far: nats per clip, speed, and the test clips' SNR of the epoch before."""
        snr = "" if snr_db is None else f", SNR {snr_db:.2f} dB"
        figures = f"train ELBO {elbo:.0f} nats{snr}, {clips_per_sec:.1f} clip/s"
        self._bar.set_postfix_str(figures)
        if _format == "json" and time.monotonic() - self._told_at >= PROGRESS_SECS:
            self._told_at = time.monotonic()
            log_event(
                "progress",
                f"{self._label}: {self._done} of {self._steps} steps, {figures}",
                epoch=self._epoch,
                step=self._done,
                steps=self._steps,
                train_elbo=elbo,
                clips_per_sec=clips_per_sec,
                test_snr_db=snr_db,
            )
