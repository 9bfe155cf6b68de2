"""The manifests, rendered, validated and parsed with the programs' own argument parsers."""

import os
import re
import shutil
import subprocess
from datetime import timedelta
from functools import cache
from pathlib import Path
from zoneinfo import ZoneInfo

import kubernetes_validate
import kubernetes_validate.utils as schemas
import pytest
import storage_emulator
import yaml
from support.manifests import K8S, OVERLAYS, overlay, render

import trainer.cli.parser
from preprocessing.commands import job
from preprocessing.pipeline.beam_flags import complete_beam_flags

NEWEST = int(kubernetes_validate.latest_version().split(".")[1])
GKE = ["gke-gpu", "gke-multiworker"]
TRAIN_JOBS = {"local": "train", "gke-gpu": "train", "gke-multiworker": "train-multiworker"}


def preprocessing_flags(args):
    flags, beam_flags = job.build_parser("preprocessing").parse_known_args(args)
    complete_beam_flags(beam_flags)  # raises on a flag that Beam does not know
    return flags


PARSERS = {
    "preprocessing": preprocessing_flags,
    "trainer": lambda args: trainer.cli.parser.build_parser().parse_args(args),
    "storage-emulator": lambda args: storage_emulator.build_parser().parse_args(args),
}


def flags_of(rendered, kind, name, job_name="a-job"):
    """Parse a container's arguments with the program's own parser."""
    workload = rendered.workload(kind, name)
    return PARSERS[workload.container["name"]](rendered.args(workload, job_name))


@pytest.mark.parametrize("minor", range(30, NEWEST + 1))
def test_every_object_is_valid_in_every_supported_kubernetes_version(minor, monkeypatch):
    # Without a cache, the library parses a megabyte of schemas for every object.
    monkeypatch.setattr(schemas, "schema_contents", cache(schemas.schema_contents))
    documents = [document for name in ("base", *OVERLAYS) for document in overlay(name).documents]
    assert documents
    for document in {yaml.safe_dump(document): document for document in documents}.values():
        kubernetes_validate.validate(document, f"1.{minor}", strict=True)


@pytest.mark.parametrize("name", ["base", *OVERLAYS])
def test_every_placeholder_is_replaced(name):
    assert "set-by" not in yaml.safe_dump(overlay(name).documents)
    assert "cluster" not in overlay(name).of("ConfigMap")


@pytest.mark.parametrize(
    ("name", "kind", "workload"),
    [(name, w.kind, w.name) for name in OVERLAYS for w in overlay(name).workloads()],
)
def test_each_program_parses_the_arguments_of_its_containers(name, kind, workload):
    assert flags_of(overlay(name), kind, workload)


@pytest.mark.parametrize("name", OVERLAYS)
def test_the_trainer_reads_the_datasets_that_preprocessing_writes(name):
    written = {flags_of(overlay(name), kind, "preprocess").output for kind in ("Job", "CronJob")}
    assert written == {flags_of(overlay(name), "Job", TRAIN_JOBS[name]).data}
    assert written == {flags_of(overlay(name), "CronJob", "retrain").datasets}
    assert all(uri.startswith("gs://") for uri in written)


@pytest.mark.parametrize("name", OVERLAYS)
def test_each_training_job_has_a_run_directory_of_its_own(name):
    first, second = (
        flags_of(overlay(name), "Job", TRAIN_JOBS[name], job).run for job in ("monday", "next-monday")
    )
    assert first != second


@pytest.mark.parametrize("name", OVERLAYS)
def test_an_overlay_has_one_training_job(name):
    assert set(overlay(name).of("Job")) == {"preprocess", TRAIN_JOBS[name]}


def test_schedules_are_suspended_in_base_and_active_in_overlays():
    assert [job["spec"]["suspend"] for job in overlay("base").of("CronJob").values()] == [True, True]
    for name in OVERLAYS:
        assert [job["spec"]["suspend"] for job in overlay(name).of("CronJob").values()] == [False, False]
        assert overlay(name).of("Job")[TRAIN_JOBS[name]]["spec"]["suspend"]  # until there is a dataset
        assert "suspend" not in overlay(name).of("Job")["preprocess"]["spec"]


def daily_or_weekly(schedule):
    """Parse a daily or weekly schedule into the time of day and the day."""
    minute, hour, *day = schedule.split()
    assert day in (["*", "*", "*"], ["*", "*", "1"])
    return timedelta(hours=int(hour), minutes=int(minute)), day


@pytest.mark.parametrize("name", OVERLAYS)
def test_preprocessing_ends_before_retraining_starts(name):
    jobs = overlay(name).of("CronJob")
    early, late = (jobs[job]["spec"] for job in ("preprocess", "retrain"))
    assert early["timeZone"] == late["timeZone"]
    ZoneInfo(early["timeZone"])
    (start, day), (next_start, next_day) = (
        daily_or_weekly(early["schedule"]),
        daily_or_weekly(late["schedule"]),
    )
    longest = early["startingDeadlineSeconds"] + early["jobTemplate"]["spec"]["activeDeadlineSeconds"]
    assert day == next_day
    assert start + timedelta(seconds=longest) <= next_start
    for spec in (early, late):
        assert spec["concurrencyPolicy"] == "Forbid"
        assert spec["startingDeadlineSeconds"] > 0
        assert spec["successfulJobsHistoryLimit"] > 0
        assert spec["failedJobsHistoryLimit"] > 0


