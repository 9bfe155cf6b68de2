"""The plan of a training: what it would do, and estimates of its time, disk and memory."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import Any

from preprocessing.html.numbers import format_duration
from trainer.config import Config
from trainer.runs.settings_file import settings_yaml
from trainer.training.planning.measure import Measured


@dataclass(frozen=True)
class Plan:
    """What a training would do, and estimates of what it takes."""

    run: str
    data: str
    config: Config
    replicas: int
    train_clips: int
    test_clips: int
    steps_per_epoch: int
    done_steps: int  # of the checkpoint from which the run would be resumed; 0: a new run
    checkpoint: str | None
    used_by: str | None  # the process that works on the run
    download_bytes: int  # of the dataset, if it is remote
    clip_cache_bytes: int  # of the decoded clips; 0 if they are more than may be stored
    held_clips_bytes: int  # of the clips in memory that training would shuffle
    measured: Measured

    @property
    def remaining_steps(self) -> int:
        """Training steps that are left."""
        return max(0, self.config.epochs * self.steps_per_epoch - self.done_steps)

    @property
    def remaining_epochs(self) -> int:
        """Epochs that are left, the current one included."""
        return -(-self.remaining_steps // self.steps_per_epoch)

    @property
    def epoch_secs(self) -> float:
        """Estimated duration of an epoch with its evaluation and samples."""
        return self.steps_per_epoch * self.measured.step_secs + self._secs_after_epoch

    @property
    def remaining_secs(self) -> float:
        """Estimated duration of the remaining epochs."""
        return self.remaining_steps * self.measured.step_secs + self.remaining_epochs * self._secs_after_epoch

    @property
    def disk_bytes(self) -> int:
        """Estimated size of what is added to the run: checkpoints, one of each kind being written, and samples."""
        checkpoints = (self.config.checkpoints_to_keep + 1) * self.measured.checkpoint_bytes
        weights = 2 * self.measured.weights_bytes
        return checkpoints + weights + self.remaining_epochs * self.measured.samples_bytes

    @property
    def memory_bytes(self) -> int:
        """Estimated peak memory of a process."""
        return self.measured.memory_bytes + self.held_clips_bytes

    @property
    def _secs_after_epoch(self) -> float:
        return self.measured.evaluation_secs + self.measured.samples_secs

    def to_json(self) -> dict[str, Any]:
        """Return fields, measured values and estimates as values of JSON, in one object."""
        fields = dataclasses.asdict(self)
        measured = fields.pop("measured")
        names = (
            "remaining_steps",
            "remaining_epochs",
            "epoch_secs",
            "remaining_secs",
            "disk_bytes",
            "memory_bytes",
        )
        estimates = {name: getattr(self, name) for name in names}
        return {**fields, **measured, **estimates}

    def describe(self) -> str:
        """Describe the plan in lines; the last block is a file for `--config`."""
        lines = [
            ("run", f"{self.run}: {self._start()}"),
            ("used by", f"{self.used_by}: training would be refused" if self.used_by else ""),
            ("dataset", f"{self.data}: {self.train_clips:,} training and {self.test_clips:,} test clips"),
            ("model", f"{self.config.preset}, {self.measured.parameters:,} parameters"),
            ("devices", f"{self.replicas} replica(s) on {self.measured.device}"),
            ("steps", self._steps()),
            ("time", self._time()),
            ("disk", self._disk()),
            ("clip cache", self._clip_cache()),
            ("download", self._download()),
            ("memory", self._memory()),
        ]
        text = "\n".join(f"{name:<12}{value}" for name, value in lines if value)
        return f"{text}\n\nconfiguration, as a file for --config:\n{settings_yaml(self.config)}".rstrip()

    def _start(self) -> str:
        if not self.done_steps:
            return "a new run"
        epochs, steps = divmod(self.done_steps, self.steps_per_epoch)
        return f"resumed from {self.checkpoint}, after epoch {epochs}" + (
            f" and {steps} steps" if steps else ""
        )

    def _steps(self) -> str:
        return f"{self.steps_per_epoch:,} per epoch, {self.remaining_steps:,} remaining of {self.config.epochs} epochs"

    def _time(self) -> str:
        measured = self.measured
        return (
            f"{format_duration(self.remaining_secs) or 'none'}: {measured.step_secs * 1_000:,.0f} ms per step, "
            f"{format_duration(self.epoch_secs)} per epoch, of which evaluation {measured.evaluation_secs:.1f} s and "
            f"samples {measured.samples_secs:.1f} s; the clips and the report at the end come on top"
        )

    def _disk(self) -> str:
        measured = self.measured
        return (
            f"{_megabytes(self.disk_bytes)}: {self.config.checkpoints_to_keep} + 1 checkpoints of "
            f"{_megabytes(measured.checkpoint_bytes)}, 2 of the best epoch of {_megabytes(measured.weights_bytes)}, "
            f"{_megabytes(measured.samples_bytes)} of samples per epoch"
        )

    def _clip_cache(self) -> str:
        size = self.clip_cache_bytes
        return f"{_megabytes(size)} on disk until the training ends" if size else ""

    def _download(self) -> str:
        limit = f"of which the cache keeps at most {self.config.cache_disk_gb:g} GB"
        return f"{_megabytes(self.download_bytes)} of shards, {limit}" if self.download_bytes else ""

    def _memory(self) -> str:
        of_gpu = self.measured.gpu_memory_bytes
        return _megabytes(self.memory_bytes) + (f"; GPU {_megabytes(of_gpu)}" if of_gpu else "")


def _megabytes(count: int) -> str:
    return f"{count / 1e9:,.1f} GB" if count >= 1e9 else f"{count / 1e6:,.1f} MB"
