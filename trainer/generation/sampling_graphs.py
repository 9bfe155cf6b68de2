"""What samples from the priors, as graphs that the API and exported models share.

Rounding decides which of two equally loud points of a spectrogram takes its phase first, and the phases of all points
behind it follow (see `trainer.dsp.phase_gradient`). TensorFlow rounds differently in each graph, and outside of graphs.
So what samples new music is one graph per mode: whoever runs it, for any number of clips of any length.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import tensorflow as tf

from trainer.conditioning import Condition
from trainer.generation import synthesis
from trainer.generation.synthesis import Sampling
from trainer.models.base import WaveformVAE
from trainer.run_config import DatasetMetadata


class SamplingGraphs:
    """`synthesis.sample` and `synthesis.extend` for one model.

    Their arguments are those of the functions, without the model; a `Sampling` is that of `sampling_of`.
    """

    def __init__(self, model: WaveformVAE, metadata: DatasetMetadata) -> None:
        self._model, self._metadata = model, metadata
        # Models of one length need to know it when their graph is built.
        self._clip_samples = None if model.capabilities.any_length else metadata.clip_samples
        of_clips, integers = tf.TensorSpec([None]), tf.TensorSpec([None], tf.int32)
        condition = Condition(integers, tf.TensorSpec([None, len(metadata.attributes)]), integers)
        sampling = Sampling(tf.TensorSpec([], tf.int32), integers, integers, of_clips, of_clips)
        audio = tf.TensorSpec([None, self._clip_samples])
        self.sample = tf.function(self._sample, [condition, sampling], autograph=False)
        self.extend = tf.function(self._extend, [audio, condition, sampling], autograph=False)

    def _sample(self, condition: Condition, sampling: Sampling) -> tf.Tensor:
        return synthesis.sample(self._model, self._metadata, condition, self._with_length(sampling))

    def _extend(self, audio: tf.Tensor, condition: Condition, sampling: Sampling) -> tf.Tensor:
        return synthesis.extend(self._model, audio, condition, self._with_length(sampling))

    def _with_length(self, sampling: Sampling) -> Sampling:
        return sampling if self._clip_samples is None else sampling._replace(samples=self._clip_samples)


def sampling_of(
    samples: int, seed: int, indices: Sequence[int], temperature: float, guidance: float | None
) -> Sampling:
    """Return how to sample the clips of these indices, as tensors; see `Sampling`."""
    count = len(indices)
    return Sampling(
        tf.constant(samples),
        tf.fill([count], tf.cast(seed, tf.int32)),  # larger seeds wrap around
        tf.constant([*indices], tf.int32),
        tf.fill([count], float(temperature)),
        tf.fill([count], math.nan if guidance is None else float(guidance)),
    )
