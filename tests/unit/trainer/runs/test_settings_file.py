import json

import pytest

from preprocessing.dataset.manifest import Statistics
from preprocessing.errors import BAD_DATA, USAGE, CommandError
from trainer import run_config
from trainer.cli.arguments import given_settings
from trainer.cli.parser import build_parser
from trainer.config import Config
from trainer.presets import PRESETS
from trainer.run_config import DatasetMetadata, RunConfig, resolve
from trainer.runs.settings_file import read_settings, settings_yaml
from trainer.runs.storage import GcsPrefix

METADATA = DatasetMetadata(
    "data", "ab", 3_000, 90_001, ("jazz",), {"tempo_bpm": Statistics(120.0, 10.0, 80.0, 160.0)}, (), [], {}
)


def write(path, content):
    path.write_text(content)
    return str(path)


@pytest.mark.parametrize(
    "content",
    [
        "preset: tiny\nlearning_rate: 1e-3\nbeta: 1 # an integer\njit: true\nepochs: 3\n",
        '{\t"preset": "tiny", "learning_rate": 1e-3, "beta": 1, "jit": true, "epochs": 3}',
    ],
    ids=["YAML", "JSON"],
)
def test_values_have_the_types_of_the_configuration(tmp_path, content):
    settings = read_settings(write(tmp_path / "settings", content))
    assert settings == {"preset": "tiny", "learning_rate": 0.001, "beta": 1.0, "jit": True, "epochs": 3}
    assert [type(value) for value in settings.values()] == [str, float, float, bool, int]


@pytest.mark.parametrize("where", ["local", "bucket"])
def test_a_runs_own_file_gives_its_configuration_again(tmp_path, storage_server, where):
    config = resolve({"preset": "tiny", "final_learning_rate": 1e-5, "epochs": 77}, None)
    run_config.save(RunConfig(config, METADATA), tmp_path)
    uri = str(tmp_path / "config.json")
    if where == "bucket":
        GcsPrefix(f"{storage_server}/settings").upload(["config.json"], tmp_path)
        uri = f"{storage_server}/settings/config.json"
    assert resolve(read_settings(uri), None) == config


@pytest.mark.parametrize("preset", PRESETS)
def test_the_printed_configuration_is_such_a_file(tmp_path, preset):
    file = write(tmp_path / "settings.yaml", settings_yaml(PRESETS[preset]))
    assert Config(**read_settings(file)) == PRESETS[preset]


def test_flags_override_the_file(tmp_path):
    file = write(tmp_path / "settings.yaml", "preset: tiny\nepochs: 3\nseed: 4\n")
    flags = ["train", "--data", "d", "--run", "r", "--config", file, "--seed", "5"]
    assert given_settings(build_parser().parse_args(flags)) == {"preset": "tiny", "epochs": 3, "seed": 5}


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("batchsize: 4", "unknown field batchsize: the nearest one is batch_size"),
        ("batch-size: 4", "unknown field batch-size: the nearest one is batch_size"),
        ("dataset: music", "unknown field dataset: the nearest one is "),
        ("epochs: many", 'epochs must be an integer, not "many"'),
        ("epochs: 3.5", "epochs must be an integer, not 3.5"),
        ("epochs: true", "epochs must be an integer, not true"),
        ("jit: 1", "jit must be true or false, not 1"),
        ("beta: high", 'beta must be a number, not "high"'),
        ("beta:", "beta must be a number, not null"),
        ("preset: [tiny]", 'preset must be text, not ["tiny"]'),
        ("- epochs", "must have a name and a value in each line"),
        ("", "must have a name and a value in each line"),
        ("epochs: [", "is neither YAML nor JSON"),
        ("\x00", "is neither YAML nor JSON"),
    ],
)
def test_a_file_that_is_wrong_is_refused_in_one_sentence(tmp_path, content, message):
    with pytest.raises(CommandError) as caught:
        read_settings(write(tmp_path / "settings.yaml", content))
    assert caught.value.exit_code == USAGE
    assert message in str(caught.value)
    assert "`config`" in str(caught.value)


def test_limits_and_presets_are_those_of_flags():
    for given, message in (
        ({"epochs": 0}, "`epochs` must be at least 1"),
        ({"preset": "big"}, "there is no preset big"),
    ):
        with pytest.raises(CommandError, match=message) as caught:
            resolve(given, None)
        assert caught.value.exit_code == USAGE


@pytest.mark.parametrize("name", ["none.yaml", "none/"])
def test_a_missing_file_is_an_error(tmp_path, name):
    with pytest.raises(CommandError, match="does not exist") as caught:
        read_settings(f"{tmp_path}/{name}")
    assert caught.value.exit_code == BAD_DATA


def test_a_folder_is_no_file_of_settings(tmp_path):
    with pytest.raises(CommandError, match="is a folder: name a file") as caught:
        read_settings(str(tmp_path))
    assert caught.value.exit_code == USAGE


def test_a_file_of_invalid_bytes_is_refused(tmp_path):
    (tmp_path / "settings.yaml").write_bytes(json.dumps({"preset": "é"}).encode() + b"\xff")
    with pytest.raises(CommandError, match="neither YAML nor JSON"):
        read_settings(str(tmp_path / "settings.yaml"))
