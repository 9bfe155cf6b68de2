"""A folder of the user's own files as the output of any command: they stay as they are, byte for byte."""

import os

import pytest
from support.runs.saved_runs import one_signature
from support.tiny_corpus import TINY, WAVE_FLAGS, without_figures_and_music

from preprocessing.__main__ import main as preprocess
from preprocessing.errors import DONE, USAGE
from preprocessing.synthetic.__main__ import main as synthesize
from trainer.__main__ import main as trainer
from trainer.generation.options import Options as GenerationOptions
from trainer.reporting.listening import append_vote
from trainer.runs.directory import RunDirectory
from trainer.runs.storage import GcsPrefix
from trainer.studio.options import Options
from trainer.studio.session import Session

pytestmark = pytest.mark.long

# Files that no command writes, and such that have a name which some command would write.
HARMLESS = (
    "notes.txt",
    "prior/00.wav",
    "samples/kick.wav",
    "blues/mine.wav",
    "variation/a/b.png",
    "other.json",
)
SHARD, PAGE = "train-00000-of-00001.tfrecord", "page.html"
COLLIDING = {
    "preprocess": ("dataset.json", "records.jsonl", "quarantine.jsonl", "LATEST", SHARD),
    "inspect": (PAGE,),
    "train": (
        "config.json",
        "metrics.jsonl",
        "mlflow.json",
        "report.html",
        "checkpoints/checkpoint",
        "samples/training.gif",
    ),
    "evaluate": ("evaluation.json", "evaluation.md", "latents.png", "spectrograms.png"),
    "export": ("saved_model.pb", "metadata.json", "variables/variables.index"),
    "compare": (PAGE,),
}


@pytest.fixture(scope="module")
def run(dataset, tmp_path_factory):
    folder = tmp_path_factory.mktemp("runs")
    for preset, flags in (("wave", WAVE_FLAGS), ("reference", ["--preset", "reference"])):
        given = ["--data", str(dataset), "--run", str(folder / preset), "--epochs", "1", "--replicas", "1"]
        with without_figures_and_music():
            assert trainer(["train", *given, *flags]) == 0
    return folder / "wave"


def train(dataset, output):
    flags = ["--data", str(dataset), "--run", str(output), "--epochs", "1", "--replicas", "1", *WAVE_FLAGS]
    with without_figures_and_music():
        return trainer(["train", *flags])


def export(run, output):
    with one_signature():
        return trainer(["export", "--run", str(run), "--output", str(output)])


def compare(run, output):
    return trainer(["compare", str(run), "--html", str(output / PAGE)])


def use_studio(run, output, upload):
    """Do what the buttons of the studio do; a listening test with a vote too."""
    session = Session(Options(run=str(run), output=output), output.parent / "cache")
    session.votes_path = output / "listening.jsonl"
    options = GenerationOptions(modes=("reconstruct",), sources=(session.keep_upload(str(upload)),))
    session.set_star(session.make_take(options), True)
    append_vote(session.votes_path, {"kind": "pair"})
    return DONE


@pytest.fixture
def commands(corpus, dataset, run):
    """Each command, given its output."""
    return {
        "preprocess": lambda output: preprocess(["--input", str(corpus), "--output", str(output), *TINY]),
        "inspect": lambda output: preprocess(["inspect", str(dataset), "--html", str(output / PAGE)]),
        "synthesize": lambda output: synthesize(["--output", str(output), "--clips-per-genre", "1"]),
        "train": lambda output: train(dataset, output),
        "generate": lambda output: trainer(
            ["generate", "--run", str(run), "--output", str(output), "--count", "1"]
        ),
        "evaluate": lambda output: trainer(
            ["evaluate", "--run", str(run), "--data", str(dataset), "--output", str(output), "--count", "2",
             "--baseline-run", str(run.parent / "reference")]
        ),
        "export": lambda output: export(run.parent / "reference", output),
        "compare": lambda output: compare(run, output),
        "studio": lambda output: use_studio(run, output, next(corpus.rglob("*.wav"))),
    }  # fmt: skip


def put(folder, names):
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(os.urandom(50))
    return contents(folder)


def contents(folder):
    return {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.mark.parametrize(
    "name",
    ["preprocess", "inspect", "synthesize", "train", "generate", "evaluate", "export", "compare", "studio"],
)
def test_a_command_adds_its_files_to_those_of_the_user(commands, tmp_path, name):
    before = put(tmp_path, HARMLESS)
    for _ in range(2):  # the second time, beside its own
        assert commands[name](tmp_path) == DONE
        after = contents(tmp_path)
        assert after.items() >= before.items()
        assert len(after) > len(before)


@pytest.mark.parametrize(
    ("name", "file"), [(name, file) for name, files in COLLIDING.items() for file in files]
)
def test_a_command_that_would_replace_a_file_of_the_user_is_refused(commands, tmp_path, capsys, name, file):
    before = put(tmp_path, [*HARMLESS, file])
    assert commands[name](tmp_path) == USAGE
    assert file in capsys.readouterr().err
    assert contents(tmp_path) == before


def test_what_is_added_to_a_run_in_a_bucket_while_it_is_written_stays(storage_server, tmp_path):
    uri = f"{storage_server}/others/run"
    (tmp_path / "notes.txt").write_text("mine")
    with RunDirectory(uri, tmp_path / "cache") as run:
        (run.path / "config.json").write_text("{}")
        (run.path / "old.txt").write_text("")
        run.commit()
        GcsPrefix(uri).upload(["notes.txt"], tmp_path)
        (run.path / "old.txt").unlink()
    assert GcsPrefix(uri).read("notes.txt") == b"mine"
    assert GcsPrefix(uri).read("old.txt") is None
