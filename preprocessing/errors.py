"""The exit codes of both programs, and the one exception that carries them to the screen."""

from __future__ import annotations

import argparse
import io
import signal
import sys
import traceback
from collections.abc import Callable
from typing import Never

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


class SentenceParser(argparse.ArgumentParser):
    """An `ArgumentParser` that says what is wrong in one sentence instead of the whole usage."""

    def error(self, message: str) -> Never:
        """Ends the program with exit code 2."""
        self.exit(USAGE, f"{self.prog}: error: {message} (see {self.prog} --help)\n")


def run_command(
    program: str,
    command: Callable[[], None],
    verbose: bool,
    tell: Callable[[str, int], None] | None = None,
) -> int:
    """Runs `command` and turns what it raises, and SIGTERM, into one line and an exit code.

    `tell` is given both; without it the line goes to stderr.
    """
    signal.signal(signal.SIGTERM, _interrupt)  # at once: as a container's first process it would be ignored
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")  # a file's name may be no text
    try:
        command()
        return DONE
    except CommandError as error:
        message, code, cause = str(error), error.exit_code, error
    except KeyboardInterrupt as error:
        message, code, cause = "stopped; run the same command again to go on", STOPPED, error
    except OSError as error:
        message, code, cause = (
            f"{error}; check the path, its permissions and the space",
            STORAGE_FAILED,
            error,
        )
    except Exception as error:
        message, code, cause = f"{type(error).__name__}: {error} (see --verbose)", UNEXPECTED, error
    if verbose:
        traceback.print_exception(cause)
    line = f"{program}: error: {' '.join(message.split())}"
    if tell is None:
        print(line, file=sys.stderr)
    else:
        tell(line, code)
    return code


def _interrupt(signum: int, frame: object) -> Never:
    raise KeyboardInterrupt
