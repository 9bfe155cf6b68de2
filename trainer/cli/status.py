"""`python -m trainer status`."""

from __future__ import annotations

import argparse
import json

from preprocessing.cli import SentenceParser, non_empty
from preprocessing.errors import DataError
from trainer.cli.arguments import SubParsers, add_common_arguments


def add_parser(commands: SubParsers) -> SentenceParser:
    """Add the sub-command to the parser."""
    parser = commands.add_parser(
        "status",
        allow_abbrev=False,
        help="show the state of runs",
        description="Show the state of a run: epoch, best metrics, age of the last checkpoint, and the process that "
        "works on it; or a line for each of several runs.",
    )
    parser.add_argument(
        "runs",
        type=non_empty,
        nargs="+",
        metavar="DIR",
        help="a run, a folder of runs, or a folder of models, whose champion is marked with a star; local or gs://",
    )
    parser.add_argument("--json", action="store_true", help="print a JSON list with an object for each run")
    add_common_arguments(parser)
    return parser


def run(flags: argparse.Namespace) -> None:
    """Print the state of the runs."""
    from trainer.runs.discovery import find_runs
    from trainer.runs.status import read_status, status_table

    statuses, errors = [], []
    found_runs = find_runs(flags.runs)
    for found in found_runs:
        try:
            statuses.append(read_status(found))
        except DataError as error:
            errors.append(error)
    if errors and len(found_runs) == 1:
        raise errors[0]
    if flags.json:
        print(json.dumps([status.to_json() for status in statuses], indent=2))
    elif len(found_runs) == 1:
        print(statuses[0].describe())
    else:
        print(status_table(statuses))
    if errors:
        others = f" (and {len(errors) - 1} other runs are corrupt)" if errors[1:] else ""
        raise DataError(f"{errors[0]}{others}") from errors[0]
