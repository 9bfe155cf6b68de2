"""The exit codes of both programs, and the one exception that carries them to the screen."""

from __future__ import annotations

DONE = 0
UNEXPECTED = 1  # a fault of ours: everything a user can cause has a code of its own
USAGE = 2  # wrong usage or configuration
BAD_DATA = 3  # bad or missing data
STORAGE_FAILED = 4  # storage failed for good
STOPPED = 75  # stopped on request; the same command again goes on (EX_TEMPFAIL of sysexits.h)


class CommandError(Exception):
    """One sentence for the user, which names what is wrong and what to do, with its exit code."""

    def __init__(self, message: str, exit_code: int) -> None:
        super().__init__(message)
        self.exit_code = exit_code
