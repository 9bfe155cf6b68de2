"""Record the metrics of each epoch in `metrics.jsonl`, in TensorBoard, in the log, and with a tracker."""

from __future__ import annotations

import dataclasses
import json
import re
from pathlib import Path

import tensorflow as tf

from preprocessing import event_log
from preprocessing.errors import DataError
from preprocessing.storage.atomic import write_atomically
from trainer import run_config
from trainer.runs.directory import EVENTS, METRICS
from trainer.runs.metrics import VALIDATION_ELBO, Row, best_epoch
from trainer.training.samples import RenderedSamples
from trainer.training.tracking import Tracker


class History:
    """The metrics of a run, one row per epoch. Use as a context manager: leaving it closes TensorBoard's file."""

    def __init__(self, run: Path, epoch: int, tracker: Tracker | None = None) -> None:
        """Open the metrics of a run whose newest checkpoint is of `epoch`; a tracker gets them, too.

        Later rows are dropped, since those epochs are trained again: each epoch has one row in the file.

        Raises:
            CommandError: Rows up to `epoch` are missing (exit code 3).
        """
        self._path = run / METRICS
        lines = self._path.read_text().splitlines() if self._path.exists() else []
        kept = [line for line in lines if line.endswith("}") and json.loads(line)["epoch"] <= epoch]
        if [json.loads(line)["epoch"] for line in kept] != list(range(1, epoch + 1)):
            raise DataError(
                f"{self._path} lacks epochs up to that of the newest checkpoint, {epoch}: use a new `run`",
            )
        write_atomically(self._path, "".join(f"{line}\n" for line in kept))
        self._rows: list[Row] = [json.loads(line) for line in kept]
        self._tracker = tracker
        if tracker:
            saved = run_config.load(run)
            assert saved is not None  # a training writes it before its first epoch
            dataset = saved.dataset
            tags = {"program": saved.program, "dataset": dataset.uri, "dataset.digest": dataset.digest}
            tags["epochs"] = str(saved.config.epochs)  # may grow when a run is resumed, unlike a parameter
            tracker.begin(self._rows, dataclasses.asdict(saved.config), tags)
        self._writer = tf.summary.create_file_writer(str(run / EVENTS))

    def __enter__(self) -> History:
        return self

    def __exit__(self, *_: object) -> None:
        self._writer.close()

    def is_best(self, row: dict[str, float]) -> bool:
        """Whether the epoch of `row`, which has not been added yet, is the best one so far; see `best_epoch`.

        It is not if there is no validation split.
        """
        return VALIDATION_ELBO in row and best_epoch([*self._rows, row]) is row

    def add(self, row: dict[str, float], rendered: RenderedSamples) -> None:
        """Record the metrics and the rendered samples of one epoch."""
        with self._path.open("a") as file:
            file.write(json.dumps(row) + "\n")
        self._rows.append(row)
        if self._tracker:
            self._tracker.add(row)
        epoch = row["epoch"]
        with self._writer.as_default(step=epoch):
            for name, value in row.items():
                if name != "epoch":
                    tf.summary.scalar(re.sub("^(train|validation|test)_", r"\1/", name), value)
            for name, clips in rendered.audio.items():
                audio = tf.constant(clips)[..., tf.newaxis]
                tf.summary.audio(name, audio, rendered.sample_rate_hz, max_outputs=len(clips))
            for name, path in rendered.image_paths.items():
                image = tf.io.decode_png(tf.io.read_file(str(path)), channels=3)
                tf.summary.image(name, image[tf.newaxis])
        self._writer.flush()
        event_log.log_event(
            "epoch",
            f"epoch {epoch:>3}  ELBO train {row['train_elbo']:>9.0f}  test {row['test_elbo']:>9.0f} nats  "
            f"(log-lik. {row['test_log_likelihood']:.0f}, KL {row['test_kl']:.0f})  "
            f"SNR {row['test_snr_db']:>6.2f} dB  {row['epoch_secs']:.1f} s  "
            f"{row['clips_per_sec']:.1f} clip/s",
            **row,
        )
