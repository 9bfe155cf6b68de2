"""Post the decision of a retraining to a webhook."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any
from urllib.parse import urlsplit

import requests
from requests.adapters import HTTPAdapter
from urllib3 import Retry

from preprocessing import event_log
from preprocessing.errors import UsageError
from preprocessing.event_log import without_nan

TIMEOUT_SECS = (5, 10)  # of connecting, and between two bytes of the response
RETRIES = Retry(
    total=3,
    backoff_factor=1,  # the waits are 0, 2 and 4 s
    backoff_max=5,
    status_forcelist=(408, 429, 500, 502, 503, 504),
    allowed_methods=None,  # POST, too: the receiver may get a decision twice
    respect_retry_after_header=False,
    raise_on_status=False,
)


def check_url(url: str) -> str:
    """Return `url`, which may be empty for no webhook.

    Raises:
        CommandError: It is not an http or https URL (exit code 2).
    """
    try:
        parts = urlsplit(url)
        is_valid = not url or bool(parts.scheme in ("http", "https") and parts.hostname)
    except ValueError:
        is_valid = False
    if not is_valid:
        raise UsageError("`notify` must be a URL that begins with http:// or https://")
    return url


def message_of(decision: dict[str, Any], models: str) -> dict[str, Any]:
    """Return what is posted about a decision.

    `text` is a sentence, which chat services show. The metrics are those on the first set of held-out clips; there are
    none if nothing was evaluated.
    """
    first = (decision.get("sets") or [{}])[0]
    return without_nan(
        {
            "text": f"{models}: {decision['decision']}: {decision['reason']}",
            "decision": decision["decision"],
            "reason": decision["reason"],
            "models": models,
            "candidate": decision["candidate"],
            "champion": decision["champion"],
            "dataset": decision["dataset"],
            "metrics": {name: first.get(name) for name in ("candidate", "champion", "gains")},
            "time": datetime.now(UTC).isoformat(timespec="seconds"),
        }
    )


def post(url: str, message: dict[str, Any]) -> None:
    """Post a message, with retries. A failure is only logged, and without the URL, which may contain a secret."""
    session = requests.Session()
    for scheme in ("http://", "https://"):
        session.mount(scheme, HTTPAdapter(max_retries=RETRIES))
    try:
        with (
            session,
            session.post(url, json=message, timeout=TIMEOUT_SECS, allow_redirects=False) as response,
        ):
            problem = (
                "" if response.ok and not response.is_redirect else f"HTTP status {response.status_code}"
            )
    except (requests.RequestException, UnicodeError) as error:
        problem = type(error).__name__
    if problem:
        host = urlsplit(url).hostname
        event_log.log_event(
            "notification_failed",
            f"the decision could not be posted to {host} ({problem})",
            event_log.WARNING,
            host=host,
            reason=problem,
        )
