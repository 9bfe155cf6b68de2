"""The rows of `metrics.jsonl`: which epoch is the best."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence

from preprocessing.errors import DataError
from trainer.runs.directory import METRICS
from trainer.runs.storage import StorageFolder

Row = dict[str, float]  # of one epoch; "epoch" counts from 1

VALIDATION_ELBO = "validation_elbo"  # nats per clip; missing where the validation split is empty
TEST_ELBO = "test_elbo"
STEPS = "steps"  # of training since the run began, at the end of the epoch
STAGE = "stage"  # of training: 1 or 2, in which only what makes new clips learns


def read_metrics(run: str) -> list[Row]:
    """Read the rows of a run, local or on `gs://`, as `parse_metrics` does; none if it has no metrics yet.

    Raises:
        CommandError: They are corrupt (exit code 3), or storage failed (4).
    """
    return parse_metrics(StorageFolder(run).read(METRICS) or b"")


def parse_metrics(content: bytes) -> list[Row]:
    """Parse the content of `metrics.jsonl`, in the order of the epochs; null becomes NaN.

    A line that was cut off by a kill is left out. Of an epoch that a resumed run repeated, the last line counts.

    Raises:
        CommandError: Another line is corrupt (exit code 3).
    """
    rows: dict[float, Row] = {}
    for number, line in enumerate(content.splitlines(), 1):
        if line.endswith(b"}"):
            try:
                row = {name: math.nan if value is None else value for name, value in json.loads(line).items()}
                rows[int(row["epoch"])] = row
            except (ValueError, KeyError, TypeError) as error:
                raise DataError(
                    f"line {number} of the run's {METRICS} is corrupt: restore the file"
                ) from error
    return [rows[epoch] for epoch in sorted(rows)]


def best_epoch(rows: Sequence[Row]) -> Row | None:
    """Return the row of the best weights, or None if no row has a finite ELBO.

    It is the last one of the second stage, if there is one: that trains for what the ELBO does not measure. In the
    first stage, it has the highest ELBO on the validation split, or on the test split, where rows have no other.
    """
    rows = [row for row in rows if row.get(STAGE) == 2][-1:] or rows
    for name in (VALIDATION_ELBO, TEST_ELBO):
        evaluated = [row for row in rows if math.isfinite(_number(row.get(name)))]
        if evaluated:
            return max(evaluated, key=lambda row: row[name])
    return None


def _number(value: float | None) -> float:
    return math.nan if value is None else value
