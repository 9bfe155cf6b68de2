"""Read a `tf.data` dataset in a thread, so that the program can do something while it waits for a shard."""

from __future__ import annotations

import queue
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import tensorflow as tf

from trainer.data.read_ahead import ReadAhead

POLL_SECS = 0.1


class _End:
    """What follows the last element: the error that ended the reading, or None."""

    def __init__(self, error: BaseException | None) -> None:
        self.error = error


class Reader:
    """Iterates over the elements of datasets, one dataset after the other. Use as a context manager.

    Attributes:
        waited_secs: Time in which the program has waited for an element because a shard was not ready.
    """

    def __init__(
        self,
        source: ReadAhead,
        datasets: Iterable[Callable[[], tf.data.Dataset]],
        while_waiting: Callable[[], None] = lambda: None,
    ) -> None:
        """Begin to read.

        Args:
            source: Hands out the files of the datasets.
            datasets: Functions that make them, called in the thread, each after the previous dataset has ended.
            while_waiting: Called every tenth of a second while the program waits for an element; may raise.
        """
        self._source, self._datasets, self._while_waiting = source, datasets, while_waiting
        self._elements: queue.Queue[Any] = queue.Queue(maxsize=1)
        self._is_closed = self._has_ended = False
        self.waited_secs = 0.0
        self._thread = threading.Thread(target=self._read, daemon=True)
        self._thread.start()

    def __enter__(self) -> Reader:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __iter__(self) -> Iterator[Any]:
        return self

    def __next__(self) -> Any:
        """Return the next element.

        Raises:
            CommandError: A shard is missing or differs from the manifest (exit code 3), or storage failed (4).
        """
        started, blocked_secs = time.monotonic(), self._source.blocked_secs
        while True:
            try:
                element = self._elements.get(timeout=POLL_SECS)
                break
            except queue.Empty:
                self._count_wait(started, blocked_secs)
                self._while_waiting()
                started, blocked_secs = time.monotonic(), self._source.blocked_secs
        self._count_wait(started, blocked_secs)
        if not isinstance(element, _End):
            return element
        if not self._has_ended:
            self._thread.join()
        self._has_ended = True
        self._elements.put(element)  # for the next call
        if element.error is None:
            raise StopIteration
        raise element.error

    def is_ready(self) -> bool:
        """Tell whether the next element, or the end, is there."""
        return not self._elements.empty()

    def close(self) -> None:
        """End the thread, also while it waits for a shard; then all readers of the source that wait are interrupted."""
        if self._has_ended:  # other readers may wait, and are not disturbed
            self._thread.join()
            return
        self._is_closed = True
        with self._source.interrupted():
            while self._thread.is_alive():
                try:
                    self._elements.get_nowait()
                except queue.Empty:
                    self._thread.join(0.01)

    def _count_wait(self, started: float, blocked_secs: float) -> None:
        elapsed, blocked = time.monotonic() - started, self._source.blocked_secs - blocked_secs
        self.waited_secs += min(elapsed, blocked)

    def _read(self) -> None:
        error: BaseException | None = None
        try:
            for make in self._datasets:
                self._read_dataset(make())
        except Exception as caught:
            # TensorFlow passes on only the text of the source's error.
            error = (
                self._source.error if isinstance(caught, tf.errors.OpError) and self._source.error else caught
            )
        self._elements.put(_End(error))

    def _read_dataset(self, dataset: tf.data.Dataset) -> None:
        iterator = iter(dataset)
        try:
            # Not `next`: the error that marks its end would also end copies between devices that run in other threads.
            while (element := iterator.get_next_as_optional()).has_value():
                self._elements.put(element.get_value())
                if self._is_closed:
                    raise InterruptedError
        finally:
            del iterator  # ends TensorFlow's threads, although the error's traceback refers to this frame
