"""The upload of a run to its bucket."""

import threading
import time

import pytest
from google.api_core.exceptions import from_http_status
from google.cloud import storage

from preprocessing.errors import CommandError, StorageError
from trainer.runs.directory import CHECKPOINTS, METRICS, POINTER, RunDirectory
from trainer.runs.storage import SINGLE_REQUEST_BYTES, GcsPrefix


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


@pytest.mark.parametrize(
    "pointer", ["", 'model_checkpoint_path: "step-30"\nall_model_checkpoint_paths: "step-20"']
)
def test_checkpoints_whose_upload_was_interrupted_are_not_used_and_deleted(storage_server, tmp_path, pointer):
    uri = f"{storage_server}/left-over-{len(pointer)}"
    named = [f"step-{step}.index" for step in (20, 30) if pointer]
    names = [f"{CHECKPOINTS}/{name}" for name in ("best-1.index", "step-2.index", "step-40.index", *named)]
    prefix = GcsPrefix(uri)
    for name in ("config.json", *names):
        prefix.write(name, b'{"preset": "wave"}')
    if pointer:
        prefix.write(POINTER, pointer.encode())
    kept = ["best-1.index", *named]
    with RunDirectory(uri, tmp_path) as run:
        assert sorted(path.name for path in (run.path / CHECKPOINTS).glob("*.index")) == kept
    assert sorted(name.rpartition("/")[2] for name in prefix.list_names() if name.endswith(".index")) == kept


def test_a_lost_pointer_does_not_delete_checkpoints(storage_server, tmp_path):
    prefix = GcsPrefix(f"{storage_server}/lost-pointer")
    names = ["config.json", f"{CHECKPOINTS}/step-10.index", f"{CHECKPOINTS}/step-20.index"]
    for name in names:
        prefix.write(name, b'{"preset": "wave"}')
    prefix.write(METRICS, b'{"epoch": 1}\n{"epoch": 2}\n')
    with RunDirectory(prefix.uri, tmp_path) as run:
        assert all((run.path / name).exists() for name in names)
    assert set(names) <= set(prefix.list_names())


def test_an_upload_that_has_expired_is_begun_again(storage_server, monkeypatch, tmp_path):
    upload, failures = storage.Blob.upload_from_file, [404, 410, 400]

    def fail_first(blob, *args, **settings):
        if failures:
            raise from_http_status(failures.pop(), "expired")
        return upload(blob, *args, **settings)

    monkeypatch.setattr(storage.Blob, "upload_from_file", fail_first)
    (tmp_path / "large").write_bytes(bytes(SINGLE_REQUEST_BYTES + 1))
    prefix = GcsPrefix(f"{storage_server}/expired")
    prefix.upload(["large"], tmp_path)
    assert not failures
    assert len(prefix.read("large")) == SINGLE_REQUEST_BYTES + 1
