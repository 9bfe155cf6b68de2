"""Rules for every pod of every overlay: privileges, resources, failure policy and network."""

import re

import pytest
from support.cluster.container_flags import flags_of
from support.cluster.manifests import OVERLAYS, every_workload, overlay

from preprocessing.progress_file import PHASE_SECS

# Pod Security Standards, level restricted: the kinds of volumes that a pod may have.
RESTRICTED_VOLUMES = {"configMap", "csi", "downwardAPI", "emptyDir", "ephemeral", "persistentVolumeClaim"}
RESTRICTED_VOLUMES |= {"projected", "secret"}
UNITS = {"m": 1e-3, "": 1, "Ki": 2**10, "Mi": 2**20, "Gi": 2**30}

WORKLOADS = [pytest.param(name, w, id=f"{name}-{w.kind}-{w.name}") for name, w in every_workload()]
JOBS = [case for case in WORKLOADS if case.values[1].job]
TRAINERS = [case for case in WORKLOADS if case.values[1].container["name"] == "trainer"]

every_pod = pytest.mark.parametrize(("name", "workload"), WORKLOADS)
every_job = pytest.mark.parametrize(("name", "workload"), JOBS)
every_trainer = pytest.mark.parametrize(("name", "workload"), TRAINERS)


def to_number(quantity):
    """Convert a Kubernetes quantity to a number."""
    number, unit = re.fullmatch(r"([\d.]+)(\w*)", str(quantity)).groups()
    return float(number) * UNITS[unit]


@pytest.mark.parametrize("name", ["base", *OVERLAYS])
def test_the_namespace_enforces_the_restricted_profile(name):
    (namespace,) = overlay(name).of("Namespace").values()
    assert namespace["metadata"]["labels"]["pod-security.kubernetes.io/enforce"] == "restricted"
    namespaced = [
        d
        for d in overlay(name).documents
        if d["kind"] not in ("Namespace", "PersistentVolume", "ComputeClass")
    ]
    assert {d["metadata"]["namespace"] for d in namespaced} == {namespace["metadata"]["name"]}


