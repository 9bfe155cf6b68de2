"""Several processes that train together: on loopback, as pods of an Indexed Job do."""

import json
import os
import signal
import socket
import subprocess
import sys
import time

import numpy as np
import pytest
import tensorflow as tf
from support.tiny_corpus import WAVE_FLAGS

from preprocessing.errors import STOPPED, USAGE, CommandError
from trainer.training import cluster
from trainer.training.cluster import Cluster

INDEXED = {
    "JOB_COMPLETION_INDEX": "1",
    "GTZAN_CVAE_WORKERS": "3",
    "GTZAN_CVAE_SERVICE": "workers.music.svc",
    "GTZAN_CVAE_JOB": "train",
}


def tf_config(addresses, index, kind="worker"):
    return json.dumps({"cluster": {"worker": addresses}, "task": {"type": kind, "index": index}})


def test_a_process_alone_has_no_cluster():
    assert cluster.find({}) is None
    assert cluster.find({"TF_CONFIG": tf_config(["here:1"], 0)}) is None
    assert cluster.find({"JOB_COMPLETION_INDEX": "0"}) is None


def test_an_indexed_job_is_a_cluster():
    pods = tuple(f"train-{number}.workers.music.svc:2222" for number in range(3))
    assert cluster.find(INDEXED) == Cluster(pods, 1)
    found = Cluster(("a:1", "b:2"), 1)
    assert cluster.find({"TF_CONFIG": found.tf_config()}) == found
    described = {"cluster": {"chief": ["a:1"], "worker": ["b:2"]}, "task": {"type": "worker", "index": 0}}
    assert cluster.find({"TF_CONFIG": json.dumps(described)}) == found


@pytest.mark.parametrize(
    "environment",
    [
        {"TF_CONFIG": "{"},
        {"TF_CONFIG": "[]"},
        {"TF_CONFIG": tf_config(["a:1", "b:2"], 0, "ps")},
        {"TF_CONFIG": tf_config(["a:1", "b:2"], 2)},
        {"TF_CONFIG": tf_config([1, 2], 0)},
        {**INDEXED, "GTZAN_CVAE_WORKERS": "some"},
        {**INDEXED, "JOB_COMPLETION_INDEX": "3"},
        {**INDEXED, "GTZAN_CVAE_SERVICE": ""},
    ],
)
def test_a_cluster_that_makes_no_sense_is_refused(environment):
    with pytest.raises(CommandError) as caught:
        cluster.find(environment)
    assert caught.value.exit_code == USAGE


@pytest.fixture
def start(dataset, tmp_path):
    """Starts a training of `workers` processes; they are ended with the test."""
    started = []

    def start(run, workers, *flags):
        sockets = [socket.socket() for _ in range(workers)]
        for one in sockets:
            one.bind(("127.0.0.1", 0))
        addresses = [f"127.0.0.1:{one.getsockname()[1]}" for one in sockets]
        for one in sockets:
            one.close()
        command = [sys.executable, "-m", "trainer", "train", "--data", dataset, "--run", run, *WAVE_FLAGS]
        command += ["--batch-size", "6", "--checkpoint-secs", "1", *flags]
        for index in range(workers):
            environment = {**os.environ, "TF_CONFIG": tf_config(addresses, index)}
            log = (tmp_path / f"{run.name}-{workers}-{index}.log").open("w")
            started.append(
                subprocess.Popen(list(map(str, command)), env=environment, stdout=log, stderr=log, text=True)
            )
        return started[-workers:]

    yield start
    for process in started:
        process.kill()
        process.wait()


def rows(run):
    found = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    return [{name: value for name, value in row.items() if "sec" not in name} for row in found]


def weights(run):
    newest = tf.train.load_checkpoint(tf.train.latest_checkpoint(str(run / "checkpoints")))
    names = [name for name in newest.get_variable_to_shape_map() if name.startswith(("model", "optimizer"))]
    return {name: newest.get_tensor(name) for name in names}


def assert_same_run(run, other):
    for row, expected in zip(rows(run), rows(other), strict=True):
        assert row == pytest.approx(expected, rel=1e-4)
    values, expected = weights(run), weights(other)
    assert values.keys() == expected.keys()
    for name, value in values.items():
        np.testing.assert_allclose(value, expected[name], rtol=1e-2, atol=1e-4, err_msg=name)


def wait_for(path, secs=240):
    ends = time.monotonic() + secs
    while not path.exists():
        assert time.monotonic() < ends, f"{path} did not come"
        time.sleep(0.05)


def test_two_workers_give_what_one_gives(start, tmp_path):
    """The one process reads the same two streams."""
    alone, together = tmp_path / "alone", tmp_path / "together"
    trained = [*start(alone, 1, "--epochs", "1", "--input-shards", "2"), *start(together, 2, "--epochs", "1")]
    assert [one.wait(300) for one in trained] == [0, 0, 0]
    assert json.loads((together / "config.json").read_text())["input_shards"] == 2
    assert (together / "report.html").exists()
    assert_same_run(together, alone)


@pytest.mark.slow
def test_a_stop_of_one_worker_stops_and_saves_all(start, tmp_path):
    alone, together = tmp_path / "alone", tmp_path / "together"
    assert [one.wait(300) for one in start(alone, 1, "--epochs", "2", "--input-shards", "2")] == [0]
    workers = start(together, 2, "--epochs", "2")
    wait_for(together / "checkpoints/checkpoint")
    workers[1].send_signal(signal.SIGTERM)
    assert [one.wait(120) for one in workers] == [STOPPED, STOPPED]
    assert [one.wait(240) for one in start(together, 2, "--epochs", "2")] == [0, 0]
    assert_same_run(together, alone)


@pytest.mark.slow
@pytest.mark.parametrize("dies", [0, 1])
def test_a_worker_that_dies_stops_the_others(start, tmp_path, dies):
    run = tmp_path / "run"
    workers = start(run, 2, "--epochs", "500")
    wait_for(run / "checkpoints/checkpoint")
    workers[dies].kill()
    assert workers[1 - dies].wait(60) == STOPPED
    assert "another worker is gone" in (tmp_path / f"run-2-{1 - dies}.log").read_text()
