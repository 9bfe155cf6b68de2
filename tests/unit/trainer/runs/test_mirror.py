"""The upload of a run to its bucket."""

import threading
import time

import pytest

from preprocessing.errors import CommandError, StorageError
from trainer.runs.directory import RunDirectory
from trainer.runs.storage import GcsPrefix


def test_nothing_is_uploaded_after_the_end_of_a_run(storage_server, monkeypatch, tmp_path):
    upload, is_queued, is_retried, uploaded = GcsPrefix.upload, threading.Event(), threading.Event(), []

    def fail_once(prefix, names, folder):
        is_queued.wait(10)
        if not is_retried.is_set():
            is_retried.set()
            raise StorageError("storage failed")
        time.sleep(0.3)
        upload(prefix, names, folder)
        uploaded.extend(names)

    monkeypatch.setattr(GcsPrefix, "upload", fail_once)
    with (
        pytest.raises(CommandError, match="is kept in"),
        RunDirectory(f"{storage_server}/end", tmp_path) as run,
    ):
        (run.path / "kept.txt").write_text("kept")
        run.commit()
        time.sleep(0.1)  # its upload waits
        run.commit()
        is_queued.set()
        assert is_retried.wait(10)
        time.sleep(0.1)  # the upload of the second commit runs
    assert uploaded == ["kept.txt"]
