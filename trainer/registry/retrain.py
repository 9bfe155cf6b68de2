"""The command `retrain`: a candidate of the newest dataset version, judged beside the champion, and promoted
only if it is better. TensorFlow is imported only where there is something to train or to judge.
"""

from __future__ import annotations

import dataclasses
import json
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, NamedTuple

from preprocessing.dataset.manifest import Manifest
from preprocessing.errors import USAGE, CommandError
from trainer.data.fetch import find_dataset
from trainer.registry import candidates, promotion, report
from trainer.registry import champion as champions
from trainer.registry.champion import RETRAINING, Champion, State
from trainer.registry.holdout import held_out
from trainer.registry.options import FROM_CHAMPION, Options
from trainer.registry.promotion import PROMOTED, REFUSED, UNCHANGED
from trainer.runs.champion_pointer import MovedError, candidate_uri
from trainer.runs.directory import REPORT, RunDirectory, fetch_run
from trainer.runs.storage import Folder


class Work(NamedTuple):
    """A candidate, and what it is made of."""

    name: str  # the champion's, where that is what would be trained
    home: str  # of its dataset version
    manifest: Manifest
    start: str | None  # the candidate whose weights it begins with

    def described(self, champion: Champion | None) -> dict[str, Any]:
        """What every verdict tells, beside what it is."""
        return {
            "candidate": self.name,
            "champion": champion.candidate if champion else None,
            "dataset": self.manifest.digest,
            "data": self.home,
            "start": self.start,
        }


def retrain(options: Options) -> dict[str, Any]:
    """Trains, judges and promotes as far as there is something new; returns the verdict, as JSON has it.

    Raises:
        CommandError: The champion is of another format (2), bad or missing data (3), storage failed (4),
            stopped on request (75): the same command goes on with the same candidate.
    """
    state = champions.read(options.models)
    work = _plan(options, state)
    if reason := _nothing_to_do(options, state, work):
        return {"decision": UNCHANGED, "reason": reason, **work.described(state.champion)}
    # What judging will need is looked for before hours of training.
    _sets(options, work, state)
    if state.champion:
        champions.describe(options.models, state.champion.candidate, RETRAINING)
    _train(options, work)
    found = _judge_and_promote(options, work)
    found["pruned"] = candidates.prune(options.models, options.max_candidates)
    return found


def _plan(options: Options, state: State) -> Work:
    home, manifest = find_dataset(options.datasets)
    champion, start = state.champion, None
    if champion is not None:
        _refuse_another_format(options, champion, manifest)
        if candidates.is_same_work(champion, options.config, manifest.digest):
            return Work(champion.candidate, home, manifest, None)
        fits = candidates.can_start_from(options.models, champion, options.config, manifest, home)
        if options.init_from == FROM_CHAMPION and fits:
            start = champion.candidate
    return Work(candidates.name_of(options.config, manifest.digest, start), home, manifest, start)


def _refuse_another_format(options: Options, champion: Champion, manifest: Manifest) -> None:
    own, new = (
        f"{samples} samples at {rate} Hz"
        for samples, rate in (
            (champion.dataset["clip_samples"], champion.dataset["sample_rate_hz"]),
            (manifest.clip_samples, manifest.sample_rate_hz),
        )
    )
    if own != new:
        raise CommandError(
            f"the champion of --models {options.models} has clips of {own}, --datasets {options.datasets} of "
            f"{new}, and the two cannot be compared: use a folder of models of their own",
            USAGE,
        )


def _nothing_to_do(options: Options, state: State, work: Work) -> str:
    """Why there is nothing to do, or nothing."""
    champion = state.champion
    if champion and work.name == champion.candidate:
        return "neither the dataset nor the configuration has changed since the champion"
    if work.name in state.rejected:
        return "this candidate was rolled back by hand"
    found = Folder(candidate_uri(options.models, work.name)).read(promotion.NAME)
    judged = json.loads(found) if found else {}
    incumbent = champion.candidate if champion else None
    same = judged.get("champion") == incumbent and judged.get("criteria") == _criteria(options)
    if judged.get("decision") == REFUSED and same:
        return f"this candidate was refused before: {judged['reason']}"
    return ""


def _criteria(options: Options) -> dict[str, Any]:
    return {**options.criteria._asdict(), "count": options.count}


def _sets(options: Options, work: Work, state: State) -> tuple[list, list[str]]:
    dataset = state.champion.dataset if state.champion else None
    return held_out(work.home, dataset, options.datasets, options.cache)


def _train(options: Options, work: Work) -> None:
    """Trains the candidate, from where it was; one whose report is written has been trained."""
    if Folder(candidate_uri(options.models, work.name)).updated(REPORT):
        return
    from trainer.training.train import train_and_evaluate

    start = fetch_run(candidate_uri(options.models, work.start), options.cache) if work.start else None
    run, given = candidate_uri(options.models, work.name), dataclasses.asdict(options.config)
    train_and_evaluate(work.home, run, given, options.replicas, options.cache, start=start)


def _judge_and_promote(options: Options, work: Work) -> dict[str, Any]:
    """Judges until the champion that was judged against is the one that is replaced."""
    while True:
        state = champions.read(options.models)
        if state.champion and state.champion.candidate == work.name:
            reason = "another process has promoted this candidate"
            return {"decision": UNCHANGED, "reason": reason, **work.described(state.champion)}
        found = _judge(options, work, state)
        if found["decision"] == REFUSED:
            return found
        try:
            champions.promote_candidate(options.models, state, work.name, RETRAINING)
        except MovedError:
            continue
        return found


def _judge(options: Options, work: Work, state: State) -> dict[str, Any]:
    """Compares and decides; leaves the verdict and its page in the candidate's folder."""
    from trainer.generation.generator import load
    from trainer.registry.comparison import compare, load_champion

    if state.champion:
        _refuse_another_format(options, state.champion, work.manifest)
    sets, notes = _sets(options, work, state)
    with RunDirectory(candidate_uri(options.models, work.name), options.cache) as directory:
        incumbent = state.champion and load_champion(options.models, state.champion.candidate, options.cache)
        candidate = load(directory.path, options.cache)
        compared, heard = compare(candidate, incumbent, sets, options.count, options.config.seed)
        promoted, reason = promotion.decide(compared, options.criteria)
        found = promotion.without_nan(
            {
                "decision": PROMOTED if promoted else REFUSED,
                "reason": reason,
                **work.described(state.champion),
                "criteria": _criteria(options),
                "sets": [one.to_json() for one in compared],
                "notes": notes,
                "evaluated": datetime.now(UTC).isoformat(timespec="seconds"),
            }
        )
        page = report.write_page(found, compared, options.criteria, heard.clips, heard.new)
        _write(directory.path / report.NAME, page)
        _write(directory.path / promotion.NAME, json.dumps(found, indent=2, allow_nan=False) + "\n")
    return found


def _write(path: Path, content: str) -> None:
    temporary = path.with_name(f"{path.name}.tmp")  # a reader of the folder sees all of it or none
    temporary.write_text(content, "utf-8")
    temporary.replace(path)
