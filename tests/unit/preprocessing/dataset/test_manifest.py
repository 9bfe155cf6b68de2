import dataclasses
import json

import pytest

from preprocessing.dataset.manifest import Manifest, Shard, Statistics, compute_statistics
from preprocessing.errors import BAD_DATA, USAGE, CommandError

SHARD = Shard("train-00000-of-00001.tfrecord", "train", 3, 100, "aa", "bb", "cc")
MANIFEST = Manifest(
    sample_rate_hz=3_000,
    clip_secs=30.0,
    clip_samples=90_001,
    options={"split": "hash"},
    genres=["jazz"],
    shards=[SHARD],
    counts={"train": {"jazz": 3}, "validation": {}, "test": {}},
    recordings={"train": 3, "validation": 0, "test": 0},
    quarantined={},
    attributes={"tempo_bpm": Statistics(120.0, 10.0, 80.0, 160.0)},
    keys={"A minor": 2},
    empirical_conditions=[{"genre": "jazz", "tempo_bpm": None, "key": "A minor"}],
    records_sha256="dd",
    inputs_fingerprint="cc",
).with_digest()


def test_parsing_a_serialized_manifest_returns_the_manifest():
    assert Manifest.from_json(MANIFEST.to_json(), "dataset.json") == MANIFEST
    assert MANIFEST.clip_count("train") == 3
    assert MANIFEST.clip_count("test") == 0


def test_the_digest_covers_inputs_and_options_but_not_their_paths_and_times():
    def digest(**changes):
        return dataclasses.replace(MANIFEST, **changes).with_digest().digest

    assert digest(inputs_fingerprint="other mtimes") == MANIFEST.digest
    assert digest(shards=[dataclasses.replace(SHARD, sha256="other uris")]) == MANIFEST.digest
    assert digest(shards=[dataclasses.replace(SHARD, inputs_sha256="other audio")]) != MANIFEST.digest
    assert digest(options={"split": "reference"}) != MANIFEST.digest


@pytest.mark.parametrize(
    "data, code",
    [
        (b"", BAD_DATA),
        (b"[]", BAD_DATA),
        (MANIFEST.to_json()[:-20], BAD_DATA),
        (b'{"schema_version": 6}', BAD_DATA),
        (b'{"schema_version": 2}', USAGE),
    ],
)
def test_a_corrupt_manifest_or_another_schema_version_is_an_error(data, code):
    with pytest.raises(CommandError, match=r"^gs://b/dataset.json .*preprocess again$") as caught:
        Manifest.from_json(data, "gs://b/dataset.json")
    assert caught.value.exit_code == code


def test_equal_manifests_serialize_to_equal_bytes():
    fields = json.loads(MANIFEST.to_json())
    assert Manifest.from_json(json.dumps(fields).encode(), "dataset.json").to_json() == MANIFEST.to_json()


def test_statistics_ignore_nan_and_never_have_a_zero_deviation():
    assert compute_statistics([1.0, float("nan"), 3.0]) == Statistics(mean=2.0, std=1.0, low=1.0, high=3.0)
    assert compute_statistics([5.0, 5.0]).std == 1.0  # it is used as a divisor
    assert compute_statistics([float("nan")]) is None
