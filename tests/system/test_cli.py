"""Both programs as a person meets them: in a process of their own, on a screen."""

import json
import os
import re
import signal
import subprocess
import sys
import time

import google.auth
import pytest
from support.tiny_corpus import TINY, WAVE_FLAGS, write_clip

from preprocessing.__main__ import main as preprocess


def call(*args, timeout_secs=300):
    clean = {name: value for name, value in os.environ.items() if name != "TF_CPP_MIN_LOG_LEVEL"}
    return subprocess.run(
        [sys.executable, "-m", *map(str, args)],
        capture_output=True,
        text=True,
        timeout=timeout_secs,
        env=clean,
        check=False,
    )


HELPS = [
    ["preprocessing", "--help"],
    ["preprocessing.synthetic", "--help"],
    ["trainer", "--help"],
    ["trainer", "train", "--help"],
    ["trainer", "generate", "--help"],
    ["trainer", "retrain", "--help"],
    ["trainer", "champion", "promote", "--help"],
]


@pytest.mark.parametrize("command", HELPS, ids=" ".join)
def test_help_is_quick_and_explains_every_flag(command):
    times = []
    for _ in range(3):
        started = time.monotonic()
        answer = call(*command)
        times.append(time.monotonic() - started)
    assert answer.returncode == 0
    assert answer.stderr == ""
    assert min(times) < 1.0
    # Every flag is followed by words, not by the next flag.
    text = re.sub(r"^usage:.*?\n\n", "", answer.stdout, flags=re.DOTALL)
    for flag in re.finditer(r"^  (-h, )?(--[\w-]+)(?P<rest>.*(?:\n {6,}.*)*)", text, re.MULTILINE):
        assert re.search(r"[a-z]{2,} [a-z]", flag["rest"]), f"{flag[2]} is not explained"


