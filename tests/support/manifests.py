"""The manifests as a cluster reads them: rendered by kubectl, and what their containers start with."""

from __future__ import annotations

import re
import subprocess
import sysconfig
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

import yaml

K8S = Path(__file__).parents[2] / "k8s"
OVERLAYS = sorted(path.parent.name for path in K8S.glob("overlays/*/kustomization.yaml"))
JOB_NAME = "metadata.labels['batch.kubernetes.io/job-name']"

Document = dict[str, Any]


class Workload(NamedTuple):
    """Whatever starts pods."""

    kind: str
    name: str
    spec: Document  # of the object itself
    job: Document | None  # of the Job that it is or starts
    template: Document  # of the pods

    @property
    def pod(self) -> Document:
        return self.template["spec"]

    @property
    def container(self) -> Document:
        (container,) = self.pod["containers"]
        return container


class Rendered(NamedTuple):
    """What `kubectl apply -k` would send."""

    documents: list[Document]

    def of(self, kind: str) -> dict[str, Document]:
        """All objects of a kind, by name."""
        return {d["metadata"]["name"]: d for d in self.documents if d["kind"] == kind}

    def workloads(self) -> list[Workload]:
        """Every Job, CronJob and Deployment."""
        found = []
        for document in self.documents:
            kind, spec = document["kind"], document.get("spec", {})
            job = {"Job": spec, "CronJob": spec.get("jobTemplate", {}).get("spec")}.get(kind)
            if template := (job or spec).get("template"):
                found.append(Workload(kind, document["metadata"]["name"], spec, job, template))
        return found

    def workload(self, kind: str, name: str) -> Workload:
        """The one of this kind and name."""
        (found,) = (one for one in self.workloads() if (one.kind, one.name) == (kind, name))
        return found

    def environment(self, workload: Workload, job_name: str) -> dict[str, str]:
        """What the container of a pod of the Job `job_name` finds, as a kubelet puts it together."""
        found: dict[str, str] = {}
        config_maps = self.of("ConfigMap")
        for source in workload.container.get("envFrom", []):
            found |= config_maps[source["configMapRef"]["name"]]["data"]
        own: dict[str, str] = {}
        for variable in workload.container.get("env", []):
            if "value" in variable:  # only what `env` has named before can be referred to
                own[variable["name"]] = _expand(variable["value"], own)
            else:
                assert variable["valueFrom"] == {"fieldRef": {"fieldPath": JOB_NAME}}
                own[variable["name"]] = job_name
        return found | own

    def args(self, workload: Workload, job_name: str = "a-job") -> list[str]:
        """The args that the container starts with; an undefined $(VARIABLE) is a KeyError."""
        environment = self.environment(workload, job_name)
        return [_expand(arg, environment) for arg in workload.container["args"]]


def _expand(text: str, values: dict[str, str]) -> str:
    return re.sub(r"\$\((\w+)\)", lambda match: values[match[1]], text)


def render(folder: Path) -> Rendered:
    """A kustomization, rendered."""
    kubectl = Path(sysconfig.get_path("scripts"), "kubectl")
    done = subprocess.run([kubectl, "kustomize", folder], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return Rendered(list(yaml.safe_load_all(done.stdout)))


@cache
def overlay(name: str) -> Rendered:
    """An overlay of the repository; `base` is one too."""
    return render(K8S / "base" if name == "base" else K8S / "overlays" / name)


def every_workload() -> list[tuple[str, Workload]]:
    """Each workload of each overlay, for tests that go over all of them."""
    return [(name, workload) for name in OVERLAYS for workload in overlay(name).workloads()]
