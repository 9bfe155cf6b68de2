"""Promotion, rollback and pruning of candidates in a folder and in a bucket, without training."""

import dataclasses
import json
import os
import time
from pathlib import Path

import pytest

from preprocessing.dataset.manifest import Statistics
from preprocessing.dataset.run_files import CHAMPION_NAME
from preprocessing.errors import BAD_DATA, STORAGE_FAILED, USAGE, CommandError
from preprocessing.storage import lease
from trainer.__main__ import main
from trainer.presets import PRESETS
from trainer.registry import candidates, champion
from trainer.run_config import DatasetMetadata, RunConfig
from trainer.runs import champion_pointer
from trainer.runs.champion_pointer import MovedError, candidate_uri
from trainer.runs.directory import POINTER, fetch_run
from trainer.runs.storage import GcsPrefix, StorageFolder

METADATA = DatasetMetadata(
    "datasets/aa", "aa" * 32, 3_000, 90_001, ("jazz",), {}, (), [], {"train": {"jazz": 3}}
)
RUN = RunConfig(PRESETS["tiny"], METADATA)
NAMES = [f"{number:012x}-{number:012x}" for number in range(8)]


@pytest.fixture(params=["local", "bucket"])
def models(request, tmp_path):
    if request.param == "local":
        return str(tmp_path / "models")
    return f"{request.getfixturevalue('storage_server')}/{tmp_path.name}/models"


def write(folder, name, content):
    if folder.startswith("gs://"):
        GcsPrefix(folder).write(name, content)
    else:
        path = Path(folder) / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)


def make_candidate(models, name, checkpoint=True):
    folder = candidate_uri(models, name)
    write(folder, "config.json", RUN.to_json().encode())
    if checkpoint:
        write(folder, "checkpoints/step-10.index", b"weights")
        write(folder, POINTER, b'model_checkpoint_path: "step-10"\n')
    return folder


def read_names(models):
    """Return the champion, its predecessors and the rejected candidates."""
    state = champion.read(models)
    return state.champion.candidate, [champion.candidate for champion in state.earlier], list(state.rejected)


def test_a_champion_is_promoted_and_rolled_back_manually(models, capsys):
    for name in NAMES[:3]:
        make_candidate(models, name)
        assert main(["champion", "promote", "--models", models, "--candidate", name]) == 0
    assert read_names(models) == (NAMES[2], [NAMES[1], NAMES[0]], [])
    assert main(["champion", "rollback", "--models", models]) == 0
    assert read_names(models) == (NAMES[1], [NAMES[0]], [NAMES[2]])
    capsys.readouterr()
    assert main(["champion", "show", "--models", models]) == 0
    output = capsys.readouterr().out
    for line in (
        f"champion    {candidate_uri(models, NAMES[1])}",
        "by hand",
        "dataset     aaaaaaaaaaaa datasets/aa",
        f"model       tiny, {PRESETS['tiny'].epochs} epochs, seed 0",
        f"earlier     {NAMES[0]}",
        f"rejected    {NAMES[2]}",
    ):
        assert line in output
    # A promotion removes a candidate from the rejected ones, and the history lists it once.
    assert main(["champion", "promote", "--models", models, "--candidate", NAMES[2]]) == 0
    assert main(["champion", "promote", "--models", models, "--candidate", NAMES[0]]) == 0
    assert read_names(models) == (NAMES[0], [NAMES[2], NAMES[1]], [])


def test_an_invalid_promotion_or_rollback_is_an_error_and_changes_nothing(models, capsys):
    make_candidate(models, NAMES[0])
    make_candidate(models, NAMES[1], checkpoint=False)

    def check_error(code, message, *flags):
        assert main(["champion", *flags, "--models", models]) == code
        assert message in capsys.readouterr().err

    check_error(BAD_DATA, "run python -m trainer retrain", "show")
    check_error(BAD_DATA, "no earlier champion to restore", "rollback")
    check_error(BAD_DATA, "there is no such candidate", "promote", "--candidate", NAMES[2])
    check_error(BAD_DATA, "there is no such candidate", "promote", "--candidate", "../models")
    check_error(BAD_DATA, "has no checkpoint yet", "promote", "--candidate", NAMES[1])
    assert champion_pointer.read(models)[0] is None
    assert main(["champion", "promote", "--models", models, "--candidate", NAMES[0]]) == 0
    before = champion_pointer.read(models)[0]
    check_error(BAD_DATA, "no earlier champion to restore", "rollback")
    check_error(BAD_DATA, "has no checkpoint yet", "promote", "--candidate", NAMES[1])
    assert champion_pointer.read(models)[0] == before
    for content in (b"{", b'{"candidate": "x"}', json.dumps({"candidate": NAMES[0]}).encode()):
        write(models, CHAMPION_NAME, content)
        check_error(BAD_DATA, "champion.json is corrupt", "show")


def test_an_earlier_champion_without_a_checkpoint_is_not_restored(models):
    for name in NAMES[:2]:
        make_candidate(models, name)
        champion.promote(models, name)
    StorageFolder(candidate_uri(models, NAMES[0])).delete(POINTER)
    with pytest.raises(CommandError, match="has no checkpoint yet") as caught:
        champion.rollback(models)
    assert caught.value.exit_code == BAD_DATA
    assert read_names(models)[0] == NAMES[1]


