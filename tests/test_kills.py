"""Programs killed at any moment, and run again: the same dataset and the same run, to the bit."""

import json
import random
import subprocess
import sys
import time

import pytest
import tensorflow as tf
from conftest import TINY, WAVE_FLAGS, write_clip

from preprocessing import lease

KILLS = 20
KILLED_RUNS = 5


def content(folder):
    """A dataset's files; a lock that its owner's death left is none."""
    files = (path for path in folder.iterdir() if path.is_file() and path.name != lease.NAME)
    return {path.name: path.read_bytes() for path in files}


def final(run):
    """What a run ended with: its rows without times, and the bytes of its weights, average and optimizer."""
    rows = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    figures = [{name: value for name, value in row.items() if "sec" not in name} for row in rows]
    newest = tf.train.load_checkpoint(tf.train.latest_checkpoint(str(run / "checkpoints")))
    kept = ("averaged", "model", "optimizer", "step")
    names = [name for name in newest.get_variable_to_shape_map() if name.startswith(kept)]
    return figures, {name: newest.get_tensor(name).tobytes() for name in sorted(names)}


def start(module, *flags):
    command = [sys.executable, "-m", module, *map(str, flags)]
    return subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)


def killed(process, after_secs):
    """Ends a program with SIGKILL, unless it was quicker; returns whether it was killed."""
    try:
        process.wait(after_secs)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
        return True
    return False


def secs_of(process):
    """How long a program takes that nobody kills."""
    started = time.monotonic()
    assert process.wait() == 0
    return time.monotonic() - started


@pytest.mark.slow
def test_twenty_killed_jobs_end_as_one_that_was_not(tmp_path):
    for number in range(60):
        write_clip(tmp_path / f"in/rock/rock.{number:05d}.wav", number)
    write_clip(tmp_path / "in/rock/again.flac", 3)
    (tmp_path / "in/rock/broken.mp3").write_bytes(b"no audio")

    def job(output):
        return start("preprocessing", "--input", tmp_path / "in", "--output", output, "--shards", "6", *TINY)

    whole_secs = secs_of(job(tmp_path / "whole"))
    expected = content(tmp_path / "whole")
    rng = random.Random(0)
    interrupted = 0
    for kill in range(KILLS):
        output = tmp_path / f"killed-{kill}"
        # Most of a small job is start-up; its second half is where there is something to lose.
        interrupted += killed(job(output), whole_secs * rng.uniform(0.4, 1.0))
        assert not (output / "dataset.json").exists() or content(output) == expected
        assert job(output).wait() == 0
        assert content(output) == expected
        assert not (output / ".staging").exists()
    assert interrupted > KILLS / 2


@pytest.mark.slow
def test_killed_runs_end_in_the_same_bits(dataset, tmp_path):
    settings = [
        "--data",
        dataset,
        *WAVE_FLAGS,
        "--epochs",
        "12",
        "--checkpoint-secs",
        "0.2",
        "--ema-decay",
        "0.9",
    ]

    def job(run):
        return start("trainer", "train", "--run", run, *settings)

    whole_secs = secs_of(job(tmp_path / "whole"))
    expected = final(tmp_path / "whole")
    rng = random.Random(0)
    interrupted = 0
    for kill in range(KILLED_RUNS):
        run = tmp_path / f"killed-{kill}"
        for _ in range(2):
            interrupted += killed(job(run), whole_secs * rng.uniform(0.4, 0.9))
        assert job(run).wait() == 0
        assert final(run) == expected
    assert interrupted > KILLED_RUNS
