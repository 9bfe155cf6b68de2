"""`python -m preprocessing`: parse the flags and run the job, `inspect` or `prune`.

Beam is imported only after the flags are parsed, so that `--help` and usage errors are quick.
"""

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

from preprocessing.cli import SentenceParser, bounded_int, run_command
from preprocessing.dataset.splits import SPLIT_RULES
from preprocessing.options import AudioFormat, Options, default_clip_samples

PROGRAM = "python -m preprocessing"
EMULATOR_CREDENTIALS = Path(__file__).parent / "storage" / "emulator.json"
MALLOC_ARENA_MAX = -8  # M_ARENA_MAX of malloc.h


def build_parser() -> argparse.ArgumentParser:
    """Describe the flags of the job itself; the caller passes unknown flags on to Beam."""
    parser = SentenceParser(
        prog=PROGRAM,
        allow_abbrev=False,
        description="Decode and resample a folder of music, one sub-folder per genre, into sharded TFRecords.",
        epilog=f"{PROGRAM} inspect DIR verifies a dataset (inspect --help); {PROGRAM} prune deletes old versions "
        "(prune --help). "
        "Any flag of Apache Beam is passed on, e.g. --runner DataflowRunner --project P --region R "
        "--temp_location gs://B/tmp. Without --runner the job runs on this machine, on all cores "
        "(--direct_num_workers N for fewer). Exit codes: 0 done, 2 wrong usage, 3 bad or missing data, "
        "4 storage failed, 75 stopped on request.",
    )
    parser.add_argument(
        "--input",
        required=True,
        metavar="INPUT",
        help="local or gs://: a folder, a pattern, a zip or tar archive, or a text file that lists "
        "files; a file's genre is the name of its folder, and its content decides whether it is audio",
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
    parser.add_argument(
        "--exclude",
        default="",
        metavar="FILE",
        help="leave out what FILE lists, local or gs://: one path, folder, URI, recording id, SHA-256 or line of a "
        "quarantine.jsonl per line",
    )
    _add_format_flags(parser)
    _add_output_flags(parser)
    parser.add_argument("--verbose", action="store_true", help="print tracebacks and logs of libraries")
    return parser


def _add_format_flags(parser: argparse.ArgumentParser) -> None:
    """Add the flags that set the format of a record and how recordings are cut."""
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
        help="clip length in seconds; a file's first clip is used (default: %(default)s)",
    )
    parser.add_argument(
        "--hop-secs",
        type=float,
        metavar="SECS",
        help="cut whole recordings into clips, one every SECS seconds; clips overlap if SECS is less than "
        "--clip-secs (default: one clip per file)",
    )
    parser.add_argument(
        "--min-secs",
        type=float,
        metavar="SECS",
        help="drop clips shorter than this (default: 1, or --clip-secs if that is less)",
    )
    parser.add_argument(
        "--max-secs",
        type=float,
        default=AudioFormat.max_secs,
        metavar="SECS",
        help="reject recordings that are longer, or whose header says so (default: %(default)g)",
    )
    parser.add_argument(
        "--clip-samples",
        type=int,
        metavar="N",
        help="samples per record; longer clips are cut, shorter ones zero-padded (default: the samples that "
        "librosa returns for a GTZAN file of that length, 90001 for 30 s at 3000 Hz)",
    )


def _add_output_flags(parser: argparse.ArgumentParser) -> None:
    """Add the flags that set the dataset's files, and when none is written."""
    parser.add_argument(
        "--shards",
        type=int,
        default=8,
        metavar="N",
        help="files of the training split; the other splits get an eighth of it each, at least 1 "
        "(default: %(default)s)",
    )
    parser.add_argument(
        "--versioned",
        action="store_true",
        help="write OUTPUT/<digest>/ and point OUTPUT/LATEST to it, so that earlier datasets are kept",
    )
    parser.add_argument(
        "--max-bad-fraction",
        type=float,
        default=Options.max_bad_fraction,
        metavar="FRACTION",
        help="write no dataset, and exit with code 3, if a larger fraction of the recordings is bad "
        "(default: %(default)g)",
    )


def main(argv: list[str] | None = None) -> int:
    """Run the job, `inspect` or `prune`; return the exit code."""
    args = sys.argv[1:] if argv is None else argv
    # Beam's workers already use all cores; a BLAS thread pool in each of them would only cost time.
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
    _use_one_malloc_arena()
    _set_emulator_credentials()
    if args[:1] == ["inspect"]:
        return _inspect(args[1:])
    if args[:1] == ["prune"]:
        return _prune(args[1:])
    flags, beam_flags = build_parser().parse_known_args(args)
    return run_command(PROGRAM, lambda: _run(flags, beam_flags), flags.verbose)


