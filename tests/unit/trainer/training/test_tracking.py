"""Tracking with MLflow, in its file store, and at a port where nothing listens."""

import json
import subprocess
import sys

import pytest
from mlflow import MlflowClient
from mlflow.exceptions import MlflowException

from preprocessing.errors import USAGE, CommandError, StoppedError
from trainer.__main__ import main
from trainer.training import tracking
from trainer.training.tracking import parse_target, tracked

PARAMETERS = {"preset": "wave", "epochs": 3, "beta": 0.5}
TAGS = {"program": "gtzan-cvae 0.1.0", "dataset.digest": "ab"}
NOTHING_LISTENS = "mlflow:http://127.0.0.1:9"


def row(epoch):
    return {"epoch": epoch, "test_elbo": -100.0 + epoch, "test_snr_db": 2.0 * epoch, "train_kl": float("nan")}


@pytest.fixture
def store(tmp_path, monkeypatch):
    """A file store, as the value of `--track`."""
    monkeypatch.setenv("MLFLOW_ALLOW_FILE_STORE", "true")
    return f"mlflow:{tmp_path / 'mlruns'}"


@pytest.fixture
def run(tmp_path):
    (tmp_path / "run/evaluation").mkdir(parents=True)
    (tmp_path / "run/report.html").write_text("report")
    (tmp_path / "run/evaluation/evaluation.json").write_text("{}")
    return tmp_path / "run"


def train(store, run, earlier, epochs, tags=TAGS):
    """Track epochs as a training does that has `earlier` ones."""
    with tracked(parse_target(store), run, "runs/wave") as tracker:
        tracker.begin([row(epoch) for epoch in earlier], PARAMETERS, tags)
        for epoch in epochs:
            tracker.add(row(epoch))


def mlflow_runs(store):
    client = MlflowClient(parse_target(store))
    experiment = client.get_experiment_by_name("gtzan-cvae")
    return client, client.search_runs([experiment.experiment_id]) if experiment else []


def sent_epochs(store, run_id):
    return [metric.step for metric in mlflow_runs(store)[0].get_metric_history(run_id, "test_snr_db")]


def warnings(capsys):
    return [line for line in capsys.readouterr().out.splitlines() if line.startswith("warning: ")]


def test_a_training_is_tracked_with_parameters_metrics_tags_and_files(store, run):
    train(store, run, [], [1, 2, 3])
    client, (tracked_run,) = mlflow_runs(store)
    assert tracked_run.info.status == "FINISHED"
    assert tracked_run.info.run_name == "wave"
    assert tracked_run.data.params == {name: str(value) for name, value in PARAMETERS.items()}
    assert tracked_run.data.tags.items() >= {"run": "runs/wave", **TAGS}.items()
    assert tracked_run.data.metrics == {"epoch": 3.0, "test_elbo": -97.0, "test_snr_db": 6.0}
    assert sent_epochs(store, tracked_run.info.run_id) == [1, 2, 3]
    assert [file.path for file in client.list_artifacts(tracked_run.info.run_id)] == [
        "evaluation",
        "report.html",
    ]


def test_a_resumed_training_goes_on_in_the_same_mlflow_run(store, run):
    with pytest.raises(StoppedError), tracked(parse_target(store), run, "run") as tracker:
        tracker.begin([], PARAMETERS, TAGS)
        tracker.add(row(1))
        tracker.add(row(2))
        raise StoppedError("stopped")
    _, (stopped,) = mlflow_runs(store)
    assert stopped.info.status == "KILLED"
    # The process was killed before the checkpoint of epoch 2, which is trained again.
    train(store, run, [1], [2, 3], tags={**TAGS, "epochs": "9"})
    _, (resumed,) = mlflow_runs(store)
    assert (
        resumed.info.run_id == stopped.info.run_id == json.loads((run / "mlflow.json").read_text())["run_id"]
    )
    assert (resumed.info.status, resumed.data.tags["epochs"]) == ("FINISHED", "9")
    assert sent_epochs(store, resumed.info.run_id) == [1, 2, 3]


def test_a_training_that_fails_is_marked_so(store, run):
    with pytest.raises(ZeroDivisionError), tracked(parse_target(store), run, "run") as tracker:
        tracker.begin([], PARAMETERS, TAGS)
        raise ZeroDivisionError
    assert mlflow_runs(store)[1][0].info.status == "FAILED"


