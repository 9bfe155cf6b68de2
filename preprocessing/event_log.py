"""Log events of both programs: text lines for a terminal, or one JSON object per line for log collectors.

The JSON keys `time`, `severity` and `message` are those that Google Cloud Logging recognizes. docs/training.md lists
the events, which alerts count. Imports no heavy package: the command line needs the names of the formats.
"""

from __future__ import annotations

import json
import logging
import math
import sys
from datetime import UTC, datetime
from typing import Any

from tqdm import tqdm

LOG_FORMATS = ("text", "json")
INFO, WARNING, ERROR = logging.INFO, logging.WARNING, logging.ERROR
# The event of `Progress`. As text it goes to stderr, as a progress bar does.
PROGRESS = "progress"

_logger = logging.getLogger("gtzan_cvae")


def log_event(event: str, message: str, level: int = INFO, /, **fields: Any) -> None:
    """Log one event.

    Args:
        event: What happened, as an identifier that a log query can match.
        message: What happened, as text for a person.
        level: `INFO`, `WARNING` or `ERROR`.
        fields: Further JSON keys, which the text format omits; NaN and infinity become null.
    """
    _logger.log(level, message, extra={"event": event, "fields": fields})


def configure(
    log_format: str = LOG_FORMATS[0], *, third_party_warnings: bool = True, to_stderr: bool = False
) -> None:
    """Set the format of all later events of this process, one of `LOG_FORMATS`.

    Without `third_party_warnings`, other libraries' loggers report errors only. With `to_stderr`, no JSON line goes to
    stdout, errors at the end of the program included.
    """
    _logger.handlers = [_JsonHandler(to_stderr) if log_format == "json" else _TextHandler()]
    _logger.setLevel(INFO)
    _logger.propagate = False
    if not third_party_warnings:
        # Set on the handler, because some libraries set the level of their own logger.
        errors_only = logging.StreamHandler()
        errors_only.setLevel(ERROR)
        logging.basicConfig(handlers=[errors_only])


def is_json() -> bool:
    """Return whether events are JSON lines, which a progress bar would corrupt."""
    return isinstance(_logger.handlers[0], _JsonHandler)


# Both handlers look up `sys.stdout` for each event, because `retrain` redirects it. They let exceptions propagate,
# as `print` does, so that the program ends when nothing reads its output any more.


class _TextHandler(logging.Handler):
    """Prints messages, above a progress bar if there is one; errors and progress go to stderr."""

    def emit(self, record: logging.LogRecord) -> None:
        message = record.getMessage()
        if record.levelno >= ERROR or vars(record)["event"] == PROGRESS:
            print(message, file=sys.stderr)
        else:
            tqdm.write(f"warning: {message}" if record.levelno >= WARNING else message)


class _JsonHandler(logging.Handler):
    """Prints JSON lines, errors included, to stdout or stderr."""

    def __init__(self, to_stderr: bool) -> None:
        super().__init__()
        self._to_stderr = to_stderr

    def emit(self, record: logging.LogRecord) -> None:
        entry = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "severity": record.levelname,
            "event": vars(record)["event"],
            "message": record.getMessage(),
            **without_nan(vars(record)["fields"]),
        }
        stream = sys.stderr if self._to_stderr else sys.stdout
        print(json.dumps(entry, allow_nan=False, default=str), flush=True, file=stream)


def without_nan(value: Any) -> Any:
    """Replace NaN and infinity by None, at any depth, as strict JSON requires."""
    if isinstance(value, dict):
        return {name: without_nan(part) for name, part in value.items()}
    if isinstance(value, list | tuple):
        return [without_nan(part) for part in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


configure()
