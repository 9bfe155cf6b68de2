"""Plan a retraining: which candidate to train, on which dataset version, and whether that is needed at all."""

from __future__ import annotations

import contextlib
import json
from typing import Any, NamedTuple

from preprocessing import event_log
from preprocessing.dataset.forgotten import FORGOTTEN_NAME, Forgotten
from preprocessing.dataset.manifest import Manifest
from preprocessing.errors import DataError, UsageError
from trainer.data.fetch import find_dataset
from trainer.registry import candidates
from trainer.registry import champion as champions
from trainer.registry.champion import Champion, State
from trainer.registry.options import FROM_CHAMPION, Options
from trainer.registry.promotion import REFUSED
from trainer.runs.champion_pointer import candidate_uri, join
from trainer.runs.directory import PROMOTION
from trainer.runs.storage import StorageFolder

Decision = dict[str, Any]  # the content of `promotion.json`


class Plan(NamedTuple):
    """A candidate and its inputs."""

    candidate: str  # the champion's name if training would reproduce the champion
    dataset_uri: str  # of the dataset version, local or `gs://`
    manifest: Manifest
    init_from: str | None  # the candidate whose weights it starts from

    def describe(self, champion: Champion | None) -> Decision:
        """Return the fields that every decision has."""
        return {
            "candidate": self.candidate,
            "champion": champion.candidate if champion else None,
            "dataset": self.manifest.digest,
            "data": self.dataset_uri,
            "init_from": self.init_from,
        }


def read_state(options: Options) -> State:
    """Read the champions, without those that were trained on a recording that `forget` has deleted."""
    content = StorageFolder(options.datasets).read(FORGOTTEN_NAME)
    forgotten = Forgotten.from_json(content, join(options.datasets, FORGOTTEN_NAME))
    state = champions.read(options.models)
    remaining = state.without(forgotten.datasets)
    if state.champion and not remaining.champion:
        event_log.log_event(
            "forgotten",
            f"the champion {state.champion.candidate} was trained on a recording that has been forgotten: the "
            "candidate starts from random weights, and is not compared with it",
            event_log.WARNING,
            champion=state.champion.candidate,
        )
    return remaining


def plan_newest(options: Options, state: State) -> Plan:
    """Plan the candidate of the newest dataset version.

    Raises:
        CommandError: The champion's clips have another format (2), there is no dataset (3), storage failed (4).
    """
    dataset_uri, manifest = find_dataset(options.datasets)
    if state.champion is not None:
        check_format(options, state.champion, manifest)
    return _plan(options, state.champion, dataset_uri, manifest)


def plan_overtaken(options: Options, state: State, newest: Plan, settled: set[str]) -> Plan | None:
    """Plan the rest of a candidate that a newer dataset version has overtaken while it was trained, if there is one.

    The candidate is finished if this command would still make it from its version: with the same settings, from the
    same champion. Otherwise its training cannot be resumed, and what there is of it is deleted.

    Args:
        options: Of the retraining.
        state: The champions.
        newest: The plan for the newest version.
        settled: Names of candidates to leave alone; those that are in use or deleted here are added.
    """
    ignored = {newest.candidate, *state.rejected, *state.protected}
    incumbent = state.champion.candidate if state.champion else None
    for name, digest in candidates.list_unfinished(options.models, options.config, incumbent):
        if name in ignored or name in settled:
            continue
        uri = join(options.datasets, digest)
        manifest = _read_manifest(uri)
        if manifest is None:
            problem = f"its dataset version {digest[:12]} is gone, or of another version of this program"
        elif _format(manifest) != _format(newest.manifest):
            problem = "the newest dataset version has another format"
        else:
            plan = _plan(options, state.champion, uri, manifest)
            if plan.candidate == name and not candidates.is_in_use(options.models, name):
                return plan
            problem = "" if plan.candidate == name else "it does not start from the current champion"
        if problem:
            drop(options, name, problem)
        settled.add(name)
    return None


def drop(options: Options, name: str, problem: str) -> None:
    """Delete a candidate whose training is incomplete and cannot be resumed; leave one that is complete or in use."""
    if not candidates.delete_incomplete(options.models, name):
        leave(options, name, problem)
    else:
        event_log.log_event(
            "candidate_dropped",
            f"the incomplete candidate {name} is deleted: {problem}",
            event_log.WARNING,
            candidate=name,
            reason=problem,
        )


def leave(options: Options, name: str, problem: str) -> None:
    """Log that nothing is decided about a candidate; it stays until it is pruned."""
    event_log.log_event(
        "candidate_left",
        f"candidate {name} stays without a decision: {problem}",
        event_log.WARNING,
        candidate=name,
        reason=problem,
    )


def reason_to_skip(options: Options, state: State, plan: Plan) -> str:
    """Return why no candidate needs to be trained, or an empty string."""
    champion = state.champion
    if champion and plan.candidate == champion.candidate:
        return "neither the dataset nor the configuration has changed since the champion was trained"
    if plan.candidate in state.rejected:
        return "this candidate was rolled back by hand"
    content = StorageFolder(candidate_uri(options.models, plan.candidate)).read(PROMOTION)
    earlier = json.loads(content) if content else {}
    incumbent = champion.candidate if champion else None
    is_same = earlier.get("champion") == incumbent and earlier.get("criteria") == criteria_of(options)
    if earlier.get("decision") == REFUSED and is_same:
        return f"this candidate was refused before: {earlier['reason']}"
    return ""


def criteria_of(options: Options) -> dict[str, Any]:
    """Return what a promotion depends on, beside the models and their clips."""
    return {**options.criteria._asdict(), "count": options.count}


def check_format(options: Options, champion: Champion, manifest: Manifest) -> None:
    """Raise if the champion's clips have another length or sample rate than the dataset's (exit code 2)."""
    old = f"{champion.dataset['clip_samples']} samples at {champion.dataset['sample_rate_hz']} Hz"
    new = f"{manifest.clip_samples} samples at {manifest.sample_rate_hz} Hz"
    if old != new:
        raise UsageError(
            f"the champion of `models` {options.models} has clips of {old}, `datasets` {options.datasets} of "
            f"{new}, and the two cannot be compared: use another folder of models",
        )


def _plan(options: Options, champion: Champion | None, dataset_uri: str, manifest: Manifest) -> Plan:
    config, init_from = options.config, None
    if champion is not None:
        if candidates.was_trained_on(champion, config, manifest.digest):
            return Plan(champion.candidate, dataset_uri, manifest, None)
        if options.init_from == FROM_CHAMPION and candidates.can_start_from(
            options.models, champion, config, manifest, dataset_uri
        ):
            init_from = champion.candidate
    name = candidates.candidate_name(config, manifest.digest, init_from)
    return Plan(name, dataset_uri, manifest, init_from)


def _read_manifest(uri: str) -> Manifest | None:
    with contextlib.suppress(DataError, UsageError):
        return find_dataset(uri)[1]
    return None


def _format(manifest: Manifest) -> tuple[int, int]:
    return manifest.clip_samples, manifest.sample_rate_hz
