"""Retraining after the first promotion. Three models are trained; each test continues from a copy of them."""

import json
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from support.runs.retraining import FLAGS, MORE_COEFFICIENTS, run_retrain
from support.tiny_corpus import CLIP_SAMPLES

from preprocessing.dataset.forgotten import Forgotten
from preprocessing.errors import BAD_DATA, STOPPED, USAGE
from trainer.generation.load import load
from trainer.registry import champion, retrain
from trainer.registry.holdout import held_out_sets
from trainer.runs.champion_pointer import candidate_uri
from trainer.runs.storage import GcsPrefix, StorageFolder
from trainer.training import train

pytestmark = pytest.mark.long


def bytes_of(folder):
    return {path: path.read_bytes() for path in Path(folder).rglob("*") if path.is_file()}


def forbidden(*_):
    raise AssertionError("called again, although its result is stored")


def promoted_candidates(models):
    state = champion.read(str(models))
    return [one.candidate for one in (state.champion, *state.earlier)]


def unpromoted_candidate(models):
    """Return the only candidate that is not the champion."""
    (name,) = {path.name for path in (models / "candidates").iterdir()} - {promoted_candidates(models)[0]}
    return name


def printed_decision(capsys):
    """Parse the decision, the only line on stdout."""
    (line,) = capsys.readouterr().out.splitlines()
    return json.loads(line)


def test_the_first_candidate_better_than_silence_is_promoted(trained, versions):
    (first,) = promoted_candidates(trained)
    state = champion.read(str(trained)).champion
    assert state.by == "retraining"
    promotion = json.loads((trained / "candidates" / first / "promotion.json").read_text())
    assert (promotion["decision"], promotion["champion"], promotion["init_from"]) == ("promoted", None, None)
    assert "silence" in promotion["reason"]
    assert state.figures == promotion["sets"][0]["candidate"]
    assert state.figures["snr_db"] > 0
    assert state.dataset["uri"] == f"{versions['first']}/{promotion['dataset']}"
    assert "<h2>On the new clips</h2>" in (trained / "candidates" / first / "comparison.html").read_text()
    assert load(trained).sample(1).shape == (1, CLIP_SAMPLES)  # it generates at once


def test_an_unchanged_input_is_a_no_op(models, versions, tmp_path):
    before = bytes_of(models)
    program = (
        "import sys; from trainer.__main__ import main; code = main(sys.argv[1:]); "
        "assert 'tensorflow' not in sys.modules; sys.exit(code)"
    )
    flags = ["retrain", "--datasets", versions["first"], "--models", models, "--cache-dir", tmp_path, *FLAGS]
    command = [sys.executable, "-c", program, *flags, "--checkpoint-secs", "7"]
    answer = subprocess.run(list(map(str, command)), capture_output=True, text=True, timeout=60, check=False)
    decision = json.loads(answer.stdout)
    assert (answer.returncode, decision["decision"]) == (0, "unchanged")
    assert answer.stderr == f"unchanged: {decision['reason']}\n"
    assert bytes_of(models) == before


def test_a_better_candidate_is_promoted_by_a_retraining_restarted_after_a_kill(
    models, versions, tmp_path, monkeypatch, capsys
):
    (first,), better = promoted_candidates(models), unpromoted_candidate(models)
    monkeypatch.setattr(train, "train_and_evaluate", forbidden)
    assert run_retrain(versions["more"], models, *MORE_COEFFICIENTS, cache=tmp_path) == 0
    promotion = printed_decision(capsys)
    assert (promotion["decision"], promotion["candidate"], promotion["init_from"]) == (
        "promoted",
        better,
        first,
    )
    assert [one["name"] for one in promotion["sets"]] == ["the new clips", "the champion's clips"]
    assert all(one["gains"]["snr_db"] > 0.01 for one in promotion["sets"])
    assert promoted_candidates(models) == [better, first]
    promoted, before = champion.read(str(models)).champion, champion.read(str(models)).earlier[0]
    assert promoted.ancestor_datasets == [before.dataset["digest"]]
    assert (
        json.loads((models / "candidates" / better / "promotion.json").read_text())["decision"] == "promoted"
    )

    page = (models / "candidates" / better / "comparison.html").read_text()
    for text in (
        "Promoted",
        "Required gain",
        "On the champion&#39;s clips",
        "sufficient gain",
        "Generated clips",
    ):
        assert text in page
    clips = promotion["sets"][0]["clips"]
    assert page.count("<audio") == min(clips, 4) * 3 + 4 * 2
    assert not re.search(r'(src|href)="(?!data:)', page)

    monkeypatch.setattr(retrain, "_evaluate", forbidden)
    assert run_retrain(versions["more"], models, *MORE_COEFFICIENTS, cache=tmp_path) == 0
    assert "nor the configuration has changed" in printed_decision(capsys)["reason"]
    # A candidate that was rolled back by hand is not promoted again.
    champion.rollback(str(models))
    assert run_retrain(versions["more"], models, *MORE_COEFFICIENTS, cache=tmp_path) == 0
    assert "rolled back by hand" in printed_decision(capsys)["reason"]
    assert promoted_candidates(models) == [first]


