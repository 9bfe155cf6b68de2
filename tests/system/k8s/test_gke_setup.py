"""k8s/gke/setup.sh, run against a stand-in for gcloud: idempotence, and the permissions that it grants."""

import json
import os
import re
import shlex
import shutil
import subprocess
from types import SimpleNamespace

import pytest
from support.cluster import gcloud_stub
from support.cluster.bucket_permissions import PREPROCESSING_CALLS, TRAINER_CALLS
from support.cluster.manifests import K8S

PODS = (
    f"principal://iam.googleapis.com/projects/{gcloud_stub.NUMBER}/locations/global/workloadIdentityPools/"
    f"{gcloud_stub.PROJECT}.svc.id.goog/subject/ns/gtzan-cvae/sa"
)
ACCOUNT = "serviceAccount:gtzan-{}@" + gcloud_stub.PROJECT + ".iam.gserviceaccount.com"
PREPROCESSING, TRAINER = f"{PODS}/preprocessing", f"{PODS}/trainer"
NODES, DATAFLOW = ACCOUNT.format("nodes"), ACCOUNT.format("dataflow")
OPERATOR = f"user:{gcloud_stub.OPERATOR}"
BUCKET, REPOSITORY = "storage buckets gs://vinyl", "artifacts repositories gtzan-cvae"
PROJECT = f"projects {gcloud_stub.PROJECT}"
WORKERS = f"iam service-accounts {DATAFLOW.removeprefix('serviceAccount:')}"

# The permissions of each role that the programs need, from https://cloud.google.com/iam/docs/roles-permissions.
OBJECTS = "storage.objects."
ROLES = {
    "roles/storage.objectViewer": {OBJECTS + "get", OBJECTS + "list"},
    "roles/storage.objectUser": {OBJECTS + verb for verb in ("get", "list", "create", "delete", "update")},
    "roles/storage.legacyBucketReader": {"storage.buckets.get", OBJECTS + "list"},
    "roles/artifactregistry.reader": {"artifactregistry.repositories.downloadArtifacts"},
    "roles/container.defaultNodeServiceAccount": {
        "logging.logEntries.create",
        "monitoring.timeSeries.create",
        "autoscaling.sites.writeMetrics",
    },
    "roles/dataflow.worker": {
        "dataflow.workItems.lease",
        "dataflow.workItems.update",
        "dataflow.shuffle.read",
        "dataflow.shuffle.write",
        "logging.logEntries.create",
        "storage.buckets.get",
        OBJECTS + "get",
        OBJECTS + "create",
    },
    "roles/dataflow.developer": {
        "dataflow.jobs.create",
        "dataflow.jobs.get",
        "dataflow.messages.list",
        "dataflow.metrics.get",
    },
    "roles/iam.serviceAccountUser": {"iam.serviceAccounts.actAs"},
}


def objects(verbs, *folders):
    """Name the permissions for some calls on objects in folders of the bucket."""
    return {(f"{OBJECTS}{verb}", BUCKET, f"{folder}/x") for verb in verbs.split() for folder in folders}


LIST = {(OBJECTS + "list", BUCKET, "")}  # is checked on the bucket, not on the objects
BUCKET_GET = {("storage.buckets.get", BUCKET, "")}
READ_IMAGES = {("artifactregistry.repositories.downloadArtifacts", REPOSITORY, "")}


def on_project(*permissions):
    return {(permission, PROJECT, "") for permission in permissions}


def on_bucket(calls):
    """Name the permissions for the calls that a program makes."""
    return LIST | {(f"{OBJECTS}{verb}", BUCKET, f"{folder}/x") for verb, folder in calls if folder}


