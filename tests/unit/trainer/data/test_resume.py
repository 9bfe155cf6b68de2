import dataclasses
import functools

import pytest
import tensorflow as tf

from trainer.config import Config
from trainer.data import dataset as datasets
from trainer.data import input_pipeline
from trainer.data.fetch import open_dataset
from trainer.data.input_pipeline import count_steps, training_batches
from trainer.data.resume import unneeded_files

CONFIG = Config(batch_size=4, crop_samples=256, crops_per_clip=2)


@pytest.fixture
def opened(dataset, tmp_path, monkeypatch):
    """Open the dataset, whose 17 or so training clips are shuffled in small buffers, as large datasets are."""
    monkeypatch.setattr(input_pipeline, "SHUFFLE_CLIPS", 2)
    monkeypatch.setattr(input_pipeline, "SHUFFLE_CROPS", 3)
    return open_dataset(str(dataset), tmp_path)


def batches(opened, config, skipped=()):
    source, manifest = opened
    stream = source.add_stream(datasets.files_of_input_shard(manifest, "train"))
    clips = datasets.open_stream(source, stream, manifest, skipped)
    return training_batches([clips], config, manifest, [3])


@pytest.mark.parametrize(
    "config", [CONFIG, dataclasses.replace(CONFIG, crop_samples=0)], ids=["crops", "clips"]
)
def test_files_that_were_used_up_are_skipped_without_a_change_of_any_bit(opened, monkeypatch, config):
    source, manifest = opened
    expected = list(batches(opened, config))
    files, opened_files = datasets.files_of_input_shard(manifest, "train"), set()

    def record(open_file, stream, index):
        opened_files.add(index)
        return open_file(stream, index)

    steps, skipped_counts = count_steps(manifest, config), []
    for step in (0, steps // 2, steps - 1):
        skipped = unneeded_files(manifest, config, 3, 0, step)
        with monkeypatch.context() as patch:
            patch.setattr(source, "open", functools.partial(record, source.open))
            resumed = list(batches(opened, config, skipped).skip(step))
        assert opened_files == set(range(len(files) + 1)) - skipped
        opened_files.clear()
        for one, other in zip(resumed, expected[step:], strict=True):
            tf.debugging.assert_equal(one.audio, other.audio)
            tf.debugging.assert_equal(one.condition.genre, other.condition.genre)
            tf.debugging.assert_equal(one.weight, other.weight)
        skipped_counts.append(len(skipped))
    assert skipped_counts == sorted(skipped_counts)
    assert skipped_counts[0] == 0
    assert skipped_counts[-1] >= 1
    assert unneeded_files(manifest, config, 3, 0, steps) == set(range(len(files)))
