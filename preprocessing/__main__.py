"""`python -m preprocessing`: flags -> one call. Beam is imported only after they are parsed."""

from __future__ import annotations

import argparse
import contextlib
import ctypes
import dataclasses
import logging
import os
import sys
import warnings
from pathlib import Path
from typing import NoReturn

from preprocessing.cli import SentenceParser, run_command
from preprocessing.dataset.splits import SPLIT_RULES
from preprocessing.options import AudioFormat, Options, default_clip_samples

PROGRAM = "python -m preprocessing"
EMULATOR_CREDENTIALS = Path(__file__).parent / "storage" / "emulator.json"
MALLOC_ARENA_MAX = -8  # M_ARENA_MAX of malloc.h


def build_parser() -> argparse.ArgumentParser:
    """The flags of the job itself; whatever it does not know is offered to Beam."""
    parser = SentenceParser(
        prog=PROGRAM,
        allow_abbrev=False,
        description="Decode and resample a folder of music, one sub-folder a genre, into sharded TFRecords.",
        epilog=f"{PROGRAM} inspect DIR verifies a dataset (inspect --help). "
        "Any flag of Apache Beam is passed on, e.g. --runner DataflowRunner --project P --region R "
        "--temp_location gs://B/tmp. Without --runner the job runs here, on all cores "
        "(--direct_num_workers N for fewer). Exit codes: 0 done, 2 wrong usage, 3 bad or missing data, "
        "4 storage failed, 75 stopped on request.",
    )
    parser.add_argument(
        "--input",
        required=True,
        metavar="INPUT",
        help="local or gs://: a folder, a pattern, a zip, tar or tar.gz archive, or a text file that lists "
        "files; the folder that a file lies in names its genre, and its content decides whether it is audio",
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
        help="hash: 80/10/10 by a digest of the track's id; reference: the 13 training and 12 test numbers of the "
        "reference notebook (default: %(default)s)",
    )
    _add_format(parser)
    _add_output(parser)
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
        help="seconds of a clip; of each file the first are taken (default: %(default)s)",
    )
    parser.add_argument(
        "--hop-secs",
        type=float,
        metavar="SECS",
        help="cut whole recordings into clips, one every so many seconds; less than --clip-secs overlaps "
        "(default: one clip a file)",
    )
    parser.add_argument(
        "--min-secs",
        type=float,
        metavar="SECS",
        help="what is shorter is no clip (default: 1, or --clip-secs if that is less)",
    )
    parser.add_argument(
        "--max-secs",
        type=float,
        default=AudioFormat.max_secs,
        metavar="SECS",
        help="what is longer, or says so, is refused (default: %(default)g)",
    )
    parser.add_argument(
        "--clip-samples",
        type=int,
        metavar="N",
        help="samples of a record; longer is cut, shorter is padded with zeros (default: as librosa counts "
        "a GTZAN file of that length, 90001 for 30 s at 3000 Hz)",
    )


def _add_output(parser: argparse.ArgumentParser) -> None:
    """How the dataset lies in its folder, and when there is none."""
    parser.add_argument(
        "--shards",
        type=int,
        default=8,
        metavar="N",
        help="files of the training split; the others get an eighth each, at least 1 (default: %(default)s)",
    )
    parser.add_argument(
        "--versioned",
        action="store_true",
        help="write OUTPUT/<digest>/ and move OUTPUT/LATEST to it, so that earlier datasets stay",
    )
    parser.add_argument(
        "--max-bad-fraction",
        type=float,
        default=Options.max_bad_fraction,
        metavar="PART",
        help="make no dataset, and end with exit code 3, where a larger part of the recordings is bad "
        "(default: %(default)g)",
    )


