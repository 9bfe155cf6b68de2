"""`python -m trainer champion`."""

from __future__ import annotations

import argparse

from preprocessing.cli import SentenceParser
from trainer.cli.arguments import SubParsers, add_common_arguments

ACTIONS = {
    "show": "show the champion and its predecessors",
    "promote": "make a candidate the champion",
    "rollback": "restore the previous champion; retraining does not promote the current one again",
}


def add_parser(commands: SubParsers) -> SentenceParser:
    """Add the sub-command and its actions to the parser."""
    parser = commands.add_parser(
        "champion",
        allow_abbrev=False,
        help="show or change which model is the champion",
        description="Show the champion of a folder of models, promote another candidate, or restore the "
        "previous champion.",
    )
    actions = parser.add_subparsers(
        dest="action", required=True, metavar="ACTION", parser_class=SentenceParser
    )
    for name, description in ACTIONS.items():
        action = actions.add_parser(
            name, allow_abbrev=False, help=description, description=f"{description.capitalize()}."
        )
        action.add_argument(
            "--models", required=True, metavar="DIR", help="folder of champion and candidates, local or gs://"
        )
        if name == "promote":
            action.add_argument(
                "--candidate", required=True, metavar="NAME", help="name of the candidate's folder"
            )
        add_common_arguments(action)
    return parser


def run(flags: argparse.Namespace) -> None:
    """Carry out the action and print its result."""
    from trainer.registry import champion

    if flags.action == "show":
        print(champion.show(flags.models))
    elif flags.action == "promote":
        print(champion.promote(flags.models, flags.candidate))
    else:
        print(champion.rollback(flags.models))
