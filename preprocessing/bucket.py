"""Single objects of a bucket, for what Beam's file systems cannot do: writes that depend on a generation."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import requests
from google.api_core.exceptions import GoogleAPIError
from google.auth.exceptions import GoogleAuthError
from google.cloud import storage

from preprocessing.errors import STORAGE_FAILED, CommandError


def blob(uri: str) -> storage.Blob:
    """The object `gs://bucket/name`, which need not exist."""
    bucket, _, name = uri.removeprefix("gs://").partition("/")
    with failures(uri):
        return storage.Client().bucket(bucket).blob(name)


@contextmanager
def failures(uri: str) -> Iterator[None]:
    """Storage that still fails after the client's retries is one sentence and exit code 4."""
    try:
        yield
    except (GoogleAPIError, GoogleAuthError, requests.RequestException) as error:
        raise CommandError(
            f"{uri} cannot be reached: {error}; check its name, your credentials and the network",
            STORAGE_FAILED,
        ) from error
