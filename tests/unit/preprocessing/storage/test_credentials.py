"""Credentials that come late are waited for, and those that never come are not."""

import time

import pytest
from google.api_core.exceptions import Forbidden
from google.auth.compute_engine import _metadata
from google.auth.exceptions import DefaultCredentialsError, RefreshError, TransportError
from google.cloud import storage
from support.services.metadata_server import MetadataServer

from preprocessing.commands import libraries
from preprocessing.errors import STORAGE_FAILED, CommandError
from preprocessing.storage import credentials, gcs

METADATA_VARIABLES = (
    "GOOGLE_APPLICATION_CREDENTIALS",
    "KUBERNETES_SERVICE_HOST",
    "NO_GCE_CHECK",
    "GCE_METADATA_HOST",
)


@pytest.fixture
def on_a_node(storage_server, impatient, monkeypatch):
    """Return a function that lets this process find its credentials at a metadata server."""
    for name in METADATA_VARIABLES:
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("CLOUDSDK_CONFIG", "/nonexistent")  # no credentials of the person who runs the tests

    def use(server):
        for name, value in server.environment.items():
            monkeypatch.setenv(name, value)
        # Google's library reads these when it is imported.
        monkeypatch.setattr(_metadata, "_GCE_METADATA_HOST", server.address)
        monkeypatch.setattr(_metadata, "_NO_GCE_CHECK", False)
        libraries.configure()

    return use


def test_late_credentials_are_waited_for_and_the_wait_is_told(storage_server, on_a_node, capsys):
    with MetadataServer(late_secs=2.0) as server:
        on_a_node(server)
        started = time.monotonic()
        assert gcs.GcsObject(f"{storage_server}/credentials/none").read() is None
        assert time.monotonic() - started > 1.9
        assert server.refused > 0
        assert server.tokens > 0
    warnings = [line for line in capsys.readouterr().out.splitlines() if line.startswith("warning: ")]
    assert len(warnings) == 1
    assert "there are no credentials yet, waiting for them" in warnings[0]


def test_credentials_that_never_come_end_with_the_deadline_of_storage(storage_server, on_a_node, monkeypatch):
    monkeypatch.setenv("STORAGE_DEADLINE_SECS", "1")
    with MetadataServer(late_secs=600) as server:
        on_a_node(server)
        with pytest.raises(CommandError, match="cannot be reached") as caught:
            gcs.await_credentials("local", f"{storage_server}/never")
    assert caught.value.exit_code == STORAGE_FAILED
    gcs.await_credentials("local", "")  # local files need none


@pytest.mark.parametrize(
    ("variables", "expected"),
    [
        ({}, False),  # a laptop
        ({"KUBERNETES_SERVICE_HOST": "10.0.0.1"}, True),
        ({"KUBERNETES_SERVICE_HOST": "10.0.0.1", "NO_GCE_CHECK": "true"}, False),
        ({"KUBERNETES_SERVICE_HOST": "10.0.0.1", "GOOGLE_APPLICATION_CREDENTIALS": "missing.json"}, False),
    ],
)
def test_missing_credentials_are_waited_for_only_where_a_metadata_server_is_expected(
    monkeypatch, variables, expected
):
    monkeypatch.setattr(credentials, "detect_gce_residency_linux", lambda: False)
    for name in METADATA_VARIABLES:
        monkeypatch.delenv(name, raising=False)
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    assert gcs.is_transient(DefaultCredentialsError("none")) is expected


def test_an_account_that_may_not_be_used_is_not_waited_for():
    failure = "Failed to retrieve http://m/token from the Google Compute Engine metadata service. Status: {}"
    assert gcs.is_transient(RefreshError(TransportError(failure.format(404))))
    assert not gcs.is_transient(RefreshError(TransportError(failure.format(403))))
    assert not gcs.is_transient(RefreshError("invalid_grant: the token was revoked"))


def test_a_forbidden_request_is_not_retried_and_names_the_missing_role(storage_server, monkeypatch):
    requests = []

    def forbid(*_, **__):
        requests.append(1)
        raise Forbidden(
            "GET https://storage/b/o/a: trainer@p.iam.gserviceaccount.com does not have storage.objects.get access to "
            "the Google Cloud Storage object."
        )

    monkeypatch.setattr(storage.Blob, "download_as_bytes", forbid)
    with pytest.raises(CommandError) as caught, gcs.storage_errors("gs://b/a"):
        gcs.GcsObject(f"{storage_server}/a").read()
    assert len(requests) == 1
    assert caught.value.exit_code == STORAGE_FAILED
    assert str(caught.value) == (
        "gs://b/a: trainer@p.iam.gserviceaccount.com lacks the permission storage.objects.get: grant it "
        "roles/storage.objectViewer on the bucket"
    )
