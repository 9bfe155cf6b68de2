"""The Job controller: starts one pod after another and applies the Job's failure policy."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

from support.cluster.manifests import Document, Rendered, Workload

from rehearsal.node import TIMEOUT_SECS, Node, Pod, failed, last_line

MAX_PODS = 10  # a Job that ignores every failure would never end


class FinishedJob(NamedTuple):
    """A Job that has completed or failed."""

    name: str
    failure: str  # the reason of its condition Failed; empty: it is Complete
    counted_failures: int  # those that count towards backoffLimit
    pods: list[Pod]

    @property
    def exit_codes(self) -> list[int]:
        return [pod.exit_code for pod in self.pods]

    def summary(self) -> str:
        """Describe the outcome for an error message."""
        condition = f"failed ({self.failure})" if self.failure else "is complete"
        codes = ", ".join(map(str, self.exit_codes))
        return (
            f"Job {self.name} {condition} after exit codes {codes}; its last line: {last_line(self.pods[-1])}"
        )


def run_job(
    node: Node,
    rendered: Rendered,
    workload: Workload,
    name: str,
    on_first_pod: Callable[[Pod], None] | None = None,
) -> FinishedJob:
    """Run a Job to its end under its own failure policy, but without a back-off delay between pods.

    `on_first_pod` is called with the first pod as soon as it runs.
    """
    job, pods, counted = workload.job, [], 0
    limit = job["backoffLimit"]
    while len(pods) < MAX_PODS:
        pod = node.start(rendered, workload, name)
        pods.append(pod)
        if on_first_pod and len(pods) == 1:
            on_first_pod(pod)
        if not pod.wait(min(TIMEOUT_SECS, job["activeDeadlineSeconds"])):
            pod.stop()
            return FinishedJob(name, "DeadlineExceeded", counted, pods)
        if pod.exit_code == 0:
            return FinishedJob(name, "", counted, pods)
        match action_on(job, workload.container["name"], pod.exit_code):
            case "FailJob":
                return FinishedJob(name, "PodFailurePolicy", counted, pods)
            case "Count":
                counted += 1
        if counted > limit:
            return FinishedJob(name, "BackoffLimitExceeded", counted, pods)
    raise failed(f"Job {name} has not ended after {MAX_PODS} pods: {last_line(pods[-1])}")


def action_on(job: Document, container: str, exit_code: int) -> str:
    """Return the action of the first `podFailurePolicy` rule that matches, for a pod not ended by a disruption."""
    for rule in job.get("podFailurePolicy", {}).get("rules", []):
        codes = rule.get("onExitCodes")
        if codes and codes.get("containerName", container) == container:
            listed = exit_code in codes["values"]
            if listed == (codes["operator"] == "In"):
                return rule["action"]
    return "Count"
