"""Retrain: train a candidate on the newest dataset version and promote it only if it beats the champion.

TensorFlow is imported only when there is something to train or to evaluate.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable
from datetime import UTC, datetime

from preprocessing import event_log, progress_file
from preprocessing.dataset.manifest import LATEST_NAME, MANIFEST_NAME
from preprocessing.errors import DataError, UsageError
from preprocessing.storage.atomic import write_atomically
from trainer.registry import candidates, notification, promotion, report
from trainer.registry import champion as champions
from trainer.registry.champion import RETRAINING, State
from trainer.registry.holdout import HeldOutSet, held_out_sets
from trainer.registry.options import Options
from trainer.registry.plan import (
    Decision,
    Plan,
    check_format,
    criteria_of,
    drop,
    leave,
    plan_newest,
    plan_overtaken,
    read_state,
    reason_to_skip,
)
from trainer.registry.promotion import PROMOTED, REFUSED, STALE, UNCHANGED
from trainer.runs.champion_pointer import MovedError, candidate_uri
from trainer.runs.directory import COMPARISON, PROMOTION, RunDirectory, fetch_run
from trainer.runs.status import is_complete
from trainer.runs.storage import StorageFolder

SECS_PER_DAY = 86_400


def retrain(options: Options) -> Decision | None:
    """Plan, train, evaluate, decide, promote and prune; return the decision about the newest dataset version.

    A candidate that a newer version has overtaken while it was trained is finished or dropped first, unless there are
    several workers: then it stays until it is pruned.

    Of several workers, each plans and trains, and only the chief does the rest: the others return None.

    Raises:
        CommandError: The champion's clips have another format, or there are too few GPUs (2), bad or missing data
            (3), storage failed (4), stopped on request, or a GPU or another worker is lost (75): the same command
            resumes the same candidate.
    """
    age = _describe_excessive_age(options)
    settled: set[str] = set()
    while True:
        state = read_state(options)
        newest = plan_newest(options, state)
        # Workers plan on their own, and could differ: what one takes the lease of, another finds in use.
        overtaken = None if options.cluster else plan_overtaken(options, state, newest, settled)
        if overtaken is None:
            decision = _carry_out(options, state, newest, train=_train)
            if decision is None:
                return None
            if age and decision["decision"] == UNCHANGED:
                decision |= {"decision": STALE, "reason": age}
            _announce(options, decision)
            return decision
        settled.add(overtaken.candidate)
        event_log.log_event(
            "candidate_overtaken",
            f"candidate {overtaken.candidate} is finished first: a newer dataset version came while it was trained",
            candidate=overtaken.candidate,
            dataset=overtaken.manifest.digest,
            newest=newest.manifest.digest,
        )
        _settle(options, state, overtaken)


def _settle(options: Options, state: State, overtaken: Plan) -> None:
    """Finish an overtaken candidate and decide about it; bad data must not keep the newest one from being trained."""
    try:
        decision = _carry_out(options, state, overtaken, train=_train_or_drop)
    except DataError as error:
        leave(options, overtaken.candidate, error.for_command_line())
        return
    if decision:
        _announce(options, decision)


def _describe_excessive_age(options: Options) -> str:
    """Return a sentence, and log it, if no preprocessing job has succeeded for too long; otherwise return nothing.

    Every versioned job that succeeds writes `LATEST`, also without new music. A dataset that is not versioned has only
    its own time.
    """
    folder = StorageFolder(options.datasets)
    confirmed = folder.updated(LATEST_NAME) or folder.updated(MANIFEST_NAME)
    if options.max_dataset_age_days is None or confirmed is None:
        return ""
    age_days = (datetime.now(UTC) - confirmed).total_seconds() / SECS_PER_DAY
    if age_days <= options.max_dataset_age_days:
        return ""
    message = (
        f"no preprocessing job has succeeded for {age_days:.3g} days, and {options.max_dataset_age_days:g} are "
        f"allowed: see its log; {options.datasets} may lack new music"
    )
    event_log.log_event(
        "dataset_too_old",
        message,
        event_log.WARNING,
        datasets=options.datasets,
        age_days=round(age_days, 3),
        max_age_days=options.max_dataset_age_days,
        confirmed=confirmed.isoformat(timespec="seconds"),
    )
    return message


def _announce(options: Options, decision: Decision) -> None:
    """Log a decision, and post it to the webhook."""
    fields = {name: decision[name] for name in ("decision", "reason", "candidate", "champion", "dataset")}
    event_log.log_event("decision", f"{decision['decision']}: {decision['reason']}", **fields)
    if options.notify:
        notification.post(options.notify, notification.message_of(decision, options.models))


def _carry_out(
    options: Options, state: State, plan: Plan, train: Callable[[Options, Plan], bool]
) -> Decision | None:
    """Train, evaluate and decide, as far as that is needed; a worker that is not the chief only trains."""
    if reason := reason_to_skip(options, state, plan):
        decision = {"decision": UNCHANGED, "reason": reason, **plan.describe(state.champion)}
        return decision if options.is_chief else None
    if options.require_gpus:
        from trainer.training.workers.gpus import require_gpus

        require_gpus(options.require_gpus)
    # Fail before hours of training if something is missing that the evaluation will need.
    _held_out_sets(options, plan, state)
    if state.champion:
        champions.describe_candidate(options.models, state.champion.candidate, RETRAINING)
    if not train(options, plan) or not options.is_chief:
        return None
    progress_file.start_phase()  # generates and compares clips
    decision = _evaluate_and_promote(options, plan)
    decision["pruned"] = candidates.prune(options.models, options.max_candidates)
    return decision


def _held_out_sets(options: Options, plan: Plan, state: State) -> tuple[list[HeldOutSet], list[str]]:
    dataset = state.champion.dataset if state.champion else None
    return held_out_sets(plan.dataset_uri, dataset, options.datasets, options.cache)


def _train_or_drop(options: Options, plan: Plan) -> bool:
    """Train the candidate; delete it and return False if its data is bad, or its training diverged."""
    from trainer.training.divergence import DivergedError

    try:
        return _train(options, plan)
    except (DataError, UsageError) as error:
        if not isinstance(error, DataError) and not isinstance(error.__cause__, DivergedError):
            raise
        drop(options, plan.candidate, error.for_command_line())
        return False


def _train(options: Options, plan: Plan) -> bool:
    """Train or resume the candidate, unless it is complete; return True."""
    run = candidate_uri(options.models, plan.candidate)
    if is_complete(run):
        return True
    from trainer.training.train import train_and_evaluate

    init_from = None
    if plan.init_from:
        init_from = fetch_run(candidate_uri(options.models, plan.init_from), options.cache)
    settings = dataclasses.asdict(options.config)
    train_and_evaluate(
        # The chief names the version. Other workers look for it, since a newer one may have come between their starts.
        plan.dataset_uri if options.is_chief else options.datasets,
        run,
        settings,
        options.replicas,
        options.cache,
        cluster=options.cluster,
        init_from=init_from,
        track=options.track,
    )
    return True


def _evaluate_and_promote(options: Options, plan: Plan) -> Decision:
    """Evaluate and promote; evaluate again if another process changes the champion meanwhile."""
    while True:
        state = read_state(options)
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
    from trainer.training import tracking

    champion = state.champion
    if champion:
        check_format(options, champion, plan.manifest)
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
                "criteria": criteria_of(options),
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
        write_atomically(directory.path / PROMOTION, content)
        tracking.add_results(
            str(directory.path),
            {directory.path / COMPARISON: None, directory.path / PROMOTION: None},
            {f"promotion.{name}": value for name, value in comparison.sets[0].candidate.items()},
            {"promotion": decision["decision"]},
        )
    return decision
