"""Follow a Job to its end: events while it waits, logs while it runs, and its result: `make watch JOB=preprocess`.

`kubectl wait --for=condition=complete` waits for its timeout if the Job has failed, and `kubectl logs --follow` shows
nothing while the pod has no node. Standard library only: it runs before anything is installed.

Exit codes: 0 complete, 1 failed, 2 no such Job, or one that is suspended, 75 stopped.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from typing import Any

NAMESPACE = "gtzan-cvae"
QUEUE_LABEL = "kueue.x-k8s.io/queue-name"  # of a Job that Kueue resumes
POLL_SECS = float(os.environ.get("WATCH_POLL_SECS", "5"))
DONE, FAILED, USAGE, STOPPED = 0, 1, 2, 75


def kubectl(*args: str) -> subprocess.CompletedProcess[str]:
    """Run kubectl in the namespace of the manifests.

    Raises:
        KubectlError: kubectl is not installed.
    """
    try:
        return subprocess.run(["kubectl", "--namespace", NAMESPACE, *args], capture_output=True, text=True)
    except FileNotFoundError as error:
        raise KubectlError("kubectl is not installed") from error


class KubectlError(Exception):
    """kubectl failed; the message is what it printed."""


def find(*args: str) -> dict[str, Any]:
    """Return what kubectl finds, as an object.

    Raises:
        KubectlError: There is no such object, or the cluster does not answer.
    """
    process = kubectl("get", *args, "--output=json")
    if process.returncode:
        raise KubectlError(process.stderr.strip())
    return json.loads(process.stdout)


class Watch:
    """A Job, and what of its events and logs has been printed."""

    def __init__(self, job: str) -> None:
        self._job = job
        self._printed: set[str] = set()  # ids and counts of events
        self._last_logged: dict[str, str] = {}  # time of the last line that was printed, by pod

    def run(self) -> int:
        """Print until the Job has ended; return the exit code.

        Raises:
            KubectlError: There is no such Job, or the cluster does not answer the first request.
        """
        exit_code, trouble = self._poll(), ""
        while exit_code is None:
            time.sleep(POLL_SECS)
            try:
                exit_code = self._poll()
            except KubectlError as error:  # the cluster may answer again
                if str(error) != trouble:
                    trouble = str(error)
                    print(f"watch: {trouble}; trying again", file=sys.stderr)
        return exit_code

    def _poll(self) -> int | None:
        """Print what is new; return the exit code if the Job has ended."""
        job = find("job", self._job)
        pods = find("pods", f"--selector=batch.kubernetes.io/job-name={self._job}")["items"]
        self._print_events({self._job, *(pod["metadata"]["name"] for pod in pods)})
        for pod in pods:
            self._print_log(pod["metadata"]["name"])
        conditions = {
            condition["type"]: condition
            for condition in job.get("status", {}).get("conditions", [])
            if condition["status"] == "True"
        }
        if ended := conditions.get("Complete") or conditions.get("Failed"):
            return self._print_end(ended, pods)
        if "Suspended" in conditions and QUEUE_LABEL not in job["metadata"].get("labels", {}):
            print(f"watch: Job {self._job} is suspended: it starts when it is resumed", file=sys.stderr)
            return USAGE
        return None

    def _print_events(self, names: set[str]) -> None:
        for event in find("events", "--sort-by=.metadata.creationTimestamp")["items"]:
            key = f"{event['metadata']['uid']} {event.get('count', 1)}"
            if event["involvedObject"]["name"] in names and key not in self._printed:
                self._printed.add(key)
                name = event["involvedObject"]["name"]
                print(f"event: {name}: {event['reason']}: {' '.join(event['message'].split())}", flush=True)

    def _print_log(self, pod: str) -> None:
        """Print the lines that a pod has logged since the last call; a pod without a container has none."""
        last = self._last_logged.get(pod, "")
        since = [f"--since-time={last}"] if last else []
        for line in kubectl("logs", pod, "--timestamps", *since).stdout.splitlines():
            time_logged, _, text = line.partition(" ")
            if _comparable(time_logged) > _comparable(
                last
            ):  # the requested second has lines that were printed
                print(text, flush=True)
                self._last_logged[pod] = time_logged

    def _print_end(self, condition: dict[str, Any], pods: list[dict[str, Any]]) -> int:
        for pod in pods:
            for container in pod.get("status", {}).get("containerStatuses", []):
                if ended := container["state"].get("terminated"):
                    reason = f" ({ended['reason']})" if ended.get("reason") else ""
                    print(
                        f"watch: {pod['metadata']['name']} ended with exit code {ended['exitCode']}{reason}"
                    )
        if condition["type"] == "Complete":
            print(f"watch: Job {self._job} is complete")
            return DONE
        details = ": ".join(filter(None, (condition.get("reason"), condition.get("message"))))
        print(f"watch: Job {self._job} has failed: {details}", file=sys.stderr)
        return FAILED


def _comparable(time_logged: str) -> str:
    """Pad a time as Kubernetes writes it, without trailing zeros, so that times compare as text."""
    seconds, _, fraction = time_logged.removesuffix("Z").partition(".")
    return f"{seconds}.{fraction:0<9}" if seconds else ""


def main() -> int:
    """Watch the Job that the command line names."""
    if len(sys.argv) != 2 or not sys.argv[1]:
        print("watch: name a Job: make watch JOB=preprocess", file=sys.stderr)
        return USAGE
    try:
        return Watch(sys.argv[1]).run()
    except KubectlError as error:
        print(f"watch: {error}", file=sys.stderr)
        return USAGE
    except KeyboardInterrupt:
        return STOPPED


if __name__ == "__main__":
    sys.exit(main())
