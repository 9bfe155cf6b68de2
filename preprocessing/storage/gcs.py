"""Objects of a bucket, for both programs: how storage that fails is tried again, and writes by generation.

Every call is one attempt of the client's, and all that is tried again is tried again here: the client would
resume a download without checking what it resumes, give up on a checksum that does not match, and try most
writes only once.
"""

from __future__ import annotations

import http.client
import math
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import NamedTuple, TypeVar

import requests
import urllib3
from google.api_core.exceptions import GoogleAPICallError, GoogleAPIError, NotFound
from google.api_core.retry import Retry
from google.auth.exceptions import GoogleAuthError, TransportError
from google.cloud import storage
from google.resumable_media import DataCorruption

from preprocessing.errors import STORAGE_FAILED, USAGE, CommandError

Result = TypeVar("Result")


class TryLaterError(Exception):
    """An attempt that failed, or must not be made now, and may succeed later."""


class Patience(NamedTuple):
    """How long storage is waited for; `STORAGE_DEADLINE_SECS` and so on in the environment go before."""

    first_delay_secs: float = 1.0  # a random part of it before the second attempt, of twice as much after
    longest_delay_secs: float = 32.0
    deadline_secs: float = 300.0  # one object's attempts all failed for so long: for good
    connect_secs: float = 10.0
    answer_secs: float = 60.0  # without one byte
    lease_secs: float = 60.0  # a lease that is not renewed expires


def patience() -> Patience:
    """The defaults, or what the environment says.

    Raises:
        CommandError: It says no positive number (exit code 2).
    """
    found = {}
    for field in Patience._fields:
        name = f"STORAGE_{field.upper()}"
        if text := os.environ.get(name):
            try:
                found[field] = float(text)
            except ValueError:
                found[field] = math.nan
            if not 0 < found[field] < math.inf:
                raise CommandError(f"{name} must be a positive number of seconds, not {text}", USAGE)
    return Patience(**found)


# What comes out of a connection that ends or stays silent, from the client's several layers.
_BROKEN = (
    ConnectionError,
    TimeoutError,
    http.client.HTTPException,
    requests.ConnectionError,
    requests.Timeout,
    requests.JSONDecodeError,
    requests.exceptions.ChunkedEncodingError,
    urllib3.exceptions.HTTPError,
    TransportError,
    DataCorruption,
    TryLaterError,
)


def is_transient(error: Exception) -> bool:
    """Whether the same request may succeed later: 408, 429, 5xx, what broke on its way, a wrong checksum."""
    if isinstance(error, GoogleAPICallError) and error.code:
        damaged = error.code == http.client.BAD_REQUEST and "CRC32C" in str(error)
        return damaged or error.code in (408, 429) or error.code >= 500
    return isinstance(error, _BROKEN) or (isinstance(error, GoogleAuthError) and error.retryable)


def policy(deadline_secs: float | None = None, on_error: Callable[[Exception], None] | None = None) -> Retry:
    """Exponential back-off with full jitter, and a deadline (the environment's unless it is given)."""
    patient = patience()
    return Retry(
        predicate=is_transient,
        initial=patient.first_delay_secs,
        maximum=patient.longest_delay_secs,
        multiplier=2.0,
        timeout=deadline_secs or patient.deadline_secs,
        on_error=on_error,
    )


def once(deadline_secs: float = math.inf) -> dict:
    """The client's keywords for one attempt, which ends: to connect, and between two bytes of an answer."""
    patient = patience()
    timeout_secs = min(patient.connect_secs, deadline_secs), min(patient.answer_secs, deadline_secs)
    return {"retry": None, "timeout": timeout_secs}


@contextmanager
def failures(uri: str) -> Iterator[None]:
    """Storage that fails for good is one sentence and exit code 4."""
    try:
        yield
    except (GoogleAPIError, GoogleAuthError, requests.RequestException, *_BROKEN) as error:
        raise CommandError(
            f"{uri} cannot be reached: {error}; check its name, your credentials and the network",
            STORAGE_FAILED,
        ) from error


class Object:
    """The object `gs://bucket/name`, which need not exist. A deadline stands for the environment's.

    Each request begins from nothing but the name: a client's blob asks for the generation that it saw last,
    which is gone when another process has written.
    """

    def __init__(self, uri: str) -> None:
        bucket, _, self._name = uri.removeprefix("gs://").partition("/")
        with failures(uri):
            self._bucket = storage.Client().bucket(bucket)

    def read(self, deadline_secs: float | None = None) -> tuple[bytes, int] | None:
        """Its content and generation, or None if it is not there."""

        def attempt(blob: storage.Blob, **limits: object) -> tuple[bytes, int]:
            return blob.download_as_bytes(checksum="crc32c", **limits), blob.generation

        try:
            return self._retried(attempt, deadline_secs)
        except NotFound:
            return None

    def write(self, content: bytes, generation: int, deadline_secs: float | None = None) -> int:
        """Replaces that generation (0: nothing); returns the new one.

        Raises:
            PreconditionFailed: Something else is there; if an answer got lost, perhaps this very content.
        """

        def attempt(blob: storage.Blob, **limits: object) -> int:
            blob.upload_from_string(content, if_generation_match=generation, checksum="crc32c", **limits)
            return blob.generation

        return self._retried(attempt, deadline_secs)

    def delete(self, generation: int, deadline_secs: float | None = None) -> None:
        """Takes that generation away."""

        def attempt(blob: storage.Blob, **limits: object) -> None:
            blob.delete(if_generation_match=generation, **limits)

        self._retried(attempt, deadline_secs)

    def _retried(self, attempt: Callable[..., Result], deadline_secs: float | None) -> Result:
        limits = once(deadline_secs or math.inf)
        return policy(deadline_secs)(lambda: attempt(self._bucket.blob(self._name), **limits))()
