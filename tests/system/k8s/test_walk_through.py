"""The walk-through of k8s/README.md, with stand-ins for gcloud, docker and the cluster: set up, push, deploy."""

import json
import os
import shutil
import subprocess
import sys
import sysconfig
from pathlib import Path

import pytest
import yaml
from support.cluster import gcloud_stub
from support.cluster.manifests import K8S, Rendered

ROOT = K8S.parent
DOCKER = """#!{python} -S
import json, sys
command, *args = sys.argv[1:]
if command == "image":
    print(json.dumps([{{"RepoDigests": [args[-1].rpartition(":")[0] + "@sha256:" + 64 * "a"]}}]))
"""
# The cluster takes what is applied; rendering is kubectl's own, or that of an old version, which leaves a setting out.
KUBECTL = """#!/bin/sh
test "$1 $2" = "apply -f" && exec cat "$3"
test -z "$OLD_KUBECTL" || exec echo "schedule: set-by-wiring"
test "$1" = "kustomize" && exec {kubectl} kustomize "$2"
"""


@pytest.fixture
def repository(tmp_path):
    """A copy of the repository as far as the walk-through needs it, with settings that were edited."""
    root = tmp_path / "repository"
    shutil.copytree(K8S, root / "k8s")
    for name in ("Makefile", "setup.py", "preprocessing", "trainer"):
        (root / name).symlink_to(ROOT / name)
    for path in (root / "k8s/overlays/gke-gpu").glob("*.env"):
        text = path.read_text().replace("YOUR-BUCKET", "vinyl").replace("YOUR-PROJECT", gcloud_stub.PROJECT)
        path.write_text(text.replace("YOUR-ADDRESS", "oncall@example.com"))
    return root


@pytest.fixture
def run(repository, tmp_path):
    programs = {
        "docker": DOCKER.format(python=sys.executable),
        "kubectl": KUBECTL.format(kubectl=Path(sysconfig.get_path("scripts"), "kubectl")),
    }
    (tmp_path / "bin").mkdir()
    gcloud_stub.install(tmp_path / "bin")
    for name, text in programs.items():
        program = tmp_path / "bin" / name
        program.write_text(text)
        program.chmod(0o755)
    environment = {
        "PATH": f"{tmp_path / 'bin'}:{os.environ['PATH']}",
        "GCLOUD_STATE": str(tmp_path / "state.json"),
    }
    environment |= {"UV_DEFAULT_INDEX": "unused", "SETUP_RETRY_SECS": "0"}

    def run(*command, code=0, **variables):
        variables |= environment
        process = subprocess.run(command, cwd=repository, capture_output=True, text=True, env=variables)
        assert process.returncode == code, process.stdout + process.stderr
        return process.stdout + process.stderr * (code != 0)

    return run


def test_an_edited_overlay_is_set_up_pushed_and_deployed(run, repository, tmp_path):
    run("k8s/gke/setup.sh", "gke-gpu")
    resources = json.loads((tmp_path / "state.json").read_text())["resources"]
    run("make", "push", "OVERLAY=gke-gpu")
    deployed = run("make", "deploy", "OVERLAY=gke-gpu")
    refused = run("make", "deploy", "OVERLAY=gke-gpu", code=2, OLD_KUBECTL="1")
    assert "this kubectl has left settings out: use 1.31 or newer" in refused
    rendered = Rendered([d for d in yaml.safe_load_all(deployed[deployed.index("apiVersion") :]) if d])

    # What is deployed is what was set up.
    registry = f"europe-west4-docker.pkg.dev/{gcloud_stub.PROJECT}/gtzan-cvae/"
    assert "gtzan-cvae" in resources["artifacts repositories"]
    for workload in rendered.workloads():
        assert workload.container["image"].startswith(registry)
        bucket = rendered.environment(workload, "x")["BUCKET"]
        assert f"gs://{bucket}" in resources["storage buckets"]
        if "nodeSelector" in workload.pod:
            ((label, name),) = workload.pod["nodeSelector"].items()
            assert {pool["node-labels"] for pool in resources["container node-pools"].values()} == {
                f"{label}={name}"
            }
    (compute_class,) = rendered.of("ComputeClass").values()
    pools = {pool for priority in compute_class["spec"]["priorities"] for pool in priority["nodepools"]}
    assert pools <= resources["container node-pools"].keys()
    # The identities that were allowed are those of the pods.
    policy = json.loads((tmp_path / "state.json").read_text())["policies"]["storage buckets gs://vinyl"]
    accounts = {binding["member"].partition("/subject/")[2] for binding in policy} - {""}
    used = {
        f"ns/{document['metadata']['namespace']}/sa/{name}"
        for name, document in rendered.of("ServiceAccount").items()
    }
    assert accounts == used
