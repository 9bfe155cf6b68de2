"""The devices that train, of one process or of several, and what several processes must agree on."""

from __future__ import annotations

import contextlib
import json
import os
from collections.abc import Iterator, Sequence
from typing import Any

import tensorflow as tf

from preprocessing.errors import STOPPED, USAGE, CommandError
from trainer.training.cluster import Cluster

# What a collective operation ends with when a process that takes part in it is gone.
PEER_FAILURES = (
    tf.errors.UnavailableError,
    tf.errors.AbortedError,
    tf.errors.CancelledError,
    tf.errors.DeadlineExceededError,
    tf.errors.FailedPreconditionError,
)


class Distribution:
    """All workers under one strategy. Alone, a process agrees with itself, and nothing travels.

    All but `own` are collective operations: every worker calls them, and in the same order.
    """

    def __init__(self, cluster: Cluster | None, replicas: int | None) -> None:
        """`replicas` of this process; None: all GPUs, else one CPU.

        Raises:
            CommandError: There are fewer devices than asked for, or several workers must leave some of theirs
                unused (exit code 2).
        """
        self.workers = len(cluster.addresses) if cluster else 1
        self.index = cluster.worker if cluster else 0
        self.strategy = _make_strategy(cluster, _divide_devices(replicas))

    @property
    def is_chief(self) -> bool:
        """Whether this process keeps the run: configuration, checkpoints, samples, report."""
        return self.index == 0

    def input_shards_of_worker(self, input_shards: int) -> range:
        """Which of as many streams this worker reads."""
        count = input_shards // self.workers
        return range(self.index * count, (self.index + 1) * count)

    def any_worker(self, *flags: bool) -> list[bool]:
        """Of each flag, whether it is set on any worker."""
        if self.workers == 1:
            return list(flags)
        return [count > 0 for count in self._sum(tf.constant(flags, tf.float32)).numpy()]

    def broadcast(self, value: Any) -> Any:
        """The chief's `value`, which JSON can hold."""
        if self.workers == 1:
            return value
        text = json.dumps(value).encode() if self.is_chief else b""
        length = int(self._sum(tf.constant(len(text), tf.int32)))
        row = tf.constant(list(text) or [0] * length, tf.int32)
        return json.loads(bytes(self._sum(row).numpy().tolist()))

    def broadcast_variables(self, variables: Sequence[tf.Variable]) -> None:
        """Gives every worker the chief's values."""
        if self.workers == 1:
            return
        for variable in variables:
            input_shards_of_worker = variable.read_value()
            variable.assign(
                self._sum(input_shards_of_worker if self.is_chief else tf.zeros_like(input_shards_of_worker))
            )

    @contextlib.contextmanager
    def peer_failure_guard(self) -> Iterator[None]:
        """Ends with exit code 75 where another worker has gone, lest this one waits for it forever."""
        try:
            yield
        except PEER_FAILURES as error:
            if self.workers == 1:
                raise
            raise CommandError(
                "another worker is gone: the same command on all of them goes on from the newest checkpoint",
                STOPPED,
            ) from error

    def _sum(self, value: tf.Tensor) -> tf.Tensor:
        return self.strategy.experimental_local_results(self._all_reduce(value))[0]

    @tf.function(reduce_retracing=True)
    def _all_reduce(self, value: tf.Tensor) -> tf.Tensor:
        def of_replica() -> tf.Tensor:
            context = tf.distribute.get_replica_context()
            # Once for each process, of which all replicas hold the same.
            first = context.replica_id_in_sync_group % (context.num_replicas_in_sync // self.workers) == 0
            return context.all_reduce("SUM", tf.where(first, value, tf.zeros_like(value)))

        return self.strategy.run(of_replica)


def _divide_devices(replicas: int | None) -> list[str]:
    """The names of this process's devices; without GPUs the processor is divided into as many as wanted."""
    gpus = tf.config.list_physical_devices("GPU")
    kind, wanted = ("GPU", replicas or len(gpus)) if gpus else ("CPU", replicas or 1)
    for gpu in gpus:
        tf.config.experimental.set_memory_growth(gpu, True)
    if kind == "CPU" and wanted > 1:
        parts = [tf.config.LogicalDeviceConfiguration()] * wanted
        # TensorFlow that is already running keeps the devices it has, which may be enough.
        with contextlib.suppress(RuntimeError):
            tf.config.set_logical_device_configuration(tf.config.list_physical_devices("CPU")[0], parts)
    return [f"{kind}:{index}" for index in range(wanted)]


def _make_strategy(cluster: Cluster | None, devices: list[str]) -> tf.distribute.Strategy:
    kind = devices[0].split(":")[0]
    if cluster is not None:
        os.environ["TF_CONFIG"] = cluster.tf_config()
        communication = tf.distribute.experimental.CommunicationImplementation
        options = tf.distribute.experimental.CommunicationOptions(
            implementation=communication.NCCL if kind == "GPU" else communication.RING
        )
        strategy = tf.distribute.MultiWorkerMirroredStrategy(communication_options=options)
        there = len(strategy.extended.worker_devices)
        if there != len(devices):
            raise CommandError(
                f"--replicas {len(devices)}, but each of several workers takes all {there} {kind} devices",
                USAGE,
            )
        return strategy
    there = len(tf.config.list_logical_devices(kind))
    if len(devices) > there:
        raise CommandError(f"--replicas {len(devices)}, but there are {there} {kind} devices", USAGE)
    # NCCL reduces on GPUs. On CPUs the default's collective ops cannot serve two runs of one process.
    reduction = None if kind == "GPU" else tf.distribute.ReductionToOneDevice()
    return tf.distribute.MirroredStrategy(devices, cross_device_ops=reduction)
