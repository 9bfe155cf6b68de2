"""Retrain: train a candidate on the newest dataset version and promote it only if it beats the champion.

TensorFlow is imported only when there is something to train or to evaluate.
"""

from __future__ import annotations

import dataclasses
import json
from datetime import UTC, datetime
from typing import Any, NamedTuple

from preprocessing import event_log
from preprocessing.dataset.forgotten import FORGOTTEN_NAME, Forgotten
from preprocessing.dataset.manifest import Manifest
from preprocessing.errors import UsageError
from preprocessing.storage.atomic import write_atomically
from trainer.data.fetch import find_dataset
from trainer.registry import candidates, promotion, report
from trainer.registry import champion as champions
from trainer.registry.champion import RETRAINING, Champion, State
from trainer.registry.holdout import HeldOutSet, held_out_sets
from trainer.registry.options import FROM_CHAMPION, Options
from trainer.registry.promotion import PROMOTED, PROMOTION_NAME, REFUSED, UNCHANGED
from trainer.runs.champion_pointer import MovedError, candidate_uri, join
from trainer.runs.directory import COMPARISON, REPORT, RunDirectory, fetch_run
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


def retrain(options: Options) -> Decision:
    """Plan, train, evaluate, decide, promote and prune; return the decision.

    Raises:
        CommandError: The champion's clips have another format (2), bad or missing data (3), storage failed
            (4), stopped on request (75): the same command resumes the same candidate.
    """
    state = _read_state(options)
    plan = _plan(options, state)
    if reason := _reason_to_skip(options, state, plan):
        return {"decision": UNCHANGED, "reason": reason, **plan.describe(state.champion)}
    # Fail before hours of training if something is missing that the evaluation will need.
    _held_out_sets(options, plan, state)
    if state.champion:
        champions.describe_candidate(options.models, state.champion.candidate, RETRAINING)
    _train(options, plan)
    decision = _evaluate_and_promote(options, plan)
    decision["pruned"] = candidates.prune(options.models, options.max_candidates)
    return decision


def _read_state(options: Options) -> State:
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


def _plan(options: Options, state: State) -> Plan:
    dataset_uri, manifest = find_dataset(options.datasets)
    champion, config, init_from = state.champion, options.config, None
    if champion is not None:
        _check_format(options, champion, manifest)
        if candidates.was_trained_on(champion, config, manifest.digest):
            return Plan(champion.candidate, dataset_uri, manifest, None)
        if options.init_from == FROM_CHAMPION and candidates.can_start_from(
            options.models, champion, config, manifest, dataset_uri
        ):
            init_from = champion.candidate
    name = candidates.candidate_name(config, manifest.digest, init_from)
    return Plan(name, dataset_uri, manifest, init_from)


def _check_format(options: Options, champion: Champion, manifest: Manifest) -> None:
    old = f"{champion.dataset['clip_samples']} samples at {champion.dataset['sample_rate_hz']} Hz"
    new = f"{manifest.clip_samples} samples at {manifest.sample_rate_hz} Hz"
    if old != new:
        raise UsageError(
            f"the champion of `models` {options.models} has clips of {old}, `datasets` {options.datasets} of "
            f"{new}, and the two cannot be compared: use another folder of models",
        )


def _reason_to_skip(options: Options, state: State, plan: Plan) -> str:
    """Return why no candidate needs to be trained, or an empty string."""
    champion = state.champion
    if champion and plan.candidate == champion.candidate:
        return "neither the dataset nor the configuration has changed since the champion was trained"
    if plan.candidate in state.rejected:
        return "this candidate was rolled back by hand"
    content = StorageFolder(candidate_uri(options.models, plan.candidate)).read(PROMOTION_NAME)
    earlier = json.loads(content) if content else {}
    incumbent = champion.candidate if champion else None
    is_same = earlier.get("champion") == incumbent and earlier.get("criteria") == _criteria(options)
    if earlier.get("decision") == REFUSED and is_same:
        return f"this candidate was refused before: {earlier['reason']}"
    return ""


def _criteria(options: Options) -> dict[str, Any]:
    return {**options.criteria._asdict(), "count": options.count}


def _held_out_sets(options: Options, plan: Plan, state: State) -> tuple[list[HeldOutSet], list[str]]:
    dataset = state.champion.dataset if state.champion else None
    return held_out_sets(plan.dataset_uri, dataset, options.datasets, options.cache)


def _train(options: Options, plan: Plan) -> None:
    """Train or resume the candidate, unless its report shows that it is complete."""
    run = candidate_uri(options.models, plan.candidate)
    if StorageFolder(run).updated(REPORT):
        return
    from trainer.training.train import train_and_evaluate

    init_from = None
    if plan.init_from:
        init_from = fetch_run(candidate_uri(options.models, plan.init_from), options.cache)
    settings = dataclasses.asdict(options.config)
    train_and_evaluate(plan.dataset_uri, run, settings, options.replicas, options.cache, init_from=init_from)


def _evaluate_and_promote(options: Options, plan: Plan) -> Decision:
    """Evaluate and promote; evaluate again if another process changes the champion meanwhile."""
    while True:
        state = _read_state(options)
        if state.champion and state.champion.candidate == plan.candidate:
            reason = "another process has promoted this candidate"
            return {"decision": UNCHANGED, "reason": reason, **plan.describe(state.champion)}
        decision = _evaluate(options, plan, state)
        if decision["decision"] == REFUSED:
            return decision
        try:
            champions.promote_candidate(options.models, state, plan.candidate, RETRAINING)
        except MovedError:
            continue
        return decision


def _evaluate(options: Options, plan: Plan, state: State) -> Decision:
    """Compare and decide; write the decision and its page into the candidate's folder."""
    from trainer.generation.load import load
    from trainer.registry.comparison import compare, load_champion

    champion = state.champion
    if champion:
        _check_format(options, champion, plan.manifest)
    sets, notes = _held_out_sets(options, plan, state)
    with RunDirectory(candidate_uri(options.models, plan.candidate), options.cache) as directory:
        incumbent = load_champion(options.models, champion.candidate, options.cache) if champion else None
        candidate = load(directory.path, cache=options.cache)
        comparison = compare(candidate, incumbent, sets, options.count, options.config.seed)
        is_promoted, reason = promotion.decide(comparison.sets, options.criteria)
        decision: Decision = event_log.without_nan(
            {
                "decision": PROMOTED if is_promoted else REFUSED,
                "reason": reason,
                **plan.describe(champion),
                "criteria": _criteria(options),
                "sets": [each.to_json() for each in comparison.sets],
                "notes": notes,
                "evaluated": datetime.now(UTC).isoformat(timespec="seconds"),
            }
        )
        page = report.write_page(
            decision, comparison.sets, options.criteria, comparison.held_out, comparison.generated
        )
        write_atomically(directory.path / COMPARISON, page)
        content = json.dumps(decision, indent=2, allow_nan=False) + "\n"
        write_atomically(directory.path / PROMOTION_NAME, content)
    return decision
