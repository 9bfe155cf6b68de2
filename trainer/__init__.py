"""Train convolutional variational autoencoders on music, and generate music with them.

In a notebook:

    from trainer import load
    generator = load("runs/wave")
    clips = generator.sample(count=4, genre="jazz", seed=1)
"""

from __future__ import annotations

import os
import warnings
from pathlib import Path
from typing import TYPE_CHECKING

from preprocessing.errors import CommandError, DataError, StoppedError, StorageError, UsageError

if TYPE_CHECKING:
    from trainer.generation.generator import Generator

__all__ = ["CommandError", "DataError", "StoppedError", "StorageError", "UsageError", "load"]

# On import, TensorFlow logs its CPU features and every CUDA library that it does not find.
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
# In TensorFlow 2.15, oneDNN's bfloat16 kernels for AMX read uninitialized memory when a convolution's kernel
# is longer than its input, as in the reference model: gradients are occasionally NaN.
os.environ.setdefault("ONEDNN_MAX_CPU_ISA", "AVX512_CORE_FP16")
# Google's client libraries warn on import that they will stop supporting this version of Python.
warnings.filterwarnings("ignore", category=FutureWarning, module=r"google\.api_core")


def load(run: str | Path, cache: Path | None = None) -> Generator:
    """Load the newest checkpoint of a run for generation. Imports TensorFlow, which takes seconds.

    Args:
        run: Run directory, or a folder of models, whose champion is loaded; local or `gs://`.
        cache: Local folder for files fetched from `gs://`; None: `gtzan-cvae` in the temporary folder.

    Returns:
        The generator: `sample`, `reconstruct`, `interpolate` and so on return clips of shape
        `[clips, samples]`, float32 in [-1, 1] at `generator.sample_rate_hz`.

    Raises:
        CommandError: `run` holds no run or no checkpoint yet (exit code 3), or storage failed (4).
    """
    from trainer.generation import generator

    return generator.load(run, cache)
