"""Fixtures: a tiny corpus in GTZAN's layout, its dataset, and a storage server."""

from __future__ import annotations

import os
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest
import storage_emulator
from support.inputs.draft_dataset import DraftDataset
from support.services.faulty_proxy import FaultyProxy
from support.tiny_corpus import GENRES, TINY, write_clip

import trainer  # noqa: F401, it selects TensorFlow's Keras, before TensorFlow is imported
from preprocessing import event_log
from preprocessing.__main__ import main as preprocess
from preprocessing.commands.libraries import EMULATOR_CREDENTIALS

os.environ["TF_CPP_MIN_LOG_LEVEL"] = "3"
# The tests run in as many processes as there are cores, and more threads would only wait for one another.
os.environ["TF_NUM_INTRAOP_THREADS"] = os.environ["TF_NUM_INTEROP_THREADS"] = "1"

import tensorflow as tf

# Two replicas on any machine; TensorFlow divides a processor only before its first use.
tf.config.set_logical_device_configuration(
    tf.config.list_physical_devices("CPU")[0], [tf.config.LogicalDeviceConfiguration()] * 2
)


@pytest.fixture(scope="session")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A corpus of 24 valid clips of two genres."""
    root = tmp_path_factory.mktemp("corpus") / "genres_original"
    for genre in GENRES:
        for number in range(12):
            write_clip(root / genre / f"{genre}.{number:05d}.wav", number + 100 * (genre == "rock"))
    return root


@pytest.fixture(scope="session")
def dataset(corpus: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The corpus as a dataset with clips in every split."""
    output = tmp_path_factory.mktemp("dataset")
    assert preprocess(["--input", str(corpus), "--output", str(output), "--shards", "3", *TINY]) == 0
    return output


@pytest.fixture
def draft(tmp_path: Path) -> DraftDataset:
    """Return a dataset in memory, which a test may corrupt before it writes it."""
    return DraftDataset(tmp_path / "music")


@pytest.fixture(scope="session")
def storage_server() -> Iterator[str]:
    """An object-storage server on loopback, whose address is in the environment."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    settings = {
        "STORAGE_EMULATOR_HOST": f"http://127.0.0.1:{port}",
        "NO_GCE_CHECK": "true",  # do not look for a metadata server
        "GOOGLE_CLOUD_PROJECT": "test",
        "GOOGLE_APPLICATION_CREDENTIALS": str(EMULATOR_CREDENTIALS),
    }
    server = storage_emulator.start("127.0.0.1", port, "music")
    before = {name: os.environ.get(name) for name in settings}
    os.environ.update(settings)
    yield "gs://music"
    for name, value in before.items():
        os.environ.pop(name) if value is None else os.environ.update({name: value})
    server.stop()


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Retry storage requests after hundredths of a second."""
    quick = {"FIRST_DELAY": 0.02, "LONGEST_DELAY": 0.2, "DEADLINE": 60, "CONNECT": 2, "ANSWER": 1}
    for name, secs in quick.items():
        monkeypatch.setenv(f"STORAGE_{name}_SECS", str(secs))


@pytest.fixture
def proxy(storage_server: str, impatient: None, monkeypatch: pytest.MonkeyPatch) -> Iterator[FaultyProxy]:
    """Start a proxy in front of the storage server; no request fails until the test raises `fault_rate`."""
    with FaultyProxy(os.environ["STORAGE_EMULATOR_HOST"], fault_rate=0.0) as proxy:
        monkeypatch.setenv("STORAGE_EMULATOR_HOST", proxy.address)
        yield proxy


@pytest.fixture(autouse=True)
def text_events() -> None:
    """Log events as text, whichever format the test before has set."""
    event_log.configure()
