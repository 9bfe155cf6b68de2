"""`python -m trainer status`."""

from __future__ import annotations

import argparse

from preprocessing.cli import SentenceParser
from trainer.cli.arguments import SubParsers, add_common_arguments


def add_parser(commands: SubParsers) -> SentenceParser:
    """Add the sub-command to the parser."""
    parser = commands.add_parser(
        "status",
        allow_abbrev=False,
        help="show the state of a run",
        description="Show the state of a run: epoch, best metrics, age of the last checkpoint, and the process that "
        "works on it.",
    )
    parser.add_argument("--run", required=True, metavar="DIR", help="run directory, local or gs://")
    add_common_arguments(parser)
    return parser


def run(flags: argparse.Namespace) -> None:
    """Print the state of the run."""
    from trainer.runs.status import status

    print(status(flags.run))
