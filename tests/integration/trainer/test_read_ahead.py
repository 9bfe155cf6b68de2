"""Training on a dataset in a bucket: the same bits whatever is on disk, within the bound, and clear errors."""

import json
import shutil
import subprocess
import sys
import threading
import time
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf
from support.services.faulty_proxy import outage
from support.tiny_corpus import without_figures_and_music

from preprocessing.errors import BAD_DATA, STOPPED, STORAGE_FAILED, USAGE, StorageError
from trainer.__main__ import main as trainer
from trainer.config import Config
from trainer.data.disk_cache import FETCHING, ROOT_NAME
from trainer.data.fetch import find_dataset
from trainer.data.input_pipeline import evaluation_batches
from trainer.data.shards import RemoteShards
from trainer.data.training_data import TrainingData
from trainer.runs.storage import GcsPrefix
from trainer.training import signals
from trainer.training.progress import EpochProgress
from trainer.training.train import train_and_evaluate

SMALL = {"batch_size": 4, "crop_samples": 256, "crops_per_clip": 2, "epochs": 3}


@pytest.fixture(scope="module")
def bucket(dataset, storage_server):
    uri = f"{storage_server}/read-ahead"
    GcsPrefix(uri).upload([path.name for path in dataset.iterdir() if path.is_file()], dataset)
    return uri


@pytest.fixture
def broken(bucket, storage_server, request):
    """A copy of the dataset whose second training shard a test may delete or damage: its URI and the shard's name."""
    uri, prefix = f"{storage_server}/broken/{request.node.name}", GcsPrefix(bucket)
    for name in prefix.list_names():
        GcsPrefix(uri).write(name, prefix.read(name))
    return uri, find_dataset(uri)[1].split_shards("train")[1].name


def tiny_cache_gb(dataset):
    """Return the size of the smallest cache: one training shard and one of another split."""
    shards = find_dataset(str(dataset))[1].shards
    largest = [
        max(shard.bytes for shard in shards if (shard.split == "train") == is_train) for is_train in (0, 1)
    ]
    return (sum(largest) + 1) / 1e9


def read_all(data, cache, given, numbers=(0,), position=(0, 0)):
    """Read the training batches of all epochs, and the test split after the first one, as bytes."""
    uri, manifest = find_dataset(str(data))
    config = Config(**{**SMALL, **given})
    own = range(numbers[0], numbers[-1] + 1)
    with (
        TrainingData(uri, manifest, config, own, cache) as clips,
        clips.begin(*position, lambda: None) as reader,
    ):
        batches = [tf.nest.map_structure(lambda part: part.numpy().tobytes(), next(reader))]
        tests = clips.load_test_clips_at([0, 1]).take([0, 1])
        batches += [tf.nest.map_structure(lambda part: part.numpy().tobytes(), batch) for batch in reader]
        whole = list(evaluation_batches(clips.load_test_clips(lambda: None), 2))  # stored, if there is room
        tf.nest.map_structure(
            np.testing.assert_array_equal, clips.load_test_clips_at([0, 1]).take([0, 1]), tests
        )
        np.testing.assert_array_equal(whole[0].audio, tests.audio)
    assert not scratch_files(cache)
    return batches, tests


def scratch_files(cache):
    """Return the open files without a name in a cache."""
    targets = (str(path.readlink()) for path in Path("/proc/self/fd").iterdir() if path.is_symlink())
    return [target for target in targets if target.startswith(f"{cache}/")]


def files_of(cache):
    return [path for path in (cache / ROOT_NAME).glob("*/*") if not path.parent.name.startswith(FETCHING)]


