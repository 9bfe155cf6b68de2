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
    quarantined={},
    attributes={"tempo_bpm": Statistics(120.0, 10.0, 80.0, 160.0)},
    empirical_conditions=[{"genre": "jazz", "tempo_bpm": None}],
    records_sha256="dd",
    inputs_fingerprint="cc",
).with_digest()


def test_json_comes_back_as_it_was():
    assert Manifest.from_json(MANIFEST.to_json(), "dataset.json") == MANIFEST
    assert MANIFEST.clip_count("train") == 3
    assert MANIFEST.clip_count("test") == 0


def test_the_digest_covers_inputs_and_options_but_not_where_they_lie():
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
        (b'{"schema_version": 4}', BAD_DATA),
        (b'{"schema_version": 2}', USAGE),
    ],
)
def test_a_damaged_or_foreign_manifest_is_refused_in_one_sentence(data, code):
    with pytest.raises(CommandError, match=r"^gs://b/dataset.json .*preprocess again$") as caught:
        Manifest.from_json(data, "gs://b/dataset.json")
    assert caught.value.exit_code == code


def test_the_bytes_are_stable():
    shuffled = json.loads(MANIFEST.to_json())
    assert Manifest.from_json(json.dumps(shuffled).encode(), "dataset.json").to_json() == MANIFEST.to_json()


def test_statistics_leave_out_what_could_not_be_measured():
    assert compute_statistics([1.0, float("nan"), 3.0]) == Statistics(mean=2.0, std=1.0, low=1.0, high=3.0)
    assert compute_statistics([5.0, 5.0]).std == 1.0  # one divides by it
    assert compute_statistics([float("nan")]) is None
