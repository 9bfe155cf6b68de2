"""Retraining on a schedule: candidates that new music overtakes, datasets that nobody renews, and notifications.

No test trains: `better` is a candidate of the version `more` that is trained and undecided, `noise` is a newer version.
"""

import contextlib
import json
import os
import shutil
import threading
import time
from http.server import BaseHTTPRequestHandler, HTTPServer
from types import SimpleNamespace

import pytest
from support.runs.retraining import FLAGS, MORE_COEFFICIENTS, run_retrain
from urllib3 import Retry

from preprocessing import progress_file
from preprocessing.dataset.manifest import LATEST_NAME, MANIFEST_NAME
from preprocessing.errors import BAD_DATA, STOPPED, USAGE, DataError
from preprocessing.storage import lease
from trainer.config import Config
from trainer.registry import candidates, champion, notification, plan, retrain
from trainer.training import train

pytestmark = pytest.mark.long


@pytest.fixture
def better(models):
    """The folder of the candidate that is trained on `more`, and not decided about."""
    first = champion.read(str(models)).champion.candidate
    (name,) = {path.name for path in (models / "candidates").iterdir()} - {first}
    return models / "candidates" / name


@pytest.fixture
def trainings(monkeypatch):
    """The dataset versions of the trainings that a retraining begins; each ends at once with an error of `errors`."""
    begun = []

    def begin(data, *_, **__):
        begun.append(data.rpartition("/")[2])
        raise begin.errors.pop(0) if begin.errors else KeyboardInterrupt

    begin.errors = []
    monkeypatch.setattr(train, "train_and_evaluate", begin)
    return begun, begin.errors


def digest_of(datasets):
    return (datasets / LATEST_NAME).read_text().strip()


def test_a_trained_candidate_that_new_music_overtook_is_decided_about_before_the_newest_is_trained(
    models, better, versions, trainings, tmp_path, capsys, monkeypatch
):
    def promote(options, plan, state):
        return {"decision": "promoted", "reason": "better", **plan.describe(state.champion)}

    monkeypatch.setattr(retrain, "_evaluate", promote)  # measured in test_retrain.py
    assert run_retrain(versions["noise"], models, *MORE_COEFFICIENTS, cache=tmp_path) == STOPPED
    assert champion.read(str(models)).champion.candidate == better.name
    assert trainings[0] == [digest_of(versions["noise"])]
    output = capsys.readouterr()
    assert f"candidate {better.name} is finished first" in output.err
    assert "promoted: better" in output.err
    assert output.out == ""  # the decision about the newest version is still open


@pytest.mark.parametrize("missing", ["report.html", "metrics.jsonl"])  # an evaluation writes a report, too
def test_an_incomplete_candidate_that_new_music_overtook_is_resumed(
    models, better, versions, trainings, tmp_path, missing
):
    (better / missing).unlink()
    assert run_retrain(versions["noise"], models, *MORE_COEFFICIENTS, cache=tmp_path) == STOPPED
    assert trainings[0] == [digest_of(versions["more"])]
    assert better.exists()


def write_other_schema(version):
    path = version / MANIFEST_NAME
    path.write_text(json.dumps({**json.loads(path.read_text()), "schema_version": 1}))


@pytest.mark.parametrize("change", ["champion", "version", "schema", "data"])
def test_an_incomplete_candidate_that_cannot_be_resumed_is_deleted(
    models, better, versions, trainings, tmp_path, capsys, change
):
    (better / "report.html").unlink()
    datasets, begun = tmp_path / "datasets", [digest_of(versions["noise"])]
    shutil.copytree(versions["noise"], datasets)
    flags = MORE_COEFFICIENTS
    if change == "champion":
        flags = [*flags, "--init-from", "scratch"]
    elif change == "version":
        shutil.rmtree(datasets / digest_of(versions["more"]))
    elif change == "schema":
        for name in ("more", "first"):  # of the candidate, and of the champion
            write_other_schema(datasets / digest_of(versions[name]))
    else:
        trainings[1].append(DataError("a shard is corrupt"))
        begun = [digest_of(versions["more"]), *begun]
    assert run_retrain(datasets, models, *flags, cache=tmp_path) == STOPPED
    assert trainings[0] == begun
    assert not better.exists()
    assert f"warning: the incomplete candidate {better.name} is deleted" in capsys.readouterr().err


