"""What a trained model is judged by: how true its reconstructions are, how real its music, how obedient.

Every table has the baselines in it: PCA at the same latent rate, noise shaped like the corpus, real clips
with random phases, and real held-out clips, which are the floor of every distance.
"""

from __future__ import annotations

import math
from collections.abc import Collection
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import tensorflow as tf

from preprocessing.dataset.manifest import Manifest
from preprocessing.errors import USAGE, CommandError
from preprocessing.features.attributes import measure
from trainer.conditioning import Condition
from trainer.data import dataset
from trainer.dsp import distances, mel
from trainer.evaluation import metrics as scores
from trainer.evaluation.baselines import WindowedPCA, phase_randomized, shaped_noise
from trainer.evaluation.embeddings import Embedding
from trainer.evaluation.genre_classifier import GenreClassifier
from trainer.generation.generator import Generator

CLIPS_AT_ONCE = 8
USUAL_RANGE = 1.5  # standard deviations from the mean within which attributes are asked for
ELBO_KEY = [2**31 - 4, 0]  # of the noise: the same for every evaluation

Row = dict[str, Any]


class Clips(NamedTuple):
    """A set of real clips of the run's format."""

    audio: np.ndarray  # [clips, samples] float32
    condition: Condition  # of each
    genres: np.ndarray  # [clips] str
    track_ids: list[str]