# What each identity must be allowed to do: (permission, resource, object).
NEEDS = {
    PREPROCESSING: on_bucket(PREPROCESSING_CALLS),
    TRAINER: on_bucket(TRAINER_CALLS),
    NODES: READ_IMAGES | on_project("logging.logEntries.create", "monitoring.timeSeries.create"),
    DATAFLOW: READ_IMAGES
    | LIST
    | BUCKET_GET
    | objects("get", "music", "datasets", "tmp")
    | objects("create delete", "datasets", "tmp")
    | on_project("dataflow.workItems.lease", "dataflow.workItems.update", "dataflow.shuffle.read")
    | on_project("dataflow.shuffle.write", "logging.logEntries.create"),
    OPERATOR: LIST
    | BUCKET_GET  # Beam looks the bucket up before it stages a job
    | objects("get create delete", "music", "datasets", "tmp", "runs", "models")
    | {("iam.serviceAccounts.actAs", WORKERS, "")}
    | on_project(
        "dataflow.jobs.create", "dataflow.jobs.get", "dataflow.messages.list", "dataflow.metrics.get"
    ),
}


@pytest.fixture(scope="module")
def setup(tmp_path_factory):
    """Return a function that runs the script with the settings of gke-multiworker, and returns output and state."""
    root = tmp_path_factory.mktemp("setup")
    k8s = root / "repository/k8s"
    shutil.copytree(K8S, k8s)
    for name in ("settings.env", "cluster.env"):
        path = k8s / "overlays/gke-multiworker" / name
        text = path.read_text().replace("YOUR-BUCKET", "vinyl").replace("YOUR-PROJECT", gcloud_stub.PROJECT)
        path.write_text(text.replace("YOUR-ADDRESS", "oncall@example.com"))
    (root / "bin").mkdir()
    gcloud_stub.install(root / "bin")

    def run(*flags, overlay="gke-multiworker", state="state.json"):
        path = root / state
        process = subprocess.run(
            [k8s / "gke/setup.sh", *flags, overlay],
            capture_output=True,
            text=True,
            env={
                "PATH": f"{root / 'bin'}:{os.environ['PATH']}",
                "GCLOUD_STATE": str(path),
                "SETUP_RETRY_SECS": "0",
            },
        )
        return SimpleNamespace(
            code=process.returncode,
            output=process.stdout,
            error=process.stderr,
            state=json.loads(path.read_text()) if path.exists() else {},
        )

    run.k8s, run.root = k8s, root
    return run


@pytest.fixture(scope="module")
def first(setup):
    result = setup()
    assert result.code == 0, result.output + result.error
    return result


@pytest.fixture(scope="module")
def bindings(first):
    """Return every binding, as (resource, member, role, condition)."""
    return {
        (resource, binding["member"], binding["role"], binding["condition"])
        for resource, policy in first.state["policies"].items()
        for binding in policy
    }


def changes(result):
    """Return the commands that the script printed, as lists of words, with notification channels by any name."""
    lines = [line for line in result.output.splitlines() if line.startswith("gcloud ")]
    return [re.sub(r"channels/0|CHANNEL", "channel", " ".join(shlex.split(line))) for line in lines]


def granted(bindings, member):
    """Return a function that tells whether a member has a permission on a resource and an object."""

    def allows(binding, permission, resource, name):
        where, whom, role, condition = binding
        if whom != member or permission not in ROLES[role] or where not in (resource, PROJECT):
            return False
        prefixes = re.findall(r"startsWith\('projects/_/buckets/vinyl/objects/(.+?)'\)", condition)
        return condition == "None" or any(name.startswith(prefix) for prefix in prefixes)

    return lambda need: any(allows(binding, *need) for binding in bindings)


def test_a_second_run_changes_nothing(setup, first):
    assert setup().state == first.state


def test_a_dry_run_prints_what_a_run_does_and_does_nothing(setup, first):
    result = setup("--dry-run", state="untouched.json")
    assert result.code == 0, result.error
    assert changes(result) == changes(first)
    assert result.state == {}


@pytest.mark.parametrize("member", NEEDS)
def test_each_identity_may_do_what_it_must(bindings, member):
    may = granted(bindings, member)
    assert not [need for need in NEEDS[member] if not may(need)]


def test_each_binding_is_needed(bindings):
    for binding in bindings:
        member = binding[1]
        without = granted(bindings - {binding}, member)
        assert [need for need in NEEDS[member] if not without(need)], binding


