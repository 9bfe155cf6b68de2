"""Build, test and push the images with docker, podman or buildah: `make image`, `make image-test`, `make push`.

Standard library only: it runs before anything is installed.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import re
import shlex
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from overlay_settings import OVERLAYS, ROOT, read_settings

BUILD = {
    "docker": ["docker", "build"],
    "podman": ["podman", "build"],
    "buildah": ["buildah", "bud", "--isolation", "chroot"],
}
TARGETS = ("preprocessing", "trainer", "storage-emulator")  # of overlays/local
PUSHED = ("preprocessing", "trainer", "beam-worker")  # of the other overlays; Dataflow runs the last one
CPU, CUDA = "requirements/trainer.lock", "requirements/trainer-cuda.lock"
# What the images are made of, for their tags.
SOURCES = (
    "Dockerfile",
    "setup.py",
    "pyproject.toml",
    "requirements",
    "preprocessing",
    "trainer",
    "k8s/emulator",
)
PINS = """# The images that were {how}. Written by `make {command}`.
apiVersion: kustomize.config.k8s.io/v1alpha1
kind: Component

images:
"""


def version() -> str:
    """Return the project's version."""
    return re.search(r'version="(.+?)"', (ROOT / "setup.py").read_text())[1]


def revision() -> str:
    """Return the commit, followed by a digest of the changes to it in what the images are made of, if there are any.

    So an image with other code has another tag, and a node never runs an old image under a new one's name.
    """
    head = _git("rev-parse", "--short=12", "HEAD").strip()
    if not head:
        return "unknown"
    changes = _git("diff", "HEAD", "--", *SOURCES)
    for name in _git("ls-files", "--others", "--exclude-standard", "--", *SOURCES).splitlines():
        changes += name + (ROOT / name).read_text(errors="replace")
    return head + (f"-{hashlib.sha256(changes.encode()).hexdigest()[:8]}" if changes else "")


def _git(*args: str) -> str:
    return subprocess.run(["git", *args], cwd=ROOT, capture_output=True, text=True).stdout


def image(target: str, suffix: str = "") -> str:
    """Return the name and tag of an image: the version and the revision."""
    return f"gtzan-cvae-{target}:{version()}-{revision()}{suffix}"


def cuda_suffix(requirements: str) -> str:
    """Return the suffix of the trainer's tag for a lock file: empty, or -cuda."""
    return Path(requirements).stem.removeprefix("trainer")


def find_builder(requested: str | None) -> str:
    """Return the first container engine that works.

    Raises:
        SystemExit: No engine works; the message says what is missing for each.
    """
    missing = []
    for name in [requested] if requested else BUILD:
        if not shutil.which(name):
            missing.append(f"{name} is not installed")
            continue
        info = subprocess.run([name, "info"], capture_output=True, text=True)
        if info.returncode == 0:
            return name
        last_line = (info.stderr.strip().splitlines() or ["no reason given"])[-1]
        missing.append(f"{name} does not work ({last_line})")
    sys.exit(f"no image without a container builder: {'; '.join(missing)}")


def build(builder: str, targets: tuple[str, ...], requirements: str, flags: list[str]) -> dict[str, str]:
    """Build images, the trainer's with the packages of a lock file; return their names by target."""
    names = {
        target: image(target, cuda_suffix(requirements) if target == "trainer" else "") for target in targets
    }
    labels = {"VERSION": version(), "REVISION": revision()}
    for target, name in names.items():
        args = labels | ({"REQUIREMENTS": requirements} if target == "trainer" else {})
        build_args = [part for key, value in args.items() for part in ("--build-arg", f"{key}={value}")]
        print(f"image: {name} with {builder}", flush=True)
        subprocess.run(
            [*BUILD[builder], "--target", target, "-t", name, *build_args, *flags, "."], cwd=ROOT, check=True
        )
    return names


def pin_tags(names: dict[str, str]) -> None:
    """Write the tags of images that were built into overlays/local."""
    pins = PINS.format(how="built, by tag", command="image")
    for name in names.values():
        repository, _, tag = name.partition(":")
        pins += f"  - name: {repository}\n    newTag: {tag}\n"
    (OVERLAYS / "local/images/kustomization.yaml").write_text(pins)


