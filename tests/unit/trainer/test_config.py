import dataclasses
import json

import pytest

from preprocessing.dataset.manifest import Statistics
from preprocessing.errors import USAGE, CommandError
from trainer import run_config
from trainer.config import Config
from trainer.presets import PRESETS
from trainer.run_config import DatasetMetadata, RunConfig

ATTRIBUTES = {"tempo_bpm": Statistics(120.0, 10.0, 80.0, 160.0)}
FACTS = DatasetMetadata(
    "gs://b/d",
    "ab",
    3_000,
    90_001,
    ("jazz", "rock"),
    ATTRIBUTES,
    [{"genre": "jazz", "tempo_bpm": None}],
    {"train": {"jazz": 8}, "test": {"rock": 2}},
)


def test_a_run_comes_back_from_its_file_as_it_was(tmp_path):
    for config in PRESETS.values():
        (tmp_path / "config.json").write_text(RunConfig(config, FACTS).to_json())
        assert run_config.load(tmp_path) == RunConfig(config, FACTS)


def test_no_file_is_no_run_and_a_damaged_one_is_a_sentence(tmp_path):
    assert run_config.load(tmp_path) is None
    fields = json.loads(RunConfig(Config(), FACTS).to_json())
    for text in ("", "[]", "{}", json.dumps({**fields, "unheard_of": 1})):
        (tmp_path / "config.json").write_text(text)
        with pytest.raises(CommandError, match="cannot be read") as caught:
            run_config.load(tmp_path)
        assert caught.value.exit_code == USAGE


def test_the_seed_is_trained_as_its_authors_did():
    seed = PRESETS["reference"]
    assert (seed.epochs, seed.batch_size, seed.learning_rate, seed.latent_dim) == (20, 8, 3e-4, 2)
    assert seed.crop_samples == 0
    assert seed.beta_at(0) == seed.beta_at(19) == 1.0


def test_flags_go_over_the_preset_and_the_runs_own_over_it():
    fresh = run_config.resolve({"preset": "reference", "epochs": 3}, None)
    assert fresh == dataclasses.replace(PRESETS["reference"], epochs=3)
    assert run_config.resolve({}, fresh) == fresh
    assert run_config.resolve({"preset": "reference", "epochs": 9}, fresh).epochs == 9


@pytest.mark.parametrize("given", [{"preset": "wave"}, {"batch_size": 9}, {"epochs": 2}, {"seed": 1}])
def test_a_contradiction_names_flag_and_both_values(given):
    own = run_config.resolve({"preset": "reference", "epochs": 3}, None)
    (name, value), *_ = given.items()
    with pytest.raises(CommandError) as caught:
        run_config.resolve(given, own)
    assert caught.value.exit_code == USAGE
    for part in (run_config.flag(name), str(value), str(getattr(own, name))):
        assert part in str(caught.value)


def test_beta_warms_up_in_a_straight_line():
    config = Config(beta=0.5, beta_warmup_epochs=4)
    assert [config.beta_at(epoch) for epoch in (0, 1, 2, 4, 9)] == [0, 0.125, 0.25, 0.5, 0.5]


def test_the_step_size_warms_up_and_falls_along_half_a_cosine():
    config = Config(learning_rate=1e-3, final_learning_rate=1e-5, warmup_steps=10)
    assert config.learning_rate_at(0.0, 4) == pytest.approx(0.5e-3)
    assert config.learning_rate_at(0.5, 500) == pytest.approx((1e-3 + 1e-5) / 2)
    assert config.learning_rate_at(1.0, 1_000) == pytest.approx(1e-5)
    assert {PRESETS["reference"].learning_rate_at(progress, 0) for progress in (0, 0.3, 1)} == {3e-4}


@pytest.mark.parametrize(
    "bad",
    [
        {"epochs": 0},
        {"learning_rate": 0.0},
        {"learning_rate": float("nan")},
        {"sparse_coefficients": 999},
        {"beta": -1},
        {"crop_samples": 9},
        {"condition_dropout": 1.5},
        {"precision": "float8"},
        {"accumulate_steps": 0},
        {"ema_decay": 1.0},
    ],
)
def test_nonsense_is_refused(bad):
    with pytest.raises(CommandError, match=r"^--"):
        Config(**bad)
