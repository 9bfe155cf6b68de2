"""`python -m preprocessing inspect`: verify a dataset."""

from __future__ import annotations

from preprocessing import event_log
from preprocessing.cli import SentenceParser, add_log_format, run_command
from preprocessing.commands import libraries


def main(program: str, argv: list[str]) -> int:
    """Run the command; return the exit code."""
    parser = SentenceParser(
        prog=program,
        allow_abbrev=False,
        description="Verify every file, record and count of a dataset. Exit codes: 0 no faults, 2 wrong usage, "
        "3 missing or corrupt dataset, 4 storage failed, 75 stopped on request.",
    )
    parser.add_argument("dataset", metavar="DIR", help="dataset directory, or the folder of its versions")
    parser.add_argument("--html", metavar="FILE", help="also write a page with charts and audio examples")
    add_log_format(parser)
    parser.add_argument("--verbose", action="store_true", help="print tracebacks and logs of libraries")
    flags = parser.parse_args(argv)
    event_log.configure(flags.log_format)

    def run() -> None:
        if not flags.verbose:
            libraries.silence()
        from preprocessing.validation.validate import inspect_dataset

        event_log.log_event("inspected", inspect_dataset(flags.dataset, flags.html))

    return run_command(parser.prog, run, flags.verbose)
