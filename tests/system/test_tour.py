"""The notebook of the documentation runs from start to end."""

import json
import os
from pathlib import Path

import nbformat
import pytest
from nbclient import NotebookClient
from support.tiny_corpus import WAVE

pytestmark = pytest.mark.long

TOUR = Path(__file__).resolve().parents[2] / "docs/tour.ipynb"


def test_the_tour_runs_and_shows_plots_and_players(dataset, tmp_path, monkeypatch):
    monkeypatch.setenv("TOUR_DATA", str(dataset))
    monkeypatch.setenv("TOUR_RUN", str(tmp_path / "run"))
    monkeypatch.setenv("TOUR_SETTINGS", json.dumps({"preset": "wave", "epochs": 2, **WAVE}))
    paths = [str(TOUR.parents[1]), os.environ.get("PYTHONPATH", "")]
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(filter(None, paths)))
    notebook = nbformat.read(TOUR, as_version=4)
    assert not any(cell.get("outputs") for cell in notebook.cells), "commit the notebook without outputs"
    NotebookClient(notebook, timeout=300, resources={"metadata": {"path": str(tmp_path)}}).execute()
    outputs = [output for cell in notebook.cells for output in cell.get("outputs", [])]
    shown = [kind for output in outputs for kind in output.get("data", {})]
    assert shown.count("image/png") == 9
    assert sum("<audio" in output.get("data", {}).get("text/html", "") for output in outputs) == 7
    printed = "".join(output["text"] for output in outputs if output.output_type == "stream")
    assert "unknown genre polka of the moon" in printed
    assert (tmp_path / "run/report.html").exists()
