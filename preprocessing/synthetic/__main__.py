"""`python -m preprocessing.synthetic`: synthesize the demo corpus."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from preprocessing.cli import SentenceParser, bounded_int, run_command
from preprocessing.progress import Progress
from preprocessing.synthetic.corpus import GENRES, MAX_CLIPS_PER_GENRE, write_corpus

PROGRAM = "python -m preprocessing.synthetic"


def build_parser() -> argparse.ArgumentParser:
    """Describe the command line."""
    parser = SentenceParser(
        prog=PROGRAM,
        allow_abbrev=False,
        description=f"Synthesize 30 s clips of {', '.join(GENRES)} in GTZAN's layout; no license applies to them.",
        epilog="Existing clips are kept, even if they were synthesized with another seed.",
    )
    parser.add_argument(
        "--output",
        type=Path,
        required=True,
        metavar="DIR",
        help="folder to write <genre>/<genre>.<number>.wav to, created if it does not exist",
    )
    parser.add_argument(
        "--clips-per-genre",
        type=bounded_int(1, MAX_CLIPS_PER_GENRE),
        default=10,
        metavar="N",
        help=f"clips per genre, up to {MAX_CLIPS_PER_GENRE}, 1.3 MB each (default: %(default)s)",
    )
    parser.add_argument(
        "--seed",
        type=bounded_int(0),
        default=0,
        metavar="N",
        help="random seed of the compositions (default: %(default)s)",
    )
    parser.add_argument("--verbose", action="store_true", help="print tracebacks")
    return parser


def main(argv: list[str] | None = None) -> int:
    """Run the command and return its exit code."""
    flags = build_parser().parse_args(argv)
    return run_command(PROGRAM, lambda: _run(flags), flags.verbose)


def _run(flags: argparse.Namespace) -> None:
    total = len(GENRES) * flags.clips_per_genre
    with Progress("synthesizing", total, "clips", leave=True) as progress:
        written = write_corpus(flags.output, flags.clips_per_genre, flags.seed, progress.advance)
    print(f"{flags.output}: {total} clips of {len(GENRES)} genres, {written} written, {total - written} kept")


if __name__ == "__main__":
    sys.exit(main())
