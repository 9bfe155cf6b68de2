"""Music from a trained run: `load(run)` gives an object with `sample`, `vary` and `reconstruct`.

from trainer.generate import load
model = load("runs/wave")
clips = model.sample(count=4, seed=1)          # [4, samples] float32 in [-1, 1] at model.sample_rate_hz
varied = model.vary(clips, amount=0.5)
"""

from __future__ import annotations

import json
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import tensorflow as tf
from tqdm import tqdm

from preprocessing.errors import BAD_DATA, USAGE, CommandError
from trainer import config as configs
from trainer import dataset, render, samples
from trainer.checkpoint import restore_newest
from trainer.models import WaveformVAE, make_model
from trainer.run_directory import CHECKPOINTS, fetch_run
from trainer.storage import Prefix, default_cache, is_remote, open_dataset

CLIPS_AT_ONCE = 8
PICTURED_CLIPS = 8

Genre = str | Sequence[str | None] | None


def load(run: str | Path, cache: Path | None = None) -> MusicMaker:
    """Loads the newest checkpoint of a run, local or `gs://`.

    Raises:
        CommandError: It is not a run, or has no checkpoint yet (3); storage failed (4).
    """
    path = fetch_run(str(run), cache or default_cache())
    described = configs.load(path)
    if described is None:
        raise CommandError(f"--run {run} has no {configs.NAME}: train there first", BAD_DATA)
    facts = described.dataset
    model = make_model(described.config, facts.clip_samples, len(facts.genres))
    if not restore_newest(tf.train.Checkpoint(model=model), path / CHECKPOINTS):
        raise CommandError(f"--run {run} has no checkpoint yet: train at least one epoch", BAD_DATA)
    return MusicMaker(model, described, path)


class Options(NamedTuple):
    """What `generate` can be told; `data` None varies the clips that the run keeps."""

    count: int = 4
    seed: int = 0
    genre: str | None = None
    amount: float = 0.5
    data: str | None = None
    output_rate_hz: int | None = None


class MusicMaker:
    """A trained model. Clips are `[clips, samples]` float32 in [-1, 1] at `sample_rate_hz`.

    The same arguments give the same clips. `genre` is one of `genres` for all clips, a list with one (or
    None) for each, or None: left open. A model that was not trained on genres refuses a name.
    """

    def __init__(self, model: WaveformVAE, run: configs.Run, path: Path) -> None:
        self.model = model
        self.path = path
        self.sample_rate_hz = run.dataset.sample_rate_hz
        self.clip_samples = run.dataset.clip_samples
        self.genres = run.dataset.genres
        self.dataset_uri = run.dataset.uri

    def sample(self, count: int = 1, seed: int = 0, genre: Genre = None) -> np.ndarray:
        """New clips from latents of the prior."""
        shape = self.model.latent_shape(self.clip_samples)
        latents = tf.random.stateless_normal([count, *shape], [seed, 0])
        return self._in_batches(self._decode, latents, self._genres(count, genre))

    def vary(self, clips: np.ndarray, amount: float = 0.5, seed: int = 0, genre: Genre = None) -> np.ndarray:
        """The reference notebook's way: encode, move the latent, decode.

        Args:
            clips: What to start from.
            amount: Standard deviations of the prior to move by; 0 reconstructs.
            seed: Of the direction.
            genre: The genre the clips are said to have.
        """
        clips = self._checked(clips)
        genres = self._genres(len(clips), genre)
        means = self._in_batches(lambda audio, genre: self.model.encode(audio, genre).mean, clips, genres)
        noise = tf.random.stateless_normal(means.shape, [seed, 1])
        return self._in_batches(self._decode, means + amount * noise, genres)

    def reconstruct(self, clips: np.ndarray, genre: Genre = None) -> np.ndarray:
        """Clips through the model and back."""
        clips = self._checked(clips)
        return self._in_batches(self.model.reconstruct, clips, self._genres(len(clips), genre))

    def _decode(self, latents: tf.Tensor, genre: tf.Tensor) -> tf.Tensor:
        return self.model.sample(latents, genre, self.clip_samples)

    def _genres(self, count: int, genre: Genre) -> np.ndarray:
        names = [genre] * count if genre is None or isinstance(genre, str) else list(genre)
        if len(names) != count or not names:
            raise CommandError(
                f"{count} clips need as many genres, and at least one, not {len(names)}", USAGE
            )
        for name in {*names} - {None}:
            if not self.model.conditional:
                raise CommandError("this run's model was not trained on genres: leave --genre out", USAGE)
            if name not in self.genres:
                raise CommandError(f"this run knows the genres {', '.join(self.genres)}, not {name}", USAGE)
        return np.array([dataset.ANY_GENRE if n is None else self.genres.index(n) for n in names], np.int32)

    def _checked(self, clips: np.ndarray) -> np.ndarray:
        clips = np.asarray(clips, np.float32)
        if clips.ndim != 2 or clips.shape[1] != self.clip_samples:
            wanted = f"[clips, {self.clip_samples}] at {self.sample_rate_hz} Hz"
            raise CommandError(f"the run works on clips {wanted}, not {list(clips.shape)}", USAGE)
        return clips

    def _in_batches(
        self, make: Callable[[tf.Tensor, tf.Tensor], tf.Tensor], values: np.ndarray, genres: np.ndarray
    ) -> np.ndarray:
        pairs = tf.data.Dataset.from_tensor_slices((values, genres)).batch(CLIPS_AT_ONCE)
        return np.concatenate([make(value, genre).numpy() for value, genre in pairs])


