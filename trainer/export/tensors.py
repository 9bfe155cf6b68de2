"""Inputs and outputs of the signatures: their names, shapes, types, units, and the checks of their values."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, NamedTuple

import tensorflow as tf

from preprocessing.dataset.keys import KEYS
from trainer import conditioning, config
from trainer.conditioning import DROPPED_GENRE, DROPPED_KEY, Condition
from trainer.generation import options
from trainer.models.base import WaveformVAE
from trainer.run_config import DatasetMetadata

AUDIO, SAMPLES, SEED, INDEX = "audio", "samples", "seed", "index"
TEMPERATURE, GUIDANCE, NOISE_SCALE, POSITION = "temperature", "guidance", "noise_scale", "position"
GENRE, SOURCE_GENRE, KEY = "genre", "source_genre", "key"
UNITS = {
    "_db": "dB relative to full scale",
    "_hz": "Hz",
    "_bpm": "beats per minute",
}  # of attributes, by suffix

Tensors = Mapping[str, tf.Tensor]


class Field(NamedTuple):
    """One input or output of a signature; its first axis is the clip."""

    dtype: tf.DType
    shape: tuple[int | None, ...]  # None: any size
    description: str  # with the range
    unit: str | None = None
    default: Any = None  # what the API assumes; None: it requires a value
    limits: tuple[float, float] | None = None  # of the values; a NaN is accepted if it is the default

    def spec(self, name: str) -> tf.TensorSpec:
        """Return the specification of the tensor."""
        return tf.TensorSpec(self.shape, self.dtype, name)

    def check(self, name: str, values: tf.Tensor) -> None:
        """Make the graph fail for values beyond the limits."""
        if self.limits is None:
            return
        low, high = self.limits
        accepts_nan = self.default is not None and math.isnan(self.default)
        inside = (values >= low) & (values <= high) | (tf.math.is_nan(values) & accepts_nan)
        message = f"{name} must be {'NaN or ' if accepts_nan else ''}from {low:g} to {high:g}"
        tf.debugging.assert_equal(inside, True, message=message)

    def to_dict(self) -> dict[str, Any]:
        """Describe the field in JSON, which has no NaN: the string "NaN" stands for it."""
        described = {"dtype": self.dtype.name, "shape": self.shape, "description": self.description}
        is_nan = isinstance(self.default, float) and math.isnan(self.default)
        optional = {"unit": self.unit, "default": "NaN" if is_nan else self.default}
        return described | {key: value for key, value in optional.items() if value is not None}


class Fields:
    """The fields that a model's signatures are composed of, and their conversion to what models take."""

    def __init__(self, model: WaveformVAE, metadata: DatasetMetadata) -> None:
        self._metadata = metadata
        self._conditional = model.capabilities.conditional
        self._any_length = model.capabilities.any_length
        self._smallest_samples = model.smallest_samples

    def clip(self, description: str) -> Field:
        """A waveform per clip."""
        length = None if self._any_length else self._metadata.clip_samples
        rate = f"{self._metadata.sample_rate_hz} samples per second"
        return Field(tf.float32, (None, length), f"{description}, {rate}, in [-1, 1]", "full scale")

    def genre(self, name: str = GENRE, required: bool = False) -> dict[str, Field]:
        """The name of a genre; nothing for a model that is not conditional."""
        if not self._conditional:
            return {}
        known = ", ".join(self._metadata.genres)
        field = _scalar(tf.string, f"one of {known}; empty: not specified", default=None if required else "")
        return {name: field}

    def condition(self) -> dict[str, Field]:
        """A genre, all attributes and a key; nothing for a model that is not conditional."""
        if not self._conditional:
            return {}
        attributes = {
            name: _scalar(
                tf.float32,
                f"from {conditioning.range_of(statistics)}; NaN: not specified",
                next((unit for suffix, unit in UNITS.items() if name.endswith(suffix)), None),
                math.nan,
            )
            for name, statistics in self._metadata.attributes.items()
        }
        known = ", ".join(self._metadata.keys)
        key = {KEY: _scalar(tf.string, f"one of {known}; empty: not specified", default="")} if known else {}
        return {**self.genre(), **attributes, **key}

    def samples(self) -> dict[str, Field]:
        """The length of the clips; nothing for a model that supports one length only."""
        if not self._any_length:
            return {}
        description = (
            f"length, {self._metadata.sample_rate_hz} per second, the same for all clips of a request; "
            f"at least {self._smallest_samples}; 0: {self._metadata.clip_samples}"
        )
        return {SAMPLES: _scalar(tf.int32, description, "samples", 0)}

    def noise(self) -> dict[str, Field]:
        """The random seed of a clip, and its number among the clips of that seed."""
        index = "number of the clip among those of its seed, from 0: another number gives another clip"
        return {
            SEED: _scalar(tf.int32, "random seed", default=0),
            INDEX: _scalar(tf.int32, index, default=0),
        }

    def sampling(self) -> dict[str, Field]:
        """Noise, temperature and, for a conditional model, guidance."""
        temperature = "scale of the prior's noise: below 1 clips are more typical, above 1 more varied"
        guidance = (
            "scale of what is specified: 0 ignores it, 1 is as in training, more exaggerates it (attributes and "
            f"key by {config.MAX_ATTRIBUTE_GUIDANCE:g} at most); NaN: {config.GUIDANCE:g}, and "
            f"{config.UNCONDITIONAL_GUIDANCE:g} for a genre that is not specified"
        )
        limits = (0.0, config.MAX_TEMPERATURE)
        scale = _scalar(tf.float32, temperature, default=options.TEMPERATURE)._replace(limits=limits)
        fields = {**self.noise(), TEMPERATURE: scale}
        if self._conditional:
            scale = _scalar(tf.float32, guidance, default=math.nan)
            fields[GUIDANCE] = scale._replace(limits=(0.0, config.MAX_GUIDANCE))
        return fields

    def genre_guidance(self) -> dict[str, Field]:
        """The scale of a transfer."""
        description = "scale of the genre: above 1 exaggerates the difference"
        scale = _scalar(tf.float32, description, default=config.GUIDANCE)
        return {GUIDANCE: scale._replace(limits=(0.0, config.MAX_GUIDANCE))}

    def noise_scale(self) -> dict[str, Field]:
        """The scale of a variation."""
        unit = "standard deviations of the prior"
        scale = _scalar(tf.float32, "noise added to the latents", unit, options.NOISE_SCALE)
        return {NOISE_SCALE: scale._replace(limits=(0.0, options.MAX_NOISE_SCALE))}

    def position(self) -> dict[str, Field]:
        """The position between two clips."""
        position = _scalar(tf.float32, "from 0, the clip `start`, to 1, the clip `end`")
        return {POSITION: position._replace(limits=(0.0, 1.0))}

    def condition_of(self, inputs: Tensors, count: tf.Tensor, genre: str = GENRE) -> Condition:
        """Make the condition of `count` clips from the inputs that there are; the rest is dropped."""
        columns = [
            self._standardized(name, inputs[name]) if name in inputs else tf.fill([count], math.nan)
            for name in self._metadata.attributes
        ]
        attributes = tf.stack(columns, axis=1) if columns else tf.zeros([count, 0])
        genres = self._metadata.genres
        keys = {name: KEYS.index(name) for name in self._metadata.keys}
        return Condition(
            _indices(genre, inputs, dict(zip(genres, range(len(genres)), strict=True)), count, DROPPED_GENRE),
            attributes,
            _indices(KEY, inputs, keys, count, DROPPED_KEY),
        )

    def samples_of(self, inputs: Tensors) -> int | tf.Tensor:
        """Return the length of the clips: that of the request, or that of training."""
        if SAMPLES not in inputs:
            return self._metadata.clip_samples
        lengths = inputs[SAMPLES]
        tf.debugging.assert_equal(
            lengths, lengths[0], message="samples must be the same for all clips of a request"
        )
        samples = tf.where(lengths[0] == 0, self._metadata.clip_samples, lengths[0])
        self._check_length(samples)
        return samples

    def check_audio(self, audio: tf.Tensor) -> None:
        """Make the graph fail for clips that are too short or not finite."""
        self._check_length(tf.shape(audio)[1])
        tf.debugging.assert_all_finite(
            audio, "clips must be finite: some of their samples are NaN or infinite"
        )

    def _check_length(self, samples: tf.Tensor) -> None:
        message = f"clips need at least {self._smallest_samples} samples"
        tf.debugging.assert_greater_equal(samples, self._smallest_samples, message=message)

    def _standardized(self, name: str, values: tf.Tensor) -> tf.Tensor:
        """Values in the attribute's unit -> standard deviations from the mean; NaN stays NaN."""
        statistics = self._metadata.attributes[name]
        inside = (values >= statistics.low) & (values <= statistics.high)
        message = f"{name} must be NaN or from {conditioning.range_of(statistics)}"
        tf.debugging.assert_equal(inside | tf.math.is_nan(values), True, message=message)
        return (values - statistics.mean) / statistics.std


def _indices(
    field: str, inputs: Tensors, indices: dict[str, int], count: tf.Tensor, dropped: int
) -> tf.Tensor:
    """Names in an input -> `[count]` int32; `dropped` for empty ones, and if there is no such input."""
    if field not in inputs:
        return tf.fill([count], dropped)
    names = inputs[field]
    is_name = names[:, tf.newaxis] == tf.constant([*indices])  # [batch, names]
    is_known = tf.reduce_any(is_name, axis=1)
    message = f"{field} must be one of {', '.join(indices)}, or empty"
    tf.debugging.assert_equal(is_known | (names == ""), True, message=message)
    found = tf.gather(tf.constant([*indices.values()]), tf.argmax(is_name, axis=1))
    return tf.where(is_known, found, dropped)


def _scalar(dtype: tf.DType, description: str, unit: str | None = None, default: Any = None) -> Field:
    """One value per clip."""
    return Field(dtype, (None,), description, unit, default)
