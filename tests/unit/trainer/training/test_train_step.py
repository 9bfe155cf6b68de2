"""Optimizations of the train step do not change its results; checkpoints, profiles and logs are complete."""

import dataclasses
import functools
import json

import numpy as np
import pytest
import tensorflow as tf
from support.tiny_corpus import WAVE, without_figures_and_music

from preprocessing import event_log, progress
from preprocessing.errors import STOPPED, USAGE, CommandError
from trainer import run_config
from trainer.conditioning import Condition
from trainer.config import Config
from trainer.data import dataset as datasets
from trainer.data.distribute import distributed_iterator
from trainer.data.fetch import open_dataset
from trainer.data.input_pipeline import Batch, evaluation_batches, training_batches
from trainer.generation.load import load
from trainer.models import make_model
from trainer.models.base import Stage
from trainer.presets import PRESETS
from trainer.runs import checkpoints
from trainer.training import train_step
from trainer.training.loop import TrainingLoop
from trainer.training.train import train_and_evaluate
from trainer.training.train_step import TrainState
from trainer.training.workers.distribution import Distribution

SMALL = Config(**WAVE, batch_size=5)
STEPS = 2


@pytest.fixture(scope="module")
def opened(dataset, tmp_path_factory):
    return open_dataset(str(dataset), tmp_path_factory.mktemp("cache"))


@pytest.fixture(scope="module")
def manifest(opened):
    return opened[1]


@pytest.fixture(scope="module")
def run_steps(dataset, opened, manifest):
    """Run some steps; return the train state, the log-likelihood of each step and the final weights."""
    metadata = run_config.metadata_of(manifest, str(dataset))
    clips = datasets.open_split(*opened, "train")

    @functools.cache
    def run_steps(config=SMALL, replicas=1, stage=Stage.ALL_WEIGHTS):
        strategy = Distribution(None, replicas).strategy
        train_state = TrainState(config, metadata, strategy)
        batches = distributed_iterator(training_batches([clips], config, manifest, [1]).take(STEPS), strategy)
        sums = [
            train_state.train_step(batch, tf.constant(step), tf.constant(0.5), stage)
            for step, batch in enumerate(batches)
        ]
        assert bool(train_state.is_finite())
        return (
            train_state,
            [float(totals.log_likelihood) for totals in sums],
            [weight.numpy() for weight in train_state.model.weights],
        )

    return run_steps


@pytest.fixture(scope="module")
def plain(run_steps):
    return run_steps()


@pytest.mark.long
@pytest.mark.parametrize(
    ("given", "replicas", "stage"),
    [
        pytest.param({"accumulate_steps": 2}, 1, Stage.ALL_WEIGHTS, id="two parts of five"),
        pytest.param({"jit": True}, 1, Stage.ALL_WEIGHTS, id="XLA"),
        pytest.param(
            {"accumulate_steps": 2}, 2, Stage.GENERATION, id="last stage, two parts of two replicas"
        ),
        pytest.param(
            {"jit": True, "accumulate_steps": 4},
            2,
            Stage.ALL_WEIGHTS,
            id="XLA, four parts of three and of two",
            marks=pytest.mark.slow,
        ),
        pytest.param({"jit": True}, 1, Stage.GENERATION, id="last stage, XLA", marks=pytest.mark.slow),
    ],
)
def test_micro_batches_and_xla_do_not_change_a_step(run_steps, given, replicas, stage):
    plain = run_steps(stage=stage)
    _, likelihoods, weights = run_steps(dataclasses.replace(SMALL, **given), replicas, stage)
    np.testing.assert_allclose(likelihoods, plain[1], rtol=1e-5)
    # Gradients of the discriminator's two opponents partly cancel, which leaves larger rounding errors.
    atol = 2e-5 if stage is Stage.ALL_WEIGHTS else 1e-4
    for name, value, expected in zip(plain[0].model.weights, weights, plain[2], strict=True):
        np.testing.assert_allclose(value, expected, rtol=1e-3, atol=atol, err_msg=name.name)


def test_long_clips_are_evaluated_in_parts_with_the_same_result(opened, manifest, dataset, monkeypatch):
    metadata, totals = run_config.metadata_of(manifest, str(dataset)), []
    clips, strategy = datasets.open_split(*opened, "train"), Distribution(None, 1).strategy
    for clips_at_a_time in (train_step.EVALUATION_CLIPS, 3):
        monkeypatch.setattr(train_step, "EVALUATION_SAMPLES", clips_at_a_time * manifest.clip_samples)
        train_state = TrainState(SMALL, metadata, strategy)
        batches = distributed_iterator(evaluation_batches(clips, train_state.evaluation_clips), strategy)
        totals.append([train_state.evaluation_step(batch) for batch in batches])
    for one, other in zip(*totals, strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-5)


