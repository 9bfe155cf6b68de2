"""A job killed at any moment, and run again: the same dataset, to the bit."""

import random
import subprocess
import sys
import time

import pytest
from conftest import TINY, write_clip

KILLS = 20


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