@pytest.mark.parametrize(
    ("member", "folders"), [(PREPROCESSING, "music runs models tmp"), (TRAINER, "music datasets tmp")]
)
def test_pods_cannot_write_outside_of_their_own_folders(bindings, member, folders):
    may = granted(bindings, member)
    assert not [need for need in objects("create delete", *folders.split()) if may(need)]


def test_conditions_do_not_extend_to_folders_with_a_similar_name(bindings):
    may = granted(bindings, TRAINER)
    assert not may((OBJECTS + "create", BUCKET, "runs-of-others/x"))


def test_the_pools_have_a_node_for_every_worker_and_the_compute_class_has_the_pools(first):
    pools = first.state["resources"]["container node-pools"]
    text = (K8S / "components/gke/compute-class.yaml").read_text()
    assert set(re.findall(r"nodepools: \[(.+?)\]", text)) == pools.keys() == {"gpus-spot", "gpus-on-demand"}
    for pool in pools.values():
        assert int(pool["total-max-nodes"]) >= 2  # WORKERS
        assert pool["node-labels"] == "cloud.google.com/compute-class=gtzan-gpus"
        assert "count=1" in pool["accelerator"]
    assert ["spot" in pool for pool in pools.values()] == [True, False]


def test_every_alert_and_its_metric_exists_and_notifies(first):
    resources = first.state["resources"]
    policies = resources["monitoring policies"].values()
    files = {path.stem for path in (K8S / "gke/alerts/policies").iterdir()}
    assert {policy["policy-from-file"]["displayName"] for policy in policies} == {
        f"gtzan-cvae {n}" for n in files
    }
    assert {policy["notification-channels"] for policy in policies} == {"channels/0"}
    assert resources["logging metrics"].keys() == {p.stem for p in (K8S / "gke/alerts/metrics").iterdir()}


def test_quotas_that_are_too_low_are_named_with_the_page_to_raise_them(first):
    assert "GPUS_ALL_REGIONS is 0.0; a training needs 2" in first.output
    assert re.findall(r"ask for more at \S+ filter (\w+)", first.output) == ["GPUS_ALL_REGIONS"]


def test_values_that_were_not_edited_and_unknown_overlays_are_refused(setup):
    result = setup(overlay="gke-gpu", state="refused.json")
    assert (result.code, result.state) == (2, {})
    assert "PROJECT still is YOUR-PROJECT" in result.error
    assert setup(overlay="moon", state="refused.json").code == 2


def test_a_reservation_gets_a_pool_of_its_own(setup, first):
    settings = setup.k8s / "overlays/gke-multiworker/cluster.env"
    text = settings.read_text()
    settings.write_text(text.replace("RESERVATION=", "RESERVATION=l4s"))
    result = setup("--dry-run")
    settings.write_text(text)
    (command,) = [line for line in changes(result) if "node-pools create" in line]
    assert "gpus-reserved" in command
    assert "--reservation-affinity specific --reservation l4s" in command


def test_the_studio_may_read_the_bucket_if_the_overlay_has_it(setup, first):
    kustomization = setup.k8s / "overlays/gke-multiworker/kustomization.yaml"
    text = kustomization.read_text()
    kustomization.write_text(text.replace("  - images", "  - ../../components/studio\n  - images"))
    result = setup("--dry-run")
    kustomization.write_text(text)
    commands = {*changes(result)} - {*changes(setup("--dry-run"))}
    assert [command.partition("/sa/")[2] for command in commands] == [
        "studio --role roles/storage.objectViewer --condition None"
    ]


def test_the_stand_in_refuses_a_binding_without_a_condition_beside_conditional_ones(setup, first):
    command = ["storage", "buckets", "add-iam-policy-binding", "gs://vinyl", "--member", TRAINER]
    state = setup.root / "copy.json"
    shutil.copy(setup.root / "state.json", state)
    process = subprocess.run(
        [setup.root / "bin/gcloud", *command, "--role", "roles/storage.admin"],
        capture_output=True,
        text=True,
        env={"GCLOUD_STATE": str(state), "PATH": os.environ["PATH"]},
    )
    assert process.returncode == 1
    assert "--condition=None" in process.stderr
