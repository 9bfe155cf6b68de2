"""The scenarios of faults that are not the programs' own: each simulates one and returns a summary of the outcome."""

from __future__ import annotations

import json
import socket
import time

from support.services.metadata_server import MetadataServer

from preprocessing.errors import BAD_DATA, STOPPED, USAGE
from rehearsal.cluster import Cluster, decision_of, require, require_complete, require_immediate_failure
from rehearsal.controller import FinishedJob, action_on
from rehearsal.node import TIMEOUT_SECS
from trainer.registry.promotion import STALE, UNCHANGED
from trainer.runs.storage import StorageFolder
from trainer.training.workers.cluster import Cluster as Workers

LATE_SECS = 6.0  # after which the metadata server gives out tokens; Google's libraries wait for 4
PEER_TIMEOUT_SECS = 3
FAILED_NIGHTS = 2


def late_credentials(cluster: Cluster) -> str:
    """Run both programs on a fresh node, whose metadata server does not answer yet."""
    told = 0
    for name in ("preprocess", "retrain"):
        with MetadataServer(LATE_SECS) as server:
            job = cluster.changed_job("CronJob", name, environment=server.environment)
            require_complete(job)
            require(bool(server.refused and server.tokens), f"{job.name} did not wait for its credentials")
        told += "there are no credentials yet, waiting" in job.pods[0].output
        if name == "retrain":
            require(
                decision_of(job)["decision"] == UNCHANGED, "with unchanged input there was a new candidate"
            )
    require(told == 2, "the wait for credentials was not logged")
    return f"both programs waited {LATE_SECS:g} s for them and completed"


def preset_of_another_rate(cluster: Cluster) -> str:
    """Train a preset that is made for another sample rate than the dataset's."""
    job = cluster.changed_job("Job", "train", "--preset=wave-large", job_name="train-wave-large")
    require_immediate_failure(job, USAGE)
    require("Hz" in job.pods[0].output, f"{job.summary()}; it should name the sample rates")
    return f"refused with exit code {USAGE}, without a second pod"


def missing_gpu(cluster: Cluster) -> str:
    """Train where a GPU is required and there is none."""
    job = cluster.changed_job(
        "Job",
        "train",
        "--require-gpus=1",
        job_name="train-on-gpu",
        environment={"CUDA_VISIBLE_DEVICES": "-1"},  # also on a machine with GPUs
    )
    require_immediate_failure(job, USAGE)
    require(
        "TensorFlow sees 0: " in job.pods[0].output, f"{job.summary()}; it should give TensorFlow's reason"
    )
    _require_no_run(cluster, job)
    return f"exit code {USAGE} with TensorFlow's reason, nothing trained on the CPU"


def missing_peer(cluster: Cluster) -> str:
    """Train with two workers of which one never comes."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    workers = Workers((f"127.0.0.1:{port}", "127.0.0.1:1"), 0)
    flag = f"--peer-timeout-secs={PEER_TIMEOUT_SECS}"
    started = time.monotonic()
    workload, pod = cluster.changed_pod("train", flag, environment={"TF_CONFIG": workers.tf_config()})
    require(pod.wait(TIMEOUT_SECS), "a worker waits for its peer without end")
    waited_secs = time.monotonic() - started
    require(pod.exit_code == STOPPED, f"without its peer, a worker ended with exit code {pod.exit_code}")
    require(
        "worker 1 has not come within" in pod.output,
        f"the log does not name the missing worker: {pod.output}",
    )
    action = action_on(workload.job, workload.container["name"], pod.exit_code)
    require(action == "Ignore", "a peer that does not come counts as a failure of the Job")
    return f"exit code {STOPPED} after {waited_secs:.0f} s, not counted as a failure"


def failing_preprocessing(cluster: Cluster) -> str:
    """Let the music vanish: night after night preprocessing fails, and retraining does not call that unchanged."""
    before, hidden = cluster.candidates(), cluster.music.with_name("unmounted")
    cluster.music.rename(hidden)
    cluster.music.mkdir()
    for _ in range(FAILED_NIGHTS):
        require_immediate_failure(cluster.cron_job("preprocess"), BAD_DATA)
    # A week in seconds: the last success of preprocessing was in an earlier scenario.
    flags = ("--max-dataset-age-days=0.00001", "--log-format=json")
    job = cluster.changed_job("CronJob", "retrain", *flags)
    require_immediate_failure(job, BAD_DATA)
    decision = json.loads(job.pods[0].stdout.splitlines()[0])
    require(decision["decision"] == STALE, f"without new datasets the decision is {decision['decision']}")
    entries = [json.loads(line) for line in job.pods[0].log.splitlines()]
    events = {entry["event"]: entry for entry in entries}
    require(events.get("dataset_too_old", {}).get("severity") == "WARNING", "there is no event for an alert")
    require(cluster.candidates() == before, "a retraining without new datasets changed the folder of models")
    cluster.music.rmdir()
    hidden.rename(cluster.music)
    require_complete(cluster.cron_job("preprocess"))
    require_complete(cluster.changed_job("CronJob", "retrain", "--max-dataset-age-days=1"))
    return (
        f"{FAILED_NIGHTS} nights with exit code {BAD_DATA}, then dataset_too_old, stale; mended by a success"
    )


FAULTS = (
    ("credentials that come late", late_credentials),
    ("a preset of another sample rate", preset_of_another_rate),
    ("no GPU where one is required", missing_gpu),
    ("a worker that never comes", missing_peer),
    ("a preprocessing that fails every night", failing_preprocessing),
)


def _require_no_run(cluster: Cluster, job: FinishedJob) -> None:
    runs = cluster.run_of(job.name)
    require(not StorageFolder(runs).list_names(), f"Job {job.name} has written to {runs}")
