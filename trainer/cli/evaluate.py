"""`python -m trainer evaluate`."""

from __future__ import annotations

import argparse

from preprocessing.cli import SentenceParser, bounded_float, bounded_int, non_empty
from trainer.cli.arguments import SubParsers, add_checkpoint_argument, add_common_arguments, cache_dir
from trainer.config import GUIDANCE, MAX_GUIDANCE, MAX_SEED, MAX_TEMPERATURE, UNCONDITIONAL_GUIDANCE
from trainer.evaluation.options import Options


def add_parser(commands: SubParsers) -> SentenceParser:
    """Add the sub-command to the parser."""
    parser = commands.add_parser(
        "evaluate",
        allow_abbrev=False,
        help="evaluate a trained run against baselines",
        description="Measure a run's reconstruction quality, generation quality and condition adherence on "
        "held-out clips, beside the reference model, PCA, noise and real clips. Writes JSON, Markdown and "
        "pictures, and a section of the run's report.",
    )
    parser.add_argument("--run", required=True, metavar="DIR", help="trained run, local or gs://")
    parser.add_argument(
        "--data", required=True, metavar="DIR", help="the run's dataset, or another of the same format"
    )
    add_checkpoint_argument(parser, Options.checkpoint)
    parser.add_argument(
        "--output",
        type=non_empty,
        metavar="DIR",
        help="folder for the results (default: evaluation in the run)",
    )
    parser.add_argument(
        "--split",
        choices=("test", "validation"),
        default=Options.split,
        help="split of the held-out clips (default: %(default)s)",
    )
    parser.add_argument(
        "--count",
        type=bounded_int(2),
        default=Options.count,
        metavar="N",
        help="generated clips of each kind (default: %(default)s)",
    )
    parser.add_argument(
        "--embedding",
        action="append",
        default=[],
        metavar="NAME",
        help="also compute Frechet distances in this embedding: musicnn, or the folder of a SavedModel; "
        "log-mel is always included",
    )
    parser.add_argument(
        "--seed",
        type=bounded_int(0, MAX_SEED),
        default=Options.seed,
        metavar="N",
        help="random seed of the generated clips (default: %(default)s)",
    )
    parser.add_argument(
        "--baseline-run",
        metavar="DIR",
        help="trained run of the preset reference (default: the run's name with -reference, which is trained if "
        "missing, up to 200,000 samples per clip)",
    )
    parser.add_argument(
        "--temperature",
        type=bounded_float(0, MAX_TEMPERATURE),
        default=Options.temperature,
        metavar="X",
        help="scale of the prior's noise (default: %(default)s)",
    )
    parser.add_argument(
        "--guidance",
        type=bounded_float(0, MAX_GUIDANCE),
        metavar="X",
        help=f"guidance scale (default: {GUIDANCE:g} with a condition, {UNCONDITIONAL_GUIDANCE:g} without)",
    )
    add_common_arguments(parser)
    return parser


def run(flags: argparse.Namespace) -> None:
    """Evaluate the run and print the path of the tables."""
    from trainer.evaluation.evaluate import evaluate

    options = Options(
        checkpoint=flags.checkpoint,
        split=flags.split,
        count=flags.count,
        embeddings=tuple(flags.embedding),
        seed=flags.seed,
        baseline_run=flags.baseline_run,
        temperature=flags.temperature,
        guidance=flags.guidance,
    )
    tables = evaluate(flags.run, flags.data, flags.output, cache_dir(flags), options)
    print(f"tables: {tables}")
