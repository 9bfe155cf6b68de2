"""The parser of `python -m trainer`, with all sub-commands."""

from __future__ import annotations

from preprocessing.cli import SentenceParser
from trainer.cli import champion, compare, evaluate, export, generate, retrain, status, studio, train

PROGRAM = "python -m trainer"
COMMANDS = (train, generate, studio, evaluate, export, status, compare, retrain, champion)


def build_parser() -> SentenceParser:
    """Build the parser; parsed flags have the sub-command's function as `execute`."""
    parser = SentenceParser(
        prog=PROGRAM,
        allow_abbrev=False,
        description="Train a convolutional variational autoencoder on music, and generate music with it.",
        epilog="Exit codes: 0 done, 2 wrong usage or configuration, 3 bad or missing data, 4 storage failed, "
        "75 stopped on request, or a GPU or another worker is gone: run the same command again.",
    )
    commands = parser.add_subparsers(
        dest="command", required=True, metavar="COMMAND", parser_class=SentenceParser
    )
    for command in COMMANDS:
        command.add_parser(commands).set_defaults(execute=command.run)
    return parser
