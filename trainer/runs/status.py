"""Summarize the progress of runs from their files, local or on `gs://`."""

from __future__ import annotations

import json
import math
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from typing import Any

from preprocessing.dataset.run_files import CONFIG_NAME
from preprocessing.errors import DataError
from preprocessing.storage import lease
from trainer.run_config import UNKNOWN_PROGRAM
from trainer.runs import rollbacks
from trainer.runs.directory import POINTER, REPORT, ROLLBACKS, newest_checkpoint, steps_of
from trainer.runs.discovery import FoundRun
from trainer.runs.metrics import STEPS, Row, best_epoch, read_metrics
from trainer.runs.rollbacks import Rollback
from trainer.runs.storage import StorageFolder

RUNNING, DONE, STOPPED = "running", "done", "stopped"  # states of a run


@dataclass(frozen=True)
class Epoch:
    """The metrics of an epoch that tell how good it is."""

    epoch: int
    test_elbo: float  # nats per clip
    test_snr_db: float

    @classmethod
    def of(cls, row: Row) -> Epoch:
        """Return the epoch of a row of `metrics.jsonl`."""
        return cls(int(row["epoch"]), *(row.get(name, math.nan) for name in ("test_elbo", "test_snr_db")))

    def __str__(self) -> str:
        """Describe the epoch in a line."""
        return f"epoch {self.epoch}: test ELBO {self.test_elbo:,.0f} nats, SNR {self.test_snr_db:.2f} dB"


@dataclass(frozen=True)
class Status:
    """The state of a run."""

    run: str
    is_champion: bool
    state: str  # RUNNING if a process works on it, DONE if all is trained and reported, or else STOPPED
    preset: str
    program: str  # name and version of the one that trained last
    epochs_done: int
    epochs: int
    last: Epoch | None
    best: Epoch | None  # see `best_epoch`
    checkpoint: str | None  # the newest
    checkpoint_age_secs: int | None
    rollbacks: list[Rollback]
    used_by: str | None  # the process that works on it

    def to_json(self) -> dict[str, Any]:
        """Return the fields as values of JSON."""
        return {**asdict(self), "rollbacks": [rollback._asdict() for rollback in self.rollbacks]}

    def describe(self) -> str:
        """Describe the run in a few lines."""
        age = f", {self.checkpoint_age_secs:,} s old" if self.checkpoint else ""
        lines = [
            ("run", f"{self.run}: {self.preset}{', the champion' if self.is_champion else ''}"),
            ("state", self.state),
            ("program", self.program),
            ("epoch", f"{self.epochs_done} of {self.epochs}"),
            *([("last", str(self.last))] if self.last else []),
            *([("best", str(self.best))] if self.best else []),
            ("checkpoint", f"{self.checkpoint or 'none yet'}{age}"),
            *(("rollback", str(rollback)) for rollback in self.rollbacks),
            ("used by", self.used_by or "nobody"),
        ]
        return "\n".join(f"{name:<12}{text}" for name, text in lines)


def all_epochs_trained(run: str) -> bool:
    """Return whether a run, local or on `gs://`, has the weights and metrics of all its epochs; False if there is none.

    Raises:
        CommandError: The run's `config.json` is corrupt (exit code 3), or storage failed (4).
    """
    files = StorageFolder(run)
    rows = read_metrics(run)
    return bool(rows) and _has_all_epochs(files, rows, _read_config(files, run)["epochs"])


def is_complete(run: str) -> bool:
    """Return whether a run is trained and has its report; raises as `all_epochs_trained`."""
    return StorageFolder(run).updated(REPORT) is not None and all_epochs_trained(run)


def read_status(found: FoundRun) -> Status:
    """Read the state of a run.

    Raises:
        CommandError: The run's `config.json` is missing or corrupt (3), or storage failed (4).
    """
    run = found.uri
    files = StorageFolder(run)
    config = _read_config(files, run)
    rows = read_metrics(run)
    best = best_epoch(rows)
    checkpoint, used_by = newest_checkpoint(files.read(POINTER) or b""), lease.holder(run)
    is_done = files.updated(REPORT) is not None and _has_all_epochs(files, rows, config["epochs"])
    return Status(
        run=run,
        is_champion=found.is_champion,
        state=RUNNING if used_by else DONE if is_done else STOPPED,
        preset=config["preset"],
        program=config.get("program", UNKNOWN_PROGRAM),
        epochs_done=len(rows),
        epochs=config["epochs"],
        last=Epoch.of(rows[-1]) if rows else None,
        best=Epoch.of(best) if best else None,
        checkpoint=checkpoint,
        checkpoint_age_secs=_age_secs(files) if checkpoint else None,
        rollbacks=rollbacks.parse(files.read(ROLLBACKS) or b""),
        used_by=used_by,
    )


def _has_all_epochs(files: StorageFolder, rows: list[Row], epochs: int) -> bool:
    """Return whether there are rows of all epochs and the weights that the last one describes.

    Metrics are uploaded before the checkpoint, so those of a run whose upload was interrupted can be ahead of it.
    """
    if not rows or len(rows) < epochs:
        return False
    checkpoint = newest_checkpoint(files.read(POINTER) or b"")
    return checkpoint is not None and steps_of(checkpoint) >= rows[-1].get(STEPS, 0)


def status_table(statuses: list[Status]) -> str:
    """Format a line for each run: champions are marked with a star."""
    rows = [
        ["run", "state", "preset", "epoch", "best ELBO", "last ELBO", "SNR dB", "checkpoint", "program"],
        *(_table_row(status) for status in statuses),
    ]
    left = (0, 1, 2, 7, 8)
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return "\n".join(
        "  ".join(
            cell.ljust(width) if index in left else cell.rjust(width)
            for index, (cell, width) in enumerate(zip(row, widths, strict=True))
        ).rstrip()
        for row in rows
    )


def _table_row(status: Status) -> list[str]:
    best, last = (f"{epoch.test_elbo:,.0f}" if epoch else "-" for epoch in (status.best, status.last))
    return [
        f"{status.run}{' *' if status.is_champion else ''}",
        status.state,
        status.preset,
        f"{status.epochs_done}/{status.epochs}",
        best,
        last,
        f"{status.last.test_snr_db:.2f}" if status.last else "-",
        f"{status.checkpoint}, {_describe_age(status.checkpoint_age_secs or 0)}"
        if status.checkpoint
        else "-",
        status.program,
    ]


def _read_config(files: StorageFolder, run: str) -> dict[str, Any]:
    try:
        config = json.loads(files.read(CONFIG_NAME) or b"")
        return {**config, "epochs": int(config["epochs"]), "preset": str(config["preset"])}
    except (ValueError, TypeError, KeyError) as error:
        raise DataError(
            f"{run}/{CONFIG_NAME} is corrupt ({error}): restore it, or use a new `run`"
        ) from error


def _age_secs(files: StorageFolder) -> int:
    now = datetime.now(UTC)
    return int((now - (files.updated(POINTER) or now)).total_seconds())


def _describe_age(secs: int) -> str:
    for unit, length in (("d", 86_400), ("h", 3_600), ("min", 60)):
        if secs >= 2 * length:
            return f"{secs // length} {unit} old"
    return f"{secs} s old"
