"""The scenarios in order: each simulates one night or one fault and returns a summary of the outcome."""

from __future__ import annotations

import json
import time
from typing import Any

from preprocessing.dataset.splits import SPLITS
from preprocessing.errors import BAD_DATA, DONE, STOPPED
from rehearsal.cluster import Cluster, decision_of, require, require_complete, require_immediate_failure
from rehearsal.faults import FAULTS
from rehearsal.node import POLL_SECS, TIMEOUT_SECS, Pod, failed, last_line
from trainer.registry.promotion import PROMOTED, REFUSED, UNCHANGED
from trainer.runs.directory import METRICS, POINTER, REPORT
from trainer.runs.storage import StorageFolder


def missing_input(cluster: Cluster) -> str:
    """Run both programs without music and without a dataset: they fail at once, since a retry would not help."""
    cluster.music.mkdir(parents=True, exist_ok=True)
    require_immediate_failure(cluster.job("preprocess"), BAD_DATA)
    require_immediate_failure(cluster.cron_job("retrain"), BAD_DATA)
    return "both programs fail at once with exit code 3"


def preprocess(cluster: Cluster) -> str:
    """Write the first version of the dataset."""
    cluster.add_music(10)
    require_complete(cluster.job("preprocess"))
    return f"{_clips(cluster)} clips"


def train(cluster: Cluster) -> str:
    """Stop a training run in the middle of an epoch, and resume it."""
    require(cluster.workload("Job", "train").job["suspend"], "Job train does not wait for the dataset")
    job = cluster.job("train", on_first_pod=lambda pod: _stop_after_checkpoint(cluster, pod))
    require(job.exit_codes[0] == STOPPED, f"{job.summary()}; the first should be {STOPPED}")
    require(not job.counted_failures, f"{job.summary()}; stopping on request was counted as a failure")
    require_complete(job)
    require(job.exit_codes == [STOPPED, DONE], f"{job.summary()}; two pods should be enough")
    require("resuming after epoch" in job.pods[1].stdout, "Job train did not resume where it was stopped")
    rows = [json.loads(line) for line in cluster.run.read(METRICS).splitlines()]
    epochs = json.loads(cluster.run.read("config.json"))["epochs"]
    require([row["epoch"] for row in rows] == list(range(1, epochs + 1)), "the run's epochs are not complete")
    require(cluster.run.read(REPORT) is not None, "Job train is complete, but the bucket has no report")
    return f"{STOPPED}, resumed, {epochs} epochs"


def first_champion(cluster: Cluster) -> str:
    """Promote the first candidate."""
    decision = decision_of(cluster.cron_job("retrain"))
    _require_promotion(cluster, decision)
    return f"promoted: {decision['reason']}"


def unchanged_input(cluster: Cluster) -> str:
    """Run the next night without new music: nothing changes."""
    version, before = cluster.dataset().digest, cluster.candidates()
    require_complete(cluster.cron_job("preprocess"))
    require(cluster.dataset().digest == version, "the same music resulted in another version of the dataset")
    decision = decision_of(cluster.cron_job("retrain"))
    require(decision["decision"] == UNCHANGED, f"with unchanged input the decision is: {decision['reason']}")
    require(
        cluster.candidates() == before, "with unchanged input, a file in the folder of models has changed"
    )
    return f"unchanged: {decision['reason']}"


def better_candidate(cluster: Cluster) -> str:
    """Add music: a candidate that starts from the champion's weights replaces it."""
    before = json.loads(cluster.champion())
    cluster.add_music(14)
    _preprocess_new_version(cluster)
    decision = decision_of(cluster.cron_job("retrain"))
    require(decision["init_from"] == before["candidate"], "the candidate did not start from the champion")
    _require_promotion(cluster, decision)
    require(_earlier(cluster) == [before["candidate"]], "the previous champion is not kept for a rollback")
    return f"promoted: {decision['reason']}; {_smallest_gain(decision)}"


