"""The Dockerfile and the lock files; `make image-test` builds and runs the images."""

import os
import re
import subprocess
import sys
import sysconfig
from pathlib import Path

import images
import pytest
from support.dockerfile import STAGES, TEXT, entry_point
from support.manifests import K8S, OVERLAYS, overlay

ROOT = K8S.parent
TARGETS = ["preprocessing", "trainer", "storage-emulator"]
MODULES = {"preprocessing": "preprocessing", "trainer": "trainer", "storage-emulator": "storage_emulator"}


def locked(name):
    """Map each package of a lock file to its version."""
    return dict(re.findall(r"^([a-z0-9-]+)(?:\[.*\])?==([^ ]+)", (ROOT / name).read_text(), re.M))


def test_hadolint_finds_no_faults_in_the_dockerfile():
    hadolint = Path(sysconfig.get_path("scripts"), "hadolint")
    process = subprocess.run([hadolint, ROOT / "Dockerfile"], capture_output=True, text=True)
    assert process.returncode == 0, process.stdout + process.stderr


def test_the_base_image_is_pinned_by_digest():
    (base,) = re.findall(r"^ARG BASE=(\S+)$", TEXT, re.M)
    assert re.fullmatch(r"docker\.io/library/python:3\.11-slim-bookworm@sha256:[0-9a-f]{64}", base)
    assert set(re.findall(r"^FROM (\S+)", TEXT, re.M)) == {"${BASE}", "build", "runtime"}


def test_only_hashed_packages_are_installed():
    installs = re.findall(r"pip --python /venv install .*?(?=&&|$)", TEXT, re.M)
    assert len(installs) == 6
    for install in installs:
        assert "--no-deps" in install
        if not install.strip().endswith(" ."):  # the project itself
            assert "--require-hashes" in install


@pytest.mark.parametrize("target", TARGETS)
def test_images_run_their_module_as_the_user_of_the_manifests(target):
    assert entry_point(target) == ["python", "-m", MODULES[target]]
    assert STAGES[target].startswith("FROM runtime ")
    assert not re.search(r"^(RUN|USER) ", STAGES[target], re.M)  # other stages build everything
    user = re.search(r"^USER (.+)$", STAGES["runtime"], re.M)[1]
    workloads = [w for name in OVERLAYS for w in overlay(name).workloads() if w.container["name"] == target]
    assert workloads
    for workload in workloads:
        security = workload.pod["securityContext"]
        assert user == f"{security['runAsUser']}:{security['runAsGroup']}"
        assert "command" not in workload.container  # args are flags of the entry point


def test_the_local_overlay_uses_the_images_of_make_image():
    assert {images.image(target) for target in images.TARGETS} == {
        workload.container["image"] for workload in overlay("local").workloads()
    }
    (label,) = re.findall(r"^ARG VERSION=(\S+)$", TEXT, re.M)
    assert label == images.version()


@pytest.mark.parametrize("name", ["preprocessing", "build", "trainer-cuda", "emulator", "dev"])
def test_lock_files_agree_on_the_versions_of_shared_packages(name):
    versions, trainer_versions = locked(f"requirements/{name}.lock"), locked("requirements/trainer.lock")
    assert versions
    shared = versions.keys() & trainer_versions
    assert {package: versions[package] for package in shared} == {
        package: trainer_versions[package] for package in shared
    }


def test_preprocessing_does_not_install_tensorflow():
    assert not [package for package in locked("requirements/preprocessing.lock") if "tensor" in package]


@pytest.mark.parametrize("command", ["build", "test"])
def test_a_missing_container_builder_is_reported(command, tmp_path):
    process = subprocess.run(
        [sys.executable, K8S / "images.py", command],
        capture_output=True,
        text=True,
        env=os.environ | {"PATH": str(tmp_path)},
    )
    assert process.returncode == 1
    assert "container builder" in process.stderr
    assert all(f"{name} is not installed" in process.stderr for name in ("docker", "podman", "buildah"))


def test_a_failing_container_builder_is_reported_with_its_error(tmp_path):
    docker = tmp_path / "docker"
    docker.write_text("#!/bin/sh\necho no daemon >&2\nexit 1\n")
    docker.chmod(0o755)
    process = subprocess.run(
        [sys.executable, K8S / "images.py", "build"],
        capture_output=True,
        text=True,
        env=os.environ | {"PATH": str(tmp_path)},
    )
    assert process.returncode == 1
    assert "docker does not work (no daemon)" in process.stderr
