"""The settings of the overlays: each is edited in one place, and those that cannot work are refused."""

import os
import shutil
import subprocess
from itertools import product
from pathlib import Path

import dataflow
import overlay_settings
import pytest
import yaml
from support.cluster.container_flags import flags_of, preprocessing_flags
from support.cluster.manifests import K8S, OVERLAYS, overlay, render

from trainer.presets import PRESETS

GKE = ["gke-gpu", "gke-multiworker"]
USUAL_RATES_HZ = dict.fromkeys(PRESETS, 3_000) | dict.fromkeys(("wave-22khz", "wave-large"), 22_050)
TRAIN_JOBS = {"gke-gpu": "train", "gke-multiworker": "train-multiworker"}
EDITS = {
    "YOUR-BUCKET": "vinyl",
    "YOUR-PROJECT": "my-project",
    "YOUR-ADDRESS": "oncall@example.com",
    "GPUS=1": "GPUS=4",
    "WORKERS=2": "WORKERS=4",
    "RETRAIN_SCHEDULE=0 3 * * 1": "RETRAIN_SCHEDULE=30 4 * * 1",
    "TIME_ZONE=Etc/UTC": "TIME_ZONE=Europe/Zurich",
    "TRAINING_DEADLINE_SECS=172800": "TRAINING_DEADLINE_SECS=259200",
    "PRESET=wave": "PRESET=wave-large",
    "SAMPLE_RATE_HZ=3000": "SAMPLE_RATE_HZ=22050",
}


@pytest.fixture
def copied(tmp_path, monkeypatch):
    """Return a copy of the manifests that a test may edit, which the scripts read, too."""
    k8s = Path(shutil.copytree(K8S, tmp_path / "k8s"))
    monkeypatch.setattr(overlay_settings, "OVERLAYS", k8s / "overlays")
    return k8s


def edit(folder, edits):
    """Replace text in the settings of an overlay."""
    for path in (folder / "settings.env", folder / "cluster.env"):
        text = path.read_text()
        for before, after in edits.items():
            text = text.replace(before, after)
        path.write_text(text)


@pytest.mark.parametrize("name", GKE)
def test_each_setting_is_edited_in_one_place(copied, name):
    edit(copied / "overlays" / name, EDITS)
    rendered = render(copied / "overlays" / name)

    assert "YOUR-" not in yaml.safe_dump(rendered.documents)
    retrain, train = rendered.workload("CronJob", "retrain"), rendered.workload("Job", TRAIN_JOBS[name])
    assert retrain.spec["schedule"] == "30 4 * * 1"
    assert {job["spec"]["timeZone"] for job in rendered.of("CronJob").values()} == {"Europe/Zurich"}
    for kind in ("Job", "CronJob"):
        flags = flags_of(rendered, kind, "preprocess")
        assert (flags.input, flags.sample_rate_hz) == ("gs://vinyl/music", 22_050)
    for workload in (train, retrain):
        assert flags_of(rendered, workload.kind, workload.name).preset == "wave-large"
        assert int(workload.container["resources"]["limits"]["nvidia.com/gpu"]) == 4
        assert workload.job["activeDeadlineSeconds"] == 259_200
        if name == "gke-multiworker":
            assert workload.job["completions"] == workload.job["parallelism"] == 4
            assert rendered.environment(workload, "x")["GTZAN_CVAE_WORKERS"] == "4"


def make(*args):
    environment = os.environ | {"UV_DEFAULT_INDEX": "unused"}  # so that make does not query pip for it
    return subprocess.run(["make", *args], cwd=K8S.parent, capture_output=True, text=True, env=environment)


def test_deploying_an_unknown_overlay_is_an_error_that_lists_the_overlays():
    process = make("deploy", "OVERLAY=moon")
    assert process.returncode == 2
    assert all(name in process.stderr for name in OVERLAYS)


def test_an_overlay_that_was_not_edited_is_not_deployed():
    process = make("deploy", "OVERLAY=gke-gpu")
    assert process.returncode == 2
    assert "PROJECT still is YOUR-PROJECT" in process.stderr
    assert "make push OVERLAY=gke-gpu" in process.stderr
    assert "kubectl" not in process.stdout


def problems(copied, name, edits):
    edit(copied / "overlays" / name, {"YOUR-": "my-", **edits})
    pushed = copied / "overlays" / name / "images/kustomization.yaml"
    pushed.write_text(pushed.read_text().replace(64 * "0", 64 * "1").replace("-unbuilt", "-1234abcd"))
    return overlay_settings.find_problems(name)


