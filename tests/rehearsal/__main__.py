"""`python -m rehearsal`: scene after scene, a line each, up to the first thing that is wrong."""

from __future__ import annotations

import argparse
import resource
import sys
import tempfile
import time
from contextlib import ExitStack
from pathlib import Path

from preprocessing.cli import run_command
from rehearsal.node import Node
from rehearsal.scenes import SCENES
from rehearsal.stage import Stage

PROGRAM = "python -m rehearsal"


class Clock:
    """Time since its start, on the wall and of processors."""

    def __init__(self) -> None:
        self._wall, self._used = time.monotonic(), _processor_secs()

    def __str__(self) -> str:
        return f"{time.monotonic() - self._wall:.0f} s, {_processor_secs() - self._used:.0f} s of processor"


def _processor_secs() -> float:
    """Of this process and of all that have ended and were its children."""
    usages = (resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
    return sum(usage.ru_utime + usage.ru_stime for usage in usages)


def rehearse(folder: Path) -> None:
    """Plays all scenes in an empty folder."""
    whole = Clock()
    with Node(folder) as node:
        stage = Stage(folder, node)
        print(f"stage: overlays/local, a storage emulator, music; {whole}", flush=True)
        for number, (title, play) in enumerate(SCENES, start=1):
            clock = Clock()
            came_of_it = play(stage)
            print(f"scene {number}: {title}: {came_of_it}; {clock}", flush=True)
    # Here, as the emulator counts once it has ended.
    print(f"all {len(SCENES)} scenes as they must be; {whole}")


def main() -> int:
    parser = argparse.ArgumentParser(prog=PROGRAM, description="Rehearses overlays/local without a cluster.")
    parser.add_argument(
        "--folder", type=Path, help="new folder to keep all in: bucket, music, logs of pods (default: none)"
    )
    flags = parser.parse_args()

    def run() -> None:
        with ExitStack() as stack:
            folder = flags.folder or Path(stack.enter_context(tempfile.TemporaryDirectory()))
            folder.mkdir(parents=True, exist_ok=flags.folder is None)
            rehearse(folder.resolve())

    return run_command(PROGRAM, run, verbose=False)


if __name__ == "__main__":
    sys.exit(main())
