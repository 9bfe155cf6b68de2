"""Recognize failures of storage in exceptions of libraries, which have classes and texts of their own."""

from __future__ import annotations

import errno
import os
import re

# What a user can mend: full, read-only or broken disks, quotas, permissions.
ERRORS = (
    *(
        errno.ENOSPC,
        errno.EDQUOT,
        errno.EFBIG,
        errno.EACCES,
        errno.EPERM,
        errno.EROFS,
        errno.EIO,
        errno.ESTALE,
    ),
    *(errno.ENAMETOOLONG, errno.ENOTDIR, errno.EMFILE),
)
MESSAGES = tuple(os.strerror(number) for number in ERRORS)
# A line of a traceback that names an exception of storage: Beam passes those of its workers on as text.
EXCEPTION_LINE = re.compile(
    r"(?:\w+: )?(?:[\w.]*\.)?"
    r"(?:OSError|IOError|BeamIOError|PermissionError|FileNotFoundError|NotADirectoryError|IsADirectoryError|TimeoutError"
    r"|ConnectionError|Connection\w+Error|Forbidden|Unauthorized|TooManyRequests|ServiceUnavailable|RetryError): (.+)"
)
# Cloud Storage's response 403. The roles contain the permission; READER is enough where nothing is written.
PERMISSION = re.compile(r"(?:(\S+@\S+|Anonymous caller) )?does not have (storage\.\w+\.\w+) access")
READER, WRITER = "roles/storage.objectViewer", "roles/storage.objectUser"
READER_PERMISSIONS = ("storage.objects.get", "storage.objects.list")
# What Beam and TensorFlow add: the step or operation that failed.
CONTEXT = re.compile(r"\s*\[(?:while running|Op:).*|^\{\{function_node .*?\}\}\s*")


def missing_role(text: str) -> str | None:
    """Say which role an account lacks, if `text` is the response of Cloud Storage to a request without permission."""
    match = PERMISSION.search(text)
    if match is None:
        return None
    account, permission = match[1] or "the account", match[2]
    role = READER if permission in READER_PERMISSIONS else WRITER
    return f"{account} lacks the permission {permission}: grant it {role} on the bucket"


def storage_failure(error: BaseException) -> str | None:
    """Return what an exception says about a failure of storage, in one line; None if it is another one."""
    seen: list[BaseException] = []
    cause: BaseException | None = error
    while cause is not None and cause not in seen:
        seen.append(cause)
        if message := missing_role(str(cause)):
            return message
        if isinstance(cause, OSError):
            return str(cause)
        if message := _in_text(str(cause)):
            return message
        cause = cause.__cause__ or cause.__context__
    return None


def _in_text(text: str) -> str | None:
    lines = [CONTEXT.sub("", line).strip() for line in text.splitlines()]
    for line in reversed(lines):
        if match := EXCEPTION_LINE.fullmatch(line):
            return match[1]
    return next((line for line in lines if line.endswith(MESSAGES)), None)
