"""Preprocessing, training, resuming and generating on object storage, against an emulator of its protocol."""

import json
import os
import socket
import tempfile
import threading
import time
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from gcp_storage_emulator.server import RequestHandler
from support.tiny_corpus import CLIP_SAMPLES, TINY, WAVE_FLAGS

from preprocessing.__main__ import main as preprocess
from preprocessing.errors import BAD_DATA, STORAGE_FAILED, USAGE, CommandError, StoppedError, StorageError
from preprocessing.storage import lease
from trainer.__main__ import main as trainer
from trainer.data.disk_cache import ROOT_NAME
from trainer.data.fetch import open_dataset, verify_split
from trainer.generation.load import load
from trainer.runs import storage as storage_module
from trainer.runs.directory import POINTER, RunDirectory, fetch_run
from trainer.runs.storage import GcsPrefix, default_cache


def upload_folder(folder: Path, uri: str):
    GcsPrefix(uri).upload([path.relative_to(folder).as_posix() for path in folder.rglob("*.wav")], folder)


@pytest.fixture(scope="module")
def remote_dataset(storage_server, corpus, dataset):
    """A dataset in a bucket, preprocessed from a corpus in the bucket."""
    upload_folder(corpus, f"{storage_server}/corpus")
    output = f"{storage_server}/dataset"
    flags = ["--input", f"{storage_server}/corpus", "--output", output, "--shards", "3", *TINY]
    assert preprocess(flags) == 0
    return output


def names(uri):
    return [name for name in GcsPrefix(uri).list_names() if name != lease.LEASE_NAME]


def test_a_dataset_in_a_bucket_equals_a_local_one(remote_dataset, dataset, tmp_path, capsys):
    local = json.loads((dataset / "dataset.json").read_text())
    source, manifest = open_dataset(remote_dataset, tmp_path)
    assert manifest.digest == local["digest"]
    assert names(remote_dataset) == sorted(path.name for path in dataset.iterdir())
    for split in ("train", "validation", "test"):
        verify_split(source, manifest, split)
    fetched = sorted(path.name for path in (tmp_path / ROOT_NAME / manifest.digest).iterdir())
    assert fetched == sorted(shard.name for shard in manifest.shards)
    uri = remote_dataset.rsplit("/", 1)[0]
    assert preprocess(["--input", f"{uri}/corpus", "--output", remote_dataset, "--shards", "3", *TINY]) == 0
    assert "is up to date" in capsys.readouterr().out


def test_an_idle_connection_does_not_block_other_requests(storage_server, monkeypatch):
    monkeypatch.setattr(RequestHandler, "timeout", 0.2)
    address = urlsplit(os.environ["STORAGE_EMULATOR_HOST"])
    with socket.create_connection((address.hostname, address.port)):
        assert GcsPrefix(f"{storage_server}/nothing").list_names() == []


@pytest.mark.long
def test_train_resume_and_generate_on_a_bucket(remote_dataset, storage_server, tmp_path):
    run, music = f"{storage_server}/runs/wave", f"{storage_server}/music"

    def train(machine, *flags):
        cache = ["--cache-dir", str(tmp_path / machine)]
        return trainer(["train", "--data", remote_dataset, "--run", run, *cache, *flags])

    assert train("one", *WAVE_FLAGS, "--epochs", "2") == 0
    assert train("another", "--epochs", "3") == 0  # another machine, whose cache is empty
    rows = [json.loads(line) for line in GcsPrefix(run).read("metrics.jsonl").splitlines()]
    assert [row["epoch"] for row in rows] == [1, 2, 3]
    stored = names(run)
    assert {"config.json", "report.html", "samples/training.gif", POINTER} <= set(stored)
    assert "samples/epoch-0001/new-00.wav" in stored
    assert sum(name.startswith("events/") for name in stored) == 2
    assert b"step-30" in GcsPrefix(run).read(POINTER)

    cache = ["--cache-dir", str(tmp_path / "third")]
    assert trainer(["generate", "--run", run, "--output", music, "--count", "2", *cache]) == 0
    written = {name.partition("/")[2] for name in names(music)}  # in the folder of the take
    assert {"prior/00.wav", "transfer/01.wav", "variation/spectrograms.png", "recipe.json"} <= written
    assert load(run, cache=tmp_path / "fourth").sample(1).shape == (1, CLIP_SAMPLES)


