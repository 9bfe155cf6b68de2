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
from trainer.models import WaveformVAE, make_model
from trainer.run_directory import CHECKPOINTS, fetch_run
from trainer.storage import Prefix, default_cache, is_remote, open_dataset

CLIPS_AT_ONCE = 8

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
    checkpoint = tf.train.latest_checkpoint(str(path / CHECKPOINTS))
    if checkpoint is None:
        raise CommandError(f"--run {run} has no checkpoint yet: train at least one epoch", BAD_DATA)
    facts = described.dataset
    model = make_model(described.config, facts.clip_samples, len(facts.genres))
    # The checkpoint also holds the optimizer, which generation has no use for.
    tf.train.Checkpoint(model=model).restore(checkpoint).expect_partial()
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
    known = [start.genre if maker.model.conditional else None for start in starts]
    originals = np.stack([start.audio for start in starts])
    variations = maker.vary(originals, options.amount, options.seed, known)
    titles = [start.track_id for start in starts]
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary) if is_remote(output) else Path(output)
        folder.mkdir(parents=True, exist_ok=True)
        listed = []
        for kind, clips, genres in (("new", new, names), ("variation", variations, known)):
            for index, clip in enumerate(tqdm(clips, desc=f"writing {kind}", unit=" clips", leave=False)):
                file = f"{kind}-{index:02d}.wav"
                render.write_wav(folder / file, clip, maker.sample_rate_hz, options.output_rate_hz)
                source = titles[index] if kind == "variation" else None
                listed.append({"file": file, "genre": genres[index], "from": source})
        (folder / "clips.json").write_text(json.dumps(listed, indent=2) + "\n")
        rows = {"original": originals, "variation": variations, "new": new}
        samples.draw_pictures(folder, rows, maker.sample_rate_hz, titles, f"amount {options.amount}")
        files = sorted(path.name for path in folder.iterdir() if path.is_file())
        if is_remote(output):
            Prefix(output).upload(files, folder)
    return [row["file"] for row in listed]


def _starts(maker: MusicMaker, options: Options, cache: Path) -> list[Start]:
    """The clips to vary: of the dataset's test split if one is given, else those that the run keeps."""
    if options.data is None:
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
        rows = dataset.open_split(folder, manifest, "test").as_numpy_iterator()
        found = [Start(audio, track.decode(), manifest.genres[genre]) for audio, genre, track in rows]
    if options.genre is not None:
        found = [start for start in found if start.genre == options.genre]
        if not found:
            where = options.data or "the clips that the run keeps"
            raise CommandError(f"no {options.genre} in {where}: give --data with a test clip of it", BAD_DATA)
    return [found[index % len(found)] for index in range(options.count)]