class Evaluator:
    """Holds what all judgements need: real clips, their embeddings, and the seed of what is generated.

    The first embedding is the one that the classifier and the distances to the nearest clip use.
    """

    def __init__(
        self, train: Clips, held_out: Clips, embeddings: list[Embedding], sample_rate_hz: int, seed: int
    ) -> None:
        self.train, self.held_out = train, held_out
        self.embeddings, self.sample_rate_hz, self.seed = embeddings, sample_rate_hz, seed
        self.real = {one.name: one(train.audio, sample_rate_hz) for one in embeddings}
        self.own = embeddings[0].name
        self._held_out = self._embed(held_out.audio)
        genres, counts = np.unique(train.genres, return_counts=True)
        # A genre of which there is one clip cannot be learned.
        self._classes = [str(genre) for genre, clips in zip(genres, counts, strict=True) if clips > 1]

    def reconstruction_quality(self, name: str, music: Generator) -> Row:
        """Reconstructions of the held-out clips by a model."""
        audio, condition = self.held_out.audio, self.held_out.condition
        made, elbo_terms, levels = [], [], []
        for first in range(0, len(audio), CLIPS_AT_ONCE):
            part = slice(first, first + CLIPS_AT_ONCE)
            asked = Condition(*(values[part] for values in condition))
            made.append(music.model.reconstruct(audio[part], asked).numpy())
            elbo_terms.append(_terms(music, audio[part], asked))
            latents = music.model.encode(audio[part], asked)
            levels.append({name: rows.numpy() for name, rows in music.model.level_values(latents).items()})
        log_likelihood, kl = (np.concatenate(parts) for parts in zip(*elbo_terms, strict=True))
        elbo = float(np.mean(log_likelihood - kl.sum(axis=1)))
        samples = audio.shape[1]
        row = self._reconstruction_row(name, np.concatenate(made), music.model.values_per_clip(samples))
        row |= {
            "elbo_nats_per_clip": elbo,
            "log_likelihood_nats_per_clip": float(np.mean(log_likelihood)),
            "bits_per_sample": -elbo / samples / math.log(2),
        }
        for index, name in enumerate(music.model.levels):
            values = np.concatenate([level[name] for level in levels])
            row[f"kl_{name}_nats_per_clip"] = float(np.mean(kl[:, index]))
            row[f"active_units_{name}"] = scores.active_units(values)
        return row

    def reconstruction_quality_of_pca(self, samples_per_value: float) -> Row:
        """PCA on windows, fitted on the training clips, at a model's latent rate or more values than that."""
        samples = self.held_out.audio.shape[1]
        pca = WindowedPCA.fit(self.train.audio, max(1, math.floor(samples_per_value)))
        kept, window_samples = pca.components.shape
        values = math.ceil(samples / window_samples) * kept
        return self._reconstruction_row("PCA", pca.reconstruct(self.held_out.audio), values)

    def _reconstruction_row(self, name: str, made: np.ndarray, values: int) -> Row:
        audio, rate = self.held_out.audio, self.sample_rate_hz
        pair = tf.constant(audio), tf.constant(made.astype(np.float32))
        sizes = distances.window_sizes(rate)
        mels = [mel.log_mel(clips, rate).numpy() for clips in pair]
        return {
            "what": name,
            "samples_per_value": audio.shape[1] / values,
            "snr_db": float(np.mean(distances.snr_db(*pair))),
            "si_sdr_db": float(np.mean(distances.si_sdr_db(audio, made))),
            "stft_distance": float(np.mean(_stft_distances(pair, sizes))),
            "log_mel_distance_db": float(np.mean(np.abs(mels[0] - mels[1]))),
            **self._frechet(self._embed(made)),
        }

    def generation_quality_of_baselines(self, count: int) -> list[Row]:
        """Real held-out clips, the floor, and what is only statistically like music."""
        held_out = self.held_out.audio
        samples = held_out.shape[1]
        noise = shaped_noise(self.train.audio, count, samples, self.seed)
        return [
            self.generation_quality_of("real held-out clips", held_out),
            self.generation_quality_of(
                "real clips with random phases", phase_randomized(held_out, self.seed)
            ),
            self.generation_quality_of("noise shaped like the corpus", noise),
        ]

    def generation_quality(
        self, name: str, music: Generator, count: int, settings: dict[str, float | None]
    ) -> list[Row]:
        """New clips with nothing asked and, of a conditional model, with genres asked in turn."""
        rows = [
            self.generation_quality_of(f"{name}, nothing asked", music.sample(count, self.seed, **settings))
        ]
        if music.model.capabilities.conditional:
            asked = [music.genres[index % len(music.genres)] for index in range(count)]
            made = music.sample(count, self.seed + 1, asked, **settings)
            rows.append(self.generation_quality_of(f"{name}, genres in turn", made))
        return rows

    def generation_quality_of(self, name: str, clips: np.ndarray) -> Row:
        """Clips `[clips, samples]` beside real ones."""
        embedded = self._embed(clips)
        means, real = embedded[self.own].mean(axis=1), self.real[self.own].mean(axis=1)
        return {
            "what": name,
            "clips": len(clips),
            **self._frechet(embedded),
            "diversity": scores.diversity(means),
            "nearest_training_clip": float(np.median(scores.nearest_distances(means, real))),
        }

    def condition_adherence(self, music: Generator, count: int, settings: dict[str, float | None]) -> Row:
        """Whether it does what it is asked: genres as a classifier hears them, and attributes as measured.

        New clips are asked to be what the held-out clips are, one after the other, so that the accuracies on
        both compare; a transfer goes to each of the other genres in turn.
        """
        classes = [genre for genre in self._classes if genre in music.genres]
        chosen = np.flatnonzero(np.isin(self.held_out.genres, classes))
        if not music.model.capabilities.conditional or len(classes) < 2 or not len(chosen):
            return {}
        known = np.isin(self.train.genres, classes)
        numbers = np.array([classes.index(genre) for genre in self.train.genres[known]])
        classifier = GenreClassifier.fit(self.real[self.own][known], numbers)

        def accuracy(embedded: np.ndarray, genres: list[str]) -> float:
            return classifier.accuracy(embedded, np.array([classes.index(genre) for genre in genres]))

        sources = [str(genre) for genre in self.held_out.genres[chosen]]
        asked = [sources[index % len(sources)] for index in range(count)]
        made = music.sample(count, self.seed + 1, asked, **settings)
        targets = [classes[(classes.index(genre) + 1 + n % (len(classes) - 1)) % len(classes)]
                   for n, genre in enumerate(sources)]  # fmt: skip
        originals = self.held_out.audio[chosen]
        moved = music.transfer(originals, targets, sources, guidance=settings.get("guidance"))
        embed = self.embeddings[0]
        return {
            "genres": len(classes),
            "accuracy_of_real_clips": accuracy(self._held_out[self.own][chosen], sources),
            "accuracy_of_new_clips": accuracy(embed(made, self.sample_rate_hz), asked),
            "accuracy_of_transferred_clips": accuracy(embed(moved, self.sample_rate_hz), targets),
            "onset_correlation_of_transferred_clips": float(
                np.mean(scores.onset_correlation(originals, moved, self.sample_rate_hz))
            ),
            **self._attributes(music, count, settings),
        }

    def _attributes(self, music: Generator, count: int, settings: dict[str, float | None]) -> Row:
        """Spearman's correlation of what was asked, spread over the usual range, and what is measured."""
        found = {}
        for name, of in music.metadata.attributes.items():
            spread = USUAL_RANGE * np.linspace(-1, 1, count)
            asked = np.clip(of.mean + of.std * spread, of.low, of.high).astype(np.float32)
            made = music.sample(count, self.seed + 2, attributes={name: asked}, **settings)
            measured = [getattr(measure(clip, self.sample_rate_hz), name) for clip in made]
            found[f"rank_correlation_of_{name}"] = scores.rank_correlation(asked, np.array(measured))
        return found

    def _embed(self, clips: np.ndarray) -> dict[str, np.ndarray]:
        return {one.name: one(clips.astype(np.float32), self.sample_rate_hz) for one in self.embeddings}

    def _frechet(self, embedded: dict[str, np.ndarray]) -> Row:
        def rows(values: np.ndarray) -> np.ndarray:
            return values.reshape(-1, values.shape[-1])

        return {
            f"frechet_{name}": scores.frechet_distance(rows(self.real[name]), rows(values))
            for name, values in embedded.items()
        }


