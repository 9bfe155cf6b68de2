"""`make watch`, run against a stand-in for kubectl that plays a Job from scene to scene."""

import json
import os
import subprocess
import sys

import pytest
from support.cluster.manifests import K8S

# Each call for the Job begins the next scene; the last one stays.
KUBECTL = """#!{python} -S
import json, sys
from pathlib import Path
folder = Path({folder!r})
scenes = json.loads((folder / "scenes").read_text())
number = folder / "number"
assert sys.argv[1:3] == ["--namespace", "gtzan-cvae"]
verb, *args = sys.argv[3:]
if verb == "get" and args[0] == "job":
    number.write_text(str(int(number.read_text()) + 1 if number.exists() else 0))
scene = scenes[min(int(number.read_text()), len(scenes) - 1)]
if verb == "logs":
    since = next((arg.partition("=")[2] for arg in args if arg.startswith("--since-time")), "")
    print(*(line for line in scene["log"] if line[:19] >= since[:19]), sep="\\n")
elif scene.get("error") or args[0] == "job" and args[1] != "preprocess":
    sys.exit(scene.get("error") or f'Error from server (NotFound): jobs.batch "{{args[1]}}" not found')
elif args[0] == "job":
    status = {{"conditions": scene["conditions"]}}
    print(json.dumps({{"metadata": {{"labels": scene.get("labels", {{}})}}, "status": status}}))
else:
    print(json.dumps({{"items": scene[args[0]]}}))
"""


def event(uid, name, reason, message):
    involved = {"name": name}
    return {"metadata": {"uid": uid}, "involvedObject": involved, "reason": reason, "message": message}


def pod(state):
    return {"metadata": {"name": "preprocess-x"}, "status": {"containerStatuses": [{"state": state}]}}


CREATED = event("1", "preprocess", "SuccessfulCreate", "Created pod: preprocess-x")
NO_NODE = event("2", "preprocess-x", "FailedScheduling", "0/1 nodes are available:\n insufficient cpu")
OTHERS = event("3", "another", "Pulled", "not of this Job")
FIRST, SECOND = "2026-11-28T01:00:00.12Z one", "2026-11-28T01:00:00.123Z two"
PENDING = {"conditions": [], "pods": [pod({"waiting": {}})], "events": [CREATED, NO_NODE, OTHERS], "log": []}
RUNNING = {**PENDING, "pods": [pod({"running": {}})], "log": [FIRST]}


def ended(condition, exit_code, cause=None, **details):
    terminated = {"exitCode": exit_code, "reason": cause}
    conditions = [{"type": condition, "status": "True", **details}]
    return {
        **RUNNING,
        "conditions": conditions,
        "pods": [pod({"terminated": terminated})],
        "log": [FIRST, SECOND],
    }


@pytest.fixture
def watch(tmp_path):
    def run(*scenes, job="preprocess"):
        (tmp_path / "scenes").write_text(json.dumps(scenes))
        kubectl = tmp_path / "kubectl"
        kubectl.write_text(KUBECTL.format(python=sys.executable, folder=str(tmp_path)))
        kubectl.chmod(0o755)
        return subprocess.run(
            [sys.executable, K8S / "watch.py", job],
            capture_output=True,
            text=True,
            timeout=60,
            env=os.environ | {"PATH": f"{tmp_path}:{os.environ['PATH']}", "WATCH_POLL_SECS": "0.01"},
        )

    return run


def test_a_complete_job_ends_the_watch_after_its_events_and_logs(watch):
    process = watch(PENDING, RUNNING, RUNNING, ended("Complete", 0))
    assert process.returncode == 0
    assert process.stdout.splitlines() == [
        "event: preprocess: SuccessfulCreate: Created pod: preprocess-x",
        "event: preprocess-x: FailedScheduling: 0/1 nodes are available: insufficient cpu",
        "one",
        "two",
        "watch: preprocess-x ended with exit code 0",
        "watch: Job preprocess is complete",
    ]


def test_a_failed_job_ends_the_watch_with_its_reason_and_exit_code(watch):
    last = ended(
        "Failed", 137, "OOMKilled", reason="BackoffLimitExceeded", message="Job has reached the limit"
    )
    process = watch(RUNNING, last)
    assert process.returncode == 1
    assert "preprocess-x ended with exit code 137 (OOMKilled)" in process.stdout
    assert (
        process.stderr
        == "watch: Job preprocess has failed: BackoffLimitExceeded: Job has reached the limit\n"
    )


def test_a_job_that_does_not_exist_is_an_error(watch):
    process = watch(RUNNING, job="moon")
    assert process.returncode == 2
    assert 'jobs.batch "moon" not found' in process.stderr
    assert watch(RUNNING, job="").returncode == 2


def test_a_suspended_job_is_not_waited_for_unless_a_queue_resumes_it(watch):
    suspended = {**PENDING, "conditions": [{"type": "Suspended", "status": "True"}]}
    process = watch(suspended)
    assert process.returncode == 2
    assert "is suspended" in process.stderr


def test_a_job_in_a_queue_is_waited_for(watch):
    suspended = {**PENDING, "conditions": [{"type": "Suspended", "status": "True"}]}
    queued = {**suspended, "labels": {"kueue.x-k8s.io/queue-name": "gtzan-cvae"}}
    assert watch(queued, RUNNING, ended("Complete", 0)).returncode == 0


def test_a_cluster_that_does_not_answer_for_a_while_does_not_end_the_watch(watch):
    silent = {**RUNNING, "error": "Unable to connect to the server: timeout"}
    process = watch(RUNNING, silent, silent, ended("Complete", 0))
    assert process.returncode == 0
    assert process.stderr.count("Unable to connect to the server: timeout; trying again") == 1
