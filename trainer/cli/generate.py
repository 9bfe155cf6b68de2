"""`python -m trainer generate`."""

from __future__ import annotations

import argparse
import math
from pathlib import Path
from typing import TYPE_CHECKING, Any

from preprocessing.cli import SentenceParser, bounded_float, bounded_int, non_empty
from preprocessing.dataset.keys import parse_key
from preprocessing.errors import UsageError
from trainer.cli.arguments import SubParsers, add_checkpoint_argument, add_common_arguments, cache_dir
from trainer.config import MAX_ATTRIBUTE_GUIDANCE, MAX_GUIDANCE, MAX_SEED, MAX_TEMPERATURE, MODES
from trainer.generation.options import MAX_NOISE_SCALE, OUTPUT_RATES_HZ, Options

if TYPE_CHECKING:
    from trainer.generation.takes import Recipe

ATTRIBUTES = ("loudness_db", "centroid_hz", "tempo_bpm", "beat_clarity")
NEW = ("prior", "continue")
# Flags that apply to some modes only.
MODES_OF_FLAGS = {
    **dict.fromkeys((*ATTRIBUTES, "key", "secs", "temperature"), NEW),
    "guidance": (*NEW, "transfer"),
    "to_genre": ("transfer",),
    "noise_scale": ("variation",),
    "steps": ("interpolate",),
    **dict.fromkeys(("sources", "data"), tuple(mode for mode in MODES if mode != "prior")),
}
# Fields of `Options` whose flags have their names.
PLAIN_OPTIONS = (
    "count", "seed", "genre", "to_genre", "key", "secs", "temperature", "guidance", "noise_scale", "steps",
    "checkpoint", "data", "output_rate_hz",
)  # fmt: skip
_FINITE = bounded_float(-math.inf)
OPEN = "that of a training clip for new clips, open for continued ones"


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
    parser.add_argument("--run", metavar="DIR", help="trained run, local or gs:// (default: that of --like)")
    add_checkpoint_argument(parser, None)
    parser.add_argument(
        "--output",
        type=non_empty,
        required=True,
        metavar="DIR",
        help="folder of takes, local or gs://: each call adds a folder with WAV files and pictures",
    )
    parser.add_argument(
        "--like",
        type=Path,
        metavar="TAKE",
        help="make a take again, bit for bit, from its folder, its recipe.json or one of its WAV files; other flags "
        "vary it",
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
        metavar="N",
        help=f"clips of each mode (default: {Options.count})",
    )
    parser.add_argument(
        "--seed",
        type=bounded_int(0, MAX_SEED),
        metavar="N",
        help=f"random seed of all noise (default: {Options.seed})",
    )
    parser.add_argument(
        "--from",
        dest="sources",
        action="append",
        metavar="FILE",
        help="source clip: an audio file in any format that preprocessing reads, local or gs://, whose genre --genre "
        "names, or the name of a test clip; repeat the flag for several",
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
        type=bounded_int(*OUTPUT_RATES_HZ),
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
        help="genre of new clips, of the source clips to use, and of the files of --from (default: each of the model's "
        "genres in turn, and source clips of any genre)",
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
        help=f"RMS level of new and continued clips in dB relative to full scale (default: {OPEN})",
    )
    parser.add_argument(
        "--centroid-hz",
        type=_FINITE,
        metavar="HZ",
        help=f"spectral centroid (brightness) of new and continued clips in Hz (default: {OPEN})",
    )
    parser.add_argument(
        "--tempo-bpm",
        type=_FINITE,
        metavar="BPM",
        help=f"tempo of new and continued clips in beats per minute (default: {OPEN})",
    )
    parser.add_argument(
        "--beat-clarity",
        type=bounded_float(0, 1),
        metavar="X",
        help="clarity of the beat of new and continued clips, 0 to 1 (default: clear if --tempo-bpm is given, or else "
        f"{OPEN})",
    )
    parser.add_argument(
        "--key",
        type=_key,
        metavar="KEY",
        help=f'key of new and continued clips, such as "A minor" or "Bb major" (default: {OPEN})',
    )
    parser.add_argument(
        "--guidance",
        type=bounded_float(0, MAX_GUIDANCE),
        metavar="X",
        help=f"scale of genre, attributes and key, 0 to {MAX_GUIDANCE:g}; 1 is as in training, more exaggerates; "
        f"attributes and key take {MAX_ATTRIBUTE_GUIDANCE:g} at most "
        f"(default: {Options.guidance:g})",
    )


def _key(text: str) -> str:
    try:
        return parse_key(text)
    except UsageError as error:
        raise argparse.ArgumentTypeError(str(error)) from None


def _add_sampling(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--secs",
        type=bounded_float(0, low_is_open=True),
        metavar="SECS",
        help="length of new and continued clips in seconds (default: as in training)",
    )
    parser.add_argument(
        "--temperature",
        type=bounded_float(0, MAX_TEMPERATURE),
        metavar="X",
        help=f"scale of the prior's noise, 0 to {MAX_TEMPERATURE:g}; lower is more typical, higher more diverse "
        f"(default: {Options.temperature:g})",
    )
    parser.add_argument(
        "--noise-scale",
        type=bounded_float(0, MAX_NOISE_SCALE),
        metavar="X",
        help=f"noise added by the mode variation, in standard deviations of the prior (default: {Options.noise_scale})",
    )
    parser.add_argument(
        "--steps",
        type=bounded_int(2),
        metavar="N",
        help=f"clips of an interpolation, including both ends (default: {Options.steps})",
    )


def run(flags: argparse.Namespace) -> None:
    """Generate clips and print their names."""
    from trainer.generation.generate import generate
    from trainer.generation.takes import read_recipe

    recipe = read_recipe(flags.like) if flags.like else None
    run = flags.run or (recipe.run if recipe else None)
    if run is None:
        raise UsageError("`run` is required, unless `like` names a take")
    options = Options(**({} if recipe is None else recipe.options) | _given(flags, recipe))
    _check_modes(flags, options)
    # With these flags, the user may choose another checkpoint than the take's.
    same_checkpoint = not (flags.run or flags.checkpoint)
    files = generate(run, flags.output, cache_dir(flags), options, recipe, same_checkpoint)
    take = files[0].partition("/")[0]
    clips = f"{len(files)} clip{'' if len(files) == 1 else 's'}"
    print(f"{flags.output}/{take}: {clips}, and their pictures")


def _check_modes(flags: argparse.Namespace, options: Options) -> None:
    """Raise if a flag has no effect in the modes that were chosen (exit code 2)."""
    for name, modes in MODES_OF_FLAGS.items():
        if options.modes and getattr(flags, name) is not None and not set(options.modes) & set(modes):
            chosen = ", ".join(options.modes)
            argument = "from" if name == "sources" else name
            raise UsageError(
                f"`{argument}` has no effect in the mode {chosen}: it applies to {', '.join(modes)}"
            )


def _given(flags: argparse.Namespace, recipe: Recipe | None) -> dict[str, Any]:
    """Return the fields of `Options` that the user sets; attributes are added to those of a recipe."""
    attributes = {name: getattr(flags, name) for name in ATTRIBUTES if getattr(flags, name) is not None}
    given = {
        "modes": tuple(dict.fromkeys(flags.mode)) or None,
        "sources": tuple(flags.sources or ()) or None,
        "attributes": {**(recipe.options["attributes"] if recipe else {}), **attributes} or None,
        **{name: getattr(flags, name) for name in PLAIN_OPTIONS},
    }
    return {name: value for name, value in given.items() if value is not None}
