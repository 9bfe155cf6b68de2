"""What a preprocessing job logs as JSON, and how it shows that it ran."""

import json
import os

import pytest
from support.tiny_corpus import TINY

from preprocessing import event_log
from preprocessing.__main__ import main as preprocess
from preprocessing.dataset.manifest import LATEST_NAME


@pytest.fixture
def run_job(tmp_path, capsys):
    """Return a function that runs a versioned job with JSON logs, and returns its exit code and log entries."""

    def run(corpus):
        flags = ["--input", str(corpus), "--output", str(tmp_path / "data"), "--versioned", *TINY]
        code = preprocess([*flags, "--log-format", "json"])
        output = capsys.readouterr()
        assert output.err == ""
        return code, [json.loads(line) for line in output.out.splitlines()]

    yield run
    event_log.configure()


def test_every_line_of_a_job_is_a_json_object_and_an_unchanged_input_confirms_the_version(
    corpus, tmp_path, run_job
):
    code, entries = run_job(corpus)
    events = {entry["event"]: entry for entry in entries}
    assert code == 0
    latest = tmp_path / "data" / LATEST_NAME
    assert events["dataset"]["dataset"] == latest.read_text().strip()
    assert sum(events["dataset"]["clips"].values()) == 24
    assert events["few_test_recordings"]["severity"] == "WARNING"
    os.utime(latest, (1, 1))
    code, entries = run_job(corpus)
    assert (code, entries[0]["event"]) == (0, "up_to_date")
    assert latest.stat().st_mtime > 1
    # A job that fails confirms nothing.
    os.utime(latest, (1, 1))
    code, entries = run_job(tmp_path / "nothing")
    assert (code, entries[-1]["event"], entries[-1]["exit_code"]) == (3, "error", 3)
    assert latest.stat().st_mtime == 1
