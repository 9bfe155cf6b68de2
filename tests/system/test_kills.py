"""Programs that are killed with SIGKILL at random moments and restarted produce the same bits."""

import json
import random
import subprocess
import sys
import time

import pytest
import tensorflow as tf
from support.tiny_corpus import TINY, WAVE_FLAGS, write_clip

from preprocessing.storage import lease
from trainer.data.disk_cache import FETCHING, ROOT_NAME
from trainer.runs.directory import working_copy
from trainer.runs.storage import GcsPrefix

KILLS = 20
KILLED_RUNS = 5  # for each stage of a run


def read_files(folder):
    """Read a dataset's files, except for the lock of a killed process."""
    files = (path for path in folder.iterdir() if path.is_file() and path.name != lease.LEASE_NAME)
    return {path.name: path.read_bytes() for path in files}


def read_result(run):
    """Read a run's metrics, without times, and the bytes of weights, averaged weights and optimizer state."""
    rows = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    metrics = [{name: value for name, value in row.items() if "sec" not in name} for row in rows]
    newest = tf.train.load_checkpoint(tf.train.latest_checkpoint(str(run / "checkpoints")))
    prefixes = ("averaged", "model", "optimizer", "step")
    names = [name for name in newest.get_variable_to_shape_map() if name.startswith(prefixes)]
    return metrics, {name: newest.get_tensor(name).tobytes() for name in sorted(names)}


def start(module, *flags, log=subprocess.DEVNULL):
    return subprocess.Popen([sys.executable, "-m", module, *map(str, flags)], stdout=log, stderr=log)


def kill_after(process, after_secs):
    """Kill a process after `after_secs`; return False if it ended earlier."""
    try:
        process.wait(after_secs)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
        return True
    return False


def duration_secs(process):
    """Wait for a process to succeed and return its duration."""
    started = time.monotonic()
    assert process.wait() == 0
    return time.monotonic() - started


@pytest.mark.slow
def test_killed_and_restarted_jobs_write_the_dataset_of_an_uninterrupted_job(tmp_path):
    for number in range(60):
        write_clip(tmp_path / f"in/rock/rock.{number:05d}.wav", number)
    write_clip(tmp_path / "in/rock/duplicate.flac", 3)
    (tmp_path / "in/rock/corrupt.mp3").write_bytes(b"not audio")

    def job(output):
        return start("preprocessing", "--input", tmp_path / "in", "--output", output, "--shards", "6", *TINY)

    full_secs = duration_secs(job(tmp_path / "uninterrupted"))
    expected = read_files(tmp_path / "uninterrupted")
    rng = random.Random(0)
    interrupted = 0
    for kill in range(KILLS):
        output = tmp_path / f"killed-{kill}"
        # During the first half, a small job starts up and has written nothing.
        interrupted += kill_after(job(output), full_secs * rng.uniform(0.4, 1.0))
        assert not (output / "dataset.json").exists() or read_files(output) == expected
        assert job(output).wait() == 0
        assert read_files(output) == expected
        assert not (output / ".staging").exists()
    assert interrupted > KILLS / 2


def kill_when(process, is_time):
    """Kill a process as soon as `is_time()` returns True; return False if it ended earlier."""
    while process.poll() is None:
        if is_time():
            process.kill()
            process.wait()
            return True
        time.sleep(0.001)
    return False


def after(secs, condition=lambda: True):
    """Return a predicate that is true `secs` after `condition` first became true."""
    start_times = []

    def is_time():
        if not start_times and condition():
            start_times.append(time.monotonic())
        return bool(start_times) and time.monotonic() - start_times[0] >= secs

    return is_time


def nth_time(number, condition):
    """Return a predicate that is true once `condition` has become true for the `number`th time."""
    values = [False]

    def is_time():
        value = condition()
        if value != values[-1]:
            values.append(value)
        return values.count(True) >= number

    return is_time


@pytest.fixture(scope="module")
def uninterrupted(dataset, tmp_path_factory):
    """Return the flags of an uninterrupted run, its result, and the seconds of start-up and of training."""
    flags = [
        "--data",
        dataset,
        *WAVE_FLAGS,
        "--prior-share",
        "0.5",
        "--epochs",
        "8",
        "--checkpoint-secs",
        "0.2",
    ]
    run = tmp_path_factory.mktemp("uninterrupted") / "run"
    started = time.monotonic()
    process = start("trainer", "train", "--run", run, *flags)
    while not (run / "config.json").exists() and process.poll() is None:
        time.sleep(0.01)
    start_secs = time.monotonic() - started
    assert process.wait() == 0
    return flags, read_result(run), start_secs, time.monotonic() - started - start_secs


def flags_of_smallest_cache(dataset, uri):
    """Upload a dataset; return the flags with which each epoch fetches each shard."""
    GcsPrefix(uri).upload([path.name for path in dataset.iterdir() if path.is_file()], dataset)
    shards = json.loads((dataset / "dataset.json").read_text())["shards"]
    open_bytes = [
        max(shard["bytes"] for shard in shards if (shard["split"] == "train") == is_train)
        for is_train in (0, 1)
    ]
    return ["--data", uri, "--clip-cache-gb", "0", "--cache-disk-gb", (sum(open_bytes) + 1) / 1e9]


@pytest.mark.slow
@pytest.mark.parametrize("number", range(KILLED_RUNS))
@pytest.mark.parametrize("stage", ["start-up", "mid-epoch", "checkpoint", "upload", "fetch"])
def test_a_killed_and_restarted_run_ends_with_the_bits_of_an_uninterrupted_run(
    uninterrupted, dataset, storage_server, proxy, tmp_path, monkeypatch, stage, number
):
    flags, expected, start_secs, train_secs = uninterrupted
    if stage == "fetch":
        flags = [*flags, *flags_of_smallest_cache(dataset, f"{storage_server}/killed/dataset")]
    rng = random.Random(f"{stage} {number}")
    monkeypatch.setenv("STORAGE_LEASE_SECS", "2")
    proxy.fault_rate = 0.1
    is_remote = stage == "upload" or number % 2 == 0
    run = f"{storage_server}/killed/{stage}-{number}" if is_remote else str(tmp_path / "run")
    copy = working_copy(run, tmp_path / "cache")
    upload_queue = copy.with_name(f"{copy.name}.upload-queue")

    def job(cache):
        with (tmp_path / f"{cache}.log").open("w") as log:
            return start("trainer", "train", "--run", run, "--cache-dir", tmp_path / cache, *flags, log=log)

    is_time = {
        "start-up": after(start_secs * rng.uniform(0, 1)),
        "mid-epoch": after(train_secs * rng.uniform(0, 0.7), (copy / "config.json").exists),
        "checkpoint": nth_time(rng.randint(1, 8), lambda: any(copy.glob("checkpoints/*temp*"))),
        "fetch": nth_time(
            rng.randint(1, 12), lambda: any((tmp_path / "cache" / ROOT_NAME).glob(f"{FETCHING}*/*"))
        ),
        "upload": nth_time(rng.randint(1, 4), lambda: upload_queue.exists() and any(upload_queue.iterdir())),
    }
    assert kill_when(job("cache"), is_time[stage])
    # In a bucket, some runs are resumed with an empty cache.
    cache = "empty-cache" if is_remote and number % 4 == 0 else "cache"
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
