"""Votes of listening tests, and what they say."""

import numpy as np
import pytest

from trainer.reporting import listening
from trainer.reporting.listening import HIDDEN_REFERENCE, PAIR, RATING


def rating(listener, **scores):
    scores = {HIDDEN_REFERENCE: scores.pop("reference"), **scores}
    return {"kind": RATING, "listener": listener, "scores": scores}


def pair(choice, systems=("model", "real clip")):
    return {"kind": PAIR, "listener": "x", "systems": list(systems), "choice": choice}


def results(votes):
    return {result.system: result for result in listening.summarize(votes).systems}


def test_ratings_give_a_mean_with_students_interval():
    votes = [rating("a", reference=100, model=score) for score in (40, 50, 60, 70)]
    score = results(votes)["model"].score
    assert score.value == 55
    # 55 +- 3.182 * 12.91 / 2
    assert (score.low, score.high) == pytest.approx((34.46, 75.54), abs=0.01)


def test_pairs_give_a_share_with_wilsons_interval():
    votes = [pair("model")] * 7 + [pair("real clip")] * 3
    shares = {name: result.preferred for name, result in results(votes).items()}
    assert (shares["model"].value, shares["real clip"].value) == (0.7, 0.3)
    assert tuple(shares["model"])[1:] == pytest.approx((0.397, 0.892), abs=0.001)


def test_an_undecided_pair_counts_half_for_both():
    assert {result.preferred.value for result in results([pair(None)]).values()} == {0.5}


def test_intervals_hold_as_often_as_they_say():
    rng = np.random.default_rng(0)
    hits = sum(
        interval.low <= 60 <= interval.high
        for interval in (listening.mean_interval(rng.normal(60, 15, 8)) for _ in range(2_000))
    )
    assert 0.93 <= hits / 2_000 <= 0.97
    hits = sum(
        interval.low <= 0.6 <= interval.high
        for interval in (listening.share_interval(rng.binomial(30, 0.6), 30) for _ in range(2_000))
    )
    assert 0.92 <= hits / 2_000 <= 0.98


def test_listeners_who_miss_the_hidden_reference_are_left_out():
    votes = [rating("deaf", reference=50, model=90)] * 2 + [rating("good", reference=95, model=30)] * 2
    summary = listening.summarize(votes)
    assert (summary.listeners, summary.left_out) == (2, 1)
    assert {result.system: result.score.value for result in summary.systems} == {
        HIDDEN_REFERENCE: 95,
        "model": 30,
    }


def test_votes_are_appended_and_a_line_that_was_cut_off_is_left_out(tmp_path):
    path = tmp_path / "run/listening.jsonl"
    for choice in ("model", None):
        listening.append_vote(path, pair(choice))
    with path.open("a") as file:
        file.write('{"kind": "pa')
    assert [vote["choice"] for vote in listening.read_votes(path)] == ["model", None]
    listening.append_vote(path, pair("model"))  # not on the line that was cut off
    assert [vote["choice"] for vote in listening.read_votes(path)] == ["model", None, "model"]
    assert listening.read_summary(tmp_path / "run").systems[0].pairs == 3
    assert listening.read_summary(tmp_path) is None


def test_votes_about_other_models_do_not_count(tmp_path):
    for run, choice in (("a", "model"), ("a", "model"), ("b", "real clip")):
        listening.append_vote(
            tmp_path / "listening.jsonl", {**pair(choice), "run": run, "checkpoint": "best-1"}
        )
    summary = listening.read_summary(tmp_path)
    assert {result.system: result.preferred.value for result in summary.systems} == {
        "model": 0,
        "real clip": 1,
    }
