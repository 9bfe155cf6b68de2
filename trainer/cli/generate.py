"""`python -m trainer generate`."""

from __future__ import annotations

import argparse
import math

from preprocessing.cli import SentenceParser, bounded_float, bounded_int
from trainer.cli.arguments import SubParsers, add_common_arguments, cache_dir
from trainer.config import MAX_SEED, MODES
from trainer.generation.options import Options

ATTRIBUTES = ("loudness_db", "centroid_hz", "tempo_bpm")
_FINITE = bounded_float(-math.inf)


def add_parser(commands: SubParsers) -> SentenceParser:
    """Add the sub-command to the parser."""
    parser = commands.add_parser(
        "generate",
        allow_abbrev=False,
        help="generate music with a trained run",
        description="Generate clips in every mode of the model, or in some: prior (new clips), variation "
        "(source clips with noise added to their latents), reconstruct (source clips, encoded and decoded), "
        "interpolate (between two source clips), transfer (source clips in another genre) and continue (the "
        "beginning of source clips, then new music).",
    )
    parser.add_argument("--run", required=True, metavar="DIR", help="trained run, local or gs://")
    parser.add_argument(
        "--output", required=True, metavar="DIR", help="folder for the WAV files and pictures, local or gs://"
    )
    parser.add_argument(
        "--mode",
        action="append",
        default=[],
        choices=MODES,
        help="generate in this mode; repeat the flag for several (default: all)",
    )
    parser.add_argument(
        "--count",
        type=bounded_int(1),
        default=Options.count,
        metavar="N",
        help="clips of each mode (default: %(default)s)",
    )
    parser.add_argument(
        "--seed",
        type=bounded_int(0, MAX_SEED),
        default=Options.seed,
        metavar="N",
        help="random seed of all noise (default: %(default)s)",
    )
    parser.add_argument(
        "--data",
        metavar="DIR",
        help="dataset whose test clips are the source clips (default: the test clips stored in the run)",
    )
    _add_conditions(parser)
    _add_sampling(parser)
    parser.add_argument(
        "--output-rate-hz",
        type=bounded_int(1_000, 192_000),
        metavar="HZ",
        help="sample rate of the WAV files in Hz, for players that do not support the model's "
        "(default: the model's)",
    )
    add_common_arguments(parser)
    return parser


def _add_conditions(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--genre",
        metavar="NAME",
        help="genre of new clips, and of the source clips to use (default: each of the model's genres in turn, "
        "and source clips of any genre)",
    )
    parser.add_argument(
        "--to-genre",
        metavar="NAME",
        help="target genre of the mode transfer (default: the genre after the source clip's)",
    )
    parser.add_argument(
        "--loudness-db",
        type=_FINITE,
        metavar="DB",
        help="RMS level of new and continued clips in dB relative to full scale (default: unconditional)",
    )
    parser.add_argument(
        "--centroid-hz",
        type=_FINITE,
        metavar="HZ",
        help="spectral centroid (brightness) of new and continued clips in Hz (default: unconditional)",
    )
    parser.add_argument(
        "--tempo-bpm",
        type=_FINITE,
        metavar="BPM",
        help="tempo of new and continued clips in beats per minute (default: unconditional)",
    )
    parser.add_argument(
        "--guidance",
        type=bounded_float(0),
        default=Options.guidance,
        metavar="X",
        help="scale of genre and attributes; 1 is as in training, more exaggerates (default: %(default)s)",
    )


def _add_sampling(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--secs",
        type=bounded_float(0),
        metavar="SECS",
        help="length of new and continued clips in seconds (default: as in training)",
    )
    parser.add_argument(
        "--temperature",
        type=bounded_float(0),
        default=Options.temperature,
        metavar="X",
        help="scale of the prior's noise; lower is more typical, higher more diverse (default: %(default)s)",
    )
    parser.add_argument(
        "--noise-scale",
        type=_FINITE,
        default=Options.noise_scale,
        metavar="X",
        help="noise added by the mode variation, in standard deviations of the prior (default: %(default)s)",
    )
    parser.add_argument(
        "--steps",
        type=bounded_int(2),
        default=Options.steps,
        metavar="N",
        help="clips of an interpolation, including both ends (default: %(default)s)",
    )


def run(flags: argparse.Namespace) -> None:
    """Generate clips and print their names."""
    from trainer.generation.generate import generate

    options = Options(
        modes=tuple(flags.mode),
        count=flags.count,
        seed=flags.seed,
        genre=flags.genre,
        to_genre=flags.to_genre,
        attributes={name: getattr(flags, name) for name in ATTRIBUTES if getattr(flags, name) is not None},
        secs=flags.secs,
        temperature=flags.temperature,
        guidance=flags.guidance,
        noise_scale=flags.noise_scale,
        steps=flags.steps,
        data=flags.data,
        output_rate_hz=flags.output_rate_hz,
    )
    files = generate(flags.run, flags.output, cache_dir(flags), options)
    print(f"{flags.output}: {len(files)} clips, {files[0]} to {files[-1]}, and their pictures")
