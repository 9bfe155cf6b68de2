"""Objects of a Cloud Storage bucket, for both programs: retries, and conditional writes by generation.

Every request is a single attempt of the client's, and all retries happen here. The client itself resumes a
download without verifying its parts, gives up when a checksum does not match, and tries most writes only once.
"""

from __future__ import annotations

import http.client
import math
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple, TypeVar

import requests
import urllib3
from google.api_core.exceptions import GoogleAPICallError, GoogleAPIError, NotFound, PreconditionFailed
from google.api_core.retry import Retry
from google.auth.exceptions import GoogleAuthError, TransportError
from google.cloud import storage
from google.resumable_media import DataCorruption

from preprocessing.errors import StorageError, UsageError
from preprocessing.storage import credentials
from preprocessing.storage_failures import missing_role

Result = TypeVar("Result")


class GcsObject:
    """The object `gs://bucket/name`, which need not exist.

    Every request starts from the name alone: a client's blob would request the generation that it saw last,
    which is gone once another process has written. `deadline_secs` of a method overrides the environment's.
    """

    def __init__(self, uri: str) -> None:
        bucket, _, self._name = uri.removeprefix("gs://").partition("/")
        with storage_errors(uri):
            self._bucket = connect().bucket(bucket)

    def read(self, deadline_secs: float | None = None) -> tuple[bytes, int] | None:
        """Return the content and its generation, or None if the object does not exist."""
        request_args = single_attempt(deadline_secs)
        return retry_policy(deadline_secs)(lambda: self._read_once(request_args))()

    def write(
        self,
        content: bytes,
        generation: int,
        deadline_secs: float | None = None,
        is_own: Callable[[bytes], bool] | None = None,
    ) -> int:
        """Replace a generation of the object, and return the new one.

        Args:
            content: The new content.
            generation: The generation to replace; 0: the object must not exist.
            deadline_secs: For all attempts together.
            is_own: Whether the bucket's content was written by this caller, in an attempt whose response was
                lost; by default, whether it equals `content`.

        Raises:
            GenerationMismatchError: The object is of another generation, which another writer wrote.
        """
        request_args = single_attempt(deadline_secs)
        is_own = is_own or (lambda current: current == content)

        def upload() -> int:
            blob = self._bucket.blob(self._name)
            blob.upload_from_string(
                content, if_generation_match=generation, checksum="crc32c", **request_args
            )
            return blob.generation

        def current() -> tuple[int, bool]:
            response = self._read_once(request_args)
            if response is None:
                return 0, False
            current_content, current_generation = response
            return current_generation, is_own(current_content)

        return retry_policy(deadline_secs)(lambda: compare_and_swap(upload, current))()

    def delete(self, generation: int, deadline_secs: float | None = None) -> None:
        """Delete that generation of the object."""
        request_args = single_attempt(deadline_secs)

        def attempt() -> None:
            self._bucket.blob(self._name).delete(if_generation_match=generation, **request_args)

        retry_policy(deadline_secs)(attempt)()

    def _read_once(self, request_args: dict[str, Any]) -> tuple[bytes, int] | None:
        blob = self._bucket.blob(self._name)
        try:
            return blob.download_as_bytes(checksum="crc32c", **request_args), blob.generation
        except NotFound:
            return None


def connect() -> storage.Client:
    """Return a client, waiting for credentials that come late as long as for any other request.

    Raises:
        GoogleAPIError, GoogleAuthError: See `storage_errors`.
    """
    wait = credentials.CredentialsWait()
    return retry_policy(on_error=wait.note)(credentials.make_client)()


def await_credentials(*uris: str) -> None:
    """Return when there are credentials for those of `uris` that are on `gs://`.

    Beam looks for credentials once, and remembers that there are none.

    Raises:
        CommandError: There are none, also after retries (exit code 4).
    """
    for uri in uris:
        if uri.startswith("gs://"):
            with storage_errors(uri):
                connect()
            return


class GenerationMismatchError(PreconditionFailed):
    """The object is of another generation than the one to replace, and another writer wrote it."""

    def __init__(self, message: str, generation: int) -> None:
        super().__init__(message)
        self.generation = generation  # the current one; 0: the object does not exist


