"""Which checkpoint a run is used with."""

import logging

import pytest
import tensorflow as tf

from trainer.config import NEWEST, Config
from trainer.runs import checkpoints
from trainer.runs.directory import CHECKPOINTS, best_checkpoint
from trainer.runs.metrics import best_epoch


class Model(tf.Module):
    def __init__(self, value):
        super().__init__()
        self.weight = tf.Variable(value)


@pytest.fixture
def run(tmp_path):
    """A run whose newest checkpoint has the weight 3, and whose best epoch, the second, has 2."""
    folder = tmp_path / CHECKPOINTS
    for epoch in (1, 2):
        checkpoints.write_best(Model(float(epoch)), folder, epoch)
    writer = checkpoints.Writer(tf.train.Checkpoint(model=Model(3.0)), folder, 1)
    writer.write(30)
    writer.finish()
    writer.close()
    return tmp_path


def restore(run, *checkpoint):
    model = Model(0.0)
    name = checkpoints.restore_for_inference(model, run, Config(ema_decay=0.0), *checkpoint)
    return name, model.weight.numpy()


def test_the_best_epoch_is_used_unless_the_newest_checkpoint_is_asked_for(run):
    assert restore(run) == ("best-2", 2.0)
    assert restore(run, NEWEST) == ("step-30", 3.0)


def test_only_the_best_epoch_is_kept(run):
    names = [path.name for path in (run / CHECKPOINTS).glob("best-*")]
    assert sorted(names) == ["best-2.data-00000-of-00001", "best-2.index"]


def test_without_a_best_epoch_the_newest_checkpoint_is_used(run):
    for path in (run / CHECKPOINTS).glob("best-*"):
        path.unlink()
    assert restore(run) == ("step-30", 3.0)


@pytest.mark.parametrize("suffix", ["index", "data-00000-of-00001"])
def test_a_corrupt_best_checkpoint_is_reported_and_the_newest_one_used(run, suffix, caplog):
    path = run / CHECKPOINTS / f"best-2.{suffix}"
    path.write_bytes(path.read_bytes()[:-3])
    with caplog.at_level(logging.WARNING, logger="trainer"):
        assert restore(run) == ("step-30", 3.0)
    assert "best-2 is corrupt: using the newest checkpoint" in caplog.text


@pytest.mark.parametrize("suffix", ["index", "data-00000-of-00001"])
def test_a_corrupt_newest_checkpoint_is_reported_and_the_previous_one_used(tmp_path, suffix, caplog):
    folder, model = tmp_path / CHECKPOINTS, Model(1.0)
    writer = checkpoints.Writer(tf.train.Checkpoint(model=model), folder, 2)
    for step in (1, 2):
        model.weight.assign(step)
        writer.write(step)
    writer.finish()
    writer.close()
    path = folder / f"step-2.{suffix}"
    path.write_bytes(path.read_bytes()[:-3])
    with caplog.at_level(logging.WARNING, logger="trainer"):
        assert restore(tmp_path) == ("step-1", 1.0)
    assert "step-2 is corrupt: restoring the previous one" in caplog.text


def test_what_a_kill_has_left_of_checkpoints_is_deleted(run):
    folder = run / CHECKPOINTS
    whole = {path.name for path in folder.iterdir()}
    for name in ("step-29.index", "step-31.data-00000-of-00001"):
        (folder / name).write_bytes(b"")
    checkpoints.delete_left_overs(run)
    assert {path.name for path in folder.iterdir()} == whole


def test_the_latest_complete_best_checkpoint_is_chosen():
    complete = [f"best-{epoch}.{part}" for epoch in (9, 10) for part in ("index", "data-00000-of-00001")]
    assert best_checkpoint([*complete, "step-400.index", "checkpoint"]) == "best-10"
    assert best_checkpoint([*complete, "best-11.index"]) == "best-10"
    assert best_checkpoint(["best-1.data-00000-of-00001", "checkpoint"]) is None


def test_the_best_epoch_is_chosen_on_the_validation_split_if_there_is_one():
    rows = [
        {"epoch": 1, "test_elbo": -5.0, "validation_elbo": -9.0},
        {"epoch": 2, "test_elbo": -7.0, "validation_elbo": -8.0},
        {"epoch": 3, "test_elbo": -6.0, "validation_elbo": float("nan")},
    ]
    assert best_epoch(rows)["epoch"] == 2
    without = [{name: value for name, value in row.items() if name != "validation_elbo"} for row in rows]
    assert best_epoch(without)["epoch"] == 1
    assert best_epoch([{"epoch": 1, "test_elbo": None}]) is None


def test_the_last_epoch_of_the_second_stage_is_the_best():
    """It trains what the ELBO does not measure."""
    elbos = {1: -9.0, 2: -7.0, 3: -8.0, 4: -8.5, 5: -3.0}
    rows = [{"epoch": epoch, "stage": 1, "validation_elbo": elbo} for epoch, elbo in elbos.items()]
    for row in rows[2:4]:
        row["stage"] = 2
    expected = [1, 2, 3, 4, 4]  # the fifth epoch is of a run that goes on with its first stage
    assert [best_epoch(rows[:count])["epoch"] for count in range(1, 6)] == expected
