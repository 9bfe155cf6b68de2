import threading

import numpy as np
import pytest
import tensorflow as tf

from preprocessing.errors import DataError
from trainer.data.read_ahead import ReadAhead
from trainer.data.reader import Reader
from trainer.data.shards import LocalShards


class Source(ReadAhead):
    """Counts as blocked while `gate` is cleared."""

    def __init__(self, tmp_path):
        super().__init__(LocalShards(tmp_path, tmp_path))
        self.gate = threading.Event()

    @property
    def blocked_secs(self):
        return self.clock

    clock = 0.0


@pytest.fixture
def source(tmp_path):
    return Source(tmp_path)


def gated(source):
    """Make a dataset whose element 2 waits for the gate."""

    def wait(number):
        if number == 2:
            assert source.gate.wait(20)
        return number

    numbers = tf.data.Dataset.range(4)
    return numbers.map(lambda number: tf.numpy_function(wait, [number], tf.int64, stateful=True))


def test_datasets_follow_one_another_and_are_made_when_they_are_needed(source):
    made = []

    def make(number):
        made.append(number)
        return tf.data.Dataset.range(number)

    def makers():
        for number in (2, 0, 3):
            yield lambda number=number: make(number)

    with Reader(source, makers()) as reader:
        assert int(next(reader)) == 0
        assert 3 not in made
        assert [int(element) for element in reader] == [1, 0, 1, 2]
        assert next(reader, None) is None  # also when it is asked again
    assert made == [2, 0, 3]


def test_the_program_can_act_while_it_waits_and_the_wait_is_measured(source):
    calls = []

    def advance():
        source.clock += 0.01

    def while_waiting():
        calls.append(reader.waited_secs)
        threading.Timer(0.01, advance).start()
        if len(calls) == 3:
            source.gate.set()

    with Reader(source, [lambda: gated(source)], while_waiting) as reader:
        assert [int(element) for element in reader] == [0, 1, 2, 3]
    assert len(calls) >= 3
    assert calls[0] == 0.0
    assert 0.0 < reader.waited_secs <= source.clock


def test_an_error_while_waiting_leaves_the_reader_usable(source):
    received = []

    def stop():
        if len(received) == 2 and not source.gate.is_set():
            source.gate.set()
            raise KeyboardInterrupt

    with Reader(source, [lambda: gated(source)], stop) as reader:
        with pytest.raises(KeyboardInterrupt):
            received.extend(int(element) for element in reader)
        received += [int(element) for element in reader]
    assert received == [0, 1, 2, 3]


def test_the_error_of_the_source_is_reported_and_not_tensorflows_text(source):
    def fail(number):
        source.error = DataError("a shard is corrupt")
        raise source.error

    broken = tf.data.Dataset.range(1).map(lambda number: tf.numpy_function(fail, [number], tf.int64))
    with Reader(source, [lambda: broken]) as reader, pytest.raises(DataError, match="a shard is corrupt"):
        next(reader)


def test_a_reader_that_has_ended_does_not_interrupt_others(source, monkeypatch):
    interrupted = []
    monkeypatch.setattr(source, "interrupted", lambda: interrupted.append(True))
    with Reader(source, [lambda: tf.data.Dataset.range(2)]) as reader:
        assert len(list(reader)) == 2
    assert interrupted == []


def test_closing_ends_a_thread_that_has_elements_left(source):
    reader = Reader(source, [lambda: tf.data.Dataset.range(1_000_000)])
    assert int(next(reader)) == 0
    reader.close()
    assert not reader._thread.is_alive()


def test_elements_keep_their_structure(source):
    pairs = tf.data.Dataset.from_tensor_slices((np.arange(3), np.ones([3, 2])))
    with Reader(source, [lambda: pairs]) as reader:
        assert [element[1].shape for element in reader] == [[2]] * 3


def test_the_end_of_a_dataset_does_not_disturb_copies_between_devices(source):
    """An error of one thread ends copies between devices that run in another one at that moment."""
    rows, slices = tf.zeros([8, 1_000]), 0
    with Reader(source, [lambda: tf.data.Dataset.range(1)] * 500) as reader:
        for _ in reader:
            for _ in range(10):  # while the thread comes to the dataset's end
                with tf.device("CPU:1"):
                    slices += len(tf.identity(rows[2:3]))
    assert slices == 5_000
