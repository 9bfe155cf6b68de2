import dataclasses
import json

import pytest

from preprocessing.dataset.manifest import Statistics
from preprocessing.errors import USAGE, CommandError
from trainer import run_config
from trainer.config import Config
from trainer.presets import PRESETS
from trainer.run_config import DatasetMetadata, RunConfig

METADATA = DatasetMetadata(
    uri="gs://b/d",
    digest="ab",
    sample_rate_hz=3_000,
    clip_samples=90_001,
    genres=("jazz", "rock"),
    attributes={"tempo_bpm": Statistics(120.0, 10.0, 80.0, 160.0)},
    keys=("C major", "A minor"),
    empirical_conditions=[{"genre": "jazz", "tempo_bpm": None, "key": "A minor"}],
    counts={"train": {"jazz": 8}, "test": {"rock": 2}},
)


@pytest.mark.parametrize("preset", PRESETS)
def test_a_saved_configuration_is_loaded_unchanged(tmp_path, preset):
    run = RunConfig(PRESETS[preset], METADATA)
    run_config.save(run, tmp_path)
    assert run_config.load(tmp_path) == run
    assert [path.name for path in tmp_path.iterdir()] == ["config.json"]


def test_a_folder_without_the_file_has_no_configuration(tmp_path):
    assert run_config.load(tmp_path) is None


@pytest.mark.parametrize("change", [None, [], {}, {"unknown": 1}, {"epochs": "3"}, {"epochs": [3]}])
def test_a_corrupt_file_is_a_usage_error(tmp_path, change):
    fields = json.loads(RunConfig(Config(), METADATA).to_json())
    text = json.dumps({**fields, **change}) if change else json.dumps(change) if change is not None else ""
    (tmp_path / "config.json").write_text(text)
    with pytest.raises(CommandError, match="cannot be read") as caught:
        run_config.load(tmp_path)
    assert caught.value.exit_code == USAGE


def test_flags_override_the_preset_and_a_saved_configuration_is_kept():
    new = run_config.resolve({"preset": "reference", "epochs": 3}, None)
    assert new == dataclasses.replace(PRESETS["reference"], epochs=3)
    assert run_config.resolve({}, new) == new
    assert run_config.resolve({}, None) == Config()


@pytest.mark.parametrize("given", [{"epochs": 9}, {"clip_cache_gb": 0}, {"checkpoint_secs": 1.0}])
def test_a_resumed_run_may_be_longer_and_run_differently(given):
    saved = run_config.resolve({"preset": "reference", "epochs": 3}, None)
    assert run_config.resolve({"preset": "reference", **given}, saved) == dataclasses.replace(saved, **given)


@pytest.mark.parametrize("given", [{"preset": "wave"}, {"batch_size": 9}, {"epochs": 2}, {"seed": 1}])
def test_the_error_for_a_contradiction_names_the_argument_and_both_values(given):
    saved = run_config.resolve({"preset": "reference", "epochs": 3}, None)
    (name, value), *_ = given.items()
    with pytest.raises(CommandError) as caught:
        run_config.resolve(given, saved)
    assert caught.value.exit_code == USAGE
    for part in (f"`{name}`", str(value), str(getattr(saved, name))):
        assert part in str(caught.value)