@pytest.mark.parametrize("input_shards", [1, 2])
def test_the_cache_does_not_change_a_bit_of_the_batches(dataset, bucket, tmp_path, input_shards):
    numbers = range(input_shards)
    given = {"input_shards": input_shards, "clip_cache_gb": 0}
    expected, tests = read_all(dataset, tmp_path / "local", given, numbers)
    tiny_gb = tiny_cache_gb(dataset) * input_shards
    for number, more in enumerate(
        [
            {"clip_cache_gb": 0.1},
            {"cache_disk_gb": tiny_gb},
            {"cache_disk_gb": tiny_gb, "clip_cache_gb": 0.1},
            {},
        ]
    ):
        cache = tmp_path / str(number)
        batches, same_tests = read_all(bucket, cache, {**given, **more}, numbers)
        assert batches == expected, more
        tf.nest.map_structure(np.testing.assert_array_equal, same_tests, tests)
        limit_bytes = more.get("cache_disk_gb", 1) * 1e9
        assert 0 < sum(path.stat().st_size for path in files_of(cache)) <= limit_bytes


def test_each_worker_fetches_only_its_own_training_shards(dataset, bucket, tmp_path):
    given = {"input_shards": 2, "clip_cache_gb": 0, "epochs": 1}
    read_all(bucket, tmp_path, given, numbers=(1,))
    training = [path.name for path in files_of(tmp_path) if path.name.startswith("train")]
    assert training == [find_dataset(bucket)[1].split_shards("train")[1].name]


@pytest.mark.parametrize("clip_cache_gb", [0, 0.1])
def test_reading_resumes_at_any_step(dataset, bucket, tmp_path, clip_cache_gb):
    expected, _ = read_all(dataset, tmp_path / "local", {})
    steps = len(expected) // SMALL["epochs"]
    for epoch, step in ((0, 5), (1, steps), (2, 1)):
        given = {"clip_cache_gb": clip_cache_gb, "cache_disk_gb": tiny_cache_gb(dataset)}
        batches, _ = read_all(bucket, tmp_path / "cache", given, position=(epoch, step))
        assert batches == expected[epoch * steps + step :]


# Reads as a training does, but without TensorFlow, which takes seconds to load.
FETCH = """
import sys
from pathlib import Path
from trainer.data.fetch import find_dataset, open_shards, verify_split
uri, manifest = find_dataset(sys.argv[1])
verify_split(open_shards(uri, manifest, Path(sys.argv[2]), int(sys.argv[3])), manifest, "train")
"""


def test_a_process_that_is_killed_during_a_fetch_leaves_nothing_that_changes_a_bit(
    dataset, bucket, proxy, tmp_path
):
    expected, _ = read_all(dataset, tmp_path / "local", {"clip_cache_gb": 0})
    cache, tiny_gb = tmp_path / "cache", tiny_cache_gb(dataset)
    for kill in range(3):
        with outage(proxy, ("slow",)):
            process = subprocess.Popen(
                [sys.executable, "-c", FETCH, bucket, cache, str(round(tiny_gb * 1e9))]
            )
            deadline = time.monotonic() + 60
            while not list(cache.glob(f"{ROOT_NAME}/{FETCHING}*/*")):
                assert process.poll() is None, "it ended before it was killed"
                assert time.monotonic() < deadline
                time.sleep(0.001)
            time.sleep(0.03 * kill)
            process.kill()
            process.wait()
    assert list(cache.glob(f"{ROOT_NAME}/{FETCHING}*"))
    batches, _ = read_all(bucket, cache, {"clip_cache_gb": 0, "cache_disk_gb": tiny_gb})
    assert batches == expected
    while list(cache.glob(f"{ROOT_NAME}/{FETCHING}*")):  # what is still read ahead for the evaluation
        assert time.monotonic() < deadline
        time.sleep(0.01)


def rows_of(run):
    rows = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    return [{name: value for name, value in row.items() if "sec" not in name} for row in rows]


