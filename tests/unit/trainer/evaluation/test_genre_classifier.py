import numpy as np
import pytest

from trainer.evaluation.genre_classifier import GenreClassifier


def two_genres(rng, clips=40, patches=5, dim=8, distance=1.5, genres=(3, 7)):
    labels = np.resize(genres, clips)
    centres = np.where(labels == genres[0], -distance / 2, distance / 2)[:, np.newaxis, np.newaxis]
    return (centres + rng.normal(size=(clips, patches, dim))).astype(np.float32), labels


def test_separable_genres_are_distinguished_in_new_clips():
    rng = np.random.default_rng(0)
    classifier = GenreClassifier.fit(*two_genres(rng))
    embeddings, genres = two_genres(rng)
    assert classifier.accuracy(embeddings, genres) == 1.0
    np.testing.assert_array_equal(classifier.predict(embeddings), genres)


def test_shuffled_genres_cannot_be_distinguished():
    rng = np.random.default_rng(1)
    embeddings, genres = two_genres(rng, clips=200)
    classifier = GenreClassifier.fit(embeddings, rng.permutation(genres))
    new, new_genres = two_genres(rng, clips=200)
    assert classifier.accuracy(new, rng.permutation(new_genres)) == pytest.approx(0.5, abs=0.12)


def test_a_clip_is_classified_from_all_its_patches():
    rng = np.random.default_rng(2)
    classifier = GenreClassifier.fit(*two_genres(rng, distance=0.6))
    embeddings, genres = two_genres(rng, clips=200, patches=10, distance=0.6)
    single = classifier.accuracy(embeddings.reshape(2_000, 1, 8), np.repeat(genres, 10))
    assert classifier.accuracy(embeddings, genres) > single + 0.05


def test_a_rare_genre_weighs_as_much_as_a_frequent_one():
    rng = np.random.default_rng(3)
    embeddings, genres = two_genres(rng, clips=200, distance=0.4)
    kept = np.flatnonzero((genres == 3) | (np.arange(200) % 20 == 1))
    classifier = GenreClassifier.fit(embeddings[kept], genres[kept])
    new, _ = two_genres(rng, clips=200, distance=0.4)
    assert np.mean(classifier.predict(new) == 7) == pytest.approx(0.5, abs=0.15)


def test_the_classifier_is_deterministic_and_independent_of_the_scale():
    embeddings, genres = two_genres(np.random.default_rng(4), distance=0.5)
    predicted = GenreClassifier.fit(embeddings, genres).predict(embeddings)
    np.testing.assert_array_equal(GenreClassifier.fit(embeddings, genres).predict(embeddings), predicted)
    scaled = 100 * embeddings + 5
    np.testing.assert_array_equal(GenreClassifier.fit(scaled, genres).predict(scaled), predicted)


def test_a_classifier_needs_two_genres():
    with pytest.raises(ValueError):
        GenreClassifier.fit(np.zeros((4, 2, 3), np.float32), np.zeros(4, int))
