"""`python -m preprocessing`: run the job, or the command that the first argument names.

Beam is imported only after the flags are parsed, so that `--help` and usage errors are quick.
"""

from __future__ import annotations

import os
import sys
from typing import NoReturn

from preprocessing.commands import forget, inspect, job, libraries, prune

PROGRAM = "python -m preprocessing"
COMMANDS = {"inspect": inspect.main, "prune": prune.main, "forget": forget.main}


def main(argv: list[str] | None = None) -> int:
    """Run the job or a command; return the exit code."""
    args = sys.argv[1:] if argv is None else argv
    libraries.configure()
    if args and (command := COMMANDS.get(args[0])):
        return command(f"{PROGRAM} {args[0]}", args[1:])
    return job.main(PROGRAM, args)


def program() -> NoReturn:
    """Run the command and end the process, including the worker threads of a job that was stopped.

    A worker may be inside a C library, where Python's own shutdown would abort the process with another code.
    """
    code = main()
    for stream in (sys.stdout, sys.stderr):
        stream.flush()
    if code:
        os._exit(code)
    sys.exit()


if __name__ == "__main__":
    program()
