"""Who is champion of a folder of models, who was before, and the commands that show and change it."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from typing import Any

from preprocessing.errors import BAD_DATA, CommandError
from preprocessing.storage import lease
from trainer import run_config
from trainer.registry import promotion
from trainer.runs import champion_pointer
from trainer.runs.champion_pointer import candidate_uri
from trainer.runs.directory import POINTER
from trainer.runs.storage import Folder

ROLLBACKS = 3  # earlier champions that stay, to go back to
MAX_REJECTED = 20  # that are remembered, lest retraining promotes them again

RETRAINING, BY_HAND = "retraining", "hand"


@dataclass(frozen=True)
class Champion:
    """A candidate that was promoted."""

    candidate: str
    dataset: dict[str, Any]  # digest, uri, sample_rate_hz, clip_samples
    config: dict[str, Any]
    figures: promotion.Figures | None  # on its own dataset's held-out clips; None if it was never judged
    promoted: str  # when, ISO 8601
    by: str


@dataclass(frozen=True)
class State:
    """What `champion.json` holds, and the token with which it may be moved."""

    token: champion_pointer.Generation
    champion: Champion | None = None
    earlier: tuple[Champion, ...] = ()  # the newest first
    rejected: tuple[str, ...] = ()  # candidates that were rolled back by hand

    @property
    def kept(self) -> set[str]:
        """The candidates that must stay."""
        return {one.candidate for one in (self.champion, *self.earlier) if one}

    def to_json(self) -> bytes:
        """The champion's fields, then those before it."""
        rest = {"earlier": [asdict(one) for one in self.earlier], "rejected": self.rejected}
        return (
            json.dumps(promotion.without_nan({**asdict(self.champion), **rest}), indent=2) + "\n"
        ).encode()


def read(models: str) -> State:
    """The champion of `models`, if there is one yet.

    Raises:
        CommandError: `champion.json` is damaged (3), or storage failed (4).
    """
    content, token = champion_pointer.read(models)
    if content is None:
        return State(token)
    fields = champion_pointer.parse(content, models)
    try:
        earlier, rejected = (tuple(fields.pop(name)) for name in ("earlier", "rejected"))
        return State(token, Champion(**fields), tuple(Champion(**one) for one in earlier), rejected)
    except (TypeError, KeyError) as error:
        raise champion_pointer.damaged(models) from error


def describe(models: str, name: str, by: str) -> Champion:
    """A candidate as a champion, from its own files.

    Raises:
        CommandError: There is no such candidate, or it has no checkpoint (3).
    """
    known = champion_pointer.CANDIDATE_NAME.fullmatch(name)
    files = Folder(candidate_uri(models, name))
    described = files.read(run_config.CONFIG_NAME) if known else None
    if described is None or files.read(POINTER) is None:
        missing = "there is no such candidate" if described is None else "it has no checkpoint yet"
        raise CommandError(f"{candidate_uri(models, name)} cannot be the champion: {missing}", BAD_DATA)
    fields = json.loads(described)
    dataset = fields.pop("dataset")
    judged = json.loads(files.read(promotion.NAME) or b"{}")
    return Champion(
        candidate=name,
        dataset={key: dataset[key] for key in ("digest", "uri", "sample_rate_hz", "clip_samples")},
        config=fields,
        figures=judged["sets"][0]["candidate"] if judged else None,
        promoted=datetime.now(UTC).isoformat(timespec="seconds"),
        by=by,
    )


def promote_candidate(models: str, state: State, name: str, by: str) -> State:
    """Makes a candidate the champion that follows `state`.

    It is held meanwhile, so that nobody deletes it.

    Raises:
        MovedError: Another process has moved `champion.json` since `state` was read.
        CommandError: It is no candidate (3), or another process is at work on it (2).
    """
    describe(models, name, by)  # before it is held: that would make its folder
    with lease.hold(candidate_uri(models, name)):
        new = describe(models, name, by)
        earlier = tuple(
            one for one in (state.champion, *state.earlier) if one is not None and one.candidate != name
        )
        rejected = tuple(one for one in state.rejected if one != name)
        return _move(models, State(state.token, new, earlier[:ROLLBACKS], rejected))


def promote(models: str, name: str) -> str:
    """The command `champion promote`; returns what it says."""
    state = promote_candidate(models, read(models), name, BY_HAND)
    before = f", after {state.earlier[0].candidate}" if state.earlier else ""
    return f"champion of {models}: {name}{before}"


def rollback(models: str) -> str:
    """The command `champion rollback`; returns what it says.

    The one that goes is remembered: retraining does not promote it again.

    Raises:
        CommandError: There is none before (3), its files are gone (3), or the pointer has moved (4).
    """
    state = read(models)
    if not state.earlier:
        raise CommandError(f"{models} has no champion to go back to", BAD_DATA)
    gone, back = state.champion, state.earlier[0]
    describe(models, back.candidate, BY_HAND)
    with lease.hold(candidate_uri(models, back.candidate)):
        describe(models, back.candidate, BY_HAND)
        rejected = (gone.candidate, *(one for one in state.rejected if one != gone.candidate))[:MAX_REJECTED]
        _move(models, State(state.token, back, state.earlier[1:], rejected))
    return f"champion of {models}: {back.candidate} again, after {gone.candidate}"


def show(models: str) -> str:
    """The command `champion show`: a few lines.

    Raises:
        CommandError: There is no champion (3), or storage failed (4).
    """
    state = read(models)
    if state.champion is None:
        raise CommandError(
            f"{models} has no {champion_pointer.NAME}: run python -m trainer retrain", BAD_DATA
        )
    now = state.champion
    lines = [
        ("champion", candidate_uri(models, now.candidate)),
        ("promoted", f"{now.promoted} by {now.by}"),
        ("dataset", f"{now.dataset['digest'][:12]} {now.dataset['uri']}"),
        ("model", f"{now.config['preset']}, {now.config['epochs']} epochs, seed {now.config['seed']}"),
    ]
    for name, value in (now.figures or {}).items():
        shown = "not finite" if value is None else f"{value:.3g} {promotion.METRICS[name].unit}".strip()
        lines.append(("figure", f"{name} {shown}"))
    lines += [("before", f"{one.candidate}, promoted {one.promoted} by {one.by}") for one in state.earlier]
    lines += [("rejected", name) for name in state.rejected]
    return "\n".join(f"{name:<12}{text}" for name, text in lines)


def _move(models: str, state: State) -> State:
    champion_pointer.move(models, state.to_json(), state.token)
    return state
