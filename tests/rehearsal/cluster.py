"""The simulated cluster of the scenarios: the rendered overlay, its music, its bucket and its Jobs."""

from __future__ import annotations

import copy
import itertools
import json
import os
import shutil
import socket
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import soundfile
from support.cluster.manifests import K8S, Rendered, Workload, render

from preprocessing.dataset.manifest import Manifest
from preprocessing.dataset.run_files import CHAMPION_NAME
from preprocessing.synthetic import corpus
from rehearsal.controller import FinishedJob, run_job
from rehearsal.node import Node, Pod, failed, wait_until_ready
from trainer.cli.parser import build_parser
from trainer.data.fetch import find_dataset
from trainer.runs.storage import StorageFolder

MAX_CLIPS_PER_GENRE = 18


class Cluster:
    """A cluster in a folder, with an empty bucket and no music."""

    def __init__(self, folder: Path, node: Node) -> None:
        self._node, self._archive = node, folder / "archive"
        self.rendered, self.edited = render_both(folder / "k8s")
        emulator = self.rendered.workload("Deployment", "storage-emulator")
        os.environ |= {
            name: value
            for name, value in self.rendered.environment(emulator, "").items()
            if name in ("STORAGE_EMULATOR_HOST", "GOOGLE_CLOUD_PROJECT", "NO_GCE_CHECK")
        }  # this process reads the bucket, too
        server = node.start(self.rendered, emulator, emulator.name)
        wait_until_ready(server, emulator, os.environ["STORAGE_EMULATOR_HOST"])
        train, retrain = (
            build_parser().parse_args(self.rendered.args(workload, workload.name))
            for workload in (self.workload("Job", "train"), self.workload("CronJob", "retrain"))
        )
        self.datasets, self.models, self.metric = retrain.datasets, retrain.models, retrain.metric
        self.run = StorageFolder(train.run)
        self.music = node.claimed_folder(self.rendered, "laptop") / "music"
        self._numbers = itertools.count(1)
        corpus.write_corpus(self._archive, MAX_CLIPS_PER_GENRE)

    def workload(self, kind: str, name: str) -> Workload:
        """Return a workload of the overlay."""
        return self.rendered.workload(kind, name)

    def job(self, name: str, on_first_pod: Callable[[Pod], None] | None = None) -> FinishedJob:
        """Run a Job of the overlay to its end; a suspended Job is released."""
        return run_job(self._node, self.rendered, self.workload("Job", name), name, on_first_pod)

    def cron_job(self, name: str) -> FinishedJob:
        """Run the next Job of a CronJob."""
        workload = self.workload("CronJob", name)
        if workload.spec["suspend"]:
            raise failed(f"CronJob {name} is suspended: it would never run")
        return self._from_cron_job(self.rendered, workload)

    def manual_job(self, name: str) -> FinishedJob:
        """Run what `kubectl create job --from=cronjob/...` creates after the edited overlay was deployed."""
        return self._from_cron_job(self.edited, self.edited.workload("CronJob", name))

    def changed_job(
        self,
        kind: str,
        name: str,
        *args: str,
        job_name: str | None = None,
        environment: dict[str, str] | None = None,
    ) -> FinishedJob:
        """Run a Job, or the next one of a CronJob, with further arguments and variables."""
        workload = with_changes(self.workload(kind, name), args, environment or {})
        return run_job(self._node, self.rendered, workload, job_name or f"{name}-{next(self._numbers)}")

    def changed_pod(self, name: str, *args: str, environment: dict[str, str]) -> tuple[Workload, Pod]:
        """Start a single pod of a Job, with further arguments and variables."""
        workload = with_changes(self.workload("Job", name), args, environment)
        return workload, self._node.start(self.rendered, workload, f"{name}-{next(self._numbers)}")

    def run_of(self, job_name: str) -> str:
        """Return the run directory of a Job made from the Job `train`."""
        args = self.rendered.args(self.workload("Job", "train"), job_name)
        return build_parser().parse_args(args).run

    def in_parallel(self, *jobs: Callable[[], FinishedJob]) -> list[FinishedJob]:
        """Run Jobs in parallel until all have ended."""
        with ThreadPoolExecutor(len(jobs)) as threads:
            started = [threads.submit(job) for job in jobs]
            try:
                return [job.result() for job in started]
            except BaseException:
                self._node.close()  # otherwise the other Jobs would be waited for
                raise

    def _from_cron_job(self, rendered: Rendered, workload: Workload) -> FinishedJob:
        return run_job(self._node, rendered, workload, f"{workload.name}-{next(self._numbers)}")

    def add_music(self, clips_per_genre: int) -> None:
        """Copy the first clips of each genre from the archive into the input folder."""
        for genre in corpus.GENRES:
            (self.music / genre).mkdir(exist_ok=True)
            for clip in sorted((self._archive / genre).iterdir())[:clips_per_genre]:
                shutil.copyfile(clip, self.music / genre / clip.name)

    def replace_music_by_noise(self) -> None:
        """Replace every clip by white noise under the same name."""
        rng = np.random.default_rng(0)
        for clip in sorted(self.music.rglob("*.wav")):
            noise = rng.uniform(-0.9, 0.9, corpus.CLIP_SAMPLES)
            soundfile.write(clip, noise, corpus.SAMPLE_RATE_HZ, subtype="PCM_16")

    def dataset(self) -> Manifest:
        """Return the manifest of the newest dataset version."""
        return find_dataset(self.datasets)[1]

    def champion(self) -> bytes | None:
        """Return the bytes of `champion.json`."""
        return StorageFolder(self.models).read(CHAMPION_NAME)

    def candidates(self) -> dict[str, Any]:
        """Return the name and modification time of every file in the folder of models."""
        models = StorageFolder(self.models)
        return {name: models.updated(name) for name in models.list_names()}


