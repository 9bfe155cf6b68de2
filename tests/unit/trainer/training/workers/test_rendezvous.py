"""Workers wait for one another in Python: they tell so, give up in time and stop at once."""

import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor

import pytest

from preprocessing.errors import STOPPED, USAGE, CommandError
from trainer.training.workers import rendezvous
from trainer.training.workers.cluster import Cluster


@pytest.fixture
def addresses():
    """Return a function that names the addresses of workers; only the first one, the chief's, is used."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    return lambda workers: (f"127.0.0.1:{port}", *(f"127.0.0.1:{index}" for index in range(1, workers)))


@pytest.fixture(autouse=True)
def quick(monkeypatch):
    monkeypatch.setattr(rendezvous, "POLL_SECS", 0.02)


def meet_all(addresses, workers, timeout_secs=20.0, order=None):
    clusters = [Cluster(addresses, worker, timeout_secs) for worker in order or range(workers)]
    with ThreadPoolExecutor(workers) as pool:
        list(pool.map(rendezvous.meet, clusters))


@pytest.mark.parametrize("order", [(0, 1, 2), (2, 1, 0)])
def test_workers_meet_whoever_comes_first_and_the_address_is_free_afterwards(addresses, order):
    names = addresses(3)
    meet_all(names, 3, order=order)
    for name in names:
        host, _, port = name.rpartition(":")
        with socket.create_server((host, int(port))) as server:
            assert server.getsockname()[1] == int(port)


def test_a_worker_that_came_and_ended_is_waited_for_again_and_strangers_do_not_count(addresses):
    names = addresses(3)
    host, _, port = names[0].rpartition(":")
    with ThreadPoolExecutor(3) as pool:
        chief = pool.submit(rendezvous.meet, Cluster(names, 0, 20.0))
        while True:
            with contextlib.suppress(ConnectionRefusedError):  # until the chief listens
                for greeting in (b"gtzan-cvae worker 1 of 3\n", b"GET / HTTP/1.1\r\n\r\n", b""):
                    with socket.create_connection((host, int(port)), 5) as connection:
                        connection.sendall(greeting)
                break
        second = pool.submit(rendezvous.meet, Cluster(names, 2, 20.0))
        time.sleep(0.5)
        assert not chief.done()
        assert not second.done()
        rendezvous.meet(Cluster(names, 1, 20.0))
        chief.result(20)
        second.result(20)


@pytest.mark.parametrize(("worker", "missing"), [(0, "1, 2"), (1, "0")])
def test_a_peer_that_never_comes_is_told_and_ends_with_75(addresses, worker, missing, monkeypatch, capsys):
    monkeypatch.setattr(rendezvous, "EVENT_SECS", 0.2)
    started = time.monotonic()
    with pytest.raises(CommandError, match=rf"worker {missing} has not come") as caught:
        rendezvous.meet(Cluster(addresses(3), worker, 1.0))
    assert caught.value.exit_code == STOPPED
    assert time.monotonic() - started < 5
    warnings = capsys.readouterr().out.splitlines()
    assert 1 <= len(warnings) <= 5
    assert all(line.startswith(f"warning: waiting for worker {missing} since") for line in warnings)


def test_an_address_that_is_in_use_is_a_usage_error(addresses):
    names = addresses(2)
    with socket.create_server(("", int(names[0].rpartition(":")[2]))), pytest.raises(CommandError) as caught:
        rendezvous.meet(Cluster(names, 0, 1.0))
    assert caught.value.exit_code == USAGE


@pytest.mark.parametrize("worker", [0, 1])
def test_a_waiting_worker_stops_within_5_seconds_of_a_signal(addresses, worker, dataset, tmp_path):
    task = {"type": "worker", "index": worker}
    environment = {
        **os.environ,
        "TF_CONFIG": json.dumps({"cluster": {"worker": addresses(2)}, "task": task}),
    }
    flags = ["train", "--data", str(dataset), "--run", str(tmp_path / "run"), "--peer-timeout-secs", "120"]
    program = (
        "import sys; from trainer.__main__ import main; from trainer.training.workers import rendezvous;"
        "rendezvous.EVENT_SECS = 0.1; sys.exit(main(sys.argv[1:]))"
    )
    command = [sys.executable, "-c", program, *flags]
    with subprocess.Popen(
        command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        assert "waiting for worker" in process.stdout.readline()
        signalled = time.monotonic()
        process.send_signal(signal.SIGTERM)
        _, error = process.communicate(timeout=60)
    assert process.returncode == STOPPED, error
    assert time.monotonic() - signalled < 5
    assert not (tmp_path / "run").exists()
