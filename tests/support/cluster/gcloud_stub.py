"""A stand-in for gcloud that keeps a project's state in the file $GCLOUD_STATE.

Like the real one, it fails to create what exists, to change what does not exist, to bind an identity of a pool before a
cluster has made the pool, and to add a binding without a condition to a policy that has conditional ones.
"""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from typing import Any

PROJECT, NUMBER, OPERATOR = "my-project", "123456789", "operator@example.com"
QUOTAS = {
    "project-info": "GPUS_ALL_REGIONS,0.0\nCPUS_ALL_REGIONS,32.0",
    "regions": "NVIDIA_L4_GPUS,4.0\nPREEMPTIBLE_NVIDIA_L4_GPUS,4.0",
}
# The commands that the stub knows, with their flags. A `*` stands for the name of a resource.
COMMANDS = {
    "services enable": "",
    "config get-value account": "",
    "projects describe *": "format",
    "projects add-iam-policy-binding *": "member role condition",
    "storage buckets describe *": "",
    "storage buckets create *": "location uniform-bucket-level-access public-access-prevention",
    "storage buckets add-iam-policy-binding *": "member role condition",
    "artifacts repositories describe *": "location",
    "artifacts repositories create *": "repository-format location",
    "artifacts repositories add-iam-policy-binding *": "location member role",
    "iam service-accounts describe *": "",
    "iam service-accounts create *": "display-name",
    "iam service-accounts add-iam-policy-binding *": "member role condition",
    "container clusters describe *": "zone",
    "container clusters create *": "zone machine-type num-nodes service-account release-channel workload-pool "
    "enable-dataplane-v2 monitoring",
    "container clusters get-credentials *": "zone",
    "container node-pools describe *": "cluster zone",
    "container node-pools create *": "cluster zone node-locations machine-type accelerator service-account disk-size "
    "node-labels node-taints enable-autoscaling num-nodes total-min-nodes total-max-nodes location-policy spot "
    "reservation-affinity reservation",
    "compute networks subnets update *": "region enable-private-ip-google-access",
    "compute project-info describe": "flatten format",
    "compute regions describe *": "flatten format",
    "logging metrics describe *": "",
    "logging metrics create *": "config-from-file",
    "logging metrics update *": "config-from-file",
    "beta monitoring channels list": "filter format limit",
    "beta monitoring channels create": "display-name type channel-labels",
    "monitoring policies list": "filter format limit",
    "monitoring policies create": "policy-from-file notification-channels",
    "monitoring policies update *": "policy-from-file set-notification-channels",
}
SWITCHES = {
    "uniform-bucket-level-access",
    "public-access-prevention",
    "enable-dataplane-v2",
    "enable-autoscaling",
}
SWITCHES |= {"spot", "enable-private-ip-google-access", "quiet"}
# The service that each group of commands needs.
SERVICES = {
    "storage": "storage",
    "artifacts": "artifactregistry",
    "container": "container",
    "logging": "logging",
}
SERVICES |= {"beta": "monitoring", "monitoring": "monitoring", "compute": "compute", "iam": "iam"}


def install(folder: Path) -> None:
    """Write a program `gcloud` that runs this file, without Python's slow search for packages."""
    packages = os.pathsep.join(path for path in sys.path if path.endswith("site-packages"))
    program = folder / "gcloud"
    program.write_text(f'#!/bin/sh\nPYTHONPATH={packages} exec {sys.executable} -S {__file__} "$@"\n')
    program.chmod(0o755)


def fail(message: str) -> None:
    """Print an error as gcloud does, and exit with code 1."""
    print(f"ERROR: (gcloud) {message}", file=sys.stderr)
    sys.exit(1)


def parse(arguments: list[str]) -> tuple[list[str], dict[str, str]]:
    """Separate the words from the flags."""
    words, flags, rest = [], {}, iter(arguments)
    for argument in rest:
        if argument.startswith("--"):
            name, has_value, value = argument[2:].partition("=")
            flags[name] = value if has_value or name in SWITCHES else next(rest)
        else:
            words.append(argument)
    return words, flags


def find_command(words: list[str], flags: dict[str, str]) -> tuple[str, str]:
    """Return the known command that the words form, and the name of its resource."""
    for command, known in COMMANDS.items():
        parts = command.removesuffix(" *").split()
        if words[: len(parts)] == parts:
            unknown = flags.keys() - {"project", "quiet", *known.split()}
            if unknown:
                fail(f"unrecognized arguments: {unknown}")
            return command, " ".join(words[len(parts) :])
    fail(f"Invalid choice: {words}")
    raise AssertionError


