"""The tab "From a clip": variation, reconstruction, transfer, continuation and interpolation."""

from __future__ import annotations

import functools
from typing import Any, NamedTuple

import gradio as gr

from trainer.config import MAX_GUIDANCE, MAX_SEED, MAX_TEMPERATURE
from trainer.generation.options import Options
from trainer.studio.events import on_click
from trainer.studio.session import Session

UNKNOWN = ("unknown", "")
NEXT_GENRE = ("the next one", "")
MODES = {
    "variation": "Vary",
    "reconstruct": "Reconstruct",
    "transfer": "Change the genre",
    "continue": "Continue",
    "interpolate": "Morph into the second clip",
}


class Form(NamedTuple):
    """The controls of the tab, or their values."""

    mode: Any
    upload: Any
    first: Any
    second: Any
    genre: Any
    to_genre: Any
    noise_scale: Any
    steps: Any
    seed: Any
    secs: Any
    temperature: Any
    guidance: Any


def add_tab(session: Session, takes: gr.State) -> None:
    """Add the tab, if the model has such modes; a new take's name is written to `takes`."""
    capabilities = session.generator.model.capabilities
    modes = [(MODES[mode], mode) for mode in capabilities.modes if mode != "prior"]
    if not modes:
        return
    with gr.Tab("From a clip"), gr.Row():
        with gr.Column(scale=1, min_width=280):
            controls = _controls(session, modes)
            button = gr.Button("Generate", variant="primary", elem_id="generate-from")
        with gr.Column(scale=3):
            clips = gr.HTML("<p>Choose a clip, then press Generate.</p>", elem_id="from-clip")
    # What only some modes use.
    shown_in = {
        controls.second: "interpolate",
        controls.to_genre: "transfer",
        controls.noise_scale: "variation",
        controls.steps: "interpolate",
    }
    controls.mode.change(
        lambda chosen: [gr.update(visible=chosen == mode) for mode in shown_in.values()],
        controls.mode,
        list(shown_in),
        queue=False,
        show_progress="hidden",
    )
    on_click(session, button, functools.partial(_options_of, session), list(controls), clips, takes)


def _controls(session: Session, modes: list[tuple[str, str]]) -> Form:
    generator = session.generator
    names = [clip.name for clip in session.test_clips]
    test_clips = [("none", ""), *((f"{clip.name} ({clip.genre})", clip.name) for clip in session.test_clips)]
    genres = [(name, name) for name in generator.genres]
    form: dict[str, Any] = {
        "mode": gr.Radio(modes, value=modes[0][1], label="What to do"),
        "upload": gr.Audio(
            sources=["upload", "microphone"], type="filepath", label="Your recording", elem_id="upload"
        ),
        "first": gr.Dropdown(test_clips, value=names[0], label="Or a test clip", elem_id="test-clip"),
        "second": gr.Dropdown(test_clips, value=names[-1], label="Second clip", visible=False),
        "genre": gr.Dropdown(
            [UNKNOWN, *genres],
            value="",
            label="Genre of your recording",
            visible=generator.model.capabilities.conditional,
        ),
        "to_genre": gr.Dropdown([NEXT_GENRE, *genres], value="", label="New genre", visible=False),
        "noise_scale": gr.Slider(
            0, 2, value=Options.noise_scale, label="How far to vary", visible=modes[0][1] == "variation"
        ),
        "steps": gr.Slider(2, 12, value=Options.steps, step=1, label="Steps", visible=False),
    }
    with gr.Accordion("More", open=False):
        form |= {
            "seed": gr.Number(0, label="Seed", precision=0, minimum=0, maximum=MAX_SEED),
            "secs": gr.Number(None, label="Seconds in all, of a continuation"),
            "temperature": gr.Slider(0, MAX_TEMPERATURE, value=Options.temperature, label="Temperature"),
            "guidance": gr.Slider(0, MAX_GUIDANCE, value=Options.guidance, label="Guidance"),
        }
    return Form(**form)


def _options_of(session: Session, *values: Any) -> Options:
    form = Form(*values)
    names = [session.keep_upload(form.upload)] if form.upload else [form.first] if form.first else []
    if form.mode == "interpolate" and form.second:
        names.append(form.second)
    return Options(
        modes=(form.mode,),
        seed=int(form.seed or 0),
        genre=form.genre or None if form.upload else None,
        to_genre=form.to_genre or None,
        secs=form.secs or None,
        temperature=form.temperature,
        guidance=form.guidance,
        noise_scale=form.noise_scale,
        steps=int(form.steps),
        sources=tuple(names),
        data=session.options.data,
    )