def _use_one_malloc_arena() -> None:
    """Let all threads allocate from one arena: memory freed in one worker's own arena is lost to the others."""
    with contextlib.suppress(OSError, AttributeError):  # another C library
        ctypes.CDLL(None).mallopt(MALLOC_ARENA_MAX, 1)


def _run(flags: argparse.Namespace, beam_flags: list[str]) -> None:
    fields = {} if flags.clip_samples is None else {"clip_samples": flags.clip_samples}
    min_secs = min(AudioFormat.min_secs, flags.clip_secs) if flags.min_secs is None else flags.min_secs
    fields |= {"hop_secs": flags.hop_secs, "min_secs": min_secs, "max_secs": flags.max_secs}
    audio = AudioFormat(flags.sample_rate_hz, flags.clip_secs, **fields)
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
    if not flags.verbose:
        _silence_libraries()
        _silence_workers()
    from preprocessing.pipeline import launcher

    launcher.run(options, beam_flags, flags.exclude)


def _set_emulator_credentials() -> None:
    """Use dummy credentials with a storage emulator, unless the user has set others.

    An emulator needs none, but Beam would search for credentials for half a minute. These never expire and
    grant access to nothing.
    """
    if os.environ.get("STORAGE_EMULATOR_HOST"):
        os.environ.setdefault("GOOGLE_APPLICATION_CREDENTIALS", str(EMULATOR_CREDENTIALS))


def _inspect(argv: list[str]) -> int:
    parser = SentenceParser(
        prog=f"{PROGRAM} inspect",
        allow_abbrev=False,
        description="Verify every file, record and count of a dataset. Exit codes: 0 no faults, 2 wrong usage, "
        "3 missing or corrupt dataset, 4 storage failed, 75 stopped on request.",
    )
    parser.add_argument("dataset", metavar="DIR", help="dataset directory, or the folder of its versions")
    parser.add_argument("--html", metavar="FILE", help="also write a page with charts and audio examples")
    parser.add_argument("--verbose", action="store_true", help="print tracebacks and logs of libraries")
    flags = parser.parse_args(argv)

    def run() -> None:
        if not flags.verbose:
            _silence_libraries()
        from preprocessing.validation.validate import inspect_dataset

        print(inspect_dataset(flags.dataset, flags.html))

    return run_command(parser.prog, run, flags.verbose)


def _prune(argv: list[str]) -> int:
    parser = SentenceParser(
        prog=f"{PROGRAM} prune",
        allow_abbrev=False,
        description="List the versions of a dataset that are not needed any more, and delete them with --yes. The "
        "current version and those of champions are kept. Exit codes: 0 done, 2 wrong usage, or a job is writing, "
        "3 no versions, 4 storage failed, 75 stopped on request.",
    )
    parser.add_argument(
        "--datasets", required=True, metavar="DIR", help="the --output of jobs with --versioned"
    )
    parser.add_argument(
        "--keep-versions", required=True, type=bounded_int(1), metavar="N", help="keep the newest N versions"
    )
    parser.add_argument(
        "--models",
        action="append",
        default=[],
        metavar="DIR",
        help="a folder of models: keep what its champion was trained on; may be given more than once",
    )
    parser.add_argument("--yes", action="store_true", help="delete, instead of only listing")
    parser.add_argument("--verbose", action="store_true", help="print tracebacks and logs of libraries")
    flags = parser.parse_args(argv)

    def run() -> None:
        if not flags.verbose:
            _silence_libraries()
        from preprocessing.dataset.prune import prune

        print(prune(flags.datasets, flags.keep_versions, flags.models, flags.yes))

    return run_command(parser.prog, run, flags.verbose)


def _silence_libraries() -> None:
    """Suppress the warnings and logs of libraries."""
    _silence_c_libraries()
    warnings.simplefilter("ignore")
    logging.getLogger().setLevel(logging.CRITICAL)


def _silence_workers() -> None:
    """Keep Beam's local workers from printing the traceback of an exception, which `run_command` reports."""
    from apache_beam.runners.worker import sdk_worker

    vars(sdk_worker)["print"] = lambda *arguments, **options: None


def _silence_c_libraries() -> None:
    """Discard file descriptor 2, to which C decoders print warnings about bad files; keep `sys.stderr`."""
    if sys.stderr is sys.__stderr__:
        sys.stderr = open(os.dup(2), "w", buffering=1, errors="backslashreplace")  # noqa: SIM115, PTH123
        os.dup2(os.open(os.devnull, os.O_WRONLY), 2)


def program() -> NoReturn:
    """Run the command and end the process, including the worker threads of a job that was stopped.

    A worker may be inside a C library, where Python's own shutdown would abort the process with another code.
    """
    code = main()
    for stream in (sys.stdout, sys.stderr):
        stream.flush()
    if code:
        os._exit(code)
    sys.exit()


if __name__ == "__main__":
    program()
