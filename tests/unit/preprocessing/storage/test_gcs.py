"""Conditional writes by generation, also when a response is lost."""

from __future__ import annotations

import pytest
from support.services.faulty_proxy import FaultyProxy

from preprocessing.errors import USAGE, CommandError
from preprocessing.storage.gcs import GcsObject, GenerationMismatchError, retry_settings


@pytest.fixture
def uri(storage_server: str, request: pytest.FixtureRequest) -> str:
    """The URI of an object that does not exist yet."""
    return f"{storage_server}/gcs/{request.node.name}"


def test_a_write_returns_the_generation_that_a_read_returns(uri: str) -> None:
    assert GcsObject(uri).read() is None
    generation = GcsObject(uri).write(b"first", 0)
    assert GcsObject(uri).read() == (b"first", generation)
    replaced = GcsObject(uri).write(b"second", generation)
    assert replaced != generation
    assert GcsObject(uri).read() == (b"second", replaced)


def test_a_write_over_another_generation_fails_and_names_the_current_one(uri: str) -> None:
    generation = GcsObject(uri).write(b"of another", 0)
    for expected in (0, generation + 1):
        with pytest.raises(GenerationMismatchError) as raised:
            GcsObject(uri).write(b"own", expected)
        assert raised.value.generation == generation
    GcsObject(uri).delete(generation)
    with pytest.raises(GenerationMismatchError) as raised:
        GcsObject(uri).write(b"own", generation)
    assert raised.value.generation == 0
    assert GcsObject(uri).read() is None


def test_a_write_whose_response_was_lost_succeeds(uri: str, proxy: FaultyProxy) -> None:
    proxy.planned = ["lost"]
    generation = GcsObject(uri).write(b"own", 0)
    assert proxy.planned == []
    assert GcsObject(uri).read() == (b"own", generation)


def test_an_earlier_write_of_the_same_owner_is_recognized(uri: str) -> None:
    generation = GcsObject(uri).write(b"owner a, first try", 0)
    own = GcsObject(uri).write(b"owner a, second try", 0, is_own=lambda content: b"owner a" in content)
    assert own == generation
    assert GcsObject(uri).read() == (b"owner a, first try", generation)
    with pytest.raises(GenerationMismatchError):
        GcsObject(uri).write(b"owner b", 0, is_own=lambda content: b"owner b" in content)


def test_retry_settings_come_from_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("STORAGE_LEASE_SECS", "7.5")
    assert retry_settings().lease_secs == 7.5


@pytest.mark.parametrize("text", ["soon", "0", "-1", "nan", "inf"])
def test_a_setting_that_is_not_a_positive_number_is_a_usage_error(
    monkeypatch: pytest.MonkeyPatch, text: str
) -> None:
    monkeypatch.setenv("STORAGE_DEADLINE_SECS", text)
    with pytest.raises(CommandError, match="STORAGE_DEADLINE_SECS must be a positive number") as raised:
        retry_settings()
    assert raised.value.exit_code == USAGE
