"""The fixed transform at both ends of `wave`: the modified discrete cosine transform with a sine window.

It is orthonormal (Princen, Johnson & Bradley 1987), so a density of coefficients is a density of samples: no
Jacobian, and white noise of one stays white noise of the same level of the other. No strided or transposed
convolution is needed, so there is no checkerboard.
"""

from __future__ import annotations

import functools

import numpy as np
import tensorflow as tf


@functools.cache
def _basis(hop: int) -> np.ndarray:
    """`[2 * hop, hop]` float32: windowed cosines, one column a bin."""
    n, k = np.arange(2 * hop)[:, np.newaxis], np.arange(hop)[np.newaxis, :]
    window = np.sin(np.pi * (n + 0.5) / (2 * hop))
    cosines = np.cos(np.pi / hop * (n + 0.5 + hop / 2) * (k + 0.5))
    return (np.sqrt(2 / hop) * window * cosines).astype(np.float32)


def count_frames(samples: int, hop: int) -> int:
    """Frames of `samples` samples: one more than hops, since each sample lies in two frames."""
    return -(-samples // hop) + 1


def analyse(audio: tf.Tensor, hop: int, frames: int) -> tf.Tensor:
    """`[batch, samples]` -> `[batch, frames, hop]` float32, with silence before and after.

    `frames` is at least `count_frames`; more are frames of silence.
    """
    samples = audio.shape[-1]
    padded = tf.pad(audio, [[0, 0], [hop, frames * hop - samples]])
    halves = tf.reshape(padded, [-1, frames + 1, hop])
    return tf.matmul(tf.concat([halves[:, :-1], halves[:, 1:]], axis=-1), _basis(hop))


def synthesise(coefficients: tf.Tensor, samples: int) -> tf.Tensor:
    """The inverse: `[batch, frames, hop]` -> `[batch, samples]`; neighbouring frames cancel aliasing."""
    hop = coefficients.shape[-1]
    blocks = tf.matmul(coefficients, _basis(hop), transpose_b=True)
    first, second = blocks[..., :hop], blocks[..., hop:]
    added = tf.pad(first, [[0, 0], [0, 1], [0, 0]]) + tf.pad(second, [[0, 0], [1, 0], [0, 0]])
    return tf.reshape(added, [tf.shape(coefficients)[0], -1])[:, hop : hop + samples]
