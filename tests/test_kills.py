"""Programs killed at any moment, and run again: the same dataset and the same run, to the bit."""

import json
import random
import subprocess
import sys
import time

import pytest
import tensorflow as tf
from conftest import TINY, WAVE_FLAGS, write_clip

KILLS = 20
KILLED_RUNS = 5


def content(folder):
    return {path.name: path.read_bytes() for path in folder.iterdir() if path.is_file()}


@pytest.mark.slow
def test_twenty_killed_jobs_end_as_one_that_was_not(tmp_path):
    for number in range(60):
        write_clip(tmp_path / f"in/rock/rock.{number:05d}.wav", number)
    write_clip(tmp_path / "in/rock/again.flac", 3)
    (tmp_path / "in/rock/broken.mp3").write_bytes(b"no audio")

    def job(output):
        command = [
            sys.executable,
            "-m",
            "preprocessing",
            "--input",
            str(tmp_path / "in"),
            "--output",
            str(output),
        ]
        return subprocess.Popen(
            [*command, "--shards", "6", *TINY], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )

    started = time.monotonic()
    assert job(tmp_path / "whole").wait() == 0
    whole_secs = time.monotonic() - started
    expected = content(tmp_path / "whole")
    rng = random.Random(0)
    interrupted = 0
    for kill in range(KILLS):
        output = tmp_path / f"killed-{kill}"
        running = job(output)
        try:
            # Most of a small job is start-up; its second half is where there is something to lose.
            running.wait(whole_secs * rng.uniform(0.4, 1.0))
        except subprocess.TimeoutExpired:
            running.kill()
            running.wait()
            interrupted += 1
            assert not (output / "dataset.json").exists() or content(output) == expected
        assert job(output).wait() == 0
        assert content(output) == expected
        assert not (output / ".staging").exists()
    assert interrupted > KILLS / 2


def final(run):
    """What a run ended with: its rows without times, and the bytes of its weights and optimizer."""
    rows = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    figures = [{name: value for name, value in row.items() if "sec" not in name} for row in rows]
    newest = tf.train.load_checkpoint(tf.train.latest_checkpoint(str(run / "checkpoints")))
    names = [
        name for name in newest.get_variable_to_shape_map() if name.startswith(("model", "optimizer", "step"))
    ]
    return figures, {name: newest.get_tensor(name).tobytes() for name in sorted(names)}


@pytest.mark.slow
def test_killed_runs_end_in_the_same_bits(dataset, tmp_path):
    def job(run):
        command = [
            sys.executable,
            "-m",
            "trainer",
            "train",
            "--data",
            str(dataset),
            "--run",
            str(run),
            *WAVE_FLAGS,
        ]
        command += ["--epochs", "12", "--checkpoint-secs", "0.2"]
        return subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)

    started = time.monotonic()
    assert job(tmp_path / "whole").wait() == 0
    whole_secs = time.monotonic() - started
    expected = final(tmp_path / "whole")
    rng = random.Random(0)
    interrupted = 0
    for kill in range(KILLED_RUNS):
        run = tmp_path / f"killed-{kill}"
        for _ in range(2):
            running = job(run)
            try:
                running.wait(whole_secs * rng.uniform(0.4, 0.9))
            except subprocess.TimeoutExpired:
                running.kill()
                running.wait()
                interrupted += 1
        assert job(run).wait() == 0
        assert final(run) == expected
    assert interrupted > KILLED_RUNS