def test_no_candidate_starts_from_a_champion_that_was_trained_on_a_forgotten_recording(
    models, versions, tmp_path, monkeypatch, capsys
):
    datasets, forgotten = tmp_path / "datasets", champion.read(str(models)).champion
    shutil.copytree(versions["more"], datasets)
    content = Forgotten(datasets=frozenset({forgotten.dataset["digest"]})).to_json()
    (datasets / "forgotten.json").write_bytes(content)

    def train_nothing(*_, cluster, init_from, track):
        assert init_from is None and track is None
        raise KeyboardInterrupt

    monkeypatch.setattr(train, "train_and_evaluate", train_nothing)
    assert run_retrain(datasets, models, *FLAGS, cache=tmp_path) == STOPPED
    assert (
        f"the champion {forgotten.candidate} was trained on a recording that has been"
        in capsys.readouterr().err
    )


def test_a_candidate_that_gains_too_little_is_refused_once(models, versions, tmp_path, monkeypatch, capsys):
    pointer = models / "champion.json"
    fields = json.loads(pointer.read_text())
    fields["dataset"] |= {"digest": "f" * 64, "uri": str(tmp_path / "gone")}
    pointer.write_text(json.dumps(fields))
    before = pointer.read_bytes()
    flags = [*MORE_COEFFICIENTS, "--min-gain", "0.9"]
    assert run_retrain(versions["more"], models, *flags, cache=tmp_path) == 0
    promotion = printed_decision(capsys)
    assert promotion["decision"] == "refused"
    assert "at least 90.0% less is required" in promotion["reason"]
    assert "ffffffffffff is gone" in promotion["notes"][0]
    assert len(promotion["sets"]) == 1
    page = (models / "candidates" / unpromoted_candidate(models) / "comparison.html").read_text()
    assert "insufficient gain" in page
    assert "is gone" in page
    monkeypatch.setattr(retrain, "_evaluate", forbidden)
    assert run_retrain(versions["more"], models, *flags, cache=tmp_path) == 0
    assert "refused before" in printed_decision(capsys)["reason"]
    assert pointer.read_bytes() == before


@pytest.mark.slow
def test_a_candidate_trained_on_noise_is_better_on_noise_only(models, versions, quick, tmp_path, capsys):
    before = (models / "champion.json").read_bytes()
    flags = [*FLAGS, "--epochs", "2", "--metric", "log_mel_distance_db"]
    assert run_retrain(versions["noise"], models, *flags, "--max-candidates", "1", cache=tmp_path) == 0
    promotion = printed_decision(capsys)
    new, champions = promotion["sets"]
    assert new["gains"]["log_mel_distance_db"] > 0.02
    assert champions["gains"]["log_mel_distance_db"] < -0.1
    assert promotion["decision"] == "refused"
    assert "on the champion's clips" in promotion["reason"]
    assert (models / "champion.json").read_bytes() == before
    # Of three candidates the champion and the newest stay.
    assert len(promotion["pruned"]) == 1
    assert {path.name for path in (models / "candidates").iterdir()} == {
        *promoted_candidates(models),
        promotion["candidate"],
    }


def test_of_two_concurrent_retrainings_the_second_is_compared_again(
    models, versions, storage_server, tmp_path, monkeypatch, capsys
):
    (first,), better, other = promoted_candidates(models), unpromoted_candidate(models), f"{0:012x}-{0:012x}"
    shutil.copytree(models / "candidates" / first, models / "candidates" / other)
    uris = {}
    for name, folder in (("models", models), ("datasets", versions["more"])):
        uris[name] = f"{storage_server}/{tmp_path.name}/{name}"
        files = [path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()]
        GcsPrefix(uris[name]).upload(files, folder)
    promote_candidate, states = champion.promote_candidate, []

    def promote_late(models, state, name, by):
        if not states:
            champion.promote(models, other)
        states.append(state)
        return promote_candidate(models, state, name, by)

    with monkeypatch.context() as patch:
        patch.setattr(train, "train_and_evaluate", forbidden)
        patch.setattr(
            champion,
            "promote",
            lambda models, name: promote_candidate(models, champion.read(models), name, "hand"),
        )
        patch.setattr(champion, "promote_candidate", promote_late)
        assert (
            run_retrain(uris["datasets"], uris["models"], *MORE_COEFFICIENTS, cache=tmp_path / "cache") == 0
        )
    promotion = printed_decision(capsys)
    assert [state.champion.candidate for state in states] == [first, other]
    assert (promotion["decision"], promotion["champion"]) == ("promoted", other)
    assert promoted_candidates(uris["models"]) == [better, other, first]
    candidate_folder = StorageFolder(candidate_uri(uris["models"], better))
    assert json.loads(candidate_folder.read("promotion.json"))["champion"] == other
    assert b"<audio" in candidate_folder.read("comparison.html")
    assert load(uris["models"], cache=tmp_path / "reader").sample(1).shape == (1, CLIP_SAMPLES)


