"""Run the images as the manifests do: confined, without network, as their user. `make image-test`.

Standard library only: it runs before anything is installed.
"""

from __future__ import annotations

import json
import os
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from images import image

USER = "10001"
# The confinement of k8s/base: no privileges and no writable folder but /tmp; here, no network either.
CONFINED = ["--read-only", "--user", f"{USER}:{USER}", "--cap-drop", "ALL", "--network", "none"]
CONFINED += ["--security-opt", "no-new-privileges"]
# The same for an engine without such flags: root remounts the file system read-only, then drops privileges.
CONFINE = f"""mount -o remount,bind,ro / && exec setpriv --reuid {USER} --regid {USER} --clear-groups \
--no-new-privs --bounding-set=-all --inh-caps=-all "$@" """

# Runs inside the image and checks what the manifests rely on.
PROBE = """
import errno, importlib.util, os, shutil, sys
assert os.getuid() == 10001 and os.getgid() == 10001, (os.getuid(), os.getgid())
open("/tmp/probe", "w").close()
for folder in ("/var/tmp", "/venv"):
    try:
        open(os.path.join(folder, "probe"), "w").close()
    except OSError as error:
        assert error.errno == errno.EROFS, error
    else:
        sys.exit(f"{folder} is writable")
found = [tool for tool in ("gcc", "cc", "make", "uv", "git") if shutil.which(tool)]
found += [name for name in sys.argv[1:] if importlib.util.find_spec(name)]
assert not found, f"the image must not contain {found}"
"""
SERVE = """
import storage_emulator, urllib.request
server = storage_emulator.start("127.0.0.1", 19023, "music", "/tmp/bucket")
assert urllib.request.urlopen("http://127.0.0.1:19023/").status == 200
server.stop()
"""


class Engine:
    """Runs images with docker or podman; all containers share one /tmp."""

    def __init__(self, name: str, volume: str) -> None:
        self._command = [name, "run", "--rm", *CONFINED, "--volume", f"{volume}:/tmp"]

    def run(self, name: str, *args: str, python: bool = False) -> None:
        """Run an image with arguments, or its Python interpreter with them."""
        entry = ["--entrypoint", "python"] if python else []
        subprocess.run([*self._command, *entry, name, *args], check=True)


class Buildah:
    """Runs images with buildah, whose `run` has neither entry points nor read-only file systems."""

    def __init__(self, folder: str) -> None:
        self._options = ["--isolation", "chroot", "--user", "root", "--cap-add", "CAP_SYS_ADMIN"]
        self._options += ["--volume", f"{folder}:/tmp"]

    def run(self, name: str, *args: str, python: bool = False) -> None:
        """Run an image with arguments, or its Python interpreter with them."""
        inspected = subprocess.run(
            ["buildah", "inspect", "--type", "image", name], capture_output=True, check=True
        )
        config = json.loads(inspected.stdout)["OCIv1"]["config"]
        assert config["User"] == f"{USER}:{USER}", f"{name} runs as {config['User']}"
        entry = ["python"] if python else config["Entrypoint"]
        created = subprocess.run(["buildah", "from", name], capture_output=True, text=True, check=True)
        container = created.stdout.strip()
        confined = ["sh", "-c", CONFINE, "sh", *entry, *args]
        try:
            subprocess.run(["buildah", "run", *self._options, container, "--", *confined], check=True)
        finally:
            subprocess.run(["buildah", "rm", container], stdout=subprocess.DEVNULL, check=True)


@contextmanager
def engine(builder: str) -> Iterator[Engine | Buildah]:
    """Yield an engine whose containers share a /tmp, which is deleted afterwards."""
    if builder == "buildah":
        with tempfile.TemporaryDirectory() as folder:
            Path(folder).chmod(0o1777)
            yield Buildah(folder)
        return
    volume = f"gtzan-cvae-image-test-{os.getpid()}"
    subprocess.run([builder, "volume", "create", volume], stdout=subprocess.DEVNULL, check=True)
    try:
        yield Engine(builder, volume)
    finally:
        subprocess.run([builder, "volume", "rm", volume], stdout=subprocess.DEVNULL, check=True)


def test(builder: str, suffix: str) -> None:
    """Synthesize music, preprocess it and train one epoch, each in its confined image."""
    preprocessing, trainer, emulator = (
        image("preprocessing"),
        image("trainer", suffix),
        image("storage-emulator"),
    )
    with engine(builder) as containers:
        for name, unwanted in {
            preprocessing: ["pip", "setuptools", "tensorflow"],
            trainer: ["pip"],
            emulator: ["pip", "setuptools"],
        }.items():
            print(f"image-test: {name}", flush=True)
            containers.run(name, "--help")
            containers.run(name, "-c", PROBE, *unwanted, python=True)
        containers.run(emulator, "-c", SERVE, python=True)
        containers.run(preprocessing, "-m", "preprocessing.synthetic", "--output", "/tmp/music", python=True)
        containers.run(preprocessing, "--input=/tmp/music", "--output=/tmp/datasets", "--versioned")
        containers.run(
            trainer, "train", "--data=/tmp/datasets", "--run=/tmp/run", "--preset=tiny", "--epochs=1"
        )
    print("image-test: all images meet the manifests' requirements")