@pytest.mark.parametrize(("name", "preset"), product(OVERLAYS, PRESETS))
def test_every_preset_fits_the_workers_and_gpus_of_every_overlay(copied, name, preset):
    given = overlay_settings.read_settings(name)["PRESET"]
    edits = {
        f"PRESET={given}": f"PRESET={preset}",
        "SAMPLE_RATE_HZ=3000": f"SAMPLE_RATE_HZ={USUAL_RATES_HZ[preset]}",
    }
    assert not problems(copied, name, edits)


REFUSED = {
    "WORKERS=2": ("WORKERS=3", "WORKERS can be 1, 2, 4, 8"),
    "GPUS=1": ("GPUS=8", "WORKERS can be 1"),
    "PRESET=wave": ("PRESET=wave-large", "is made for 12,000 to 48,000 Hz"),
    "SAMPLE_RATE_HZ=3000": ("SAMPLE_RATE_HZ=22050", "is made for 1,000 to 12,000 Hz"),
    "RESERVATION=": ("RESERVATION=l4s", "gke-reservation"),
}


@pytest.mark.parametrize("before", REFUSED)
def test_settings_that_cannot_work_are_refused(copied, before):
    after, message = REFUSED[before]
    (problem,) = problems(copied, "gke-multiworker", {before: after})
    assert message in problem


def test_a_preset_that_does_not_exist_is_refused(copied):
    (problem,) = problems(copied, "local", {"PRESET=tiny": "PRESET=huge"})
    assert "there is no preset huge" in problem


def test_a_disk_in_one_zone_does_not_go_with_several_zones(copied):
    edits = {"ZONES=europe-west4-a": "ZONES=europe-west4-a,europe-west4-b"}
    (problem,) = problems(copied, "gke-gpu", edits)
    assert "cuda-cache" in problem


def test_only_the_pods_of_one_trainer_share_the_disk_of_the_cuda_cache():
    mounts = {
        name: {w.name for w in overlay(name).workloads() if "cuda-cache" in yaml.safe_dump(w.pod)}
        for name in GKE
    }
    assert mounts == {"gke-gpu": {"train", "retrain"}, "gke-multiworker": set()}
    workload = overlay("gke-gpu").workload("CronJob", "retrain")
    environment = overlay("gke-gpu").environment(workload, "x")
    assert environment["CUDA_CACHE_PATH"] in {
        mount["mountPath"] for mount in workload.container["volumeMounts"]
    }
    assert workload.pod["securityContext"]["fsGroup"] == workload.pod["securityContext"]["runAsGroup"]


@pytest.mark.parametrize("name", GKE)
def test_a_dataflow_job_writes_the_dataset_that_the_manifests_read(copied, name, monkeypatch):
    monkeypatch.setattr(dataflow, "OVERLAYS", copied / "overlays")
    edit(copied / "overlays" / name, EDITS)
    image = "europe-west4-docker.pkg.dev/my-project/gtzan-cvae/beam-worker@sha256:" + 64 * "a"
    (copied / "overlays" / name / "images/beam-worker").write_text(image + "\n")
    command = dataflow.command(name, ["--shards=32"])
    flags, expected = (
        preprocessing_flags(command),
        flags_of(render(copied / "overlays" / name), "Job", "preprocess"),
    )
    assert flags.versioned
    assert flags.shards == 32
    for setting in ("input", "output", "sample_rate_hz"):
        assert getattr(flags, setting) == getattr(expected, setting)
    assert "--no_use_public_ips" in command
    assert f"--sdk_container_image={image}" in command
    assert "--service_account_email=gtzan-dataflow@my-project.iam.gserviceaccount.com" in command
    assert "--max_num_workers=10" in command
    assert "--subnetwork=regions/europe-west4/subnetworks/default" in command


def test_a_dataflow_job_without_settings_or_image_is_refused(copied, monkeypatch, capsys):
    monkeypatch.setattr(dataflow, "OVERLAYS", copied / "overlays")
    for name, message in {"gke-gpu": "still is YOUR-PROJECT", "local": "no settings for Dataflow"}.items():
        with pytest.raises(SystemExit) as stopped:
            dataflow.command(name, [])
        assert stopped.value.code == 2
        assert message in capsys.readouterr().err
    edit(copied / "overlays/gke-gpu", EDITS)
    with pytest.raises(SystemExit):
        dataflow.command("gke-gpu", [])
    assert "make push OVERLAY=gke-gpu" in capsys.readouterr().err
