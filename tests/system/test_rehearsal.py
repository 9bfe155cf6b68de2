"""The simulated node and Job controller of the rehearsal; `make rehearsal` runs the scenarios themselves."""

import signal
import time

import pytest
from rehearsal.cluster import decision_of, render_both, require_complete, require_immediate_failure
from rehearsal.controller import action_on, run_job
from rehearsal.node import Node
from support.cluster.manifests import Rendered, Workload, overlay

from preprocessing.errors import CommandError

RULES = [
    {"action": "FailJob", "onExitCodes": {"containerName": "main", "operator": "In", "values": [2, 3]}},
    {"action": "Ignore", "onExitCodes": {"containerName": "main", "operator": "In", "values": [75]}},
    {"action": "Ignore", "onPodConditions": [{"type": "DisruptionTarget", "status": "True"}]},
]


def job(command, rules=RULES, backoff_limit=2, **pod):
    """Return a Job whose container runs a shell script."""
    container = {
        "name": "main",
        "image": "gtzan-cvae-trainer:0.1.0",
        "command": ["sh", "-c"],
        "args": [command],
        "volumeMounts": [{"name": "tmp", "mountPath": "/tmp"}],
    }
    spec = {
        "containers": [container],
        "volumes": [{"name": "tmp", "emptyDir": {}}],
        "terminationGracePeriodSeconds": 5,
        **pod,
    }
    job_spec = {
        "backoffLimit": backoff_limit,
        "activeDeadlineSeconds": 60,
        "podFailurePolicy": {"rules": rules},
    }
    return Workload("Job", "test", job_spec, job_spec, {"spec": spec})


@pytest.fixture
def run(tmp_path):
    with Node(tmp_path) as node:
        yield lambda *args, on_first_pod=None, **kwargs: run_job(
            node, Rendered([]), job(*args, **kwargs), "test", on_first_pod
        )


def exit_with(tmp_path, *codes):
    """Return a script that exits with the first code in the first pod, the second in the second, and so on."""
    started = tmp_path / "started"
    started.mkdir()
    shift = f"shift $(($(ls {started} | wc -l) - 1))"
    return f"echo > {started}/$$; set -- {' '.join(map(str, codes))}; {shift}; exit $1"


def test_stopping_on_request_is_not_counted_as_a_failure(run, tmp_path):
    finished = run(exit_with(tmp_path, 75, 75, 75, 75, 0))
    assert finished.exit_codes == [75, 75, 75, 75, 0]
    assert (finished.failure, finished.counted_failures) == ("", 0)
    require_complete(finished)


def test_without_its_rule_stopping_on_request_is_counted_as_a_failure(run, tmp_path):
    finished = run(exit_with(tmp_path, 75, 75, 75, 0), rules=[RULES[0], RULES[2]])
    assert (finished.failure, finished.counted_failures) == ("BackoffLimitExceeded", 3)
    assert len(finished.pods) == 3
    with pytest.raises(CommandError, match="without a counted failure"):
        require_complete(finished)


def test_a_permanent_failure_fails_the_job_at_once(run, tmp_path):
    require_immediate_failure(run("exit 3"), 3)
    with pytest.raises(CommandError, match="failed at once"):
        require_immediate_failure(run("exit 4"), 4)


def test_a_crash_is_retried(run, tmp_path):
    finished = run(exit_with(tmp_path, 1, 137, 0))
    assert (finished.failure, finished.counted_failures, finished.exit_codes) == ("", 2, [1, 137, 0])


def test_failure_rules_apply_in_order_and_to_their_container_only():
    other = {"action": "FailJob", "onExitCodes": {"containerName": "other", "operator": "In", "values": [1]}}
    not_in = {"action": "Ignore", "onExitCodes": {"operator": "NotIn", "values": [1, 2]}}
    job_spec = {"podFailurePolicy": {"rules": [other, not_in, *RULES]}}
    assert [action_on(job_spec, "main", code) for code in (1, 2, 3)] == ["Count", "FailJob", "Ignore"]
    assert action_on(job_spec, "other", 1) == "FailJob"
    assert action_on({}, "main", 75) == "Count"


def test_a_pod_is_stopped_with_sigterm_and_with_sigkill_after_its_grace_period(run):
    def stop(pod):
        while "ready" not in pod.stdout:
            time.sleep(0.01)
        pod.stop()

    exits_on_sigterm = "trap 'exit 75' TERM; echo ready; while :; do sleep 0.05; done"
    ignores_sigterm = "trap '' TERM; echo ready; while :; do sleep 0.05; done"
    succeed_in_second_pod = "test -e ../../../started && exit; touch ../../../started"
    assert run(f"{succeed_in_second_pod}; {exits_on_sigterm}", on_first_pod=stop).exit_codes == [75, 0]
    finished = run(ignores_sigterm, backoff_limit=0, terminationGracePeriodSeconds=0.2, on_first_pod=stop)
    assert (finished.exit_codes, finished.failure) == ([137], "BackoffLimitExceeded")


def test_containers_have_their_volumes_but_not_the_hosts_environment(run, tmp_path, monkeypatch):
    monkeypatch.setenv("GOOGLE_APPLICATION_CREDENTIALS", "host.json")
    (pod,) = run("env; echo --output=/tmp/x gs://music/tmp").pods
    lines = pod.stdout.splitlines()
    environment = dict(line.split("=", 1) for line in lines if "=" in line)
    assert environment["TMPDIR"] == environment["HOME"] == str(tmp_path / "pods/00-test/volumes/tmp")
    assert environment["MPLCONFIGDIR"] == f"{environment['TMPDIR']}/matplotlib"
    assert lines[-1] == f"--output={environment['TMPDIR']}/x gs://music/tmp"
    assert "GOOGLE_APPLICATION_CREDENTIALS" not in environment


def test_closing_the_node_kills_its_pods_and_no_other_can_start(tmp_path):
    with Node(tmp_path) as node:
        pod = node.start(Rendered([]), job("sleep 600"), "test")
        assert pod.is_running
    assert pod.exit_code == 128 + signal.SIGKILL
    with pytest.raises(CommandError, match="ending"):
        node.start(Rendered([]), job("exit"), "test")


def test_a_promotion_decision_must_be_a_single_line_of_json(run):
    assert decision_of(run("""echo '{"decision": "refused"}'""")) == {"decision": "refused"}
    with pytest.raises(CommandError, match="2 lines"):
        decision_of(run("echo text; echo '{}'"))


def test_the_rehearsed_overlay_only_adds_arguments_to_the_local_one(tmp_path):
    rendered, edited = render_both(tmp_path / "k8s")
    for local in overlay("local").workloads():
        rehearsed = rendered.workload(local.kind, local.name)
        assert rehearsed.container["args"][: len(local.container["args"])] == local.container["args"]
        assert rehearsed.job is None or rehearsed.job["podFailurePolicy"] == local.job["podFailurePolicy"]
    args, edited_args = (
        overlaid.workload("CronJob", "retrain").container["args"] for overlaid in (rendered, edited)
    )
    assert edited_args == [*args, "--sample-clips=2"]
