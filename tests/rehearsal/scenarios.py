"""The scenarios in their order: each runs one night or one fault and returns a summary of the outcome."""

from __future__ import annotations

import json
import time
from typing import Any

from preprocessing.dataset.splits import SPLITS
from preprocessing.errors import BAD_DATA, DONE, STOPPED
from rehearsal.cluster import Cluster, decision_of, require, require_complete, require_immediate_failure
from rehearsal.node import PATIENCE_SECS, POLL_SECS, Pod, failed, last_line
from trainer.registry.promotion import PROMOTED, REFUSED, UNCHANGED
from trainer.runs.directory import METRICS, POINTER, REPORT
from trainer.runs.storage import StorageFolder


def nothing_there(cluster: Cluster) -> str:
    """Without music and without a dataset, both programs fail at once; a retry would not help."""
    cluster.music.mkdir(parents=True, exist_ok=True)
    require_immediate_failure(cluster.job("preprocess"), BAD_DATA)
    require_immediate_failure(cluster.cron_job("retrain"), BAD_DATA)
    return "both programs fail at once with exit code 3"


def preprocess(cluster: Cluster) -> str:
    """Preprocess the first version of the dataset."""
    cluster.add_music(10)
    require_complete(cluster.job("preprocess"))
    return f"{_clips(cluster)} clips"


def train(cluster: Cluster) -> str:
    """Stop a training run in the middle of an epoch, and resume it."""
    require(cluster.workload("Job", "train").job["suspend"], "Job train does not wait for the dataset")
    ended = cluster.job("train", on_first_pod=lambda pod: _stop_in_the_middle(cluster, pod))
    require(ended.exit_codes[0] == STOPPED, f"{ended.summary()}; the first was to be {STOPPED}")
    require(not ended.counted_failures, f"{ended.summary()}; stopping on request was counted as a failure")
    require_complete(ended)
    require(ended.exit_codes == [STOPPED, DONE], f"{ended.summary()}; two pods were to be enough")
    require("resuming after epoch" in ended.pods[1].stdout, "Job train did not go on where it was stopped")
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


def nothing_new(cluster: Cluster) -> str:
    """Run the next night without new music: nothing changes."""
    version, before = cluster.dataset().digest, cluster.candidates()
    require_complete(cluster.cron_job("preprocess"))
    require(cluster.dataset().digest == version, "the same music made another version of the dataset")
    decision = decision_of(cluster.cron_job("retrain"))
    require(decision["decision"] == UNCHANGED, f"with nothing new the decision is: {decision['reason']}")
    require(cluster.candidates() == before, "with nothing new, something in the folder of models has changed")
    return f"unchanged: {decision['reason']}"


def better_candidate(cluster: Cluster) -> str:
    """Add music: a candidate that starts from the champion's weights replaces it."""
    before = json.loads(cluster.champion())
    cluster.add_music(14)
    _preprocess_new_version(cluster)
    decision = decision_of(cluster.cron_job("retrain"))
    require(decision["init_from"] == before["candidate"], "the candidate did not start from the champion")
    _require_promotion(cluster, decision)
    earlier = [one["candidate"] for one in json.loads(cluster.champion())["earlier"]]
    require(earlier == [before["candidate"]], "the champion before is not there to go back to")
    return f"promoted: {decision['reason']}; {_least_gain(decision)}"


def spoiled_dataset(cluster: Cluster) -> str:
    """Replace all music by noise: the candidate is worse on music and is refused."""
    before, written = cluster.champion(), cluster.candidates()["champion.json"]
    cluster.spoil_music()
    _preprocess_new_version(cluster)
    decision = decision_of(cluster.cron_job("retrain"))
    require(decision["decision"] == REFUSED, f"the candidate of noise was not refused: {decision}")
    require(cluster.champion() == before, "a refused candidate changed champion.json")
    require(cluster.candidates()["champion.json"] == written, "a refused candidate rewrote champion.json")
    return f"refused: {decision['reason']}"


def two_at_once(cluster: Cluster) -> str:
    """Retrain on schedule and by hand at the same time: exactly one candidate is promoted."""
    before = json.loads(cluster.champion())
    cluster.add_music(18)
    _preprocess_new_version(cluster)
    jobs = cluster.in_parallel(lambda: cluster.cron_job("retrain"), lambda: cluster.manual_job("retrain"))
    decisions = [decision_of(job) for job in jobs]
    outcomes = sorted(decision["decision"] for decision in decisions)
    require(outcomes == sorted([PROMOTED, REFUSED]), f"two retrainings at once decided {outcomes}")
    won, lost = sorted(decisions, key=lambda decision: decision["decision"] != PROMOTED)
    _require_promotion(cluster, won)
    require(won["candidate"] != lost["candidate"], "two configurations have made one candidate")
    require(won["champion"] == before["candidate"], "the winner was not compared with the champion before")
    require(lost["champion"] == won["candidate"], "the loser was not compared with the new champion")
    earlier = [one["candidate"] for one in json.loads(cluster.champion())["earlier"]]
    require(earlier[0] == before["candidate"], "there was more than one promotion")
    return f"one promotion: {won['reason']}; {_least_gain(won)}; then refused: {lost['reason']}"


SCENARIOS = (
    ("no input yet", nothing_there),
    ("the first version of the dataset", preprocess),
    ("training, stopped by SIGTERM and resumed", train),
    ("the first champion", first_champion),
    ("nothing new", nothing_new),
    ("new clips and a better candidate", better_candidate),
    ("a spoiled dataset and a worse candidate", spoiled_dataset),
    ("two retrainings at once", two_at_once),
)


def _stop_in_the_middle(cluster: Cluster, pod: Pod) -> None:
    """Send SIGTERM once a checkpoint is in the bucket."""
    deadline = time.monotonic() + PATIENCE_SECS
    while cluster.run.read(POINTER) is None:
        if not pod.is_running or time.monotonic() > deadline:
            raise failed(f"Job train ended before it had saved a checkpoint: {last_line(pod)}")
        time.sleep(POLL_SECS)
    pod.stop()


def _preprocess_new_version(cluster: Cluster) -> None:
    before = cluster.dataset().digest
    require_complete(cluster.cron_job("preprocess"))
    require(cluster.dataset().digest != before, "new music made no new version of the dataset")
    require(
        StorageFolder(f"{cluster.datasets}/{before}").list_names(),
        f"the version before, {before[:12]}, is gone",
    )


def _require_promotion(cluster: Cluster, decision: dict[str, Any]) -> None:
    require(decision["decision"] == PROMOTED, f"the candidate was not promoted: {decision['reason']}")
    champion = json.loads(cluster.champion())["candidate"]
    require(champion == decision["candidate"], f"champion.json names {champion}, not the promoted candidate")


def _least_gain(decision: dict[str, Any]) -> str:
    """Return the smallest gain of any metric."""
    gains = [(gain, name) for one in decision["sets"] for name, gain in one["gains"].items()]
    return "least gain {:+.1%} in {}".format(*min(gains))


def _clips(cluster: Cluster) -> int:
    manifest = cluster.dataset()
    return sum(map(manifest.clip_count, SPLITS))
