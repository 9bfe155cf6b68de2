"""What setup.py requires is what the lock file of this environment installs, on each stack."""

import runpy
from importlib import metadata
from pathlib import Path

import pytest
import setuptools
from packaging.requirements import Requirement


@pytest.fixture
def requirements(monkeypatch):
    """Return a function that gives setup.py's requirements of an extra, in an environment like this one or another."""
    arguments = {}
    monkeypatch.setattr(setuptools, "setup", arguments.update)
    runpy.run_path(str(Path(__file__).parents[2] / "setup.py"))

    def needed(extra, **environment):
        lines = [*arguments["install_requires"], *arguments["extras_require"][extra]]
        parsed = [Requirement(line) for line in lines]
        return [r for r in parsed if r.marker is None or r.marker.evaluate(environment)]

    return needed


@pytest.mark.parametrize("extra", ["trainer", "studio", "mlflow"])
def test_the_installed_packages_are_within_the_bounds_of_setup_py(requirements, extra):
    needed = requirements(extra)
    assert {"numpy", "apache-beam"} <= {r.name for r in needed}
    assert not [str(r) for r in needed if not r.specifier.contains(metadata.version(r.name))]


@pytest.mark.parametrize(("python", "absent"), [("3.11", "tf-keras"), ("3.12", "tensorflow-addons")])
def test_the_version_of_python_selects_one_stack(requirements, python, absent):
    names = [r.name for r in requirements("trainer", python_version=python)]
    assert names.count("tensorflow") == names.count("numpy") == names.count("apache-beam") == 1
    assert absent not in names
