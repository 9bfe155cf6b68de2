"""Generate clips with a trained model: a method for each mode, and `encode` and `decode` for work on latents.

    mode of the command    method of `Generator`
    prior                  sample          new clips, from the prior
    variation              vary            encode, add noise to the latents, decode
    reconstruct            reconstruct     encode and decode
    interpolate            interpolate     decode the latents between two clips
    transfer               transfer        decode a clip's latents as another genre
    continue               extend          continue a clip

Example:
    from trainer import load
    generator = load("runs/wave")
    clips = generator.sample(count=4, genre="jazz", attributes={"tempo_bpm": 120}, seed=1)
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import tensorflow as tf

from preprocessing.errors import UsageError
from trainer import conditioning
from trainer.conditioning import Attributes, Condition, Genre, Key
from trainer.config import GUIDANCE
from trainer.generation import synthesis
from trainer.generation.batches import in_batches, rows
from trainer.generation.options import (
    INTERPOLATION_STEPS,
    MAX_ABS_SAMPLE,
    NOISE_SCALE,
    TEMPERATURE,
    check_numbers,
)
from trainer.generation.sampling_graphs import SamplingGraphs, sampling_of
from trainer.models.base import Latents, WaveformVAE
from trainer.run_config import DatasetMetadata


class Generator:
    """A trained model that generates clips, `[clips, samples]` float32 in [-1, 1] at `sample_rate_hz`.

    The same arguments give the same bits. Arguments that several methods share:

        seed: Of the noise. The noise of a clip depends on `seed` and on the clip's index, not on `count`.
        genre: One of `genres` for all clips, or a list with one or None per clip; None: not specified.
        attributes: Name -> value in the attribute's unit, one for all clips or one per clip; the names are
            those of `metadata.attributes`.
        key: Such as "A minor" or "Bb major", one for all clips, or a list with one or None per clip; None: not
            specified.
        secs: Length of the clips; None: as in training.
        temperature: Scale of the prior's noise: below 1 clips are more typical, above 1 more varied.
        guidance: Scale of the condition: 0 ignores it, 1 is as in training, more exaggerates it.

    Every method raises `CommandError` (exit code 2) if the model lacks its mode, if clips are not finite or
    have a shape or length that the model does not support, and if a genre, an attribute or a key is unknown or
    the model is not conditional.
    """

    def __init__(
        self, model: WaveformVAE, metadata: DatasetMetadata, path: Path, checkpoint: str, sha256: str = ""
    ) -> None:
        self.model = model
        self.metadata = metadata
        self.path = path  # local run directory
        self.checkpoint = checkpoint  # name of the checkpoint that was loaded
        self.checkpoint_sha256 = sha256  # of its files; empty in the training that writes it
        self.sample_rate_hz = metadata.sample_rate_hz
        self.clip_samples = metadata.clip_samples
        self.genres = metadata.genres
        self.graphs = SamplingGraphs(model, metadata)

    def sample(
        self,
        count: int = 1,
        seed: int = 0,
        genre: Genre = None,
        attributes: Attributes = None,
        key: Key = None,
        secs: float | None = None,
        temperature: float = TEMPERATURE,
        guidance: float | None = None,
    ) -> np.ndarray:
        """Generate new clips from the prior.

        What is not specified is drawn from training clips (see `complete_condition`), so that clips differ as music
        does and have a beat. `guidance` scales what is specified (see `guidance_of`). Clips have the loudness of their
        condition, and no sample beyond full scale.
        """
        self.require_mode("prior")
        check_numbers(count=count, temperature=temperature, guidance=guidance)
        conditioning.check_supported(self.metadata, attributes, key)
        samples = self._samples(secs)

        def generate(condition: Condition, indices: Sequence[int]) -> tf.Tensor:
            return self.graphs.sample(condition, sampling_of(samples, seed, indices, temperature, guidance))

        return in_batches(generate, self.condition(count, genre, attributes, key))

    def encode(
        self, clips: np.ndarray, genre: Genre = None, attributes: Attributes = None, key: Key = None
    ) -> Latents:
        """Encode clips to the most likely latents.

        `genre`, `attributes` and `key` are those of `clips`.

        Returns:
            The latents, whose first axis is the clip: NumPy arrays in a `HierarchicalLatents` (`wave`, `tiny`), or one
            array `[clips, latent_dim]` (`reference`). Arithmetic on them needs no model.
        """
        clips = self._validate(clips)

        def encode(condition: Condition, indices: Sequence[int]) -> Latents:
            return self.model.encode(rows(clips, indices), condition)

        return in_batches(encode, self.condition(len(clips), genre, attributes, key))

    def decode(
        self,
        latents: Latents,
        genre: Genre = None,
        attributes: Attributes = None,
        key: Key = None,
        secs: float | None = None,
    ) -> np.ndarray:
        """Decode latents, such as those of `encode`, to clips of `secs`, the length of the clips that were encoded."""
        samples = self._samples(secs)
        count = len(tf.nest.flatten(latents)[0])

        def decode(condition: Condition, indices: Sequence[int]) -> tf.Tensor:
            batch = tf.nest.map_structure(lambda values: tf.constant(rows(values, indices)), latents)
            return synthesis.decode(self.model, batch, condition, samples)

        try:
            return in_batches(decode, self.condition(count, genre, attributes, key))
        except tf.errors.InvalidArgumentError as error:
            raise UsageError("the latents are of clips of another length: give its `secs`") from error

    def vary(
        self,
        clips: np.ndarray,
        noise_scale: float = NOISE_SCALE,
        seed: int = 0,
        genre: Genre = None,
        attributes: Attributes = None,
        key: Key = None,
    ) -> np.ndarray:
        """Encode clips, add noise to their latents and decode, as the reference notebook does.

        `noise_scale` is in standard deviations of the prior; 0 reconstructs. `genre`, `attributes` and `key`
        are those of `clips`.
        """
        self.require_mode("variation")
        check_numbers(noise_scale=noise_scale)
        clips = self._validate(clips)

        def generate(condition: Condition, indices: Sequence[int]) -> tf.Tensor:
            return synthesis.vary(self.model, rows(clips, indices), condition, noise_scale, seed, indices)

        return in_batches(generate, self.condition(len(clips), genre, attributes, key))

    def reconstruct(
        self, clips: np.ndarray, genre: Genre = None, attributes: Attributes = None, key: Key = None
    ) -> np.ndarray:
        """Encode and decode clips."""
        self.require_mode("reconstruct")
        clips = self._validate(clips)

        def generate(condition: Condition, indices: Sequence[int]) -> tf.Tensor:
            return self.model.reconstruct(rows(clips, indices), condition)

        return in_batches(generate, self.condition(len(clips), genre, attributes, key))

    def interpolate(
        self, start: np.ndarray, end: np.ndarray, steps: int = INTERPOLATION_STEPS, genre: Genre = None
    ) -> np.ndarray:
        """Decode the latents between two clips.

        Args:
            start: `[samples]`; the first of the returned clips is its reconstruction.
            end: `[samples]`; the last of the returned clips is its reconstruction.
            steps: Number of clips, both ends included; at least 2.
            genre: Of both clips, or a list with one for each.

        Returns:
            `[steps, samples]`.
        """
        self.require_mode("interpolate")
        if steps < 2:
            raise UsageError(f"an interpolation has at least 2 steps, not {steps}")
        if np.shape(start) != np.shape(end):
            raise UsageError("an interpolation needs two clips of the same length")
        ends = self._validate(np.stack([start, end]))
        condition = self.condition(2, genre)
        latents = self.model.encode(ends, condition)
        first, last = (
            tf.nest.map_structure(lambda values, index=index: values[index : index + 1], latents)
            for index in (0, 1)
        )
        of_first, of_last = (
            Condition(*(values[index : index + 1] for values in condition)) for index in (0, 1)
        )
        samples, positions = ends.shape[-1], (step / (steps - 1) for step in range(steps))
        clips = [
            synthesis.interpolate(self.model, (first, last), (of_first, of_last), position, samples)
            for position in positions
        ]
        return np.concatenate(clips)

    def transfer(
        self,
        clips: np.ndarray,
        genre: Genre,
        source_genre: Genre = None,
        guidance: float | None = None,
    ) -> np.ndarray:
        """Render clips of `source_genre` as `genre`: events in time are kept, the timbre changes.

        `guidance` above 1 exaggerates the difference; None: `GUIDANCE`.
        """
        self.require_mode("transfer")
        check_numbers(guidance=guidance)
        scale = GUIDANCE if guidance is None else guidance
        clips = self._validate(clips)
        source, target = (self.condition(len(clips), name) for name in (source_genre, genre))

        def generate(target: Condition, indices: Sequence[int]) -> tf.Tensor:
            origin = Condition(*(rows(values, indices) for values in source))
            return synthesis.transfer(self.model, rows(clips, indices), origin, target, scale)

        return in_batches(generate, target)

    def extend(
        self,
        clips: np.ndarray,
        secs: float | None = None,
        seed: int = 0,
        genre: Genre = None,
        attributes: Attributes = None,
        key: Key = None,
        temperature: float = TEMPERATURE,
        guidance: float | None = None,
    ) -> np.ndarray:
        """Continue clips to a total length of `secs`; the result begins with `clips` unchanged."""
        self.require_mode("continue")
        check_numbers(temperature=temperature, guidance=guidance)
        clips = self._validate(clips)
        conditioning.check_supported(self.metadata, attributes, key)
        condition = self.condition(len(clips), genre, attributes, key)
        samples = self._samples(secs)
        if samples <= clips.shape[-1]:
            raise UsageError("a continuation must be longer than the clip that it continues")

        def generate(condition: Condition, indices: Sequence[int]) -> tf.Tensor:
            sampling = sampling_of(samples, seed, indices, temperature, guidance)
            return self.graphs.extend(rows(clips, indices), condition, sampling)

        return in_batches(generate, condition, min_clips=2)

    def condition(
        self, count: int, genre: Genre = None, attributes: Attributes = None, key: Key = None
    ) -> Condition:
        """Make the condition of `count` clips; see `make_condition`."""
        conditional = self.model.capabilities.conditional
        return conditioning.make_condition(self.metadata, conditional, count, genre, attributes, key)

    def require_mode(self, mode: str) -> None:
        """Raise `CommandError` (exit code 2) if the model does not have this mode."""
        modes = self.model.capabilities.modes
        if mode not in modes:
            raise UsageError(f"this run's model has no mode {mode}: its modes are {', '.join(modes)}")

    def _samples(self, secs: float | None) -> int:
        check_numbers(secs=secs)
        samples = self.clip_samples if secs is None else round(secs * self.sample_rate_hz)
        self._validate_length(samples)
        return samples

    def _validate_length(self, samples: int) -> None:
        if not self.model.capabilities.any_length and samples != self.clip_samples:
            raise UsageError(
                f"this run's model supports only clips of {self.clip_samples} samples, not {samples}"
            )
        if samples < self.model.smallest_samples:
            raise UsageError(f"clips need at least {self.model.smallest_samples} samples, not {samples}")

    def _validate(self, clips: np.ndarray) -> np.ndarray:
        """Return clips as float32 `[clips, samples]`."""
        clips = np.asarray(clips)
        if clips.dtype.kind not in "f":
            raise UsageError(f"clips must be floating-point numbers in [-1, 1], not {clips.dtype}")
        if clips.ndim != 2 or not len(clips):
            raise UsageError(f"clips must have the shape [clips, samples], not {list(clips.shape)}")
        if not np.abs(clips).max(initial=0.0) <= MAX_ABS_SAMPLE:  # also where it is NaN
            raise UsageError("clips must be finite and in [-1, 1], and some of their samples are not")
        self._validate_length(clips.shape[1])
        return clips.astype(np.float32, copy=False)
