"""The tab "Listening test": blind ratings and pairs, whose votes are appended to `listening.jsonl`."""

from __future__ import annotations

import random
import string
from datetime import UTC, datetime
from typing import Any, NamedTuple

import gradio as gr

from preprocessing.errors import UsageError
from trainer.config import MAX_SEED
from trainer.reporting.listening import (
    RATING,
    Interval,
    append_vote,
    read_votes,
    subject_of,
    summarize,
    votes_about,
)
from trainer.studio.clips_html import clips_html
from trainer.studio.events import with_messages
from trainer.studio.listening_trials import Trial, make_trials
from trainer.studio.session import Session

INTRODUCTION = (
    "You hear clips whose origin is hidden: real ones, the model's and others. Use headphones, and press Start. A test "
    "takes about ten minutes; you may stop at any time."
)
MAX_STIMULI = 4
NO_DIFFERENCE = "no difference"


class Progress(NamedTuple):
    """Where a listener is."""

    listener: str
    trials: list[Trial]
    done: int

    @property
    def trial(self) -> Trial | None:
        """The next trial; None after the last one."""
        return self.trials[self.done] if self.done < len(self.trials) else None


def add_tab(session: Session) -> None:
    """Add the tab."""
    progress = gr.State(None)
    with gr.Tab("Listening test"):
        listener = gr.Textbox(label="Your name or initials", max_lines=1, max_length=40)
        start = gr.Button("Start", variant="primary", elem_id="start-test")
        text = gr.Markdown(INTRODUCTION, elem_id="question")
        clips = gr.HTML("", elem_id="blind-clips", elem_classes="blind")
        with gr.Row():
            scores = [
                gr.Slider(0, 100, 50, step=1, label=letter, visible=False)
                for letter in string.ascii_uppercase[:MAX_STIMULI]
            ]
        choice = gr.Radio(["A", "B", NO_DIFFERENCE], label="Which is the better music?", visible=False)
        vote = gr.Button("Vote", variant="primary", visible=False, elem_id="vote")
        results = gr.Markdown(elem_id="results")
    shown = [progress, text, clips, *scores, choice, vote, results]

    @with_messages
    def begin(listener: str) -> list[Any]:
        name = (listener or "").strip()
        if not name:
            raise UsageError("enter your name or initials first")
        return show(Progress(name, make_trials(session, random.randint(0, MAX_SEED)), 0))

    @with_messages
    def cast(progress: Progress | None, choice: str | None, *scores: float) -> list[Any]:
        trial = progress.trial if progress else None
        if progress is None or trial is None:  # the server has been started again since
            raise UsageError("this test is over: press Start")
        append_vote(session.votes_path, _vote(session, progress.listener, trial, choice, scores))
        return show(progress._replace(done=progress.done + 1))

    def show(progress: Progress) -> list[Any]:
        trial = progress.trial
        hidden = [gr.update(visible=False)] * (MAX_STIMULI + 2)
        if trial is None:
            return [progress, "Thank you. The results so far:", "", *hidden, _results(session)]
        count, is_rating = len(trial.stimuli), trial.kind == RATING
        question = (
            "How close is each clip to the reference? 100: no difference; 0: bad."
            if is_rating
            else "Which of the two is the better music?"
        )
        sliders = [gr.update(visible=is_rating and index < count, value=50) for index in range(MAX_STIMULI)]
        return [
            progress,
            f"**{progress.done + 1} of {len(progress.trials)}.** {question}",
            _players(trial, session.generator.sample_rate_hz),
            *sliders,
            gr.update(visible=not is_rating, value=None),
            gr.update(visible=True),
            "",
        ]

    start.click(begin, listener, shown, concurrency_limit=1, concurrency_id="model")
    vote.click(cast, [progress, choice, *scores], shown, show_progress="hidden")


def _players(trial: Trial, sample_rate_hz: int) -> str:
    letters = string.ascii_uppercase
    clips = {} if trial.reference is None else {"Reference": trial.reference}
    clips |= {letters[index]: stimulus.audio for index, stimulus in enumerate(trial.stimuli)}
    return clips_html(clips, sample_rate_hz)


def _vote(
    session: Session, listener: str, trial: Trial, choice: str | None, scores: tuple[float, ...]
) -> dict[str, Any]:
    systems = [stimulus.system for stimulus in trial.stimuli]
    vote: dict[str, Any] = {
        "time": datetime.now(UTC).isoformat(timespec="seconds"),
        "listener": listener,
        **_subject(session),
        "kind": trial.kind,
        "clip": trial.clip,
    }
    if trial.kind == RATING:
        return vote | {"scores": dict(zip(systems, scores, strict=False))}
    if choice is None:
        raise UsageError("choose A, B or no difference first")
    chosen = None if choice == NO_DIFFERENCE else systems["AB".index(choice)]
    return vote | {"systems": systems, "choice": chosen}


def _subject(session: Session) -> dict[str, str | None]:
    """Return the fields of a vote that say which models were heard."""
    baseline = session.baseline
    return {
        "run": session.options.run,
        "checkpoint": session.generator.checkpoint,
        "baseline_run": session.options.baseline_run,
        "baseline_checkpoint": baseline.checkpoint if baseline else None,
    }


def _results(session: Session) -> str:
    votes = votes_about(read_votes(session.votes_path), subject_of(_subject(session)))
    if not votes:
        return ""
    summary = summarize(votes)
    rows = [
        f"| {result.system} | {_format(result.score, 1)} | {result.ratings} | {_format(result.preferred, 100)} | "
        f"{result.pairs} |"
        for result in summary.systems
    ]
    left_out = f", {summary.left_out} left out of the ratings" if summary.left_out else ""
    head = "| | rating, 0 to 100 | ratings | preferred, % | pairs |\n|---|---|---|---|---|\n"
    return f"{summary.listeners} listener(s){left_out}; intervals of 95% confidence.\n\n{head}" + "\n".join(
        rows
    )


def _format(interval: Interval | None, factor: float) -> str:
    if interval is None:
        return ""
    value, low, high = (factor * part for part in interval)
    return f"{value:.0f} ({low:.0f} to {high:.0f})"
