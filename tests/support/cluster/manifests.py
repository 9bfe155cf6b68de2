"""The Kubernetes manifests, rendered by kubectl, with the arguments and environment of their containers."""

from __future__ import annotations

import re
import shutil
import subprocess
import sysconfig
import tempfile
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

import yaml

K8S = Path(__file__).parents[3] / "k8s"
OVERLAYS = sorted(path.parent.name for path in K8S.glob("overlays/*/kustomization.yaml"))
JOB_NAME = "metadata.labels['batch.kubernetes.io/job-name']"

# The schemas of custom resources, by kind. Google publishes none for ComputeClass: this one has what the manifests use.
SCHEMAS = Path(__file__).with_name("schemas")
CUSTOM = {
    schema["properties"]["kind"]["const"]: schema
    for schema in (yaml.safe_load(path.read_text()) for path in SCHEMAS.glob("*.yaml"))
}

Document = dict[str, Any]


class Workload(NamedTuple):
    """An object that starts pods."""

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
    """The objects that `kubectl apply -k` would send."""

    documents: list[Document]

    def of(self, kind: str) -> dict[str, Document]:
        """Return the objects of a kind, by name."""
        return {d["metadata"]["name"]: d for d in self.documents if d["kind"] == kind}

    def workloads(self) -> list[Workload]:
        """Return every Job, CronJob and Deployment."""
        workloads = []
        for document in self.documents:
            kind, spec = document["kind"], document.get("spec", {})
            job = {"Job": spec, "CronJob": spec.get("jobTemplate", {}).get("spec")}.get(kind)
            if template := (job or spec).get("template"):
                workloads.append(Workload(kind, document["metadata"]["name"], spec, job, template))
        return workloads

    def workload(self, kind: str, name: str) -> Workload:
        """Return the workload of this kind and name."""
        (workload,) = (w for w in self.workloads() if (w.kind, w.name) == (kind, name))
        return workload

    def environment(self, workload: Workload, job_name: str) -> dict[str, str]:
        """Return the environment of a container in a pod of the Job `job_name`, as a kubelet composes it."""
        from_config_maps: dict[str, str] = {}
        config_maps = self.of("ConfigMap")
        for source in workload.container.get("envFrom", []):
            from_config_maps |= config_maps[source["configMapRef"]["name"]]["data"]
        own: dict[str, str] = {}
        for variable in workload.container.get("env", []):
            if "value" in variable:  # it can refer only to variables that precede it in `env`
                own[variable["name"]] = _expand(variable["value"], own)
            else:
                assert variable["valueFrom"] == {"fieldRef": {"fieldPath": JOB_NAME}}
                own[variable["name"]] = job_name
        return from_config_maps | own

    def args(self, workload: Workload, job_name: str = "a-job") -> list[str]:
        """Return the container's arguments with variables expanded; an undefined $(VARIABLE) is a KeyError."""
        environment = self.environment(workload, job_name)
        return [_expand(arg, environment) for arg in workload.container["args"]]


def _expand(text: str, values: dict[str, str]) -> str:
    return re.sub(r"\$\((\w+)\)", lambda match: values[match[1]], text)


def render(folder: Path) -> Rendered:
    """Render the kustomization in a folder."""
    kubectl = Path(sysconfig.get_path("scripts"), "kubectl")
    process = subprocess.run([kubectl, "kustomize", folder], capture_output=True, text=True)
    assert process.returncode == 0, process.stderr
    return Rendered(list(yaml.safe_load_all(process.stdout)))


@cache
def with_components(
    name: str = "gke-multiworker",
    before: tuple[str, ...] = ("gke-reservation", "alerts", "studio"),
    after: tuple[str, ...] = ("jobset", "kueue"),
) -> Rendered:
    """Render an overlay with optional components, listed before and after `wiring`."""
    with tempfile.TemporaryDirectory() as folder:
        k8s = Path(shutil.copytree(K8S, Path(folder) / "k8s"))
        kustomization = k8s / "overlays" / name / "kustomization.yaml"
        line = "  - ../../components/{}\n"
        listed = [line.format(component) for component in (*before, "wiring", *after)]
        text = kustomization.read_text()
        assert line.format("wiring") in text
        kustomization.write_text(text.replace(line.format("wiring"), "".join(listed)))
        return render(kustomization.parent)


@cache
def overlay(name: str) -> Rendered:
    """Render an overlay of the repository, or `base`."""
    return render(K8S / "base" if name == "base" else K8S / "overlays" / name)


def every_workload() -> list[tuple[str, Workload]]:
    """Return each overlay's name with each of its workloads, for parametrized tests."""
    return [(name, workload) for name in OVERLAYS for workload in overlay(name).workloads()]
