"""Both programs on the command line, each in a process of its own."""

import json
import os
import re
import shlex
import signal
import subprocess
import sys
import time

import google.auth
import pytest
from support.tiny_corpus import TINY, WAVE_FLAGS, write_clip

from preprocessing.__main__ import main as preprocess


def run_module(*args, timeout_secs=300):
    """Run a module with arguments, and capture its output."""
    environment = {name: value for name, value in os.environ.items() if name != "TF_CPP_MIN_LOG_LEVEL"}
    return subprocess.run(
        [sys.executable, "-m", *map(str, args)],
        capture_output=True,
        text=True,
        timeout=timeout_secs,
        env=environment,
        check=False,
    )


HELP_COMMANDS = [
    ["preprocessing", "--help"],
    ["preprocessing.synthetic", "--help"],
    ["trainer", "--help"],
    ["trainer", "train", "--help"],
    ["trainer", "generate", "--help"],
    ["trainer", "export", "--help"],
    ["trainer", "retrain", "--help"],
    ["trainer", "champion", "promote", "--help"],
]


@pytest.mark.parametrize("command", HELP_COMMANDS, ids=" ".join)
def test_help_takes_less_than_a_second_and_explains_every_flag(command):
    times = []
    for _ in range(3):
        started = time.monotonic()
        process = run_module(*command)
        times.append(time.monotonic() - started)
    assert process.returncode == 0
    assert process.stderr == ""
    assert min(times) < 1.0
    # Each flag is followed by words, not by the next flag.
    text = re.sub(r"^usage:.*?\n\n", "", process.stdout, flags=re.DOTALL)
    for flag in re.finditer(r"^  (-h, )?(--[\w-]+)(?P<rest>.*(?:\n {6,}.*)*)", text, re.MULTILINE):
        assert re.search(r"[a-z]{2,} [a-z]", flag["rest"]), f"{flag[2]} is not explained"


@pytest.mark.parametrize(
    ("command", "code", "message"),
    [
        (["preprocessing"], 2, "--input, --output"),
        (["preprocessing", "--input", "x"], 2, "--output"),
        (["preprocessing", "--input", "x", "--output", "{tmp}/o", "--split", "half"], 2, "--split"),
        (["preprocessing", "--input", "x", "--output", "{tmp}/o", "--shards", "many"], 2, "--shards"),
        (["trainer"], 2, "COMMAND"),
        (["trainer", "dance"], 2, "dance"),
        (["trainer", "train", "--data", "x", "--run", "{tmp}/r", "--epoch", "3"], 2, "--epoch"),
        (["trainer", "train", "--data", "x", "--run", "{tmp}/r", "--channels", "a"], 2, "--channels"),
        (["trainer", "train", "--data", "x", "--run", "{tmp}/r", "--epochs", "0"], 2, "--epochs must be"),
        (["trainer", "train", "--data", "{tmp}/no", "--run", "{tmp}/r"], 3, "no dataset.json"),
        (["trainer", "generate", "--run", "{tmp}/no", "--output", "{tmp}/m"], 3, "no config.json"),
    ],
)
def test_an_error_is_one_line_on_stderr_and_an_exit_code(tmp_path, command, code, message):
    process = run_module(*(part.format(tmp=tmp_path) for part in command))
    assert process.returncode == code
    assert message in process.stderr
    assert len(process.stderr.strip().splitlines()) == 1
    assert process.stdout == ""


def test_with_json_logs_an_error_is_one_log_entry(tmp_path):
    flags = ["--run", tmp_path / "r", "--log-format", "json", "--no-jit"]
    process = run_module("trainer", "train", "--data", tmp_path / "no", *flags)
    entry = json.loads(process.stdout)
    assert (process.returncode, entry["exit_code"], entry["severity"]) == (3, 3, "ERROR")
    assert "no dataset.json" in entry["message"]
    assert process.stderr == ""


def visible_lines(text):
    """Return the lines that stay on a terminal: those that end in a carriage return are overwritten."""
    return [line.rsplit("\r", 1)[-1] for line in text.splitlines()]


