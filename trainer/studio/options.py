"""The options of `studio` and their defaults. Standard library only, so that the CLI can read them."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

LOOPBACK = "127.0.0.1"
PORT = 7860
OUTPUT = "music"
MAX_UPLOAD_MB = 100


@dataclass(frozen=True)
class Options:
    """What the page works with, and where it is served."""

    run: str  # a run or a folder of models, local or `gs://`
    data: str | None = None  # dataset whose clips the map shows; None: the run's fixed test clips
    output: Path = Path(OUTPUT)  # local folder of takes
    baseline_run: str | None = None  # of the listening test; None: only this run
    host: str = LOOPBACK
    port: int = PORT  # 0: a free one
    users: tuple[tuple[str, str], ...] = ()  # names and passwords; empty: anybody who reaches the page
