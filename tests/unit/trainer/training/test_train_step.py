"""What makes training quick must not change what is learned, and nothing of it may be lost on the way."""

import dataclasses
import functools
import json

import numpy as np
import pytest
import tensorflow as tf
from support.tiny_corpus import WAVE, undrawn

from preprocessing.errors import STOPPED, USAGE, CommandError
from trainer import event_log, run_config
from trainer.conditioning import Condition
from trainer.config import Config
from trainer.data import dataset as datasets
from trainer.data.distribute import distributed_iterator
from trainer.data.fetch import open_dataset
from trainer.data.input_pipeline import Batch, evaluation_batches, training_batches
from trainer.generation.generator import load
from trainer.presets import PRESETS
from trainer.runs import checkpoints
from trainer.training import progress
from trainer.training.distribution import Distribution
from trainer.training.loop import TrainingLoop
from trainer.training.train import train_and_evaluate
from trainer.training.train_step import TrainState

SMALL = Config(**WAVE, batch_size=5)
STEPS = 2


@pytest.fixture(scope="module")
def manifest(dataset, tmp_path_factory):
    return open_dataset(str(dataset), tmp_path_factory.mktemp("cache"))[1]


@pytest.fixture(scope="module")
def learn(dataset, manifest):
    """Takes some steps; returns the learner, the log-likelihood of each step and the final weights."""
    metadata = run_config.metadata_of(manifest, str(dataset))
    clips = datasets.open_split(dataset, manifest, "train")

    @functools.cache
    def learn(config=SMALL, replicas=1):
        strategy = Distribution(None, replicas).strategy
        train_state = TrainState(config, metadata, strategy)
        batches = distributed_iterator(training_batches([clips], config, manifest, [1]).take(STEPS), strategy)
        sums = [
            train_state.train_step(batch, tf.constant(step), tf.constant(0.5))
            for step, batch in enumerate(batches)
        ]
        assert bool(train_state.is_finite())
        return (
            train_state,
            [float(one.log_likelihood) for one in sums],
            [weight.numpy() for weight in train_state.model.weights],
        )

    return learn


@pytest.fixture(scope="module")
def plain(learn):
    return learn()


@pytest.mark.parametrize(
    ("given", "replicas"),
    [
        pytest.param({"accumulate_steps": 2}, 1, id="two parts of five"),
        pytest.param({"jit": True}, 1, id="XLA"),
        pytest.param(
            {"jit": True, "accumulate_steps": 4},
            2,
            id="XLA, four parts of three and of two",
            marks=pytest.mark.slow,
        ),
    ],
)
def test_another_way_of_computing_is_the_same_step(learn, plain, given, replicas):
    _, likelihoods, weights = learn(dataclasses.replace(SMALL, **given), replicas)
    np.testing.assert_allclose(likelihoods, plain[1], rtol=1e-5)
    for name, value, expected in zip(plain[0].model.weights, weights, plain[2], strict=True):
        np.testing.assert_allclose(value, expected, rtol=1e-3, atol=2e-5, err_msg=name.name)


@pytest.mark.parametrize("precision", ["bfloat16", "float16"])
@pytest.mark.parametrize("preset", ["wave", "reference"])
def test_lower_precision_computes_nearly_the_same_and_leaves_nothing_behind(learn, plain, preset, precision):
    config = SMALL if preset == "wave" else dataclasses.replace(PRESETS["reference"], batch_size=5)
    _, expected, _ = plain if preset == "wave" else learn(config)
    train_state, likelihoods, _ = learn(dataclasses.replace(config, precision=precision))
    kinds = {layer.compute_dtype for layer in train_state.model.submodules if hasattr(layer, "compute_dtype")}
    assert kinds == {"float32", precision}
    assert {weight.dtype for weight in train_state.model.weights} == {tf.float32}
    # The first step's sums are of the same weights; later ones may miss a step that overflowed.
    np.testing.assert_allclose(likelihoods[0], expected[0], rtol=0.02)
    assert tf.keras.mixed_precision.global_policy().name == "float32"


def test_kernels_longer_than_their_input_have_gradients_that_are_numbers(learn, manifest):
    train_state, _, _ = learn(dataclasses.replace(PRESETS["reference"], batch_size=5, precision="bfloat16"))
    audio = tf.random.stateless_normal([5, manifest.clip_samples], [1, 2])
    nothing = Condition(tf.zeros([5], tf.int32), tf.zeros([5, 0]))
    batch = Batch(audio, nothing, tf.range(5), tf.fill([5], 0.2))
    gradients = tf.function(train_state._gradients, autograph=False)
    for _ in range(15):  # with AMX one in five was not
        made, _ = gradients(batch, tf.zeros([5, 2]), tf.constant(0.5))
        assert all(np.isfinite(gradient).all() for gradient in made)


def test_the_average_is_the_formula(learn):
    train_state, _, _ = learn(dataclasses.replace(SMALL, ema_decay=0.15))
    # At first the warm-up counts, later the decay.
    for step, decay in ((0, 0.1), (9, 0.15)):
        before = [average.numpy() for average in train_state.averaged.variables]
        train_state._move_average(tf.constant(float(step)))
        for average, old, new in zip(
            train_state.averaged.variables, before, train_state.model.variables, strict=True
        ):
            np.testing.assert_allclose(average.numpy(), decay * old + (1 - decay) * new.numpy(), atol=1e-6)
    assert train_state.averaged is not train_state.model
    assert any(
        np.any(old != new.numpy()) for old, new in zip(before, train_state.model.variables, strict=True)
    )


