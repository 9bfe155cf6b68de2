"""What must be set before TensorFlow is imported: its Keras, its kernels, and how much it logs."""

from __future__ import annotations

import importlib.abc
import importlib.machinery
import importlib.util
import os
import re
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from types import ModuleType

SEVERITIES = "IWEF"
# A line that TensorFlow 2.16 and later log before they read TF_CPP_MIN_LOG_LEVEL, or the notice before the first one.
EARLY_LINE = re.compile(
    rb"(?P<severity>[IWEF])\d{4} [\d:.]+ +\d+ \S+:\d+\] |WARNING: All log messages before absl::"
)


def prepare_tensorflow() -> None:
    """Set the environment for TensorFlow, which is imported later, by the modules that compute.

    Raises:
        ImportError: TensorFlow was imported before, with Keras 3.
    """
    # On import, TensorFlow logs its CPU features and every CUDA library that it does not find.
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    # In TensorFlow 2.15, oneDNN's bfloat16 kernels for AMX read uninitialized memory when a convolution's kernel
    # is longer than its input, as in the reference model: gradients are occasionally NaN.
    os.environ.setdefault("ONEDNN_MAX_CPU_ISA", "AVX512_CORE_FP16")
    if importlib.util.find_spec("tf_keras"):
        _select_legacy_keras()
        if "tensorflow" not in sys.modules:
            sys.meta_path.insert(0, _QuietImport())


def _select_legacy_keras() -> None:
    """Let `tf.keras` be Keras 2, the package tf-keras. From TensorFlow 2.16 on it would be Keras 3.

    TensorFlow reads the variable when it is imported. TensorFlow 2.15 has Keras 2 of its own, and without tf-keras
    warns of the variable.
    """
    selected = os.environ.get("TF_USE_LEGACY_KERAS") in ("1", "True", "true")
    if "tensorflow" in sys.modules and not selected:
        raise ImportError(
            "TensorFlow was imported before `trainer`, with Keras 3: import `trainer` first, or set "
            "TF_USE_LEGACY_KERAS=1"
        )
    os.environ["TF_USE_LEGACY_KERAS"] = "1"


class _QuietImport(importlib.abc.MetaPathFinder, importlib.abc.Loader):
    """Imports TensorFlow without the log lines that `TF_CPP_MIN_LOG_LEVEL` should suppress, but comes too late for."""

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> importlib.machinery.ModuleSpec | None:
        """Find TensorFlow as Python does, and take its loader's place."""
        if fullname != "tensorflow":
            return None
        sys.meta_path.remove(self)
        spec = importlib.util.find_spec(fullname)
        if spec is not None and spec.loader is not None:
            self._loader, spec.loader = spec.loader, self
        return spec

    def create_module(self, spec: importlib.machinery.ModuleSpec) -> ModuleType | None:
        """Leave it to Python."""
        return self._loader.create_module(spec)

    def exec_module(self, module: ModuleType) -> None:
        """Import with a filtered standard error."""
        assert module.__spec__ is not None
        module.__spec__.loader = module.__loader__ = self._loader
        with filter_log_lines(int(os.environ.get("TF_CPP_MIN_LOG_LEVEL") or 0)):
            self._loader.exec_module(module)


@contextmanager
def filter_log_lines(min_level: int) -> Iterator[None]:
    """Drop TensorFlow's early log lines below a level (0: info to 3: fatal) from standard error; delay other lines."""
    try:
        original = os.dup(2)
    except OSError:  # there is no standard error
        yield
        return
    with tempfile.TemporaryFile() as captured:
        os.dup2(captured.fileno(), 2)
        try:
            yield
        finally:
            os.dup2(original, 2)
            os.close(original)
            captured.seek(0)
            os.write(2, b"".join(line for line in captured if _is_shown(line, min_level)))


def _is_shown(line: bytes, min_level: int) -> bool:
    match = EARLY_LINE.match(line)
    if match is None:
        return True
    severity = match["severity"] or b"W"
    return SEVERITIES.index(severity.decode()) >= min_level
