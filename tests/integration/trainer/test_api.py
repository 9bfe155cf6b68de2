"""The API: train, load, work on latents, and presets and models of one's own."""

import numpy as np
import pytest
from support.tiny_corpus import CLIP_SAMPLES, WAVE, without_figures_and_music

import trainer
from trainer.generation.options import Options
from trainer.models import architectures
from trainer.models.hierarchical.model import HierarchicalVAE

pytestmark = pytest.mark.long


@pytest.fixture(scope="module")
def trained(dataset, tmp_path_factory):
    """A run, and the rows that its training returned."""
    run = tmp_path_factory.mktemp("api") / "run"
    with without_figures_and_music():
        return run, trainer.train(dataset, run, preset="wave", **WAVE, epochs=2)


@pytest.fixture(scope="module")
def generator(trained):
    return trainer.load(trained[0])


@pytest.fixture(scope="module")
def clips(generator):
    return generator.sample(10, genre="rock")


def test_training_returns_the_metrics_of_each_epoch_and_resumes(dataset, trained):
    run, rows = trained
    assert [row["epoch"] for row in rows] == [1, 2]
    assert np.isfinite([row["test_elbo"] for row in rows]).all()
    with without_figures_and_music():
        again = trainer.train(dataset, run, epochs=3)
    assert again[:2] == rows and len(again) == 3


def test_decoding_what_was_encoded_is_a_reconstruction(generator, clips):
    latents = generator.encode(clips, "rock")
    assert all(isinstance(values, np.ndarray) and len(values) == 10 for values in latents)
    np.testing.assert_array_equal(generator.decode(latents, "rock"), generator.reconstruct(clips, "rock"))


def test_latents_are_arrays_to_calculate_with(generator, clips):
    latents = generator.encode(clips, "rock")
    mean = latents.global_latent.mean(axis=0, keepdims=True)
    moved = latents._replace(global_latent=latents.global_latent + 2 * (mean - latents.global_latent))
    decoded = generator.decode(moved, "rock")
    assert decoded.shape == (10, CLIP_SAMPLES) and decoded.dtype == np.float32
    assert np.abs(decoded - generator.decode(latents, "rock")).max() > 0


def test_errors_speak_of_arguments(dataset, trained, generator, clips, tmp_path):
    for call, error, message in (
        (lambda: trainer.load(tmp_path), trainer.DataError, "`run` .* has no config.json"),
        (lambda: trainer.load(trained[0], "last"), trainer.UsageError, "`checkpoint` must be best or newest"),
        (lambda: generator.sample(genre="ska"), trainer.UsageError, "unknown genre ska"),
        (lambda: generator.sample(temperature=float("nan")), trainer.UsageError, "`temperature` must be"),
        (lambda: generator.sample(guidance=-5), trainer.UsageError, "`guidance` must be a number from 0"),
        (lambda: generator.sample(count=1.5), trainer.UsageError, "`count` must be an integer"),
        (lambda: generator.vary(clips, 1e30), trainer.UsageError, "`noise_scale` must be a number from 0"),
        (lambda: generator.transfer(clips, "rock", guidance=11), trainer.UsageError, "`guidance` must be"),
        (lambda: generator.reconstruct(clips.astype(np.int16)), trainer.UsageError, "not int16"),
        (lambda: generator.reconstruct(clips + 1e30), trainer.UsageError, "clips must be finite and in"),
        (lambda: generator.decode(generator.encode(clips[:, :400])), trainer.UsageError, "give its `secs`"),
        (lambda: trainer.train(dataset, tmp_path / "x", replicas=0), trainer.UsageError, "`replicas` must"),
        (lambda: Options(count="x"), trainer.UsageError, "`count` must be an integer at least 1, not 'x'"),
        (lambda: Options(attributes=None), trainer.UsageError, "`attributes` must be names"),
        (lambda: Options(key=4), trainer.UsageError, "`key` must be text"),
        (
            lambda: trainer.train(dataset, trained[0], latent_dim=9),
            trainer.UsageError,
            "`latent_dim` 9 contr",
        ),
        (lambda: trainer.train(dataset, tmp_path / "x", epoch=1), trainer.UsageError, "did you mean epochs"),
        (
            lambda: trainer.train(dataset, tmp_path / "x", "wav"),
            trainer.UsageError,
            "no preset wav: use wave",
        ),
    ):
        with pytest.raises(error, match=message) as caught:
            call()
        assert "--" not in str(caught.value)
    assert not (tmp_path / "x/config.json").exists()


def test_a_model_and_a_preset_of_ones_own_are_trained_and_loaded(dataset, tmp_path, monkeypatch):
    class Louder(HierarchicalVAE):
        def decode(self, *args, **kwargs):
            return 2 * super().decode(*args, **kwargs)

    for owner, name in (
        (architectures, "_MODELS"),
        (trainer.presets, "PRESETS"),
        (trainer.presets, "_PURPOSES"),
    ):
        monkeypatch.setattr(owner, name, dict(getattr(owner, name)))
    trainer.register_model("louder", Louder)
    trainer.register_preset(trainer.Config(preset="loud", **WAVE, epochs=1), "louder")
    with without_figures_and_music():
        (row,) = trainer.train(dataset, tmp_path / "run", preset="loud")
    assert row["epoch"] == 1
    assert isinstance(trainer.load(tmp_path / "run").model, Louder)
    monkeypatch.undo()
    with pytest.raises(trainer.UsageError, match=r"no preset loud: .*import the module that registers it"):
        trainer.load(tmp_path / "run")
