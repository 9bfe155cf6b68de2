"""The exit codes of both programs, and the exceptions that carry them to the user.

    CommandError
        UsageError      2   wrong usage or configuration
        DataError       3   bad or missing data
        StorageError    4   storage failed, also after retries
        StoppedError   75   stopped on request, or by the node or a peer: run it again

A message names an argument of Python in backquotes, `run`; on the command line it is read as the flag, --run.
"""

from __future__ import annotations

import re

DONE = 0
UNEXPECTED = 1  # a bug: every error that a user can cause has a code of its own
USAGE = 2
BAD_DATA = 3
STORAGE_FAILED = 4
STOPPED = 75  # the same command resumes the work (EX_TEMPFAIL of sysexits.h)

_ARGUMENT = re.compile(r"`([a-z][a-z0-9_]*)`")


class CommandError(Exception):
    """An error for the user: one sentence that says what is wrong and what to do. Raise one of its sub-classes."""

    exit_code = UNEXPECTED

    def for_command_line(self) -> str:
        """Return the message with arguments as flags: --noise-scale in place of `noise_scale`."""
        return _ARGUMENT.sub(lambda match: flag(match[1]), str(self))


class UsageError(CommandError):
    """Wrong usage or configuration: an argument is unknown, out of range or contradicts another one."""

    exit_code = USAGE


class DataError(CommandError):
    """Bad or missing data: a dataset, a run or a file is missing, corrupt or empty."""

    exit_code = BAD_DATA


class StorageError(CommandError):
    """Storage failed, also after retries: the disk is full, a permission is missing, or a bucket refuses."""

    exit_code = STORAGE_FAILED


class StoppedError(CommandError):
    """Stopped on request or for want of a device or another worker, with everything saved: the same call resumes."""

    exit_code = STOPPED


def flag(argument: str) -> str:
    """Return the command line's flag of an argument: `--noise-scale` of `noise_scale`."""
    return f"--{argument.replace('_', '-')}"
