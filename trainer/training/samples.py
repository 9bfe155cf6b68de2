"""The fixed test clips and the fixed latents that every epoch renders, so that epochs can be compared."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import tensorflow as tf

from preprocessing.dataset.manifest import Manifest
from preprocessing.storage.atomic import write_atomically
from trainer.conditioning import Condition, Guidance
from trainer.config import GUIDANCE, Config
from trainer.data.dataset import Clip, Clips
from trainer.dsp import distances
from trainer.models.base import WaveformVAE
from trainer.reporting import clip_figures, figures, wav
from trainer.runs.directory import ORIGINALS, SAMPLE_CLIPS, SAMPLES, TRAINING_GIF

MAPPED_CLIPS = 64  # whose latents are drawn each epoch: a second or two on two cores
NOISE_KEYS = (2**31 - 2, 2**31 - 3)  # where a training step has its number


class Fixed(NamedTuple):
    """What is rendered: test clips to reconstruct and latents to decode."""

    audio: np.ndarray  # [clips, clip_samples] float32
    condition: Condition  # of each
    track_ids: list[str]
    sample_noise: tf.Tensor  # [clips, sample_noise_size]
    decode_noise: tf.Tensor  # [clips, decode_noise_size]
    asked: Condition  # of the new clips: the dataset's genres in turn, attributes open
    mapped: Clip  # test clips whose latents are drawn, stacked


class Rendered(NamedTuple):
    """What one epoch's rendering left, for TensorBoard."""

    audio: dict[str, np.ndarray]  # name -> [clips, samples] float32 in [-1, 1]
    sample_rate_hz: int
    pictures: dict[str, Path]


def choose(run: Path, test_clips: Clips, model: WaveformVAE, config: Config, manifest: Manifest) -> Fixed:
    """Test clips spread over the split, their originals written into the run, and latents of its seed."""
    if isinstance(test_clips, Clip):
        test_clips = tf.data.Dataset.from_tensor_slices(test_clips)
    audio, condition, ids = _spread(test_clips, manifest, config.sample_clips)
    track_ids = [track.decode("utf-8", "replace") for track in ids]
    sizes = (model.sample_noise_size(manifest.clip_samples), model.decode_noise_size(manifest.clip_samples))
    sample_noise, decode_noise = (
        tf.random.stateless_normal([len(audio), size], [config.seed, key])
        for size, key in zip(sizes, NOISE_KEYS, strict=True)
    )
    genres = np.arange(len(audio), dtype=np.int32) % len(manifest.genres)
    asked = Condition(genres, np.full_like(condition.attributes, np.nan))
    (run / ORIGINALS).mkdir(parents=True, exist_ok=True)
    for index, clip in enumerate(audio):
        wav.write_wav(run / ORIGINALS / f"{index:02d}.wav", clip, manifest.sample_rate_hz)
    mapped = _spread(test_clips, manifest, MAPPED_CLIPS)
    return Fixed(audio, condition, track_ids, sample_noise, decode_noise, asked, mapped)


def render_epoch(run: Path, fixed: Fixed, model: WaveformVAE, manifest: Manifest, epoch: int) -> Rendered:
    """WAV files and pictures of the fixed clips and latents, in `samples/epoch-0007`."""
    rate = manifest.sample_rate_hz
    reconstruction = model.reconstruct(tf.constant(fixed.audio), fixed.condition).numpy()
    latents = model.sample(
        fixed.asked, manifest.clip_samples, fixed.sample_noise, 1.0, Guidance(GUIDANCE, GUIDANCE)
    )
    new = model.decode(latents, fixed.asked, manifest.clip_samples, fixed.decode_noise).numpy()
    snr_db = distances.snr_db(tf.constant(fixed.audio), reconstruction).numpy()
    folder = run / SAMPLES / f"epoch-{epoch:04d}"
    folder.mkdir(exist_ok=True)
    for name, clips in (("reconstruction", reconstruction), ("new", new)):
        for index, clip in enumerate(clips):
            wav.write_wav(folder / f"{name}-{index:02d}.wav", clip, rate)
    _describe(run, fixed, snr_db, manifest)
    rows = {"original": fixed.audio, "reconstruction": reconstruction, "new": new}
    pictures = clip_figures.draw_pictures(folder, rows, rate, fixed.track_ids, f"epoch {epoch}")
    pictures["latents"] = folder / "latents.png"
    _draw_latents(pictures["latents"], fixed.mapped, model, manifest.genres)
    return Rendered({"reconstruction": reconstruction, "new": new}, rate, pictures)


def render_training_gif(run: Path) -> None:
    """How the fixed samples changed over the epochs: `samples/training.gif`."""
    frames = sorted((run / SAMPLES).glob("epoch-*/spectrograms.png"))
    if frames:
        figures.write_training_gif(run / TRAINING_GIF, frames)


def _spread(clips: tf.data.Dataset, manifest: Manifest, wanted: int) -> Clip:
    """Up to `wanted` test clips, evenly over the split, stacked."""
    there = manifest.clip_count("test")
    wanted = min(wanted, there)
    chosen = {rank * there // wanted for rank in range(wanted)}
    rows = [row for index, row in enumerate(clips.as_numpy_iterator()) if index in chosen]
    return tf.nest.map_structure(lambda *parts: np.stack(parts), *rows)


def _draw_latents(path: Path, clips: Clip, model: WaveformVAE, genres: Sequence[str]) -> None:
    """The slowest level's."""
    slowest = []
    for first in range(0, len(clips.audio), clip_figures.PICTURED_CLIPS):
        some = slice(first, first + clip_figures.PICTURED_CLIPS)
        latents = model.encode(
            tf.constant(clips.audio[some]), Condition(*(of[some] for of in clips.condition))
        )
        slowest.append(model.level_values(latents)[model.levels[0]].numpy())
    figures.draw_latents(path, np.concatenate(slowest), [genres[genre] for genre in clips.condition.genre])


def _describe(run: Path, fixed: Fixed, snr_db: np.ndarray, manifest: Manifest) -> None:
    clips = [
        {"name": f"{index:02d}", "track_id": track, "genre": manifest.genres[genre], "snr_db": float(snr)}
        for index, (track, genre, snr) in enumerate(
            zip(fixed.track_ids, fixed.condition.genre, snr_db, strict=True)
        )
    ]
    # The uploader may be reading the old file.
    write_atomically(run / SAMPLE_CLIPS, json.dumps(clips, indent=2) + "\n")