def noise_dataset(cluster: Cluster) -> str:
    """Replace all music by noise: the candidate is worse on music and is refused."""
    before, modified = cluster.champion(), cluster.candidates()["champion.json"]
    cluster.replace_music_by_noise()
    _preprocess_new_version(cluster)
    decision = decision_of(cluster.cron_job("retrain"))
    require(decision["decision"] == REFUSED, f"the candidate trained on noise was not refused: {decision}")
    require(cluster.champion() == before, "a refused candidate changed champion.json")
    require(cluster.candidates()["champion.json"] == modified, "a refused candidate rewrote champion.json")
    return f"refused: {decision['reason']}"


def concurrent_retraining(cluster: Cluster) -> str:
    """Retrain on schedule and by hand at the same time: exactly one candidate is promoted."""
    before = json.loads(cluster.champion())
    cluster.add_music(18)
    _preprocess_new_version(cluster)
    jobs = cluster.in_parallel(lambda: cluster.cron_job("retrain"), lambda: cluster.manual_job("retrain"))
    decisions = [decision_of(job) for job in jobs]
    outcomes = sorted(decision["decision"] for decision in decisions)
    require(outcomes == sorted([PROMOTED, REFUSED]), f"two concurrent retrainings decided {outcomes}")
    promoted, refused = sorted(decisions, key=lambda decision: decision["decision"] != PROMOTED)
    _require_promotion(cluster, promoted)
    require(promoted["candidate"] != refused["candidate"], "two configurations have the same candidate")
    require(
        promoted["champion"] == before["candidate"],
        "the promoted candidate was not compared with the previous champion",
    )
    require(
        refused["champion"] == promoted["candidate"],
        "the refused candidate was not compared with the new champion",
    )
    require(_earlier(cluster)[0] == before["candidate"], "there was more than one promotion")
    gain = _smallest_gain(promoted)
    return f"one promotion: {promoted['reason']}; {gain}; then refused: {refused['reason']}"


SCENARIOS = (
    ("no input yet", missing_input),
    ("the first version of the dataset", preprocess),
    ("training, stopped by SIGTERM and resumed", train),
    ("the first champion", first_champion),
    ("unchanged input", unchanged_input),
    *FAULTS,
    ("new clips and a better candidate", better_candidate),
    ("a dataset of noise and a worse candidate", noise_dataset),
    ("two concurrent retrainings", concurrent_retraining),
)


def _stop_after_checkpoint(cluster: Cluster, pod: Pod) -> None:
    """Send SIGTERM once a checkpoint is in the bucket."""
    deadline = time.monotonic() + TIMEOUT_SECS
    while cluster.run.read(POINTER) is None:
        if not pod.is_running or time.monotonic() > deadline:
            raise failed(f"Job train ended before it had saved a checkpoint: {last_line(pod)}")
        time.sleep(POLL_SECS)
    pod.stop()


def _preprocess_new_version(cluster: Cluster) -> None:
    before = cluster.dataset().digest
    require_complete(cluster.cron_job("preprocess"))
    require(cluster.dataset().digest != before, "new music did not result in a new version of the dataset")
    require(
        StorageFolder(f"{cluster.datasets}/{before}").list_names(),
        f"the previous version, {before[:12]}, was deleted",
    )


def _require_promotion(cluster: Cluster, decision: dict[str, Any]) -> None:
    require(decision["decision"] == PROMOTED, f"the candidate was not promoted: {decision['reason']}")
    champion = json.loads(cluster.champion())["candidate"]
    require(champion == decision["candidate"], f"champion.json names {champion}, not the promoted candidate")


def _earlier(cluster: Cluster) -> list[str]:
    """Return the previous champions, the latest first."""
    return [champion["candidate"] for champion in json.loads(cluster.champion())["earlier"]]


def _smallest_gain(decision: dict[str, Any]) -> str:
    """Describe the smallest gain of any metric on any set."""
    gains = [(gain, name) for test_set in decision["sets"] for name, gain in test_set["gains"].items()]
    return "smallest gain {:+.1%} in {}".format(*min(gains))


def _clips(cluster: Cluster) -> int:
    manifest = cluster.dataset()
    return sum(map(manifest.clip_count, SPLITS))
