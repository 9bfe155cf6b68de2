import threading
import time
from pathlib import Path

import pytest

from preprocessing.dataset.manifest import Shard
from preprocessing.errors import STORAGE_FAILED, DataError, StorageError
from trainer.data.read_ahead import FIRST_FETCHES, InterruptedReaderError, ReadAhead

SHARDS = [Shard(name, "train", 10, 100, "", "", "") for name in "abcdefgh"]


class MemoryShards:
    """Has room for `room` shards; `fetch` waits for `go` and fails for the names in `failures`."""

    threads = 4

    def __init__(self, room):
        self.room, self.go = room, threading.Event()
        self.go.set()
        self.begun, self.pinned, self.failures = [], [], {}
        self.present, self.reserved = set(), set()

    def is_ready(self, shard):
        return shard.name in self.present

    def reserve(self, shard, evicts, ahead_bytes):
        while len(self.present | self.reserved) >= self.room:
            candidates = [(evicts(name), name) for name in self.present - set(self.pinned)]
            candidates = [candidate for candidate in candidates if candidate[0] is not None]
            if not candidates:
                return False
            self.present.remove(max(candidates)[1])
        self.reserved.add(shard.name)
        return True

    def fetch(self, shard):
        self.begun.append(shard.name)
        assert self.go.wait(20)
        if self.failures.get(shard.name):
            raise self.failures[shard.name].pop()

    def settle(self, shard, is_ready):
        self.reserved.remove(shard.name)
        if is_ready:
            self.present.add(shard.name)
        assert len(self.present | self.reserved) <= self.room

    def pin(self, shard):
        if shard.name not in self.present:
            return None
        self.pinned.append(shard.name)
        return Path(shard.name)

    def unpin(self, shard):
        self.pinned.remove(shard.name)


def wait_until(condition):
    deadline = time.monotonic() + 20
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.001)


def train_stream(source, passes=2):
    return source.add_stream(SHARDS, [number / len(SHARDS) for number in range(len(SHARDS))], passes)


def in_thread(call):
    """Call a function in a thread; return the list that its result or error is added to."""
    results = []

    def work():
        try:
            results.append(call())
        except Exception as error:
            results.append(error)

    threading.Thread(target=work, daemon=True).start()
    return results


@pytest.mark.parametrize("room", [1, 2, 3, 5, 8])
def test_every_file_is_handed_out_in_order_whatever_room_there_is(room):
    shards = MemoryShards(room)
    source = ReadAhead(shards)
    stream = train_stream(source)
    for _ in range(2):
        names = [str(source.open(stream, index)) for index in range(len(SHARDS))]
        assert names == [shard.name for shard in SHARDS]
        assert source.open(stream, len(SHARDS)) is None
        assert shards.pinned == []
    # The second pass finds those that were kept: with room for one, none.
    wait_until(lambda: not shards.reserved)
    assert len(shards.begun) <= 16
    assert room < 8 or len(shards.begun) == 8


def test_shards_are_fetched_before_they_are_needed_and_only_two_before_the_first():
    shards = MemoryShards(room=6)
    shards.go.clear()
    source = ReadAhead(shards)
    stream = train_stream(source)
    source.start()
    wait_until(lambda: shards.begun)
    time.sleep(0.05)
    assert sorted(shards.begun) == ["a", "b"]
    assert len(shards.begun) == FIRST_FETCHES
    shards.go.set()
    assert source.open(stream, 0) == Path("a")
    wait_until(lambda: len(shards.present) == 6)
    assert shards.present == set("abcdef")
    source.open(stream, 1)  # "a" is not needed before the next pass: it makes room
    wait_until(lambda: "g" in shards.present)
    assert shards.present == set("bcdefg")


def test_waiting_for_a_shard_is_measured():
    shards = MemoryShards(room=8)
    shards.go.clear()
    source = ReadAhead(shards)
    stream = train_stream(source)
    result = in_thread(lambda: source.open(stream, 0))
    wait_until(lambda: source.blocked_secs > 0.05)
    shards.go.set()
    wait_until(lambda: result)
    blocked_secs = source.blocked_secs
    time.sleep(0.02)
    assert source.blocked_secs == blocked_secs
    assert result == [Path("a")]


def test_a_shard_that_could_not_be_fetched_in_advance_is_tried_again_when_it_is_needed():
    shards = MemoryShards(room=8)
    shards.failures = {"b": [StorageError("unavailable")]}
    source = ReadAhead(shards)
    stream = train_stream(source)
    source.open(stream, 0)
    wait_until(lambda: shards.begun.count("b") == 1 and not shards.reserved)
    assert source.open(stream, 1) == Path("b")
    assert shards.begun.count("b") == 2


def test_a_shard_that_is_corrupt_ends_the_reading_and_no_other_is_asked_for():
    shards = MemoryShards(room=8)
    shards.failures = {"b": [DataError("b is corrupt"), DataError("b is corrupt")]}
    source = ReadAhead(shards)
    stream = train_stream(source)
    source.open(stream, 0)
    for index in (1, 2):  # TensorFlow's threads may ask for the next file
        with pytest.raises(DataError, match="b is corrupt"):
            source.open(stream, index)
    assert str(source.error) == "b is corrupt"


def test_readers_that_wait_can_be_interrupted_and_begin_again():
    shards = MemoryShards(room=8)
    shards.go.clear()
    source = ReadAhead(shards)
    stream = train_stream(source)
    result = in_thread(lambda: source.open(stream, 0))
    wait_until(lambda: source.blocked_secs)
    with source.interrupted():
        wait_until(lambda: result)
    assert isinstance(result[0], InterruptedReaderError)
    shards.go.set()
    assert source.open(stream, 0) == Path("a")
    with source:
        pass
    with pytest.raises(InterruptedReaderError):
        source.open(stream, 1)
    assert shards.pinned == []


def test_no_room_because_all_other_shards_are_read_is_an_error():
    shards = MemoryShards(room=1)
    source = ReadAhead(shards)
    train, test = train_stream(source), source.add_stream(SHARDS[4:], passes=1)
    source.open(train, 0)
    with pytest.raises(StorageError, match="no room for e") as caught:
        source.open(test, 0)
    assert caught.value.exit_code == STORAGE_FAILED


def test_several_readers_share_the_room():
    shards = MemoryShards(room=3)
    source = ReadAhead(shards)
    streams = [source.add_stream(SHARDS[number::2], [0.0, 0.3, 0.6, 0.9], passes=5) for number in range(2)]

    def read(number):
        return [source.open(streams[number], index) for _ in range(5) for index in range(5)]

    results = [in_thread(lambda number=number: read(number)) for number in range(2)]
    wait_until(lambda: all(results))
    for number, (paths,) in enumerate(results):
        assert paths == [*(Path(shard.name) for shard in SHARDS[number::2]), None] * 5
