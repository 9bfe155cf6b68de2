"""The design's table of who may import whom, checked on the code itself."""

import ast
from pathlib import Path

ROOT = Path(__file__).parents[2]

# What `trainer` may take from `preprocessing`: the record's home, the manifest, genre names, errors, objects
# of a bucket, and what both programs' pages are made of. No Beam.
SHARED = {"attributes", "bucket", "example", "manifest", "gtzan", "errors", "lease", "page", "records"}
WITHOUT_THIRD_PARTIES = {
    "preprocessing": {"__main__", "errors", "gtzan", "manifest", "options", "records"},
    "trainer": {"__main__", "cluster", "config", "flags", "interrupt", "decision"},
}
WITHOUT_TENSORFLOW = {
    "candidates",
    "champion",
    "comparison_page",
    "held_out",
    "pointer",
    "render",
    "report",
    "report_chart",
    "report_evaluation",
    "report_page",
    "verified",
    "storage",
    "mirror",
    "run_directory",
    "retrain",
    "status",
}
# Lower rooms first: a room may import only rooms before it.
ORDER = {
    "preprocessing": [
        "errors", "gtzan", "options", "manifest", "records", "example", "container", "chunked", "header",
        "decoder", "audio", "rhythm", "attributes", "quarantine", "duplicates", "files", "bucket",
        "lease", "versions", "archives", "sources", "plan", "shards", "copies", "commit", "keeping",
        "pipeline", "job", "page", "verification", "inspection_page", "inspection", "synth", "styles",
        "composition", "demo", "__main__",
    ],
    "trainer": [
        "cluster", "config", "decision", "flags", "log", "interrupt", "layers", "mdct", "spectral",
        "models.base", "models.seed", "models.condition", "models.recurrence", "models.prior",
        "models.coefficient_model", "models.envelope", "models.wave", "models", "storage", "verified", "shards",
        "pointer", "mirror", "run_directory", "champion", "candidates", "held_out", "checkpoint",
        "rollbacks", "team", "dataset", "batches", "feed", "loss", "metrics", "adam", "learner",
        "divergence", "profiling", "render", "report_chart", "report_page", "report_evaluation",
        "report", "comparison_page", "samples", "history", "steps", "scores", "embedding", "baselines",
        "classifier", "asking", "music", "judging", "generate", "train", "evaluate", "comparison",
        "retrain", "status", "__main__",
    ],
}  # fmt: skip


def rooms(package):
    for path in sorted((ROOT / package).rglob("*.py")):
        name = ".".join(path.relative_to(ROOT / package).with_suffix("").parts).removesuffix(".__init__")
        if name != "__init__":
            yield name, ast.parse(path.read_text())


def imports(tree, top_level_only=False):
    nodes = tree.body if top_level_only else ast.walk(tree)
    for node in nodes:
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield node.module
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def test_every_room_imports_only_rooms_below_it():
    for package, order in ORDER.items():
        assert {name for name, _ in rooms(package)} == set(order), "a room is missing in the order above"
        for name, tree in rooms(package):
            for module in imports(tree):
                room = module.removeprefix(f"{package}.")
                if module.startswith(f"{package}.") and room in order:
                    assert order.index(room) < order.index(name), f"{package}.{name} imports {room}"


def test_preprocessing_knows_nothing_of_the_trainer_or_tensorflow():
    for name, tree in rooms("preprocessing"):
        for module in imports(tree):
            assert not module.startswith(("trainer", "tensorflow")), f"{name} imports {module}"


def test_the_trainer_takes_only_the_shared_rooms():
    for name, tree in rooms("trainer"):
        for module in imports(tree):
            assert not module.startswith("apache_beam"), f"{name} imports {module}"
            if module.startswith("preprocessing."):
                assert module.split(".")[1] in SHARED, f"{name} imports {module}"


def test_doors_and_plans_import_nothing_heavy():
    allowed = {"preprocessing", "trainer", *__import__("sys").stdlib_module_names}
    for package, names in WITHOUT_THIRD_PARTIES.items():
        for name, tree in rooms(package):
            if name in names:
                found = {module.split(".")[0] for module in imports(tree, top_level_only=True)}
                assert found <= allowed, f"{package}.{name} imports {found - allowed}"


def test_pictures_pages_and_storage_need_no_tensorflow():
    for name, tree in rooms("trainer"):
        if name in WITHOUT_TENSORFLOW:
            assert not any(module.startswith("tensorflow") for module in imports(tree)), name


def test_no_room_is_named_for_nothing():
    for package in ORDER:
        for name, _ in rooms(package):
            assert not {"utils", "helpers", "common", "misc"} & set(name.split("."))
