"""Fetch and verify shards in background threads, before readers need them."""

from __future__ import annotations

import contextlib
import functools
import threading
import time
from collections.abc import Callable, Collection, Iterator, Sequence
from pathlib import Path

from preprocessing.dataset.manifest import Shard
from preprocessing.errors import CommandError, StorageError
from trainer.data.schedule import Schedule, Stream
from trainer.data.shards import Shards

FIRST_FETCHES = 2  # at once, until a reader has its first shard: more would share the bandwidth and delay it


class InterruptedReaderError(Exception):
    """A reader was told to end while it waited for a shard."""


class ReadAhead:
    """Hands out verified shards to readers, and makes ready what they need next. Safe in any thread.

    Which shards are ready decides only how long a reader waits, never what it reads. A shard that cannot be fetched in
    advance is tried again when a reader needs it, and only then is an error. Threads run while there is something to
    fetch and room for it; they are daemons, so that a program ends whatever they wait for.

    Attributes:
        error: Why a shard that a reader needs cannot be made ready; then every reader fails. None: there is no error.
    """

    def __init__(self, shards: Shards) -> None:
        self._shards, self._schedule = shards, Schedule()
        self._condition = threading.Condition()
        self._fetching: dict[str, Shard] = {}
        self._failed: dict[str, Exception] = {}
        self._wanted: dict[Stream, Shard] = {}  # by readers that wait
        self._pinned: dict[Stream, Shard] = {}
        self._has_handed_out = self._is_interrupted = self._is_closed = False
        self._blocked_secs, self._blocked_since = 0.0, 0.0
        self.error: Exception | None = None

    def __enter__(self) -> ReadAhead:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @property
    def blocked_secs(self) -> float:
        """Seconds in which at least one reader has waited for a shard."""
        with self._condition:
            return self._blocked_secs + (time.monotonic() - self._blocked_since if self._wanted else 0.0)

    def add_stream(
        self, shards: Sequence[Shard], starts: Sequence[float] | None = None, passes: int = 1
    ) -> Stream:
        """Add a reader, which will open `shards` in this order; see `Stream`. By default, it opens them soon."""
        stream = Stream(shards, [0.0] * len(shards) if starts is None else starts, passes)
        with self._condition:
            self._schedule.add(stream)
        return stream

    def start(self) -> None:
        """Begin to fetch what the streams need first."""
        with self._condition:
            self._start_fetches()

    def restart(self, stream: Stream, passes: int, skipped: Collection[int] = ()) -> None:
        """Let a reader begin again; see `Stream.restart`."""
        with self._condition:
            stream.restart(passes, skipped)

    def open(self, stream: Stream, index: int) -> Path | None:
        """Return the path of a reader's file `index`, verified, as soon as it is ready.

        The file stays until the reader opens its next one. An index after the last ends the pass: the path is None.

        Raises:
            CommandError: The shard is missing or differs from the manifest (exit code 3), or storage failed (4).
            InterruptedReaderError: See `interrupted`.
        """
        with self._condition:
            if self.error:  # TensorFlow's threads go on after an error
                raise self.error
            if stream in self._pinned:
                self._shards.unpin(self._pinned.pop(stream))
            if index == len(stream.shards):
                self._start_fetches()
                return None
            shard = stream.shards[index]
            stream.advance(index)
            self._failed.pop(shard.name, None)
            path = self._await(stream, shard)
            self._pinned[stream] = shard
            self._has_handed_out = True
            self._start_fetches()
            return path

    @contextlib.contextmanager
    def interrupted(self) -> Iterator[None]:
        """Let every reader that waits inside the block fail, so that it ends."""
        with self._condition:
            self._is_interrupted = True
            self._condition.notify_all()
        try:
            yield
        finally:
            with self._condition:
                self._is_interrupted = False

    def close(self) -> None:
        """Start no more fetches, and let all readers fail."""
        with self._condition:
            self._is_closed = True
            self._condition.notify_all()
            while self._pinned:
                self._shards.unpin(self._pinned.popitem()[1])

    def _await(self, stream: Stream, shard: Shard) -> Path:
        try:
            while True:
                if self._is_interrupted or self._is_closed:
                    raise InterruptedReaderError
                if path := self._shards.pin(shard):
                    return path
                if shard.name in self._failed:
                    self.error = self._failed.pop(shard.name)
                    raise self.error
                if not self._wanted:
                    self._blocked_since = time.monotonic()
                self._wanted[stream] = shard
                self._start_fetches()
                if self._fetching:
                    self._condition.wait()
                elif shard.name not in self._failed:
                    self._failed[shard.name] = StorageError(
                        f"`cache_disk_gb` leaves no room for {shard.name}, because other programs read the files of "
                        "`cache_dir`: raise it, or choose another folder"
                    )
        finally:
            if self._wanted.pop(stream, None) and not self._wanted:
                self._blocked_secs += time.monotonic() - self._blocked_since

    def _start_fetches(self) -> None:
        """Start a thread for each shard that is to be fetched now, up to the limit."""
        limit = self._shards.threads if self._has_handed_out else max(FIRST_FETCHES, len(self._wanted))
        while len(self._fetching) < limit and (shard := self._reserve_next()):
            threading.Thread(target=self._fetch_from, args=(shard,), daemon=True).start()

    def _fetch_from(self, shard: Shard | None) -> None:
        """Fetch a shard, and then others as long as there are some."""
        while shard:
            error: Exception | None = None
            try:
                self._shards.fetch(shard)
            except Exception as caught:
                error = caught
            with self._condition:
                self._shards.settle(shard, is_ready=error is None)
                del self._fetching[shard.name]
                if error is not None:
                    self._failed[shard.name] = error
                self._condition.notify_all()
                shard = self._reserve_next()
                self._start_fetches()

    def _reserve_next(self) -> Shard | None:
        """Choose the next shard to fetch, and reserve room for it."""
        if self._is_closed:
            return None
        for shard in self._wanted.values():
            if self._can_fetch(shard) and self._reserve(shard, self._schedule.time_of, 0):
                return shard
        is_short_of_room = any(shard.name not in self._fetching for shard in self._wanted.values())
        if is_short_of_room or self._failed:  # storage that fails is asked only for what is needed at once
            return None
        ahead_bytes = 0
        for needed_at, _, shard in self._schedule.upcoming():
            if self._can_fetch(shard):
                evicts = functools.partial(self._time_if_later, needed_at)
                return shard if self._reserve(shard, evicts, ahead_bytes) else None
            ahead_bytes += shard.bytes
        return None

    def _can_fetch(self, shard: Shard) -> bool:
        busy = shard.name in self._fetching or shard.name in self._failed
        return not busy and not self._shards.is_ready(shard)

    def _reserve(self, shard: Shard, evicts: Callable[[str], float | None], ahead_bytes: int) -> bool:
        try:
            is_reserved = self._shards.reserve(shard, evicts, ahead_bytes)
        except CommandError as error:
            self._failed[shard.name] = error
            return False
        if is_reserved:
            self._fetching[shard.name] = shard
        return is_reserved

    def _time_if_later(self, needed_at: float, name: str) -> float | None:
        """Return when a file is needed next; None if that is not after `needed_at`."""
        time_of = self._schedule.time_of(name)
        return time_of if time_of > needed_at else None
