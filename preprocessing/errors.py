"""The exit codes of both programs, and the exception that carries one to the user."""

from __future__ import annotations

DONE = 0
UNEXPECTED = 1  # a bug: every error that a user can cause has a code of its own
USAGE = 2  # wrong usage or configuration
BAD_DATA = 3  # bad or missing data
STORAGE_FAILED = 4  # storage failed, also after retries
STOPPED = 75  # stopped on request; the same command resumes the work (EX_TEMPFAIL of sysexits.h)


class CommandError(Exception):
    """An error for the user: one sentence that says what is wrong and what to do, and an exit code."""

    def __init__(self, message: str, exit_code: int) -> None:
        super().__init__(message)
        self.exit_code = exit_code
