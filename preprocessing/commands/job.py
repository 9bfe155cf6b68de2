"""The job: `python -m preprocessing --input ... --output ...`."""

from __future__ import annotations

import argparse
import dataclasses

from preprocessing import event_log
from preprocessing.cli import SentenceParser, add_log_format, run_command
from preprocessing.commands import libraries
from preprocessing.dataset.splits import SPLIT_RULES
from preprocessing.options import AudioFormat, Options, default_clip_samples


def main(program: str, argv: list[str]) -> int:
    """Run the job; return the exit code."""
    flags, beam_flags = build_parser(program).parse_known_args(argv)
    event_log.configure(flags.log_format)
    return run_command(program, lambda: _run(flags, beam_flags), flags.verbose)


def build_parser(program: str) -> argparse.ArgumentParser:
    """Describe the flags of the job itself; the caller passes unknown flags on to Beam."""
    parser = SentenceParser(
        prog=program,
        allow_abbrev=False,
        description="Decode and resample a folder of music, one sub-folder per genre, into sharded TFRecords.",
        epilog=f"Other commands, each with its own --help: {program} inspect verifies a dataset, {program} prune "
        f"deletes old versions, {program} forget deletes what holds or was trained on a recording. "
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
    add_log_format(parser)
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
        libraries.silence()
        libraries.silence_workers()
    from preprocessing.pipeline import launcher

    launcher.run(options, beam_flags, flags.exclude)
