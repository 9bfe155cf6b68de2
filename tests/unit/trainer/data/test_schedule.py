import itertools

import pytest

from preprocessing.dataset.manifest import Shard
from trainer.data.schedule import NEVER, Schedule, Stream


def shards(*names):
    return [Shard(name, "train", 10, 100, "", "", "") for name in names]


@pytest.fixture
def train():
    return Stream(shards("a", "b", "c", "d"), [0.0, 0.1, 0.2, 0.3], passes=3)


def times(stream):
    return [stream.time_of(index) for index in range(len(stream.shards))]


def test_a_file_that_was_opened_is_needed_again_in_the_next_pass(train):
    assert times(train) == [0.0, 0.1, 0.2, 0.3]
    train.advance(0)
    train.advance(1)
    assert times(train) == [1.0, 1.1, 0.2, 0.3]
    for index in (2, 3, 0):
        train.advance(index)
    assert times(train) == [2.0, 1.1, 1.2, 1.3]
    assert [name for _, name, _ in train.upcoming()] == ["b", "c", "d", "a"]


def test_after_the_last_pass_a_file_is_never_needed(train):
    for index in (*range(4), *range(4), 0, 1):
        train.advance(index)
    assert times(train) == [NEVER, NEVER, 2.2, 2.3]
    assert [name for _, name, _ in train.upcoming()] == ["c", "d"]


def test_files_of_a_pass_that_is_resumed_may_be_skipped(train):
    train.restart(2, {0, 1})
    assert times(train) == [1.0, 1.1, 0.2, 0.3]
    assert next(train.upcoming())[:2] == (0.2, "c")
    train.advance(2)
    train.advance(3)
    assert times(train) == [1.0, 1.1, 1.2, 1.3]
    train.restart(2, range(4))  # the pass is over
    train.advance(0)
    assert times(train) == [NEVER, 1.1, 1.2, 1.3]


def test_an_iterator_that_begins_again_is_in_the_same_pass(train):
    for index in (*range(4), 0, 1, 0):
        train.advance(index)
    assert times(train) == [2.0, 1.1, 1.2, 1.3]


def test_the_schedule_merges_the_streams_of_an_epoch(train):
    schedule = Schedule()
    schedule.add(train)
    schedule.add(Stream(shards("test"), [0.5], passes=3))
    schedule.add(Stream(shards("b"), [0.25], passes=1))
    upcoming = [(name, round(time, 2)) for time, name, _ in schedule.upcoming()]
    assert upcoming == [("a", 0.0), ("b", 0.1), ("c", 0.2), ("b", 0.25), ("d", 0.3), ("test", 0.5)]
    train.advance(1)
    assert schedule.time_of("b") == 0.25
    assert schedule.time_of("of another dataset") == NEVER


def test_ten_thousand_files_are_listed_lazily():
    schedule = Schedule()
    names = [f"{number:05d}" for number in range(10_000)]
    schedule.add(Stream(shards(*names), [number / 10_000 for number in range(10_000)], passes=2))
    assert [name for _, name, _ in itertools.islice(schedule.upcoming(), 2)] == names[:2]
