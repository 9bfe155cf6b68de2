"""The manifests as a cluster and the two programs read them: rendered, validated, their args parsed."""

import json
import re
import shutil
import subprocess
import sysconfig
from pathlib import Path

import kubernetes_validate
import pytest
import yaml

import preprocessing.__main__
import preprocessing.job
import trainer.flags

ROOT = Path(__file__).parents[1]
JOBS = ["preprocess", "train", "retrain"]
TRAINERS = ["train", "retrain"]
JOB_NAME = {"fieldRef": {"fieldPath": "metadata.labels['batch.kubernetes.io/job-name']"}}


def render(folder):
    """The documents that `kubectl apply -k folder` would send."""
    kubectl = Path(sysconfig.get_path("scripts"), "kubectl")
    done = subprocess.run([kubectl, "kustomize", folder], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return list(yaml.safe_load_all(done.stdout))


def job_spec(documents, name):
    (document,) = (d for d in documents if "Job" in d["kind"] and d["metadata"]["name"] == name)
    return document["spec"]["jobTemplate"]["spec"] if document["kind"] == "CronJob" else document["spec"]


def only_container(spec):
    (container,) = spec["template"]["spec"]["containers"]
    return container


def argv(documents, name, job_name):
    """The args a pod of the Job `job_name` starts with; an undefined $(VARIABLE) is a KeyError."""
    config_maps = {d["metadata"]["name"]: d["data"] for d in documents if d["kind"] == "ConfigMap"}
    container = only_container(job_spec(documents, name))
    env = {}
    for source in container["envFrom"]:
        env |= config_maps[source["configMapRef"]["name"]]
    for variable in container.get("env", []):
        assert variable["valueFrom"] == JOB_NAME
        env[variable["name"]] = job_name
    return [re.sub(r"\$\((\w+)\)", lambda match: env[match[1]], arg) for arg in container["args"]]


def trainer_flags(documents, name, job_name="a-job"):
    program, *args = argv(documents, name, job_name)
    assert program == "trainer"
    return trainer.flags.build_parser().parse_args(args)


def preprocessing_flags(documents):
    program, *args = argv(documents, "preprocess", "a-job")
    assert program == "preprocessing"
    flags, beam_flags = preprocessing.__main__.build_parser().parse_known_args(args)
    preprocessing.job.complete_beam_flags(beam_flags)  # raises on a flag that Beam does not know
    return flags


def dockerfile():
    """The last ENTRYPOINT, CMD and USER of the image: those that count."""
    return dict(re.findall(r"^(ENTRYPOINT|CMD|USER) (.+)$", (ROOT / "Dockerfile").read_text(), re.M))


@pytest.fixture(scope="module")
def base():
    return render(ROOT / "k8s/base")


@pytest.mark.parametrize("version", ["1.31", kubernetes_validate.latest_version()])
def test_every_document_is_valid(base, version):
    for document in base:
        kubernetes_validate.validate(document, version, strict=True)


def test_the_trainer_reads_what_preprocessing_writes(base):
    written = preprocessing_flags(base).output
    assert written.startswith("gs://YOUR-BUCKET/")
    assert [trainer_flags(base, name).data for name in TRAINERS] == [written, written]


@pytest.mark.parametrize("name", TRAINERS)
def test_each_job_has_a_run_directory_of_its_own(base, name):
    monday, next_monday = (trainer_flags(base, name, job).run for job in ("monday", "next-monday"))
    assert monday != next_monday


def edit_base(k8s):
    settings = k8s / "base/kustomization.yaml"
    edited = settings.read_text().replace("GPUS=1", "GPUS=4").replace("YOUR-BUCKET", "other")
    settings.write_text(edited)
    return k8s / "base"


def lay_over(k8s):
    settings = {"name": "settings", "namespace": "gtzan-cvae", "behavior": "merge"}
    overlay = {
        "resources": ["../../base"],
        "components": ["../../wiring"],
        "configMapGenerator": [settings | {"literals": ["GPUS=4", "BUCKET=other"]}],
    }
    folder = k8s / "overlays/big"
    folder.mkdir(parents=True)
    (folder / "kustomization.yaml").write_text(yaml.safe_dump(overlay))
    return folder


@pytest.mark.parametrize("change", [edit_base, lay_over])
def test_each_setting_is_changed_in_one_place(tmp_path, change):
    changed = render(change(Path(shutil.copytree(ROOT / "k8s", tmp_path / "k8s"))))
    assert preprocessing_flags(changed).input.startswith("gs://other/")
    for name in TRAINERS:
        limits = only_container(job_spec(changed, name))["resources"]["limits"]
        assert int(limits["nvidia.com/gpu"]) == trainer_flags(changed, name).replicas == 4


@pytest.mark.parametrize("name", TRAINERS)
def test_the_trainer_starts_a_replica_for_each_gpu(base, name):
    limits = only_container(job_spec(base, name))["resources"]["limits"]
    assert int(limits["nvidia.com/gpu"]) == trainer_flags(base, name).replicas


def test_all_jobs_run_one_pinned_image(base):
    (image,) = {only_container(job_spec(base, name))["image"] for name in JOBS}
    assert re.fullmatch(r"\S+/\S+:\d+\.\d+\.\d+\S*", image)


@pytest.mark.parametrize("name", JOBS)
def test_pods_meet_the_restricted_profile(base, name):
    pod = job_spec(base, name)["template"]["spec"]
    assert pod["securityContext"]["runAsNonRoot"]
    assert pod["securityContext"]["runAsUser"] > 0
    assert pod["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
    assert all(volume.keys() == {"name", "emptyDir"} for volume in pod["volumes"])

    container = only_container(job_spec(base, name))
    assert container["securityContext"] == {
        "allowPrivilegeEscalation": False,
        "capabilities": {"drop": ["ALL"]},
        "readOnlyRootFilesystem": True,
    }
    assert "/tmp" in {mount["mountPath"] for mount in container["volumeMounts"]}


@pytest.mark.parametrize("name", JOBS)
def test_pods_bound_what_they_use(base, name):
    resources = only_container(job_spec(base, name))["resources"]
    for bound in ("requests", "limits"):
        assert resources[bound].keys() >= {"cpu", "memory", "ephemeral-storage"}
    assert job_spec(base, name)["activeDeadlineSeconds"] > 0


@pytest.mark.parametrize("name", JOBS)
def test_exit_codes_decide_what_is_tried_again(base, name):
    spec = job_spec(base, name)
    assert spec["template"]["spec"]["restartPolicy"] == "Never"  # a podFailurePolicy asks for it
    action_of = {}
    for rule in spec["podFailurePolicy"]["rules"]:
        if "onExitCodes" in rule:
            assert rule["onExitCodes"]["containerName"] == only_container(spec)["name"]
            action_of |= dict.fromkeys(rule["onExitCodes"]["values"], rule["action"])
        else:
            action_of |= {condition["type"]: rule["action"] for condition in rule["onPodConditions"]}
    assert action_of == {2: "FailJob", 3: "FailJob", 75: "Ignore", "DisruptionTarget": "Ignore"}


@pytest.mark.parametrize("name", JOBS)
def test_a_stopped_pod_has_time_to_save(base, name):
    assert job_spec(base, name)["template"]["spec"]["terminationGracePeriodSeconds"] >= 30


def test_the_image_starts_the_programs_of_this_project():
    instructions = dockerfile()
    assert json.loads(instructions["ENTRYPOINT"]) == ["python", "-m"]
    program, *_ = json.loads(instructions["CMD"])
    assert (ROOT / program / "__main__.py").is_file()


@pytest.mark.parametrize("name", JOBS)
def test_pods_run_as_the_user_of_the_image(base, name):
    security = job_spec(base, name)["template"]["spec"]["securityContext"]
    assert dockerfile()["USER"] == f"{security['runAsUser']}:{security['runAsGroup']}"