@pytest.mark.parametrize("name", OVERLAYS)
def test_the_cron_job_runs_the_preprocess_jobs_pod(name):
    job, cron_job = (overlay(name).workload(kind, "preprocess") for kind in ("Job", "CronJob"))
    assert cron_job.template == job.template
    assert cron_job.job["podFailurePolicy"] == job.job["podFailurePolicy"]


def test_the_workers_of_a_cluster_can_resolve_each_others_host_names():
    rendered = overlay("gke-multiworker")
    job, service = rendered.workload("Job", "train-multiworker"), rendered.of("Service")["train-multiworker"]
    environment = rendered.environment(job, job.name)
    assert job.spec["completionMode"] == "Indexed"
    assert job.spec["completions"] == job.spec["parallelism"] == int(environment["GTZAN_CVAE_WORKERS"]) > 1
    assert environment["GTZAN_CVAE_JOB"] == job.name
    assert environment["GTZAN_CVAE_SERVICE"] == job.pod["subdomain"] == service["metadata"]["name"]
    assert service["spec"]["clusterIP"] == "None"
    assert service["spec"]["publishNotReadyAddresses"]
    assert service["spec"]["selector"].items() <= job.template["metadata"]["labels"].items()
    assert [port["port"] for port in service["spec"]["ports"]] == [2222]


EDITS = {
    "YOUR-BUCKET": "vinyl",
    "YOUR-PROJECT": "my-project",
    "GPU_TYPE=nvidia-l4": "GPU_TYPE=nvidia-h100-80gb",
    "GPUS=1": "GPUS=4",
    "WORKERS=2": "WORKERS=3",
    "RETRAIN_SCHEDULE=0 3 * * 1": "RETRAIN_SCHEDULE=30 4 * * 1",
    "TIME_ZONE=Etc/UTC": "TIME_ZONE=Europe/Zurich",
    "PRESET=wave": "PRESET=wave-large",
    "REGION-docker": "europe-docker",
    "newTag: 0.1.0-cuda": "newTag: 0.2.0-cuda",
}


@pytest.mark.parametrize("name", GKE)
def test_each_setting_is_edited_in_the_overlay_only(tmp_path, name):
    k8s = Path(shutil.copytree(K8S, tmp_path / "k8s"))
    settings = k8s / "overlays" / name / "kustomization.yaml"
    edited = settings.read_text()
    for before, after in EDITS.items():
        edited = edited.replace(before, after)
    settings.write_text(edited)
    rendered = render(settings.parent)

    assert not re.search("YOUR-|REGION-|nvidia-l4", yaml.safe_dump(rendered.documents))
    retrain = rendered.workload("CronJob", "retrain")
    assert retrain.spec["schedule"] == "30 4 * * 1"
    assert {job["spec"]["timeZone"] for job in rendered.of("CronJob").values()} == {"Europe/Zurich"}
    assert flags_of(rendered, "Job", "preprocess").input == "gs://vinyl/music"
    train = rendered.workload("Job", TRAIN_JOBS[name])
    assert flags_of(rendered, "Job", TRAIN_JOBS[name]).preset == "wave-large"
    for workload in (train, retrain):
        assert workload.container["image"] == "europe-docker.pkg.dev/my-project/gtzan-cvae/trainer:0.2.0-cuda"
        assert int(workload.container["resources"]["limits"]["nvidia.com/gpu"]) == 4
        assert workload.pod["nodeSelector"] == {"cloud.google.com/gke-accelerator": "nvidia-h100-80gb"}
    if "WORKERS=3" in edited:
        assert train.spec["completions"] == train.spec["parallelism"] == 3
        assert rendered.environment(train, "x")["GTZAN_CVAE_WORKERS"] == "3"


@pytest.mark.parametrize("name", GKE)
def test_pods_use_google_service_accounts(name):
    key = "iam.gke.io/gcp-service-account"
    accounts = overlay(name).of("ServiceAccount")
    google = [accounts[account]["metadata"]["annotations"][key] for account in ("preprocessing", "trainer")]
    assert len(set(google)) == 2  # each with the roles that it needs
    assert all(account.endswith(".iam.gserviceaccount.com") for account in google)


def make(*args):
    environment = os.environ | {"UV_DEFAULT_INDEX": "unused"}  # so that make does not query pip for it
    return subprocess.run(["make", *args], cwd=K8S.parent, capture_output=True, text=True, env=environment)


def test_a_dataflow_job_writes_to_the_folder_that_the_manifests_read():
    process = make("--dry-run", "submit-preprocessing", "PROJECT=p", "REGION=r", "BUCKET=YOUR-BUCKET")
    (command,) = re.findall(r"-m preprocessing (--input .+)", process.stdout.replace("\\\n", ""))
    flags = preprocessing_flags(command.split())
    assert flags.versioned
    assert flags.output == flags_of(overlay("gke-gpu"), "Job", "preprocess").output


def test_deploying_an_unknown_overlay_is_an_error_that_lists_the_overlays():
    process = make("deploy", "OVERLAY=moon")
    assert process.returncode == 2
    assert all(name in process.stderr for name in OVERLAYS)
