"""`python -m trainer export`."""

from __future__ import annotations

import argparse

from preprocessing.cli import SentenceParser, non_empty
from trainer.cli.arguments import SubParsers, add_checkpoint_argument, add_common_arguments, cache_dir
from trainer.config import BEST


def add_parser(commands: SubParsers) -> SentenceParser:
    """Add the sub-command to the parser."""
    parser = commands.add_parser(
        "export",
        allow_abbrev=False,
        help="export a trained run as a SavedModel",
        description="Write the model of a run as a TensorFlow SavedModel, for TensorFlow Serving or programs that have "
        "TensorFlow but not this project, with a signature for each mode, and metadata.json, which describes it.",
    )
    parser.add_argument(
        "--run", required=True, metavar="DIR", help="trained run or folder of models, local or gs://"
    )
    parser.add_argument(
        "--output",
        type=non_empty,
        required=True,
        metavar="DIR",
        help="folder for the model, local or gs://; an earlier export in it is replaced",
    )
    add_checkpoint_argument(parser, BEST)
    add_common_arguments(parser)
    return parser


def run(flags: argparse.Namespace) -> None:
    """Export the run and print the names of the signatures."""
    from trainer.export.export import export

    signatures = export(flags.run, flags.output, flags.checkpoint, cache_dir(flags))
    print(f"{flags.output}: a SavedModel with the signatures {', '.join(signatures)}")
