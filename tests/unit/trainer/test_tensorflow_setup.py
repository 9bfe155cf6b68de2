"""What must be set before TensorFlow is imported."""

import importlib.util
import os
import subprocess
import sys

import pytest
import tensorflow as tf

from trainer import tensorflow_setup
from trainer.tensorflow_setup import filter_log_lines, prepare_tensorflow

NOTICE = "WARNING: All log messages before absl::InitializeLog() is called are written to STDERR\n"
INFO = "I0000 00:00:1795915197.621505    6790 port.cc:153] oneDNN custom operations are on.\n"
ERROR = "E0000 00:00:1795915249.529218    7058 cuda_platform.cc:52] failed call to cuInit: INTERNAL\n"
OTHERS = "Traceback (most recent call last):\nI0000 is the name of a track\n"


@pytest.fixture
def tf_keras_is_installed(monkeypatch):
    """Let it seem so: this decides what is set."""
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: object())


def test_keras_is_the_second_major_version():
    assert not hasattr(tf.keras, "ops")  # which Keras 3 has
    assert tf.keras.layers.Layer.__module__.split(".")[0] in ("keras", "tf_keras")


def test_importing_tensorflow_after_the_trainer_prints_nothing_and_leaves_no_trace():
    code = (
        "import trainer, tensorflow as tf;"
        "print(hasattr(tf.keras, 'ops'), *(type(loader).__name__ for loader in (tf.__spec__.loader, tf.__loader__)))"
    )
    set_on_import = {"TF_CPP_MIN_LOG_LEVEL", "TF_USE_LEGACY_KERAS"}
    environment = {name: value for name, value in os.environ.items() if name not in set_on_import}
    process = subprocess.run(
        [sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True
    )
    assert (process.stdout, process.stderr) == ("False SourceFileLoader SourceFileLoader\n", "")


def test_keras_2_is_selected_where_it_is_a_package_of_its_own(tf_keras_is_installed, monkeypatch):
    monkeypatch.setenv("TF_USE_LEGACY_KERAS", "true")  # set before TensorFlow was imported
    prepare_tensorflow()
    assert os.environ["TF_USE_LEGACY_KERAS"] == "1"


def test_a_tensorflow_that_was_imported_before_with_keras_3_is_reported(tf_keras_is_installed, monkeypatch):
    monkeypatch.delenv("TF_USE_LEGACY_KERAS", raising=False)
    with pytest.raises(ImportError, match="import `trainer` first"):
        prepare_tensorflow()
    assert "TF_USE_LEGACY_KERAS" not in os.environ


@pytest.mark.parametrize(
    ("level", "shown"),
    [
        (0, NOTICE + INFO + ERROR + OTHERS),
        (1, NOTICE + ERROR + OTHERS),
        (2, ERROR + OTHERS),
        (3, OTHERS),
    ],
)
def test_early_log_lines_below_the_level_are_dropped_and_nothing_else(level, shown, capfd):
    with filter_log_lines(level):
        os.write(2, (NOTICE + INFO + ERROR + OTHERS).encode())
    assert capfd.readouterr().err == shown


def test_what_was_printed_before_a_failing_import_is_shown(capfd):
    with pytest.raises(ImportError), filter_log_lines(3):
        os.write(2, b"no AVX\n")
        raise ImportError("stopped")
    assert capfd.readouterr().err == "no AVX\n"


def test_a_process_without_a_standard_error_can_import(monkeypatch):
    def fail(descriptor):
        raise OSError(9, "Bad file descriptor")

    monkeypatch.setattr(tensorflow_setup.os, "dup", fail)
    imported = []
    with filter_log_lines(3):
        imported.append("tensorflow")
    assert imported
