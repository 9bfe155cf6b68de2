"""Music from a trained run: `load(run)` gives an object with the modes to make it.

from trainer.music import load
music = load("runs/wave")
clips = music.prior(count=4, genre="jazz", attributes={"tempo_bpm": 120}, seed=1)
varied = music.vary(clips, noise_scale=0.5)
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import tensorflow as tf

from preprocessing.errors import BAD_DATA, USAGE, CommandError
from trainer import run_config
from trainer.conditioning import Attributes, Condition, Genre, Guidance, empirical_conditions, make_condition
from trainer.config import GUIDANCE, UNCONDITIONAL_GUIDANCE
from trainer.models import WaveformVAE, make_model
from trainer.run_config import DatasetMetadata
from trainer.runs.checkpoints import restore_for_inference
from trainer.runs.directory import fetch_run
from trainer.runs.storage import default_cache

CLIPS_AT_ONCE = 8
LATENTS, TEXTURE, CONDITION = range(3)  # what a noise is for: each has its own


def load(run: str | Path, cache: Path | None = None) -> Generator:
    """Loads the newest checkpoint of a run, local or `gs://`.

    Raises:
        CommandError: It is not a run, or has no checkpoint yet (3); storage failed (4).
    """
    path = fetch_run(str(run), cache or default_cache())
    described = run_config.load(path)
    if described is None:
        raise CommandError(f"--run {run} has no {run_config.CONFIG_NAME}: train there first", BAD_DATA)
    model = make_model(described.config, described.dataset)
    if not restore_for_inference(model, path, described.config):
        raise CommandError(f"--run {run} has no checkpoint yet: train at least one epoch", BAD_DATA)
    return Generator(model, described.dataset, path)


class Generator:
    """A trained model. Clips are `[clips, samples]` float32 in [-1, 1] at `sample_rate_hz`.

    The same arguments give the same bits. `genre` is one of `genres` for all clips, a list with one (or None)
    for each, or None: left open. `attributes` are in their own units, one for all clips or one for each;
    which ones a model knows is in `facts.attributes`. A model that is not conditional refuses both.
    """

    def __init__(self, model: WaveformVAE, metadata: DatasetMetadata, path: Path) -> None:
        self.model = model
        self.metadata = metadata
        self.path = path
        self.sample_rate_hz = metadata.sample_rate_hz
        self.clip_samples = metadata.clip_samples
        self.genres = metadata.genres

    def prior(
        self,
        count: int = 1,
        seed: int = 0,
        genre: Genre = None,
        attributes: Attributes = None,
        secs: float | None = None,
        temperature: float = 1.0,
        guidance: float | None = None,
    ) -> np.ndarray:
        """New clips from latents of the prior.

        Args:
            count: How many.
            seed: Of the noise. A clip depends on it and on its own number, not on `count`.
            genre: What they should be. With nothing asked at all, each clip's genre, loudness and brightness
                are drawn first, as they were in training, so that clips differ as music does.
            attributes: What they should sound like.
            secs: How long; None: as long as the clips that the model was trained on.
            temperature: Below 1 more typical, above 1 more adventurous.
            guidance: How strongly genre and attributes count: 1 as in training, more exaggerates. None:
                `GUIDANCE`, or where nothing is asked `UNCONDITIONAL_GUIDANCE`, of the genre alone.
        """
        self.require_mode("prior")
        samples = self._samples(secs)
        condition = self.condition(count, genre, attributes)
        asked = genre is not None or any(value is not None for value in (attributes or {}).values())
        if not asked and self.model.conditional:
            start = tf.random.stateless_uniform([], [seed, CONDITION])
            condition = empirical_conditions(self.metadata, count, float(start))
        # What is drawn is no wish: exaggerated, loud clips would be deafening and quiet ones silent.
        counts = (
            _guidance(guidance)
            if asked
            else Guidance(UNCONDITIONAL_GUIDANCE if guidance is None else guidance)
        )

        def make(condition: Condition, clips: range) -> tf.Tensor:
            noise = _noise(seed, LATENTS, clips, self.model.sample_noise_size(samples))
            latents = self.model.sample(condition, samples, noise, temperature, counts)
            return self._decode(latents, condition, samples, seed, clips)

        return self._in_batches(make, condition)

    def vary(
        self,
        clips: np.ndarray,
        noise_scale: float = 0.5,
        seed: int = 0,
        genre: Genre = None,
        attributes: Attributes = None,
    ) -> np.ndarray:
        """The reference notebook's way: encode, move the latents, decode.

        `noise_scale` is in standard deviations of the prior; 0 reconstructs. `genre` and `attributes` are what the
        clips are said to be.
        """
        self.require_mode("variation")
        clips = self._checked(clips)
        samples = clips.shape[-1]

        def make(condition: Condition, numbers: range) -> tf.Tensor:
            latents = self.model.encode(_rows(clips, numbers), condition)
            noise = _noise(seed, LATENTS, numbers, self.model.sample_noise_size(samples))
            moved = self.model.add_noise(latents, noise_scale, noise) if noise_scale else latents
            return self._decode_known(moved, condition, samples)

        return self._in_batches(make, self.condition(len(clips), genre, attributes))

    def reconstruct(
        self, clips: np.ndarray, genre: Genre = None, attributes: Attributes = None
    ) -> np.ndarray:
        """Clips through the model and back."""
        self.require_mode("reconstruct")
        return self.vary(clips, 0.0, 0, genre, attributes)

    def interpolate(
        self, start: np.ndarray, end: np.ndarray, steps: int = 5, genre: Genre = None
    ) -> np.ndarray:
        """From one clip to another, through their latents.

        Args:
            start: `[samples]`; the first of the steps is its reconstruction.
            end: `[samples]`; the last of the steps is its reconstruction.
            steps: How many clips, both ends included; at least 2.
            genre: Of the two; a list has two names.

        Returns:
            `[steps, samples]`.
        """
        self.require_mode("interpolate")
        if steps < 2:
            raise CommandError(f"an interpolation has at least 2 steps, not {steps}", USAGE)
        if np.shape(start) != np.shape(end):
            raise CommandError("an interpolation needs two clips of the same length", USAGE)
        clips = self._checked(np.stack([start, end]))
        condition = self.condition(2, genre)
        both = self.model.encode(clips, condition)
        first, last = (tf.nest.map_structure(lambda part, n=n: part[n : n + 1], both) for n in (0, 1))
        made = []
        for step in range(steps):
            position = step / (steps - 1)
            nearer = Condition(*(part[round(position) : round(position) + 1] for part in condition))
            latents = self.model.interpolate(first, last, position)
            made.append(self._decode_known(latents, nearer, clips.shape[-1]))
        return np.concatenate(made)

    def transfer(
        self,
        clips: np.ndarray,
        genre: Genre,
        source: Genre = None,
        seed: int = 0,
        guidance: float | None = None,
    ) -> np.ndarray:
        """Clips of one genre rendered as another: what happens stays, what it sounds like changes.

        `genre` is what they become, `source` what they are; `guidance` above 1 exaggerates the difference
        (None: `GUIDANCE`).
        """
        self.require_mode("transfer")
        counts = _guidance(guidance)
        clips = self._checked(clips)
        samples = clips.shape[-1]
        sources, targets = (self.condition(len(clips), name) for name in (source, genre))

        def make(target: Condition, numbers: range) -> tf.Tensor:
            origin = Condition(*(_rows(part, numbers) for part in sources))
            texture = _noise(0, TEXTURE, range(1), self.model.decode_noise_size(samples))
            latents = self.model.complete(self.model.encode(_rows(clips, numbers), origin), origin, texture)
            latents = self.model.transfer_style(latents, origin, target, counts)
            return self.model.decode(latents, target, samples, texture, counts)

        return self._in_batches(make, targets)

    def continue_clips(
        self,
        beginnings: np.ndarray,
        secs: float | None = None,
        seed: int = 0,
        genre: Genre = None,
        attributes: Attributes = None,
        temperature: float = 1.0,
        guidance: float | None = None,
    ) -> np.ndarray:
        """The clips as they are, then what the model thinks comes next, up to `secs` in all."""
        self.require_mode("continue")
        beginnings = self._checked(beginnings)
        samples = self._samples(secs)
        if samples <= beginnings.shape[-1]:
            raise CommandError("a continuation must be longer than what it continues", USAGE)

        def make(condition: Condition, numbers: range) -> tf.Tensor:
            noise = _noise(seed, LATENTS, numbers, self.model.sample_noise_size(samples))
            known = _rows(beginnings, numbers)
            latents = self.model.extend(known, condition, samples, noise, temperature, _guidance(guidance))
            return self._decode(latents, condition, samples, seed, numbers)

        return self._in_batches(make, self.condition(len(beginnings), genre, attributes))

    def condition(self, count: int, genre: Genre = None, attributes: Attributes = None) -> Condition:
        """What is asked of `count` clips; raises as `make_condition`."""
        return make_condition(self.metadata, self.model.conditional, count, genre, attributes)

    def require_mode(self, mode: str) -> None:
        """Raises a `CommandError` (2) if the model does not know a way."""
        if mode not in self.model.modes:
            raise CommandError(
                f"this run's model knows the modes {', '.join(self.model.modes)}, not {mode}", USAGE
            )

    def _samples(self, secs: float | None) -> int:
        samples = self.clip_samples if secs is None else round(secs * self.sample_rate_hz)
        self._check_length(samples)
        return samples

    def _check_length(self, samples: int) -> None:
        if not self.model.any_length and samples != self.clip_samples:
            raise CommandError(f"this run's model works on clips of {self.clip_samples} samples only", USAGE)
        if samples < self.model.smallest_samples:
            raise CommandError(f"clips need at least {self.model.smallest_samples} samples", USAGE)

    def _checked(self, clips: np.ndarray) -> np.ndarray:
        clips = np.asarray(clips, np.float32)
        if clips.ndim != 2 or not len(clips) or not np.isfinite(clips).all():
            raise CommandError(f"clips are finite and [clips, samples], not {list(clips.shape)}", USAGE)
        self._check_length(clips.shape[1])
        return clips

    def _decode(
        self, latents: object, condition: Condition, samples: int, seed: int, clips: range
    ) -> tf.Tensor:
        noise = _noise(seed, TEXTURE, clips, self.model.decode_noise_size(samples))
        return self.model.decode(latents, condition, samples, noise)

    def _decode_known(self, latents: object, condition: Condition, samples: int) -> tf.Tensor:
        """As `WaveformVAE.reconstruct` does: the same noise for every clip."""
        noise = tf.random.stateless_normal([1, self.model.decode_noise_size(samples)], [0, 0])
        return self.model.decode(latents, condition, samples, noise)

    def _in_batches(self, make: Callable[[Condition, range], tf.Tensor], condition: Condition) -> np.ndarray:
        count = len(condition.genre)
        made = []
        for first in range(0, count, CLIPS_AT_ONCE):
            numbers = range(first, min(first + CLIPS_AT_ONCE, count))
            part = Condition(*(tf.constant(_rows(values, numbers)) for values in condition))
            made.append(make(part, numbers).numpy())
        return np.concatenate(made)


def _guidance(given: float | None) -> Guidance:
    scale = GUIDANCE if given is None else given
    return Guidance(genre=scale, attributes=scale)


def _rows(values: np.ndarray, numbers: range) -> np.ndarray:
    return values[numbers.start : numbers.stop]


def _noise(seed: int, purpose: int, clips: range, size: int) -> tf.Tensor:
    """`[clips, size]` standard normal; a clip's row depends on its number alone."""
    return tf.stack([tf.random.stateless_normal([size], [seed, 3 * number + purpose]) for number in clips])
