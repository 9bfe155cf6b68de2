"""Evaluate a trained model: reconstruction quality, generation quality and condition adherence.

Tables include the baselines: PCA at the same latent rate, the reference model where it fits, noise with the spectrum of
the corpus, real clips with random phases, and real held-out clips, which are the lower bound of every distance.
"""

from __future__ import annotations

import math
from functools import cached_property
from typing import Any

import numpy as np
import tensorflow as tf

from preprocessing.features.attributes import measure
from preprocessing.features.key import find_key
from trainer.conditioning import Condition
from trainer.dsp import distances, mel
from trainer.evaluation import metrics, musical_distances
from trainer.evaluation.baselines import WindowedPCA
from trainer.evaluation.clip_sets import ClipSet
from trainer.evaluation.compared_clips import SamplingSettings
from trainer.evaluation.embeddings import Embedding
from trainer.evaluation.genre_classifier import GenreClassifier
from trainer.generation.generator import Generator

BATCH_CLIPS = 8
ATTRIBUTE_RANGE_STD = 1.5  # standard deviations from the mean up to which attributes are tested
ELBO_KEY = [2**31 - 4, 0]  # of the noise of the ELBO: the same in every evaluation

Row = dict[str, Any]  # of a table; None where too little music is there to measure something


class Evaluator:
    """Measures models and baselines against real clips, whose embeddings it computes once.

    The classifier and the distance to the nearest training clip use the first embedding.
    """

    def __init__(
        self, train: ClipSet, held_out: ClipSet, embeddings: list[Embedding], sample_rate_hz: int, seed: int
    ) -> None:
        self.train, self.held_out = train, held_out
        self.embeddings, self.sample_rate_hz, self.seed = embeddings, sample_rate_hz, seed
        self.train_embeddings = {
            embedding.name: embedding(train.audio, sample_rate_hz) for embedding in embeddings
        }
        self._first_embedding = embeddings[0].name
        self._held_out_embeddings = self._embed(held_out.audio)
        genres, counts = np.unique(train.genres, return_counts=True)
        # A genre with a single clip cannot be learned.
        self._classes = [str(genre) for genre, clips in zip(genres, counts, strict=True) if clips > 1]

    def reconstruction_quality(self, name: str, generator: Generator) -> Row:
        """Measure a model's reconstructions of the held-out clips."""
        audio, condition = self.held_out.audio, self.held_out.condition
        reconstructions, elbo_terms, levels = [], [], []
        for first in range(0, len(audio), BATCH_CLIPS):
            part = slice(first, first + BATCH_CLIPS)
            part_condition = Condition(*(values[part] for values in condition))
            reconstructions.append(generator.model.reconstruct(audio[part], part_condition).numpy())
            elbo_terms.append(_elbo_terms(generator, audio[part], part_condition))
            latents = generator.model.encode(audio[part], part_condition)
            levels.append(
                {name: rows.numpy() for name, rows in generator.model.level_values(latents).items()}
            )
        log_likelihood, kl = (np.concatenate(parts) for parts in zip(*elbo_terms, strict=True))
        elbo = float(np.mean(log_likelihood - kl.sum(axis=1)))
        samples = audio.shape[1]
        row = self._reconstruction_row(
            name, np.concatenate(reconstructions), generator.model.values_per_clip(samples)
        )
        row |= {
            "elbo_nats_per_clip": elbo,
            "log_likelihood_nats_per_clip": float(np.mean(log_likelihood)),
            "bits_per_sample": -elbo / samples / math.log(2),
        }
        for index, name in enumerate(generator.model.levels):
            values = np.concatenate([level[name] for level in levels])
            row[f"kl_{name}_nats_per_clip"] = float(np.mean(kl[:, index]))
            row[f"active_units_{name}"] = metrics.active_units(values)
        return row

    def reconstruction_quality_of_pca(self, samples_per_value: float) -> Row:
        """Measure PCA on windows, fitted on the training clips, with at least a model's latent rate."""
        samples = self.held_out.audio.shape[1]
        pca = WindowedPCA.fit(self.train.audio, max(1, math.floor(samples_per_value)))
        kept, window_samples = pca.components.shape
        values = math.ceil(samples / window_samples) * kept
        return self._reconstruction_row("PCA", pca.reconstruct(self.held_out.audio), values)

    def _reconstruction_row(self, name: str, reconstructions: np.ndarray, values: int) -> Row:
        audio, rate = self.held_out.audio, self.sample_rate_hz
        pair = tf.constant(audio), tf.constant(reconstructions.astype(np.float32))
        sizes = distances.window_sizes(rate)
        mels = [mel.log_mel(clips, rate).numpy() for clips in pair]
        return {
            "name": name,
            "samples_per_value": audio.shape[1] / values,
            "snr_db": float(np.mean(distances.snr_db(*pair))),
            "si_sdr_db": float(np.mean(distances.si_sdr_db(audio, reconstructions))),
            "stft_distance": float(np.mean(_stft_distances(pair, sizes))),
            "log_mel_distance_db": float(np.mean(np.abs(mels[0] - mels[1]))),
            **self._frechet(self._embed(reconstructions)),
        }

    def generation_quality(self, name: str, clips: np.ndarray) -> Row:
        """Compare clips `[clips, samples]` with real ones."""
        embedded = self._embed(clips)
        means, real = (
            embedded[self._first_embedding].mean(axis=1),
            self.train_embeddings[self._first_embedding].mean(axis=1),
        )
        return {
            "name": name,
            "clips": len(clips),
            **self._frechet(embedded),
            "diversity": metrics.diversity(means) if len(means) > 1 else None,
            "nearest_training_clip": float(np.median(metrics.nearest_distances(means, real))),
        }

    @cached_property
    def train_statistics(self) -> np.ndarray:
        """The musical statistics of the training clips, `[clips, statistics]`."""
        return musical_distances.measure_clips(self.train.audio, self.sample_rate_hz)

    def musical_statistics(self, clips: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
        """Measure the musical statistics of sets of clips: `[clips, samples]` -> `[clips, statistics]` each."""
        return {
            name: musical_distances.measure_clips(part, self.sample_rate_hz) for name, part in clips.items()
        }

    def condition_adherence(self, generator: Generator, count: int, settings: SamplingSettings) -> Row:
        """Measure whether clips have the genre, the attributes and the key that they are conditioned on.

        A classifier recognizes genres. Generated clips are conditioned on the genres of the held-out clips in
        turn, so that the accuracies on both can be compared. Targets of a transfer are the other genres in turn.
        """
        classes = [genre for genre in self._classes if genre in generator.genres]
        chosen = np.flatnonzero(np.isin(self.held_out.genres, classes))
        if not generator.model.capabilities.conditional or len(classes) < 2 or not len(chosen):
            return {}
        known = np.isin(self.train.genres, classes)
        labels = np.array([classes.index(genre) for genre in self.train.genres[known]])
        classifier = GenreClassifier.fit(self.train_embeddings[self._first_embedding][known], labels)

        def accuracy(embedded: np.ndarray, genres: list[str]) -> float:
            return classifier.accuracy(embedded, np.array([classes.index(genre) for genre in genres]))

        sources = [str(genre) for genre in self.held_out.genres[chosen]]
        genres = [sources[index % len(sources)] for index in range(count)]
        generated = generator.sample(count, self.seed + 1, genres, **settings)
        targets = [classes[(classes.index(genre) + 1 + index % (len(classes) - 1)) % len(classes)]
                   for index, genre in enumerate(sources)]  # fmt: skip
        originals = self.held_out.audio[chosen]
        transferred = generator.transfer(originals, targets, sources, guidance=settings.get("guidance"))
        embed = self.embeddings[0]
        return {
            "genres": len(classes),
            "accuracy_of_real_clips": accuracy(
                self._held_out_embeddings[self._first_embedding][chosen], sources
            ),
            "accuracy_of_generated_clips": accuracy(embed(generated, self.sample_rate_hz), genres),
            "accuracy_of_transferred_clips": accuracy(embed(transferred, self.sample_rate_hz), targets),
            "onset_correlation_of_transferred_clips": float(
                np.mean(metrics.onset_correlation(originals, transferred, self.sample_rate_hz))
            ),
            **self._attribute_correlations(generator, count, settings),
            **self._key_agreement(generator, count, settings),
        }

    def _attribute_correlations(self, generator: Generator, count: int, settings: SamplingSettings) -> Row:
        """Measure Spearman's rank correlation between the attributes of conditions and of generated clips."""
        row: Row = {}
        for name, statistics in generator.metadata.attributes.items():
            spread = ATTRIBUTE_RANGE_STD * np.linspace(-1, 1, count)
            values = np.clip(statistics.mean + statistics.std * spread, statistics.low, statistics.high)
            values = values.astype(np.float32)
            clips = generator.sample(count, self.seed + 2, attributes={name: values.tolist()}, **settings)
            measured = [getattr(measure(clip, self.sample_rate_hz), name) for clip in clips]
            row[f"rank_correlation_of_{name}"] = metrics.rank_correlation(values, np.array(measured))
        return row

    def _key_agreement(self, generator: Generator, count: int, settings: SamplingSettings) -> Row:
        """Measure how often generated clips have the key of their condition, one of the run's keys after the other."""
        keys = generator.metadata.keys
        if not keys:
            return {}
        asked = [keys[index % len(keys)] for index in range(count)]
        clips = generator.sample(count, self.seed + 3, key=asked, **settings)
        return metrics.key_agreement(asked, [find_key(clip, self.sample_rate_hz).name for clip in clips])

    def _embed(self, clips: np.ndarray) -> dict[str, np.ndarray]:
        return {
            embedding.name: embedding(clips.astype(np.float32), self.sample_rate_hz)
            for embedding in self.embeddings
        }

    def _frechet(self, embedded: dict[str, np.ndarray]) -> Row:
        """Compute the Fréchet distance of each embedding; None where a set has a single patch."""

        def distance(real: np.ndarray, other: np.ndarray) -> float | None:
            rows = [values.reshape(-1, values.shape[-1]) for values in (real, other)]
            return metrics.frechet_distance(*rows) if min(map(len, rows)) > 1 else None

        return {
            f"frechet_{name}": distance(self.train_embeddings[name], values)
            for name, values in embedded.items()
        }


def _elbo_terms(
    generator: Generator, audio: np.ndarray, condition: Condition
) -> tuple[np.ndarray, np.ndarray]:
    """Estimate log-likelihood `[batch]` and KL `[batch, levels]`, in nats per clip, from one sample."""
    size = generator.model.elbo_noise_size(audio.shape[1])
    noise = tf.random.stateless_normal([len(audio), size], ELBO_KEY)
    elbo_terms = generator.model.elbo_terms(tf.constant(audio), condition, noise, tf.constant(1.0))
    return elbo_terms.log_likelihood.numpy(), elbo_terms.kl.numpy()


def _stft_distances(pair: tuple[tf.Tensor, tf.Tensor], sizes: tuple[int, ...]) -> np.ndarray:
    """Measure the STFT distance of each clip, in batches, because a whole split may exceed the memory."""
    parts = []
    for first in range(0, len(pair[0]), BATCH_CLIPS):
        audio, other = (clips[first : first + BATCH_CLIPS] for clips in pair)
        parts.append(distances.multi_resolution_distance(audio, other, sizes).numpy())
    return np.concatenate(parts)
