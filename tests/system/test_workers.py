"""Distributed training with several processes on the loopback interface, as pods of an Indexed Job do it."""

import json
import os
import shutil
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
from trainer.training.workers import cluster
from trainer.training.workers.cluster import Cluster

pytestmark = pytest.mark.long

INDEXED = {
    "JOB_COMPLETION_INDEX": "1",
    "GTZAN_CVAE_WORKERS": "3",
    "GTZAN_CVAE_SERVICE": "workers.music.svc",
    "GTZAN_CVAE_JOB": "train",
}


def tf_config(addresses, index, kind="worker"):
    return json.dumps({"cluster": {"worker": addresses}, "task": {"type": kind, "index": index}})


def test_a_single_process_has_no_cluster():
    assert cluster.find_cluster({}) is None
    assert cluster.find_cluster({"TF_CONFIG": tf_config(["a:1"], 0)}) is None
    assert cluster.find_cluster({"JOB_COMPLETION_INDEX": "0"}) is None


def test_the_cluster_is_found_from_an_indexed_job_or_tf_config():
    pods = tuple(f"train-{number}.workers.music.svc:2222" for number in range(3))
    assert cluster.find_cluster(INDEXED) == Cluster(pods, 1)
    expected = Cluster(("a:1", "b:2"), 1)
    assert cluster.find_cluster({"TF_CONFIG": expected.tf_config()}) == expected
    with_chief = {"cluster": {"chief": ["a:1"], "worker": ["b:2"]}, "task": {"type": "worker", "index": 0}}
    assert cluster.find_cluster({"TF_CONFIG": json.dumps(with_chief)}) == expected


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
def test_an_invalid_cluster_is_rejected(environment):
    with pytest.raises(CommandError) as caught:
        cluster.find_cluster(environment)
    assert caught.value.exit_code == USAGE


@pytest.fixture
def start(dataset, tmp_path):
    """Return a function that starts a training with several workers; they are killed at the end of the test."""
    started = []

    def start(run, workers, *flags, command=None, model_flags=WAVE_FLAGS):
        sockets = [socket.socket() for _ in range(workers)]
        for listener in sockets:
            listener.bind(("127.0.0.1", 0))
        addresses = [f"127.0.0.1:{listener.getsockname()[1]}" for listener in sockets]
        for listener in sockets:
            listener.close()
        train = ["train", "--data", dataset, "--run", run, "--checkpoint-secs", "1"]
        argv = [
            sys.executable,
            "-m",
            "trainer",
            *(command or train),
            *model_flags,
            "--batch-size",
            "6",
            *flags,
        ]
        for index in range(workers):
            environment = {**os.environ, "TF_CONFIG": tf_config(addresses, index)}
            log = (tmp_path / f"{run.name}-{workers}-{index}.log").open("w")
            started.append(
                subprocess.Popen(list(map(str, argv)), env=environment, stdout=log, stderr=log, text=True)
            )
        return started[-workers:]

    yield start
    for process in started:
        process.kill()
        process.wait()


def rows(run):
    lines = (run / "metrics.jsonl").read_text().splitlines()
    return [{name: value for name, value in json.loads(line).items() if "sec" not in name} for line in lines]


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
    deadline = time.monotonic() + secs
    while not path.exists():
        assert time.monotonic() < deadline, f"{path} was not written"
        time.sleep(0.05)


@pytest.mark.parametrize(
    "model_flags",
    [
        pytest.param(WAVE_FLAGS, id="wave"),
        pytest.param(["--preset", "reference"], id="reference", marks=pytest.mark.slow),
    ],
)
def test_two_workers_compute_what_one_computes(start, tmp_path, model_flags):
    """The single process reads the same two input shards."""
    alone, together = tmp_path / "alone", tmp_path / "together"
    trained = [
        *start(alone, 1, "--epochs", "1", "--input-shards", "2", model_flags=model_flags),
        *start(together, 2, "--epochs", "1", model_flags=model_flags),
    ]
    assert [process.wait(300) for process in trained] == [0, 0, 0]
    assert json.loads((together / "config.json").read_text())["input_shards"] == 2
    assert (together / "report.html").exists()
    assert_same_run(together, alone)


@pytest.mark.slow
def test_two_workers_retrain_and_the_chief_decides(start, dataset, tmp_path):
    versions = tmp_path / "datasets"
    digest = json.loads((dataset / "dataset.json").read_text())["digest"]
    shutil.copytree(dataset, versions / digest)
    (versions / "LATEST").write_text(digest)
    models = tmp_path / "models"
    command = ["retrain", "--datasets", versions, "--models", models, "--count", "4", "--epochs", "1"]
    workers = start(models, 2, command=command)
    assert [process.wait(300) for process in workers] == [0, 0]
    logs = [(tmp_path / f"models-2-{index}.log").read_text() for index in range(2)]
    decision = json.loads(logs[0].splitlines()[-1])
    assert (decision["decision"], "decision" in logs[1]) == ("promoted", False)
    assert decision["candidate"] in (models / "champion.json").read_text()
    config = json.loads((models / "candidates" / decision["candidate"] / "config.json").read_text())
    assert config["input_shards"] == 2


@pytest.mark.slow
def test_a_signal_to_one_worker_stops_all_with_a_checkpoint(start, tmp_path):
    alone, together = tmp_path / "alone", tmp_path / "together"
    assert [process.wait(300) for process in start(alone, 1, "--epochs", "2", "--input-shards", "2")] == [0]
    workers = start(together, 2, "--epochs", "2")
    wait_for(together / "checkpoints/checkpoint")
    workers[1].send_signal(signal.SIGTERM)
    assert [process.wait(120) for process in workers] == [STOPPED, STOPPED]
    assert [process.wait(240) for process in start(together, 2, "--epochs", "2")] == [0, 0]
    assert_same_run(together, alone)


@pytest.mark.slow
@pytest.mark.parametrize("killed", [0, 1])
def test_a_killed_worker_stops_the_others(start, tmp_path, killed):
    run = tmp_path / "run"
    workers = start(run, 2, "--epochs", "500")
    wait_for(run / "checkpoints/checkpoint")
    workers[killed].kill()
    assert workers[1 - killed].wait(60) == STOPPED
    assert "another worker is gone" in (tmp_path / f"run-2-{1 - killed}.log").read_text()
