import json
import shutil

import numpy as np
import pytest
import tensorflow as tf
from support.tiny_corpus import WAVE, undrawn

from preprocessing.errors import BAD_DATA, STOPPED, USAGE, CommandError
from trainer.generation.generator import load
from trainer.runs import rollbacks
from trainer.runs.directory import RunDirectory
from trainer.training.loop import TrainingLoop
from trainer.training.train import train_and_evaluate

REFERENCE = {"preset": "reference", "sample_clips": 2, "learning_rate": 1e-3}
FIGURES = ("elbo", "log_likelihood", "kl")


def train(data, run, given, epochs, replicas=1):
    with undrawn():
        train_and_evaluate(str(data), str(run), {**given, "epochs": epochs}, replicas, run.parent / "cache")
    return [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]


def weights(run):
    return [weight.numpy() for weight in load(run).model.weights]


@pytest.mark.parametrize(
    "given", [pytest.param(WAVE, id="wave"), pytest.param(REFERENCE, id="seed", marks=pytest.mark.slow)]
)
def test_two_replicas_give_what_one_gives(dataset, tmp_path, given):
    # Five to a batch: three and two to a replica, and a last batch that is smaller still.
    given = {**given, "batch_size": 5}
    one, two = (train(dataset, tmp_path / str(n), given, 2, replicas=n) for n in (1, 2))
    for row, other in zip(one, two, strict=True):
        for name in [f"{split}_{figure}" for split in ("train", "test") for figure in FIGURES]:
            assert other[name] == pytest.approx(row[name], rel=1e-4, abs=0.02), name
        assert other["test_snr_db"] == pytest.approx(row["test_snr_db"], abs=1e-3)
    for left, right in zip(weights(tmp_path / "1"), weights(tmp_path / "2"), strict=True):
        np.testing.assert_allclose(left, right, rtol=1e-3, atol=2e-5)


def everything(run):
    """All that a checkpoint holds, but how long it took."""
    newest = tf.train.load_checkpoint(tf.train.latest_checkpoint(str(run / "checkpoints")))
    names = [
        name for name in newest.get_variable_to_shape_map() if not name.startswith(("secs", "save_counter"))
    ]
    return {name: newest.get_tensor(name) for name in names if "OBJECT_GRAPH" not in name}


