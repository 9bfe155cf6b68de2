"""A simulated node: each pod is a process that runs the code of this checkout, with folders as volumes."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import threading
import time
import urllib.request
from pathlib import Path

from support.cluster import dockerfile
from support.cluster.manifests import K8S, Document, Rendered, Workload

from preprocessing.errors import CommandError

ROOT = K8S.parent
# The code that the images have installed, including the storage emulator.
CODE = os.pathsep.join(map(str, (ROOT, ROOT / "k8s/emulator")))
TIMEOUT_SECS = 900.0  # for every wait; the deadlines in the manifests are hours
POLL_SECS = 0.1


def failed(sentence: str) -> CommandError:
    """Return the error that ends the rehearsal with the message `sentence`."""
    return CommandError(sentence)


class Pod:
    """A container's process, the leader of its own process group."""

    def __init__(self, command: list[str], environment: dict[str, str], folder: Path, pod: Document) -> None:
        self._stdout, self._stderr = folder / "stdout", folder / "stderr"
        self._grace_secs = pod["terminationGracePeriodSeconds"]
        with self._stdout.open("wb") as stdout, self._stderr.open("wb") as stderr:
            self._process = subprocess.Popen(
                command,
                env=environment,
                cwd=environment["TMPDIR"],
                stdin=subprocess.DEVNULL,
                stdout=stdout,
                stderr=stderr,
                start_new_session=True,
            )

    @property
    def is_running(self) -> bool:
        return self._process.poll() is None

    @property
    def exit_code(self) -> int:
        """The exit code as a kubelet reports it: 128 plus the number of a signal."""
        code = self._process.wait()
        return code if code >= 0 else 128 - code

    @property
    def stdout(self) -> str:
        return self._stdout.read_text()

    @property
    def log(self) -> str:
        return self._stderr.read_text(errors="replace")

    @property
    def output(self) -> str:
        """What `kubectl logs` would print: with JSON logs, also errors are on stdout."""
        return self.stdout + self.log

    def wait(self, secs: float) -> bool:
        """Wait up to `secs`; return whether the process has ended."""
        try:
            self._process.wait(secs)
        except subprocess.TimeoutExpired:
            return False
        return True

    def stop(self) -> None:
        """Send SIGTERM, and SIGKILL after the grace period."""
        self._process.send_signal(signal.SIGTERM)
        if not self.wait(self._grace_secs):
            self.kill()

    def kill(self) -> None:
        """Kill the process group."""
        if self.is_running:  # otherwise the process id may have been reused
            os.killpg(self._process.pid, signal.SIGKILL)
            self._process.wait()


class Node:
    """Runs pods; closing the node kills them."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._pods: list[Pod] = []
        self._closed = False
        self._lock = threading.Lock()

    def __enter__(self) -> Node:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Kill every pod and refuse to start new ones."""
        with self._lock:
            self._closed = True
            for pod in self._pods:
                pod.kill()

    def start(self, rendered: Rendered, workload: Workload, job_name: str) -> Pod:
        """Start a pod; its emptyDir volumes are empty."""
        with self._lock:
            if self._closed:
                raise failed(f"{job_name} cannot start: the rehearsal is ending")
            folder = self._folder / "pods" / f"{len(self._pods):02d}-{job_name}"
            folder.mkdir(parents=True)
            mounts = self._mounts(rendered, workload, folder)
            command, environment = _process_of(rendered, workload, job_name, mounts)
            environment.setdefault("TMPDIR", str(folder))
            pod = Pod(command, environment, folder, workload.pod)
            self._pods.append(pod)
        return pod

    def claimed_folder(self, rendered: Rendered, claim: str) -> Path:
        """Return the folder behind a claim of a hostPath volume."""
        volume = rendered.of("PersistentVolumeClaim")[claim]["spec"]["volumeName"]
        path = rendered.of("PersistentVolume")[volume]["spec"]["hostPath"]["path"]
        return self._folder / "disk" / path.lstrip("/")

    def _mounts(self, rendered: Rendered, workload: Workload, pod: Path) -> dict[str, Path]:
        """Map each mount path in the container to a folder of this machine."""
        volumes = {volume["name"]: volume for volume in workload.pod["volumes"]}
        mounts = {}
        for mount in workload.container["volumeMounts"]:
            volume = volumes[mount["name"]]
            if "emptyDir" in volume:
                folder = pod / "volumes" / mount["name"]
            else:
                folder = self.claimed_folder(rendered, volume["persistentVolumeClaim"]["claimName"])
            mounts[mount["mountPath"]] = folder / mount.get("subPath", "")
            mounts[mount["mountPath"]].mkdir(parents=True, exist_ok=True)
        return mounts


def _process_of(
    rendered: Rendered, workload: Workload, job_name: str, mounts: dict[str, Path]
) -> tuple[list[str], dict[str, str]]:
    """Return the command and the complete environment of the process that represents a container."""
    target = workload.container["image"].partition(":")[0].removeprefix("gtzan-cvae-")
    entry_point = workload.container.get("command") or dockerfile.entry_point(target)
    command = [sys.executable if part == "python" else part for part in entry_point]
    environment = dockerfile.environment() | rendered.environment(workload, job_name)
    environment = {name: _to_local_paths(value, mounts) for name, value in environment.items()}
    environment |= {"PATH": os.environ["PATH"], "PYTHONPATH": CODE}
    if "/tmp" in mounts:
        environment["TMPDIR"] = str(mounts["/tmp"])
    args = [_to_local_paths(arg, mounts) for arg in rendered.args(workload, job_name)]
    return [*command, *args], environment


def _to_local_paths(text: str, mounts: dict[str, Path]) -> str:
    """Replace container paths in a flag or variable by paths of this machine."""
    paths = "|".join(map(re.escape, sorted(mounts, reverse=True)))
    return re.sub(rf"(?:^|(?<==))({paths})(?=/|$)", lambda match: str(mounts[match[1]]), text)


def wait_until_ready(pod: Pod, workload: Workload, address: str) -> None:
    """Wait until a server responds to its readiness probe."""
    url = address + workload.container["readinessProbe"]["httpGet"]["path"]
    deadline = time.monotonic() + TIMEOUT_SECS
    while pod.is_running and time.monotonic() < deadline:
        try:
            with urllib.request.urlopen(url, timeout=1):
                return
        except OSError:
            time.sleep(POLL_SECS)
    raise failed(f"{workload.name} does not respond at {url}: {last_line(pod)}")


def last_line(pod: Pod) -> str:
    """Return the last line that a pod logged, or else printed, which may be a state of a progress bar."""
    lines = re.split(r"[\r\n]", f"{pod.stdout}\n{pod.log}")
    return next((line.strip() for line in reversed(lines) if line.strip()), "nothing")
