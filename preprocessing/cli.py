"""What the command lines of both programs share: a parser that answers in one sentence, and the exit codes."""

from __future__ import annotations

import argparse
import io
import signal
import sys
import traceback
from collections.abc import Callable
from typing import Never

from preprocessing.errors import DONE, STOPPED, STORAGE_FAILED, UNEXPECTED, USAGE, CommandError


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
