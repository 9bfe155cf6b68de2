"""Devices, replicas and workers of a training, and the collective operations between workers."""

from __future__ import annotations

import contextlib
import faulthandler
import json
import os
from collections.abc import Iterator, Sequence
from typing import Any

import tensorflow as tf

from preprocessing.errors import StoppedError, UsageError
from trainer.training.workers.cluster import Cluster
from trainer.training.workers.rendezvous import meet

CONNECT_SECS = 120.0  # longest time in which TensorFlow connects workers that are all there

# Raised by a collective operation when a participating process has ended.
PEER_FAILURES = (
    tf.errors.UnavailableError,
    tf.errors.AbortedError,
    tf.errors.CancelledError,
    tf.errors.DeadlineExceededError,
    tf.errors.FailedPreconditionError,
)


class Distribution:
    """All workers under one `tf.distribute` strategy.

    `any_worker`, `broadcast` and `broadcast_variables` are collective operations: every worker must call them, and
    in the same order. A process that trains alone does not communicate.

    Attributes:
        workers: Number of workers.
        index: Of this worker; 0 is the chief.
        strategy: Of all replicas of all workers.
    """

    def __init__(self, cluster: Cluster | None, replicas: int | None) -> None:
        """Set up the devices of this process.

        Args:
            cluster: The workers; None: this process trains alone.
            replicas: Devices of this process to use; None: all GPUs, or one CPU if there are none.

        Raises:
            CommandError: There are fewer devices than `replicas`, or each of several workers has more
                (exit code 2); another worker has not come in time (75).
        """
        self.workers = len(cluster.addresses) if cluster else 1
        self.index = cluster.worker if cluster else 0
        self.strategy = _make_strategy(cluster, _divide_devices(replicas))

    @property
    def is_chief(self) -> bool:
        """Whether this process writes the run: configuration, checkpoints, samples, report."""
        return self.index == 0

    def input_shards_of_worker(self, input_shards: int) -> range:
        """Return which of `input_shards` input shards this worker reads."""
        count = input_shards // self.workers
        return range(self.index * count, (self.index + 1) * count)

    def any_worker(self, *flags: bool) -> list[bool]:
        """Return for each flag whether it is set on any worker."""
        if self.workers == 1:
            return list(flags)
        return [count > 0 for count in self._sum(tf.constant(flags, tf.float32)).numpy()]

    def broadcast(self, value: Any) -> Any:
        """Return the chief's `value`, which must be serializable as JSON."""
        if self.workers == 1:
            return value
        text = json.dumps(value).encode() if self.is_chief else b""
        length = int(self._sum(tf.constant(len(text), tf.int32)))
        characters = tf.constant(list(text) or [0] * length, tf.int32)
        return json.loads(bytes(self._sum(characters).numpy().tolist()))

    def broadcast_variables(self, variables: Sequence[tf.Variable]) -> None:
        """Assign the chief's values to the variables of every worker."""
        if self.workers == 1:
            return
        for variable in variables:
            value = variable.read_value()
            variable.assign(self._sum(value if self.is_chief else tf.zeros_like(value)))

    @contextlib.contextmanager
    def peer_failure_guard(self) -> Iterator[None]:
        """Turn the failure of another worker into an error, so that this one does not wait for it forever.

        Raises:
            CommandError: Another worker has ended (exit code 75).
        """
        try:
            yield
        except PEER_FAILURES as error:
            if self.workers == 1:
                raise
            raise StoppedError(
                "another worker is gone: run the same command on all workers to resume from the newest checkpoint",
            ) from error

    def _sum(self, value: tf.Tensor) -> tf.Tensor:
        """Sum the values of all workers."""
        return self.strategy.experimental_local_results(self._all_reduce(value))[0]

    @tf.function(autograph=False, reduce_retracing=True)
    def _all_reduce(self, value: tf.Tensor) -> tf.Tensor:
        def reduce_replica() -> tf.Tensor:
            context = tf.distribute.get_replica_context()
            # All replicas of a process have the same value: only the first one contributes.
            first = context.replica_id_in_sync_group % (context.num_replicas_in_sync // self.workers) == 0
            return context.all_reduce("SUM", tf.where(first, value, tf.zeros_like(value)))

        return self.strategy.run(reduce_replica)


def _divide_devices(replicas: int | None) -> list[str]:
    """Name the devices of this process; without GPUs, divide the CPU into that many logical devices."""
    gpus = tf.config.list_physical_devices("GPU")
    kind, count = ("GPU", replicas or len(gpus)) if gpus else ("CPU", replicas or 1)
    for gpu in gpus:
        tf.config.experimental.set_memory_growth(gpu, True)
    if kind == "CPU" and count > 1:
        logical_devices = [tf.config.LogicalDeviceConfiguration()] * count
        # Once TensorFlow is initialized, its devices are fixed, and may be enough.
        with contextlib.suppress(RuntimeError):
            tf.config.set_logical_device_configuration(
                tf.config.list_physical_devices("CPU")[0], logical_devices
            )
    return [f"{kind}:{index}" for index in range(count)]


def _make_strategy(cluster: Cluster | None, devices: list[str]) -> tf.distribute.Strategy:
    kind = devices[0].split(":")[0]
    if cluster is not None:
        meet(cluster)
        os.environ["TF_CONFIG"] = cluster.tf_config()
        communication = tf.distribute.experimental.CommunicationImplementation
        options = tf.distribute.experimental.CommunicationOptions(
            implementation=communication.NCCL if kind == "GPU" else communication.RING
        )
        # TensorFlow holds Python's lock while it connects, so that only this timer can end the process if a worker ends
        # between the rendezvous and here.
        faulthandler.dump_traceback_later(CONNECT_SECS, exit=True)
        try:
            strategy = tf.distribute.MultiWorkerMirroredStrategy(communication_options=options)
        finally:
            faulthandler.cancel_dump_traceback_later()
        available = len(strategy.extended.worker_devices)
        if available != len(devices):
            raise UsageError(
                f"`replicas` {len(devices)}, but each of several workers uses all its {available} {kind} devices",
            )
        return strategy
    available = len(tf.config.list_logical_devices(kind))
    if len(devices) > available:
        raise UsageError(f"`replicas` {len(devices)}, but there are {available} {kind} devices")
    # The default is NCCL on GPUs. On CPUs its collective operations cannot serve two runs of one process.
    cross_device_ops = None if kind == "GPU" else tf.distribute.ReductionToOneDevice()
    return tf.distribute.MirroredStrategy(devices, cross_device_ops=cross_device_ops)
