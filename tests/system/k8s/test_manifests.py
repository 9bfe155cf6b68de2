"""The manifests, rendered, validated and parsed with the programs' own argument parsers."""

import re
from datetime import timedelta
from functools import cache
from zoneinfo import ZoneInfo

import jsonschema
import kubernetes_validate
import kubernetes_validate.utils as schemas
import pytest
import yaml
from support.cluster.container_flags import flags_of
from support.cluster.manifests import CUSTOM, K8S, OVERLAYS, overlay, with_components

NEWEST = int(kubernetes_validate.latest_version().split(".")[1])
TRAIN_JOBS = {"local": "train", "gke-gpu": "train", "gke-multiworker": "train-multiworker"}


def validate(document, minor):
    """Validate an object strictly; the Jobs of a custom resource are validated as such."""
    if document["kind"] not in CUSTOM:
        kubernetes_validate.validate(document, f"1.{minor}", strict=True)
        return
    jsonschema.validate(document, CUSTOM[document["kind"]])
    for jobs in document["spec"].get("replicatedJobs", []):
        metadata = {"name": jobs["name"]}
        validate({"apiVersion": "batch/v1", "kind": "Job", "metadata": metadata, **jobs["template"]}, minor)


@pytest.mark.parametrize("minor", range(30, NEWEST + 1))
def test_every_object_is_valid_in_every_supported_kubernetes_version(minor, monkeypatch):
    # Without a cache, the library parses a megabyte of schemas for every object.
    monkeypatch.setattr(schemas, "schema_contents", cache(schemas.schema_contents))
    rendered = [*map(overlay, ("base", *OVERLAYS)), with_components()]
    documents = [document for one in rendered for document in one.documents]
    assert CUSTOM.keys() == CUSTOM.keys() & {document["kind"] for document in documents}
    for document in {yaml.safe_dump(document): document for document in documents}.values():
        validate(document, minor)


def test_replacements_name_their_targets():
    """Patterns in their place are taken literally by versions of kubectl that the documentation allows."""
    for path in K8S.rglob("kustomization.yaml"):
        for replacement in yaml.safe_load(path.read_text()).get("replacements", []):
            for target in replacement["targets"]:
                assert re.fullmatch(r"[a-z0-9-]+", target["select"].get("name", "any")), path


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


@pytest.mark.parametrize(("kind", "name"), [("Job", "train-multiworker"), ("CronJob", "retrain")])
def test_the_workers_of_a_cluster_can_resolve_each_others_host_names(kind, name):
    rendered = overlay("gke-multiworker")
    workload, service = rendered.workload(kind, name), rendered.of("Service")["workers"]
    environment = rendered.environment(workload, "a-job")
    job = workload.job
    assert job["completionMode"] == "Indexed"
    assert job["completions"] == job["parallelism"] == int(environment["GTZAN_CVAE_WORKERS"]) > 1
    assert environment["GTZAN_CVAE_JOB"] == "a-job"
    assert environment["GTZAN_CVAE_SERVICE"] == workload.pod["subdomain"] == service["metadata"]["name"]
    assert service["spec"]["clusterIP"] == "None"
    assert service["spec"]["publishNotReadyAddresses"]
    assert service["spec"]["selector"].items() <= workload.template["metadata"]["labels"].items()
    assert [port["port"] for port in service["spec"]["ports"]] == [2222]


def test_the_job_set_runs_the_jobs_workers_and_replaces_the_job():
    job = overlay("gke-multiworker").of("Job")["train-multiworker"]["spec"]
    rendered = with_components()
    assert "train-multiworker" not in rendered.of("Job")
    job_set = rendered.of("JobSet")["train-multiworker"]["spec"]
    (workers,) = job_set["replicatedJobs"]
    spec = workers["template"]["spec"]
    assert spec["template"] == job["template"]
    for field in ("completions", "parallelism", "completionMode", "activeDeadlineSeconds"):
        assert spec[field] == job[field]
    # Any worker that ends early ends the attempt, and only exit codes 2 and 3 end the set.
    assert spec["backoffLimit"] == 0
    assert spec["podFailurePolicy"]["rules"] == job["podFailurePolicy"]["rules"][:1]
    assert job_set["failurePolicy"]["restartStrategy"] == "BlockingRecreate"
    (rule,) = job_set["failurePolicy"]["rules"]
    assert (rule["action"], rule["onJobFailureReasons"]) == (
        "FailJobSet",
        ["PodFailurePolicy", "DeadlineExceeded"],
    )


def test_the_objects_of_components_are_in_the_namespace_and_read_the_deployed_settings():
    rendered = with_components()
    (settings,) = (name for name in rendered.of("ConfigMap") if name.startswith("settings-"))
    for document in rendered.documents:
        if document["kind"] not in ("Namespace", "ComputeClass"):
            assert document["metadata"]["namespace"] == "gtzan-cvae", document["metadata"]["name"]
    for workload in rendered.workloads():
        assert [source["configMapRef"]["name"] for source in workload.container["envFrom"]] == [settings]


def test_kueue_admits_every_trainer_and_nothing_else():
    rendered = with_components()
    queue = {"kueue.x-k8s.io/queue-name": "gtzan-cvae"}
    assert queue.items() <= rendered.of("JobSet")["train-multiworker"]["metadata"]["labels"].items()
    retrain = rendered.of("CronJob")["retrain"]["spec"]["jobTemplate"]
    assert queue.items() <= retrain["metadata"]["labels"].items()
    assert "queue-name" not in yaml.safe_dump(rendered.of("Job")["preprocess"])
    train = with_components("gke-gpu", before=(), after=("kueue",)).of("Job")["train"]
    assert queue.items() <= train["metadata"]["labels"].items()
