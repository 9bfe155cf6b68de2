"""Where a run stands, from its files alone, locally or on `gs://`."""

from __future__ import annotations

import json
import re
from datetime import UTC, datetime

from preprocessing.errors import BAD_DATA, CommandError
from preprocessing.storage import lease
from trainer import run_config
from trainer.runs import rollbacks
from trainer.runs.directory import METRICS, POINTER, ROLLBACKS
from trainer.runs.storage import StorageFolder


def status(run: str) -> str:
    """A few lines: epoch, best figure, last checkpoint and its age, who is at work on it.

    Raises:
        CommandError: There is no run (3), or storage failed (4).
    """
    files = StorageFolder(run)
    described = files.read(run_config.CONFIG_NAME)
    if described is None:
        raise CommandError(
            f"--run {run} has no {run_config.CONFIG_NAME}: nothing was trained there", BAD_DATA
        )
    config = json.loads(described)
    rows = [json.loads(line) for line in (files.read(METRICS) or b"").splitlines() if line.endswith(b"}")]
    lines = [("run", f"{run}: {config['preset']}"), ("epoch", f"{len(rows)} of {config['epochs']}")]
    if rows:
        best = max(rows, key=lambda row: row["test_elbo"])
        lines += [("last", _figures(rows[-1])), ("best", _figures(best))]
    lines.append(("checkpoint", _checkpoint(files)))
    lines += [("roll-back", str(one)) for one in rollbacks.parse(files.read(ROLLBACKS) or b"")]
    lines.append(("at work", lease.holder(run) or "nobody"))
    return "\n".join(f"{name:<12}{text}" for name, text in lines)


def _figures(row: dict[str, float]) -> str:
    return f"epoch {row['epoch']}: test ELBO {row['test_elbo']:,.0f} nats, SNR {row['test_snr_db']:.2f} dB"


def _checkpoint(files: StorageFolder) -> str:
    pointer = files.read(POINTER)
    newest = re.search(rb'"([^"]+)"', pointer or b"")
    if newest is None:
        return "none yet"
    age = datetime.now(UTC) - (files.updated(POINTER) or datetime.now(UTC))
    return f"{newest[1].decode()}, {int(age.total_seconds()):,} s old"