def test_held_clips_give_the_batches_that_read_ones_give(dataset, manifest):
    clips = datasets.open_split(dataset, manifest, "train")
    held = datasets.cache_in_memory(clips)
    for config in (SMALL, dataclasses.replace(SMALL, crop_samples=0)):
        pairs = zip(
            training_batches([clips], config, manifest, [2]),
            training_batches([held], config, manifest, [2]),
            strict=True,
        )
        for one, other in pairs:
            tf.nest.map_structure(np.testing.assert_array_equal, one, other)
    for one, other in zip(*(evaluation_batches(of, 2) for of in (clips, held)), strict=True):
        tf.nest.map_structure(np.testing.assert_array_equal, one, other)
    assert datasets.fits_in_memory(manifest, ("train", "validation", "test"), 1)  # 24 clips of 4 kB
    assert not datasets.fits_in_memory(manifest, ("train",), 0)


def test_a_checkpoint_is_of_the_moment_of_its_save(learn, tmp_path):
    train_state, _, _ = learn(dataclasses.replace(SMALL, precision="float16", ema_decay=0.9))
    whole = tf.train.Checkpoint(**train_state.parts)
    writer = checkpoints.Writer(whole, tmp_path, keep=2)
    expected = [variable.numpy() for variable in train_state.model.variables]
    scale = float(train_state.optimizer.loss_scale)
    writer.write(7)
    for variable in train_state.model.variables:
        variable.assign_add(tf.ones_like(variable))
    assert writer.finish()
    assert not writer.finish()
    written = tf.train.load_checkpoint(tf.train.latest_checkpoint(str(tmp_path)))
    usual = tf.train.load_checkpoint(whole.write(str(tmp_path / "usual")))
    keys = set(usual.get_variable_to_shape_map()) - {"save_counter/.ATTRIBUTES/VARIABLE_VALUE"}
    assert any("loss_scale" in key for key in keys)
    assert keys <= set(written.get_variable_to_shape_map())
    train_state.optimizer.inner_optimizer.iterations.assign(0)
    assert checkpoints.restore_newest(whole, tmp_path)
    for variable, value in zip(train_state.model.variables, expected, strict=True):
        np.testing.assert_array_equal(variable.numpy(), value)
    assert (train_state.steps, float(train_state.optimizer.loss_scale)) == (STEPS, scale)
    writer.close()


def train(data, run, given, epochs, **more):
    with undrawn():
        train_and_evaluate(str(data), str(run), {**given, "epochs": epochs}, 1, run.parent / "cache", **more)
    return [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]


@pytest.mark.slow
def test_all_of_it_together_resumes_in_the_middle(dataset, tmp_path, monkeypatch):
    given = {**WAVE, "precision": "bfloat16", "accumulate_steps": 2, "ema_decay": 0.9}
    straight = train(dataset, tmp_path / "straight", given, 1)
    own, calls = TrainingLoop._save_if_due, 0

    def ask_once(self):
        nonlocal calls
        calls += 1
        self._stop.asked = calls == 4
        own(self)

    with monkeypatch.context() as patch:
        patch.setattr(TrainingLoop, "_save_if_due", ask_once)
        with pytest.raises(CommandError) as caught:
            train(dataset, tmp_path / "resumed", given, 1)
    assert caught.value.exit_code == STOPPED
    resumed = train(dataset, tmp_path / "resumed", {"cache_mb": 0}, 1)  # what is held may change
    for row, again in zip(straight, resumed, strict=True):
        for name in row:
            assert "sec" in name or again[name] == pytest.approx(row[name], rel=1e-6), name
    one, other = (load(tmp_path / name).model for name in ("straight", "resumed"))
    for left, right in zip(one.weights, other.weights, strict=True):
        np.testing.assert_allclose(left.numpy(), right.numpy(), rtol=1e-3, atol=1e-5)
    # What is loaded is the average, not what the next step would start from.
    newest = tf.train.load_checkpoint(tf.train.latest_checkpoint(str(tmp_path / "straight/checkpoints")))
    values = {
        part: newest.get_tensor(f"{part}/decoder/to_colour/kernel/.ATTRIBUTES/VARIABLE_VALUE")
        for part in ("model", "averaged")
    }
    heard = one.decoder.to_colour.kernel.numpy()
    assert np.array_equal(heard, values["averaged"])
    assert not np.array_equal(heard, values["model"])


@pytest.fixture
def json_lines(capsys):
    event_log.configure("json")
    yield lambda: [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    event_log.configure("text")


def test_a_profile_and_a_log_of_structured_lines(dataset, tmp_path, json_lines, monkeypatch):
    monkeypatch.setattr(progress, "EVENT_SECS", 0.0)
    train(dataset, tmp_path / "run", WAVE, 1, profile="2:4")
    assert list((tmp_path / "run/events/plugins/profile").glob("*/*.xplane.pb"))
    lines = json_lines()
    assert [line["event"] for line in lines] == ["start", "progress", "profile", "epoch"]
    assert all(line["severity"] == "INFO" and line["time"] and line["message"] for line in lines)
    assert lines[1]["step"] == 1
    assert lines[-1]["epoch"] == 1
    assert np.isfinite(lines[-1]["test_snr_db"])
    event_log.log_event("epoch", "no number", event_log.WARNING, train_elbo=float("nan"))
    assert json_lines()[0]["train_elbo"] is None


@pytest.mark.parametrize("steps", ["3", "0:2", "4:3", "a:b", "9:11"])
def test_a_profile_of_steps_that_are_none_is_refused(dataset, tmp_path, steps):
    with pytest.raises(CommandError, match=f"--profile.*{steps}") as caught:
        train(dataset, tmp_path / "run", WAVE, 1, profile=steps)
    assert caught.value.exit_code == USAGE
