"""The Dockerfile and the lock files; `make image-test` builds and runs the images."""

import os
import re
import shutil
import subprocess
import sys
import sysconfig
from pathlib import Path

import images
import overlay_settings
import pytest
from support.cluster.dockerfile import STAGES, TEXT, entry_point
from support.cluster.manifests import K8S, OVERLAYS, overlay, render

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
    assert set(re.findall(r"^FROM (\S+)", TEXT, re.M)) == {
        "${BASE}",
        "${BEAM_SDK}",
        "build",
        "runtime",
        "preprocessing",
    }


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


def test_make_image_pins_what_it_builds_in_the_local_overlay(tmp_path, monkeypatch):
    k8s = Path(shutil.copytree(K8S, tmp_path / "k8s"))
    monkeypatch.setattr(images, "OVERLAYS", k8s / "overlays")
    names = {target: images.image(target) for target in images.TARGETS}
    images.pin_tags(names)
    workloads = render(k8s / "overlays/local").workloads()
    assert set(names.values()) == {workload.container["image"] for workload in workloads}
    (label,) = re.findall(r"^ARG VERSION=(\S+)$", TEXT, re.M)
    assert label == images.version()


def test_tags_change_with_the_code_that_is_in_the_images(tmp_path, monkeypatch):
    monkeypatch.setattr(images, "ROOT", tmp_path)
    git = ["git", "-c", "user.name=a", "-c", "user.email=a@example.com"]
    (tmp_path / "trainer").mkdir()
    (tmp_path / "trainer/model.py").write_text("layers = 1\n")
    for command in (["init", "--quiet"], ["add", "."], ["commit", "--quiet", "--message", "Begin"]):
        subprocess.run([*git, *command], cwd=tmp_path, check=True)
    tags = [images.revision()]
    (tmp_path / "README.md").write_text("not in the images\n")
    assert images.revision() == tags[0]
    for name, text in {
        "trainer/model.py": "layers = 2\n",
        "trainer/new.py": "a = 1\n",
        "setup.py": "",
    }.items():
        (tmp_path / name).write_text(text)
        tags.append(images.revision())
    assert len(set(tags)) == 4
    assert all(re.fullmatch(r"[0-9a-f]{12}(-[0-9a-f]{8})?", tag) for tag in tags)


PUSHER = """#!{python}
import sys
from pathlib import Path
state = Path({state!r})
command, *args = sys.argv[1:]
if command == "push":
    with state.open("a") as log: print(args[-1], file=log)
    if "--digestfile" in args:
        Path(args[args.index("--digestfile") + 1]).write_text("sha256:" + 64 * "b")
elif command == "image":
    repository = args[-1].rpartition(":")[0]
    print('[{{"RepoDigests": ["elsewhere/trainer@sha256:0", "%s@sha256:%s"]}}]' % (repository, 64 * "a"))
"""


@pytest.mark.parametrize(("builder", "digit"), [("docker", "a"), ("podman", "b")])
def test_make_push_builds_pushes_and_pins_digests_in_the_overlay(tmp_path, monkeypatch, builder, digit):
    k8s = Path(shutil.copytree(K8S, tmp_path / "k8s"))
    for module in (images, overlay_settings):
        monkeypatch.setattr(module, "OVERLAYS", k8s / "overlays")
    program = tmp_path / builder
    program.write_text(PUSHER.format(python=sys.executable, state=str(tmp_path / "pushed")))
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    settings = k8s / "overlays/gke-gpu/cluster.env"
    settings.write_text(settings.read_text().replace("YOUR-PROJECT", "my-project"))

    images.push(builder, images.build(builder, images.PUSHED, images.CUDA, []), "gke-gpu")

    registry = "europe-west4-docker.pkg.dev/my-project/gtzan-cvae"
    pushed = (tmp_path / "pushed").read_text().split()
    assert [name.rpartition(":")[0] for name in pushed] == [
        f"{registry}/{target}" for target in images.PUSHED
    ]
    assert [name.endswith("-cuda") for name in pushed] == [False, True, False]
    digest = f"sha256:{64 * digit}"
    rendered = render(k8s / "overlays/gke-gpu")
    used = {workload.container["image"] for workload in rendered.workloads()}
    assert used == {f"{registry}/{target}@{digest}" for target in ("preprocessing", "trainer")}
    assert (k8s / "overlays/gke-gpu/images/beam-worker").read_text() == f"{registry}/beam-worker@{digest}\n"


@pytest.mark.parametrize(
    ("overlay", "words"), [("gke-gpu", "YOUR-PROJECT"), ("local", "make image"), ("moon", "local")]
)
def test_nothing_is_built_for_an_overlay_without_a_project(overlay, words, capsys):
    with pytest.raises(SystemExit) as stopped:
        images.check_destination(overlay)
    assert stopped.value.code == 2
    assert words in capsys.readouterr().err


def test_the_worker_image_has_the_entry_point_of_the_locked_version_of_beam():
    (version,) = re.findall(r"^ARG BEAM_SDK=docker\.io/apache/beam_python3\.11_sdk:(\S+)$", TEXT, re.M)
    assert version == locked("requirements/preprocessing.lock")["apache-beam"]
    assert entry_point("beam-worker") == ["/opt/apache/beam/boot"]
    assert STAGES["beam-worker"].startswith("FROM preprocessing ")


@pytest.mark.parametrize(
    ("name", "trainer"),
    [
        *((name, "trainer") for name in ("preprocessing", "build", "trainer-cuda", "emulator", "dev")),
        *((name, "trainer-next") for name in ("trainer-next-cuda", "dev-next")),
    ],
)
def test_lock_files_agree_on_the_versions_of_shared_packages(name, trainer):
    versions, trainer_versions = (locked(f"requirements/{lock}.lock") for lock in (name, trainer))
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
