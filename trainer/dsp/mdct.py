"""The modified discrete cosine transform (MDCT) with a sine window, by fast Fourier transforms.

It is orthonormal (Princen, Johnson & Bradley 1987): a density of coefficients is a density of samples,
without a Jacobian, and white noise of one is white noise of the same level of the other. As the fixed
transform at both ends of the hierarchical model, it replaces strided and transposed convolutions and their
checkerboard artifacts.

Each block of two hops is folded to one hop, of which a DCT-IV is taken. That is its own inverse, and takes a complex
Fourier transform of half a hop (Duhamel, Mahieux & Petit 1991).
"""

from __future__ import annotations

import functools
from typing import NamedTuple

import numpy as np
import tensorflow as tf

from trainer.dsp.sizes import Size, sizes


def count_frames(samples: Size, hop: int) -> Size:
    """Frames of `samples` samples: one more than hops, because every sample lies in two frames."""
    return -(-samples // hop) + 1


def analyse(audio: tf.Tensor, hop: int, frames: Size) -> tf.Tensor:
    """`[batch, samples]` -> `[batch, frames, hop]` float32, padded with silence on both sides.

    `hop` is even. `frames` is at least `count_frames(samples, hop)`; further frames are silent.
    """
    _, samples = sizes(audio)
    padded = tf.pad(audio, [[0, 0], [hop, frames * hop - samples]])
    halves = tf.reshape(padded, [-1, frames + 1, hop])
    constants = _constants(hop)
    a, b = tf.split(halves[:, :-1] * constants.rising, 2, axis=-1)
    c, d = tf.split(halves[:, 1:] * constants.falling, 2, axis=-1)
    return _dct_iv(tf.concat([-_reversed(c) - d, a - _reversed(b)], axis=-1))


def synthesise(coefficients: tf.Tensor, samples: Size) -> tf.Tensor:
    """`[batch, frames, hop]` -> `[batch, samples]`: overlap-add, in which adjacent frames cancel aliasing."""
    hop = coefficients.shape[-1]
    constants = _constants(hop)
    first, second = tf.split(_dct_iv(coefficients), 2, axis=-1)
    rising = tf.concat([second, -_reversed(second)], axis=-1) * constants.rising
    falling = tf.concat([-_reversed(first), -first], axis=-1) * constants.falling
    overlapped = tf.pad(rising, [[0, 0], [0, 1], [0, 0]]) + tf.pad(falling, [[0, 0], [1, 0], [0, 0]])
    return tf.reshape(overlapped, [tf.shape(coefficients)[0], -1])[:, hop : hop + samples]


def whole_samples(is_known: tf.Tensor, hop: int, samples: Size) -> tf.Tensor:
    """Tell which samples are known where both frames that they lie in are.

    `[batch, frames]` boolean -> `[batch, samples]` boolean.
    """
    both = tf.logical_and(is_known[:, :-1], is_known[:, 1:])
    return tf.repeat(both, hop, axis=1)[:, :samples]


def _dct_iv(values: tf.Tensor) -> tf.Tensor:
    """The orthonormal DCT-IV of the last axis, whose size is even and known."""
    size = values.shape[-1]
    pairs = tf.reshape(values, [*sizes(values)[:-1], size // 2, 2])
    twiddles = _constants(size).twiddles
    spectrum = tf.signal.fft(tf.complex(pairs[..., 0], _reversed(pairs[..., 1])) * twiddles) * twiddles
    parts = tf.stack([tf.math.real(spectrum), -_reversed(tf.math.imag(spectrum))], axis=-1)
    return tf.reshape(parts, sizes(values))


def _reversed(values: tf.Tensor) -> tf.Tensor:
    return tf.reverse(values, axis=[-1])


class _Constants(NamedTuple):
    rising: np.ndarray  # [hop] float32, the window's first half
    falling: np.ndarray  # [hop] float32, its second half
    twiddles: np.ndarray  # [hop / 2] complex64


@functools.cache
def _constants(hop: int) -> _Constants:
    window = np.sin(np.pi * (np.arange(2 * hop) + 0.5) / (2 * hop)).astype(np.float32)
    # The square of each is applied, so that of the scale is sqrt(2 / hop).
    twiddles = (2 / hop) ** 0.25 * np.exp(-1j * np.pi * (8 * np.arange(hop // 2) + 1) / (8 * hop))
    return _Constants(window[:hop], window[hop:], twiddles.astype(np.complex64))
