"""What the scenes are played on: the rendered overlay, its music, its bucket, and its Jobs."""

from __future__ import annotations

import itertools
import json
import os
import shutil
import socket
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import soundfile
from support.manifests import K8S, Rendered, Workload, render

from preprocessing.dataset.manifest import Manifest
from preprocessing.synthetic import corpus
from rehearsal.controller import Ended, run_job
from rehearsal.node import Node, Pod, wait_until_ready, wrong
from trainer.cli import build_parser
from trainer.data.fetch import find_dataset
from trainer.runs.champion_pointer import NAME as CHAMPION
from trainer.runs.storage import Folder

MOST_CLIPS = 18  # of a genre


class Stage:
    """A cluster with an empty bucket and no music yet, in a folder."""

    def __init__(self, folder: Path, node: Node) -> None:
        self._node, self._archive = node, folder / "archive"
        self.rendered, self.edited = render_both(folder / "k8s")
        emulator = self.rendered.workload("Deployment", "storage-emulator")
        os.environ |= {
            name: value
            for name, value in self.rendered.environment(emulator, "").items()
            if name in ("STORAGE_EMULATOR_HOST", "GOOGLE_CLOUD_PROJECT", "NO_GCE_CHECK")
        }  # as its readers in this process need it
        server = node.start(self.rendered, emulator, emulator.name)
        wait_until_ready(server, emulator, os.environ["STORAGE_EMULATOR_HOST"])
        train, retrain = (
            build_parser().parse_args(self.rendered.args(workload, workload.name))
            for workload in (self.workload("Job", "train"), self.workload("CronJob", "retrain"))
        )
        self.datasets, self.models, self.metric = retrain.datasets, retrain.models, retrain.metric
        self.run = Folder(train.run)
        self.music = node.claimed(self.rendered, "laptop") / "music"
        self._numbers = itertools.count(1)
        corpus.write_corpus(self._archive, MOST_CLIPS)

    def workload(self, kind: str, name: str) -> Workload:
        """One of the overlay."""
        return self.rendered.workload(kind, name)

    def job(self, name: str, disturb: Callable[[Pod], None] | None = None) -> Ended:
        """A Job of the overlay, run to its end; one that is suspended is released."""
        return run_job(self._node, self.rendered, self.workload("Job", name), name, disturb)

    def cron_job(self, name: str) -> Ended:
        """The next Job of a CronJob, when its time has come."""
        workload = self.workload("CronJob", name)
        if workload.spec["suspend"]:
            raise wrong(f"CronJob {name} is suspended: it would never run")
        return self._from_cron_job(self.rendered, workload)

    def by_hand(self, name: str) -> Ended:
        """`kubectl create job --from=cronjob/...` after the edit was deployed."""
        return self._from_cron_job(self.edited, self.edited.workload("CronJob", name))

    def at_once(self, *jobs: Callable[[], Ended]) -> list[Ended]:
        """Runs Jobs side by side, to the end of all of them."""
        with ThreadPoolExecutor(len(jobs)) as threads:
            started = [threads.submit(job) for job in jobs]
            try:
                return [job.result() for job in started]
            except BaseException:
                self._node.close()  # lest the others are waited for
                raise

    def _from_cron_job(self, rendered: Rendered, workload: Workload) -> Ended:
        return run_job(self._node, rendered, workload, f"{workload.name}-{next(self._numbers)}")

    def bring_music(self, clips_per_genre: int) -> None:
        """The first clips of each genre, as they were composed."""
        for genre in corpus.GENRES:
            (self.music / genre).mkdir(exist_ok=True)
            for clip in sorted((self._archive / genre).iterdir())[:clips_per_genre]:
                shutil.copyfile(clip, self.music / genre / clip.name)

    def spoil_music(self) -> None:
        """White noise in place of every clip, under the same name."""
        rng = np.random.default_rng(0)
        for clip in sorted(self.music.rglob("*.wav")):
            noise = rng.uniform(-0.9, 0.9, corpus.CLIP_SAMPLES)
            soundfile.write(clip, noise, corpus.SAMPLE_RATE, subtype="PCM_16")

    def dataset(self) -> Manifest:
        """The newest version."""
        return find_dataset(self.datasets)[1]

    def champion(self) -> bytes | None:
        """`champion.json`, byte for byte."""
        return Folder(self.models).read(CHAMPION)

    def candidates(self) -> dict[str, Any]:
        """Everything in the folder of models, and when it was written."""
        models = Folder(self.models)
        return {name: models.updated(name) for name in models.list()}


def must_be_complete(ended: Ended) -> None:
    """Raises unless a Job has succeeded, with no failure on the way."""
    if ended.failure or ended.counted:
        raise wrong(f"{ended.described()}; it was to be complete without a failure that counts")


def must_fail_at_once(ended: Ended, exit_code: int) -> None:
    """Raises unless a Job has failed with its first pod."""
    if ended.failure != "PodFailurePolicy" or ended.exit_codes != [exit_code]:
        raise wrong(f"{ended.described()}; it was to fail at once with exit code {exit_code}")


def verdict_of(ended: Ended) -> dict[str, Any]:
    """The one line of JSON that a retraining ends with."""
    must_be_complete(ended)
    lines = ended.pods[-1].stdout.splitlines()
    try:
        (line,) = lines
        return json.loads(line)
    except ValueError as error:
        raise wrong(f"Job {ended.name} wrote {len(lines)} lines, not one verdict as JSON") from error


def must(true: bool, sentence: str) -> None:
    """Raises the sentence unless what it denies is true."""
    if not true:
        raise wrong(sentence)


def render_both(k8s: Path) -> tuple[Rendered, Rendered]:
    """The overlay `local` with what the rehearsal changes, and the same with an edit."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = str(probe.getsockname()[1])
    shutil.copytree(K8S, k8s)
    own = Path(__file__).with_name("kustomization.yaml")
    for source in (own, own.parent / "edited" / own.name):
        folder = k8s / "overlays" / source.parent.name
        folder.mkdir()
        (folder / source.name).write_text(source.read_text().replace("FREE-PORT", port))
    return render(k8s / "overlays/rehearsal"), render(k8s / "overlays/edited")
