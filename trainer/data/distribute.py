"""Transfer batches from `tf.data` to the devices."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import tensorflow as tf

from trainer.data.input_pipeline import Batch
from trainer.data.reader import Reader


def distributed_iterator(batches: Iterable[Batch], strategy: tf.distribute.Strategy) -> Iterator[Batch]:
    """Iterate over this process's batches, divided among its replicas and placed on their devices.

    One batch is transferred in advance, while the devices compute on the previous one, unless a `Reader` has to wait
    for it. `experimental_distribute_dataset` would do this, too, but enables autotuning again, so that its iterators
    end slowly, which costs seconds per epoch (see `input_pipeline._prefetched`).
    """
    previous, iterator = None, iter(batches)
    while True:
        if previous is not None and isinstance(batches, Reader) and not batches.is_ready():
            yield previous
            previous = None
        batch = next(iterator, None)
        if previous is not None:
            yield previous
        if batch is None:
            return
        previous = _divide(batch, strategy)


def _divide(batch: Batch, strategy: tf.distribute.Strategy) -> Batch:
    """Divide a batch into nearly equal slices, one for each replica of this process."""
    devices = strategy.extended.worker_devices
    size, replicas = batch.position.shape[0], len(devices)

    def part(context: tf.distribute.ReplicaContext) -> Batch:
        replica = context.replica_id_in_sync_group % replicas  # other processes have their own batch
        first, last = size * replica // replicas, size * (replica + 1) // replicas
        with tf.device(devices[replica]):
            return tf.nest.map_structure(lambda tensor: tf.identity(tensor[first:last]), batch)

    return strategy.experimental_distribute_values_from_function(part)
