"""The alerts: every alert in the files is in docs/operations.md and the reverse, and counts what the programs log."""

import ast
import json
import re
from pathlib import Path

import jsonschema
import pytest
import yaml
from support.cluster.manifests import K8S

ROOT = K8S.parent
GKE = K8S / "gke/alerts"
POLICIES = {path.stem: yaml.safe_load(path.read_text()) for path in sorted(GKE.glob("policies/*.yaml"))}
METRICS = {path.stem: yaml.safe_load(path.read_text()) for path in sorted(GKE.glob("metrics/*.yaml"))}
COMPONENT = K8S / "components/alerts"
PROMETHEUS = yaml.safe_load((COMPONENT / "prometheus-rule.yaml").read_text())
RULES = {
    rule["alert"]: rule
    for groups in (
        PROMETHEUS["spec"]["groups"],
        yaml.safe_load((COMPONENT / "loki-rules.yaml").read_text())["groups"],
    )
    for group in groups
    for rule in group["rules"]
}
SCHEMAS = Path(__file__).parents[2] / "support/cluster/schemas"
# https://cloud.google.com/monitoring/api/ref_v3/rest/v3/projects.alertPolicies#Condition
CONDITIONS = {
    "conditionMatchedLog": {"filter", "labelExtractors"},
    "conditionPrometheusQueryLanguage": {
        "query",
        "duration",
        "evaluationInterval",
        "disableMetricValidation",
    },
}
# Reasons of the events of Kubernetes' Job, CronJob and JobSet controllers.
REASONS = {"Completed", "BackoffLimitExceeded", "DeadlineExceeded", "PodFailurePolicy", "FailedIndexes"}
REASONS |= {"ReachedMaxRestarts", "FailJobSetFailurePolicyAction"}
REASONS |= {"MissSchedule", "TooManyMissedTimes", "JobAlreadyActive", "FailedCreate"}


def documented():
    """Return the alerts that docs/operations.md describes, each under a heading of its own."""
    return re.findall(r"^### (\w+)$", (ROOT / "docs/operations.md").read_text(), re.M)


def logged_events():
    """Return the names of all events that the programs log: literals, or constants of a module."""
    constants, arguments = {}, []
    for path in (*(ROOT / "trainer").rglob("*.py"), *(ROOT / "preprocessing").rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text())):
            match node:
                case ast.Assign(targets=[ast.Name(id=name)], value=ast.Constant(value=str(value))):
                    constants[name] = value
                case ast.Call(
                    func=ast.Attribute(attr="log_event") | ast.Name(id="log_event"), args=[argument, *_]
                ):
                    arguments.append(argument)
    return {
        argument.value
        if isinstance(argument, ast.Constant)
        else constants.get(ast.unparse(argument).split(".")[-1])
        for argument in arguments
    }


def test_the_documentation_describes_every_alert_and_no_other():
    assert len(documented()) == len(set(documented()))
    assert set(documented()) == POLICIES.keys() | RULES.keys()


def test_both_platforms_have_the_same_alerts():
    assert POLICIES.keys() == RULES.keys()


@pytest.mark.parametrize("name", POLICIES)
def test_alert_policies_have_the_fields_of_the_api(name):
    policy = POLICIES[name]
    assert policy["displayName"] == f"gtzan-cvae {name}"
    assert policy["combiner"] == "OR"
    assert f"docs/operations.md, {name}" in policy["documentation"]["content"]
    (condition,) = policy["conditions"]
    (kind,) = condition.keys() - {"displayName"}
    assert condition[kind].keys() <= CONDITIONS[kind]
    if kind == "conditionMatchedLog":
        assert policy["alertStrategy"][
            "notificationRateLimit"
        ]  # without it, the API refuses such a condition
        assert 'namespace="gtzan-cvae"' in condition[kind]["filter"].replace("namespace_name", "namespace")


def queries():
    """Return every log filter and query of the files."""
    for policy in POLICIES.values():
        (condition,) = policy["conditions"]
        for kind in CONDITIONS:
            yield from (condition.get(kind, {}).get(field, "") for field in ("filter", "query"))
    yield from (metric["filter"] for metric in METRICS.values())
    yield from (rule["expr"] for rule in RULES.values())


def values_of(field, text):
    """Return what a filter or query compares a field with."""
    found = re.findall(rf'{field}=\(([^)]+)\)|{field}=~?"([^"]+)"', text)
    return {value.strip('" ') for many, one in found for value in (many.split(" OR ") if many else [one])}


def test_alerts_count_events_that_the_programs_log():
    counted = set().union(*(values_of("event", text) for text in queries()))
    assert counted >= {"rollback", "sync_lag", "progress"}
    assert counted <= logged_events()


def test_alerts_count_decisions_that_a_retraining_prints():
    from trainer.registry.promotion import PROMOTED, REFUSED, UNCHANGED

    counted = set().union(*(values_of("decision", text) for text in queries()))
    assert counted == {PROMOTED, REFUSED, UNCHANGED}
    for text in queries():
        assert "decision=" not in text or 'event="decision"' in text or "logging_googleapis" in text


def test_alerts_count_events_of_kubernetes_controllers():
    assert set().union(*(values_of("jsonPayload.reason", text) for text in queries())) == REASONS


def test_queries_use_the_metrics_and_labels_of_the_files():
    used = {}
    for text in queries():
        for name, selector in re.findall(
            r"logging_googleapis_com:user_(\w+?)(?:_sum|_count)?\{(.+?)\}", text
        ):
            used.setdefault(name, set()).update(re.findall(r"(\w+)=", selector))
    assert used.keys() == METRICS.keys()
    for name, labels in used.items():
        assert labels - {"monitored_resource"} <= METRICS[name].get("labelExtractors", {}).keys()
        assert "monitored_resource" in labels


def test_the_metric_of_quarantined_files_reads_the_summary_of_a_preprocessing(capsys, corpus, tmp_path):
    from support.tiny_corpus import TINY

    from preprocessing.__main__ import main

    flags = ["--input", str(corpus), "--output", str(tmp_path), "--log-format", "json"]
    assert main([*flags, *TINY]) == 0
    events = map(json.loads, capsys.readouterr().out.splitlines())
    (message,) = [event["message"] for event in events if event["event"] == "dataset"]
    extractor = METRICS["gtzan_cvae_quarantined"]["valueExtractor"]
    pattern = re.fullmatch(r'REGEXP_EXTRACT\(jsonPayload.message, "(.+)"\)', extractor)[1]
    assert re.findall(pattern, message) == ["0"]
    loki = re.search(r'regexp "(.+?)"', RULES["QuarantineAboveUsual"]["expr"])[1]
    assert re.search(loki, message)["count"] == "0"


def test_the_prometheus_rule_is_valid():
    schema = yaml.safe_load((SCHEMAS / "prometheusrule.yaml").read_text())
    jsonschema.validate(PROMETHEUS, schema)
    for rule in RULES.values():
        assert rule["labels"]["severity"] in ("warning", "critical")
        assert rule["annotations"]["summary"]


def test_the_alert_of_a_missing_run_waits_longer_than_a_week_and_a_training():
    assert "[10d]" in POLICIES["RunMissing"]["conditions"][0]["conditionPrometheusQueryLanguage"]["query"]
    assert "10 * 86400" in RULES["RunMissing"]["expr"]