def main(argv: list[str] | None = None) -> int:
    """Runs the job or `inspect`; returns its exit code."""
    given = sys.argv[1:] if argv is None else argv
    # The workers are what runs side by side; a pool of threads below each only costs them time.
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
    _share_a_heap()
    _carry_credentials_for_an_emulator()
    if given[:1] == ["inspect"]:
        return _inspect(given[1:])
    flags, beam_flags = build_parser().parse_known_args(given)
    return run_command(PROGRAM, lambda: _run(flags, beam_flags), flags.verbose)


def _share_a_heap() -> None:
    """Local workers are threads, and glibc's heap for each would keep what another could use."""
    with contextlib.suppress(OSError, AttributeError):  # another C library
        ctypes.CDLL(None).mallopt(MALLOC_ARENA_MAX, 1)


def _run(flags: argparse.Namespace, beam_flags: list[str]) -> None:
    given = {} if flags.clip_samples is None else {"clip_samples": flags.clip_samples}
    min_secs = min(AudioFormat.min_secs, flags.clip_secs) if flags.min_secs is None else flags.min_secs
    given |= {"hop_secs": flags.hop_secs, "min_secs": min_secs, "max_secs": flags.max_secs}
    audio = AudioFormat(flags.sample_rate_hz, flags.clip_secs, **given)
    if flags.clip_samples is None:
        clip_samples = default_clip_samples(audio.sample_rate_hz, audio.clip_secs)
        audio = dataclasses.replace(audio, clip_samples=clip_samples)
    options = Options(
        input=flags.input,
        output=flags.output,
        genres=tuple(flags.genre),
        split=flags.split,
        shards=flags.shards,
        audio=audio,
        versioned=flags.versioned,
        max_bad_fraction=flags.max_bad_fraction,
    )
    _silence(flags.verbose)
    from preprocessing.pipeline import launcher

    launcher.run(options, beam_flags)


def _carry_credentials_for_an_emulator() -> None:
    """Beam looks half a minute for credentials, and an emulator of storage asks for none.

    So it finds some that never expire and open nothing, unless the user has named others.
    """
    if os.environ.get("STORAGE_EMULATOR_HOST"):
        os.environ.setdefault("GOOGLE_APPLICATION_CREDENTIALS", str(EMULATOR_CREDENTIALS))


def _inspect(argv: list[str]) -> int:
    parser = SentenceParser(
        prog=f"{PROGRAM} inspect",
        allow_abbrev=False,
        description="Verify a dataset: every file, record and figure. Exit codes: 0 all good, 2 wrong usage, "
        "3 damaged or no dataset, 4 storage failed, 75 stopped on request.",
    )
    parser.add_argument("dataset", metavar="DIR", help="dataset directory, or the folder of its versions")
    parser.add_argument("--html", metavar="FILE", help="also write a page to look at and listen to")
    parser.add_argument("--verbose", action="store_true", help="print tracebacks and third parties' logs")
    flags = parser.parse_args(argv)

    def run() -> None:
        _silence(flags.verbose)
        from preprocessing.validation.validate import inspect_dataset

        print(inspect_dataset(flags.dataset, flags.html))

    return run_command(parser.prog, run, flags.verbose)


def _silence(verbose: bool) -> None:
    """Leaves the screen to this program's own lines, unless all are wanted."""
    if not verbose:
        _silence_c_libraries()
        warnings.simplefilter("ignore")
        logging.getLogger().setLevel(logging.CRITICAL)


def _silence_c_libraries() -> None:
    """Gives Python a standard error of its own: C decoders complain on descriptor 2 of bad files."""
    if sys.stderr is sys.__stderr__:
        sys.stderr = open(os.dup(2), "w", buffering=1, errors="backslashreplace")  # noqa: SIM115, PTH123
        os.dup2(os.open(os.devnull, os.O_WRONLY), 2)


def program() -> NoReturn:
    """The command: ends the process, and with it the threads of a job that was stopped.

    They are in the middle of C libraries, where Python's own end would abort the process, with another code.
    """
    code = main()
    for stream in (sys.stdout, sys.stderr):
        stream.flush()
    if code:
        os._exit(code)
    sys.exit()


if __name__ == "__main__":
    program()
