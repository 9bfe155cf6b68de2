"""`python -m rehearsal`: run the scenarios in order, print a line for each, and stop at the first failure."""

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


class Stopwatch:
    """Wall-clock and CPU time since its creation, as text."""

    def __init__(self) -> None:
        self._start_secs, self._start_cpu_secs = time.monotonic(), _cpu_secs()

    def __str__(self) -> str:
        cpu_secs = _cpu_secs() - self._start_cpu_secs
        return f"{time.monotonic() - self._start_secs:.0f} s, {cpu_secs:.0f} s of CPU"


def _cpu_secs() -> float:
    """Return the CPU seconds of this process and of its children that have ended."""
    usages = (resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
    return sum(usage.ru_utime + usage.ru_stime for usage in usages)


def rehearse(folder: Path) -> None:
    """Run all scenarios in an empty folder."""
    total = Stopwatch()
    with Node(folder) as node:
        cluster = Cluster(folder, node)
        print(f"cluster: overlays/local, a storage emulator, music; {total}", flush=True)
        for number, (title, run) in enumerate(SCENARIOS, start=1):
            stopwatch = Stopwatch()
            outcome = run(cluster)
            print(f"scenario {number}: {title}: {outcome}; {stopwatch}", flush=True)
    # After the node is closed, so that the emulator's CPU time is included.
    print(f"all {len(SCENARIOS)} scenarios passed; {total}")


def main() -> int:
    """Run the rehearsal and return its exit code."""
    parser = argparse.ArgumentParser(prog=PROGRAM, description="Rehearse overlays/local without a cluster.")
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
