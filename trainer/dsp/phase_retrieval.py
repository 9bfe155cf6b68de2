"""From log-magnitudes to a waveform: phases from their slopes, which go on from what is known of the waveform.

Iterations that look for the nearest consistent spectrogram (Griffin & Lim 1984) are not used: none is near to decoded
magnitudes, and the search loses partials and the beat.
"""

from __future__ import annotations

import tensorflow as tf

from trainer.dsp import phase_gradient
from trainer.dsp.phase_gradient import Phases
from trainer.dsp.sizes import sizes
from trainer.dsp.stft import (
    MAX_LOG_MAGNITUDE,
    MIN_LOG_MAGNITUDE,
    OVERLAP,
    inverse_stft,
    log_full_scale,
    log_magnitudes_of,
    pad_clip,
    stft,
)


def retrieve(log_magnitude: tf.Tensor, noise: tf.Tensor, known: tf.Tensor, is_known: tf.Tensor) -> tf.Tensor:
    """Find a waveform with these magnitudes.

    Args:
        log_magnitude: `[batch, frames, count_bins(hop)]`, as `log_magnitudes` returns.
        noise: `[batch or 1, frames * hop]` standard normal: what has no phase takes that of this noise.
        known: `[batch, samples]`, a waveform.
        is_known: `[batch, samples]` boolean: where the result equals `known`. Whole hops.

    Returns:
        `[batch, samples]` float32, not clipped.
    """
    _, frames, bins = sizes(log_magnitude)
    hop, samples = 2 * bins // OVERLAP, sizes(known)[1]
    known, is_known = pad_clip(known, hop, frames), pad_clip(tf.cast(is_known, tf.float32), hop, frames)
    # Known frames have their own magnitudes and phases, from which others go on.
    known_spectrum = stft(known, hop)
    is_known_frame = tf.reduce_min(tf.signal.frame(is_known, OVERLAP * hop, hop), axis=-1) > 0
    log_magnitude = tf.where(
        is_known_frame[..., tf.newaxis],
        log_magnitudes_of(known_spectrum, hop),
        tf.clip_by_value(log_magnitude, MIN_LOG_MAGNITUDE, MAX_LOG_MAGNITUDE),
    )
    noise_phase = tf.math.angle(stft(pad_clip(noise, hop, frames), hop))[..., :-1]
    given = Phases(noise_phase, tf.math.angle(known_spectrum)[..., :-1], is_known_frame)
    phase = phase_gradient.integrate(log_magnitude, given)
    magnitude = tf.exp(log_magnitude + log_full_scale(hop))
    spectrum = tf.complex(magnitude * tf.cos(phase), magnitude * tf.sin(phase))
    spectrum = tf.pad(spectrum, [[0, 0], [0, 0], [0, 1]])  # silence at half the sample rate
    signal = tf.where(is_known > 0, known, inverse_stft(spectrum, hop))
    half = OVERLAP * hop // 2
    return signal[:, half : half + samples]
