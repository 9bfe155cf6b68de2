import json

import pytest

from preprocessing.errors import BAD_DATA, DONE, USAGE
from preprocessing.storage import lease
from trainer.__main__ import main
from trainer.runs import rollbacks
from trainer.runs.directory import METRICS, POINTER, REPORT, ROLLBACKS
from trainer.runs.discovery import find_runs
from trainer.runs.status import is_complete, read_status
from trainer.runs.storage import GcsPrefix

ROWS = [
    {"epoch": n, "test_elbo": elbo, "test_snr_db": 2.0 + n}
    for n, elbo in ((1, -50.0), (2, 1_250.0), (3, 900.0))
]
ROLLBACK = rollbacks.Rollback(25, 20, "the loss is not finite at step 25")
FILES = {
    "config.json": json.dumps({"preset": "wave", "epochs": 15, "program": "gtzan-cvae 0.1.0"}),
    METRICS: "".join(f"{json.dumps(row)}\n" for row in ROWS) + '{"epoch": 4, "test_',
    POINTER: 'model_checkpoint_path: "step-30"\n',
    ROLLBACKS: f"{json.dumps(ROLLBACK._asdict())}\n" * 2 + '{"step": 3',
}
CANDIDATES = ("0" * 12 + "-" + "1" * 12, "0" * 12 + "-" + "2" * 12)


def write(folder, files):
    for name, content in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(content)


@pytest.fixture
def folders(tmp_path):
    """A folder of two runs, one of them done, and a folder of models with two candidates."""
    write(tmp_path / "runs/stopped", FILES)
    config = json.dumps({"preset": "tiny", "epochs": 3, "program": "gtzan-cvae 0.1.0"})
    write(tmp_path / "runs/deeper/done", {**FILES, "config.json": config, REPORT: ""})
    for name in CANDIDATES:
        write(tmp_path / "models/candidates" / name, FILES)
    write(tmp_path / "models", {"champion.json": json.dumps({"candidate": CANDIDATES[1]})})
    # A file of another program, and one of a corpus.
    write(tmp_path / "runs/other", {"config.json": "{}"})
    write(tmp_path / "runs/corpus", {"config.json": FILES["config.json"], "dataset.json": "{}"})
    return tmp_path


@pytest.mark.parametrize("where", ["local", "bucket"])
def test_status_summarizes_a_run(tmp_path, storage_server, where, capsys):
    run = str(tmp_path) if where == "local" else f"{storage_server}/runs/status"
    if where == "bucket":
        for name, content in FILES.items():
            GcsPrefix(run).write(name, content.encode())
    else:
        write(tmp_path, FILES)
    assert main(["status", run]) == DONE
    output = capsys.readouterr().out
    assert "state       stopped" in output
    assert "program     gtzan-cvae 0.1.0" in output
    assert "epoch       3 of 15" in output
    assert "best        epoch 2: test ELBO 1,250 nats, SNR 4.00 dB" in output
    assert "last        epoch 3" in output
    assert "checkpoint  step-30, " in output
    assert output.count("was rolled back to step 20") == 2
    assert "used by     nobody" in output
    with lease.acquire(run):
        running = read_status(find_runs([run])[0])
    assert running.state == "running"
    assert "used by     process" in running.describe()


def test_status_prints_a_line_for_each_of_several_runs_and_marks_the_champion(folders, capsys):
    assert main(["status", str(folders / "runs"), str(folders / "models")]) == DONE
    head, *lines = (line.split() for line in capsys.readouterr().out.splitlines())
    assert head[:4] == ["run", "state", "preset", "epoch"]
    assert [line[0].removeprefix(f"{folders}/") for line in lines] == [
        "runs/deeper/done", "runs/stopped", *(f"models/candidates/{name}" for name in CANDIDATES),
    ]  # fmt: skip
    assert lines[0][1:4] == ["done", "tiny", "3/3"]
    assert lines[1][1:4] == ["stopped", "wave", "3/15"]
    assert [line[1] == "*" for line in lines] == [False, False, False, True]


@pytest.mark.parametrize(("steps", "is_trained"), [(30, True), (31, False)])
def test_a_run_whose_metrics_are_ahead_of_its_checkpoint_is_not_complete(folders, steps, is_trained):
    run = folders / "runs/deeper/done"
    (run / METRICS).write_text("".join(f"{json.dumps({**row, 'steps': steps})}\n" for row in ROWS))
    assert is_complete(str(run)) == is_trained
    assert read_status(find_runs([str(run)])[0]).state == ("done" if is_trained else "stopped")


def test_a_bucket_is_searched_for_runs_as_a_folder_is(storage_server):
    models = f"{storage_server}/status/models"
    GcsPrefix(models).write("champion.json", json.dumps({"candidate": CANDIDATES[0]}).encode())
    for name in CANDIDATES:
        GcsPrefix(f"{models}/candidates/{name}").write("config.json", FILES["config.json"].encode())
    found = find_runs([models, f"{models}/candidates/{CANDIDATES[1]}"])
    assert [run.uri for run in found] == [f"{models}/candidates/{name}" for name in CANDIDATES]
    assert [run.is_champion for run in found] == [True, False]


def test_status_as_json_has_the_same_fields_for_one_run_and_for_several(folders, capsys):
    assert main(["status", "--json", str(folders / "runs/stopped")]) == DONE
    (one,) = json.loads(capsys.readouterr().out)
    assert one["best"] == {"epoch": 2, "test_elbo": 1_250.0, "test_snr_db": 4.0}
    assert (one["epochs_done"], one["epochs"], one["checkpoint"]) == (3, 15, "step-30")
    assert one["rollbacks"] == [ROLLBACK._asdict()] * 2
    assert main(["status", "--json", str(folders)]) == DONE
    runs = json.loads(capsys.readouterr().out)
    assert len(runs) == 4
    assert all(run.keys() == one.keys() for run in runs)


def test_status_of_a_new_run_of_none_and_of_a_corrupt_one(tmp_path, capsys):
    assert main(["status", str(tmp_path)]) == BAD_DATA
    assert "nothing was trained there" in capsys.readouterr().err
    write(tmp_path, {"config.json": FILES["config.json"]})
    assert main(["status", str(tmp_path)]) == DONE
    assert "checkpoint  none yet" in capsys.readouterr().out
    write(tmp_path, {"config.json": '{"preset": "wave"'})
    assert main(["status", str(tmp_path)]) == BAD_DATA
    assert "config.json is corrupt" in capsys.readouterr().err


@pytest.mark.parametrize("line", ["{garbage}", '{"test_elbo": 1}', '{"epoch": "x"}', "[1]}"])
def test_a_corrupt_run_does_not_hide_the_others(folders, capsys, line):
    (folders / "runs/stopped" / METRICS).write_text(f"{line}\n")
    (folders / "runs/stopped" / ROLLBACKS).write_text('{"other": 1}\n')
    assert main(["status", str(folders / "runs")]) == BAD_DATA
    output = capsys.readouterr()
    assert "runs/deeper/done" in output.out
    assert "line 1 of the run's metrics.jsonl is corrupt" in output.err


def test_no_folder_is_not_the_current_one():
    assert main(["status", ""]) == USAGE
