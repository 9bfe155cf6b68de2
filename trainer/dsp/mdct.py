"""The modified discrete cosine transform (MDCT) with a sine window, as matrix products.

It is orthonormal (Princen, Johnson & Bradley 1987): a density of coefficients is a density of samples,
without a Jacobian, and white noise of one is white noise of the same level of the other. As the fixed
transform at both ends of the hierarchical model, it replaces strided and transposed convolutions and their
checkerboard artifacts.
"""

from __future__ import annotations

import functools

import numpy as np
import tensorflow as tf

from trainer.dsp.sizes import Size, sizes


def count_frames(samples: Size, hop: int) -> Size:
    """Frames of `samples` samples: one more than hops, because every sample lies in two frames."""
    return -(-samples // hop) + 1


def analyse(audio: tf.Tensor, hop: int, frames: Size) -> tf.Tensor:
    """`[batch, samples]` -> `[batch, frames, hop]` float32, padded with silence on both sides.

    `frames` is at least `count_frames(samples, hop)`; further frames are silent.
    """
    _, samples = sizes(audio)
    padded = tf.pad(audio, [[0, 0], [hop, frames * hop - samples]])
    halves = tf.reshape(padded, [-1, frames + 1, hop])
    return tf.matmul(tf.concat([halves[:, :-1], halves[:, 1:]], axis=-1), _basis(hop))


def synthesise(coefficients: tf.Tensor, samples: Size) -> tf.Tensor:
    """`[batch, frames, hop]` -> `[batch, samples]`: overlap-add, in which adjacent frames cancel aliasing."""
    hop = coefficients.shape[-1]
    blocks = tf.matmul(coefficients, _basis(hop), transpose_b=True)
    first, second = blocks[..., :hop], blocks[..., hop:]
    overlapped = tf.pad(first, [[0, 0], [0, 1], [0, 0]]) + tf.pad(second, [[0, 0], [1, 0], [0, 0]])
    return tf.reshape(overlapped, [tf.shape(coefficients)[0], -1])[:, hop : hop + samples]


def whole_samples(is_known: tf.Tensor, hop: int, samples: Size) -> tf.Tensor:
    """Tell which samples are known where both frames that they lie in are.

    `[batch, frames]` boolean -> `[batch, samples]` boolean.
    """
    both = tf.logical_and(is_known[:, :-1], is_known[:, 1:])
    return tf.repeat(both, hop, axis=1)[:, :samples]


@functools.cache
def _basis(hop: int) -> np.ndarray:
    """`[2 * hop, hop]` float32: windowed cosines, one column per bin."""
    n, k = np.arange(2 * hop)[:, np.newaxis], np.arange(hop)[np.newaxis, :]
    window = np.sin(np.pi * (n + 0.5) / (2 * hop))
    cosines = np.cos(np.pi / hop * (n + 0.5 + hop / 2) * (k + 0.5))
    return (np.sqrt(2 / hop) * window * cosines).astype(np.float32)
