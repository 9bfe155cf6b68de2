import dataclasses
import json
import shutil
from importlib import metadata

import numpy as np
import pytest
import tensorflow as tf
from support.tiny_corpus import WAVE, without_figures_and_music

from preprocessing.dataset.manifest import SCHEMA_VERSION
from preprocessing.errors import BAD_DATA, STOPPED, USAGE, CommandError
from trainer import run_config
from trainer.generation.load import load
from trainer.runs import rollbacks
from trainer.runs.directory import RunDirectory
from trainer.training import divergence
from trainer.training.loop import TrainingLoop
from trainer.training.train import train_and_evaluate

pytestmark = pytest.mark.long

REFERENCE = {"preset": "reference", "sample_clips": 2, "learning_rate": 1e-3}
TWO_STAGES = {**WAVE, "generation_share": 0.5}
ELBO_TERMS = ("elbo", "log_likelihood", "kl")


def train(data, run, given, epochs, replicas=1):
    with without_figures_and_music():
        train_and_evaluate(str(data), str(run), {**given, "epochs": epochs}, replicas, run.parent / "cache")
    return [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]


def weights(run):
    """Return the weights of a run's model, each with its tolerance."""
    model = load(run).model
    # A discriminator's gradients are differences of nearly equal scores: Adam enlarges their rounding errors.
    coarse = model.decoder.discriminator.weights if hasattr(model.decoder, "discriminator") else []
    return [(weight.numpy(), 1e-3 if any(weight is w for w in coarse) else 2e-5) for weight in model.weights]


@pytest.mark.parametrize(
    "given",
    [pytest.param(TWO_STAGES, id="wave"), pytest.param(REFERENCE, id="reference", marks=pytest.mark.slow)],
)
def test_two_replicas_compute_what_one_computes(dataset, tmp_path, given):
    # The replicas get three and two of five examples; the last batch is smaller.
    given = {**given, "batch_size": 5}
    one, two = (train(dataset, tmp_path / str(n), given, 2, replicas=n) for n in (1, 2))
    for row, other in zip(one, two, strict=True):
        for name in [f"{split}_{term}" for split in ("train", "test") for term in ELBO_TERMS]:
            assert other[name] == pytest.approx(row[name], rel=1e-4, abs=0.02), name
        assert other["test_snr_db"] == pytest.approx(row["test_snr_db"], abs=1e-3)
    for (left, tolerance), (right, _) in zip(*(weights(tmp_path / str(n)) for n in (1, 2)), strict=True):
        np.testing.assert_allclose(left, right, rtol=1e-3, atol=tolerance)


def checkpoint_values(run):
    """Read all values of the newest checkpoint except durations."""
    newest = tf.train.load_checkpoint(tf.train.latest_checkpoint(str(run / "checkpoints")))
    names = [
        name for name in newest.get_variable_to_shape_map() if not name.startswith(("secs", "save_counter"))
    ]
    return {name: newest.get_tensor(name) for name in names if "OBJECT_GRAPH" not in name}


