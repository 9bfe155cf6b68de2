"""What a worker reads in a training: its input shards of the training split, and the other splits."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import tensorflow as tf

from preprocessing.dataset.manifest import Manifest, Shard
from preprocessing.errors import UsageError
from trainer.config import Config
from trainer.data.clip_store import Clips, ClipStore, StoredClips, decoded_bytes
from trainer.data.dataset import Clip, files_of_input_shard, open_stream, read_clips
from trainer.data.fetch import open_shards
from trainer.data.input_pipeline import training_batches
from trainer.data.reader import Reader
from trainer.data.resume import unneeded_files
from trainer.data.schedule import Stream
from trainer.runs.storage import is_remote

FOLDER = "clips"  # in the cache: of decoded clips
SPLITS = ("train", "validation", "test")
# When each split is read within an epoch, as `Stream.starts`.
TIMES = {"train": (0.0, 0.5), "test": (0.5, 0.75), "validation": (0.75, 1.0)}


def fits_on_disk(manifest: Manifest, config: Config) -> bool:
    """Tell whether the decoded clips of all splits are stored, rather than read from their shards in each epoch."""
    return decoded_bytes(manifest, SPLITS) <= config.clip_cache_gb * 1e9


class TrainingData:
    """The clips that a worker reads, each shard as soon as it is there. Use as a context manager.

    If the decoded clips may be stored, the first epoch of a process still reads them from the shards, so that it begins
    with the first ones, and stores them. A resumed epoch that skips files is read again after it.

    Attributes:
        manifest: Of the dataset.
        source: Hands out the shards.
    """

    def __init__(
        self, dataset_uri: str, manifest: Manifest, config: Config, numbers: range, cache: Path
    ) -> None:
        """Open the shards; nothing is fetched until a reader needs it, or `start`.

        Args:
            dataset_uri: The dataset, as `find_dataset` returns it.
            manifest: Of the dataset.
            config: Of the run.
            numbers: The worker's input shards.
            cache: Local folder for remote shards and decoded clips.

        Raises:
            CommandError: There are too few files for the input shards, or `cache_disk_gb` is too small (exit code 2), a
                split that is needed is empty (3), or storage failed (4).
        """
        self.manifest, self._config, self._numbers = manifest, config, numbers
        self._fits = fits_on_disk(manifest, config)
        self._folder = cache / FOLDER
        train = [files_of_input_shard(manifest, "train", number, config.input_shards) for number in numbers]
        self._train_counts = [sum(shard.records for shard in files) for files in train]
        self._files = {"test": files_of_input_shard(manifest, "test")}
        if manifest.clip_count("validation"):
            self._files["validation"] = files_of_input_shard(manifest, "validation")
        if is_remote(dataset_uri):
            _check_room([*train, [shard for files in self._files.values() for shard in files]], config)
        self.source = open_shards(dataset_uri, manifest, cache, round(config.cache_disk_gb * 1e9))
        passes = 1 if self._fits else config.epochs
        self._train = [self._add_stream("train", files, passes) for files in train]
        self._rest = (
            [self.source.add_stream(files, [1.0] * len(files)) for files in train] if self._fits else []
        )
        self._streams = {name: self._add_stream(name, files, passes) for name, files in self._files.items()}
        self._opened: dict[str, tf.data.Dataset] = {}
        self._stores: dict[str, ClipStore] = {}
        self._train_stored: list[StoredClips] = []
        self._train_stores: list[ClipStore] = []
        self._made: list[ClipStore] = []

    def __enter__(self) -> TrainingData:
        return self

    def __exit__(self, *_: object) -> None:
        self.source.close()
        for store in self._made:
            store.close()

    def begin(self, epoch: int, step: int, while_waiting: Callable[[], None]) -> Reader:
        """Begin to read the training batches of all remaining epochs; close the previous reader before.

        Args:
            epoch: Number of finished epochs.
            step: Number of finished steps of the next epoch.
            while_waiting: See `Reader`.
        """
        epochs = range(epoch + 1, self._config.epochs + 1)
        passes = 1 if self._fits else len(epochs)
        skipped = [
            unneeded_files(self.manifest, self._config, epoch + 1, number, step)
            if step and epochs
            else frozenset()
            for number in self._numbers
        ]
        for stream, unneeded in zip(self._train, skipped, strict=True):
            self.source.restart(stream, 0 if self._train_stored else passes, unneeded)
        for stream in self._rest:
            is_needed = len(epochs) > 1 and any(skipped) and not self._train_stored
            self.source.restart(stream, 1 if is_needed else 0)
        for name, stream in self._streams.items():
            self.source.restart(stream, 0 if name in self._stores else passes)
        if not self._train_stored:
            for store in self._train_stores:  # of a reader that has not come to the end of its first epoch
                store.close()
        self.source.start()
        return Reader(self.source, self._datasets(epochs, step, skipped), while_waiting)

    def load_test_clips(self, while_waiting: Callable[[], None]) -> Clips:
        """Return the test split, decoded if it is stored; `while_waiting` is called while it is stored."""
        return self._evaluation_clips("test", while_waiting)

    def load_validation_clips(self, while_waiting: Callable[[], None]) -> Clips | None:
        """Return the validation split as `load_test_clips`; None if it is empty."""
        return self._evaluation_clips("validation", while_waiting) if "validation" in self._files else None

    def load_test_clips_at(self, indices: Sequence[int]) -> ClipStore:
        """Read single test clips, and only their files, into a store of their own.

        Args:
            indices: Of the clips, in the order of the split, increasing.
        """
        store = ClipStore(self.manifest, len(indices), self._folder)
        for row, clip in enumerate(self._read_test_clips(indices)):
            store.write(row, clip)
        return store

    def _read_test_clips(self, indices: Sequence[int]) -> Iterator[Clip]:
        if stored := self._stores.get("test"):
            for index in indices:
                yield tf.nest.map_structure(lambda values: values[0], stored.take([index]))
            return
        wanted, files, places = set(indices), list[Shard](), list[int]()
        first = 0
        for shard in self._files["test"]:
            clips = range(first, first + shard.records)
            if not wanted.isdisjoint(clips):
                files.append(shard)
                places += clips
            first = clips.stop
        clips = open_stream(self.source, self.source.add_stream(files), self.manifest)
        for place, clip in zip(places, read_clips(self.source, clips), strict=True):
            if place in wanted:
                yield clip

    def _datasets(
        self, epochs: range, step: int, skipped: Sequence[frozenset[int]]
    ) -> Iterator[Callable[[], tf.data.Dataset]]:
        """Yield functions that make datasets of batches, which follow one another."""

        def batches_of(input_shards: Sequence[Clips], epochs: range) -> tf.data.Dataset:
            return training_batches(input_shards, self._config, self.manifest, epochs, self._numbers.start)

        def open_streams(skipped: Sequence[frozenset[int]]) -> list[tf.data.Dataset]:
            pairs = zip(self._train, skipped, strict=True)
            return [open_stream(self.source, stream, self.manifest, unneeded) for stream, unneeded in pairs]

        if self._train_stored:
            yield lambda: batches_of(self._train_stored, epochs).skip(step)
            return
        is_alone = self._fits or step
        first, rest = (epochs[:1], epochs[1:]) if is_alone else (epochs, epochs[:0])
        clips: Sequence[Clips] = open_streams(skipped)
        stores_first = self._fits and rest and not any(skipped)
        if stores_first:
            stores = self._make_train_stores()
            clips = [store.storing(stream) for store, stream in zip(stores, clips, strict=True)]
        yield lambda: batches_of(clips, first).skip(step)
        if not rest:
            return
        if not self._fits:
            yield lambda: batches_of(open_streams([frozenset()] * len(skipped)), rest)
            return
        if stores_first:
            self._train_stored = [store.stored() for store in self._train_stores]
        else:  # some clips were not read
            streams = [open_stream(self.source, stream, self.manifest) for stream in self._rest]
            pairs = zip(self._make_train_stores(), streams, strict=True)
            self._train_stored = [store.read(clips) for store, clips in pairs]
        yield lambda: batches_of(self._train_stored, rest)

    def _make_train_stores(self) -> list[ClipStore]:
        self._train_stores = [self._make_store(count) for count in self._train_counts]
        return self._train_stores

    def _make_store(self, count: int) -> ClipStore:
        self._made.append(ClipStore(self.manifest, count, self._folder))
        return self._made[-1]

    def _evaluation_clips(self, split: str, while_waiting: Callable[[], None]) -> Clips:
        if split in self._stores:
            return self._stores[split].stored()
        if split not in self._opened:
            self._opened[split] = open_stream(self.source, self._streams[split], self.manifest)
        clips = self._opened[split]
        if not self._fits:
            return clips
        store = self._make_store(self.manifest.clip_count(split))
        with Reader(self.source, [lambda: store.storing(clips).rows], while_waiting) as reader:
            for _ in reader:
                pass
        self._stores[split] = store
        return store.stored()

    def _add_stream(self, split: str, files: Sequence[Shard], passes: int) -> Stream:
        """Add a stream whose files are needed in proportion to their clips within the time of their split."""
        start, end = TIMES[split]
        clips = [0, *itertools.accumulate(shard.records for shard in files)]
        starts = [start + (end - start) * before / max(1, clips[-1]) for before in clips[:-1]]
        return self.source.add_stream(files, starts, passes)


def _check_room(groups: Sequence[Sequence[Shard]], config: Config) -> None:
    """Refuse a cache that cannot hold the files that are open at once, the largest of each group (exit code 2)."""
    needed_gb = sum(max(shard.bytes for shard in files) for files in groups) / 1e9
    if needed_gb > config.cache_disk_gb:
        raise UsageError(
            f"`cache_disk_gb` {config.cache_disk_gb:g} is too small: {len(groups)} shards of `data` are open at once "
            f"and take {needed_gb:.3g} GB, and as many should be read ahead",
        )
