"""`train --dry-run`: what would be trained, and that nothing is written."""

import json
import tempfile

import pytest
from support.tiny_corpus import WAVE, WAVE_FLAGS, without_figures_and_music

from preprocessing.dataset.manifest import Manifest
from preprocessing.errors import BAD_DATA, DONE, USAGE
from trainer import run_config
from trainer.__main__ import main
from trainer.run_config import RunConfig, metadata_of, resolve
from trainer.runs.storage import GcsPrefix
from trainer.training.planning import dry_run as dry_run_module
from trainer.training.planning.measure import Measured

MEASURED = Measured(
    parameters=1_000,
    device="CPU",
    step_secs=0.1,
    evaluation_secs=1.0,
    samples_secs=2.0,
    samples_bytes=3_000_000,
    checkpoint_bytes=4_000_000,
    weights_bytes=1_000_000,
    memory_bytes=5_000_000_000,
    gpu_memory_bytes=None,
)


@pytest.fixture(scope="module")
def metadata(dataset):
    uri = str(dataset)
    return metadata_of(Manifest.from_json((dataset / "dataset.json").read_bytes(), uri), uri)


def dry_run(dataset, run, *flags):
    return main(["train", "--data", str(dataset), "--run", str(run), "--replicas", "1", "--dry-run", *flags])


def started(folder, metadata, steps):
    """Write the files of a run that was stopped after some steps."""
    config = resolve(WAVE, None)
    (folder / "checkpoints").mkdir(parents=True)
    run_config.save(RunConfig(config, metadata), folder)
    (folder / "checkpoints/checkpoint").write_text(f'model_checkpoint_path: "step-{steps}"\n')
    return config


def files(folder):
    return {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.fixture
def no_leftovers(tmp_path, monkeypatch):
    """Use a temporary folder of its own, which must be empty in the end."""
    temporary = tmp_path / "temporary"
    temporary.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(temporary))
    yield
    # TensorFlow deletes the modules that it generates when the process ends.
    assert [path for path in temporary.iterdir() if "autograph_generated" not in path.name] == []


def test_a_new_run_is_planned_and_nothing_is_written(dataset, tmp_path, capsys, no_leftovers):
    before = files(dataset)
    flags = ["--epochs", "2", "--log-format", "json", *WAVE_FLAGS]
    with without_figures_and_music():
        assert dry_run(dataset, tmp_path / "run", *flags) == DONE
    plan = json.loads(capsys.readouterr().out)
    assert plan["event"] == "dry_run"
    assert "measured" not in plan  # its fields are those of the plan
    assert plan["config"]["epochs"] == 2
    assert (plan["steps_per_epoch"], plan["remaining_steps"], plan["remaining_epochs"]) == (10, 20, 2)
    assert (plan["done_steps"], plan["checkpoint"], plan["replicas"]) == (0, None, 1)
    for name in (
        "parameters",
        "step_secs",
        "evaluation_secs",
        "samples_secs",
        "samples_bytes",
        "memory_bytes",
    ):
        assert plan[name] > 0, name
    # Adam keeps two moments of each weight.
    assert plan["checkpoint_bytes"] >= 3 * 4 * plan["parameters"]
    epochs_secs = 20 * plan["step_secs"] + 2 * (plan["evaluation_secs"] + plan["samples_secs"])
    assert plan["remaining_secs"] == pytest.approx(epochs_secs)
    assert plan["disk_bytes"] == 4 * plan["checkpoint_bytes"] + 2 * (
        plan["weights_bytes"] + plan["samples_bytes"]
    )
    assert not (tmp_path / "run").exists()
    assert files(dataset) == before


@pytest.mark.parametrize("where", ["local", "bucket"])
def test_a_resumed_run_is_planned_from_its_checkpoint(
    dataset, metadata, tmp_path, storage_server, where, capsys, monkeypatch
):
    monkeypatch.setattr(dry_run_module, "measure", lambda *_: MEASURED)
    config = started(tmp_path / "run", metadata, steps=24)
    before, run = files(tmp_path), str(tmp_path / "run")
    if where == "bucket":
        run = f"{storage_server}/dry-run/run"
        GcsPrefix(run).upload(["config.json", "checkpoints/checkpoint"], tmp_path / "run")
    assert dry_run(dataset, run) == DONE
    output = capsys.readouterr().out
    assert "resumed from step-24, after epoch 2 and 4 steps" in output
    assert f"10 per epoch, {config.epochs * 10 - 24} remaining of {config.epochs} epochs" in output
    assert f"channels: {config.channels}" in output
    # 126 steps, and 13 times evaluation and samples.
    assert "time        51.6 s: 100 ms per step, 4.0 s per epoch" in output
    assert (
        "disk        57.0 MB: 3 + 1 checkpoints of 4.0 MB, 2 of the best epoch of 1.0 MB, 3.0 MB of samples per epoch"
        in output
    )
    assert "memory      5.0 GB" in output
    assert "clip cache  " in output
    assert files(tmp_path) == before
    if where == "bucket":
        assert GcsPrefix(run).list_names() == ["checkpoints/checkpoint", "config.json"]


@pytest.mark.parametrize(
    ("flags", "held_clips"),  # of 19
    [
        ((), 0),  # stored while they are read
        (("--epochs", "1"), 19),  # no later epoch would read what is stored
        (("--clip-cache-gb", "0"), 19),
    ],
)
def test_the_memory_counts_the_clips_that_are_not_stored(
    dataset, metadata, tmp_path, monkeypatch, capsys, flags, held_clips
):
    monkeypatch.setattr(dry_run_module, "measure", lambda *_: MEASURED)
    assert dry_run(dataset, tmp_path / "run", "--log-format", "json", *WAVE_FLAGS, *flags) == DONE
    held_bytes = json.loads(capsys.readouterr().out)["memory_bytes"] - MEASURED.memory_bytes
    assert held_bytes == held_clips * metadata.clip_samples * 4


def test_what_training_would_refuse_is_refused(dataset, metadata, tmp_path, monkeypatch, capsys):
    started(tmp_path / "run", metadata, steps=24)
    (tmp_path / "other").mkdir()
    (tmp_path / "other/report.html").write_text("mine")
    cluster = {"cluster": {"worker": ["a:1", "b:1"]}, "task": {"type": "worker", "index": 0}}
    for run, flags, code, message in (
        ("run", ["--channels", "9"], USAGE, "--channels 9 contradicts"),
        ("new", ["--preset", "wave-large"], USAGE, "made for 12,000 to 48,000 Hz"),
        (
            "new",
            ["--batch-size", "1", "--replicas", "2"],
            USAGE,
            "--batch-size 1 is less than the 2 replicas",
        ),
        ("new", ["--require-gpus", "99"], USAGE, "--require-gpus 99, but TensorFlow sees"),
        ("other", [], USAGE, "is no run of this program"),
    ):
        assert dry_run(dataset, tmp_path / run, *flags) == code
        assert message in capsys.readouterr().err
    assert dry_run(tmp_path / "none", tmp_path / "new") == BAD_DATA
    monkeypatch.setenv("TF_CONFIG", json.dumps(cluster))
    assert dry_run(dataset, tmp_path / "new") == USAGE
    assert "--dry-run estimates the training of one process" in capsys.readouterr().err
