"""Everything on object storage, over its real protocol: preprocessing, training, resuming, generating."""

import json
import threading
import time
from pathlib import Path

import pytest
from conftest import CLIP_SAMPLES, TINY
from google.cloud import storage

from preprocessing.__main__ import main as preprocess
from preprocessing.errors import BAD_DATA, STORAGE_FAILED, CommandError
from trainer.__main__ import main as trainer
from trainer.generate import load
from trainer.run_directory import POINTER, RunDirectory, fetch_run
from trainer.storage import Prefix, open_dataset

WAVE = ["--channels", "8,8", "--strides", "4,4", "--crop-samples", "256", "--sample-clips", "2"]


def upload_folder(folder: Path, uri: str):
    Prefix(uri).upload([path.relative_to(folder).as_posix() for path in folder.rglob("*.wav")], folder)


@pytest.fixture(scope="module")
def remote_dataset(storage_server, corpus, dataset):
    """The corpus uploaded and preprocessed from the bucket into the bucket."""
    upload_folder(corpus, f"{storage_server}/corpus")
    output = f"{storage_server}/dataset"
    flags = ["--input", f"{storage_server}/corpus", "--output", output, "--shards", "3", *TINY]
    assert preprocess(flags) == 0
    return output


def names(uri):
    return Prefix(uri).list()


def test_beam_writes_the_same_dataset_to_a_bucket(remote_dataset, dataset, tmp_path, capsys):
    local = json.loads((dataset / "dataset.json").read_text())
    folder, manifest = open_dataset(remote_dataset, tmp_path)
    assert manifest.digest == local["digest"]
    assert names(remote_dataset) == sorted(path.name for path in dataset.iterdir())
    assert sorted(path.name for path in folder.iterdir()) == sorted(shard.name for shard in manifest.shards)
    uri = remote_dataset.rsplit("/", 1)[0]
    assert preprocess(["--input", f"{uri}/corpus", "--output", remote_dataset, "--shards", "3", *TINY]) == 0
    assert "is up to date" in capsys.readouterr().out


def test_shards_are_fetched_once_and_checked(remote_dataset, storage_server, tmp_path):
    folder, manifest = open_dataset(remote_dataset, tmp_path)
    before = {path.name: path.stat().st_mtime_ns for path in folder.iterdir()}
    open_dataset(remote_dataset, tmp_path)
    assert {path.name: path.stat().st_mtime_ns for path in folder.iterdir()} == before

    copy = f"{storage_server}/damaged"
    name = manifest.shards[0].name
    Prefix(copy).upload([path.name for path in folder.iterdir()], folder)
    Prefix(copy).write("dataset.json", Prefix(remote_dataset).read("dataset.json"))
    data = bytearray((folder / name).read_bytes())
    data[100] ^= 1
    Prefix(copy).write(name, bytes(data))
    with pytest.raises(CommandError, match=name) as caught:
        open_dataset(copy, tmp_path / "fresh")
    assert caught.value.exit_code == BAD_DATA


def test_train_resume_and_generate_on_a_bucket(remote_dataset, storage_server, tmp_path):
    run, music = f"{storage_server}/runs/wave", f"{storage_server}/music"

    def train(machine, *flags):
        cache = ["--cache-dir", str(tmp_path / machine)]
        return trainer(["train", "--data", remote_dataset, "--run", run, *cache, *flags])

    assert train("one", *WAVE, "--epochs", "2") == 0
    assert train("another", "--epochs", "3") == 0  # another machine, with nothing but the bucket
    rows = [json.loads(line) for line in Prefix(run).read("metrics.jsonl").splitlines()]
    assert [row["epoch"] for row in rows] == [1, 2, 3]
    there = names(run)
    assert {"config.json", "report.html", "samples/training.gif", POINTER} <= set(there)
    assert "samples/epoch-0001/new-00.wav" in there
    assert sum(name.startswith("events/") for name in there) == 2
    assert b"epoch-3" in Prefix(run).read(POINTER)

    cache = ["--cache-dir", str(tmp_path / "third")]
    assert trainer(["generate", "--run", run, "--output", music, "--count", "2", *cache]) == 0
    assert {"new-00.wav", "variation-01.wav", "spectrograms.png"} <= set(names(music))
    assert load(run, tmp_path / "fourth").sample(1).shape == (1, CLIP_SAMPLES)