@pytest.mark.parametrize("given", [{}, {"accumulate_steps": 2}])
def test_the_last_stage_changes_what_makes_new_clips_only(run_steps, dataset, manifest, given):
    metadata = run_config.metadata_of(manifest, str(dataset))
    train_state, _, weights = run_steps(dataclasses.replace(SMALL, **given), stage=Stage.GENERATION)
    tf.keras.utils.set_random_seed(SMALL.seed)
    initial = make_model(SMALL, metadata).weights
    learning = {id(weight) for weight in train_state.model.variables_of(Stage.GENERATION)}
    for weight, before, after in zip(train_state.model.weights, initial, weights, strict=True):
        assert np.array_equal(before, after) == (id(weight) not in learning), weight.name


@pytest.mark.parametrize("precision", ["bfloat16", "float16"])
@pytest.mark.parametrize("preset", ["wave", "reference"])
def test_lower_precision_gives_nearly_the_same_and_does_not_change_the_global_policy(
    run_steps, plain, preset, precision
):
    config = SMALL if preset == "wave" else dataclasses.replace(PRESETS["reference"], batch_size=5)
    _, expected, _ = plain if preset == "wave" else run_steps(config)
    train_state, likelihoods, _ = run_steps(dataclasses.replace(config, precision=precision))
    dtypes = {
        layer.compute_dtype for layer in train_state.model.submodules if hasattr(layer, "compute_dtype")
    }
    assert dtypes == {"float32", precision}
    assert {weight.dtype for weight in train_state.model.weights} == {tf.float32}
    # The first steps have the same weights; later ones may differ by a step that was skipped.
    np.testing.assert_allclose(likelihoods[0], expected[0], rtol=0.02)
    assert tf.keras.mixed_precision.global_policy().name == "float32"


def test_kernels_longer_than_their_input_have_finite_gradients(run_steps, manifest):
    train_state, _, _ = run_steps(
        dataclasses.replace(PRESETS["reference"], batch_size=5, precision="bfloat16")
    )
    audio = tf.random.stateless_normal([5, manifest.clip_samples], [1, 2])
    no_attributes = Condition(tf.zeros([5], tf.int32), tf.zeros([5, 0]), tf.zeros([5], tf.int32))
    batch = Batch(audio, no_attributes, tf.range(5), tf.fill([5], 0.2))
    compute_gradients = tf.function(train_state._gradients, autograph=False)
    for _ in range(15):  # on CPUs with AMX one in five had NaN
        gradients, _ = compute_gradients(batch, tf.zeros([5, 2]), tf.constant(0.5), Stage.ALL_WEIGHTS)
        assert all(np.isfinite(gradient).all() for gradient in gradients)


def test_the_average_of_weights_follows_its_formula(run_steps):
    train_state, _, _ = run_steps(dataclasses.replace(SMALL, ema_decay=0.15))
    # The warm-up limits the decay at first.
    for step, decay in ((0, 0.1), (9, 0.15)):
        before = [average.numpy() for average in train_state.averaged.variables]
        train_state._update_average(tf.constant(float(step)))
        for average, old, new in zip(
            train_state.averaged.variables, before, train_state.model.variables, strict=True
        ):
            np.testing.assert_allclose(average.numpy(), decay * old + (1 - decay) * new.numpy(), atol=1e-6)
    assert train_state.averaged is not train_state.model
    assert any(
        np.any(old != new.numpy()) for old, new in zip(before, train_state.model.variables, strict=True)
    )


@pytest.mark.long
def test_a_checkpoint_has_the_values_at_the_time_of_its_save(run_steps, tmp_path):
    train_state, _, _ = run_steps(dataclasses.replace(SMALL, precision="float16", ema_decay=0.9))
    checkpoint = tf.train.Checkpoint(**train_state.trackables)
    writer = checkpoints.Writer(checkpoint, tmp_path, keep=2)
    expected = [variable.numpy() for variable in train_state.model.variables]
    scale = float(train_state.optimizer.loss_scale)
    writer.write(7)
    for variable in train_state.model.variables:
        variable.assign_add(tf.ones_like(variable))
    assert writer.finish()
    assert not writer.finish()
    written = tf.train.load_checkpoint(tf.train.latest_checkpoint(str(tmp_path)))
    direct = tf.train.load_checkpoint(checkpoint.write(str(tmp_path / "direct")))
    keys = set(direct.get_variable_to_shape_map()) - {"save_counter/.ATTRIBUTES/VARIABLE_VALUE"}
    assert any("loss_scale" in key for key in keys)
    assert keys <= set(written.get_variable_to_shape_map())
    train_state.optimizer.inner_optimizer.iterations.assign(0)
    assert checkpoints.restore_newest(checkpoint, tmp_path)
    for variable, value in zip(train_state.model.variables, expected, strict=True):
        np.testing.assert_array_equal(variable.numpy(), value)
    assert (train_state.steps, float(train_state.optimizer.loss_scale)) == (STEPS, scale)
    writer.close()


