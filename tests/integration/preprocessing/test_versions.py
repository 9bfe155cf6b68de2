"""Versions of a dataset, what is kept from one to the next, and two jobs on one output."""

import json
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
from support.services.faulty_proxy import outage
from support.tiny_corpus import TINY, write_clip

from preprocessing.__main__ import main
from preprocessing.dataset import versions
from preprocessing.dataset.manifest import Manifest
from preprocessing.errors import STORAGE_FAILED, USAGE, CommandError
from preprocessing.pipeline import shards
from preprocessing.storage import beam_files, lease
from preprocessing.storage.gcs import GcsObject, TransientError
from trainer.data.fetch import open_dataset, verify_split


def run(corpus, output, *flags):
    return main(["--input", str(corpus), "--output", str(output), "--shards", "4", *TINY, *flags])


def newest(root):
    folder = versions.latest_version(str(root))
    return folder, Manifest.from_json(beam_files.read(f"{folder}/dataset.json"), folder)


@pytest.fixture
def written(monkeypatch):
    """The names of the shards that are decoded."""
    names = []
    process = shards.WriteShard.process

    def noted(self, element):
        names.append(element[0])
        return process(self, element)

    monkeypatch.setattr(shards.WriteShard, "process", noted)
    return names


@pytest.mark.parametrize("where", ["local", "bucket"])
def test_a_new_file_creates_a_version_in_which_only_its_shard_is_new(
    corpus, tmp_path, storage_server, where, written, capsys
):
    source = tmp_path / "in"
    shutil.copytree(corpus, source)
    output = str(tmp_path / "out") if where == "local" else f"{storage_server}/versions"
    assert run(source, output, "--versioned") == 0
    first, before = newest(output)
    assert first == f"{output}/{before.digest}"
    assert len(written) == len(before.shards) > 3
    written.clear()
    assert run(source, output, "--versioned") == 0
    assert "is up to date" in capsys.readouterr().out
    assert written == []

    write_clip(source / "rock/rock.00077.wav", 577)
    assert run(source, output, "--versioned") == 0
    second, after = newest(output)
    assert after.digest != before.digest
    (changed,) = written
    unchanged = {shard.name: shard for shard in before.shards}
    for shard in after.shards:
        assert (shard == unchanged[shard.name]) == (shard.name != changed)
        assert len(beam_files.read(f"{second}/{shard.name}")) == shard.bytes
    assert main(["inspect", output]) == 0
    source_of_shards, opened = open_dataset(output, tmp_path / "cache")  # as the trainer does
    assert opened == after
    verify_split(source_of_shards, opened, changed.split("-")[0])
    assert beam_files.exists(f"{first}/dataset.json")

    # As if from nothing: what was kept is what would have been made.
    assert run(source, f"{output}-anew") == 0
    for name in ("records.jsonl", "quarantine.jsonl", *(shard.name for shard in after.shards)):
        assert beam_files.read(f"{output}-anew/{name}") == beam_files.read(f"{second}/{name}")
    assert Manifest.from_json(beam_files.read(f"{output}-anew/dataset.json"), "") == after

    # Back to what was: the version is there, and LATEST returns to it.
    (source / "rock/rock.00077.wav").unlink()
    assert run(source, output, "--versioned") == 0
    assert newest(output)[0] == first


def test_a_duplicate_becomes_a_clip_when_its_original_is_removed(tmp_path, written):
    for number in range(12):
        write_clip(tmp_path / f"in/rock/rock.{number:05d}.wav", number)
    write_clip(tmp_path / "in/rock/a copy.flac", 3)
    assert run(tmp_path / "in", tmp_path / "out", "--versioned") == 0
    first, before = newest(tmp_path / "out")
    assert before.quarantined == {"duplicate": 1}
    assert "rock.00003.wav" in beam_files.read(f"{first}/quarantine.jsonl").decode()
    (tmp_path / "in/rock/a copy.flac").unlink()
    assert run(tmp_path / "in", tmp_path / "out", "--versioned") == 0
    _, after = newest(tmp_path / "out")
    assert after.quarantined == {}
    assert sum(shard.records for shard in after.shards) == 12
    # And the other way round: a shard that is kept loses what a new file is the first copy of.
    written.clear()
    write_clip(tmp_path / "in/rock/a copy.flac", 3)
    assert run(tmp_path / "in", tmp_path / "out", "--versioned") == 0
    assert newest(tmp_path / "out")[0] == first
    assert len(written) < len(before.shards)


@pytest.mark.parametrize("where", ["local", "bucket"])
def test_of_two_jobs_on_one_output_one_continues(
    corpus, tmp_path, storage_server, where, capsys, quick_lease
):
    output = str(tmp_path / "out") if where == "local" else f"{storage_server}/two-jobs"
    with lease.acquire(output):
        assert run(corpus, output) == USAGE
    assert "another process (process" in capsys.readouterr().err
    assert not beam_files.exists(f"{output}/dataset.json")
    assert run(corpus, output) == 0
    assert not beam_files.exists(f"{output}/{lease.LEASE_NAME}")


