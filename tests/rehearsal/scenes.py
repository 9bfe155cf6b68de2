"""The scenes, in their order: each plays one night or one mishap, and says what came of it."""

from __future__ import annotations

import json
import time
from typing import Any

from preprocessing.dataset.splits import SPLITS
from preprocessing.errors import BAD_DATA, DONE, STOPPED
from rehearsal.node import PATIENCE_SECS, POLL_SECS, Pod, last_line, wrong
from rehearsal.stage import Stage, must, must_be_complete, must_fail_at_once, verdict_of
from trainer.registry.promotion import PROMOTED, REFUSED, UNCHANGED
from trainer.runs.directory import METRICS, POINTER, REPORT
from trainer.runs.storage import Folder


def nothing_there(stage: Stage) -> str:
    """No music and no dataset: a retry would not help, and there is none."""
    stage.music.mkdir(parents=True, exist_ok=True)
    must_fail_at_once(stage.job("preprocess"), BAD_DATA)
    must_fail_at_once(stage.cron_job("retrain"), BAD_DATA)
    return "both programs fail at once with exit code 3"


def preprocess(stage: Stage) -> str:
    """The first version of the dataset."""
    stage.bring_music(10)
    must_be_complete(stage.job("preprocess"))
    return f"{_clips(stage)} clips"


def train(stage: Stage) -> str:
    """A training that is stopped in the middle, and goes on where it was."""
    must(stage.workload("Job", "train").job["suspend"], "Job train does not wait for the dataset")
    ended = stage.job("train", disturb=lambda pod: _stop_in_the_middle(stage, pod))
    must(ended.exit_codes[0] == STOPPED, f"{ended.described()}; the first was to be {STOPPED}")
    must(not ended.counted, f"{ended.described()}; stopping on request was counted as a failure")
    must_be_complete(ended)
    must(ended.exit_codes == [STOPPED, DONE], f"{ended.described()}; two pods were to be enough")
    must("resuming after epoch" in ended.pods[1].stdout, "Job train did not go on where it was stopped")
    rows = [json.loads(line) for line in stage.run.read(METRICS).splitlines()]
    epochs = json.loads(stage.run.read("config.json"))["epochs"]
    must([row["epoch"] for row in rows] == list(range(1, epochs + 1)), "the run's epochs are not complete")
    must(stage.run.read(REPORT) is not None, "Job train is complete, but its report is not in the bucket")
    return f"{STOPPED}, resumed, {epochs} epochs"


def first_champion(stage: Stage) -> str:
    """There is no champion yet."""
    decision = verdict_of(stage.cron_job("retrain"))
    _must_promote(stage, decision)
    return f"promoted: {decision['reason']}"


def nothing_new(stage: Stage) -> str:
    """The next night, without new music."""
    version, before = stage.dataset().digest, stage.candidates()
    must_be_complete(stage.cron_job("preprocess"))
    must(stage.dataset().digest == version, "the same music made another version of the dataset")
    decision = verdict_of(stage.cron_job("retrain"))
    must(decision["decision"] == UNCHANGED, f"with nothing new the verdict is: {decision['reason']}")
    must(stage.candidates() == before, "with nothing new, something in the folder of models has changed")
    return f"unchanged: {decision['reason']}"


def better_candidate(stage: Stage) -> str:
    """New music, from which the champion learns on."""
    before = json.loads(stage.champion())
    stage.bring_music(14)
    _preprocess_new_version(stage)
    decision = verdict_of(stage.cron_job("retrain"))
    must(decision["start"] == before["candidate"], "the candidate did not begin with the champion's weights")
    _must_promote(stage, decision)
    earlier = [one["candidate"] for one in json.loads(stage.champion())["earlier"]]
    must(earlier == [before["candidate"]], "the champion before is not there to go back to")
    return f"promoted: {decision['reason']}; {_least_gain(decision)}"


def spoiled_dataset(stage: Stage) -> str:
    """Noise in place of all music: nobody can learn to predict it, and who tries is worse at music."""
    before, written = stage.champion(), stage.candidates()["champion.json"]
    stage.spoil_music()
    _preprocess_new_version(stage)
    decision = verdict_of(stage.cron_job("retrain"))
    must(decision["decision"] == REFUSED, f"the candidate of a spoiled dataset was not refused: {decision}")
    must(stage.champion() == before, "champion.json is not what it was before a candidate was refused")
    must(stage.candidates()["champion.json"] == written, "champion.json was written for a refused candidate")
    return f"refused: {decision['reason']}"


def two_at_once(stage: Stage) -> str:
    """The night's retraining, and one by hand of a setting that changes no weight: twins, equally good."""
    before = json.loads(stage.champion())
    stage.bring_music(18)
    _preprocess_new_version(stage)
    jobs = stage.at_once(lambda: stage.cron_job("retrain"), lambda: stage.by_hand("retrain"))
    verdicts = [verdict_of(job) for job in jobs]
    outcomes = sorted(decision["decision"] for decision in verdicts)
    must(outcomes == sorted([PROMOTED, REFUSED]), f"of two retrainings at once, the verdicts are {outcomes}")
    won, lost = sorted(verdicts, key=lambda decision: decision["decision"] != PROMOTED)
    _must_promote(stage, won)
    must(won["candidate"] != lost["candidate"], "two configurations have made one candidate")
    must(won["champion"] == before["candidate"], "the winner was not judged beside the champion before")
    must(lost["champion"] == won["candidate"], "the loser was not judged beside the new champion")
    earlier = [one["candidate"] for one in json.loads(stage.champion())["earlier"]]
    must(earlier[0] == before["candidate"], "there was more than one promotion")
    return f"one promotion: {won['reason']}; {_least_gain(won)}; then refused: {lost['reason']}"


SCENES = (
    ("nothing there yet", nothing_there),
    ("the first version of the dataset", preprocess),
    ("a training, stopped by SIGTERM", train),
    ("the first champion", first_champion),
    ("a night with nothing new", nothing_new),
    ("new clips, a better candidate", better_candidate),
    ("a spoiled dataset, a worse candidate", spoiled_dataset),
    ("two retrainings at once", two_at_once),
)


def _stop_in_the_middle(stage: Stage, pod: Pod) -> None:
    """SIGTERM, once a checkpoint is in the bucket."""
    give_up = time.monotonic() + PATIENCE_SECS
    while stage.run.read(POINTER) is None:
        if not pod.is_running or time.monotonic() > give_up:
            raise wrong(f"Job train ended before it had saved a checkpoint: {last_line(pod)}")
        time.sleep(POLL_SECS)
    pod.stop()


def _preprocess_new_version(stage: Stage) -> None:
    before = stage.dataset().digest
    must_be_complete(stage.cron_job("preprocess"))
    must(stage.dataset().digest != before, "new music made no new version of the dataset")
    must(Folder(f"{stage.datasets}/{before}").list(), f"the version before, {before[:12]}, is gone")


def _must_promote(stage: Stage, decision: dict[str, Any]) -> None:
    must(decision["decision"] == PROMOTED, f"the candidate was not promoted: {decision['reason']}")
    champion = json.loads(stage.champion())["candidate"]
    must(champion == decision["candidate"], f"champion.json names {champion}, not the promoted candidate")


def _least_gain(decision: dict[str, Any]) -> str:
    """How near a promotion was to losing too much."""
    gains = [(gain, name) for one in decision["sets"] for name, gain in one["gains"].items()]
    return "least gain {:+.1%} in {}".format(*min(gains))


def _clips(stage: Stage) -> int:
    manifest = stage.dataset()
    return sum(map(manifest.split_records, SPLITS))
