"""The votes of blind listening tests, and what they say: means and shares with confidence intervals."""

from __future__ import annotations

import contextlib
import json
import math
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from scipy import stats

from trainer.runs.directory import LISTENING

CONFIDENCE = 0.95
HIDDEN_REFERENCE, ANCHOR = "hidden reference", "anchor"
RATING, PAIR = "rating", "pair"  # kinds of trials
SUBJECT = ("run", "checkpoint", "baseline_run", "baseline_checkpoint")  # fields of a vote
# A listener who rates the hidden reference below 90 in more than 15% of the trials does not hear the differences, and
# is left out (ITU-R BS.1534-3, section 4.1.2).
MIN_REFERENCE_SCORE, MAX_MISSED_FRACTION = 90.0, 0.15


class Interval(NamedTuple):
    """An estimate and the ends of its confidence interval."""

    value: float
    low: float
    high: float


@dataclass(frozen=True)
class SystemResult:
    """What listeners say of a system: a model, a baseline or real clips."""

    system: str
    score: Interval | None  # mean rating from 0 to 100
    ratings: int
    preferred: Interval | None  # share of pairs in which it was preferred; an undecided pair counts half
    pairs: int


@dataclass(frozen=True)
class ListeningSummary:
    """The results of all votes, and how many listeners gave them."""

    systems: list[SystemResult]  # the best first
    listeners: int
    left_out: int  # listeners whose ratings do not count


def read_votes(path: Path) -> list[dict[str, Any]]:
    """Read the votes of `listening.jsonl`, none if it does not exist; a line that was cut off is left out."""
    votes = []
    for line in path.read_bytes().splitlines() if path.exists() else []:
        with contextlib.suppress(ValueError):
            votes.append(json.loads(line))
    return votes


def append_vote(path: Path, vote: dict[str, Any]) -> None:
    """Append one vote."""
    path.parent.mkdir(parents=True, exist_ok=True)
    was_cut_off = path.exists() and not path.read_bytes().endswith(b"\n")
    with path.open("a") as file:
        file.write("\n" * was_cut_off + json.dumps(vote) + "\n")


def read_summary(run: Path) -> ListeningSummary | None:
    """Summarize the votes of a run's directory about what the last one was about; None if there are none."""
    votes = read_votes(run / LISTENING)
    return summarize(votes_about(votes, subject_of(votes[-1]))) if votes else None


def subject_of(vote: dict[str, Any]) -> tuple[Any, ...]:
    """Return what a vote is about: the runs and checkpoints that were heard."""
    return tuple(vote.get(name) for name in SUBJECT)


def votes_about(votes: Sequence[dict[str, Any]], subject: tuple[Any, ...]) -> list[dict[str, Any]]:
    """Select the votes about a subject: others are about other models of the same names."""
    return [vote for vote in votes if subject_of(vote) == subject]


def summarize(votes: Sequence[dict[str, Any]]) -> ListeningSummary:
    """Summarize votes, without the ratings of listeners who miss the hidden reference."""
    left_out = _inattentive_listeners(votes)
    scores: dict[str, list[float]] = defaultdict(list)
    wins: dict[str, list[float]] = defaultdict(list)
    for vote in votes:
        if vote["kind"] == RATING and vote["listener"] not in left_out:
            for system, score in vote["scores"].items():
                scores[system].append(score)
        elif vote["kind"] == PAIR:
            for system in vote["systems"]:
                choice = vote["choice"]
                wins[system].append(0.5 if choice is None else float(choice == system))
    systems = [
        SystemResult(
            system,
            mean_interval(scores[system]) if scores[system] else None,
            len(scores[system]),
            share_interval(sum(wins[system]), len(wins[system])) if wins[system] else None,
            len(wins[system]),
        )
        for system in {**scores, **wins}
    ]
    systems.sort(
        key=lambda result: [-(part.value if part else -1.0) for part in (result.score, result.preferred)]
    )
    return ListeningSummary(systems, len({vote["listener"] for vote in votes}), len(left_out))


def mean_interval(values: Sequence[float]) -> Interval:
    """Return the mean and its interval by Student's t distribution; of one value, the widest of ratings."""
    mean = float(np.mean(values))
    if len(values) < 2:
        return Interval(mean, 0.0, 100.0)
    error = float(np.std(values, ddof=1)) / math.sqrt(len(values))
    half = float(stats.t.ppf((1 + CONFIDENCE) / 2, len(values) - 1)) * error
    return Interval(mean, max(0.0, mean - half), min(100.0, mean + half))


def share_interval(wins: float, count: int) -> Interval:
    """Return a share of `count` and its interval (Wilson 1927, Probable inference)."""
    z = float(stats.norm.ppf((1 + CONFIDENCE) / 2))
    share = wins / count
    centre = (share + z * z / (2 * count)) / (1 + z * z / count)
    half = z / (1 + z * z / count) * math.sqrt(share * (1 - share) / count + z * z / (4 * count * count))
    return Interval(share, max(0.0, centre - half), min(1.0, centre + half))


def _inattentive_listeners(votes: Sequence[dict[str, Any]]) -> set[str]:
    missed: dict[str, list[bool]] = defaultdict(list)
    for vote in votes:
        if vote["kind"] == RATING:
            missed[vote["listener"]].append(vote["scores"][HIDDEN_REFERENCE] < MIN_REFERENCE_SCORE)
    return {listener for listener, misses in missed.items() if np.mean(misses) > MAX_MISSED_FRACTION}