@every_pod
def test_pods_meet_the_restricted_profile(name, workload):
    pod, container = workload.pod, workload.container
    assert not pod.keys() & {"hostNetwork", "hostPID", "hostIPC", "initContainers"}
    assert all(volume.keys() - {"name"} <= RESTRICTED_VOLUMES for volume in pod.get("volumes", []))
    assert pod["securityContext"]["runAsNonRoot"]
    assert pod["securityContext"]["runAsUser"] > 0
    assert pod["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
    assert container["securityContext"] == {
        "allowPrivilegeEscalation": False,
        "capabilities": {"drop": ["ALL"]},
        "readOnlyRootFilesystem": True,
    }
    assert not any("hostPort" in port for port in container.get("ports", []))


@every_pod
def test_no_pod_mounts_a_cluster_token(name, workload):
    if account := workload.pod.get("serviceAccountName"):
        assert overlay(name).of("ServiceAccount")[account]["automountServiceAccountToken"] is False
    else:
        assert workload.pod["automountServiceAccountToken"] is False


@every_pod
def test_pods_have_requests_and_limits(name, workload):
    requests, limits = (workload.container["resources"][bound] for bound in ("requests", "limits"))
    for resource in ("cpu", "memory", "ephemeral-storage"):
        assert 0 < to_number(requests[resource]) <= to_number(limits[resource])
    in_memory = on_disk = 0
    for volume in workload.pod.get("volumes", []):
        if "emptyDir" in volume:
            size = to_number(volume["emptyDir"]["sizeLimit"])
            in_memory += size * (volume["emptyDir"].get("medium") == "Memory")
            on_disk += size * ("medium" not in volume["emptyDir"])
    assert on_disk <= to_number(limits["ephemeral-storage"])
    assert 2 * in_memory <= to_number(limits["memory"])


@every_job
def test_the_temporary_folder_is_writable(name, workload):
    mounted = {mount["mountPath"]: mount["name"] for mount in workload.container["volumeMounts"]}
    volumes = {volume["name"]: volume for volume in workload.pod["volumes"]}
    assert "emptyDir" in volumes[mounted["/tmp"]]


@every_trainer
def test_trainers_have_shared_memory_and_time_to_save(name, workload):
    mounted = {mount["mountPath"]: mount["name"] for mount in workload.container["volumeMounts"]}
    volumes = {volume["name"]: volume for volume in workload.pod["volumes"]}
    assert volumes[mounted["/dev/shm"]]["emptyDir"]["medium"] == "Memory"
    assert workload.pod["terminationGracePeriodSeconds"] >= 60


@every_trainer
def test_trainers_without_progress_are_killed(name, workload):
    flags = flags_of(overlay(name), workload.kind, workload.name)
    probe = workload.container["livenessProbe"]
    (age_secs,) = map(
        int, re.findall(rf"stat -c %Y {flags.progress_file}\) \)\) -lt (\d+)", probe["exec"]["command"][-1])
    )
    assert age_secs > PHASE_SECS  # of the longest phase without units of work
    assert str(flags.progress_file).startswith("/tmp/")


@every_job
def test_programs_log_json(name, workload):
    assert flags_of(overlay(name), workload.kind, workload.name).log_format == "json"


@every_job
def test_exit_codes_decide_what_is_retried(name, workload):
    assert workload.pod["restartPolicy"] == "Never"  # required for a podFailurePolicy
    action_of = {}
    for rule in workload.job["podFailurePolicy"]["rules"]:
        if "onExitCodes" in rule:
            assert rule["onExitCodes"]["containerName"] == workload.container["name"]
            assert rule["onExitCodes"]["operator"] == "In"
            action_of |= dict.fromkeys(rule["onExitCodes"]["values"], rule["action"])
        else:
            action_of |= {condition["type"]: rule["action"] for condition in rule["onPodConditions"]}
    assert action_of == {2: "FailJob", 3: "FailJob", 75: "Ignore", "DisruptionTarget": "Ignore"}


@every_job
def test_jobs_have_deadlines_and_are_deleted_when_finished(name, workload):
    assert 0 < workload.job["backoffLimit"] <= 6
    assert 0 < workload.job["activeDeadlineSeconds"] <= 2 * 24 * 3600
    assert workload.job["ttlSecondsAfterFinished"] >= 24 * 3600  # so that its logs can be read the next day


@every_pod
def test_images_are_pinned(name, workload):
    image = workload.container["image"]
    # By digest where they are pushed, by version and revision where they are built.
    assert re.fullmatch(
        r"\S+?:\d+\.\d+\.\d+-\w+" if name == "local" else r"\S+?@sha256:[0-9a-f]{64}", image
    ), image


@every_trainer
def test_trainers_request_gpus_on_gke(name, workload):
    required = flags_of(overlay(name), workload.kind, workload.name).require_gpus
    limits, tolerated = workload.container["resources"]["limits"], workload.pod.get("tolerations", [])
    if name == "local":
        assert not limits.keys() & {"nvidia.com/gpu"}
        assert not required
    else:
        assert int(limits["nvidia.com/gpu"]) == required >= 1
        assert workload.pod["nodeSelector"] == {"cloud.google.com/compute-class": "gtzan-gpus"}
        assert overlay(name).of("ComputeClass").keys() == {"gtzan-gpus"}
        assert {toleration["key"] for toleration in tolerated} == {
            "cloud.google.com/compute-class",
            "nvidia.com/gpu",
            "cloud.google.com/gke-spot",
        }


@pytest.mark.parametrize("name", ["base", *OVERLAYS])
def test_all_trainers_have_the_same_pod_except_for_arguments_and_network(name):
    specs = []
    for workload in overlay(name).workloads():
        if workload.container["name"] == "trainer":
            container = {k: v for k, v in workload.container.items() if k not in ("args", "env", "ports")}
            pod = {k: v for k, v in workload.pod.items() if k not in ("containers", "subdomain")}
            specs.append((container, pod, workload.job["podFailurePolicy"]))
    assert len(specs) >= 2
    assert all(spec == specs[0] for spec in specs)


def selects(policy, workload):
    labels = policy["spec"]["podSelector"].get("matchLabels", {})
    return labels.items() <= workload.template["metadata"]["labels"].items()


def rules(name, workload, direction):
    """Return the connections that the network policies allow a pod, as (peers, protocol and port)."""
    policies = [p["spec"] for p in overlay(name).of("NetworkPolicy").values() if selects(p, workload)]
    assert any(direction.capitalize() in policy["policyTypes"] for policy in policies), "no policy applies"
    allowed = set()
    for rule in (rule for policy in policies for rule in policy.get(direction, [])):
        peers = str(rule.get("to", rule.get("from", "anywhere")))
        ports = rule.get("ports", [{"protocol": "any", "port": "any"}])
        allowed |= {(peers, f"{port['protocol']} {port['port']}") for port in ports}
    return allowed


def to(component):
    return str([{"podSelector": {"matchLabels": {"app.kubernetes.io/component": component}}}])


DNS_AND_TLS = {("anywhere", "UDP 53"), ("anywhere", "TCP 53"), ("anywhere", "TCP 443")}
METADATA = {
    (str([{"ipBlock": {"cidr": "169.254.169.254/32"}}]), "TCP 80"),
    (str([{"ipBlock": {"cidr": "169.254.169.252/32"}}]), "TCP 988"),
}
STORAGE = {
    "local": {(to("storage-emulator"), "TCP 9023")},
    "gke-gpu": METADATA,
    "gke-multiworker": METADATA,
}


@every_pod
def test_network_policies_allow_storage_and_traffic_between_workers_only(name, workload):
    workers = {(to("worker"), "any any")} if workload.pod.get("subdomain") == "workers" else set()
    assert rules(name, workload, "egress") == DNS_AND_TLS | STORAGE[name] | workers
    clients = {(str([{"podSelector": {}}]), "TCP 9023")} if workload.name == "storage-emulator" else set()
    assert rules(name, workload, "ingress") == workers | clients
