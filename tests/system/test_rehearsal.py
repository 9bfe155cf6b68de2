"""The parts of the rehearsal: pods as processes, Jobs by their rules. `make rehearsal` runs its scenarios."""

import signal
import time

import pytest
from rehearsal.cluster import decision_of, render_both, require_complete, require_immediate_failure
from rehearsal.controller import action_on, run_job
from rehearsal.node import Node
from support.manifests import Rendered, Workload, overlay

from preprocessing.errors import CommandError

RULES = [
    {"action": "FailJob", "onExitCodes": {"containerName": "one", "operator": "In", "values": [2, 3]}},
    {"action": "Ignore", "onExitCodes": {"containerName": "one", "operator": "In", "values": [75]}},
    {"action": "Ignore", "onPodConditions": [{"type": "DisruptionTarget", "status": "True"}]},
]


def job(command, rules=RULES, backoff_limit=2, **pod):
    """A Job whose container is a shell's script."""
    container = {
        "name": "one",
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
    own = {
        "backoffLimit": backoff_limit,
        "activeDeadlineSeconds": 60,
        "podFailurePolicy": {"rules": rules},
    }
    return Workload("Job", "test", own, own, {"spec": spec})


@pytest.fixture
def run(tmp_path):
    with Node(tmp_path) as node:
        yield lambda *args, on_first_pod=None, **kwargs: run_job(
            node, Rendered([]), job(*args, **kwargs), "test", on_first_pod
        )


def exits(tmp_path, *codes):
    """A script that ends with one code after the other, in as many pods."""
    marks = tmp_path / "marks"
    marks.mkdir()
    rest = f"shift $(($(ls {marks} | wc -l) - 1))"
    return f"echo > {marks}/$$; set -- {' '.join(map(str, codes))}; {rest}; exit $1"


def test_stopping_on_request_is_not_counted(run, tmp_path):
    ended = run(exits(tmp_path, 75, 75, 75, 75, 0))
    assert ended.exit_codes == [75, 75, 75, 75, 0]
    assert (ended.failure, ended.counted_failures) == ("", 0)
    require_complete(ended)


def test_without_the_rule_stopping_on_request_is_counted(run, tmp_path):
    ended = run(exits(tmp_path, 75, 75, 75, 0), rules=[RULES[0], RULES[2]])
    assert (ended.failure, ended.counted_failures) == ("BackoffLimitExceeded", 3)
    assert len(ended.pods) == 3
    with pytest.raises(CommandError, match="without a counted failure"):
        require_complete(ended)


def test_a_permanent_failure_fails_the_job_at_once(run, tmp_path):
    require_immediate_failure(run("exit 3"), 3)
    with pytest.raises(CommandError, match="failed at once"):
        require_immediate_failure(run("exit 4"), 4)


def test_a_crash_is_retried(run, tmp_path):
    ended = run(exits(tmp_path, 1, 137, 0))
    assert (ended.failure, ended.counted_failures, ended.exit_codes) == ("", 2, [1, 137, 0])


def test_failure_rules_apply_in_order_and_to_their_container():
    other = {"action": "FailJob", "onExitCodes": {"containerName": "two", "operator": "In", "values": [1]}}
    not_in = {"action": "Ignore", "onExitCodes": {"operator": "NotIn", "values": [1, 2]}}
    own = {"podFailurePolicy": {"rules": [other, not_in, *RULES]}}
    assert [action_on(own, "one", code) for code in (1, 2, 3)] == ["Count", "FailJob", "Ignore"]
    assert action_on(own, "two", 1) == "FailJob"
    assert action_on({}, "one", 75) == "Count"


def test_a_pod_gets_sigterm_and_after_its_grace_period_sigkill(run):
    def stop(pod):
        while "ready" not in pod.stdout:
            time.sleep(0.01)
        pod.stop()

    heeds = "trap 'exit 75' TERM; echo ready; while :; do sleep 0.05; done"
    ignores = "trap '' TERM; echo ready; while :; do sleep 0.05; done"
    once = "test -e ../../../seen && exit; touch ../../../seen"
    assert run(f"{once}; {heeds}", on_first_pod=stop).exit_codes == [75, 0]
    ended = run(ignores, backoff_limit=0, terminationGracePeriodSeconds=0.2, on_first_pod=stop)
    assert (ended.exit_codes, ended.failure) == ([137], "BackoffLimitExceeded")


def test_containers_see_their_volumes_and_nothing_of_the_host(run, tmp_path, monkeypatch):
    monkeypatch.setenv("GOOGLE_APPLICATION_CREDENTIALS", "of the host")
    (pod,) = run("env; echo --output=/tmp/x gs://music/tmp").pods
    lines = pod.stdout.splitlines()
    environment = dict(line.split("=", 1) for line in lines if "=" in line)
    assert environment["TMPDIR"] == environment["HOME"] == str(tmp_path / "pods/00-test/volumes/tmp")
    assert environment["MPLCONFIGDIR"] == f"{environment['TMPDIR']}/matplotlib"
    assert lines[-1] == f"--output={environment['TMPDIR']}/x gs://music/tmp"
    assert "GOOGLE_APPLICATION_CREDENTIALS" not in environment


def test_closing_the_node_ends_its_pods(tmp_path):
    with Node(tmp_path) as node:
        pod = node.start(Rendered([]), job("sleep 600"), "test")
        assert pod.is_running
    assert pod.exit_code == 128 + signal.SIGKILL
    with pytest.raises(CommandError, match="ending"):
        node.start(Rendered([]), job("exit"), "test")


def test_a_promotion_decision_is_one_line(run):
    assert decision_of(run("""echo '{"decision": "refused"}'""")) == {"decision": "refused"}
    with pytest.raises(CommandError, match="2 lines"):
        decision_of(run("echo so; echo '{}'"))


def test_the_rehearsed_overlay_differs_from_local_only_where_it_says(tmp_path):
    rendered, edited = render_both(tmp_path / "k8s")
    for local in overlay("local").workloads():
        own = rendered.workload(local.kind, local.name)
        assert own.container["args"][: len(local.container["args"])] == local.container["args"]
        assert own.job is None or own.job["podFailurePolicy"] == local.job["podFailurePolicy"]
    args = [one.workload("CronJob", "retrain").container["args"] for one in (rendered, edited)]
    assert args[1] == [*args[0], "--sample-clips=2"]
