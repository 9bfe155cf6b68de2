"""Rules for the layout of the repository: small modules and folders, and entry points that start quickly.

The import-linter contracts in pyproject.toml define which package may import which.
"""

import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
MODULES = [
    path for package in ("preprocessing", "trainer", "tests") for path in (ROOT / package).rglob("*.py")
]
MAX_LINES = 300
MAX_MODULES, MAX_TEST_MODULES = 16, 24  # in one folder
HEAVY = {"apache_beam", "google.cloud.storage", "librosa", "matplotlib", "numpy", "scipy", "tensorflow"}
VAGUE = {"utils", "helpers", "common", "misc"}


def test_no_module_exceeds_the_maximum_length():
    lines = {path.relative_to(ROOT): len(path.read_text().splitlines()) for path in MODULES}
    assert not {path: count for path, count in lines.items() if count > MAX_LINES}


def test_no_folder_exceeds_the_maximum_number_of_modules():
    folders = Counter(path.parent for path in MODULES if path.name != "__init__.py")
    limit = {
        folder: MAX_TEST_MODULES if ROOT / "tests" in folder.parents else MAX_MODULES for folder in folders
    }
    assert not {folder: count for folder, count in folders.items() if count > limit[folder]}


def test_no_module_has_a_vague_name():
    assert not [path for path in MODULES if VAGUE & {path.stem, *path.relative_to(ROOT).parent.parts}]


def test_every_package_has_a_docstring_of_one_line():
    for package in ("preprocessing", "trainer"):
        for path in (ROOT / package).rglob("__init__.py"):
            docstring = compile(path.read_text(), path, "exec").co_consts[0]
            assert isinstance(docstring, str), path
            assert docstring.splitlines()[0].endswith("."), path


@pytest.mark.parametrize("program", ["preprocessing", "trainer"])
def test_entry_points_import_no_heavy_package(program):
    code = f"import sys, {program}.__main__; print(*sys.modules)"
    process = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT
    )
    assert not HEAVY & set(process.stdout.split())
