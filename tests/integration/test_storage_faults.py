"""Storage faults, injected by a proxy: no data is lost, no checkpoint is torn, and errors are reported."""

import contextlib
import os
import random
import signal
import subprocess
import sys
import threading
import time

import pytest
import tensorflow as tf
from support.services.faulty_proxy import FAULTS, outage
from support.tiny_corpus import WAVE_FLAGS

from preprocessing.errors import STORAGE_FAILED, USAGE, CommandError
from preprocessing.storage import lease
from trainer.__main__ import main as trainer
from trainer.runs import mirror
from trainer.runs.directory import CHECKPOINTS, POINTER, READ_ATTEMPTS, RunDirectory, fetch_run
from trainer.runs.storage import SINGLE_REQUEST_BYTES, GcsPrefix

FAULT_RATE = 0.3  # of all requests


def bucket_content(uri):
    """Read all objects except the lease."""
    prefix = GcsPrefix(uri)
    return {name: prefix.read(name) for name in prefix.list_names() if name != lease.LEASE_NAME}


def folder_content(folder):
    files = (path for path in folder.rglob("*") if path.is_file())
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in files}


def differing_names(one, other):
    """List the names whose content differs; pytest would take hours to show the difference of the contents."""
    return sorted(name for name in one.keys() | other.keys() if one.get(name) != other.get(name))


@pytest.fixture
def files(tmp_path):
    """Ten files of 0 to 200 KB."""
    rng = random.Random(0)
    folder = tmp_path / "files"
    for number in range(10):
        path = folder / f"{number % 3}/{number}.bin"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(rng.randbytes(number**3 * 300))
    return folder


@pytest.mark.parametrize("fault", FAULTS)
def test_every_fault_is_retried(storage_server, proxy, monkeypatch, tmp_path, files, fault):
    monkeypatch.setenv("STORAGE_ANSWER_SECS", "0.3")
    proxy.faults, proxy.fault_rate, proxy.late_secs = (fault,), 0.5, 0.5
    expected = folder_content(files)
    prefix = GcsPrefix(f"{storage_server}/faults/{fault}")
    prefix.upload(sorted(expected), files)
    assert prefix.list_names() == sorted(expected)
    prefix.download(sorted(expected), tmp_path / "back")
    assert differing_names(folder_content(tmp_path / "back"), expected) == []
    prefix.write("0/9.bin", b"changed")
    assert prefix.read("0/9.bin") == b"changed"
    assert prefix.read("missing") is None
    prefix.delete("0/0.bin")
    assert proxy.counts[fault] > 0
    proxy.fault_rate = 0.0
    del expected["0/0.bin"]
    assert differing_names(bucket_content(prefix.uri), {**expected, "0/9.bin": b"changed"}) == []


def test_a_delayed_write_changes_nothing(storage_server, proxy, monkeypatch):
    monkeypatch.setenv("STORAGE_ANSWER_SECS", "0.2")
    proxy.planned, proxy.late_secs = ["late"], 1.0
    prefix = GcsPrefix(f"{storage_server}/late")
    prefix.write("pointer", b"first")
    prefix.write("pointer", b"second")
    before = proxy.counts["passed on"]
    deadline = time.monotonic() + 20
    while proxy.counts["passed on"] == before and time.monotonic() < deadline:
        time.sleep(0.05)
    assert proxy.counts["passed on"] == before + 1
    assert prefix.read("pointer") == b"second"
    GcsPrefix(prefix.uri).write("pointer", b"from another process")
    prefix.write("pointer", b"third")  # the last writer wins: a lease keeps other writers away
    assert prefix.read("pointer") == b"third"


def test_a_large_file_is_uploaded_in_parts(storage_server, proxy, tmp_path):
    data = random.Random(0).randbytes(2 * SINGLE_REQUEST_BYTES + 12_345)
    (tmp_path / "large.bin").write_bytes(data)
    prefix = GcsPrefix(f"{storage_server}/large")
    proxy.planned = ["503", "reset", "flipped upload"]
    prefix.upload(["large.bin"], tmp_path)
    assert proxy.planned == []
    assert prefix.read("large.bin") == data


