"""`python -m preprocessing`: flags -> one call. Beam is imported only after they are parsed."""

from __future__ import annotations

import argparse
import dataclasses
import logging
import os
import sys
import warnings

from preprocessing.errors import SentenceParser, run_command
from preprocessing.gtzan import SPLIT_RULES
from preprocessing.options import AudioFormat, Options, default_clip_samples

PROGRAM = "python -m preprocessing"


def build_parser() -> argparse.ArgumentParser:
    """The flags of the job itself; whatever it does not know is offered to Beam."""
    parser = SentenceParser(
        prog=PROGRAM,
        allow_abbrev=False,
        description="Decode and resample a folder of music, one sub-folder a genre, into sharded TFRecords.",
        epilog="Any flag of Apache Beam is passed on, e.g. --runner DataflowRunner --project P --region R "
        "--temp_location gs://B/tmp. Without --runner the job runs here, on all cores "
        "(--direct_num_workers N for fewer). Exit codes: 0 done, 2 wrong usage, 3 bad or missing data, "
        "4 storage failed, 75 stopped on request.",
    )
    parser.add_argument(
        "--input",
        required=True,
        metavar="DIR_OR_PATTERN",
        help="folder or glob, local or gs://, with <genre>/<genre>.<number>.{wav,au,mp3,flac,ogg} below it",
    )
    parser.add_argument(
        "--output", required=True, metavar="DIR", help="dataset directory to write, local or gs://"
    )
    parser.add_argument(
        "--genre",
        action="append",
        default=[],
        metavar="NAME",
        help="only this genre; may be given more than once (default: all)",
    )
    parser.add_argument(
        "--split",
        choices=sorted(SPLIT_RULES),
        default="hash",
        help="hash: 80/10/10 by a digest of the track's id; seed: the 13 training and 12 test numbers of the "
        "reference notebook (default: %(default)s)",
    )
    _add_format(parser)
    parser.add_argument("--verbose", action="store_true", help="print tracebacks and third parties' logs")
    return parser


def _add_format(parser: argparse.ArgumentParser) -> None:
    """What a record and the files that hold them look like."""
    parser.add_argument(
        "--sample-rate-hz",
        type=int,
        default=3_000,
        metavar="HZ",
        help="sample rate of the records in Hz (default: %(default)s)",
    )
    parser.add_argument(
        "--clip-secs",
        type=float,
        default=30.0,
        metavar="SECS",
        help="seconds of each file to take, from its start (default: %(default)s)",
    )
    parser.add_argument(
        "--clip-samples",
        type=int,
        metavar="N",
        help="samples of a record; longer is cut, shorter is padded with zeros (default: as librosa counts "
        "a GTZAN file of that length, 90001 for 30 s at 3000 Hz)",
    )
    parser.add_argument(
        "--shards",
        type=int,
        default=8,
        metavar="N",
        help="files of the training split; the others get an eighth each, at least 1 (default: %(default)s)",
    )


def main(argv: list[str] | None = None) -> int:
    """Runs the job; returns its exit code."""
    flags, beam_flags = build_parser().parse_known_args(argv)
    return run_command(PROGRAM, lambda: _run(flags, beam_flags), flags.verbose)


def _run(flags: argparse.Namespace, beam_flags: list[str]) -> None:
    given = {} if flags.clip_samples is None else {"clip_samples": flags.clip_samples}
    audio = AudioFormat(flags.sample_rate_hz, flags.clip_secs, **given)
    if not given:
        clip_samples = default_clip_samples(audio.sample_rate_hz, audio.clip_secs)
        audio = dataclasses.replace(audio, clip_samples=clip_samples)
    options = Options(flags.input, flags.output, tuple(flags.genre), flags.split, flags.shards, audio)
    if not flags.verbose:
        _silence_c_libraries()
        warnings.simplefilter("ignore")
        logging.getLogger().setLevel(logging.CRITICAL)
    from preprocessing import job

    job.run(options, beam_flags)


def _silence_c_libraries() -> None:
    """Gives Python a standard error of its own: C decoders complain on descriptor 2 of bad files."""
    if sys.stderr is sys.__stderr__:
        sys.stderr = open(os.dup(2), "w", buffering=1, errors="backslashreplace")  # noqa: SIM115, PTH123
        os.dup2(os.open(os.devnull, os.O_WRONLY), 2)


if __name__ == "__main__":
    sys.exit(main())
