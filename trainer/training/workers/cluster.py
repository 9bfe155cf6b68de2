"""Discover from the environment which processes train together. Standard library only."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import NamedTuple

from preprocessing.errors import UsageError

PORT = 2222  # on which every worker of an Indexed Job listens
PEER_TIMEOUT_SECS = 600.0  # a node pool that scales up needs minutes for a GPU
INDEX = "JOB_COMPLETION_INDEX"  # set by Kubernetes in the pods of an Indexed Job
WORKERS, SERVICE, JOB = "GTZAN_CVAE_WORKERS", "GTZAN_CVAE_SERVICE", "GTZAN_CVAE_JOB"


class Cluster(NamedTuple):
    """The workers of a training and which of them this process is."""

    addresses: tuple[str, ...]  # host:port of each worker
    worker: int  # index of this process in `addresses`; 0 is the chief
    peer_timeout_secs: float = PEER_TIMEOUT_SECS  # how long to wait for all of them

    def tf_config(self) -> str:
        """Return the value of `TF_CONFIG` for TensorFlow."""
        task = {"type": "worker", "index": self.worker}
        return json.dumps({"cluster": {"worker": self.addresses}, "task": task})


def find_cluster(
    environment: Mapping[str, str], peer_timeout_secs: float = PEER_TIMEOUT_SECS
) -> Cluster | None:
    """Read the cluster from `TF_CONFIG`, otherwise from the variables of an Indexed Job.

    Pod `i` of the Indexed Job `train` with the headless Service `workers` has the address `train-i.workers`.

    Returns:
        The cluster, or None if this process trains alone.

    Raises:
        CommandError: The variables are incomplete or contradict each other (exit code 2).
    """
    if "TF_CONFIG" in environment:
        cluster = _from_tf_config(environment["TF_CONFIG"])
    elif WORKERS in environment:
        cluster = _from_indexed_job(environment)
    else:
        return None
    if not 0 <= cluster.worker < len(cluster.addresses):
        raise UsageError(
            f"worker index {cluster.worker} is out of range: the cluster has {len(cluster.addresses)} worker(s)",
        )
    if len(cluster.addresses) == 1:
        return None
    return cluster._replace(peer_timeout_secs=peer_timeout_secs)


def _from_tf_config(text: str) -> Cluster:
    try:
        fields = json.loads(text)
        cluster, task = fields["cluster"], fields["task"]
        # TensorFlow counts a chief as the first worker.
        addresses = (*cluster.get("chief", []), *cluster.get("worker", []))
        first = {"chief": 0, "worker": len(cluster.get("chief", []))}[task["type"]]
        if not all(isinstance(address, str) for address in addresses):
            raise ValueError("an address is not a string host:port")
        return Cluster(addresses, first + int(task["index"]))
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        raise UsageError(
            f"TF_CONFIG is invalid ({type(error).__name__}: {error}): it must list the addresses in cluster.worker "
            "and identify this process by task.type and task.index",
        ) from error


def _from_indexed_job(environment: Mapping[str, str]) -> Cluster:
    missing = [name for name in (INDEX, SERVICE, JOB) if not environment.get(name)]
    if missing:
        raise UsageError(f"{WORKERS} is set, but {missing[0]} is not: an Indexed Job needs both")
    try:
        count, index = int(environment[WORKERS]), int(environment[INDEX])
    except ValueError as error:
        raise UsageError(f"{WORKERS} and {INDEX} must be integers ({error})") from error
    job, service = environment[JOB], environment[SERVICE]
    return Cluster(tuple(f"{job}-{number}.{service}:{PORT}" for number in range(count)), index)