def compare_and_swap(swap: Callable[[], int], current: Callable[[], tuple[int, bool]]) -> int:
    """Make one attempt at a conditional write, and return the object's generation.

    If the response to a write is lost, the write is retried and then fails because of itself. So when the
    precondition fails and the bucket holds the caller's own content, the write has succeeded.

    Args:
        swap: Writes on the condition of a generation, and returns the new generation.
        current: Returns the current generation (0: none), and whether it is the caller's own write.

    Raises:
        GenerationMismatchError: Another writer wrote the current generation.
    """
    try:
        return swap()
    except PreconditionFailed as error:
        generation, is_own = current()
        if not is_own:
            raise GenerationMismatchError(str(error), generation) from error
        return generation


class TransientError(Exception):
    """An attempt that failed, or must not be made now, and may succeed later."""


class RetrySettings(NamedTuple):
    """How long requests are retried; the environment overrides each as `STORAGE_DEADLINE_SECS` and so on."""

    first_delay_secs: float = 1.0  # upper limit of the first random delay; doubles with each attempt
    longest_delay_secs: float = 32.0  # upper limit of every delay
    deadline_secs: float = 300.0  # after so long without success, a request has failed for good
    connect_secs: float = 10.0  # timeout of connecting
    answer_secs: float = 60.0  # timeout between two bytes of a response
    lease_secs: float = 60.0  # a lease that is not renewed expires after so long


def retry_settings() -> RetrySettings:
    """Return the defaults, overridden by the environment.

    Raises:
        CommandError: A variable is not a positive number (exit code 2).
    """
    overrides = {}
    for field in RetrySettings._fields:
        name = f"STORAGE_{field.upper()}"
        if text := os.environ.get(name):
            try:
                overrides[field] = float(text)
            except ValueError:
                overrides[field] = math.nan
            if not 0 < overrides[field] < math.inf:
                raise UsageError(f"{name} must be a positive number of seconds, not {text}")
    return RetrySettings(**overrides)


def retry_policy(
    deadline_secs: float | None = None, on_error: Callable[[Exception], None] | None = None
) -> Retry:
    """Return exponential back-off with full jitter and a deadline, by default the environment's."""
    settings = retry_settings()
    return Retry(
        predicate=is_transient,
        initial=settings.first_delay_secs,
        maximum=settings.longest_delay_secs,
        multiplier=2.0,
        timeout=deadline_secs or settings.deadline_secs,
        on_error=on_error,
    )


def single_attempt(deadline_secs: float | None = None) -> dict[str, Any]:
    """Return the client's keyword arguments for one attempt: no retry, and timeouts up to the deadline."""
    settings, limit_secs = retry_settings(), deadline_secs or math.inf
    timeout_secs = min(settings.connect_secs, limit_secs), min(settings.answer_secs, limit_secs)
    return {"retry": None, "timeout": timeout_secs}


# What the client's layers raise when a connection breaks or times out, or its data arrive corrupt.
_CONNECTION_ERRORS = (
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
    TransientError,
)


def is_transient(error: Exception) -> bool:
    """Tell whether the same request may succeed later: 408, 429, 5xx, a broken connection, a wrong checksum."""
    if isinstance(error, GoogleAPICallError) and error.code:
        arrived_corrupt = error.code == http.client.BAD_REQUEST and "CRC32C" in str(error)
        return arrived_corrupt or error.code in (408, 429) or error.code >= 500
    return isinstance(error, _CONNECTION_ERRORS) or _is_transient_auth_error(error)


def _is_transient_auth_error(error: Exception) -> bool:
    if not isinstance(error, GoogleAuthError):
        return False
    return error.retryable or credentials.may_come_later(error)


@contextmanager
def storage_errors(uri: str) -> Iterator[None]:
    """Turn the client's errors inside the block into a `CommandError` about `uri` (exit code 4)."""
    try:
        yield
    except (GoogleAPIError, GoogleAuthError, requests.RequestException, *_CONNECTION_ERRORS) as error:
        if role := missing_role(str(error)):
            raise StorageError(f"{uri}: {role}") from error
        raise StorageError(
            f"{uri} cannot be reached: {error}; check its name, your credentials and the network",
        ) from error
