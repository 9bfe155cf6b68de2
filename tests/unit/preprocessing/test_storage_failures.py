import errno
import os

import pytest

from preprocessing.cli import run_command
from preprocessing.errors import STORAGE_FAILED, UNEXPECTED
from preprocessing.storage_failures import storage_failure

FULL = os.strerror(errno.ENOSPC)
BEAM = f"""Traceback (most recent call last):
  File "apache_beam/runners/common.py", line 1498, in process
OSError: [Errno 28] {FULL}

During handling of the above exception, another exception occurred:

Traceback (most recent call last):
  File "preprocessing/pipeline/shards.py", line 184, in append
RuntimeError: OSError: [Errno 28] {FULL} [while running 'Decode and write shard']
"""


def caused(error, cause):
    error.__cause__ = cause
    return error


@pytest.mark.parametrize(
    ("error", "message"),
    [
        (OSError(errno.ENOSPC, FULL), f"[Errno 28] {FULL}"),
        (PermissionError(errno.EACCES, "Permission denied", "/a"), "[Errno 13] Permission denied: '/a'"),
        (RuntimeError(BEAM), f"[Errno 28] {FULL}"),
        (
            RuntimeError("google.api_core.exceptions.Forbidden: 403 no access [while running 'Commit']"),
            "403 no access",
        ),
        (
            OSError(
                "Match failed: HttpError 403: a@b.c does not have storage.objects.create access to the bucket"
            ),
            "a@b.c lacks the permission storage.objects.create: grant it roles/storage.objectUser on the bucket",
        ),
        (
            ValueError(
                "{{function_node __wrapped__SaveV2}} /run/step-36_temp; No space left on device [Op:SaveV2]"
            ),
            "/run/step-36_temp; No space left on device",
        ),
        (
            caused(ValueError("no chart"), OSError(errno.EROFS, "Read-only file system")),
            "[Errno 30] Read-only file system",
        ),
    ],
)
def test_a_failure_of_storage_is_told_whatever_library_reports_it(error, message, capsys):
    def command():
        raise error

    assert storage_failure(error) == message
    assert run_command("program", command, verbose=False) == STORAGE_FAILED
    hint = "check the path, its permissions and the free space"
    assert capsys.readouterr().err == f"program: error: {message}; {hint}\n"


@pytest.mark.parametrize(
    "error", [ValueError("No space"), KeyError("OSError: x"), MemoryError(), RuntimeError("")]
)
def test_other_errors_are_no_failure_of_storage(error, capsys):
    def command():
        raise error

    assert storage_failure(error) is None
    assert run_command("program", command, verbose=False) == UNEXPECTED
    assert "--verbose" in capsys.readouterr().err