def train(data, run, given, epochs, **more):
    with without_figures_and_music():
        train_and_evaluate(str(data), str(run), {**given, "epochs": epochs}, 1, run.parent / "cache", **more)
    return [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]


@pytest.mark.slow
def test_a_run_with_all_optimizations_resumes_within_an_epoch(dataset, tmp_path, monkeypatch):
    given = {**WAVE, "precision": "bfloat16", "accumulate_steps": 2, "ema_decay": 0.9}
    uninterrupted = train(dataset, tmp_path / "uninterrupted", given, 1)
    save_if_due, calls = TrainingLoop._save_if_due, 0

    def request_stop_once(self):
        nonlocal calls
        calls += 1
        self._stop.requested = calls == 4
        save_if_due(self)

    with monkeypatch.context() as patch:
        patch.setattr(TrainingLoop, "_save_if_due", request_stop_once)
        with pytest.raises(CommandError) as caught:
            train(dataset, tmp_path / "resumed", given, 1)
    assert caught.value.exit_code == STOPPED
    resumed = train(dataset, tmp_path / "resumed", {"clip_cache_gb": 0}, 1)  # the cache size may change
    for row, again in zip(uninterrupted, resumed, strict=True):
        for name in row:
            assert "sec" in name or again[name] == pytest.approx(row[name], rel=1e-6), name
    one, other = (load(tmp_path / name).model for name in ("uninterrupted", "resumed"))
    for left, right in zip(one.weights, other.weights, strict=True):
        np.testing.assert_allclose(left.numpy(), right.numpy(), rtol=1e-3, atol=1e-5)
    # `load` restores the averaged weights, not those that training continues from.
    newest = tf.train.load_checkpoint(tf.train.latest_checkpoint(str(tmp_path / "uninterrupted/checkpoints")))
    values = {
        part: newest.get_tensor(f"{part}/decoder/constant_output/kernel/.ATTRIBUTES/VARIABLE_VALUE")
        for part in ("model", "averaged")
    }
    loaded = one.decoder.constant_output.kernel.numpy()
    assert np.array_equal(loaded, values["averaged"])
    assert not np.array_equal(loaded, values["model"])


@pytest.fixture
def json_lines(capsys):
    event_log.configure("json")
    yield lambda: [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    event_log.configure("text")


@pytest.mark.long
def test_a_training_writes_a_profile_and_logs_json_lines(dataset, tmp_path, json_lines, monkeypatch):
    monkeypatch.setattr(progress, "EVENT_SECS", 0.0)
    train(dataset, tmp_path / "run", WAVE, 1, profile="2:4")
    assert list((tmp_path / "run/events/plugins/profile").glob("*/*.xplane.pb"))
    lines = json_lines()
    assert list(dict.fromkeys(line["event"] for line in lines)) == [
        "devices",
        "start",
        "progress",
        "profile",
        "epoch",
    ]
    assert all(line["severity"] == "INFO" and line["time"] and line["message"] for line in lines)
    # Before the first step, there may be lines that say that training waits for data.
    first = next(line for line in lines if line["event"] == "progress" and line["done"])
    assert (first["task"], first["done"], first["unit"]) == ("epoch 1/1", 1, "steps")
    last = [line for line in lines if line["event"] == "progress"][-1]
    assert 0 <= last["waiting_share"] < 1
    assert lines[-1]["epoch"] == 1
    assert np.isfinite(lines[-1]["test_snr_db"])
    event_log.log_event("epoch", "not a number", event_log.WARNING, train_elbo=float("nan"))
    assert json_lines()[0]["train_elbo"] is None


@pytest.mark.parametrize("steps", ["3", "0:2", "4:3", "a:b", "9:11"])
def test_an_invalid_range_of_profiled_steps_is_rejected(dataset, tmp_path, steps):
    with pytest.raises(CommandError, match=f"`profile`.*{steps}") as caught:
        train(dataset, tmp_path / "run", WAVE, 1, profile=steps)
    assert caught.value.exit_code == USAGE
