"""Settings of libraries in a process that runs a command."""

from __future__ import annotations

import contextlib
import ctypes
import logging
import os
import sys
import warnings
from pathlib import Path

EMULATOR_CREDENTIALS = Path(__file__).parents[1] / "storage" / "emulator.json"
MALLOC_ARENA_MAX = -8  # M_ARENA_MAX of malloc.h


def configure() -> None:
    """Set what must be set before the libraries are imported."""
    # Beam's workers already use all cores; a BLAS thread pool in each of them would only cost time.
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
    _use_one_malloc_arena()
    _set_emulator_credentials()


def _use_one_malloc_arena() -> None:
    """Let all threads allocate from one arena: memory freed in one worker's own arena is lost to the others."""
    with contextlib.suppress(OSError, AttributeError):  # another C library
        ctypes.CDLL(None).mallopt(MALLOC_ARENA_MAX, 1)


def _set_emulator_credentials() -> None:
    """Use dummy credentials with a storage emulator, unless the user has set others.

    An emulator needs none, but Beam would search for credentials for half a minute. These never expire and
    grant access to nothing.
    """
    if os.environ.get("STORAGE_EMULATOR_HOST") and not os.environ.get("GCE_METADATA_HOST"):
        os.environ.setdefault("GOOGLE_APPLICATION_CREDENTIALS", str(EMULATOR_CREDENTIALS))


def silence() -> None:
    """Suppress the warnings and logs of libraries."""
    _silence_c_libraries()
    warnings.simplefilter("ignore")
    logging.getLogger().setLevel(logging.CRITICAL)


def silence_workers() -> None:
    """Keep Beam's local workers from printing the traceback of an exception, which `run_command` reports."""
    from apache_beam.runners.worker import sdk_worker

    vars(sdk_worker)["print"] = lambda *arguments, **options: None


def _silence_c_libraries() -> None:
    """Discard file descriptor 2, to which C decoders print warnings about bad files; keep `sys.stderr`."""
    if sys.stderr is sys.__stderr__:
        sys.stderr = open(os.dup(2), "w", buffering=1, errors="backslashreplace")  # noqa: SIM115, PTH123
        os.dup2(os.open(os.devnull, os.O_WRONLY), 2)
