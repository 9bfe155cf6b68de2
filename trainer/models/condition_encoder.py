"""What is asked of a clip, as the layers of `wave` see it: a vector, and a clock that ticks at the tempo."""

from __future__ import annotations

import math

import numpy as np
import tensorflow as tf

from trainer.conditioning import DROPPED_GENRE, NO_GUIDANCE, TEMPO, Condition, Guidance
from trainer.run_config import DatasetMetadata

layers = tf.keras.layers

CONDITION_DIM = 64
GENRE_DIM = 32
METRE = (1, 2)  # ticks in a beat that the clock shows
CLOCK_DIM = 2 * len(METRE) + 1
CLEAR_COHERENCE = 0.25  # of onsets with the beat: one real clip in ten is as clear
BEAT_MEMORY_SECS = 1.5  # standard deviation of the window in which a beat's phase is taken as steady


class ConditionEncoder(layers.Layer):
    """Genre and attributes -> `[batch, CONDITION_DIM]`. What is left open has a vector of its own."""

    def __init__(self, genres: int) -> None:
        super().__init__()
        self.genres = genres
        self.genre = layers.Embedding(genres + 1, GENRE_DIM)  # one more: for one that is left open
        self.mix = layers.Dense(CONDITION_DIM, activation="tanh")

    def call(self, condition: Condition, guidance: Guidance = NO_GUIDANCE) -> tf.Tensor:
        """`guidance` moves on the line from what is open to what is asked (Ho & Salimans 2022, equation 6).

        From all open to the attributes, and from there to the genre too.
        """
        asked = self._embed(condition)
        if guidance == NO_GUIDANCE:
            return asked
        no_genre = condition._replace(genre=tf.fill(tf.shape(condition.genre), DROPPED_GENRE))
        nothing = no_genre._replace(attributes=tf.fill(tf.shape(condition.attributes), math.nan))
        sounding, unasked = self._embed(no_genre), self._embed(nothing)
        return unasked + guidance.attributes * (sounding - unasked) + guidance.genre * (asked - sounding)

    def _embed(self, condition: Condition) -> tf.Tensor:
        given = tf.logical_not(tf.math.is_nan(condition.attributes))
        values = tf.where(given, condition.attributes, 0.0)
        genre = self.genre(tf.math.floormod(condition.genre, self.genres + 1))  # ANY_GENRE is the last row
        return self.mix(tf.concat([genre, values, tf.cast(given, tf.float32)], axis=-1))


class BeatPhase:
    """Where in the beat each step lies, and how clear the beat is: `[batch, steps, CLOCK_DIM]`.

    The phases of the beat and of its half, each as cosine and sine times its strength, and a one; all zeros
    where the tempo is left open.

    A new clip's clock starts on the beat and is clear. A known clip's follows its onsets: the phase of the
    onset envelope, demodulated at the clip's tempo and smoothed, so that a tempo that is a little off, or
    drifts, stays in step (complex demodulation). Its strength is the part of the onsets that keep the beat:
    much music keeps none, or another than the one that was measured, and must not teach to ignore the clock.
    """

    def __init__(self, metadata: DatasetMetadata, hop_samples: int, frames_per_step: int) -> None:
        self.frame_secs = hop_samples / metadata.sample_rate_hz
        self.frames_per_step = frames_per_step
        names = list(metadata.attributes)
        self.column = names.index(TEMPO) if TEMPO in names else None
        if self.column is not None:
            self.tempo = metadata.attributes[TEMPO]
        reach = round(3 * BEAT_MEMORY_SECS / self.frame_secs)
        offsets = np.arange(-reach, reach + 1) * self.frame_secs / BEAT_MEMORY_SECS
        self._window = np.exp(-0.5 * offsets**2).astype(np.float32)[:, np.newaxis, np.newaxis]

    def from_tempo(self, condition: Condition, steps: int) -> tf.Tensor:
        """The clock of a clip that starts on a clear beat."""
        phase = self._phase(condition, steps * self.frames_per_step)
        return self._features(condition, [(tf.ones_like(phase), multiple * phase) for multiple in METRE])

    def from_audio(
        self, condition: Condition, coefficients: tf.Tensor, steps: int | None = None
    ) -> tf.Tensor:
        """The clock of a clip of which the `[batch, frames, bins]` coefficients are known.

        Beyond them, up to `steps`, it goes on as it went.
        """
        known = coefficients.shape[1]
        frames = steps * self.frames_per_step if steps else known
        phase = self._phase(condition, frames)
        level = tf.math.log(tf.abs(coefficients) + 1e-3)
        rises = tf.nn.relu(level[:, 1:] - level[:, :-1])
        onsets = tf.pad(tf.reduce_mean(rises, axis=-1), [[0, 0], [1, 0]])
        onsets -= tf.reduce_mean(onsets, axis=1, keepdims=True)
        power = self._smooth(tf.square(onsets)) * self._smooth(tf.ones_like(onsets))
        ticks = []
        for multiple in METRE:
            expected = multiple * phase[:, :known]
            real = self._smooth(onsets * tf.cos(expected))
            imaginary = self._smooth(-onsets * tf.sin(expected))
            # At most 1, by the inequality of Cauchy and Schwarz: the part of the onsets that keep the beat.
            coherence = tf.sqrt((tf.square(real) + tf.square(imaginary)) / (power + 1e-9))
            strength, angle = (
                tf.concat([part, tf.repeat(part[:, -1:], frames - known, axis=1)], axis=1)
                for part in (coherence / CLEAR_COHERENCE, tf.math.atan2(imaginary, real + 1e-9))
            )
            ticks.append((strength, multiple * phase + angle))
        return self._features(condition, ticks)

    def _smooth(self, values: tf.Tensor) -> tf.Tensor:
        return tf.nn.conv1d(values[..., tf.newaxis], self._window, stride=1, padding="SAME")[..., 0]

    def _phase(self, condition: Condition, frames: int) -> tf.Tensor:
        if self.column is None:
            return tf.zeros([tf.shape(condition.genre)[0], frames])
        asked = condition.attributes[:, self.column]
        bpm = self.tempo.mean + self.tempo.std * tf.where(tf.math.is_nan(asked), 0.0, asked)
        secs = self.frame_secs * tf.range(frames, dtype=tf.float32)
        return 2 * math.pi * bpm[:, tf.newaxis] / 60 * secs

    def _features(self, condition: Condition, ticks: list[tuple[tf.Tensor, tf.Tensor]]) -> tf.Tensor:
        """From strength and phase of each multiple of the beat, `[batch, frames]` each."""
        ticks = [(strength[:, :: self.frames_per_step], phase[:, :: self.frames_per_step])
                 for strength, phase in ticks]  # fmt: skip
        first = ticks[0][0]
        if self.column is None:
            return tf.zeros([tf.shape(first)[0], first.shape[1], CLOCK_DIM])
        parts = [strength * turn(phase) for strength, phase in ticks for turn in (tf.cos, tf.sin)]
        known = tf.logical_not(tf.math.is_nan(condition.attributes[:, self.column]))
        features = tf.stack([*parts, tf.ones_like(first)], axis=-1)
        return tf.where(known[:, tf.newaxis, tf.newaxis], features, 0.0)
