"""Which processes train together, from the environment. Standard library only."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import NamedTuple

from preprocessing.errors import USAGE, CommandError

PORT = 2222  # of every worker of an Indexed Job
INDEX = "JOB_COMPLETION_INDEX"  # Kubernetes sets it in the pods of an Indexed Job
WORKERS, SERVICE, JOB = "GTZAN_CVAE_WORKERS", "GTZAN_CVAE_SERVICE", "GTZAN_CVAE_JOB"


class Cluster(NamedTuple):
    """The addresses of all workers, host:port, and the number of this process; worker 0 is the chief."""

    addresses: tuple[str, ...]
    worker: int

    def tf_config(self) -> str:
        """Return the value of `TF_CONFIG` for TensorFlow."""
        task = {"type": "worker", "index": self.worker}
        return json.dumps({"cluster": {"worker": self.addresses}, "task": task})


def find(environment: Mapping[str, str]) -> Cluster | None:
    """From `TF_CONFIG`, else from an Indexed Job's variables; None where one process trains alone.

    Pod `i` of the Indexed Job `train` with the headless Service `workers` is found at `train-i.workers`.

    Raises:
        CommandError: They are incomplete or contradict themselves (exit code 2).
    """
    if "TF_CONFIG" in environment:
        found = _from_tf_config(environment["TF_CONFIG"])
    elif WORKERS in environment:
        found = _from_indexed_job(environment)
    else:
        return None
    if not 0 <= found.worker < len(found.addresses):
        raise CommandError(f"worker {found.worker} of {len(found.addresses)}: there is none", USAGE)
    return found if len(found.addresses) > 1 else None


def _from_tf_config(text: str) -> Cluster:
    try:
        described = json.loads(text)
        cluster, task = described["cluster"], described["task"]
        # What TensorFlow calls a chief is its first worker.
        addresses = (*cluster.get("chief", []), *cluster.get("worker", []))
        place = {"chief": 0, "worker": len(cluster.get("chief", []))}[task["type"]]
        if not all(isinstance(address, str) for address in addresses):
            raise ValueError("addresses are host:port")
        return Cluster(addresses, place + int(task["index"]))
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        raise CommandError(
            f"TF_CONFIG cannot be understood ({type(error).__name__}: {error}): it names the addresses in "
            "cluster.worker and this process in task.type and task.index",
            USAGE,
        ) from error


def _from_indexed_job(environment: Mapping[str, str]) -> Cluster:
    missing = [name for name in (INDEX, SERVICE, JOB) if not environment.get(name)]
    if missing:
        raise CommandError(f"{WORKERS} is set, and {missing[0]} is not: an Indexed Job needs both", USAGE)
    try:
        count, index = int(environment[WORKERS]), int(environment[INDEX])
    except ValueError as error:
        raise CommandError(f"{WORKERS} and {INDEX} must be whole numbers ({error})", USAGE) from error
    job, service = environment[JOB], environment[SERVICE]
    return Cluster(tuple(f"{job}-{number}.{service}:{PORT}" for number in range(count)), index)
