"""Decoded clips in a scratch file."""

import dataclasses
import errno
import os

import numpy as np
import pytest
import tensorflow as tf
from support.tiny_corpus import WAVE

from preprocessing.errors import STORAGE_FAILED, CommandError
from trainer.config import Config
from trainer.data import dataset as datasets
from trainer.data import input_pipeline
from trainer.data.clip_store import ClipStore, decoded_bytes
from trainer.data.fetch import open_dataset
from trainer.data.input_pipeline import evaluation_batches, training_batches

SMALL = Config(**WAVE, batch_size=5)


@pytest.fixture
def opened(dataset, tmp_path):
    return open_dataset(str(dataset), tmp_path)


@pytest.fixture
def manifest(opened):
    return opened[1]


def test_stored_clips_give_the_batches_of_clips_that_are_read(opened, manifest, tmp_path):
    clips = datasets.open_split(*opened, "train")
    store = ClipStore(manifest, manifest.clip_count("train"), tmp_path / "cache")
    assert not list((tmp_path / "cache").iterdir())  # nothing to clean up, however the process ends
    for config in (SMALL, dataclasses.replace(SMALL, crop_samples=0)):
        read = list(training_batches([clips], config, manifest, [2]))
        storing = list(training_batches([store.storing(clips)], config, manifest, [2]))
        for batches in (storing, training_batches([store.stored()], config, manifest, [2])):
            for one, other in zip(read, batches, strict=True):
                tf.nest.map_structure(np.testing.assert_array_equal, one, other)
    stored = store.stored()
    for one, other in zip(*(evaluation_batches(split, 2) for split in (clips, stored)), strict=True):
        tf.nest.map_structure(np.testing.assert_array_equal, one, other)
    assert decoded_bytes(manifest, ("train", "validation", "test")) == 24 * 4 * manifest.clip_samples


@pytest.mark.parametrize(
    ("number", "message"),
    [
        (errno.ENOSPC, "free some space, lower `clip_cache_gb` or choose another `cache_dir`"),
        (errno.EACCES, "check its permissions or choose another `cache_dir`"),
    ],
)
def test_a_disk_that_cannot_take_the_clips_is_an_error_of_storage(
    manifest, tmp_path, monkeypatch, number, message
):
    def fail(*_):
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(os, "posix_fallocate", fail)
    with pytest.raises(CommandError, match=message) as raised:
        ClipStore(manifest, 5, tmp_path)
    assert raised.value.exit_code == STORAGE_FAILED


def test_clips_of_more_samples_are_shuffled_in_smaller_buffers(manifest):
    default = dataclasses.replace(manifest, clip_samples=90_001)
    long = dataclasses.replace(manifest, clip_samples=661_500)
    (clips, crops), (fewer_clips, fewer_crops) = map(input_pipeline._shuffle_sizes, (default, long))
    assert (clips, crops) == (512, 4_096)
    assert fewer_clips * 661_500 <= input_pipeline.SHUFFLE_SAMPLES < (fewer_clips + 1) * 661_500
    assert fewer_crops == pytest.approx(crops * fewer_clips / clips, rel=0.02)
