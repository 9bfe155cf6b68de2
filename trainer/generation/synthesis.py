"""What each mode computes, on the tensors of one batch: the API and exported models share it.

The functions run eagerly and in graphs, with any number of clips. They check nothing; their callers do.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

import tensorflow as tf

from trainer import conditioning
from trainer.conditioning import BRIGHTNESS, LOUDNESS, NO_GUIDANCE, Condition, Guidance, Scale
from trainer.dsp.sizes import Size, sizes
from trainer.generation import batches
from trainer.generation.batches import normal_noise
from trainer.generation.brightness import set_brightness
from trainer.generation.loudness import set_loudness
from trainer.models.base import Latents, WaveformVAE
from trainer.run_config import DatasetMetadata


class Sampling(NamedTuple):
    """How to sample from the prior."""

    samples: Size  # length of the clips
    seed: int | tf.Tensor  # of all clips, or `[batch]` int32
    indices: (
        Iterable[int] | tf.Tensor
    )  # `[batch]` int32: the noise of a clip depends on its seed and its index
    temperature: Scale
    guidance: Scale | None  # None or NaN: see `guidance_of`


def sample(
    model: WaveformVAE, metadata: DatasetMetadata, specified: Condition, sampling: Sampling
) -> tf.Tensor:
    """Sample new clips `[batch, samples]`, with what a condition leaves open drawn from training clips."""
    guidance = conditioning.guidance_of(specified, sampling.guidance)
    condition = specified
    if model.capabilities.conditional:
        quantiles = batches.condition_quantiles(sampling.seed, sampling.indices)
        condition = conditioning.complete_condition(metadata, specified, quantiles)
    noise = _latent_noise(model, sampling)
    latents = model.sample(condition, sampling.samples, noise, sampling.temperature, guidance)
    noise = _decode_noise(model, sampling)
    if not model.capabilities.conditional:
        return model.decode(latents, condition, sampling.samples, noise)
    clips = model.synthesize(latents, condition, sampling.samples, noise, NO_GUIDANCE)
    # The brightness that is drawn with a genre is left to the model: a tilt would make it brighter by noise.
    centroid_hz = conditioning.attribute_of(metadata, specified, BRIGHTNESS)
    loudness_db = conditioning.attribute_of(metadata, condition, LOUDNESS)
    clips = set_brightness(clips, centroid_hz, metadata.sample_rate_hz)
    return set_loudness(clips, loudness_db, metadata.sample_rate_hz)


def vary(
    model: WaveformVAE,
    audio: tf.Tensor,
    condition: Condition,
    noise_scale: Scale,
    seed: int | tf.Tensor,
    indices: Iterable[int] | tf.Tensor,
) -> tf.Tensor:
    """Encode clips `[batch, samples]`, add noise to their latents and decode."""
    _, samples = sizes(audio)
    noise = normal_noise(seed, batches.LATENT_NOISE, indices, model.sample_noise_size(samples))
    latents = model.add_noise(model.encode(audio, condition), noise_scale, noise)
    return decode(model, latents, condition, samples)


def interpolate(
    model: WaveformVAE,
    ends: tuple[Latents, Latents],
    conditions: tuple[Condition, Condition],
    position: Scale,
    samples: Size,
) -> tf.Tensor:
    """Decode the latents between two clips, `[batch, samples]`, with the condition of the nearer one."""
    is_start = tf.squeeze(conditioning.as_column(position), axis=1) <= 0.5
    condition = Condition(
        tf.where(is_start, conditions[0].genre, conditions[1].genre),
        tf.where(is_start[:, tf.newaxis], conditions[0].attributes, conditions[1].attributes),
        tf.where(is_start, conditions[0].key, conditions[1].key),
    )
    return decode(model, model.interpolate(*ends, position), condition, samples)


def transfer(
    model: WaveformVAE, audio: tf.Tensor, source: Condition, target: Condition, guidance: Scale
) -> tf.Tensor:
    """Render clips `[batch, samples]` of one condition as another; `guidance` scales the genre."""
    _, samples = sizes(audio)
    # One row for all clips.
    noise = normal_noise(0, batches.COEFFICIENT_NOISE, range(1), model.decode_noise_size(samples))
    scale = Guidance(genre=guidance)
    latents = model.complete(model.encode(audio, source), source, noise)
    latents = model.transfer_style(latents, source, target, scale)
    return model.decode(latents, target, samples, noise, scale)


def extend(model: WaveformVAE, audio: tf.Tensor, condition: Condition, sampling: Sampling) -> tf.Tensor:
    """Continue clips; the result `[batch, samples]` begins with `audio`."""
    guidance = conditioning.guidance_of(condition, sampling.guidance)
    noise = _latent_noise(model, sampling)
    latents = model.extend(audio, condition, sampling.samples, noise, sampling.temperature, guidance)
    return model.decode(latents, condition, sampling.samples, _decode_noise(model, sampling))


def decode(model: WaveformVAE, latents: Latents, condition: Condition, samples: Size) -> tf.Tensor:
    """Decode to `[batch, samples]` with the same noise for all clips, that of `WaveformVAE.reconstruct`."""
    noise = tf.random.stateless_normal([1, model.decode_noise_size(samples)], [0, 0])
    return model.decode(latents, condition, samples, noise)


def _latent_noise(model: WaveformVAE, sampling: Sampling) -> tf.Tensor:
    size = model.sample_noise_size(sampling.samples)
    return normal_noise(sampling.seed, batches.LATENT_NOISE, sampling.indices, size)


def _decode_noise(model: WaveformVAE, sampling: Sampling) -> tf.Tensor:
    """Different noise for each clip."""
    size = model.decode_noise_size(sampling.samples)
    return normal_noise(sampling.seed, batches.COEFFICIENT_NOISE, sampling.indices, size)