class Made(NamedTuple):
    """A line of `music.json`: a file, the genre it was told, and the track it varies, if any."""

    file: str
    genre: str | None
    varies: str | None


class Start(NamedTuple):
    """A clip to vary, `[clip_samples]` float32."""

    audio: np.ndarray
    track_id: str
    genre: str


def generate(run: str, output: str, cache: Path, options: Options) -> list[str]:
    """Writes `count` new clips and `count` variations of known ones as WAV files, with pictures and a list.

    Raises:
        CommandError: Wrong genre (2), no run or no data (3), storage failed (4).
    """
    maker = load(run, cache)
    names = [options.genre] * options.count
    if options.genre is None and maker.model.conditional:
        names = [maker.genres[index % len(maker.genres)] for index in range(options.count)]
    new = maker.sample(options.count, options.seed, names)
    starts = _starts(maker, options, cache)
    made = [Made(f"new-{index:02d}.wav", genre, None) for index, genre in enumerate(names)]
    sounds, rows = [new], {"new": new}
    if starts:
        originals = np.stack([start.audio for start in starts])
        known = [start.genre if maker.model.conditional else None for start in starts]
        variations = maker.vary(originals, options.amount, options.seed, known)
        made += [Made(f"variation-{i:02d}.wav", s.genre, s.track_id) for i, s in enumerate(starts)]
        sounds, rows = [new, variations], {"original": originals, "variation": variations, "new": new}
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary) if is_remote(output) else Path(output)
        folder.mkdir(parents=True, exist_ok=True)
        for old in [*folder.glob("new-*.wav"), *folder.glob("variation-*.wav")]:
            old.unlink()
        progress = tqdm(made, desc="writing", unit=" clips", leave=False)
        for one, clip in zip(progress, np.concatenate(sounds), strict=True):
            render.write_wav(folder / one.file, clip, maker.sample_rate_hz, options.output_rate_hz)
        (folder / "music.json").write_text(json.dumps([one._asdict() for one in made], indent=2) + "\n")
        _draw(folder, rows, starts, maker.sample_rate_hz, options.amount)
        if is_remote(output):
            Prefix(output).upload(sorted(path.name for path in folder.iterdir()), folder)
    return [one.file for one in made]


def _draw(
    folder: Path, rows: dict[str, np.ndarray], starts: list[Start], sample_rate_hz: int, amount: float
) -> None:
    """The first clips as pictures; more than a few would be too small to see."""
    shown = {name: clips[:PICTURED_CLIPS] for name, clips in rows.items()}
    titles = [start.track_id for start in starts] or [f"new {index:02d}" for index in range(len(rows["new"]))]
    heading = f"variations by {amount:g}, and new clips" if starts else "new clips"
    samples.draw_pictures(folder, shown, sample_rate_hz, titles[:PICTURED_CLIPS], heading)


def _starts(maker: MusicMaker, options: Options, cache: Path) -> list[Start]:
    """The clips to vary: of the dataset's test split if one is given, else those that the run keeps."""
    if options.data is None:
        if not (maker.path / samples.CLIPS).exists():
            raise CommandError(
                f"--run has no {samples.CLIPS}: give --data, a dataset to vary clips of", BAD_DATA
            )
        found = [
            Start(
                render.read_wav(maker.path / samples.ORIGINALS / f"{clip['name']}.wav"),
                clip["track_id"],
                clip["genre"],
            )
            for clip in json.loads((maker.path / samples.CLIPS).read_text())
        ]
    else:
        folder, manifest = open_dataset(options.data, cache)
        if manifest.sample_rate_hz != maker.sample_rate_hz:
            rates = f"{manifest.sample_rate_hz} Hz, the run's at {maker.sample_rate_hz} Hz"
            raise CommandError(f"--data {options.data} is at {rates}: preprocess it at the run's", USAGE)
        rows = dataset.open_split(folder, manifest, "test").as_numpy_iterator()
        found = [Start(audio, track.decode(), manifest.genres[genre]) for audio, genre, track in rows]
    if options.genre is not None:
        found = [start for start in found if start.genre == options.genre]
    if not found:
        print(
            f"no {options.genre} among the clips to vary, so only new ones: --data names a dataset with some"
        )
        return []
    return [found[index % len(found)] for index in range(options.count)]
