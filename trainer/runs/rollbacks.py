"""Rollbacks of a run: `rollbacks.jsonl` has one line for each time its training diverged."""

from __future__ import annotations

import contextlib
import json
from pathlib import Path
from typing import NamedTuple

from trainer.runs.directory import ROLLBACKS

LEARNING_RATE_FACTOR = 0.3  # by which each rollback multiplies the learning rate


class Rollback(NamedTuple):
    """A return to an earlier checkpoint."""

    step: int  # at which the divergence was detected
    to_step: int  # of the restored checkpoint; 0: the start of the run
    reason: str  # why the training is considered diverged

    def __str__(self) -> str:
        """Describe the rollback in a sentence."""
        return (
            f"Training diverged ({self.reason}) and was rolled back to step {self.to_step}; the learning rate was "
            f"multiplied by {LEARNING_RATE_FACTOR:g}."
        )


def read(run: Path) -> list[Rollback]:
    """Read the rollbacks of a run."""
    path = run / ROLLBACKS
    return parse(path.read_bytes()) if path.exists() else []


def parse(content: bytes) -> list[Rollback]:
    """Parse the content of `rollbacks.jsonl`; a corrupt line, as a killed process leaves, is skipped."""
    rollbacks = []
    for line in content.splitlines():
        with contextlib.suppress(ValueError, TypeError):  # TypeError: other fields
            rollbacks.append(Rollback(**json.loads(line)))
    return rollbacks


def add(run: Path, rollback: Rollback) -> None:
    """Record a rollback, before training restarts, so that a kill in between does not lose it."""
    path = run / ROLLBACKS
    was_cut_off = path.exists() and not path.read_bytes().endswith(b"\n")
    with path.open("a") as file:
        file.write("\n" * was_cut_off + json.dumps(rollback._asdict()) + "\n")


def learning_rate_scale(run: Path) -> float:
    """Return by what the configured learning rate is multiplied after the rollbacks so far."""
    return LEARNING_RATE_FACTOR ** len(read(run))
