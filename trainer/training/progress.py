"""The progress of an epoch: a bar in the terminal, or a JSON event every 30 seconds."""

from __future__ import annotations

import time
from types import TracebackType

from tqdm import tqdm

from trainer import event_log

BAR_FORMAT = "{desc}: {percentage:3.0f}% |{bar}| {n_fmt}/{total_fmt} steps, {remaining} left{postfix}"
EVENT_SECS = 30.0  # between two JSON events


class Progress:
    """Shows how many steps of an epoch are done. Use as a context manager: leaving it removes the bar."""

    def __init__(self, epoch: int, epochs: int, steps: int, done: int) -> None:
        """Start at `done` of the epoch's `steps`; epochs count from 1."""
        self._epoch, self._steps, self._done = epoch, steps, done
        self._label = f"epoch {epoch}/{epochs}"
        self._logged_at = time.monotonic()
        self._bar = tqdm(
            total=steps,
            initial=done,
            desc=self._label,
            unit=" steps",
            leave=False,
            disable=event_log.is_json(),
            bar_format=BAR_FORMAT,
        )

    def __enter__(self) -> Progress:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._bar.close()

    def advance(self) -> None:
        """Count one more step."""
        self._done += 1
        self._bar.update()

    def show(self, elbo: float, clips_per_sec: float, snr_db: float | None) -> None:
        """Show the epoch's metrics so far.

        Args:
            elbo: ELBO of the training clips, in nats per clip.
            clips_per_sec: Training speed.
            snr_db: SNR of the test clips after the previous epoch; None in the first epoch of a process.
        """
        snr = "" if snr_db is None else f", SNR {snr_db:.2f} dB"
        metrics = f"train ELBO {elbo:.0f} nats{snr}, {clips_per_sec:.1f} clip/s"
        self._bar.set_postfix_str(metrics)
        if event_log.is_json() and time.monotonic() - self._logged_at >= EVENT_SECS:
            self._logged_at = time.monotonic()
            event_log.log_event(
                "progress",
                f"{self._label}: {self._done} of {self._steps} steps, {metrics}",
                epoch=self._epoch,
                step=self._done,
                steps=self._steps,
                train_elbo=elbo,
                clips_per_sec=clips_per_sec,
                test_snr_db=snr_db,
            )
