"""`python -m preprocessing prune`: delete old versions of a dataset."""

from __future__ import annotations

from preprocessing import event_log
from preprocessing.cli import SentenceParser, add_log_format, bounded_int, run_command
from preprocessing.commands import libraries


def main(program: str, argv: list[str]) -> int:
    """Run the command; return the exit code."""
    parser = SentenceParser(
        prog=program,
        allow_abbrev=False,
        description="List the versions of a dataset that are not needed any more, and delete them with --yes. The "
        "current version and those of champions are kept. Exit codes: 0 done, 2 wrong usage, or a job is writing, "
        "3 no versions, 4 storage failed, 75 stopped on request.",
    )
    parser.add_argument(
        "--datasets", required=True, metavar="DIR", help="the --output of jobs with --versioned"
    )
    parser.add_argument(
        "--keep-versions", required=True, type=bounded_int(1), metavar="N", help="keep the newest N versions"
    )
    parser.add_argument(
        "--models",
        action="append",
        default=[],
        metavar="DIR",
        help="a folder of models: keep what its champion was trained on; may be given more than once",
    )
    parser.add_argument("--yes", action="store_true", help="delete, instead of only listing")
    add_log_format(parser)
    parser.add_argument("--verbose", action="store_true", help="print tracebacks and logs of libraries")
    flags = parser.parse_args(argv)
    event_log.configure(flags.log_format)

    def run() -> None:
        if not flags.verbose:
            libraries.silence()
        from preprocessing.dataset.prune import prune

        event_log.log_event("pruned", prune(flags.datasets, flags.keep_versions, flags.models, flags.yes))

    return run_command(parser.prog, run, flags.verbose)