def check_destination(overlay: str) -> None:
    """Refuse an overlay that names no project of the user's, before anything is built.

    Raises:
        SystemExit: It does not (exit code 2).
    """
    project = read_settings(overlay).get("PROJECT", "")
    if not project or "YOUR-" in project:
        reason = f"PROJECT still is {project}" if project else "it uses the images of `make image`"
        print(f"push: overlays/{overlay}: {reason}", file=sys.stderr)
        sys.exit(2)


def push(builder: str, names: dict[str, str], overlay: str) -> None:
    """Push images to the project's repository, and write their digests into an overlay."""
    settings = read_settings(overlay)
    registry = f"{settings['REGION']}-docker.pkg.dev/{settings['PROJECT']}/gtzan-cvae"
    pushed = {}
    for target, name in names.items():
        remote = f"{registry}/{target}:{name.partition(':')[2]}"
        print(f"push: {remote}", flush=True)
        subprocess.run([builder, "tag", name, remote], check=True)
        pushed[target] = f"{registry}/{target}@{_push_one(builder, remote)}"
    pins = PINS.format(how="pushed, by digest", command="push")
    for target, reference in pushed.items():
        repository, _, digest = reference.partition("@")
        if target == "beam-worker":  # not of the cluster's; preprocessing on Dataflow reads this file
            (OVERLAYS / overlay / "images/beam-worker").write_text(reference + "\n")
        else:
            pins += f"  - name: gtzan-cvae-{target}\n    newName: {repository}\n    digest: {digest}\n"
    (OVERLAYS / overlay / "images/kustomization.yaml").write_text(pins)


def _push_one(builder: str, remote: str) -> str:
    """Push an image and return its digest in the registry."""
    if builder == "docker":  # it has no flag for the digest, but notes it at the local image
        subprocess.run(["docker", "push", remote], check=True)
        inspected = subprocess.run(["docker", "image", "inspect", remote], capture_output=True, check=True)
        repository = remote.rpartition(":")[0]
        references = [each.partition("@") for each in json.loads(inspected.stdout)[0]["RepoDigests"]]
        return next(digest for name, _, digest in references if name == repository)
    with tempfile.TemporaryDirectory() as folder:
        digest = Path(folder, "digest")
        subprocess.run([builder, "push", "--digestfile", digest, remote], check=True)
        return digest.read_text().strip()


def main() -> None:
    """Parse the command line and build, test, push or list."""
    parser = argparse.ArgumentParser(prog="python3 k8s/images.py", description=__doc__.splitlines()[0])
    parser.add_argument("what", choices=("build", "test", "push", "list"))
    parser.add_argument("--builder", choices=BUILD, help="container engine (default: the first that works)")
    parser.add_argument(
        "--requirements",
        help=f"lock file of the trainer (default: {CPU}; to push: {CUDA}, which adds CUDA, and -cuda to the tag)",
    )
    parser.add_argument(
        "--flags", default="", help="additional flags for the builder, e.g. '--build-arg BASE=...'"
    )
    parser.add_argument("--overlay", help="to push: the overlay whose project the images are pushed to")
    arguments = parser.parse_args()
    if arguments.what == "list":
        print(*(image(target) for target in TARGETS), sep="\n")
        return
    if arguments.what == "push":
        check_destination(arguments.overlay)
    builder, flags = find_builder(arguments.builder), shlex.split(arguments.flags)
    try:
        if arguments.what == "build":
            names = build(builder, TARGETS, arguments.requirements or CPU, flags)
            if not cuda_suffix(arguments.requirements or CPU):
                pin_tags(names)
        elif arguments.what == "push":
            push(builder, build(builder, PUSHED, arguments.requirements or CUDA, flags), arguments.overlay)
        else:
            import image_test

            image_test.test(builder, cuda_suffix(arguments.requirements or CPU))
    except subprocess.CalledProcessError as error:
        sys.exit(f"image: {shlex.join(map(str, error.cmd[:3]))} ... ended with exit code {error.returncode}")


if __name__ == "__main__":
    main()
