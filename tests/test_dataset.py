import dataclasses

import numpy as np
import pytest
from conftest import CLIP_SAMPLES, GENRES

from preprocessing.errors import BAD_DATA, CommandError
from trainer import dataset as datasets
from trainer.config import Config
from trainer.storage import open_dataset


@pytest.fixture
def opened(dataset, tmp_path):
    return open_dataset(str(dataset), tmp_path)


def examples(batches):
    """Everything of an epoch, in order: audio `[examples, samples]`, genres."""
    rows = list(batches.as_numpy_iterator())
    real = np.concatenate([row.weight for row in rows]) > 0
    return np.concatenate([row.audio for row in rows])[real], np.concatenate([row.genre for row in rows])[
        real
    ]


def test_a_split_is_what_the_manifest_says(opened):
    folder, manifest = opened
    rows = list(datasets.open_split(folder, manifest, "train").as_numpy_iterator())
    assert len(rows) == manifest.split_records("train")
    for audio, genre, track_id in rows:
        assert audio.shape == (CLIP_SAMPLES,)
        assert np.abs(audio).max() <= 1
        assert track_id.decode().startswith(GENRES[genre])


def test_order_is_a_function_of_seed_and_epoch(opened):
    clips = datasets.open_split(*opened, "train")
    config = Config(batch_size=4, crop_samples=256)

    def order(epoch, seed=0):
        return examples(datasets.training_batches(clips, dataclasses.replace(config, seed=seed), epoch))[0]

    np.testing.assert_array_equal(order(1), order(1))
    assert not np.array_equal(order(1), order(2))
    assert not np.array_equal(order(1), order(1, seed=1))


def test_crops_are_consecutive_pieces_of_the_clips_each_once(opened):
    folder, manifest = opened
    clips = datasets.open_split(folder, manifest, "train")
    whole = np.stack([audio for audio, _, _ in clips.as_numpy_iterator()])
    config = Config(batch_size=4, crop_samples=300)
    crops, _ = examples(datasets.training_batches(clips, config, 1))
    assert len(crops) == 3 * len(whole)
    assert datasets.count_steps(len(whole), config, CLIP_SAMPLES) == -(-len(crops) // 4)
    windows = np.lib.stride_tricks.sliding_window_view(whole, 300, axis=1)
    places = set()
    for crop in crops:
        clip, start = np.argwhere((windows == crop).all(axis=2))[0]
        places.add((int(clip), int(start)))
    starts = {clip: sorted(start for place, start in places if place == clip) for clip, _ in places}
    assert all(np.diff(found).tolist() == [300, 300] for found in starts.values())
    assert len({found[0] for found in starts.values()}) > 1  # each clip has its own phase


def test_whole_clips_keep_their_length_and_the_last_batch_is_filled_with_nothing(opened):
    folder, manifest = opened
    clips = datasets.open_split(folder, manifest, "train")
    batches = list(datasets.training_batches(clips, Config(batch_size=7, crop_samples=0), 1))
    real = [int((batch.weight.numpy() > 0).sum()) for batch in batches]
    assert sum(real) == manifest.split_records("train")
    assert real[:-1] == [7] * (len(batches) - 1)
    assert 0 < real[-1] < 7, "choose a batch size that leaves a remainder"
    for batch in batches:
        assert batch.audio.shape == (7, CLIP_SAMPLES)
        assert batch.position.numpy().tolist() == list(range(7))
        assert batch.weight.numpy().sum() == pytest.approx(1.0)


def test_some_genres_are_left_open_and_the_others_are_right(opened):
    clips = datasets.open_split(*opened, "train")

    def genres(dropout):
        config = Config(batch_size=8, crop_samples=128, genre_dropout=dropout)
        return examples(datasets.training_batches(clips, config, 1))[1]

    assert datasets.ANY_GENRE not in genres(0.0)
    assert 0.3 < np.mean(genres(0.5) == datasets.ANY_GENRE) < 0.7
    assert set(genres(1.0)) == {datasets.ANY_GENRE}


def test_an_empty_split_is_a_sentence(opened):
    folder, manifest = opened
    without = dataclasses.replace(manifest, shards=manifest.split_shards("train"))
    with pytest.raises(CommandError, match="no clips in its split test") as caught:
        datasets.open_split(folder, without, "test")
    assert caught.value.exit_code == BAD_DATA
