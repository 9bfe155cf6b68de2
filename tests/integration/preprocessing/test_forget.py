import json
import shutil

import pytest
from support.runs.retraining import run_retrain
from support.tiny_corpus import TINY, write_clip

from preprocessing.__main__ import main
from preprocessing.dataset.records import RecordEntry
from preprocessing.errors import BAD_DATA, USAGE
from preprocessing.storage import lease
from trainer import run_config
from trainer.config import Config
from trainer.data.fetch import find_dataset
from trainer.run_config import RunConfig, metadata_of


class Studio:
    """A folder of versions, and runs that were trained on them."""

    def __init__(self, root):
        self.music, self.datasets, self.runs = root / "music", root / "datasets", root / "runs"
        for number in range(4):
            self.preprocess_with(number)

    def preprocess_with(self, number):
        for take in range(3 if number == 0 else 1):
            write_clip(self.music / f"rock/{number} {take}.wav", 10 * number + take)
        return self.preprocess()

    def preprocess(self):
        flags = ["--input", str(self.music), "--output", str(self.datasets), *TINY, "--versioned"]
        assert main(flags) == 0
        return find_dataset(str(self.datasets))[1].digest

    def versions(self):
        """The digests of all versions, by the number of their records."""
        lists = {
            path.parent.name: self.records(path.parent.name) for path in self.datasets.glob("*/records.jsonl")
        }
        return sorted(lists, key=lambda digest: len(lists[digest]))

    def records(self, digest):
        lines = (self.datasets / digest / "records.jsonl").read_text().splitlines()
        return [RecordEntry.from_json(line) for line in lines]

    def recording(self, digest, split):
        """The URI of a recording in a split."""
        return next(entry.source_uri for entry in self.records(digest) if entry.split == split)

    def train(self, name, digest, ancestors=()):
        """Write the files of a run as the trainer does, without its weights."""
        folder = self.runs / name
        uri, manifest = find_dataset(f"{self.datasets}/{digest}")
        (folder / "checkpoints").mkdir(parents=True)
        (folder / "samples/originals").mkdir(parents=True)
        run_config.save(RunConfig(Config(), metadata_of(manifest, uri), tuple(ancestors)), folder)
        for file in ("checkpoints/checkpoint", "samples/originals/0.wav", "report.html", "metrics.jsonl"):
            (folder / file).write_text("content")

    def files(self, name):
        folder = self.runs / name
        return {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}

    def forget(self, *names, flags=()):
        names = [flag for name in names for flag in ("--recording", name)]
        runs = ["--runs", str(self.runs)] if self.runs.exists() else []
        return main(["forget", "--datasets", str(self.datasets), *runs, *names, *flags])


def path_of(entry):
    """The path of a recording below the input."""
    return "rock/" + entry.source_uri.rpartition("/")[2]


@pytest.fixture(scope="module")
def preprocessed(tmp_path_factory):
    root = tmp_path_factory.mktemp("studio")
    Studio(root)
    return root


@pytest.fixture
def studio(preprocessed, tmp_path, monkeypatch):
    """Four versions, each with a recording more than the one before."""
    shutil.copytree(preprocessed, tmp_path, dirs_exist_ok=True)
    monkeypatch.setattr(Studio, "preprocess_with", lambda *_: None)
    return Studio(tmp_path)


@pytest.fixture
def late(studio):
    """The recording that only the last version holds."""
    first, last = studio.versions()[-2:]
    before = {entry.source_uri for entry in studio.records(first)}
    (entry,) = (entry for entry in studio.records(last) if entry.source_uri not in before)
    return entry


def test_without_yes_it_lists_what_it_would_delete(studio, late, capsys):
    studio.train("wave", studio.versions()[-1])
    (studio.runs / "champion.json").write_text(json.dumps({"candidate": "wave"}))
    assert studio.forget(late.source_uri) == 0
    said = capsys.readouterr().out
    assert f"recording  {late.source_uri}  {late.source_sha256}" in said
    assert f"run        {studio.runs}/wave (a champion)  was trained on them: would be deleted" in said
    assert "1 recording, 1 dataset, 1 run would be deleted; --yes deletes them" in said
    assert len(studio.versions()) == 4
    assert not (studio.datasets / "forgotten.json").exists()


def test_what_an_interrupted_deletion_left_is_deleted(studio, late):
    last = studio.datasets / studio.versions()[-1]
    (last / "dataset.json").unlink()
    assert studio.forget(late.source_uri, flags=["--yes"]) == 0
    assert not last.exists()


