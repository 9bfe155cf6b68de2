"""Which calls on the objects of a bucket each program makes, by the top-level folder of the object.

tests/integration/test_bucket_calls.py compares them with the requests of the programs, and
tests/system/k8s/test_gke_setup.py with the permissions that k8s/gke/setup.sh grants.
"""

from __future__ import annotations

MUSIC, DATASETS, RUNS, MODELS = "music", "datasets", "runs", "models"
LIST = ("list", "")  # is checked on the bucket, not on the objects


def _calls(verbs: str, *folders: str) -> set[tuple[str, str]]:
    return {(verb, folder) for verb in verbs.split() for folder in folders}


PREPROCESSING_CALLS = {LIST} | _calls("get", MUSIC, DATASETS) | _calls("create delete", DATASETS)
TRAINER_CALLS = {LIST} | _calls("get", DATASETS, RUNS, MODELS) | _calls("create delete", RUNS, MODELS)