def test_a_promotion_that_a_kill_has_interrupted_is_made_again(
    models, better, versions, trainings, tmp_path, monkeypatch
):
    def promote(options, plan, state):
        decision = {"decision": "promoted", "reason": "better", "sets": [{"candidate": {}}]}
        decision |= plan.describe(state.champion)
        (better / "promotion.json").write_text(json.dumps(decision))
        if not is_killed:
            is_killed.append(True)
            raise KeyboardInterrupt
        return decision

    is_killed = []
    monkeypatch.setattr(retrain, "_evaluate", promote)
    for _ in range(2):
        assert run_retrain(versions["noise"], models, *MORE_COEFFICIENTS, cache=tmp_path) == STOPPED
    assert champion.read(str(models)).champion.candidate == better.name
    assert trainings[0] == [digest_of(versions["noise"])]


def test_workers_find_the_version_that_the_first_one_names(models, trainings, tmp_path):
    options = SimpleNamespace(
        datasets=str(tmp_path / "datasets"), models=str(models), replicas=1, cache=tmp_path, cluster=None, track=None,
        config=Config(),
    )  # fmt: skip
    newest = plan.Plan("0" * 12 + "-" + "0" * 12, str(tmp_path / "datasets/abc"), None, None)
    for options.is_chief in (True, False):
        with pytest.raises(KeyboardInterrupt):
            retrain._train(options, newest)
    assert trainings[0] == ["abc", "datasets"]


def test_a_candidate_that_cannot_be_compared_stays_and_the_newest_is_trained(
    models, better, versions, trainings, tmp_path, capsys, monkeypatch
):
    def fail(options, plan, state):
        raise DataError("the champion cannot be loaded")

    monkeypatch.setattr(retrain, "_evaluate", fail)
    assert run_retrain(versions["noise"], models, *MORE_COEFFICIENTS, cache=tmp_path) == STOPPED
    assert trainings[0] == [digest_of(versions["noise"])]
    assert better.exists()
    message = f"candidate {better.name} stays without a decision: the champion cannot be loaded"
    assert message in capsys.readouterr().err


def test_a_candidate_that_another_process_takes_while_it_is_pruned_keeps_its_new_files(
    models, better, monkeypatch
):
    acquire = lease.acquire

    @contextlib.contextmanager
    def acquire_and_lose(uri):
        with acquire(uri) as held:
            yield held
        better.joinpath("config.json").write_text("{}")  # of the process that takes the lease next

    monkeypatch.setattr(lease, "acquire", acquire_and_lose)
    assert candidates.prune(str(models), 0) == [better.name]
    assert [path.name for path in better.rglob("*")] == ["config.json"]


def test_candidates_in_use_and_those_with_other_settings_are_left_alone(
    models, better, versions, trainings, tmp_path
):
    (better / "report.html").unlink()
    newest = [digest_of(versions["noise"])]
    with lease.acquire(str(better)):
        assert run_retrain(versions["noise"], models, *MORE_COEFFICIENTS, cache=tmp_path) == STOPPED
        assert trainings[0] == newest
    assert run_retrain(versions["noise"], models, *FLAGS, cache=tmp_path) == STOPPED
    assert trainings[0] == 2 * newest
    assert better.exists()


def test_nothing_new_is_an_error_if_no_preprocessing_job_has_succeeded_for_too_long(
    models, versions, tmp_path, capsys
):
    datasets = tmp_path / "datasets"
    shutil.copytree(versions["first"], datasets)
    nine_days_ago = time.time() - 9 * 86_400
    os.utime(datasets / LATEST_NAME, (nine_days_ago, nine_days_ago))
    allowed, exceeded = (["--max-dataset-age-days", days] for days in ("10", "8"))
    assert run_retrain(datasets, models, *FLAGS, *allowed, cache=tmp_path) == 0
    output = capsys.readouterr()
    assert json.loads(output.out)["decision"] == "unchanged"
    assert "warning" not in output.err
    assert (
        run_retrain(datasets, models, *FLAGS, *exceeded, "--log-format", "json", cache=tmp_path) == BAD_DATA
    )
    output = capsys.readouterr()
    assert json.loads(output.out.splitlines()[0])["decision"] == "stale"
    entries = [json.loads(line) for line in (output.err + output.out).splitlines()]
    (warning,) = [entry for entry in entries if entry.get("event") == "dataset_too_old"]
    assert (warning["severity"], warning["age_days"], warning["max_age_days"]) == ("WARNING", 9.0, 8.0)
    (error,) = [entry for entry in entries if entry.get("event") == "error"]
    assert error["exit_code"] == BAD_DATA
    os.utime(datasets / LATEST_NAME)
    assert run_retrain(datasets, models, *FLAGS, *exceeded, cache=tmp_path) == 0


