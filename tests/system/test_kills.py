"""Programs killed with SIGKILL at random moments and restarted produce the same bits."""

import json
import random
import subprocess
import sys
import time

import pytest
import tensorflow as tf
from support.tiny_corpus import TINY, WAVE_FLAGS, write_clip

from preprocessing.storage import lease
from trainer.runs.directory import working_copy
from trainer.runs.storage import GcsPrefix

KILLS = 20
KILLED_RUNS = 5  # for each kind of moment


def read_files(folder):
    """Read a dataset's files, except a lock that a killed owner left."""
    files = (path for path in folder.iterdir() if path.is_file() and path.name != lease.LEASE_NAME)
    return {path.name: path.read_bytes() for path in files}


def read_result(run):
    """Read a run's result: its metrics without times, and the bytes of weights, average and optimizer."""
    rows = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    figures = [{name: value for name, value in row.items() if "sec" not in name} for row in rows]
    newest = tf.train.load_checkpoint(tf.train.latest_checkpoint(str(run / "checkpoints")))
    prefixes = ("averaged", "model", "optimizer", "step")
    names = [name for name in newest.get_variable_to_shape_map() if name.startswith(prefixes)]
    return figures, {name: newest.get_tensor(name).tobytes() for name in sorted(names)}


def start(module, *flags, log=subprocess.DEVNULL):
    return subprocess.Popen([sys.executable, "-m", module, *map(str, flags)], stdout=log, stderr=log)


def kill_after(process, after_secs):
    """Kill a process after some time; return False if it ended before."""
    try:
        process.wait(after_secs)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
        return True
    return False


def duration_secs(process):
    """Wait for a process that nobody kills and return how long it took."""
    started = time.monotonic()
    assert process.wait() == 0
    return time.monotonic() - started


@pytest.mark.slow
def test_twenty_killed_jobs_produce_the_dataset_of_an_uninterrupted_one(tmp_path):
    for number in range(60):
        write_clip(tmp_path / f"in/rock/rock.{number:05d}.wav", number)
    write_clip(tmp_path / "in/rock/again.flac", 3)
    (tmp_path / "in/rock/broken.mp3").write_bytes(b"no audio")

    def job(output):
        return start("preprocessing", "--input", tmp_path / "in", "--output", output, "--shards", "6", *TINY)

    whole_secs = duration_secs(job(tmp_path / "whole"))
    expected = read_files(tmp_path / "whole")
    rng = random.Random(0)
    interrupted = 0
    for kill in range(KILLS):
        output = tmp_path / f"killed-{kill}"
        # The first half of a small job is start-up, with nothing to lose.
        interrupted += kill_after(job(output), whole_secs * rng.uniform(0.4, 1.0))
        assert not (output / "dataset.json").exists() or read_files(output) == expected
        assert job(output).wait() == 0
        assert read_files(output) == expected
        assert not (output / ".staging").exists()
    assert interrupted > KILLS / 2


def kill_when(process, is_time):
    """Kill a process as soon as `is_time()`; return False if it ended before."""
    while process.poll() is None:
        if is_time():
            process.kill()
            process.wait()
            return True
        time.sleep(0.001)
    return False


def after(secs, condition=lambda: True):
    """Return a predicate that holds `secs` after `condition` first held."""
    since = []

    def is_time():
        if not since and condition():
            since.append(time.monotonic())
        return bool(since) and time.monotonic() - since[0] >= secs

    return is_time


def nth_time(number, condition):
    """Return a predicate that holds once `condition` has become true for the `number`th time."""
    seen = [False]

    def is_time():
        now = condition()
        if now != seen[-1]:
            seen.append(now)
        return seen.count(True) >= number

    return is_time


@pytest.fixture(scope="module")
def uninterrupted(dataset, tmp_path_factory):
    """An uninterrupted run: its flags, its result, and its seconds of start-up and of training."""
    flags = ["--data", dataset, *WAVE_FLAGS, "--epochs", "8", "--checkpoint-secs", "0.2"]
    run = tmp_path_factory.mktemp("uninterrupted") / "run"
    started = time.monotonic()
    process = start("trainer", "train", "--run", run, *flags)
    while not (run / "config.json").exists() and process.poll() is None:
        time.sleep(0.01)
    start_secs = time.monotonic() - started
    assert process.wait() == 0
    return flags, read_result(run), start_secs, time.monotonic() - started - start_secs


@pytest.mark.slow
@pytest.mark.parametrize("number", range(KILLED_RUNS))
@pytest.mark.parametrize("moment", ["start-up", "mid-epoch", "checkpoint", "upload"])
def test_a_killed_run_ends_in_the_same_bits(
    uninterrupted, storage_server, proxy, tmp_path, monkeypatch, moment, number
):
    flags, expected, start_secs, train_secs = uninterrupted
    rng = random.Random(f"{moment} {number}")
    monkeypatch.setenv("STORAGE_LEASE_SECS", "2")
    proxy.share = 0.1
    is_remote = moment == "upload" or number % 2 == 0
    run = f"{storage_server}/killed/{moment}-{number}" if is_remote else str(tmp_path / "run")
    copy = working_copy(run, tmp_path / "cache")
    upload_queue = copy.with_name(f"{copy.name}.upload-queue")

    def job(cache):
        with (tmp_path / f"{cache}.log").open("w") as log:
            return start("trainer", "train", "--run", run, "--cache-dir", tmp_path / cache, *flags, log=log)

    is_time = {
        "start-up": after(start_secs * rng.uniform(0, 1)),
        "mid-epoch": after(train_secs * rng.uniform(0, 0.7), (copy / "config.json").exists),
        "checkpoint": nth_time(rng.randint(1, 8), lambda: any(copy.glob("checkpoints/*temp*"))),
        "upload": nth_time(rng.randint(1, 4), lambda: upload_queue.exists() and any(upload_queue.iterdir())),
    }
    assert kill_when(job("cache"), is_time[moment])
    # On a bucket, every other run resumes with an empty cache.
    cache = "another" if is_remote and number % 4 == 0 else "cache"
    assert job(cache).wait() == 0, (tmp_path / f"{cache}.log").read_text()[-1000:]
    if is_remote:
        prefix = GcsPrefix(run)
        prefix.download(
            [name for name in prefix.list_names() if name != lease.LEASE_NAME], tmp_path / "bucket"
        )
    rows, values = read_result(tmp_path / "bucket" if is_remote else copy)
    assert rows == expected[0]
    assert [
        name for name in values.keys() | expected[1].keys() if values.get(name) != expected[1].get(name)
    ] == []
