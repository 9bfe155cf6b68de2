"""A training that needs GPUs says why there are none, and whether another attempt may help."""

import json

import pytest

from preprocessing import event_log
from preprocessing.errors import STOPPED, USAGE, CommandError
from trainer.training.workers import gpus
from trainer.training.workers.gpus import Gpu

TIME = "2026-01-01 00:00:00.000001: "
NO_DRIVER = (
    f"{TIME}I external/local_tsl/tsl/cuda/cudart_stub.cc:31] Could not find cuda drivers on your machine, GPU will not "
    "be used."
)
NO_LIBRARY = (
    f"{TIME}W tensorflow/core/common_runtime/gpu/gpu_device.cc:2256] Cannot dlopen some GPU libraries. Please make "
    "sure the missing libraries mentioned above are installed properly."
)
LOST = (
    f"{TIME}E external/local_xla/xla/stream_executor/cuda/cuda_driver.cc:274] failed call to cuInit: "
    "CUDA_ERROR_UNKNOWN: unknown error"
)
OLD_DRIVER = (
    f"{TIME}E external/local_xla/xla/stream_executor/cuda/cuda_diagnostics.cc:313] kernel driver version "
    "470.82.1 does not match DSO version 535.1.0"
)
# Since TensorFlow 2.16, lines start with their severity.
NEW_NO_DRIVER = (
    "I0000 00:00:1795915197.622047    6790 cudart_stub.cc:31] Could not find cuda drivers on your machine, GPU will "
    "not be used."
)
NEW_LOST = (
    "E0000 00:00:1795915249.529218    7058 cuda_platform.cc:52] failed call to cuInit: INTERNAL: CUDA error: Failed "
    "call to cuInit: UNKNOWN ERROR (303)"
)
CUDA_BUILD = {"is_cuda_build": True, "cuda_version": "12.2", "cudnn_version": "8"}
NOISE = (
    f"{TIME}E external/local_xla/xla/stream_executor/cuda/cuda_dnn.cc:9261] Unable to register cuDNN factory: "
    "Attempting to register factory for plugin cuDNN when one has already been registered\n"
    f"{TIME}I tensorflow/core/util/port.cc:113] oneDNN custom operations are on.\n"
    "I0000 00:00:1795915200.259838    6790 port.cc:153] oneDNN custom operations are on.\n"
)


@pytest.mark.parametrize(
    ("count", "visible", "log", "device_files", "exit_code", "reason"),
    [
        (1, 0, NO_DRIVER, 0, USAGE, "Could not find cuda drivers"),
        (1, 0, NO_LIBRARY, 1, USAGE, "Cannot dlopen some GPU libraries"),
        (1, 0, OLD_DRIVER, 1, USAGE, "driver version 470.82.1 does not match"),
        (1, 0, LOST, 1, STOPPED, "CUDA_ERROR_UNKNOWN"),
        (1, 0, NEW_NO_DRIVER, 0, USAGE, "TensorFlow sees 0: Could not find cuda drivers"),
        (1, 0, NEW_LOST, 1, STOPPED, "TensorFlow sees 0: failed call to cuInit: INTERNAL"),
        (4, 3, "", 4, STOPPED, "a device is lost or busy"),
        (4, 2, "", 2, USAGE, "the driver provides 2"),
        (1, 0, LOST, 0, USAGE, "the driver provides 0"),
    ],
)
def test_a_shortage_has_tensorflows_reason_and_the_exit_code_of_its_kind(
    count, visible, log, device_files, exit_code, reason, monkeypatch
):
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    error = gpus.shortage_error(count, visible, NOISE + log, device_files)
    assert error.exit_code == exit_code
    assert f"--require-gpus {count}, but TensorFlow sees {visible}: " in error.for_command_line()
    assert reason in str(error)
    assert "built for CUDA" in str(error)
    assert "factory" not in str(error)
    assert "oneDNN" not in str(error)


def test_hidden_gpus_are_not_lost(monkeypatch):
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    error = gpus.shortage_error(1, 0, "", 8)
    assert error.exit_code == USAGE
    assert "CUDA_VISIBLE_DEVICES is ''" in str(error)
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "0,-1,2")
    assert gpus.shortage_error(2, 1, "", 8).exit_code == USAGE


def test_a_lost_gpu_is_lost_also_if_others_are_hidden(monkeypatch):
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "0,1")
    monkeypatch.setattr(gpus.tf.sysconfig, "get_build_info", lambda: CUDA_BUILD)
    error = gpus.shortage_error(2, 1, "", 8)
    assert error.exit_code == STOPPED
    assert "CUDA_VISIBLE_DEVICES" not in str(error)


def test_this_machines_shortage_is_explained_by_a_discovery_whose_log_is_captured(capfd):
    visible = len(gpus.tf.config.list_physical_devices("GPU"))
    gpus.require_gpus(0)
    with pytest.raises(CommandError, match=f"TensorFlow sees {visible}: ") as caught:
        gpus.require_gpus(visible + 1)
    assert caught.value.exit_code in (USAGE, STOPPED)
    if not visible:
        assert "cuda" in str(caught.value).partition("sees")[2].partition("(")[0].lower()
    assert capfd.readouterr() == ("", "")


def test_the_table_of_nvidia_smi_is_parsed():
    table = "535.129.03, NVIDIA L4, 23034, 8.9\n535.129.03, NVIDIA H100 MIG 1g, [N/A], [N/A]\n"
    assert gpus.parse_smi(table) == (
        "535.129.03",
        [Gpu("NVIDIA L4", 23_034, "8.9"), Gpu("NVIDIA H100 MIG 1g", None, None)],
    )
    failure = "NVIDIA-SMI has failed because it couldn't communicate with the NVIDIA driver."
    assert gpus.parse_smi(failure) == (None, [])


def test_the_devices_are_an_event(monkeypatch, capsys):
    monkeypatch.setattr(gpus, "_ask_driver", lambda: ("535.129.03", [Gpu("NVIDIA L4", 23_034, "8.9")]))
    event_log.configure("json")
    try:
        gpus.log_devices(replicas=1)
    finally:
        event_log.configure()
    entry = json.loads(capsys.readouterr().out)
    assert entry["event"] == "devices"
    assert entry["gpus"] == [{"name": "NVIDIA L4", "memory_mb": 23_034, "compute_capability": "8.9"}]
    assert (entry["driver"], entry["replicas"]) == ("535.129.03", 1)
    assert entry["cuda"] == gpus.tf.sysconfig.get_build_info()["cuda_version"]
    assert entry["message"].startswith(
        "NVIDIA L4 (23034 MB, compute capability 8.9); driver 535.129.03; TensorFlow"
    )
