"""Batches on their way from `tf.data` to the devices."""

from __future__ import annotations

from collections.abc import Iterator

import tensorflow as tf

from trainer.data.input_pipeline import Batch


def distributed_iterator(batches: tf.data.Dataset, strategy: tf.distribute.Strategy) -> Iterator[Batch]:
    """This process's batches with a part for each of its replicas, on its device.

    One batch is taken ahead: it travels while the devices are at work on the one before.
    `experimental_distribute_dataset` would do all that too, but its iterators end slowly: its wrapping turns
    autotuning on again (see `batches`), which costs seconds an epoch.
    """
    ahead = None
    for batch in batches:
        divided = _divide(batch, strategy)
        if ahead is not None:
            yield ahead
        ahead = divided
    if ahead is not None:
        yield ahead


def _divide(batch: Batch, strategy: tf.distribute.Strategy) -> Batch:
    devices = strategy.extended.worker_devices
    size, replicas = batch.position.shape[0], len(devices)

    def part(context: tf.distribute.ReplicaContext) -> Batch:
        replica = context.replica_id_in_sync_group % replicas  # those of other processes have their own batch
        first, last = size * replica // replicas, size * (replica + 1) // replicas
        with tf.device(devices[replica]):
            return tf.nest.map_structure(lambda tensor: tf.identity(tensor[first:last]), batch)

    return strategy.experimental_distribute_values_from_function(part)