def test_of_several_workers_only_the_chief_evaluates_and_prints(versions, tmp_path, monkeypatch, capsys):
    clusters, evaluated = [], []
    decision = dict.fromkeys(("decision", "reason", "candidate", "champion", "dataset"), "refused")
    monkeypatch.setattr(train, "train_and_evaluate", lambda *_, cluster, **__: clusters.append(cluster))
    monkeypatch.setattr(retrain, "_evaluate_and_promote", lambda *_: evaluated.append(1) or decision)
    for index in (1, 0):
        tasks = {"cluster": {"worker": ["a:1", "b:2"]}, "task": {"type": "worker", "index": index}}
        monkeypatch.setenv("TF_CONFIG", json.dumps(tasks))
        assert run_retrain(versions["first"], tmp_path / "models", *FLAGS, cache=tmp_path / "cache") == 0
        assert [cluster.worker for cluster in clusters] == [1, 0][: len(clusters)]
        assert len(evaluated) == 1 - index
        assert ("decision" in capsys.readouterr().out) == (index == 0)
    assert len(clusters) == 2


def test_another_format_is_refused_before_any_work(models, versions, tmp_path, monkeypatch, capsys):
    fields = json.loads((models / "champion.json").read_text())
    fields["dataset"]["sample_rate_hz"] = 4_000
    (models / "champion.json").write_text(json.dumps(fields))
    monkeypatch.setattr(train, "train_and_evaluate", forbidden)
    assert run_retrain(versions["more"], models, *MORE_COEFFICIENTS, cache=tmp_path) == USAGE
    assert "cannot be compared" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("flags", "code", "words"),
    [
        (["--min-gain", "-0.1"], USAGE, "--min-gain: must be at least 0"),
        (["--max-loss", "nan"], USAGE, "--max-loss: must be a finite number, at least 0"),
        (["--max-candidates", "0"], USAGE, "--max-candidates: must be at least 1"),
        (["--count", "1"], USAGE, "--count: must be at least 2"),
        (["--epochs", "0"], USAGE, "--epochs must be"),
        ([], BAD_DATA, "no dataset.json"),
    ],
)
def test_an_error_is_one_sentence_with_an_exit_code(tmp_path, capsys, flags, code, words):
    assert run_retrain(tmp_path / "nothing", tmp_path / "models", *flags, cache=tmp_path) == code
    answer = capsys.readouterr()
    assert words in answer.err
    assert answer.out == ""
    assert not (tmp_path / "models").exists()


def test_no_model_is_evaluated_on_its_training_clips(versions, tmp_path):
    entries = {}
    for name in ("first", "more"):
        dataset = versions[name] / (versions[name] / "LATEST").read_text().strip()
        shutil.copytree(dataset, tmp_path / name)
        lines = (dataset / "records.jsonl").read_text().splitlines()
        entries[name] = [json.loads(line) for line in lines]
    digest = json.loads((tmp_path / "first/dataset.json").read_text())["digest"]

    def tests(name):
        return {entry["track_id"] for entry in entries[name] if entry["split"] == "test"}

    def sets():
        champions_dataset = {"digest": digest, "uri": str(tmp_path / "first")}
        held_out, notes = held_out_sets(str(tmp_path / "more"), champions_dataset, str(tmp_path), tmp_path)
        return [set(one.track_ids) for one in held_out], notes

    assert len(tests("more")) > 2
    assert sets() == ([tests("more"), tests("first")], [])
    # One of the new test clips is a training clip of the champion.
    moved = next(entry for entry in entries["more"] if entry["split"] == "test")
    copied = {**moved, "split": "train", "track_id": "moved", "recording_id": "moved"}
    (tmp_path / "first/records.jsonl").write_text(
        "".join(f"{json.dumps(entry)}\n" for entry in [*entries["first"], copied])
    )
    held_out, notes = sets()
    assert held_out[0] == tests("more") - {moved["track_id"]}
    assert moved["track_id"] not in held_out[-1]
    next((tmp_path / "first").glob("test-*.tfrecord")).unlink()
    held_out, notes = sets()
    assert held_out == [tests("more")]
    assert "is gone" in notes[0]
