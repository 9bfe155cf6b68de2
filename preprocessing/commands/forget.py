"""`python -m preprocessing forget`: delete what holds or was trained on recordings."""

from __future__ import annotations

from preprocessing import event_log
from preprocessing.cli import SentenceParser, add_log_format, run_command
from preprocessing.commands import libraries


def main(program: str, argv: list[str]) -> int:
    """Run the command; return the exit code."""
    parser = SentenceParser(
        prog=program,
        allow_abbrev=False,
        description="List every version of a dataset that holds recordings, and every run and model that was trained "
        "on them, through warm starts too, and delete all of these with --yes. Exit codes: 0 done, 2 wrong usage, or a "
        "job or training is writing, 3 no such recording or folder, 4 storage failed, 75 stopped on request.",
    )
    parser.add_argument("--datasets", required=True, metavar="DIR", help="the --output of jobs")
    parser.add_argument(
        "--recording",
        required=True,
        action="append",
        metavar="NAME",
        help="a path or folder as below the input, a URI, a recording id or the SHA-256 of a file; may be given more "
        "than once",
    )
    parser.add_argument(
        "--runs",
        action="append",
        default=[],
        metavar="DIR",
        help="a run, or a folder with runs or models at any depth; may be given more than once",
    )
    parser.add_argument("--yes", action="store_true", help="delete, instead of only listing")
    add_log_format(parser)
    parser.add_argument("--verbose", action="store_true", help="print tracebacks and logs of libraries")
    flags = parser.parse_args(argv)
    event_log.configure(flags.log_format)

    def run() -> None:
        if not flags.verbose:
            libraries.silence()
        from preprocessing.dataset.forget import forget

        event_log.log_event("forget", forget(flags.datasets, flags.runs, flags.recording, flags.yes))

    return run_command(program, run, flags.verbose)