class Project:
    """The resources of a project, by kind and name, with the settings that created them, and their policies."""

    def __init__(self, state: dict[str, Any]) -> None:
        self.resources: dict[str, dict[str, Any]] = state.setdefault("resources", {"projects": {PROJECT: {}}})
        self.policies: dict[str, list[dict[str, str]]] = state.setdefault("policies", {})
        self.services: list[str] = state.setdefault("services", [])

    def of(self, kind: str) -> dict[str, Any]:
        """Return the resources of a kind."""
        return self.resources.get(kind, {})

    def create(self, kind: str, name: str, settings: dict[str, str]) -> None:
        """Create a resource."""
        if name in self.of(kind):
            fail(f"ALREADY_EXISTS: {kind} {name} already exists")
        account = settings.get("service-account")
        if account and account not in self.of("iam service-accounts"):
            fail(f"INVALID_ARGUMENT: Service account {account} does not exist.")
        if "cluster" in settings and settings["cluster"] not in self.of("container clusters"):
            fail(f"NOT_FOUND: cluster {settings['cluster']}")
        self.put(kind, name, settings)

    def put(self, kind: str, name: str, settings: dict[str, Any]) -> None:
        """Set the settings of a resource."""
        self.resources.setdefault(kind, {})[name] = settings

    def bind(self, kind: str, name: str, flags: dict[str, str]) -> None:
        """Add a binding to the policy of a resource."""
        if name not in self.of(kind):
            fail(f"NOT_FOUND: {kind} {name}")
        self._check_member(flags["member"])
        policy = self.policies.setdefault(f"{kind} {name}", [])
        if "condition" not in flags and any(binding["condition"] != "None" for binding in policy):
            fail(
                "Adding a binding without specifying a condition to a policy containing conditions is prohibited in "
                "non-interactive mode. Run the command again with `--condition=None`"
            )
        binding = {
            "member": flags["member"],
            "role": flags["role"],
            "condition": flags.get("condition", "None"),
        }
        if binding not in policy:
            policy.append(binding)

    def _check_member(self, member: str) -> None:
        kind, _, name = member.partition(":")
        if kind == "serviceAccount" and name not in self.of("iam service-accounts"):
            fail(f"INVALID_ARGUMENT: Service account {name} does not exist.")
        pools = {settings.get("workload-pool") for settings in self.of("container clusters").values()}
        if kind == "principal" and name.split("/")[8] not in pools:
            fail(f"INVALID_ARGUMENT: Identity Pool does not exist ({name.split('/')[8]})")


def run(project: Project, command: str, name: str, flags: dict[str, str]) -> None:
    """Execute a command."""
    kind, _, verb = command.removesuffix(" *").rpartition(" ")
    if (service := SERVICES.get(command.split()[0])) and f"{service}.googleapis.com" not in project.services:
        fail(
            f"PERMISSION_DENIED: {service} API has not been used in project {PROJECT} before or it is disabled"
        )
    if command == "services enable":
        project.services[:] = sorted({*project.services, *name.split()})
    elif command == "config get-value account":
        print(OPERATOR)
    elif command == "projects describe *":
        print(NUMBER)
    elif kind in ("compute project-info", "compute regions"):
        print(QUOTAS[kind.split()[1]])
    elif command == "compute networks subnets update *":
        project.put("subnets", name, flags)
    elif verb == "add-iam-policy-binding":
        project.bind(kind, name, flags)
    elif "monitoring" in kind:
        monitor(project, kind, verb, name, flags)
    elif verb == "create":
        full_name = f"{name}@{PROJECT}.iam.gserviceaccount.com" if kind == "iam service-accounts" else name
        project.create(kind, full_name, read_file(flags))
    elif name not in project.of(kind):
        fail(f"NOT_FOUND: {kind} {name}")
    elif verb == "update":
        project.put(kind, name, read_file(flags))


def monitor(project: Project, kind: str, verb: str, name: str, flags: dict[str, str]) -> None:
    """List, create or update notification channels and alert policies, which have ids of their own."""
    resources = project.of(kind)
    if verb == "list":
        wanted = flags["filter"].partition("=")[2].strip('"')
        print("\n".join(key for key, value in resources.items() if wanted in json.dumps(value)))
    elif verb == "create":
        project.put(kind, f"{kind.split()[-1]}/{len(resources)}", read_file(flags))
    elif name not in resources:
        fail(f"NOT_FOUND: {name}")
    else:
        settings = read_file(flags)
        settings["notification-channels"] = settings.pop("set-notification-channels")
        resources[name] = settings


def read_file(flags: dict[str, str]) -> dict[str, Any]:
    """Return the flags, with the content of a file that one of them names in its place."""
    import yaml  # slow, and few commands need it

    for flag in ("config-from-file", "policy-from-file"):
        if flag in flags:
            return {**flags, flag: yaml.safe_load(Path(flags[flag]).read_text())}
    return dict(flags)


def main() -> None:
    """Run one command on the state in the file."""
    path = Path(os.environ["GCLOUD_STATE"])
    before = path.read_text() if path.exists() else ""
    state = json.loads(before or "{}")
    words, flags = parse(sys.argv[1:])
    if flags.pop("project", PROJECT) != PROJECT:
        fail("PERMISSION_DENIED: the project does not exist, or you lack permission to access it")
    flags.pop("quiet", None)
    project = Project(state)
    unchanged = json.dumps(state)
    run(project, *find_command(words, flags), flags)
    if json.dumps(state) != unchanged:
        path.write_text(json.dumps(state))


if __name__ == "__main__":
    main()
