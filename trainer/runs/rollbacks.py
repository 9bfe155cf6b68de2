"""What a run went back for: `rollbacks.jsonl`, one line each time its training diverged."""

from __future__ import annotations

import json
from pathlib import Path
from typing import NamedTuple

from trainer.runs.directory import ROLLBACKS

SLOWER = 0.3  # the learning rate after a roll-back, as a part of that before


class Rollback(NamedTuple):
    """One return to an earlier checkpoint."""

    step: int  # of the optimizer, at which it was noticed
    to_step: int  # of the checkpoint that it went back to; 0: the beginning
    reason: str

    def __str__(self) -> str:
        """A sentence."""
        return (
            f"Training diverged ({self.reason}), and went back to step {self.to_step} with {SLOWER:g} of the "
            "learning rate."
        )


def read(run: Path) -> list[Rollback]:
    """All of a run so far."""
    path = run / ROLLBACKS
    return parse(path.read_bytes()) if path.exists() else []


def parse(content: bytes) -> list[Rollback]:
    """The roll-backs of a file's content; a line that a kill cut short is none."""
    return [Rollback(**json.loads(line)) for line in content.splitlines() if line.endswith(b"}")]


def add(run: Path, rollback: Rollback) -> None:
    """Notes one more, before the run goes on: a kill between the two does not forget it."""
    with (run / ROLLBACKS).open("a") as file:
        file.write(json.dumps(rollback._asdict()) + "\n")


def learning_rate_scale(run: Path) -> float:
    """What the configured learning rate is multiplied by."""
    return SLOWER ** len(read(run))