def read_clips(
    music: Generator, folder: Path, manifest: Manifest, split: str, chosen: Collection[str] | None = None
) -> Clips:
    """The clips of a split, all or those with the track ids `chosen`, in a run's own terms.

    Raises:
        CommandError: Their format is not the run's (2), or there are none (3).
    """
    if (manifest.sample_rate_hz, manifest.clip_samples) != (music.sample_rate_hz, music.clip_samples):
        raise CommandError(
            f"--data has clips of {manifest.clip_samples} samples at {manifest.sample_rate_hz} Hz, the run's "
            f"have {music.clip_samples} at {music.sample_rate_hz} Hz: preprocess them alike",
            USAGE,
        )
    every = dataset.open_split(folder, manifest, split).as_numpy_iterator()
    rows = [row for row in every if chosen is None or _track_id(row) in chosen]
    genres = np.array([manifest.genres[row.condition.genre] for row in rows])
    # In the run's own terms: its genres, and standard deviations of the clips that it was trained on.
    known = [str(genre) if genre in music.genres else None for genre in genres]
    attributes = np.stack([row.condition.attributes for row in rows])
    units = {
        name: attributes[:, column] * of.std + of.mean
        for column, (name, of) in enumerate(sorted(manifest.attributes.items()))
        if name in music.metadata.attributes
    }
    condition = music.condition(len(rows), known, units) if music.model.capabilities.conditional else None
    condition = condition or Condition(np.zeros(len(rows), np.int32), attributes)
    return Clips(np.stack([row.audio for row in rows]), condition, genres, list(map(_track_id, rows)))


def _track_id(clip: dataset.Clip) -> str:
    return clip.track_id.decode("utf-8", "replace")


def _terms(music: Generator, audio: np.ndarray, condition: Condition) -> tuple[np.ndarray, np.ndarray]:
    """Log-likelihood `[batch]` and KL `[batch, levels]` of one sample of the ELBO."""
    size = music.model.elbo_noise_size(audio.shape[1])
    noise = tf.random.stateless_normal([len(audio), size], ELBO_KEY)
    elbo_terms = music.model.elbo_terms(tf.constant(audio), condition, noise, tf.constant(1.0))
    return elbo_terms.log_likelihood.numpy(), elbo_terms.kl.numpy()


def _stft_distances(pair: tuple[tf.Tensor, tf.Tensor], sizes: tuple[int, ...]) -> np.ndarray:
    """The STFT distance of each clip; a split at once would not fit into memory."""
    parts = []
    for first in range(0, len(pair[0]), CLIPS_AT_ONCE):
        audio, other = (clips[first : first + CLIPS_AT_ONCE] for clips in pair)
        parts.append(distances.multi_resolution_distance(audio, other, sizes).numpy())
    return np.concatenate(parts)