def assert_same_run(one, other):
    """Compare metrics and checkpoints, up to the rounding by which two graphs of one process may differ."""
    rows = [
        [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
        for run in (one, other)
    ]
    for row, again in zip(*rows, strict=True):
        assert row.keys() == again.keys()
        for name in row:
            assert "sec" in name or again[name] == pytest.approx(row[name], rel=1e-6), name
    values, again = checkpoint_values(one), checkpoint_values(other)
    assert values.keys() == again.keys()
    for name in values:
        np.testing.assert_allclose(values[name], again[name], rtol=1e-3, atol=1e-5, err_msg=name)


@pytest.fixture(scope="module")
def uninterrupted(dataset, tmp_path_factory):
    """An uninterrupted run of three epochs, which saves a checkpoint after each."""
    run = tmp_path_factory.mktemp("uninterrupted") / "run"
    with pytest.MonkeyPatch.context() as patch:
        saved_at = record_saves(patch)
        train(dataset, run, TWO_STAGES, 3)
    assert saved_at == [10, 20, 30]
    return run


def record_saves(patch):
    """Return the list that will hold the step of each checkpoint."""
    saved_at, save = [], TrainingLoop.save
    patch.setattr(TrainingLoop, "save", lambda self: (save(self), saved_at.append(self.steps)))
    return saved_at


def test_a_resumed_run_equals_an_uninterrupted_one(dataset, uninterrupted, tmp_path, monkeypatch):
    save_if_due = TrainingLoop._save_if_due
    # Within the first epoch, and after the second's last step but before its evaluation.
    for stop_at in (4, 18):
        calls = 0

        def request_stop_once(self, stop_at=stop_at):
            nonlocal calls
            calls += 1
            self._stop.requested = calls == stop_at
            save_if_due(self)

        with monkeypatch.context() as patch:
            patch.setattr(TrainingLoop, "_save_if_due", request_stop_once)
            with pytest.raises(
                CommandError, match="checkpoint saved: run the same command to resume"
            ) as caught:
                train(dataset, tmp_path / "resumed", TWO_STAGES, 3)
        assert caught.value.exit_code == STOPPED
    # As after a kill between an epoch's metrics and its checkpoint: the epoch is repeated.
    with (tmp_path / "resumed/metrics.jsonl").open("a") as file:
        file.write(json.dumps({"epoch": 3, "train_elbo": 0}) + '\n{"epoch": 4, "trai')
    resumed = train(dataset, tmp_path / "resumed", {}, 3)
    assert [row["epoch"] for row in resumed] == [1, 2, 3]
    assert_same_run(uninterrupted, tmp_path / "resumed")


def test_checkpoints_are_saved_at_intervals_of_time(dataset, uninterrupted, tmp_path, monkeypatch):
    saved_at = record_saves(monkeypatch)
    train(dataset, tmp_path / "often", {**TWO_STAGES, "checkpoint_secs": 0.0}, 3)
    # After each step, before the evaluation of either split and after the epoch.
    assert saved_at == [step for end in (10, 20, 30) for step in (*range(end - 9, end + 1), end, end, end)]
    assert_same_run(uninterrupted, tmp_path / "often")


def test_a_finished_run_is_not_changed(dataset, uninterrupted, tmp_path):
    shutil.copytree(uninterrupted, tmp_path / "run")
    before = (tmp_path / "run/metrics.jsonl").read_text()
    assert len(train(dataset, tmp_path / "run", {}, 3)) == 3
    assert (tmp_path / "run/metrics.jsonl").read_text() == before


def test_a_run_names_the_version_that_trained_last(dataset, uninterrupted, tmp_path):
    run, earlier = tmp_path / "run", "gtzan-cvae 0.0.9"
    shutil.copytree(uninterrupted, run)
    saved = run_config.load(run)
    assert saved.program == f"gtzan-cvae {metadata.version('gtzan-cvae')}"
    run_config.save(dataclasses.replace(saved, program=earlier), run)
    train(dataset, run, {}, 3)  # trains nothing
    assert run_config.load(run).program == earlier
    train(dataset, run, {}, 4)
    assert run_config.load(run).program == saved.program


def test_contradicting_settings_and_missing_data_are_rejected_without_changes(
    dataset, uninterrupted, tmp_path
):
    def assert_rejected(data, given, epochs, code, message):
        with pytest.raises(CommandError, match=message) as caught:
            train(data, tmp_path / "run", given, epochs)
        assert caught.value.exit_code == code

    assert_rejected(tmp_path, WAVE, 1, BAD_DATA, "no dataset.json")
    shutil.copytree(uninterrupted, tmp_path / "run")
    config = (tmp_path / "run/config.json").read_text()
    assert_rejected(dataset, {"latent_dim": 5}, 3, USAGE, "`latent_dim` 5 contradicts")
    assert_rejected(dataset, {}, 1, USAGE, "`epochs` 1 contradicts")
    other = tmp_path / "other"
    shutil.copytree(dataset, other)
    fields = json.loads((other / "dataset.json").read_text())
    for changes, message in (
        ({}, "is 000000000000: use a new `run`"),
        ({"sample_rate_hz": 2_000}, "has clips of 1024 samples at 2000 Hz, not 1024 at 1000 Hz: use"),
        ({"genres": ["blues", "rock", "ska"]}, "has the classes blues, rock, ska, not blues, rock: use"),
        ({"schema_version": 2}, f"has schema version 2, this program reads {SCHEMA_VERSION}"),
    ):
        (other / "dataset.json").write_text(json.dumps({**fields, "digest": "0" * 64, **changes}))
        assert_rejected(other, {}, 3, USAGE, message)
    assert (tmp_path / "run/config.json").read_text() == config
    (other / "dataset.json").write_text(json.dumps(fields))
    shard = next(other.glob("train-*"))
    shard.write_bytes(shard.read_bytes()[:-9])
    assert_rejected(other, {}, 4, BAD_DATA, shard.name)
    assert load(tmp_path / "run", "newest").checkpoint == load(uninterrupted, "newest").checkpoint


def test_more_replicas_than_devices_are_rejected(dataset, tmp_path):
    with pytest.raises(CommandError, match="`replicas` 64, but there are 2") as caught:
        train(dataset, tmp_path / "run", WAVE, 1, replicas=64)
    assert caught.value.exit_code == USAGE


def test_a_run_that_diverges_again_and_again_fails(dataset, tmp_path, capsys):
    with pytest.raises(CommandError, match="after 2 rollbacks: the run stays at step 0") as caught:
        train(dataset, tmp_path / "wild", {**WAVE, "learning_rate": 1e30, "max_rollbacks": 2}, 2)
    assert caught.value.exit_code == USAGE
    assert not list((tmp_path / "wild").glob("checkpoints/*"))
    assert capsys.readouterr().out.count("warning: training diverged") == 2


def test_a_run_whose_loss_rises_without_becoming_infinite_diverges(dataset, tmp_path, monkeypatch):
    monkeypatch.setattr(divergence, "MAX_RISE_FACTOR", 1.0)  # noticed long before the loss is infinite
    growing = {**WAVE, "learning_rate": 0.2, "warmup_steps": 50, "max_rollbacks": 0}
    with pytest.raises(CommandError, match=r"\(the loss rose from .* nats per sample\) after 0 rollbacks"):
        train(dataset, tmp_path / "grows", growing, 8)


def test_a_diverging_run_is_rolled_back_with_a_lower_learning_rate(
    dataset, uninterrupted, tmp_path, monkeypatch
):
    run = tmp_path / "run"
    shutil.copytree(uninterrupted, run)
    evaluate, diverge = TrainingLoop.evaluate, iter([True])

    def diverge_once(self, *clips):
        if next(diverge, False):
            self.model.trainable_variables[0].assign_add(
                tf.fill(self.model.trainable_variables[0].shape, np.nan)
            )
        return evaluate(self, *clips)

    monkeypatch.setattr(TrainingLoop, "evaluate", diverge_once)
    rows = train(dataset, run, {}, 4)
    assert [row["epoch"] for row in rows] == [1, 2, 3, 4]
    assert all(np.isfinite(value) for row in rows for value in row.values())
    assert rows[3]["learning_rate"] < 0.31 * rows[2]["learning_rate"]
    (rollback,) = rollbacks.read(run)
    assert (rollback.step, rollback.to_step) == (40, 30)
    assert "rolled back to step 30" in (run / "report.html").read_text()


def test_corrupt_runs_and_shards_are_errors_and_nothing_is_overwritten(dataset, uninterrupted, tmp_path):
    metrics = (uninterrupted / "metrics.jsonl").read_bytes()

    def assert_rejected(corrupt, message, folder=dataset):
        copy = tmp_path / "copy"
        shutil.rmtree(copy, ignore_errors=True)
        shutil.copytree(uninterrupted, copy)
        corrupt(copy)
        with pytest.raises(CommandError, match=message) as caught:
            train(folder, copy, {}, 4)
        assert caught.value.exit_code == BAD_DATA
        assert message.startswith("lacks") or (copy / "metrics.jsonl").read_bytes() == metrics

    def truncate(copy, steps=(10, 20, 30)):
        for step in steps:
            data = copy / f"checkpoints/step-{step}.data-00000-of-00001"
            data.write_bytes(data.read_bytes()[:50])

    assert_rejected(truncate, "step-30 is corrupt.*so are all earlier ones")
    assert_rejected(
        lambda copy: (copy / "checkpoints/checkpoint").unlink(), "does not name an existing checkpoint"
    )
    assert_rejected(lambda copy: (copy / "metrics.jsonl").write_text(""), "lacks epochs")
    other = tmp_path / "flipped"
    shutil.copytree(dataset, other)
    shard = next(other.glob("train-*"))
    data = bytearray(shard.read_bytes())
    data[200] ^= 1
    shard.write_bytes(data)
    assert_rejected(lambda copy: None, f"{shard.name} is missing or differs from dataset.json", folder=other)


@pytest.mark.parametrize("corruption", ["flipped bit", "truncated", "no index", "two checkpoints"])
def test_a_corrupt_checkpoint_is_replaced_by_the_newest_intact_one(
    dataset, uninterrupted, tmp_path, corruption, capsys
):
    run = tmp_path / "run"
    shutil.copytree(uninterrupted, run)

    def truncate(step):
        data = run / f"checkpoints/step-{step}.data-00000-of-00001"
        data.write_bytes(data.read_bytes()[: data.stat().st_size // 2])

    if corruption == "flipped bit":
        data = run / "checkpoints/step-30.data-00000-of-00001"
        content = bytearray(data.read_bytes())
        content[len(content) // 2] ^= 4
        data.write_bytes(content)
    else:
        truncate(30)
    if corruption == "no index":
        (run / "checkpoints/step-30.index").unlink()
    if corruption == "two checkpoints":
        truncate(20)
    train(dataset, run, {}, 3)
    output = capsys.readouterr().out
    for step in (30, 20) if corruption == "two checkpoints" else (30,):
        assert f"step-{step} is corrupt: restoring the previous one" in output
    assert_same_run(uninterrupted, run)


def test_two_trainers_cannot_use_one_run(dataset, tmp_path):
    message = "another process"
    with RunDirectory(str(tmp_path / "run"), tmp_path), pytest.raises(CommandError, match=message) as caught:
        train(dataset, tmp_path / "run", WAVE, 1)
    assert caught.value.exit_code == USAGE
    (tmp_path / "file").write_text("")
    with pytest.raises(CommandError, match="is a file"):
        train(dataset, tmp_path / "file", WAVE, 1)