class Recorder(GcsPrefix):
    """Records all changes of the bucket in order; uploads wait while `go` is cleared."""

    def __init__(self, uri):
        super().__init__(uri)
        self.log = []
        self.go = threading.Event()
        self.go.set()

    def upload(self, names, folder):
        self.go.wait(20)
        super().upload(names, folder)
        self.log += [("upload", name) for name in names]

    def write(self, name, data):
        super().write(name, data)
        self.log.append(("write", name))

    def delete(self, name):
        super().delete(name)
        self.log.append(("delete", name))


def save(path: Path, epoch: int, keep: int):
    """Write and delete files as a checkpoint manager does."""
    folder = path / "checkpoints"
    folder.mkdir(exist_ok=True)
    (folder / f"epoch-{epoch}.index").write_text(f"index {epoch}")
    (folder / f"epoch-{epoch}.data-00000-of-00001").write_text(f"data {epoch}")
    (path / "config.json").write_text('{"preset": "wave"}')
    (folder / "checkpoint").write_text(f'model_checkpoint_path: "epoch-{epoch}"')
    for old in folder.glob(f"epoch-{epoch - keep}.*"):
        old.unlink()


def test_the_pointer_is_written_after_its_files_and_before_deletions(storage_server, tmp_path):
    run = RunDirectory(f"{storage_server}/runs/order", tmp_path)
    recorder = run._uploader.prefix = Recorder(run.uri)
    with run:
        for epoch in (1, 2, 3):
            save(run.path, epoch, keep=1)
            run.commit()
            deadline = time.monotonic() + 20
            while recorder.log.count(("write", POINTER)) < epoch and time.monotonic() < deadline:
                time.sleep(0.01)
    epochs, uploaded, deleted = 0, set(), set()
    for action, name in recorder.log:
        if action == "upload":
            uploaded.add(name)
        elif action == "delete":
            deleted.add(name)
        else:
            epochs += 1
            files = {f"checkpoints/epoch-{epochs}.index", f"checkpoints/epoch-{epochs}.data-00000-of-00001"}
            assert files <= uploaded, "a pointer was written before its files"
            assert not any(f"epoch-{epochs - 1}." in name for name in deleted), (
                "a file was deleted before the pointer changed"
            )
    assert epochs == 3
    assert set(names(run.uri)) == {
        POINTER,
        "config.json",
        "checkpoints/epoch-3.index",
        "checkpoints/epoch-3.data-00000-of-00001",
    }
    copy = fetch_run(run.uri, tmp_path / "reader")
    assert copy.joinpath(POINTER).read_text().endswith('"epoch-3"')


def test_copies_of_former_checkpoints_are_deleted_after_a_day(storage_server, tmp_path):
    prefix = GcsPrefix(f"{storage_server}/runs/read-often")

    def read(number):
        content = f'model_checkpoint_path: "step-{number}"'.encode()
        prefix.write(f"checkpoints/step-{number}.index", b"")
        prefix.write(POINTER, content)
        copy = fetch_run(prefix.uri, tmp_path)
        assert copy.joinpath(POINTER).read_bytes() == content
        return copy

    copies = [read(number) for number in range(2)]
    os.utime(copies[0], (0, 0))
    copies.append(read(2))
    assert [copy.exists() for copy in copies] == [False, True, True]


def test_a_slow_bucket_does_not_delay_training_and_receives_whole_checkpoints(storage_server, tmp_path):
    run = RunDirectory(f"{storage_server}/runs/slow", tmp_path)
    recorder = run._uploader.prefix = Recorder(run.uri)
    with run:
        recorder.go.clear()
        for epoch in range(1, 6):  # uploads wait while training replaces its checkpoints
            save(run.path, epoch, keep=1)
            run.commit()
        assert names(run.uri) == []
        recorder.go.set()
        deadline = time.monotonic() + 20
        while GcsPrefix(run.uri).read(POINTER) is None and time.monotonic() < deadline:
            time.sleep(0.01)
        run.commit()  # raises the error of an earlier upload, if a deleted file was missing
    assert GcsPrefix(run.uri).read(POINTER).endswith(b'"epoch-5"')
    assert [name for name in names(run.uri) if name.endswith(".index")] == ["checkpoints/epoch-5.index"]
    assert not list(tmp_path.glob("runs/*.upload-queue/*"))
    assert not list(tmp_path.glob("runs/*.unsynced"))


