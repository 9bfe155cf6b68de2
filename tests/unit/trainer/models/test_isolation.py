"""No module outside trainer/models depends on which model a preset selects.

The tests search the Python files of trainer/ for comparisons of a preset with a name, lookups by preset and names of
presets, for imports of concrete model modules and for their classes.
"""

import ast
from pathlib import Path

import pytest

TRAINER = Path(__file__).parents[4] / "trainer"
INTERFACE = {"trainer.models", "trainer.models.architectures", "trainer.models.base"}
CONCRETE_CLASSES = {"HierarchicalVAE", "ReferenceCVAE", "HierarchicalLatents"}
SEARCHED = [
    path
    for path in sorted(TRAINER.rglob("*.py"))
    if TRAINER / "models" not in path.parents and path != TRAINER / "presets.py"
]


def violations(source: str) -> list[str]:
    """Describe the dependencies of a module's source on concrete models."""
    descriptions = []
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            descriptions += [alias.name for alias in node.names if _is_concrete(alias.name)]
        elif isinstance(node, ast.ImportFrom) and node.module:
            names = {f"{node.module}.{alias.name}" for alias in node.names}
            if _is_concrete(node.module) or (node.module == "trainer.models" and any(map(_is_module, names))):
                descriptions.append(f"import from {node.module}")
        elif isinstance(node, ast.Name | ast.Attribute) and _name(node) in CONCRETE_CLASSES:
            descriptions.append(_name(node))
        elif isinstance(node, ast.Compare) and any(map(_is_preset, [node.left, *node.comparators])):
            descriptions.append(ast.unparse(node))
        elif isinstance(node, ast.Match) and _is_preset(node.subject):
            descriptions.append(f"match {ast.unparse(node.subject)}")
        elif _is_lookup(node):
            descriptions.append(ast.unparse(node))
    return descriptions


def _is_concrete(module: str) -> bool:
    return module.startswith("trainer.models.") and module not in INTERFACE


def _is_module(name: str) -> bool:
    return _is_concrete(name) and (TRAINER / "models" / f"{name.rsplit('.', 1)[1]}.py").exists()


def _name(node: ast.AST) -> str:
    return getattr(node, "attr", getattr(node, "id", ""))


def _is_preset(node: ast.AST) -> bool:
    """`config.preset`, `preset`, `config["preset"]` or `config.get("preset")`; not the field's own name."""
    if isinstance(node, ast.Subscript):
        return isinstance(node.slice, ast.Constant) and node.slice.value == "preset"
    if isinstance(node, ast.Call) and _name(node.func) == "get":
        return bool(node.args) and isinstance(node.args[0], ast.Constant) and node.args[0].value == "preset"
    return _name(node) == "preset"


def _is_lookup(node: ast.AST) -> bool:
    """`{...}[config.preset]`, `{...}.get(config.preset)` or `config.preset.startswith("wave")`."""
    if isinstance(node, ast.Subscript):
        return _is_preset(node.slice) and _name(node.value) != "PRESETS"
    if not (isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute)):
        return False
    method, owner = node.func.attr, node.func.value
    if method == "get":
        return bool(node.args) and _is_preset(node.args[0]) and _name(owner) != "PRESETS"
    return method in ("startswith", "endswith") and _is_preset(owner)


@pytest.mark.parametrize("path", SEARCHED, ids=lambda path: str(path.relative_to(TRAINER)))
def test_no_module_outside_models_depends_on_a_concrete_model(path):
    assert violations(path.read_text()) == []


@pytest.mark.parametrize(
    "source",
    [
        'kind = config.preset == "reference"',
        'if run.config.preset in ("tiny", "wave"): pass',
        'if config["preset"] != "reference": pass',
        'model_class = {"reference": A}.get(config.preset, B)',
        'model_class = {"reference": A}[config.preset]',
        'if config.preset.startswith("wave"): pass',
        'match config.preset:\n    case "wave": pass',
        "isinstance(model, HierarchicalVAE)",
        "isinstance(model, hierarchical.HierarchicalVAE)",
        "from trainer.models.hierarchical.model import HierarchicalVAE",
        "from trainer.models import reference",
        "import trainer.models.hierarchical.priors",
    ],
)
def test_the_search_finds_dependencies_on_concrete_models(source):
    assert violations(source)


@pytest.mark.parametrize(
    "source",
    [
        "from trainer.models import architectures, make_model",
        "from trainer.models.base import WaveformVAE",
        'PRESETS[given.get("preset", "wave")]',
        'print(config["preset"], config.preset)',
        'choices = sorted(PRESETS) if field.name == "preset" else field.choices',
    ],
)
def test_the_search_permits_the_models_interface(source):
    assert violations(source) == []
