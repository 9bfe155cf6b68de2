"""Summarize the progress of a run from its files, local or on `gs://`."""

from __future__ import annotations

import json
from datetime import UTC, datetime

from preprocessing.dataset.run_files import CONFIG_NAME
from preprocessing.errors import DataError
from preprocessing.storage import lease
from trainer.runs import rollbacks
from trainer.runs.directory import METRICS, POINTER, ROLLBACKS, newest_checkpoint
from trainer.runs.metrics import best_epoch
from trainer.runs.storage import StorageFolder


def status(run: str) -> str:
    """Summarize a run in a few lines: epoch, best and last metrics, age of the newest checkpoint, current process.

    Raises:
        CommandError: There is no run (3), or storage failed (4).
    """
    files = StorageFolder(run)
    content = files.read(CONFIG_NAME)
    if content is None:
        raise DataError(f"`run` {run} has no {CONFIG_NAME}: nothing was trained there")
    config = json.loads(content)
    rows = [json.loads(line) for line in (files.read(METRICS) or b"").splitlines() if line.endswith(b"}")]
    lines = [("run", f"{run}: {config['preset']}"), ("epoch", f"{len(rows)} of {config['epochs']}")]
    if rows:
        best = best_epoch(rows) or rows[-1]
        lines += [("last", _describe_epoch(rows[-1])), ("best", _describe_epoch(best))]
    lines.append(("checkpoint", _describe_checkpoint(files)))
    lines += [("rollback", str(rollback)) for rollback in rollbacks.parse(files.read(ROLLBACKS) or b"")]
    lines.append(("used by", lease.holder(run) or "nobody"))
    return "\n".join(f"{name:<12}{text}" for name, text in lines)


def _describe_epoch(row: dict[str, float]) -> str:
    return f"epoch {row['epoch']}: test ELBO {row['test_elbo']:,.0f} nats, SNR {row['test_snr_db']:.2f} dB"


def _describe_checkpoint(files: StorageFolder) -> str:
    newest = newest_checkpoint(files.read(POINTER) or b"")
    if newest is None:
        return "none yet"
    age = datetime.now(UTC) - (files.updated(POINTER) or datetime.now(UTC))
    return f"{newest}, {int(age.total_seconds()):,} s old"
