"""`python -m trainer compare`."""

from __future__ import annotations

import argparse
import json

from preprocessing.cli import SentenceParser
from trainer.cli.arguments import SubParsers, add_common_arguments


def add_parser(commands: SubParsers) -> SentenceParser:
    """Add the sub-command to the parser."""
    parser = commands.add_parser(
        "compare",
        allow_abbrev=False,
        help="compare runs: metrics, evaluations, settings and clips",
        description="Compare runs in a table: metrics of the last epoch, figures of the evaluation, and the settings "
        "in which they differ. --html adds learning curves and clips side by side.",
    )
    parser.add_argument(
        "runs",
        nargs="+",
        metavar="RUN",
        help="a run, a folder of runs, or a folder of models, whose candidates are compared; local or gs://",
    )
    parser.add_argument("--html", metavar="FILE", help="also write a self-contained page, local or gs://")
    parser.add_argument(
        "--json", action="store_true", help="print everything that is known of the runs as a JSON object"
    )
    add_common_arguments(parser)
    return parser


def run(flags: argparse.Namespace) -> None:
    """Print the comparison, and write the page."""
    from trainer.reporting import run_comparison, run_comparison_page

    runs = run_comparison.read_runs(flags.runs)
    if flags.html:
        run_comparison_page.write_page(runs, flags.html)
    if flags.json:
        print(json.dumps(run_comparison.comparison_json(runs), indent=2, allow_nan=False))
        return
    print(run_comparison.comparison_table(runs))
    if flags.html:
        print(f"\n{flags.html}: the comparison with learning curves and clips")