def test_a_job_that_cannot_write_its_shards_ends_with_one_sentence_and_goes_on_later(corpus, tmp_path):
    job = [sys.executable, "-m", "preprocessing", "--input", corpus, "--output", tmp_path / "data", *TINY]
    command = shlex.join(map(str, job))
    # As on a full disk, a write fails. The limit is in KiB.
    limited = subprocess.run(
        ["bash", "-c", f"trap '' XFSZ; ulimit -f 8; {command}"], capture_output=True, text=True, check=False
    )
    assert limited.returncode == 4, limited.stderr
    (line,) = [line for line in visible_lines(limited.stderr) if line.strip() and "clips/s" not in line]
    assert "File too large" in line
    assert "Traceback" not in limited.stderr
    assert not (tmp_path / "data/dataset.json").exists()
    again = subprocess.run(job, capture_output=True, text=True, check=False)
    assert again.returncode == 0, again.stderr
    assert (tmp_path / "data/dataset.json").exists()


@pytest.mark.long
def test_a_successful_run_prints_no_output_of_libraries(corpus, tmp_path):
    preprocessed = run_module("preprocessing", "--input", corpus, "--output", tmp_path / "data", *TINY)
    assert preprocessed.returncode == 0, preprocessed.stderr
    trained = run_module(
        "trainer",
        "train",
        "--data",
        tmp_path / "data",
        "--run",
        tmp_path / "run",
        "--epochs",
        "1",
        *WAVE_FLAGS,
    )
    assert trained.returncode == 0, trained.stderr
    tensorboard = run_module("tensorboard.main", "--inspect", "--logdir", tmp_path / "run/events")
    assert "test/snr_db" in tensorboard.stdout, tensorboard.stderr
    flags = ["--run", tmp_path / "run", "--output", tmp_path / "m", "--count", "1"]
    generated = run_module("trainer", "generate", *flags)
    assert generated.returncode == 0, generated.stderr
    for process in (preprocessed, trained, generated):
        unexpected = [
            line
            for line in visible_lines(process.stderr)
            if line.strip() and not re.match(r"(preprocessing|epoch \d+/\d+|generating): ", line)
        ]
        assert unexpected == []
        words = r"warn|deprecat|banner|cuda|oneDNN|addons|E0000|INFO|absl"
        printed = process.stdout.replace("warning: the test split has 2 of the 24 recordings", "")
        assert not re.search(words, printed + process.stderr, re.IGNORECASE)
    assert [line.split()[0] for line in preprocessed.stdout.splitlines()[:5]] == [
        "split", "train", "validation", "test", "quarantined",
    ]  # fmt: skip
    assert "epoch   1  ELBO" in trained.stdout
    assert trained.stdout.strip().endswith("report.html")


def test_warnings_of_the_decoder_about_a_corrupt_mp3_are_printed_with_verbose_only(tmp_path):
    (tmp_path / "in/rock").mkdir(parents=True)
    write_clip(tmp_path / "in/rock/rock.0.mp3", 0, rate_hz=22_050, secs=9.0, format="MP3")
    data = (tmp_path / "in/rock/rock.0.mp3").read_bytes()
    corrupt = data[:3_000] + b"\x00\xff" * 900 + data[6_000:]
    (tmp_path / "in/rock/rock.1.mp3").write_bytes(corrupt)
    flags = ["--input", tmp_path / "in", "--clip-secs", "8", "--sample-rate-hz", "1000"]
    process = run_module("preprocessing", *flags, "--output", tmp_path / "out")
    assert process.returncode == 0
    assert [line for line in visible_lines(process.stderr) if "mpg123" in line or "Note:" in line] == []
    verbose = run_module("preprocessing", *flags, "--output", tmp_path / "2", "--verbose")
    assert "mpg123" in verbose.stderr
    for name in ("records.jsonl", "quarantine.jsonl"):
        assert (tmp_path / "out" / name).read_bytes() == (tmp_path / "2" / name).read_bytes()
    assert len((tmp_path / "out/records.jsonl").read_text().splitlines()) == 2