class Failing(GcsPrefix):
    def upload(self, names, folder):
        raise StorageError(f"{self.uri} cannot be reached: 503")


@pytest.mark.parametrize("ending", [None, StoppedError("stopped on request")])
def test_files_that_could_not_be_uploaded_are_kept_and_uploaded_at_the_next_start(
    storage_server, tmp_path, ending
):
    uri = f"{storage_server}/runs/lagging-{ending is None}"
    with RunDirectory(uri, tmp_path) as run:
        save(run.path, 1, keep=3)
    run = RunDirectory(uri, tmp_path)
    run._uploader.prefix = Failing(uri)
    with pytest.raises(CommandError, match=r"is kept in .* is uploaded when it is started") as caught, run:
        save(run.path, 2, keep=3)
        if ending:
            raise ending
    assert caught.value.exit_code == STORAGE_FAILED
    assert GcsPrefix(uri).read(POINTER).endswith(b'"epoch-1"')
    with RunDirectory(uri, tmp_path) as run:
        assert (run.path / "checkpoints/epoch-2.index").exists()
    assert GcsPrefix(uri).read(POINTER).endswith(b'"epoch-2"')


def test_the_bucket_wins_if_another_machine_has_changed_it(storage_server, tmp_path):
    uri = f"{storage_server}/runs/moved"
    run = RunDirectory(uri, tmp_path / "one")
    run._uploader.prefix = Failing(uri)
    with pytest.raises(CommandError), run:
        save(run.path, 1, keep=3)
    with RunDirectory(uri, tmp_path / "two") as run:
        save(run.path, 7, keep=3)
    with RunDirectory(uri, tmp_path / "one") as run:
        assert [path.name for path in run.path.glob("*/*.index")] == ["epoch-7.index"]


def test_a_run_that_lost_its_lease_uploads_nothing(storage_server, tmp_path):
    run = RunDirectory(f"{storage_server}/runs/taken", tmp_path)
    with pytest.raises(CommandError, match="taken over by another process") as raised, run:
        run._lease.lost = True
        save(run.path, 1, keep=1)
        run.commit()
    assert raised.value.exit_code == STORAGE_FAILED
    assert names(run.uri) == []


def test_a_reader_gets_a_whole_checkpoint_while_training_continues(storage_server, tmp_path, monkeypatch):
    uri = f"{storage_server}/runs/read"
    with RunDirectory(uri, tmp_path) as run:
        save(run.path, 1, keep=1)
    download, moved = GcsPrefix.download, []

    def slow(self, names, folder):
        if not moved:  # between the reader's listing and its download
            moved.append(True)
            with RunDirectory(uri, tmp_path) as run:
                save(run.path, 2, keep=1)
        download(self, names, folder)

    monkeypatch.setattr(GcsPrefix, "download", slow)
    copy = fetch_run(uri, tmp_path / "reader")
    assert (copy / "checkpoints/epoch-2.index").read_text() == "index 2"
    assert (copy / POINTER).read_text().endswith('"epoch-2"')


def test_a_missing_bucket_is_exit_code_4(storage_server, dataset, tmp_path, capsys):
    flags = ["--data", str(dataset), "--run", "gs://no-such-bucket/run", "--cache-dir", str(tmp_path)]
    assert trainer(["train", *flags, *WAVE_FLAGS, "--epochs", "1"]) == STORAGE_FAILED
    assert "gs://no-such-bucket/run cannot be reached" in capsys.readouterr().err
    assert trainer(["train", "--data", f"{storage_server}/nothing", *flags[2:]]) == BAD_DATA
    assert trainer(["train", "--data", "gs://", *flags[2:]]) == USAGE


def test_the_default_cache_is_on_disk_unless_the_environment_says_otherwise(tmp_path, monkeypatch):
    for name in ("TMPDIR", "TEMP", "TMP"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(tempfile, "tempdir", "/in-memory")
    monkeypatch.setattr(storage_module, "VAR_TMP", tmp_path)
    assert default_cache() == tmp_path / "gtzan-cvae"
    monkeypatch.setattr(storage_module, "VAR_TMP", tmp_path / "missing")  # as in a read-only container
    assert default_cache() == Path("/in-memory/gtzan-cvae")
    monkeypatch.setattr(storage_module, "VAR_TMP", tmp_path)
    monkeypatch.setenv("TMPDIR", "/in-memory")
    assert default_cache() == Path("/in-memory/gtzan-cvae")
