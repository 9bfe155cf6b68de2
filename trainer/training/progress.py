"""The progress of an epoch, with its metrics so far."""

from __future__ import annotations

import time
from types import TracebackType

from preprocessing import progress_file
from preprocessing.progress import Progress
from trainer.data.reader import Reader

BAR_FORMAT = "{desc}: {percentage:3.0f}% |{bar}| {n_fmt}/{total_fmt} steps, {remaining} left{postfix}"

SHOWN_SHARE = 0.01  # of the time, from which waiting for data is shown


class EpochProgress(Progress):
    """Shows how many steps of an epoch are done. Between epochs, CPU time counts as progress."""

    def __init__(self, epoch: int, epochs: int, steps: int, done: int, reader: Reader) -> None:
        """Start at `done` of the epoch's `steps`, whose batches come from `reader`; epochs count from 1."""
        super().__init__(f"epoch {epoch}/{epochs}", steps, "steps", done=done, bar_format=BAR_FORMAT)
        self._epoch, self._reader = epoch, reader
        self._began, self._waited_before = time.monotonic(), reader.waited_secs
        self._text, self._values = "", dict[str, float | None]()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        super().__exit__(kind, error, trace)
        progress_file.start_phase()  # evaluation, samples, report; or the compilation after a rollback

    def advance(self, count: int = 1) -> None:
        """Count more steps. The first one ends the phase in which the step is compiled."""
        super().advance(count)
        progress_file.end_phase()

    def show_waiting(self) -> None:
        """Show for how much of the epoch's time training has waited for data, if it has."""
        if self._waiting_share() >= SHOWN_SHARE:
            self._show()
            super().advance(0)

    def show(self, elbo: float, clips_per_sec: float, snr_db: float | None) -> None:
        """Show the epoch's metrics so far.

        Args:
            elbo: ELBO of the training clips, in nats per clip.
            clips_per_sec: Training speed.
            snr_db: SNR of the test clips after the previous epoch; None in the first epoch of a process.
        """
        snr = "" if snr_db is None else f", SNR {snr_db:.2f} dB"
        self._text = f"train ELBO {elbo:.0f} nats{snr}, {clips_per_sec:.1f} clip/s"
        self._values = {"train_elbo": elbo, "clips_per_sec": clips_per_sec, "test_snr_db": snr_db}
        self._show()

    def _show(self) -> None:
        share = self._waiting_share()
        waiting = f"waiting for data {share:.0%} of the time" if share >= SHOWN_SHARE else ""
        text = ", ".join(filter(None, (self._text, waiting)))
        self.note(text, epoch=self._epoch, waiting_share=round(share, 3), **self._values)

    def _waiting_share(self) -> float:
        waited_secs = self._reader.waited_secs - self._waited_before
        return waited_secs / max(time.monotonic() - self._began, 1e-9)