def same_run(one, other):
    """Rows and checkpoints are equal, up to the rounding by which two graphs of one process may differ."""
    rows = [
        [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
        for run in (one, other)
    ]
    for row, again in zip(*rows, strict=True):
        assert row.keys() == again.keys()
        for name in row:
            assert "sec" in name or again[name] == pytest.approx(row[name], rel=1e-6), name
    values, again = everything(one), everything(other)
    assert values.keys() == again.keys()
    for name in values:
        np.testing.assert_allclose(values[name], again[name], rtol=1e-3, atol=1e-5, err_msg=name)


@pytest.fixture(scope="module")
def straight(dataset, tmp_path_factory):
    """Three epochs without a stop."""
    run = tmp_path_factory.mktemp("straight") / "run"
    train(dataset, run, WAVE, 3)
    return run


def test_interrupted_and_resumed_is_the_same_run(dataset, straight, tmp_path, monkeypatch):
    own = TrainingLoop._save_if_due
    # In the middle of the first epoch, and at the second's last step, when it is not yet measured.
    for stop_at in (4, 17):
        calls = 0

        def ask_once(self, stop_at=stop_at):
            nonlocal calls
            calls += 1
            self._stop.asked = calls == stop_at
            own(self)

        with monkeypatch.context() as patch:
            patch.setattr(TrainingLoop, "_save_if_due", ask_once)
            with pytest.raises(CommandError, match="and saved: the same command goes on") as caught:
                train(dataset, tmp_path / "resumed", WAVE, 3)
        assert caught.value.exit_code == STOPPED
    # As after a kill between an epoch's figures and its checkpoint: the epoch is measured again.
    with (tmp_path / "resumed/metrics.jsonl").open("a") as file:
        file.write(json.dumps({"epoch": 3, "train_elbo": 0}) + '\n{"epoch": 4, "trai')
    resumed = train(dataset, tmp_path / "resumed", {}, 3)
    assert [row["epoch"] for row in resumed] == [1, 2, 3]
    same_run(straight, tmp_path / "resumed")


def test_a_checkpoint_is_due_by_the_clock(dataset, tmp_path, monkeypatch):
    names = []
    save = TrainingLoop.save
    monkeypatch.setattr(TrainingLoop, "save", lambda self: (save(self), names.append(self.steps)))
    train(dataset, tmp_path / "often", {**WAVE, "checkpoint_secs": 0.0}, 1)
    assert names == [*range(1, 11), 10, 10]  # each step, before the test clips, and at the epoch's end
    names.clear()
    train(dataset, tmp_path / "seldom", WAVE, 1)
    assert names == [10]
    same_run(tmp_path / "often", tmp_path / "seldom")


def test_a_finished_run_is_left_as_it_is(dataset, straight, tmp_path):
    shutil.copytree(straight, tmp_path / "run")
    before = (tmp_path / "run/metrics.jsonl").read_text()
    assert len(train(dataset, tmp_path / "run", {}, 3)) == 3
    assert (tmp_path / "run/metrics.jsonl").read_text() == before


def test_contradictions_and_missing_data_change_nothing(dataset, straight, tmp_path):
    def refused(data, given, epochs, code, said):
        with pytest.raises(CommandError, match=said) as caught:
            train(data, tmp_path / "run", given, epochs)
        assert caught.value.exit_code == code

    refused(tmp_path, WAVE, 1, BAD_DATA, "no dataset.json")
    shutil.copytree(straight, tmp_path / "run")
    config = (tmp_path / "run/config.json").read_text()
    refused(dataset, {"latent_dim": 5}, 3, USAGE, "--latent-dim 5 contradicts")
    refused(dataset, {}, 1, USAGE, "--epochs 1 contradicts")
    other = tmp_path / "other"
    shutil.copytree(dataset, other)
    fields = json.loads((other / "dataset.json").read_text())
    for changes, said in (
        ({}, "is 000000000000: use a new --run"),
        ({"sample_rate_hz": 2_000}, "has clips of 1024 samples at 2000 Hz, not 1024 at 1000 Hz: use"),
        ({"genres": ["blues", "rock", "ska"]}, "has the classes blues, rock, ska, not blues, rock: use"),
        ({"schema_version": 2}, "has schema version 2, this program reads 4"),
    ):
        (other / "dataset.json").write_text(json.dumps({**fields, "digest": "0" * 64, **changes}))
        refused(other, {}, 3, USAGE, said)
    (other / "dataset.json").write_text(json.dumps(fields))
    shard = next(other.glob("train-*"))
    shard.write_bytes(shard.read_bytes()[:-9])
    refused(other, {}, 3, BAD_DATA, shard.name)
    assert (tmp_path / "run/config.json").read_text() == config


def test_too_many_replicas_are_refused(dataset, tmp_path):
    with pytest.raises(CommandError, match="--replicas 64, but there are 2") as caught:
        train(dataset, tmp_path / "run", WAVE, 1, replicas=64)
    assert caught.value.exit_code == USAGE


def test_a_diverging_run_goes_back_more_slowly_and_then_ends(dataset, tmp_path, monkeypatch, capsys):
    with pytest.raises(CommandError, match="after 2 roll-backs: the run stays as it was at step 0") as caught:
        train(dataset, tmp_path / "wild", {**WAVE, "learning_rate": 1e30, "max_rollbacks": 2}, 2)
    assert caught.value.exit_code == USAGE
    assert not list((tmp_path / "wild").glob("checkpoints/*"))
    assert capsys.readouterr().out.count("warning: training diverged") == 2

    # With steps this large the loss first grows, and grows.
    growing = {**WAVE, "learning_rate": 1.0, "warmup_steps": 50, "max_rollbacks": 0}
    with pytest.raises(CommandError, match=r"\(the loss rose from .* nats a sample\) after 0 roll-backs"):
        train(dataset, tmp_path / "grows", growing, 8)

    run = tmp_path / "run"
    train(dataset, run, WAVE, 1)
    evaluate, bad = TrainingLoop.evaluate, iter([True])

    def bad_once(self, clips):
        if next(bad, False):
            self.model.trainable_variables[0].assign_add(
                tf.fill(self.model.trainable_variables[0].shape, np.nan)
            )
        return evaluate(self, clips)

    monkeypatch.setattr(TrainingLoop, "evaluate", bad_once)
    rows = train(dataset, run, {}, 3)
    assert [row["epoch"] for row in rows] == [1, 2, 3]
    assert all(np.isfinite(value) for row in rows for value in row.values())
    assert rows[2]["learning_rate"] < 0.31 * rows[0]["learning_rate"]
    (back,) = rollbacks.read(run)
    assert (back.step, back.to_step) == (20, 10)
    assert "went back to step 10" in (run / "report.html").read_text()


def test_damage_is_told_in_a_sentence_and_nothing_is_overwritten(dataset, straight, tmp_path):
    metrics = (straight / "metrics.jsonl").read_bytes()

    def refused(damage, said, folder=dataset):
        copy = tmp_path / "copy"
        shutil.rmtree(copy, ignore_errors=True)
        shutil.copytree(straight, copy)
        damage(copy)
        with pytest.raises(CommandError, match=said) as caught:
            train(folder, copy, {}, 4)
        assert caught.value.exit_code == BAD_DATA
        assert said.startswith("lacks") or (copy / "metrics.jsonl").read_bytes() == metrics

    def cut(copy, steps=(10, 20, 30)):
        for step in steps:
            data = copy / f"checkpoints/step-{step}.data-00000-of-00001"
            data.write_bytes(data.read_bytes()[:50])

    refused(cut, "step-30 is damaged.*none before it is whole")
    refused(lambda copy: (copy / "checkpoints/checkpoint").unlink(), "does not name a checkpoint")
    refused(lambda copy: (copy / "metrics.jsonl").write_text(""), "lacks epochs")
    other = tmp_path / "flipped"
    shutil.copytree(dataset, other)
    shard = next(other.glob("train-*"))
    data = bytearray(shard.read_bytes())
    data[200] ^= 1
    shard.write_bytes(data)
    refused(lambda copy: None, f"{shard.name} is missing, or not what dataset.json says", folder=other)


@pytest.mark.parametrize("damage", ["a flipped bit", "a cut", "no index"])
def test_a_damaged_checkpoint_is_left_out_for_the_one_before(dataset, straight, tmp_path, damage, capsys):
    run = tmp_path / "run"
    shutil.copytree(straight, run)
    data, index = run / "checkpoints/step-30.data-00000-of-00001", run / "checkpoints/step-30.index"
    content = bytearray(data.read_bytes())
    content[len(content) // 2] ^= 4
    data.write_bytes(content if damage == "a flipped bit" else content[: len(content) // 2])
    if damage == "no index":
        index.unlink()
    train(dataset, run, {}, 3)
    assert "step-30 is damaged: taking the one before it" in capsys.readouterr().out
    same_run(straight, run)


def test_two_trainers_do_not_share_a_run(dataset, tmp_path):
    said = "another process"
    with RunDirectory(str(tmp_path / "run"), tmp_path), pytest.raises(CommandError, match=said) as caught:
        train(dataset, tmp_path / "run", WAVE, 1)
    assert caught.value.exit_code == USAGE
    (tmp_path / "file").write_text("")
    with pytest.raises(CommandError, match="is a file"):
        train(dataset, tmp_path / "file", WAVE, 1)