@pytest.mark.parametrize("fault", ["503", "reset", "silent", "flipped upload"])
def test_retries_end_at_the_deadline_and_the_run_is_kept(storage_server, proxy, monkeypatch, tmp_path, fault):
    monkeypatch.setenv("STORAGE_LEASE_SECS", "2")  # which is not released within an outage
    uri = f"{storage_server}/runs/deadline-{fault}"
    run = RunDirectory(uri, tmp_path)
    error = pytest.raises(CommandError, match=r"is kept in .* is uploaded when it is started")
    with error as caught, contextlib.ExitStack() as outage_end, run:
        outage_end.enter_context(outage(proxy, (fault,)))  # the run also ends within the outage
        impatience = outage_end.enter_context(monkeypatch.context())
        impatience.setenv("STORAGE_DEADLINE_SECS", "1")
        (run.path / "kept.txt").write_text("kept")
        run.commit()
    assert caught.value.exit_code == STORAGE_FAILED
    assert str(run.path) in str(caught.value)
    assert bucket_content(uri) == {}
    with RunDirectory(uri, tmp_path):
        pass
    assert bucket_content(uri) == {"kept.txt": b"kept"}


@pytest.mark.long
def test_a_training_through_faults_ends_with_a_complete_bucket(storage_server, proxy, dataset, tmp_path):
    data, run = f"{storage_server}/faulty/dataset", f"{storage_server}/faulty/run"
    GcsPrefix(data).upload([path.name for path in dataset.iterdir()], dataset)
    proxy.fault_rate = FAULT_RATE
    flags = ["--data", data, "--run", run, "--cache-dir", str(tmp_path), "--epochs", "5"]
    assert trainer(["train", *flags, *WAVE_FLAGS, "--checkpoint-secs", "0.2"]) == 0
    for number in range(20):  # training downloads little: more reads ensure that each fault occurs
        read = fetch_run(run, tmp_path / f"reader-{number}")
        if set(proxy.counts) >= set(FAULTS):
            break
    proxy.fault_rate, counts = 0.0, dict(proxy.counts)
    (copy,) = (path for path in (tmp_path / "runs").iterdir() if path.is_dir() and not path.suffix)
    assert differing_names(bucket_content(run), folder_content(copy)) == []
    assert set(bucket_content(run)) >= {POINTER, "report.html", "metrics.jsonl"}
    assert folder_content(read).items() <= bucket_content(run).items()
    assert not list(tmp_path.glob("runs/*.unsynced"))
    print(f"requests and faults: {counts}")
    assert set(counts) >= set(FAULTS)
    assert 1 - counts["none"] / counts["requests"] > 0.2


def save_step(step, path):
    """Write a TensorFlow checkpoint in which every value is the step."""
    (path / "config.json").write_text('{"preset": "wave"}')
    weights = {f"weight_{index}": tf.Variable(tf.fill([2_000], float(step))) for index in range(4)}
    manager = tf.train.CheckpointManager(
        tf.train.Checkpoint(**weights), str(path / CHECKPOINTS), max_to_keep=2, checkpoint_name="step"
    )
    manager.save(checkpoint_number=step)


def test_a_reader_never_sees_a_torn_checkpoint(storage_server, proxy, tmp_path):
    uri = f"{storage_server}/runs/torn"
    with RunDirectory(uri, tmp_path / "writer") as run:
        save_step(1, run.path)
    proxy.fault_rate = FAULT_RATE
    ended, seen, failures = threading.Event(), [], []

    def read():
        while not ended.is_set():
            try:
                newest = tf.train.latest_checkpoint(str(fetch_run(uri, tmp_path / "reader") / CHECKPOINTS))
                reader = tf.train.load_checkpoint(newest)
                names = [name for name in reader.get_variable_to_shape_map() if name.startswith("weight")]
                values = {float(value) for name in names for value in reader.get_tensor(name)}
                assert len(names) == 4
                assert values == {float(newest.rsplit("-", 1)[1])}
                seen.extend(values)
            except Exception as error:
                # On a busy machine the run may change during every attempt of a read, which is refused, not torn.
                if f"changed {READ_ATTEMPTS} times" in str(error):
                    continue
                failures.append(error)
                return

    thread = threading.Thread(target=read)
    thread.start()
    try:
        with RunDirectory(uri, tmp_path / "writer") as run:
            step, deadline = 1, time.monotonic() + 60
            # On a busy machine the reader needs more time to see three checkpoints.
            while step < 25 or (len(set(seen)) < 3 and time.monotonic() < deadline):
                step += 1
                save_step(step, run.path)
                run.commit()
                time.sleep(0.1)
            time.sleep(proxy.late_secs)  # a delayed upload of a deleted checkpoint may arrive only now
    finally:
        ended.set()
        thread.join()
    assert failures == []
    assert len(set(seen)) >= 3
    assert seen == sorted(seen)
    proxy.fault_rate = 0.0
    assert differing_names(bucket_content(uri), folder_content(run.path)) == []