def with_changes(workload: Workload, args: Sequence[str], environment: dict[str, str]) -> Workload:
    """Return a copy of a workload whose container has further arguments and variables."""
    workload = copy.deepcopy(workload)
    workload.container["args"] += args
    variables = workload.container.setdefault("env", [])
    variables += [{"name": name, "value": value} for name, value in environment.items()]
    return workload


def require_complete(job: FinishedJob) -> None:
    """End the rehearsal unless a Job has completed without a counted failure."""
    if job.failure or job.counted_failures:
        raise failed(f"{job.summary()}; it should have completed without a counted failure")


def require_immediate_failure(job: FinishedJob, exit_code: int) -> None:
    """End the rehearsal unless a Job has failed with its first pod."""
    if job.failure != "PodFailurePolicy" or job.exit_codes != [exit_code]:
        raise failed(f"{job.summary()}; it should have failed at once with exit code {exit_code}")


def decision_of(job: FinishedJob) -> dict[str, Any]:
    """Parse the promotion decision: the one JSON line that a retraining prints."""
    require_complete(job)
    lines = job.pods[-1].stdout.splitlines()
    try:
        (line,) = lines
        return json.loads(line)
    except ValueError as error:
        raise failed(f"Job {job.name} printed {len(lines)} lines, not one decision as JSON") from error


def require(condition: bool, sentence: str) -> None:
    """End the rehearsal with `sentence` unless `condition` holds."""
    if not condition:
        raise failed(sentence)


def render_both(k8s: Path) -> tuple[Rendered, Rendered]:
    """Render overlay `local` with the rehearsal's changes, and once more with an edited setting."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = str(probe.getsockname()[1])
    shutil.copytree(K8S, k8s)
    kustomization = Path(__file__).with_name("kustomization.yaml")
    for source in (kustomization, kustomization.parent / "edited" / kustomization.name):
        folder = k8s / "overlays" / source.parent.name
        folder.mkdir()
        (folder / source.name).write_text(source.read_text().replace("FREE-PORT", port))
    return render(k8s / "overlays/rehearsal"), render(k8s / "overlays/edited")
