"""Google's application default credentials, also those that come late.

On a fresh node of a cluster, the metadata server that gives out tokens answers some seconds after the first pods start.
Google's libraries then give up, or continue without credentials.
"""

from __future__ import annotations

import os
import time

import google.auth
from google.auth.compute_engine import Credentials as MetadataCredentials
from google.auth.compute_engine._metadata import detect_gce_residency_linux
from google.auth.exceptions import DefaultCredentialsError, GoogleAuthError
from google.auth.transport.requests import Request
from google.cloud import storage

from preprocessing import event_log, progress_file

EVENT_SECS = 30.0  # between two events about the wait
_METADATA_SERVER = "Google Compute Engine metadata service"  # in the messages of Google's library
_FORBIDDEN = "Status: 403"  # the account exists, but may not be used: waiting does not help


class CredentialsWait:
    """Logs, once per `EVENT_SECS`, that credentials are waited for; one object for each wait."""

    def __init__(self) -> None:
        self._logged_at = -EVENT_SECS

    def note(self, error: Exception) -> None:
        """Log the reason of a failed attempt, if it is about credentials."""
        if not isinstance(error, GoogleAuthError) or time.monotonic() - self._logged_at < EVENT_SECS:
            return
        self._logged_at = time.monotonic()
        progress_file.touch()
        reason = " ".join(str(error).split())
        event_log.log_event(
            "waiting_for_credentials",
            f"there are no credentials yet, waiting for them ({reason})",
            event_log.WARNING,
            reason=reason,
        )


def make_client() -> storage.Client:
    """Make one attempt to find credentials, and return a client with them; none for a storage emulator.

    Raises:
        GoogleAuthError: There are none. `may_come_later` tells whether to try again.
    """
    if os.environ.get("STORAGE_EMULATOR_HOST") and not _names_metadata_server():
        return storage.Client()
    credentials, project = google.auth.default(scopes=storage.Client.SCOPE)
    if isinstance(credentials, MetadataCredentials):
        credentials.refresh(
            Request()
        )  # other kinds have what they need; a metadata server may not answer yet
    return storage.Client(project, credentials)


def may_come_later(error: GoogleAuthError) -> bool:
    """Tell whether credentials that are missing now may be there in some seconds."""
    if isinstance(error, DefaultCredentialsError):
        return _expects_metadata_server()
    return _METADATA_SERVER in str(error) and _FORBIDDEN not in str(error)


def _expects_metadata_server() -> bool:
    """Tell whether this process runs where a metadata server provides its credentials: on a cluster or a VM."""
    if os.environ.get("NO_GCE_CHECK") == "true" or os.environ.get("GOOGLE_APPLICATION_CREDENTIALS"):
        return False
    in_cluster = bool(os.environ.get("KUBERNETES_SERVICE_HOST"))
    return in_cluster or _names_metadata_server() or detect_gce_residency_linux()


def _names_metadata_server() -> bool:
    return bool(os.environ.get("GCE_METADATA_HOST"))
