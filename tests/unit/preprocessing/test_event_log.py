"""The events that alerts count are those that docs/training.md lists, with the same fields."""

import ast
import re
from pathlib import Path

ROOT = Path(__file__).parents[3]
SEVERITIES = {"INFO", "WARNING", "ERROR"}
NAMED_BY_CONSTANTS = {"PROGRESS": "progress"}
# Fields that a call passes as a dictionary, and how the page describes them.
OF_DICTIONARIES = {
    "epoch": "the epoch's row in `metrics.jsonl`",
    "progress": "of an epoch also",
    "decision": "",
}


def logged_events():
    """Return the severity and the fields of every call of `log_event`, by the event's name."""
    events = {}
    for package in ("preprocessing", "trainer"):
        for path in (ROOT / package).rglob("*.py"):
            for node in ast.walk(ast.parse(path.read_text())):
                if isinstance(node, ast.Call) and getattr(node.func, "attr", "") == "log_event":
                    name = node.args[0]
                    name = name.value if isinstance(name, ast.Constant) else NAMED_BY_CONSTANTS[name.attr]
                    severity = node.args[2].attr if len(node.args) > 2 else "INFO"
                    fields = {keyword.arg for keyword in node.keywords if keyword.arg}
                    assert events.setdefault(name, (severity, fields)) == (severity, fields), name
    return events


def documented_events():
    """Return the severity and the cell of the fields of every row of the page's table, by the event's name."""
    page = (ROOT / "docs/training.md").read_text().partition("\n## Events")[2].partition("\n## ")[0]
    rows = [
        [cell.strip() for cell in line.strip("|").split("|")] for line in page.splitlines() if "|" in line
    ]
    return {
        name: (severity, fields)
        for names, severity, fields, _ in rows
        if severity in SEVERITIES
        for name in re.findall(r"`(\w+)`", names)
    }


def test_the_page_lists_every_event_with_its_severity_and_fields():
    logged, documented = logged_events(), documented_events()
    assert documented.keys() == logged.keys()
    for name, (severity, fields) in logged.items():
        listed_severity, cell = documented[name]
        assert listed_severity == severity, name
        if name in OF_DICTIONARIES:
            assert OF_DICTIONARIES[name] in cell
            assert fields <= set(re.findall(r"`(\w+)`", cell)), name
        else:
            assert set(re.findall(r"`(\w+)`", re.sub(r"\(each .*?\)", "", cell))) == fields, name
