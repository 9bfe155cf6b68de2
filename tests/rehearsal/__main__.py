"""`python -m rehearsal`: run scenario after scenario, print a line for each, stop at the first failure."""

from __future__ import annotations

import argparse
import resource
import sys
import tempfile
import time
from contextlib import ExitStack
from pathlib import Path

from preprocessing.cli import run_command
from rehearsal.cluster import Cluster
from rehearsal.node import Node
from rehearsal.scenarios import SCENARIOS

PROGRAM = "python -m rehearsal"


class Clock:
    """Wall-clock and CPU time since it was made."""

    def __init__(self) -> None:
        self._wall, self._used = time.monotonic(), _cpu_secs()

    def __str__(self) -> str:
        return f"{time.monotonic() - self._wall:.0f} s, {_cpu_secs() - self._used:.0f} s of CPU"


def _cpu_secs() -> float:
    """CPU seconds of this process and of its children that have ended."""
    usages = (resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
    return sum(usage.ru_utime + usage.ru_stime for usage in usages)


def rehearse(folder: Path) -> None:
    """Run all scenarios in an empty folder."""
    whole = Clock()
    with Node(folder) as node:
        cluster = Cluster(folder, node)
        print(f"cluster: overlays/local, a storage emulator, music; {whole}", flush=True)
        for number, (title, run) in enumerate(SCENARIOS, start=1):
            clock = Clock()
            outcome = run(cluster)
            print(f"scenario {number}: {title}: {outcome}; {clock}", flush=True)
    # After the node is closed, so that the emulator's CPU time is included.
    print(f"all {len(SCENARIOS)} scenarios passed; {whole}")


def main() -> int:
    parser = argparse.ArgumentParser(prog=PROGRAM, description="Rehearses overlays/local without a cluster.")
    parser.add_argument(
        "--folder",
        type=Path,
        help="new folder for bucket, music and pod logs (default: temporary)",
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
