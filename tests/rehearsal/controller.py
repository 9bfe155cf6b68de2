"""What a cluster does about Jobs: pods one after the other, and what becomes of their failures."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

from support.manifests import Document, Rendered, Workload

from rehearsal.node import PATIENCE_SECS, Node, Pod, last_line, wrong

MOST_PODS = 10  # a Job that ignores every failure would never end


class Ended(NamedTuple):
    """A Job that is over."""

    name: str
    failure: str  # the reason of its condition Failed; empty: it is Complete
    counted: int  # failures that count towards backoffLimit
    pods: list[Pod]

    @property
    def exit_codes(self) -> list[int]:
        return [pod.exit_code for pod in self.pods]

    def described(self) -> str:
        """For a sentence."""
        ended = f"failed ({self.failure})" if self.failure else "is complete"
        codes = ", ".join(map(str, self.exit_codes))
        return f"Job {self.name} {ended} after exit codes {codes}; its last line: {last_line(self.pods[-1])}"


def run_job(
    node: Node,
    rendered: Rendered,
    workload: Workload,
    name: str,
    disturb: Callable[[Pod], None] | None = None,
) -> Ended:
    """Runs a Job to its end, by its own rules; the wait between two pods is left out.

    `disturb` is called with the first pod once it runs.
    """
    job, pods, counted = workload.job, [], 0
    limit = job["backoffLimit"]
    while len(pods) < MOST_PODS:
        pod = node.start(rendered, workload, name)
        pods.append(pod)
        if disturb and len(pods) == 1:
            disturb(pod)
        if not pod.wait(min(PATIENCE_SECS, job["activeDeadlineSeconds"])):
            pod.stop()
            return Ended(name, "DeadlineExceeded", counted, pods)
        if pod.exit_code == 0:
            return Ended(name, "", counted, pods)
        match action_on(job, workload.container["name"], pod.exit_code):
            case "FailJob":
                return Ended(name, "PodFailurePolicy", counted, pods)
            case "Count":
                counted += 1
        if counted > limit:
            return Ended(name, "BackoffLimitExceeded", counted, pods)
    raise wrong(f"Job {name} has run {MOST_PODS} pods without an end: {last_line(pods[-1])}")


def action_on(job: Document, container: str, exit_code: int) -> str:
    """What `podFailurePolicy` says of a pod that no disruption ended: the first rule that matches."""
    for rule in job.get("podFailurePolicy", {}).get("rules", []):
        codes = rule.get("onExitCodes")
        if codes and codes.get("containerName", container) == container:
            listed = exit_code in codes["values"]
            if listed == (codes["operator"] == "In"):
                return rule["action"]
    return "Count"