def test_only_one_of_two_concurrent_promotions_succeeds(models):
    for name in NAMES[:3]:
        make_candidate(models, name)
    first_state = second_state = champion.read(models)
    champion.promote_candidate(models, first_state, NAMES[0], champion.RETRAINING)
    with pytest.raises(MovedError, match="changed by another process") as caught:
        champion.promote_candidate(models, second_state, NAMES[1], champion.RETRAINING)
    assert caught.value.exit_code == STORAGE_FAILED
    assert read_names(models) == (NAMES[0], [], [])
    first_state = second_state = champion.read(models)
    champion.promote_candidate(models, first_state, NAMES[2], champion.RETRAINING)
    with pytest.raises(MovedError):
        champion.promote_candidate(models, second_state, NAMES[1], champion.RETRAINING)
    assert read_names(models) == (NAMES[2], [NAMES[0]], [])


def test_a_write_may_be_repeated_after_a_lost_response_but_not_by_another_process(storage_server, tmp_path):
    models = f"{storage_server}/{tmp_path.name}/lost"
    champion_pointer.move(models, b"mine", 0)
    champion_pointer.move(models, b"mine", 0)  # as the client does when the response is lost
    with pytest.raises(MovedError):
        champion_pointer.move(models, b"yours", 0)


def test_a_candidate_in_training_is_not_promoted(models, monkeypatch):
    monkeypatch.setenv("STORAGE_LEASE_SECS", "1")  # a live owner renews its lease within this time
    with (
        lease.acquire(make_candidate(models, NAMES[0])),
        pytest.raises(CommandError, match="another") as caught,
    ):
        champion.promote(models, NAMES[0])
    assert caught.value.exit_code == USAGE


def test_pruning_keeps_the_newest_the_protected_and_the_leased_candidates(models):
    for number, name in enumerate(NAMES):
        folder = make_candidate(models, name, checkpoint=number != 6)
        if not models.startswith("gs://"):
            for file in ("config.json", POINTER):
                path = Path(folder) / file
                if path.exists():
                    os.utime(path, (number, number))
        time.sleep(0.002)
    write(champion_pointer.join(models, champion_pointer.CANDIDATES, "mine"), "config.json", b"{}")
    for name in (NAMES[1], NAMES[3]):
        champion.promote(models, name)
    with lease.acquire(candidate_uri(models, NAMES[2])):
        deleted = candidates.prune(models, max_candidates=2)
    assert sorted(deleted) == [NAMES[0], NAMES[4], NAMES[5]]
    remaining = {
        name.partition("/")[0]
        for name in StorageFolder(champion_pointer.join(models, champion_pointer.CANDIDATES)).list_names()
    }
    assert remaining == {NAMES[1], NAMES[2], NAMES[3], NAMES[6], NAMES[7], "mine"}
    for name in deleted:
        assert StorageFolder(candidate_uri(models, name)).list_names() == []
    assert candidates.prune(models, max_candidates=2) == [NAMES[2]]


def test_the_history_has_the_three_previous_champions(models):
    for name in NAMES:
        make_candidate(models, name)
        champion.promote(models, name)
    assert read_names(models) == (NAMES[7], NAMES[6:3:-1], [])


def test_a_folder_of_models_is_resolved_to_its_champion(models, tmp_path):
    make_candidate(models, NAMES[0])
    champion.promote(models, NAMES[0])
    assert champion_pointer.resolve(models) == candidate_uri(models, NAMES[0])
    local = fetch_run(models, tmp_path / "cache")
    assert (local / "checkpoints/step-10.index").read_bytes() == b"weights"


def test_a_candidates_name_depends_on_everything_that_its_result_depends_on():
    config, digest = PRESETS["tiny"], "ab" * 32
    name = candidates.candidate_name(config, digest, None)
    assert champion_pointer.CANDIDATE_NAME.fullmatch(name)
    assert name == candidates.candidate_name(dataclasses.replace(config, checkpoint_secs=1.0), digest, None)
    others = [
        candidates.candidate_name(dataclasses.replace(config, seed=1), digest, None),
        candidates.candidate_name(config, "cd" * 32, None),
        candidates.candidate_name(config, digest, name),
    ]
    assert len({name, *others}) == 4


@pytest.mark.parametrize(
    ("settings", "metadata", "compatible"),
    [
        (
            {"epochs": 99, "sparse_coefficients": 3, "seed": 5, "preset": "wave"},
            {"digest": "b", "uri": "x"},
            True,
        ),
        ({"channels": 95}, {}, False),
        ({"preset": "reference"}, {}, False),
        ({}, {"genres": ("blues",)}, False),
        ({}, {"attributes": {"tempo_bpm": Statistics(1.0, 1.0, 0.0, 2.0)}}, False),
        ({}, {"sample_rate_hz": 4_000}, False),
    ],
)
def test_weights_are_compatible_where_shapes_genres_and_attributes_match(settings, metadata, compatible):
    other = RunConfig(dataclasses.replace(RUN.config, **settings), dataclasses.replace(METADATA, **metadata))
    assert candidates.have_same_weights_shape(RUN, other) is compatible
