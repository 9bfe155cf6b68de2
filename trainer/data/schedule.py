"""When each shard is needed: the order in which readers open their files, pass after pass."""

from __future__ import annotations

import heapq
import math
from collections import defaultdict
from collections.abc import Collection, Iterator, Sequence

from preprocessing.dataset.manifest import Shard

NEVER = math.inf


class Stream:
    """The files that one reader opens, one after the other, in each of several passes.

    Times are in passes: file `index` is needed in pass `n`, from 0, at `n + starts[index]`.
    """

    def __init__(self, shards: Sequence[Shard], starts: Sequence[float], passes: int) -> None:
        """Describe a reader.

        Args:
            shards: Its files, in order.
            starts: When each is needed within a pass, increasing.
            passes: Number of passes.
        """
        self.shards, self.starts = list(shards), list(starts)
        self.restart(passes)

    def restart(self, passes: int, skipped: Collection[int] = ()) -> None:
        """Begin again, with `passes` passes; the first one does not open the files of the indices `skipped`."""
        size = len(self.shards)
        is_done = len(skipped) == size
        self._passes, self._skipped = passes, frozenset(() if is_done else skipped)
        self._next = size if is_done else 0  # number of the next file, counted over all passes

    def advance(self, index: int) -> None:
        """Note that the reader opens file `index`; one before the last opened file begins the pass again."""
        self._next = self._next // len(self.shards) * len(self.shards) + index + 1

    def time_of(self, index: int) -> float:
        """Return when file `index` is needed next."""
        size = len(self.shards)
        number = max(0, -(-(self._next - index) // size))
        number += number == 0 and index in self._skipped
        return number + self.starts[index] if number < self._passes else NEVER

    def upcoming(self) -> Iterator[tuple[float, str, Shard]]:
        """Yield time, name and shard of the next opening of each file, in order."""
        size = len(self.shards)
        last = min(self._next + size * (2 if self._skipped else 1), self._passes * size)
        for number, index in (divmod(count, size) for count in range(self._next, last)):
            if number or index not in self._skipped:
                yield number + self.starts[index], self.shards[index].name, self.shards[index]


class Schedule:
    """The streams of all readers of a dataset."""

    def __init__(self) -> None:
        self._streams: list[Stream] = []
        self._uses: defaultdict[str, list[tuple[Stream, int]]] = defaultdict(list)

    def add(self, stream: Stream) -> None:
        """Add a stream."""
        self._streams.append(stream)
        for index, shard in enumerate(stream.shards):
            self._uses[shard.name].append((stream, index))

    def time_of(self, name: str) -> float:
        """Return when any reader needs a file next; `NEVER` if none does."""
        return min((stream.time_of(index) for stream, index in self._uses.get(name, ())), default=NEVER)

    def upcoming(self) -> Iterator[tuple[float, str, Shard]]:
        """Yield time, name and shard of the next openings, the earliest first."""
        return heapq.merge(*(stream.upcoming() for stream in self._streams), key=lambda use: use[:2])