@pytest.mark.parametrize(
    ("command", "code", "said"),
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
def test_what_is_wrong_is_one_sentence_and_a_code(tmp_path, command, code, said):
    answer = call(*(part.format(tmp=tmp_path) for part in command))
    assert answer.returncode == code
    assert said in answer.stderr
    assert len(answer.stderr.strip().splitlines()) == 1
    assert answer.stdout == ""


def test_a_collector_of_logs_gets_the_error_as_a_line(tmp_path):
    run = ["--run", tmp_path / "r", "--log-format", "json", "--no-jit"]
    answer = call("trainer", "train", "--data", tmp_path / "no", *run)
    line = json.loads(answer.stdout)
    assert (answer.returncode, line["exit_code"], line["severity"]) == (3, 3, "ERROR")
    assert "no dataset.json" in line["message"]
    assert answer.stderr == ""


def on_screen(text):
    """What stays on a terminal: progress lines end in a carriage return and are overwritten."""
    return [line.rsplit("\r", 1)[-1] for line in text.splitlines()]


def test_a_normal_run_shows_only_our_own_lines(corpus, tmp_path):
    made = call("preprocessing", "--input", corpus, "--output", tmp_path / "data", *TINY)
    assert made.returncode == 0, made.stderr
    trained = call(
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
    board = call("tensorboard.main", "--inspect", "--logdir", tmp_path / "run/events")
    assert "test/snr_db" in board.stdout, board.stderr
    music = call("trainer", "generate", "--run", tmp_path / "run", "--output", tmp_path / "m", "--count", "1")
    assert music.returncode == 0, music.stderr
    for answer in (made, trained, music):
        foreign = [
            line
            for line in on_screen(answer.stderr)
            if line.strip() and not re.match(r"(preprocessing|epoch \d+/\d+|generating): ", line)
        ]
        assert foreign == []
        words = r"warn|deprecat|banner|cuda|oneDNN|addons|E0000|INFO|absl"
        assert not re.search(words, answer.stdout + answer.stderr, re.IGNORECASE)
    assert [line.split()[0] for line in made.stdout.splitlines()[:5]] == [
        "split", "train", "validation", "test", "quarantined",
    ]  # fmt: skip
    assert "epoch   1  ELBO" in trained.stdout
    assert trained.stdout.strip().endswith("report.html")


def test_a_broken_mp3_is_read_as_far_as_it_goes_without_its_decoders_noise(tmp_path):
    (tmp_path / "in/rock").mkdir(parents=True)
    write_clip(tmp_path / "in/rock/rock.0.mp3", 0, rate_hz=22_050, secs=9.0, format="MP3")
    data = (tmp_path / "in/rock/rock.0.mp3").read_bytes()
    broken = data[:3_000] + b"\x00\xff" * 900 + data[6_000:]
    (tmp_path / "in/rock/rock.1.mp3").write_bytes(broken)
    flags = ["--clip-secs", "8", "--sample-rate-hz", "1000"]
    made = call("preprocessing", "--input", tmp_path / "in", "--output", tmp_path / "out", *flags)
    assert made.returncode == 0
    assert [line for line in on_screen(made.stderr) if "mpg123" in line or "Note:" in line] == []
    loud = call("preprocessing", "--input", tmp_path / "in", "--output", tmp_path / "2", *flags, "--verbose")
    assert "mpg123" in loud.stderr  # the noise is there to be silenced
    for name in ("records.jsonl", "quarantine.jsonl"):
        assert (tmp_path / "out" / name).read_bytes() == (tmp_path / "2" / name).read_bytes()
    assert len((tmp_path / "out/records.jsonl").read_text().splitlines()) == 2


def test_stopped_by_a_signal_and_started_again(dataset, tmp_path):
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
    saved = len((run / "metrics.jsonl").read_text().splitlines())  # epochs that are whole and measured
    config = json.loads((run / "config.json").read_text())
    (run / "config.json").write_text(json.dumps({**config, "epochs": saved}))  # 200 epochs are not waited for
    again = call("trainer", "train", "--data", dataset, "--run", run, "--epochs", saved + 1)
    assert again.returncode == 0, again.stderr
    assert f"resuming after epoch {saved}" in again.stdout
    rows = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    assert [row["epoch"] for row in rows] == list(range(1, saved + 2))
    assert len({frozenset(row) for row in rows}) == 1


def test_preprocessing_stopped_by_a_signal_leaves_no_dataset(tmp_path):
    many = tmp_path / "many/blues"
    write_clip(many / "blues.00000.wav", 0, rate_hz=44_100, secs=30.0)
    for number in range(1, 2_000):
        (many / f"blues.{number:05d}.wav").hardlink_to(many / "blues.00000.wav")
    command = [sys.executable, "-m", "preprocessing", "--input", many.parent, "--output", tmp_path / "o"]
    for _ in range(3):  # its workers must be in the middle of a C library, at whose end Python once aborted
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
        monkeypatch.setenv(name, "")  # so that what the program sets is undone, too
        monkeypatch.delenv(name)


def test_nobody_looks_for_credentials_where_storage_is_an_emulator(tmp_path, no_credentials, monkeypatch):
    monkeypatch.setenv("STORAGE_EMULATOR_HOST", "http://127.0.0.1:1")
    assert preprocess(["inspect", str(tmp_path)]) == 3
    credentials, _ = google.auth.default()  # as Beam asks for them
    assert credentials.valid  # nobody is asked for a new token
    assert credentials.token == "none"


def test_real_storage_gets_the_users_own_credentials(tmp_path, no_credentials, monkeypatch):
    assert preprocess(["inspect", str(tmp_path)]) == 3
    assert "GOOGLE_APPLICATION_CREDENTIALS" not in os.environ
    monkeypatch.setenv("STORAGE_EMULATOR_HOST", "http://127.0.0.1:1")
    monkeypatch.setenv("GOOGLE_APPLICATION_CREDENTIALS", "own.json")
    assert preprocess(["inspect", str(tmp_path)]) == 3
    assert os.environ["GOOGLE_APPLICATION_CREDENTIALS"] == "own.json"
