"""The champion of a folder of models, the champions before it, and the commands that show and change it."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from typing import Any

from preprocessing.dataset.run_files import CHAMPION_NAME, CONFIG_NAME
from preprocessing.errors import DataError
from preprocessing.event_log import without_nan
from preprocessing.html.numbers import format_significant
from preprocessing.storage import lease
from trainer.registry.promotion import METRICS, Figures
from trainer.run_config import PROVENANCE_FIELDS
from trainer.runs import champion_pointer
from trainer.runs.champion_pointer import Generation, candidate_uri
from trainer.runs.directory import POINTER, PROMOTION
from trainer.runs.storage import StorageFolder

MAX_EARLIER = 3  # champions that are kept for rollbacks
# Rolled-back candidates that are recorded, so that retraining does not promote them again.
MAX_REJECTED = 20

RETRAINING, BY_HAND = "retraining", "hand"


@dataclass(frozen=True)
class Champion:
    """A candidate that was promoted."""

    candidate: str
    dataset: dict[str, Any]  # digest, uri, sample_rate_hz, clip_samples
    config: dict[str, Any]
    ancestor_datasets: list[str]  # digests of those that its initial weights were trained on
    figures: Figures | None  # on the held-out clips of its dataset; None if it was never evaluated
    promoted: str  # time, ISO 8601
    by: str  # RETRAINING or BY_HAND


@dataclass(frozen=True)
class State:
    """The content of `champion.json`, and the generation that was read."""

    generation: Generation
    champion: Champion | None = None
    earlier: tuple[Champion, ...] = ()  # newest first
    rejected: tuple[str, ...] = ()  # candidates that were rolled back by hand

    def without(self, datasets: frozenset[str]) -> State:
        """Return the state without the champions that were trained on one of the datasets of these digests."""

        def may_stay(champion: Champion | None) -> bool:
            return champion is not None and not datasets & {
                champion.dataset["digest"],
                *champion.ancestor_datasets,
            }

        champion = self.champion if may_stay(self.champion) else None
        return replace(self, champion=champion, earlier=tuple(filter(may_stay, self.earlier)))

    @property
    def protected(self) -> set[str]:
        """The candidates that must not be deleted."""
        return {champion.candidate for champion in (self.champion, *self.earlier) if champion}


def read(models: str) -> State:
    """Read the champion of `models`; there may be none yet.

    Raises:
        CommandError: `champion.json` is corrupt (3), or storage failed (4).
    """
    content, generation = champion_pointer.read(models)
    if content is None:
        return State(generation)
    fields = champion_pointer.parse(content, models)
    try:
        earlier, rejected = (tuple(fields.pop(name)) for name in ("earlier", "rejected"))
        return State(generation, Champion(**fields), tuple(Champion(**each) for each in earlier), rejected)
    except (TypeError, KeyError) as error:
        raise champion_pointer.corrupt_error(models) from error


def describe_candidate(models: str, name: str, by: str) -> Champion:
    """Build a candidate's entry of `champion.json` from the candidate's files.

    Raises:
        CommandError: There is no such candidate, or it has no checkpoint (3).
    """
    is_valid = champion_pointer.CANDIDATE_NAME.fullmatch(name)
    folder = StorageFolder(candidate_uri(models, name))
    config = folder.read(CONFIG_NAME) if is_valid else None
    if config is None or folder.read(POINTER) is None:
        problem = "there is no such candidate" if config is None else "it has no checkpoint yet"
        raise DataError(f"{candidate_uri(models, name)} cannot be the champion: {problem}")
    fields = json.loads(config)
    dataset, ancestors = fields["dataset"], fields["ancestor_datasets"]
    decision = json.loads(folder.read(PROMOTION) or b"{}")
    return Champion(
        candidate=name,
        dataset={key: dataset[key] for key in ("digest", "uri", "sample_rate_hz", "clip_samples")},
        config={name: value for name, value in fields.items() if name not in PROVENANCE_FIELDS},
        ancestor_datasets=ancestors,
        figures=decision["sets"][0]["candidate"] if decision else None,
        promoted=datetime.now(UTC).isoformat(timespec="seconds"),
        by=by,
    )


def promote_candidate(models: str, state: State, name: str, by: str) -> State:
    """Make a candidate the champion that follows `state`.

    The function holds the candidate's lease, so that no other process deletes the candidate.

    Raises:
        MovedError: Another process has changed `champion.json` since `state` was read.
        CommandError: There is no such candidate (3), or another process is using it (2).
    """
    describe_candidate(models, name, by)  # before acquiring the lease, which creates the candidate's folder
    with lease.acquire(candidate_uri(models, name)):
        new = describe_candidate(models, name, by)
        candidates = (state.champion, *state.earlier)
        earlier = [each for each in candidates if each is not None and each.candidate != name]
        rejected = tuple(each for each in state.rejected if each != name)
        return _write(models, State(state.generation, new, tuple(earlier[:MAX_EARLIER]), rejected))


def promote(models: str, name: str) -> str:
    """Run `champion promote` and return the line to print."""
    state = promote_candidate(models, read(models), name, BY_HAND)
    previous = f", after {state.earlier[0].candidate}" if state.earlier else ""
    return f"champion of {models}: {name}{previous}"


def rollback(models: str) -> str:
    """Run `champion rollback` and return the line to print.

    Retraining does not promote the rolled-back candidate again.

    Raises:
        CommandError: There is no earlier champion, or its files are gone (3); another process has changed
            `champion.json` (4).
    """
    state = read(models)
    if state.champion is None or not state.earlier:
        raise DataError(f"{models} has no earlier champion to restore")
    current, previous = state.champion.candidate, state.earlier[0]
    describe_candidate(models, previous.candidate, BY_HAND)
    with lease.acquire(candidate_uri(models, previous.candidate)):
        describe_candidate(models, previous.candidate, BY_HAND)
        others = (each for each in state.rejected if each != current)
        rejected = (current, *others)[:MAX_REJECTED]
        _write(models, State(state.generation, previous, state.earlier[1:], rejected))
    return f"champion of {models}: {previous.candidate}, restored in place of {current}"


def show(models: str) -> str:
    """Run `champion show` and return the lines to print.

    Raises:
        CommandError: There is no champion (3), or storage failed (4).
    """
    state = read(models)
    champion = state.champion
    if champion is None:
        raise DataError(f"{models} has no {CHAMPION_NAME}: run python -m trainer retrain")
    config, dataset = champion.config, champion.dataset
    lines = [
        ("champion", candidate_uri(models, champion.candidate)),
        ("promoted", f"{champion.promoted} by {champion.by}"),
        ("dataset", f"{dataset['digest'][:12]} {dataset['uri']}"),
        ("model", f"{config['preset']}, {config['epochs']} epochs, seed {config['seed']}"),
    ]
    for name, value in (champion.figures or {}).items():
        figure = "not finite" if value is None else format_significant(value)
        lines.append(("figure", f"{name} {figure} {METRICS[name].unit}".strip()))
    lines += [
        ("earlier", f"{each.candidate}, promoted {each.promoted} by {each.by}") for each in state.earlier
    ]
    lines += [("rejected", name) for name in state.rejected]
    return "\n".join(f"{name:<12}{text}" for name, text in lines)


def _write(models: str, state: State) -> State:
    assert state.champion is not None
    fields = {
        **asdict(state.champion),
        "earlier": [asdict(each) for each in state.earlier],
        "rejected": state.rejected,
    }
    content = (json.dumps(without_nan(fields), indent=2) + "\n").encode()
    champion_pointer.move(models, content, state.generation)
    return state
