"""Which dataset a run reads while a job writes newer versions of it."""

import json
import shutil
from typing import NamedTuple

import pytest
from support.tiny_corpus import WAVE

from preprocessing.errors import BAD_DATA, CommandError
from trainer import run_config
from trainer.data.fetch import find_dataset
from trainer.run_config import RunConfig, metadata_of, resolve
from trainer.training.configuration import agree_on_dataset, find_dataset_of_run

OLDER, NEWER = "1" * 64, "2" * 64


class Worker(NamedTuple):
    """What `agree_on_dataset` uses of a `Distribution`."""

    index: int
    broadcast_digest: str | None = None  # None: that of this worker, which is the chief

    @property
    def is_chief(self):
        return self.index == 0

    def broadcast(self, digest):
        return self.broadcast_digest or digest


@pytest.fixture
def versions(dataset, tmp_path):
    """A folder of two versions, whose digests alone differ."""
    manifest = json.loads((dataset / "dataset.json").read_bytes())
    for digest in (OLDER, NEWER):
        (tmp_path / "versions" / digest).mkdir(parents=True)
        (tmp_path / "versions" / digest / "dataset.json").write_text(
            json.dumps(manifest | {"digest": digest})
        )
    (tmp_path / "versions/LATEST").write_text(NEWER)
    return tmp_path / "versions"


@pytest.fixture
def run(versions, tmp_path):
    """A run that was stopped after some steps, on the older version."""
    (tmp_path / "run/checkpoints").mkdir(parents=True)
    (tmp_path / "run/checkpoints/checkpoint").write_text('model_checkpoint_path: "step-8"\n')
    metadata = metadata_of(find_dataset(str(versions / OLDER))[1], str(versions))
    run_config.save(RunConfig(resolve(WAVE, None), metadata), tmp_path / "run")
    return str(tmp_path / "run")


def digest_of(found):
    uri, manifest = found
    assert uri.endswith(manifest.digest)
    return manifest.digest


def test_a_run_goes_on_with_the_version_it_began_with(versions, run, tmp_path, caplog):
    assert digest_of(find_dataset_of_run(run, str(versions))) == OLDER
    assert "has a newer version, 222222222222" in caplog.text
    assert "goes on with the one that it began with, 111111111111" in caplog.text
    caplog.clear()
    assert digest_of(find_dataset_of_run(str(tmp_path / "new"), str(versions))) == NEWER
    shutil.rmtree(versions / OLDER)
    # What training refuses then, in a sentence that names both.
    assert digest_of(find_dataset_of_run(run, str(versions))) == NEWER
    assert not caplog.text


def test_all_workers_read_the_version_of_the_chief(versions, run, tmp_path):
    assert digest_of(agree_on_dataset(run, str(versions), Worker(0))) == OLDER
    # The run is on the chief's disk alone, or LATEST moved between the starts of two workers.
    elsewhere = str(tmp_path / "elsewhere")
    assert digest_of(agree_on_dataset(elsewhere, str(versions), Worker(1, OLDER))) == OLDER
    assert digest_of(agree_on_dataset(elsewhere, str(versions), Worker(1, NEWER))) == NEWER


def test_a_worker_with_another_dataset_is_refused(versions, run):
    with pytest.raises(CommandError, match="is 222222222222 on worker 1, 333333333333 on worker 0") as raised:
        agree_on_dataset(run, str(versions), Worker(1, "3" * 64))
    assert raised.value.exit_code == BAD_DATA