@pytest.mark.parametrize("name", ["source_uri", "recording_id", "source_sha256", "path"])
def test_versions_and_runs_that_depend_on_it_are_deleted_and_no_others(studio, late, name):
    *others, last = studio.versions()
    studio.train("before", others[-1])
    studio.train("candidates/on-it", last)
    studio.train("candidates/descendant", others[0], ancestors=[others[1], last])
    (studio.runs / "candidates/on-it/notes.txt").write_text("somebody's own")
    named = path_of(late) if name == "path" else getattr(late, name)
    assert late.split == "train"
    assert studio.forget(named, flags=["--yes"]) == 0
    assert studio.versions() == others
    assert not (studio.datasets / last).exists()
    assert [path.name for path in studio.runs.rglob("config.json")] == ["config.json"]
    assert studio.files("candidates/on-it") == {"notes.txt"}
    assert not (studio.runs / "candidates/descendant").exists()
    assert "checkpoints/checkpoint" in studio.files("before")
    assert not (studio.datasets / "LATEST").exists()


def test_a_run_that_only_tested_on_it_keeps_its_weights(studio):
    last = studio.versions()[-1]
    studio.train("wave", last)
    assert studio.forget(studio.recording(last, "test"), flags=["--yes"]) == 0
    assert studio.files("wave") == {"config.json", "metrics.jsonl", "checkpoints/checkpoint"}


def test_the_next_job_leaves_it_out_though_it_is_still_there(studio, late, capsys):
    assert studio.forget(late.source_uri, flags=["--yes"]) == 0
    digest = studio.preprocess()
    assert late.source_sha256 not in {entry.source_sha256 for entry in studio.records(digest)}
    assert "excluded 1" in capsys.readouterr().out


def test_pruned_versions_are_still_known(studio, late):
    last = studio.versions()[-1]
    studio.train("wave", last)
    write_clip(studio.music / "rock/new.wav", 99)
    (studio.music / path_of(late)).unlink()
    studio.preprocess()
    assert main(["prune", "--datasets", str(studio.datasets), "--keep-versions", "1", "--yes"]) == 0
    assert not (studio.datasets / last / "dataset.json").exists()
    assert studio.forget(late.source_uri, flags=["--yes"]) == 0
    assert not (studio.runs / "wave").exists()


def test_a_run_on_an_unknown_dataset_is_kept_and_listed(studio, late, capsys):
    first, *_ = studio.versions()
    studio.train("wave", first)
    shutil.rmtree(studio.datasets / first)
    (studio.runs / "other").mkdir()
    (studio.runs / "other/config.json").write_text("{}")
    assert studio.forget(late.source_uri, flags=["--yes"]) == 0
    assert capsys.readouterr().out.count("kept, but it was trained on a dataset that is not here") == 2
    assert "checkpoints/checkpoint" in studio.files("wave")


def test_an_unversioned_dataset_is_deleted(studio, tmp_path):
    output = tmp_path / "plain"
    assert main(["--input", str(studio.music), "--output", str(output), *TINY]) == 0
    assert main(["forget", "--datasets", str(output), "--recording", "rock", "--yes"]) == 0
    assert [path.name for path in output.iterdir()] == ["forgotten.json"]


def test_on_object_storage(studio, late, storage_server):
    output = f"{storage_server}/forget/datasets"
    flags = ["--input", str(studio.music), "--output", output, *TINY, "--versioned"]
    assert main(flags) == 0
    forget = ["forget", "--datasets", output, "--recording", path_of(late)]
    assert main([*forget, "--yes"]) == 0
    assert main(forget) == BAD_DATA
    assert main(flags) == 0
    assert main(forget) == BAD_DATA


def test_errors_are_sentences(studio, late, capsys):
    def check(code, message, *names, flags=()):
        assert studio.forget(*names, flags=["--yes", *flags]) == code
        assert message in capsys.readouterr().err

    check(BAD_DATA, "--runs /nowhere has no files", late.source_uri, flags=["--runs", "/nowhere"])
    studio.train("wave", studio.versions()[-1])
    check(BAD_DATA, "--recording rock/nobody.wav: no version of", late.source_uri, "rock/nobody.wav")
    with lease.acquire(str(studio.runs / "wave")):
        check(USAGE, "wave", late.source_uri)
    (studio.datasets / "forgotten.json").write_text("{")
    check(BAD_DATA, "forgotten.json is corrupt", late.source_uri)
    assert run_retrain(studio.datasets, studio.runs, cache=studio.runs) == BAD_DATA
