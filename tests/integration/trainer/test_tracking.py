"""A training that is tracked with MLflow, from the command line."""

import pytest
from mlflow import MlflowClient
from support.tiny_corpus import WAVE_FLAGS, without_figures_and_music

from preprocessing.errors import DONE
from trainer.__main__ import main
from trainer.run_config import load, this_program

pytestmark = pytest.mark.long


@pytest.fixture
def client(tmp_path, monkeypatch):
    monkeypatch.setenv("MLFLOW_ALLOW_FILE_STORE", "true")
    return MlflowClient((tmp_path / "mlruns").as_uri())


def test_a_training_survives_a_server_that_is_down_and_is_tracked_from_its_first_epoch_on(
    dataset, client, tmp_path, monkeypatch, capsys
):
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    run = tmp_path / "run"
    flags = ["train", "--data", str(dataset), "--run", str(run), "--replicas", "1", *WAVE_FLAGS]
    with without_figures_and_music():
        assert main([*flags, "--epochs", "1", "--track", "mlflow:http://127.0.0.1:9"]) == DONE
        assert "warning: the run cannot be tracked at http://127.0.0.1:9" in capsys.readouterr().out
        assert main([*flags, "--epochs", "2", "--track", f"mlflow:{tmp_path / 'mlruns'}"]) == DONE
    experiment = client.get_experiment_by_name("gtzan-cvae")
    (tracked,) = client.search_runs([experiment.experiment_id])
    saved = load(run)
    assert tracked.info.status == "FINISHED"
    assert tracked.data.params["channels"] == str(saved.config.channels)
    assert tracked.data.tags["program"] == this_program()
    assert tracked.data.tags["dataset.digest"] == saved.dataset.digest
    assert [metric.step for metric in client.get_metric_history(tracked.info.run_id, "test_elbo")] == [1, 2]
    assert [file.path for file in client.list_artifacts(tracked.info.run_id)] == ["report.html"]
