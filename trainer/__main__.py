"""`python -m trainer COMMAND`: parse the command line and run one sub-command of `trainer.cli`."""

from __future__ import annotations

import argparse
import os
import sys
import warnings

from preprocessing import event_log
from preprocessing.cli import run_command
from trainer.cli.parser import PROGRAM, build_parser


def main(argv: list[str] | None = None) -> int:
    """Run a sub-command and return its exit code."""
    try:
        flags = build_parser().parse_args(argv)
    except SystemExit as error:  # argparse has already printed the help or the error
        return int(error.code or 0)
    _configure_logging(flags)
    return run_command(PROGRAM, lambda: flags.execute(flags), flags.verbose)


def _configure_logging(flags: argparse.Namespace) -> None:
    if flags.verbose:
        os.environ["TF_CPP_MIN_LOG_LEVEL"] = "0"
    else:
        warnings.simplefilter("ignore")
    log_format = getattr(flags, "log_format", event_log.LOG_FORMATS[0])
    event_log.configure(
        log_format, third_party_warnings=flags.verbose, to_stderr=getattr(flags, "reserves_stdout", False)
    )


if __name__ == "__main__":
    sys.exit(main())