def test_a_lock_ends_with_its_owner(tmp_path):
    program = (
        "import sys, time\nfrom preprocessing.storage import lease\n"
        "with lease.acquire(sys.argv[1]):\n    print('held', flush=True)\n    time.sleep(60)"
    )
    owner = subprocess.Popen(
        [sys.executable, "-W", "ignore", "-c", program, str(tmp_path)], stdout=subprocess.PIPE, text=True
    )
    assert owner.stdout.readline() == "held\n"
    with pytest.raises(CommandError, match=f"process {owner.pid}"), lease.acquire(str(tmp_path)):
        pass
    owner.kill()
    owner.wait()
    with lease.acquire(str(tmp_path)):
        pass


@pytest.fixture
def quick_lease(monkeypatch):
    monkeypatch.setenv("STORAGE_LEASE_SECS", "1")
    before = signal.signal(signal.SIGINT, signal.default_int_handler)  # a worker of xdist ignores it
    yield
    signal.signal(signal.SIGINT, before)


def test_a_lease_is_renewed_expires_and_is_lost(storage_server, quick_lease):
    uri = f"{storage_server}/leases"
    with lease.acquire(uri):
        time.sleep(1.5)  # longer than it lasts: it was renewed
        with pytest.raises(CommandError, match="another process"), lease.acquire(uri):
            pass
    dead = {"owner": "a dead one", "expires": time.time() + 1.0}
    beam_files.write(f"{uri}/{lease.LEASE_NAME}", json.dumps(dead).encode())
    with lease.acquire(uri):  # after it has expired
        assert time.time() > dead["expires"]

    def broadcast_variables():
        beam_files.write(
            f"{uri}/{lease.LEASE_NAME}", json.dumps({"owner": "b", "expires": time.time() + 60}).encode()
        )

    thief = threading.Timer(0.5, broadcast_variables)
    with pytest.raises(CommandError, match="taken over") as raised, lease.acquire(uri) as held:
        thief.start()
        time.sleep(20)
    assert held.lost
    assert raised.value.exit_code == STORAGE_FAILED
    beam_files.delete([f"{uri}/{lease.LEASE_NAME}"])


def test_a_lease_is_acquired_although_the_first_responses_are_lost(storage_server, quick_lease, proxy):
    proxy.planned = ["silent"] * 3  # longer than the time between two renewals
    with lease.acquire(f"{storage_server}/silent") as held:
        held.check()
        assert proxy.planned == []
        assert not held.lost
        assert lease.holder(f"{storage_server}/silent").startswith(f"process {os.getpid()} ")


def test_a_lost_response_does_not_lose_the_lease(storage_server, quick_lease, proxy):
    proxy.planned = ["lost"] * 3
    with lease.acquire(f"{storage_server}/deaf") as held:
        deadline = time.monotonic() + 10
        while proxy.planned and time.monotonic() < deadline:
            time.sleep(0.05)
        assert not proxy.planned
        assert not held.lost
        held.check()
    assert lease.holder(f"{storage_server}/deaf") is None


def test_a_lease_survives_outage_if_nobody_takes_it(storage_server, quick_lease, proxy):
    uri = f"{storage_server}/cut-off"
    with lease.acquire(uri, survives_outage=True) as held:
        with outage(proxy, ("503", "reset")):
            time.sleep(1.5)
            with pytest.raises(TransientError):
                held.check()
            assert not held.lost
        deadline = time.monotonic() + 10
        while time.monotonic() < deadline:
            try:
                held.check()
                break
            except TransientError:
                time.sleep(0.05)
        held.check()
    with pytest.raises(CommandError, match="could not be"), lease.acquire(uri), outage(proxy, ("503",)):
        time.sleep(20)  # one that does not look before it writes must not go on


@pytest.mark.parametrize("damage", ["no records", "other records", "no manifest"])
def test_a_corrupt_version_is_rebuilt(corpus, tmp_path, damage, written):
    shutil.copytree(corpus, tmp_path / "in")
    assert run(tmp_path / "in", tmp_path / "out", "--versioned") == 0
    folder, made = newest(tmp_path / "out")
    name = "dataset.json" if damage == "no manifest" else "records.jsonl"
    whole = Path(folder, name).read_bytes()
    if damage == "no records":
        Path(folder, name).unlink()
    else:
        Path(folder, name).write_bytes(whole[:-100])
    (tmp_path / "in/rock/rock.00003.wav").touch()  # so that there is something to do
    written.clear()
    assert run(tmp_path / "in", tmp_path / "out", "--versioned") == 0
    assert len(written) == len(made.shards)
    assert main(["inspect", str(tmp_path / "out")]) == 0
    assert newest(tmp_path / "out")[0] == folder


def test_latest_is_replaced_only_if_unchanged_since_it_was_read(storage_server, monkeypatch, proxy):
    root = f"{storage_server}/pointer"
    proxy.planned = ["lost"]
    versions.set_latest(root, "a" * 64)
    assert not proxy.planned
    assert versions.latest_version(root) == f"{root}/{'a' * 64}"
    read = GcsObject.read

    def read_then_lose(self):
        monkeypatch.setattr(GcsObject, "read", read)
        there = self.read()
        self.write(b"b" * 64, there[1])
        return there

    monkeypatch.setattr(GcsObject, "read", read_then_lose)
    with pytest.raises(CommandError, match="was changed by another job"):
        versions.set_latest(root, "c" * 64)
    assert versions.latest_version(root) == f"{root}/{'b' * 64}"
    beam_files.write(f"{root}/LATEST", b"../../somewhere")
    assert versions.latest_version(root) is None
