"""Where a run stands, from its files alone, locally or on `gs://`."""

from __future__ import annotations

import json
import re
from datetime import UTC, datetime
from pathlib import Path

from preprocessing import lease
from preprocessing.errors import BAD_DATA, CommandError
from trainer import config as configs
from trainer import rollbacks
from trainer.run_directory import METRICS, POINTER
from trainer.storage import Prefix, is_remote


def status(run: str) -> str:
    """A few lines: epoch, best figure, last checkpoint and its age, who is at work on it.

    Raises:
        CommandError: There is no run (3), or storage failed (4).
    """
    files = _Files(run)
    described = files.read(configs.NAME)
    if described is None:
        raise CommandError(f"--run {run} has no {configs.NAME}: nothing was trained there", BAD_DATA)
    config = json.loads(described)
    rows = [json.loads(line) for line in (files.read(METRICS) or b"").splitlines() if line.endswith(b"}")]
    lines = [("run", f"{run}: {config['preset']}"), ("epoch", f"{len(rows)} of {config['epochs']}")]
    if rows:
        best = max(rows, key=lambda row: row["test_elbo"])
        lines += [("last", _figures(rows[-1])), ("best", _figures(best))]
    lines.append(("checkpoint", _checkpoint(files)))
    lines += [("roll-back", str(one)) for one in rollbacks.parse(files.read(rollbacks.NAME) or b"")]
    lines.append(("at work", lease.owner(run) or "nobody"))
    return "\n".join(f"{name:<12}{text}" for name, text in lines)


class _Files:
    """A run's files, wherever they lie."""

    def __init__(self, run: str) -> None:
        self._prefix = Prefix(run) if is_remote(run) else None
        self._folder = Path(run)

    def read(self, name: str) -> bytes | None:
        if self._prefix is not None:
            return self._prefix.read(name)
        path = self._folder / name
        return path.read_bytes() if path.is_file() else None

    def updated(self, name: str) -> datetime:
        if self._prefix is not None:
            return self._prefix.updated(name) or datetime.now(UTC)
        return datetime.fromtimestamp((self._folder / name).stat().st_mtime, UTC)


def _figures(row: dict[str, float]) -> str:
    return f"epoch {row['epoch']}: test ELBO {row['test_elbo']:,.0f} nats, SNR {row['test_snr_db']:.2f} dB"


def _checkpoint(files: _Files) -> str:
    pointer = files.read(POINTER)
    newest = re.search(rb'"([^"]+)"', pointer or b"")
    if newest is None:
        return "none yet"
    age = datetime.now(UTC) - files.updated(POINTER)
    return f"{newest[1].decode()}, {int(age.total_seconds()):,} s old"