class Recorder(Prefix):
    """Writes down what happens to the bucket, in order, and can be told to wait."""

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
    """What a checkpoint manager does to the folder."""
    folder = path / "checkpoints"
    folder.mkdir(exist_ok=True)
    (folder / f"epoch-{epoch}.index").write_text(f"index {epoch}")
    (folder / f"epoch-{epoch}.data-00000-of-00001").write_text(f"data {epoch}")
    (folder / "checkpoint").write_text(f'model_checkpoint_path: "epoch-{epoch}"')
    for old in folder.glob(f"epoch-{epoch - keep}.*"):
        old.unlink()


def test_the_pointer_comes_after_its_files_and_before_deletions(storage_server, tmp_path):
    run = RunDirectory(f"{storage_server}/runs/order", tmp_path)
    recorder = run._prefix = Recorder(run.uri)
    with run:
        for epoch in (1, 2, 3):
            save(run.path, epoch, keep=1)
            run.commit()
            deadline = time.monotonic() + 20
            while recorder.log.count(("write", POINTER)) < epoch and time.monotonic() < deadline:
                time.sleep(0.01)
    seen = set()
    for action, name in recorder.log:
        if (action, name) == ("write", POINTER):
            assert seen, "a pointer before any file"
        if action == "upload":
            seen.add(name)
        if action == "delete":
            assert recorder.log.index(("write", POINTER)) < recorder.log.index((action, name))
    assert recorder.log.index(("upload", "checkpoints/epoch-3.index")) < len(recorder.log)
    assert set(names(run.uri)) == {
        POINTER,
        "checkpoints/epoch-3.index",
        "checkpoints/epoch-3.data-00000-of-00001",
    }
    assert fetch_run(run.uri, tmp_path / "reader").joinpath(POINTER).read_text().endswith('"epoch-3"')


def test_a_slow_bucket_does_not_hold_the_run_up_and_never_shows_a_torn_checkpoint(storage_server, tmp_path):
    run = RunDirectory(f"{storage_server}/runs/slow", tmp_path)
    recorder = run._prefix = Recorder(run.uri)
    with run:
        save(run.path, 1, keep=2)
        recorder.go.clear()
        run.commit()
        for epoch in (
            2,
            3,
            4,
            5,
        ):  # the bucket stands still; training goes on, old checkpoints are rotated out
            save(run.path, epoch, keep=2)
            run.commit()
        assert names(run.uri) == []
        recorder.go.set()
    pointers = [name for action, name in recorder.log if (action, name) == ("write", POINTER)]
    assert pointers
    assert Prefix(run.uri).read(POINTER).endswith(b'"epoch-5"')
    assert {"checkpoints/epoch-4.index", "checkpoints/epoch-5.index"} <= set(names(run.uri))
    assert "checkpoints/epoch-1.index" not in names(run.uri)


def test_a_bucket_that_is_not_there_is_code_4_and_keeps_the_run(storage_server, dataset, tmp_path, capsys):
    flags = ["--data", str(dataset), "--run", "gs://no-such-bucket/run", "--cache-dir", str(tmp_path)]
    assert trainer(["train", *flags, *WAVE, "--epochs", "1"]) == STORAGE_FAILED
    assert "gs://no-such-bucket/run cannot be reached" in capsys.readouterr().err
    assert trainer(["train", "--data", f"{storage_server}/nothing", *flags[2:]]) in (BAD_DATA, STORAGE_FAILED)


def test_the_emulator_is_where_the_client_goes(storage_server):
    assert storage.Client().list_buckets() is not None
    assert Prefix(f"{storage_server}/none").read("nothing") is None