def test_a_file_restored_by_a_delayed_upload_is_deleted_at_the_end_of_the_run(storage_server, tmp_path):
    uri = f"{storage_server}/runs/restored"
    with RunDirectory(uri, tmp_path) as run:
        save_step(2, run.path)
        GcsPrefix(uri).write(f"{CHECKPOINTS}/step-1.index", b"delayed")
        GcsPrefix(uri).write("events/of-another-machine", b"kept")
    assert differing_names(bucket_content(uri), folder_content(run.path)) == ["events/of-another-machine"]


def test_a_reader_retries_if_the_checkpoint_is_deleted_while_it_lists(storage_server, tmp_path, monkeypatch):
    uri = f"{storage_server}/runs/listed"
    with RunDirectory(uri, tmp_path / "writer") as run:
        save_step(1, run.path)
    listing, moved = GcsPrefix.list_names, []

    def slow(self):
        if not moved:  # between the pointer and the listing
            moved.append(True)
            with RunDirectory(uri, tmp_path / "writer") as run:
                for step in (2, 3, 4):
                    save_step(step, run.path)
        return listing(self)

    monkeypatch.setattr(GcsPrefix, "list_names", slow)
    newest = tf.train.latest_checkpoint(str(fetch_run(uri, tmp_path / "reader") / CHECKPOINTS))
    assert newest.endswith("step-4")
    assert tf.train.load_checkpoint(newest)


def test_a_sync_lag_is_reported_and_the_queue_bounded(storage_server, proxy, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(mirror, "SYNC_LAG_SECS", 0.2)
    uri = f"{storage_server}/runs/lagging"
    with RunDirectory(uri, tmp_path) as run:
        save_step(1, run.path)
    with RunDirectory(uri, tmp_path) as run:
        started = time.monotonic()
        with outage(proxy, ("503",)):
            for step in range(2, 22):
                save_step(step, run.path)
                run.commit()
                time.sleep(0.05)
            kept = {path.stat().st_ino for path in run.path.rglob("*") if path.is_file()}
            queued = {path.stat().st_ino for path in tmp_path.glob("runs/*.upload-queue/*/*/step-*")}
            # The two snapshots that may wait hold two checkpoints each, and each of those has two files.
            assert len(list(tmp_path.glob("runs/*.upload-queue/*"))) <= 2
            assert len(queued - kept) <= 2 * 2 * 2
        output = capsys.readouterr().out
        deadline = time.monotonic() + 20
        while "caught up" not in output and time.monotonic() < deadline:
            time.sleep(0.05)
            output += capsys.readouterr().out
    warnings = [line for line in output.splitlines() if line.startswith("warning: the bucket lags")]
    assert 1 <= len(warnings) <= 1 + (time.monotonic() - started) / mirror.SYNC_LAG_SECS
    assert "ServiceUnavailable: 503" in warnings[-1]
    assert output.count("the bucket has caught up") == 1
    assert GcsPrefix(uri).read(POINTER) == (run.path / POINTER).read_bytes()
    assert not list(tmp_path.glob("runs/*.upload-queue/*"))


WAITS_FOR_STORAGE = """
import sys
from pathlib import Path
from preprocessing.cli import run_command
from trainer.runs.directory import RunDirectory

def command():
    with RunDirectory(sys.argv[1], Path(sys.argv[2])) as run:
        print("ready", flush=True)
        sys.stdin.readline()
        (run.path / "a.txt").write_text("a")

sys.exit(run_command("waiting", command, False))
"""


def test_a_signal_ends_the_wait_for_unresponsive_storage_at_once(storage_server, proxy, tmp_path):
    command = (sys.executable, "-c", WAITS_FOR_STORAGE, f"{storage_server}/runs/waits", str(tmp_path))
    environment = {**os.environ, "STORAGE_ANSWER_SECS": "60", "STORAGE_LEASE_SECS": "2"}
    program = subprocess.Popen(
        command, env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert program.stdout.readline() == "ready\n"
    with outage(proxy, ("silent",)):
        program.stdin.write("\n")
        program.stdin.flush()
        time.sleep(0.5)
        assert program.poll() is None
        signalled = time.monotonic()
        program.send_signal(signal.SIGTERM)
        assert program.wait(20) == 75
        assert time.monotonic() - signalled < 5
    with RunDirectory(f"{storage_server}/runs/waits", tmp_path) as run:
        assert (run.path / "a.txt").exists()
    assert bucket_content(run.uri) == {"a.txt": b"a"}


def test_an_invalid_deadline_is_a_usage_error(storage_server, monkeypatch):
    monkeypatch.setenv("STORAGE_DEADLINE_SECS", "soon")
    with pytest.raises(CommandError, match="STORAGE_DEADLINE_SECS must be a positive number") as caught:
        GcsPrefix(storage_server).list_names()
    assert caught.value.exit_code == USAGE
