"""The GPUs that TensorFlow sees: how many a training needs, and what is known about them."""

from __future__ import annotations

import itertools
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import tensorflow as tf

from preprocessing import event_log
from preprocessing.errors import CommandError, StoppedError, UsageError

PROBE = "import tensorflow as tf; tf.config.list_physical_devices('GPU')"
PROBE_SECS = 120
DRIVER_TOOLS = "/usr/local/nvidia/bin"  # where Google Kubernetes Engine mounts nvidia-smi
# A line of TensorFlow's log: time, severity, source file and line, text. Before 2.16 it starts with the date, since
# then with the severity, as in `E0000 00:00:1795915197.622047    6790 cuda_platform.cc:52] failed call to cuInit`.
LOG_LINE = re.compile(r"([\d\- :.]+: [IWEF]|[IWEF]\d{4} [\d:.]+ +\d+) (?P<source>\S+):\d+\] (?P<text>.*)")
ABOUT_GPUS = re.compile(r"cuda|cudnn|cublas|gpu|nvidia|driver", re.IGNORECASE)
NOISE = re.compile(r"already been registered|NUMA|TensorRT|optimized to use", re.IGNORECASE)
# What another attempt on the same node cannot change: a library or driver is missing, or too old.
PERMANENT = re.compile(
    r"find cuda drivers|dlopen|could not load|libcuda\.so|INSUFFICIENT_DRIVER|driver version|DRIVER_MISMATCH|"
    r"compute capability",
    re.IGNORECASE,
)


class Gpu(NamedTuple):
    """A GPU, as its driver describes it; None: unknown."""

    name: str
    memory_mb: int | None
    compute_capability: str | None


def require_gpus(count: int) -> None:
    """Raise unless TensorFlow sees at least `count` GPUs.

    Raises:
        CommandError: A driver or library is missing, or the machine has too few GPUs, which another attempt cannot
            change (exit code 2); or a device is lost or busy (75). The message has TensorFlow's own reason.
    """
    visible = len(tf.config.list_physical_devices("GPU"))
    if visible < count:
        raise shortage_error(count, visible, _log_of_discovery(), _count_device_files())


def shortage_error(count: int, visible: int, log: str, device_files: int) -> CommandError:
    """Return the error about too few GPUs.

    Args:
        count: Required GPUs.
        visible: Those that TensorFlow sees.
        log: What TensorFlow logged when it looked for them.
        device_files: GPUs that the driver has made available to this container or machine.
    """
    reasons = discovery_messages(log)
    built = describe_build()
    shown = os.environ.get("CUDA_VISIBLE_DEVICES")
    hides = shown is not None and _count_shown(shown) < count
    if hides:
        reasons.append(f"CUDA_VISIBLE_DEVICES is {shown!r}")
    reason = "; ".join(reasons) or "it gives no reason"
    message = f"`require_gpus` {count}, but TensorFlow sees {visible}: {reason} ({built})"
    if device_files < count:
        return UsageError(f"{message}; the driver provides {device_files} to this container or machine")
    if hides or PERMANENT.search(log) or not tf.sysconfig.get_build_info()["is_cuda_build"]:
        return UsageError(message)
    return StoppedError(f"{message}; the driver provides {device_files}: a device is lost or busy")


def _count_shown(visible_devices: str) -> int:
    """Count the GPUs in a value of CUDA_VISIBLE_DEVICES: CUDA ignores an invalid index and what follows it."""
    names = [name.strip() for name in visible_devices.split(",")]
    return len(list(itertools.takewhile(lambda name: name and not name.startswith("-"), names)))


def discovery_messages(log: str) -> list[str]:
    """Return what TensorFlow's log says about GPUs, each message once."""
    messages: dict[str, None] = {}
    for line in log.splitlines():
        match = LOG_LINE.match(line)
        if match and ABOUT_GPUS.search(line) and not NOISE.search(match["text"]):
            messages[match["text"].strip().rstrip(".")] = None
    return list(messages)


def log_devices(replicas: int) -> None:
    """Log the event `devices`: driver, GPUs, and what TensorFlow was built for."""
    driver, gpus = _ask_driver()
    if not gpus:
        gpus = [_describe(device) for device in tf.config.list_physical_devices("GPU")]
    names = ", ".join(
        f"{gpu.name} ({gpu.memory_mb or '?'} MB, compute capability {gpu.compute_capability})" for gpu in gpus
    )
    build = tf.sysconfig.get_build_info()
    event_log.log_event(
        "devices",
        f"{names}; driver {driver or 'unknown'}; {describe_build()}" if gpus else "no GPU: the CPU is used",
        gpus=[gpu._asdict() for gpu in gpus],
        driver=driver,
        replicas=replicas,
        tensorflow=tf.__version__,
        cuda=build.get("cuda_version"),
        cudnn=build.get("cudnn_version"),
    )


def describe_build() -> str:
    """Return the version of TensorFlow, and of CUDA and cuDNN that it was built for."""
    build = tf.sysconfig.get_build_info()
    if not build["is_cuda_build"]:
        return f"TensorFlow {tf.__version__}, built without CUDA"
    return f"TensorFlow {tf.__version__}, built for CUDA {build['cuda_version']} and cuDNN {build['cudnn_version']}"


def parse_smi(table: str) -> tuple[str | None, list[Gpu]]:
    """Parse nvidia-smi's lines `driver, name, MB, compute capability`; unknown values are in brackets."""
    rows = [
        [field.strip() for field in line.split(",")] for line in table.splitlines() if line.count(",") == 3
    ]
    gpus = [
        Gpu(name, int(memory) if memory.isdecimal() else None, None if "[" in capability else capability)
        for _, name, memory, capability in rows
    ]
    return (rows[0][0] if rows else None), gpus


def _ask_driver() -> tuple[str | None, list[Gpu]]:
    """Return the driver's version and its GPUs, as nvidia-smi tells them; nothing without it."""
    program = shutil.which("nvidia-smi", path=os.pathsep.join((os.environ.get("PATH", ""), DRIVER_TOOLS)))
    if program is None:
        return None, []
    query = "--query-gpu=driver_version,name,memory.total,compute_cap"
    output = _output_of([program, query, "--format=csv,noheader,nounits"])
    return parse_smi(output)


def _describe(device: tf.config.PhysicalDevice) -> Gpu:
    details = tf.config.experimental.get_device_details(device)
    capability = ".".join(map(str, details.get("compute_capability", ()))) or None
    return Gpu(details.get("device_name", device.name), None, capability)


def _log_of_discovery() -> str:
    """Let a process of its own look for GPUs, and return its log, which this process discards."""
    return _output_of([sys.executable, "-c", PROBE], TF_CPP_MIN_LOG_LEVEL="0")


def _output_of(command: Sequence[str], **environment: str) -> str:
    """Return stdout and stderr of a command; nothing if it cannot be run."""
    try:
        process = subprocess.run(
            command,
            env=os.environ | environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="replace",
            timeout=PROBE_SECS,
            check=False,
        )
    except (OSError, subprocess.SubprocessError) as error:
        return f"{type(error).__name__}: {error}"
    return process.stdout


def _count_device_files() -> int:
    return sum(1 for path in Path("/dev").glob("nvidia*") if re.fullmatch(r"nvidia\d+", path.name))
