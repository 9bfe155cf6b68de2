"""The signatures of an exported model: one for each method of `Generator` that the model supports.

All inputs have a row per clip, as TensorFlow Serving's row format requires. An input with one row stands for all clips.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, NamedTuple

import tensorflow as tf

from trainer.conditioning import Condition
from trainer.export.tensors import (
    AUDIO,
    GENRE,
    GUIDANCE,
    INDEX,
    NOISE_SCALE,
    POSITION,
    SEED,
    SOURCE_GENRE,
    TEMPERATURE,
    Field,
    Fields,
    Tensors,
)
from trainer.generation import synthesis
from trainer.generation.generator import Generator
from trainer.generation.synthesis import Sampling
from trainer.models.base import Latents

START, END, LATENT = "start", "end", "latent"


class Signature(NamedTuple):
    """A signature before it is traced."""

    description: str
    inputs: dict[str, Field]  # the first of them tells the number of clips
    outputs: dict[str, Field]
    compute: Callable[[Tensors], Tensors]

    def trace(self) -> Callable:
        """Build the graph, for any number of clips."""

        def call(**inputs: tf.Tensor) -> Tensors:
            count = tf.shape(inputs[next(iter(self.inputs))])[0]
            rows = {
                name: tf.broadcast_to(values, tf.concat([[count], tf.shape(values)[1:]], axis=0))
                for name, values in inputs.items()
            }
            for name, field in self.inputs.items():
                field.check(name, rows[name])
            return self.compute(rows)

        specs = {name: field.spec(name) for name, field in self.inputs.items()}
        return tf.function(call, autograph=False).get_concrete_function(**specs)

    def to_dict(self) -> dict[str, Any]:
        """Describe the signature in JSON."""
        fields = {"inputs": self.inputs, "outputs": self.outputs}
        named = {key: {name: field.to_dict() for name, field in of.items()} for key, of in fields.items()}
        return {"description": self.description, **named}


def make_signatures(generator: Generator) -> dict[str, Signature]:
    """Return the signatures of the modes that a model has, by name."""
    builder = _Builder(generator)
    of_modes = {
        "prior": {"sample": builder.sample},
        "reconstruct": {
            "encode": builder.encode,
            "decode": builder.decode,
            "reconstruct": builder.reconstruct,
        },
        "variation": {"vary": builder.vary},
        "interpolate": {"interpolate": builder.interpolate},
        "transfer": {"transfer": builder.transfer},
        "continue": {"extend": builder.extend},
    }
    return {
        name: build()
        for mode, builders in of_modes.items()
        if mode in generator.model.capabilities.modes
        for name, build in builders.items()
    }


class _Builder:
    """Builds the signatures of one model."""

    def __init__(self, generator: Generator) -> None:
        self.model = generator.model
        self.graphs = generator.graphs
        self.fields = Fields(generator.model, generator.metadata)
        self.source = {AUDIO: self.fields.clip("a clip")}
        self.result = {AUDIO: self.fields.clip("the clip")}
        self.latents_type, self.latents = self._describe_latents()

    def sample(self) -> Signature:
        fields = self.fields
        inputs = {**fields.sampling(), **fields.condition(), **fields.samples()}

        def compute(inputs: Tensors) -> Tensors:
            condition = fields.condition_of(inputs, _count(inputs[SEED]))
            return {AUDIO: self.graphs.sample(condition, self._sampling(inputs))}

        return Signature("New clips from the prior.", inputs, self.result, compute)

    def encode(self) -> Signature:
        def compute(inputs: Tensors) -> Tensors:
            return _named(self.model.encode(self._audio(inputs), self._condition(inputs)))

        inputs = {**self.source, **self.fields.condition()}
        return Signature("The latents of clips, as `decode` takes them.", inputs, self.latents, compute)

    def decode(self) -> Signature:
        fields = self.fields

        def compute(inputs: Tensors) -> Tensors:
            named = {name: inputs[name] for name in self.latents}
            latents = self.latents_type(**named) if self.latents_type else named[LATENT]
            condition = fields.condition_of(inputs, _count(inputs[next(iter(named))]))
            return {AUDIO: synthesis.decode(self.model, latents, condition, fields.samples_of(inputs))}

        inputs = {**self.latents, **fields.condition(), **fields.samples()}
        return Signature("Clips from latents.", inputs, self.result, compute)

    def reconstruct(self) -> Signature:
        def compute(inputs: Tensors) -> Tensors:
            return {AUDIO: self.model.reconstruct(self._audio(inputs), self._condition(inputs))}

        inputs = {**self.source, **self.fields.condition()}
        return Signature("Clips, encoded and decoded.", inputs, self.result, compute)

    def vary(self) -> Signature:
        fields = self.fields

        def compute(inputs: Tensors) -> Tensors:
            scale = inputs[NOISE_SCALE]
            audio, condition = self._audio(inputs), self._condition(inputs)
            return {AUDIO: synthesis.vary(self.model, audio, condition, scale, inputs[SEED], inputs[INDEX])}

        inputs = {**self.source, **fields.noise_scale(), **fields.noise(), **fields.condition()}
        return Signature("Clips with noise added to their latents.", inputs, self.result, compute)

    def interpolate(self) -> Signature:
        fields, genres = self.fields, {START: f"{START}_genre", END: f"{END}_genre"}

        def compute(inputs: Tensors) -> Tensors:
            first, last = (self._audio(inputs, name) for name in genres)
            samples = tf.shape(first)[1]
            message = "start and end must have the same length"
            tf.debugging.assert_equal(tf.shape(last)[1], samples, message=message)
            of_first, of_last = (
                fields.condition_of(inputs, _count(first), genre) for genre in genres.values()
            )
            ends = self.model.encode(first, of_first), self.model.encode(last, of_last)
            position = inputs[POSITION]
            return {AUDIO: synthesis.interpolate(self.model, ends, (of_first, of_last), position, samples)}

        inputs = {
            **{name: fields.clip(f"the clip at the {name}") for name in genres},
            **fields.position(),
            **{name: field for genre in genres.values() for name, field in fields.genre(genre).items()},
        }
        return Signature("The latents between two clips, decoded.", inputs, self.result, compute)

    def transfer(self) -> Signature:
        fields = self.fields

        def compute(inputs: Tensors) -> Tensors:
            audio = self._audio(inputs)
            source, target = (
                fields.condition_of(inputs, _count(audio), name) for name in (SOURCE_GENRE, GENRE)
            )
            return {AUDIO: synthesis.transfer(self.model, audio, source, target, inputs[GUIDANCE])}

        inputs = {
            **self.source,
            **fields.genre(required=True),
            **fields.genre(SOURCE_GENRE),
            **fields.genre_guidance(),
        }
        return Signature("Clips of one genre, rendered as another.", inputs, self.result, compute)

    def extend(self) -> Signature:
        fields = self.fields

        def compute(inputs: Tensors) -> Tensors:
            audio, sampling = self._audio(inputs), self._sampling(inputs)
            message = "samples must be more than those of the clip that is continued"
            tf.debugging.assert_less(tf.shape(audio)[1], sampling.samples, message=message)
            return {AUDIO: self.graphs.extend(audio, self._condition(inputs), sampling)}

        inputs = {**self.source, **fields.sampling(), **fields.condition(), **fields.samples()}
        return Signature("Clips, continued to a length.", inputs, self.result, compute)

    def _sampling(self, inputs: Tensors) -> Sampling:
        guidance = inputs[GUIDANCE] if GUIDANCE in inputs else tf.fill([_count(inputs[SEED])], math.nan)
        samples = tf.convert_to_tensor(self.fields.samples_of(inputs))
        return Sampling(samples, inputs[SEED], inputs[INDEX], inputs[TEMPERATURE], guidance)

    def _audio(self, inputs: Tensors, name: str = AUDIO) -> tf.Tensor:
        self.fields.check_audio(inputs[name])
        return inputs[name]

    def _condition(self, inputs: Tensors) -> Condition:
        return self.fields.condition_of(inputs, _count(inputs[AUDIO]))

    def _describe_latents(self) -> tuple[Callable[..., Latents] | None, dict[str, Field]]:
        """Return the type of the model's latents, if they are a named tuple, and their fields."""
        found: list[Latents] = []

        @tf.function(autograph=False)
        def encode(audio: tf.Tensor) -> None:
            found.append(self.model.encode(audio, self.fields.condition_of({}, _count(audio))))

        encode.get_concrete_function(self.source[AUDIO].spec(AUDIO))
        (latents,) = found
        fields = {
            name: Field(values.dtype, (None, *values.shape[1:]), "a part of the latents; NaN: not kept")
            for name, values in _named(latents).items()
        }
        return (type(latents) if hasattr(latents, "_asdict") else None), fields


def _named(latents: Latents) -> dict[str, tf.Tensor]:
    return latents._asdict() if hasattr(latents, "_asdict") else {LATENT: latents}


def _count(values: tf.Tensor) -> tf.Tensor:
    return tf.shape(values)[0]