def test_the_progress_file_is_touched(models, versions, tmp_path, capsys):
    path = tmp_path / "new/progress"
    try:
        assert (
            run_retrain(versions["first"], models, *FLAGS, "--progress-file", str(path), cache=tmp_path) == 0
        )
        assert path.exists()
        flags = ["--progress-file", str(path / "below")]
        assert run_retrain(versions["first"], models, *FLAGS, *flags, cache=tmp_path) == USAGE
        assert "--progress-file" in capsys.readouterr().err
    finally:
        progress_file.configure(None)


@pytest.fixture
def webhook():
    """A server that collects what is posted; it answers with `statuses`, then with 200."""
    received, statuses = [], []

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self):
            received.append(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))
            self.send_response(statuses.pop(0) if statuses else 200)
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, *_):
            pass

    server = HTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}/hook?key=secret", received, statuses
    server.shutdown()
    server.server_close()


def test_a_decision_is_posted_and_retried(models, versions, webhook, tmp_path, capsys):
    url, received, statuses = webhook
    statuses.append(503)
    assert run_retrain(versions["first"], models, *FLAGS, "--notify", url, cache=tmp_path) == 0
    printed = json.loads(capsys.readouterr().out)
    first, second = received
    assert first == second
    assert {name: first[name] for name in ("decision", "reason", "candidate", "champion", "dataset")} == {
        name: printed[name] for name in ("decision", "reason", "candidate", "champion", "dataset")
    }
    assert first["time"]
    assert first["text"].startswith(f"{models}: unchanged: ")


def test_the_metrics_of_both_models_are_posted():
    figures = {"candidate": {"snr_db": 2.0}, "champion": {"snr_db": float("inf")}, "gains": {"snr_db": 0.1}}
    decision = dict.fromkeys(("reason", "candidate", "champion", "dataset"), "") | {"decision": "promoted"}
    message = notification.message_of(decision | {"sets": [figures, {}]}, "models")
    assert message["metrics"] == {**figures, "champion": {"snr_db": None}}


@pytest.mark.parametrize("is_down", [True, False])
def test_a_webhook_that_fails_is_a_warning_that_tells_no_secret(
    models, versions, webhook, tmp_path, monkeypatch, capsys, is_down
):
    monkeypatch.setattr(notification, "RETRIES", Retry(total=1, backoff_factor=0, allowed_methods=None))
    url, _, statuses = webhook
    statuses.append(404)
    if is_down:
        url = "http://127.0.0.1:1/hook?key=secret"
    assert run_retrain(versions["first"], models, *FLAGS, "--notify", url, cache=tmp_path) == 0
    error = capsys.readouterr().err
    assert "warning: the decision could not be posted to 127.0.0.1 (" in error
    assert "secret" not in error


@pytest.mark.parametrize("url", ["ftp://host/x", "file:///etc/passwd", "host/x", "http://", "http://[x"])
def test_a_webhook_is_on_http_or_https(models, versions, tmp_path, capsys, url):
    assert run_retrain(versions["first"], models, *FLAGS, "--notify", url, cache=tmp_path) == USAGE
    assert "--notify must be a URL that begins with http:// or https://" in capsys.readouterr().err


def test_with_json_logs_an_error_leaves_stdout_to_the_decision(models, tmp_path, capsys):
    assert run_retrain(tmp_path / "none", models, *FLAGS, "--log-format", "json", cache=tmp_path) == BAD_DATA
    output = capsys.readouterr()
    assert json.loads(output.err)["event"] == "error"
    assert output.out == ""
