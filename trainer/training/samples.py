"""Render the same test clips, and new clips from the same noise, after every epoch, so that epochs can be compared."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import tensorflow as tf

from preprocessing.dataset.manifest import Manifest
from preprocessing.storage.atomic import write_atomically
from trainer.conditioning import DROPPED_KEY, Condition
from trainer.config import Config
from trainer.data.clip_store import ClipStore
from trainer.dsp import distances
from trainer.generation import synthesis
from trainer.generation.options import TEMPERATURE
from trainer.generation.synthesis import Sampling
from trainer.models.base import WaveformVAE
from trainer.reporting import clip_figures, figures, wav
from trainer.run_config import DatasetMetadata
from trainer.runs.directory import ORIGINALS, SAMPLE_CLIPS, SAMPLES, TRAINING_GIF

PLOTTED_LATENTS = 64  # test clips whose latents are plotted after each epoch: 1 to 2 s on two cores


class FixedSamples(NamedTuple):
    """Test clips to reconstruct, and the conditions of new clips."""

    audio: np.ndarray  # [clips, clip_samples] float32
    condition: Condition  # of these clips
    track_ids: list[str]
    new_condition: Condition  # of the new clips: the genres in turn, the rest left open
    seed: int  # of the new clips
    store: ClipStore  # of test clips
    plotted: Sequence[int]  # rows of those whose latents are plotted


class RenderedSamples(NamedTuple):
    """The rendered samples of one epoch, for TensorBoard."""

    audio: dict[str, np.ndarray]  # name -> [clips, samples] float32 in [-1, 1]
    sample_rate_hz: int
    image_paths: dict[str, Path]  # name -> PNG file


def choose_samples(
    run: Path,
    read: Callable[[Sequence[int]], ClipStore],
    config: Config,
    manifest: Manifest,
) -> FixedSamples:
    """Choose test clips evenly over the split, and write them to the run.

    Args:
        run: The local run directory, which may have them already.
        read: Stores the test clips of increasing indices.
        config: Of the run.
        manifest: Of the dataset.
    """
    rendered, plotted = (_even_indices(manifest, count) for count in (config.sample_clips, PLOTTED_LATENTS))
    indices = sorted({*rendered, *plotted})
    store = read(indices)
    audio, condition, ids = store.take(map(indices.index, rendered))
    track_ids = [track.decode("utf-8", "replace") for track in ids]
    genres = np.arange(len(audio), dtype=np.int32) % len(manifest.genres)
    new_condition = Condition(
        genres, np.full_like(condition.attributes, np.nan), np.full_like(condition.key, DROPPED_KEY)
    )
    (run / ORIGINALS).mkdir(parents=True, exist_ok=True)
    for index, clip in enumerate(audio):
        wav.write_wav(run / ORIGINALS / f"{index:02d}.wav", clip, manifest.sample_rate_hz)
    rows = [indices.index(index) for index in plotted]
    return FixedSamples(audio, condition, track_ids, new_condition, config.seed, store, rows)


def render_epoch(
    run: Path, fixed: FixedSamples, model: WaveformVAE, metadata: DatasetMetadata, epoch: int
) -> RenderedSamples:
    """Write audio and images of an epoch's reconstructions and new clips, for example into `samples/epoch-0007`."""
    rate, genres = metadata.sample_rate_hz, metadata.genres
    reconstruction = model.reconstruct(tf.constant(fixed.audio), fixed.condition).numpy()
    indices = range(len(fixed.audio))
    sampling = Sampling(metadata.clip_samples, fixed.seed, indices, TEMPERATURE, guidance=None)
    new = synthesis.sample(model, metadata, fixed.new_condition, sampling).numpy()
    snr_db = distances.snr_db(tf.constant(fixed.audio), reconstruction).numpy()
    folder = run / SAMPLES / f"epoch-{epoch:04d}"
    folder.mkdir(exist_ok=True)
    for name, clips in (("reconstruction", reconstruction), ("new", new)):
        for index, clip in enumerate(clips):
            wav.write_wav(folder / f"{name}-{index:02d}.wav", clip, rate)
    _write_clip_list(run, fixed, snr_db, genres)
    rows = {"original": fixed.audio, "reconstruction": reconstruction, "new": new}
    image_paths = clip_figures.draw_pictures(folder, rows, rate, fixed.track_ids, f"epoch {epoch}")
    image_paths["latents"] = folder / "latents.png"
    _plot_latents(image_paths["latents"], fixed, model, genres)
    return RenderedSamples({"reconstruction": reconstruction, "new": new}, rate, image_paths)


def render_training_gif(run: Path) -> None:
    """Write `samples/training.gif`: the spectrograms of the samples, epoch by epoch."""
    frames = sorted((run / SAMPLES).glob("epoch-*/spectrograms.png"))
    if frames:
        figures.write_training_gif(run / TRAINING_GIF, frames)


def _even_indices(manifest: Manifest, count: int) -> list[int]:
    """Return the indices of `count` test clips, or of all if there are fewer, at even distances in the split."""
    available = manifest.clip_count("test")
    count = min(count, available)
    return [rank * available // count for rank in range(count)]


def _plot_latents(path: Path, fixed: FixedSamples, model: WaveformVAE, genres: Sequence[str]) -> None:
    """Plot the latents of the first level, which has the lowest rate."""
    slowest, names = [], []
    for first in range(0, len(fixed.plotted), clip_figures.PICTURED_CLIPS):
        clips = fixed.store.take(fixed.plotted[first : first + clip_figures.PICTURED_CLIPS])
        latents = model.encode(tf.constant(clips.audio), clips.condition)
        slowest.append(model.level_values(latents)[model.levels[0]].numpy())
        names += [genres[genre] for genre in clips.condition.genre]
    figures.draw_latents(path, np.concatenate(slowest), names)


def _write_clip_list(run: Path, fixed: FixedSamples, snr_db: np.ndarray, genres: Sequence[str]) -> None:
    clips = [
        {"name": f"{index:02d}", "track_id": track, "genre": genres[genre], "snr_db": float(snr)}
        for index, (track, genre, snr) in enumerate(
            zip(fixed.track_ids, fixed.condition.genre, snr_db, strict=True)
        )
    ]
    # Atomically, since the uploader may be reading the old file.
    write_atomically(run / SAMPLE_CLIPS, json.dumps(clips, indent=2) + "\n")