@pytest.mark.long
def test_a_training_with_the_smallest_cache_equals_a_local_one(dataset, bucket, tmp_path, capsys):
    given = {"preset": "reference", "sample_clips": 2, "epochs": 2, "clip_cache_gb": 0}
    tiny = {**given, "cache_disk_gb": tiny_cache_gb(dataset)}
    with without_figures_and_music():
        for name, data, settings in (("local", dataset, given), ("remote", bucket, tiny)):
            train_and_evaluate(str(data), str(tmp_path / name), settings, 1, tmp_path / f"{name}-cache")
    for row, other in zip(rows_of(tmp_path / "local"), rows_of(tmp_path / "remote"), strict=True):
        assert other == pytest.approx(row, rel=1e-5)
    assert (
        sum(path.stat().st_size for path in files_of(tmp_path / "remote-cache"))
        <= tiny["cache_disk_gb"] * 1e9
    )


def command(data, tmp_path, *flags):
    paths = ["--data", data, "--run", str(tmp_path / "run"), "--cache-dir", str(tmp_path / "cache")]
    with without_figures_and_music():
        return trainer(
            ["train", *paths, "--preset", "reference", "--sample-clips", "2", "--epochs", "1", *flags]
        )


def test_a_missing_shard_ends_a_training_which_can_be_resumed(broken, tmp_path, capsys):
    uri, name = broken
    prefix = GcsPrefix(uri)
    content = prefix.read(name)
    prefix.delete(name)
    assert command(uri, tmp_path) == BAD_DATA
    (line,) = capsys.readouterr().err.splitlines()[-1:]
    assert f"{uri}/{name} is missing or differs from dataset.json: preprocess again" in line
    prefix.write(name, content)
    assert command(uri, tmp_path) == 0


def test_a_bucket_that_refuses_in_the_middle_is_exit_code_4(bucket, tmp_path, monkeypatch, capsys):
    fetch, count = RemoteShards.fetch, []

    def refuse(self, shard):
        count.append(shard.name)
        if len(count) > 1:
            raise StorageError(f"{shard.name}: reader lacks the permission storage.objects.get")
        fetch(self, shard)

    monkeypatch.setattr(RemoteShards, "fetch", refuse)
    assert command(bucket, tmp_path) == STORAGE_FAILED
    assert "lacks the permission storage.objects.get" in capsys.readouterr().err


def test_a_cache_that_is_too_small_is_refused(bucket, tmp_path, capsys):
    assert command(bucket, tmp_path, "--cache-disk-gb", "0.00001") == USAGE
    assert (
        "--cache-disk-gb 1e-05 is too small: 2 shards of --data are open at once" in capsys.readouterr().err
    )


def test_a_slow_bucket_shows_as_waiting_and_a_stop_request_is_obeyed(bucket, tmp_path, monkeypatch, capsys):
    fetch, requests, ended = RemoteShards.fetch, [], threading.Event()

    def slow(self, shard):
        fetch(self, shard)
        if shard.name.startswith("train-00001"):
            assert ended.wait(240)

    class Request(signals.StopRequest):
        def __init__(self):
            super().__init__()
            requests.append(self)

    def stop_when_shown(self):
        show(self)
        if self.done and "waiting for data" in self._note:
            shown.append(self._note)
            requests[0].requested = True

    show, shown = EpochProgress.show_waiting, []
    monkeypatch.setattr(RemoteShards, "fetch", slow)
    monkeypatch.setattr(signals, "StopRequest", Request)
    monkeypatch.setattr(EpochProgress, "show_waiting", stop_when_shown)
    monkeypatch.setattr("trainer.data.input_pipeline.SHUFFLE_CLIPS", 1)
    monkeypatch.setattr("trainer.data.input_pipeline.SHUFFLE_CROPS", 1)
    status = command(bucket, tmp_path, "--batch-size", "1")
    ended.set()
    assert status == STOPPED
    assert "waiting for data" in shown[0]
    assert "of the time" in shown[0]
    assert "checkpoint saved: run the same command to resume" in capsys.readouterr().err
    monkeypatch.undo()
    shutil.rmtree(tmp_path / "cache")
    assert command(bucket, tmp_path, "--batch-size", "1") == 0