@pytest.mark.long
def test_a_run_stopped_by_sigterm_resumes_after_its_last_epoch(dataset, tmp_path):
    run = tmp_path / "run"
    command = [
        sys.executable, "-m", "trainer", "train", "--data", str(dataset), "--run", str(run),
        "--epochs", "200", *WAVE_FLAGS,
    ]  # fmt: skip
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        deadline = time.monotonic() + 90
        while not (run / "checkpoints/step-20.index").exists() and time.monotonic() < deadline:
            time.sleep(0.1)
        process.send_signal(signal.SIGTERM)
        _, error = process.communicate(timeout=60)
    assert process.returncode == 75
    assert "stopped on request in epoch" in error
    saved = len((run / "metrics.jsonl").read_text().splitlines())  # complete epochs
    config = json.loads((run / "config.json").read_text())
    (run / "config.json").write_text(json.dumps({**config, "epochs": saved}))  # rather than all 200 epochs
    resumed = run_module("trainer", "train", "--data", dataset, "--run", run, "--epochs", saved + 1)
    assert resumed.returncode == 0, resumed.stderr
    assert f"resuming after epoch {saved}" in resumed.stdout
    rows = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    assert [row["epoch"] for row in rows] == list(range(1, saved + 2))
    assert len({frozenset(row) for row in rows}) == 1


def test_preprocessing_stopped_by_sigterm_leaves_no_dataset_and_no_staging_folder(tmp_path):
    folder = tmp_path / "in/blues"
    write_clip(folder / "blues.00000.wav", 0, rate_hz=44_100, secs=30.0)
    for number in range(1, 2_000):
        (folder / f"blues.{number:05d}.wav").hardlink_to(folder / "blues.00000.wav")
    command = [sys.executable, "-m", "preprocessing", "--input", folder.parent, "--output", tmp_path / "o"]
    for _ in range(3):  # so that a worker is likely inside a C library, where Python's shutdown would abort
        with subprocess.Popen([*map(str, command)], stderr=subprocess.PIPE, text=True) as process:
            deadline = time.monotonic() + 60
            while not list((tmp_path / "o").glob(".staging/*/*.tfrecord")) and time.monotonic() < deadline:
                time.sleep(0.05)
            process.send_signal(signal.SIGTERM)
            _, error = process.communicate(timeout=60)
        assert process.returncode == 75
        assert "run the same command again" in error
        assert not (tmp_path / "o/dataset.json").exists()
        assert not (tmp_path / "o/.staging").exists()


@pytest.fixture
def no_credentials(monkeypatch):
    for name in ("STORAGE_EMULATOR_HOST", "GOOGLE_APPLICATION_CREDENTIALS"):
        monkeypatch.setenv(name, "")  # so that a value that the program sets is restored, too
        monkeypatch.delenv(name)


def test_a_storage_emulator_is_used_with_dummy_credentials(tmp_path, no_credentials, monkeypatch):
    monkeypatch.setenv("STORAGE_EMULATOR_HOST", "http://127.0.0.1:1")
    assert preprocess(["inspect", str(tmp_path)]) == 3
    credentials, _ = google.auth.default()  # the call by which Beam gets them
    assert credentials.valid  # no request for a new token
    assert credentials.token == "none"


def test_the_users_own_credentials_are_kept(tmp_path, no_credentials, monkeypatch):
    assert preprocess(["inspect", str(tmp_path)]) == 3
    assert "GOOGLE_APPLICATION_CREDENTIALS" not in os.environ
    monkeypatch.setenv("STORAGE_EMULATOR_HOST", "http://127.0.0.1:1")
    monkeypatch.setenv("GOOGLE_APPLICATION_CREDENTIALS", "own.json")
    assert preprocess(["inspect", str(tmp_path)]) == 3
    assert os.environ["GOOGLE_APPLICATION_CREDENTIALS"] == "own.json"