def test_what_an_outage_keeps_back_is_sent_later_after_one_warning(store, run, monkeypatch, capsys):
    log_batch, is_down = MlflowClient.log_batch, False

    def fail_when_down(self, run_id, metrics=(), **kwargs):
        if is_down:
            raise MlflowException("the server is down")
        log_batch(self, run_id, metrics=metrics, **kwargs)

    monkeypatch.setattr(MlflowClient, "log_batch", fail_when_down)
    with tracked(parse_target(store), run, "run") as tracker:
        tracker.begin([], PARAMETERS, TAGS)
        for epoch in range(1, 6):
            is_down = epoch in (2, 3, 5)
            tracker.add(row(epoch))
        is_down = False
    _, (tracked_run,) = mlflow_runs(store)
    assert sent_epochs(store, tracked_run.info.run_id) == [1, 2, 3, 4, 5]
    first, second = warnings(capsys)  # of two outages
    assert "training goes on (the server is down)" in first == second


def test_a_server_that_is_down_ends_no_training(run, store, monkeypatch, capsys):
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    train(NOTHING_LISTENS, run, [], [1, 2])
    (warning,) = warnings(capsys)
    assert "http://127.0.0.1:9" in warning and "training goes on" in warning
    assert not (run / "mlflow.json").exists()
    train(store, run, [1, 2], [3])
    assert sent_epochs(store, mlflow_runs(store)[1][0].info.run_id) == [1, 2, 3]


def test_a_deleted_mlflow_run_is_created_again_with_all_epochs(store, run):
    train(store, run, [], [1, 2])
    client, (deleted,) = mlflow_runs(store)
    client.delete_run(deleted.info.run_id)
    train(store, run, [1, 2], [3])
    _, (again,) = mlflow_runs(store)
    assert again.info.run_id != deleted.info.run_id
    assert sent_epochs(store, again.info.run_id) == [1, 2, 3]


def test_later_results_are_added_to_the_mlflow_run(store, run, tmp_path, monkeypatch, capsys):
    page = tmp_path / "comparison.html"
    page.write_text("page")
    tracking.add_results(str(run), {page: None}, {}, {})  # of a run that is not tracked
    assert not (tmp_path / "mlruns").exists()
    train(store, run, [], [1])
    tracking.add_results(
        str(run), {page: "pages"}, {"snr_db": 3.0, "missing": None}, {"promotion": "promoted"}
    )
    client, (tracked_run,) = mlflow_runs(store)
    assert tracked_run.data.metrics["snr_db"] == 3.0
    assert tracked_run.data.tags["promotion"] == "promoted"
    assert client.list_artifacts(tracked_run.info.run_id, "pages")[0].path == "pages/comparison.html"
    assert tracked_run.info.status == "FINISHED"
    monkeypatch.setitem(sys.modules, "mlflow", None)
    capsys.readouterr()
    tracking.add_results(str(run), {page: None}, {}, {})
    assert "MLflow is missing, install it" in warnings(capsys)[0]


@pytest.mark.parametrize("command", ["train", "retrain"])
def test_without_mlflow_the_message_says_what_to_install(monkeypatch, capsys, tmp_path, command):
    monkeypatch.setitem(sys.modules, "mlflow", None)
    folders = ("--data", "--run") if command == "train" else ("--datasets", "--models")
    flags = [part for name in folders for part in (name, str(tmp_path / "none"))]
    assert main([command, *flags, "--track", "mlflow:http://localhost:5000"]) == USAGE
    assert "--track needs MLflow: install it with pip install 'mlflow-skinny" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("target", "message"),
    [
        ("http://localhost:5000", "must be mlflow:URI"),
        ("mlflow:", "must be mlflow:URI"),
        ("mlflow:http://me:secret@localhost:5000", "must not contain a password"),
        ("mlflow:http://[x", "is no valid URI"),
        ("mlflow:ftp://localhost", "MLflow cannot use ftp://localhost"),
        ("mlflow:mlruns", "MLFLOW_ALLOW_FILE_STORE=true"),  # MLflow's own advice
    ],
)
def test_a_target_that_mlflow_cannot_use_is_refused(run, monkeypatch, target, message):
    monkeypatch.delenv("MLFLOW_ALLOW_FILE_STORE", raising=False)
    with pytest.raises(CommandError, match=message) as caught, tracked(parse_target(target), run, "run"):
        pass
    assert caught.value.exit_code == USAGE
    assert "secret" not in str(caught.value)


def test_mlflow_is_imported_only_when_a_run_is_tracked():
    code = "import sys, trainer.training.tracking, trainer.cli.parser; print('mlflow' in sys.modules)"
    process = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert process.stdout.strip() == "False"
