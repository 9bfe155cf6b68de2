"""Beat features: where in the beat each latent step lies, at the tempo of the condition."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import NamedTuple

import numpy as np
import tensorflow as tf

from preprocessing.features.beat import BEAT_MULTIPLES, CLEAR_COHERENCE, WINDOW_SECS
from trainer.conditioning import BEAT_CLARITY, CLEAR_BEAT, TEMPO, Condition, attribute_of
from trainer.dsp.sizes import Size, sizes
from trainer.run_config import DatasetMetadata

BEAT_DIM = 2 * len(BEAT_MULTIPLES) + 1


class _Phase(NamedTuple):
    """Strength and phase of one multiple of the beat."""

    strength: tf.Tensor  # [batch, frames]
    # [batch, frames] float64: in float32, last bits of sines depend on the size of the batch, because TensorFlow
    # computes the last elements of a tensor in another way. The prior and the phases of a clip magnify them.
    radians: tf.Tensor


class BeatPhase:
    """Computes beat features `[batch, steps, BEAT_DIM]`: the input from which the sequence prior learns the tempo.

    For each of `BEAT_MULTIPLES` the cosine and the sine of its phase, times its strength, and last a constant
    1; all zeros where the condition has no tempo.

    A new clip starts on the beat, and its strength is the condition's clarity of the beat times `emphasis`, or 1 if
    that is dropped: samples of the prior lose a part of the beat that it is given. In a known clip the phase is that
    of the onset strength, demodulated at the clip's tempo and smoothed (complex demodulation), so that it follows a
    tempo that is slightly wrong or drifts. Its strength is the share of the onsets that lie on the beat: much music
    has no steady beat, or another tempo than the measured one, and the prior must not learn from such clips to ignore
    the phase. The mean strength over a clip is about the clarity that preprocessing measures
    (`preprocessing.features.beat`).
    """

    def __init__(
        self, metadata: DatasetMetadata, hop_samples: int, frames_per_step: int, emphasis: float
    ) -> None:
        self.metadata = metadata
        self.emphasis = emphasis
        self.frame_secs = hop_samples / metadata.sample_rate_hz
        self.frames_per_step = frames_per_step
        names = list(metadata.attributes)
        self.tempo_column = names.index(TEMPO) if TEMPO in names else None
        if self.tempo_column is not None:
            self.tempo = metadata.attributes[TEMPO]
        reach = round(3 * WINDOW_SECS / self.frame_secs)
        offsets = np.arange(-reach, reach + 1) * self.frame_secs / WINDOW_SECS
        self._window = np.exp(-0.5 * offsets**2).astype(np.float32)[:, np.newaxis, np.newaxis]

    def from_tempo(self, condition: Condition, steps: Size) -> tf.Tensor:
        """Features of a new clip: on the beat at its start, as strong as the beat is clear."""
        phase = self._phase_at_tempo(condition, steps * self.frames_per_step)
        clarity = attribute_of(self.metadata, condition, BEAT_CLARITY)[:, tf.newaxis]  # [batch, 1]
        strength = tf.where(tf.math.is_nan(clarity), CLEAR_BEAT, self.emphasis * clarity)
        strength *= tf.ones(tf.shape(phase))
        return self._features(condition, [_Phase(strength, multiple * phase) for multiple in BEAT_MULTIPLES])

    def from_audio(
        self, condition: Condition, coefficients: tf.Tensor, steps: Size | None = None
    ) -> tf.Tensor:
        """Features of a known clip, `coefficients` `[batch, frames, bins]`.

        Where `steps` reach beyond it, the last phase offset and strength continue.
        """
        _, known_frames, _ = sizes(coefficients)
        frames = known_frames if steps is None else steps * self.frames_per_step
        phase = self._phase_at_tempo(condition, frames)
        onsets = _onset_strength(coefficients)
        power = self._smooth(tf.square(onsets)) * self._smooth(tf.ones_like(onsets))
        phases = []
        for multiple in BEAT_MULTIPLES:
            expected = multiple * phase[:, :known_frames]
            real = self._smooth(onsets * _in_float32(tf.cos, expected))
            imaginary = self._smooth(-onsets * _in_float32(tf.sin, expected))
            # In [0, 1] by the Cauchy-Schwarz inequality.
            coherence = tf.sqrt((tf.square(real) + tf.square(imaginary)) / (power + 1e-9))
            strength, offset = (
                tf.concat([values, tf.repeat(values[:, -1:], frames - known_frames, axis=1)], axis=1)
                for values in (coherence / CLEAR_COHERENCE, _angle(imaginary, real))
            )
            phases.append(_Phase(strength, multiple * phase + offset))
        return self._features(condition, phases)

    def steps_per_beat(self, condition: Condition) -> tf.Tensor:
        """Return the length of a beat in steps, `[batch]`; NaN where the condition has no tempo."""
        tempo = attribute_of(self.metadata, condition, TEMPO)
        return 60.0 / tempo / (self.frame_secs * self.frames_per_step)

    def _smooth(self, values: tf.Tensor) -> tf.Tensor:
        """Gaussian-weighted sums over time, `[batch, frames]` -> the same shape."""
        return tf.nn.conv1d(values[..., tf.newaxis], self._window, stride=1, padding="SAME")[..., 0]

    def _phase_at_tempo(self, condition: Condition, frames: Size) -> tf.Tensor:
        """`[batch, frames]` radians from the clip's start, float64; any value where the tempo is dropped."""
        if self.tempo_column is None:
            return tf.zeros([tf.shape(condition.genre)[0], frames], tf.float64)
        tempo = condition.attributes[:, self.tempo_column]
        bpm = self.tempo.mean + self.tempo.std * tf.where(tf.math.is_nan(tempo), 0.0, tempo)
        secs = self.frame_secs * tf.range(frames, dtype=tf.float64)
        return 2 * math.pi / 60 * tf.cast(bpm, tf.float64)[:, tf.newaxis] * secs

    def _features(self, condition: Condition, phases: list[_Phase]) -> tf.Tensor:
        """One phase per multiple of the beat -> `[batch, steps, BEAT_DIM]`, from each step's first frame."""
        phases = [_Phase(*(values[:, :: self.frames_per_step] for values in phase)) for phase in phases]
        first = phases[0].strength
        if self.tempo_column is None:
            return tf.zeros([*sizes(first), BEAT_DIM])
        parts = [
            phase.strength * _in_float32(function, phase.radians)
            for phase in phases
            for function in (tf.cos, tf.sin)
        ]
        has_tempo = tf.logical_not(tf.math.is_nan(condition.attributes[:, self.tempo_column]))
        features = tf.stack([*parts, tf.ones_like(first)], axis=-1)
        return tf.where(has_tempo[:, tf.newaxis, tf.newaxis], features, 0.0)


def _in_float32(function: Callable[[tf.Tensor], tf.Tensor], radians: tf.Tensor) -> tf.Tensor:
    return tf.cast(function(radians), tf.float32)


def _angle(imaginary: tf.Tensor, real: tf.Tensor) -> tf.Tensor:
    """Radians of float32 parts, in float64."""
    return tf.math.atan2(tf.cast(imaginary, tf.float64), tf.cast(real, tf.float64) + 1e-9)


def _onset_strength(coefficients: tf.Tensor) -> tf.Tensor:
    """Mean rise of the log-magnitudes, without its mean: `[batch, frames, bins]` -> `[batch, frames]`."""
    level = tf.math.log(tf.abs(coefficients) + 1e-3)
    rises = tf.nn.relu(level[:, 1:] - level[:, :-1])
    onsets = tf.pad(tf.reduce_mean(rises, axis=-1), [[0, 0], [1, 0]])
    return onsets - tf.reduce_mean(onsets, axis=1, keepdims=True)
