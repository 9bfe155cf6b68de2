"""What both programs share on the command line: parser, number validators, exceptions to exit codes."""

from __future__ import annotations

import argparse
import io
import math
import os
import select
import signal
import sys
import traceback
from collections.abc import Callable
from typing import Never

from preprocessing import event_log
from preprocessing.errors import DONE, STOPPED, STORAGE_FAILED, UNEXPECTED, USAGE, CommandError
from preprocessing.storage_failures import storage_failure


class SentenceParser(argparse.ArgumentParser):
    """An `ArgumentParser` that reports an error in one sentence, without the usage text."""

    def error(self, message: str) -> Never:
        """Print `message` and exit with code 2."""
        self.exit(USAGE, f"{self.prog}: error: {message} (see {self.prog} --help)\n")


def non_empty(text: str) -> str:
    """Accept any text but an empty one, as an argparse `type`: an unset variable of a shell is no folder."""
    if not text:
        raise argparse.ArgumentTypeError("must not be empty")
    return text


def bounded_int(low: int, high: int | None = None) -> Callable[[str], int]:
    """Return an argparse `type` that accepts integers from `low` to `high`, both included."""
    allowed = f"at least {low}" if high is None else f"from {low} to {high}"

    def parse(text: str) -> int:
        try:
            value = int(text)
        except ValueError:
            raise argparse.ArgumentTypeError(f"must be an integer {allowed}, not {text!r}") from None
        if value < low or (high is not None and value > high):
            raise argparse.ArgumentTypeError(f"must be {allowed}, not {value}")
        return value

    return parse


def bounded_float(
    low: float, high: float | None = None, *, low_is_open: bool = False, high_is_open: bool = False
) -> Callable[[str], float]:
    """Return an argparse `type` that accepts finite numbers from `low` to `high`.

    A bound is included unless it is open. An infinite `low` means no lower bound, `high=None` no upper bound.
    """
    bounds = []
    if low > -math.inf:
        bounds.append(f"{'above' if low_is_open else 'at least'} {low:.12g}")
    if high is not None:
        bounds.append(f"{'below' if high_is_open else 'at most'} {high:.12g}")
    allowed = " and ".join(bounds)

    def parse(text: str) -> float:
        try:
            value = float(text)
        except ValueError:
            value = math.nan
        if not math.isfinite(value):
            raise argparse.ArgumentTypeError(
                f"must be a finite number{allowed and f', {allowed}'}, not {text.strip()!r}"
            )
        above_low = value > low if low_is_open else value >= low
        below_high = high is None or (value < high if high_is_open else value <= high)
        if not (above_low and below_high):
            raise argparse.ArgumentTypeError(f"must be {allowed}, not {text.strip()}")
        return value

    return parse


def add_log_format(parser: argparse.ArgumentParser) -> None:
    """Add the flag `--log-format`."""
    parser.add_argument(
        "--log-format",
        choices=event_log.LOG_FORMATS,
        default=event_log.LOG_FORMATS[0],
        help="text lines and, on a terminal, a progress bar, or one JSON object per line for log collectors "
        "(default: %(default)s)",
    )


def run_command(program: str, command: Callable[[], None], verbose: bool) -> int:
    """Run `command` and return its exit code.

    An exception or SIGTERM becomes the event `error`: one line on stderr, or as JSON on stdout with its exit code.
    With `verbose` the traceback is printed, too.
    """
    # Before anything else: the kernel ignores an unhandled SIGTERM to a container's first process.
    signal.signal(signal.SIGTERM, _interrupt)
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")  # a file name may not be valid text
    try:
        command()
        sys.stdout.flush()
        return DONE
    except (Exception, KeyboardInterrupt) as error:
        if isinstance(error, BrokenPipeError) and _is_stdout_closed():
            return STOPPED  # as after `| head`, whose reader has seen enough
        if verbose:
            traceback.print_exception(error)
        message, exit_code = _describe(error)
    line = f"{program}: error: {' '.join(message.split())}"
    event_log.log_event("error", line, event_log.ERROR, exit_code=exit_code)
    return exit_code


def _is_stdout_closed() -> bool:
    """Return whether nobody reads stdout any more; then discard what is still written to it."""
    poll = select.poll()
    poll.register(sys.stdout.fileno(), 0)
    if not any(events & (select.POLLERR | select.POLLHUP) for _, events in poll.poll(0)):
        return False
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    return True


def _describe(error: BaseException) -> tuple[str, int]:
    """Return the message for the user and the exit code."""
    if isinstance(error, CommandError):
        return error.for_command_line(), error.exit_code
    if isinstance(error, KeyboardInterrupt):
        return "stopped; run the same command again to continue", STOPPED
    if failure := storage_failure(error):
        return f"{failure}; check the path, its permissions and the free space", STORAGE_FAILED
    return f"{type(error).__name__}: {error} (see --verbose)", UNEXPECTED


def _interrupt(signum: int, frame: object) -> Never:
    raise KeyboardInterrupt
