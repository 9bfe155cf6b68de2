import dataclasses
from collections import Counter

import numpy as np
import pytest
from support.tiny_corpus import CLIP_SAMPLES, GENRES

from preprocessing.dataset.keys import KEYS
from preprocessing.errors import BAD_DATA, CommandError
from trainer.conditioning import DROPPED_GENRE, DROPPED_KEY
from trainer.config import Config
from trainer.data import dataset as datasets
from trainer.data.fetch import open_dataset
from trainer.data.input_pipeline import UNCONDITIONAL_RATE, count_steps, training_batches


@pytest.fixture
def opened(dataset, tmp_path):
    return open_dataset(str(dataset), tmp_path)


def examples(batches):
    """Concatenate an epoch's examples in order: audio `[examples, samples]`, genres, attributes, keys."""
    rows = list(batches.as_numpy_iterator())
    real = np.concatenate([row.weight for row in rows]) > 0
    parts = ([row.audio, *row.condition] for row in rows)
    return [np.concatenate(part)[real] for part in zip(*parts, strict=True)]


def test_a_split_has_the_clips_of_the_manifest(opened):
    source, manifest = opened
    rows = list(datasets.read_clips(source, datasets.open_split(source, manifest, "train")))
    assert len(rows) == manifest.clip_count("train")
    for clip in rows:
        assert clip.audio.shape == (CLIP_SAMPLES,)
        assert np.abs(clip.audio).max() <= 1
        assert clip.track_id.decode().startswith(GENRES[clip.condition.genre])
    attributes = np.stack([clip.condition.attributes for clip in rows])
    assert attributes.shape[1] == len(manifest.attributes) == 2  # a second of audio has no tempo
    np.testing.assert_allclose(attributes.mean(axis=0), 0, atol=1e-4)
    np.testing.assert_allclose(attributes.std(axis=0), 1, atol=1e-4)
    keys = Counter(KEYS[clip.condition.key] for clip in rows if clip.condition.key != DROPPED_KEY)
    assert keys == manifest.keys
    assert keys


def test_order_is_a_function_of_seed_and_epoch(opened):
    clips = datasets.open_split(*opened, "train")
    config = Config(batch_size=4, crop_samples=256)

    def order(epoch, seed=0):
        seeded = dataclasses.replace(config, seed=seed)
        return examples(training_batches([clips], seeded, opened[1], [epoch]))[0]

    np.testing.assert_array_equal(order(1), order(1))
    assert not np.array_equal(order(1), order(2))
    assert not np.array_equal(order(1), order(1, seed=1))


def test_crops_are_sections_of_every_clip_at_random_offsets(opened):
    source, manifest = opened
    clips = datasets.open_split(source, manifest, "train")
    whole = np.stack([clip.audio for clip in clips.as_numpy_iterator()])
    config = Config(batch_size=4, crop_samples=300, crops_per_clip=3, gain_db=0.0)
    crops = examples(training_batches([clips], config, manifest, [1]))[0]
    assert len(crops) == 3 * len(whole)
    assert count_steps(manifest, config) == -(-len(crops) // 4)
    windows = np.lib.stride_tricks.sliding_window_view(whole, 300, axis=1)
    origins = [np.argwhere((windows == crop).all(axis=2))[0] for crop in crops]
    counts = np.bincount([clip for clip, _ in origins], minlength=len(whole))
    assert (counts == 3).all()
    assert len({int(start) for _, start in origins}) > len(origins) // 2


def test_a_gain_changes_the_loudness_in_the_condition(opened):
    source, manifest = opened
    clips = datasets.open_split(source, manifest, "train")
    settings = {"batch_size": 4, "crop_samples": 300, "crops_per_clip": 2, "condition_dropout": 0.0}

    def examples_with(gain_db):
        config = Config(gain_db=gain_db, **settings)
        return examples(training_batches([clips], config, manifest, [1]))

    audio, _, attributes, _ = examples_with(0.0)
    louder, _, louder_attributes, _ = examples_with(6.0)
    gains_db = 20 * np.log10(np.abs(louder).max(axis=1) / np.abs(audio).max(axis=1))
    assert gains_db.min() < -2
    assert 2 < gains_db.max() <= 6
    deviations = [manifest.attributes[name].std for name in sorted(manifest.attributes)]
    changes = (louder_attributes - attributes) * deviations
    column = sorted(manifest.attributes).index("loudness_db")
    np.testing.assert_allclose(changes[:, column], gains_db, atol=1e-3)
    np.testing.assert_allclose(np.delete(changes, column, axis=1), 0, atol=1e-5)


def test_whole_clips_keep_their_length_and_the_last_batch_is_padded(opened):
    source, manifest = opened
    clips = datasets.open_split(source, manifest, "train")
    batches = list(training_batches([clips], Config(batch_size=7, crop_samples=0), manifest, [1]))
    real = [int((batch.weight.numpy() > 0).sum()) for batch in batches]
    assert sum(real) == manifest.clip_count("train")
    assert real[:-1] == [7] * (len(batches) - 1)
    assert 0 < real[-1] < 7, "choose a batch size that leaves a remainder"
    for batch in batches:
        assert batch.audio.shape == (7, CLIP_SAMPLES)
        assert batch.position.numpy().tolist() == list(range(7))
        assert batch.weight.numpy().sum() == pytest.approx(1.0)


def test_parts_of_the_condition_are_dropped_at_the_configured_rate(opened):
    clips = datasets.open_split(*opened, "train")

    def conditions(dropout):
        config = Config(batch_size=8, crop_samples=256, crops_per_clip=20, condition_dropout=dropout)
        return examples(training_batches([clips], config, opened[1], [1]))[1:]

    genres, attributes, keys = conditions(0.0)
    assert DROPPED_GENRE not in genres
    has_key = np.mean(keys != DROPPED_KEY)  # some clips have no clear one
    assert np.isfinite(attributes).all()
    genres, attributes, keys = conditions(0.4)
    expected = 0.4 + 0.6 * UNCONDITIONAL_RATE
    assert np.mean(genres == DROPPED_GENRE) == pytest.approx(expected, abs=0.08)
    assert np.isnan(attributes).mean(axis=0) == pytest.approx(expected, abs=0.08)
    assert np.mean(keys != DROPPED_KEY) == pytest.approx(has_key * (1 - expected), abs=0.08)
    unconditional = (genres == DROPPED_GENRE) & np.isnan(attributes).all(axis=1) & (keys == DROPPED_KEY)
    assert unconditional.mean() > UNCONDITIONAL_RATE / 2
    assert set(conditions(1.0)[0]) == {DROPPED_GENRE}
    assert set(conditions(1.0)[2]) == {DROPPED_KEY}


def test_an_empty_split_is_an_error(opened):
    source, manifest = opened
    without_test_split = dataclasses.replace(manifest, shards=manifest.split_shards("train"))
    with pytest.raises(CommandError, match="no clips in its split test") as caught:
        datasets.open_split(source, without_test_split, "test")
    assert caught.value.exit_code == BAD_DATA
