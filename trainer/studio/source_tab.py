"""The tab "From a clip": variation, reconstruction, transfer, continuation and interpolation."""

from __future__ import annotations

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


def add_tab(session: Session, takes: gr.State) -> None:
    """Add the tab; a new take's name is written to `takes`."""
    generator = session.generator
    is_conditional = generator.model.capabilities.conditional
    modes = [(MODES[mode], mode) for mode in generator.model.capabilities.modes if mode != "prior"]
    if not modes:
        return
    names = [clip.name for clip in session.test_clips]
    test_clips = [("none", ""), *((f"{clip.name} ({clip.genre})", clip.name) for clip in session.test_clips)]
    with gr.Tab("From a clip"), gr.Row():
        with gr.Column(scale=1, min_width=280):
            mode = gr.Radio(modes, value=modes[0][1], label="What to do")
            upload = gr.Audio(
                sources=["upload", "microphone"], type="filepath", label="Your recording", elem_id="upload"
            )
            first = gr.Dropdown(test_clips, value=names[0], label="Or a test clip", elem_id="test-clip")
            second = gr.Dropdown(test_clips, value=names[-1], label="Second clip", visible=False)
            genre = gr.Dropdown(
                [UNKNOWN, *((name, name) for name in generator.genres)],
                value="",
                label="Genre of your recording",
                visible=is_conditional,
            )
            to_genre = gr.Dropdown(
                [NEXT_GENRE, *((name, name) for name in generator.genres)],
                value="",
                label="New genre",
                visible=False,
            )
            noise_scale = gr.Slider(0, 2, value=Options.noise_scale, label="How far to vary")
            steps = gr.Slider(2, 12, value=Options.steps, step=1, label="Steps", visible=False)
            with gr.Accordion("More", open=False):
                seed = gr.Number(0, label="Seed", precision=0, minimum=0, maximum=MAX_SEED)
                secs = gr.Number(None, label="Seconds in all, of a continuation")
                temperature = gr.Slider(0, MAX_TEMPERATURE, value=Options.temperature, label="Temperature")
                guidance = gr.Slider(0, MAX_GUIDANCE, value=Options.guidance, label="Guidance")
            button = gr.Button("Generate", variant="primary", elem_id="generate-from")
        with gr.Column(scale=3):
            clips = gr.HTML("<p>Choose a clip, then press Generate.</p>", elem_id="from-clip")
    mode.change(
        lambda chosen: (
            gr.update(visible=chosen == "interpolate"),
            gr.update(visible=chosen == "transfer"),
            gr.update(visible=chosen == "variation"),
            gr.update(visible=chosen == "interpolate"),
        ),
        mode,
        [second, to_genre, noise_scale, steps],
        queue=False,
        show_progress="hidden",
    )

    def options_of(
        mode: str,
        upload: str | None,
        first: str,
        second: str,
        genre: str,
        to_genre: str,
        noise_scale: float,
        steps: int,
        seed: int,
        secs: float | None,
        temperature: float,
        guidance: float,
    ) -> Options:
        names = [session.keep_upload(upload)] if upload else [first] if first else []
        if mode == "interpolate" and second:
            names.append(second)
        return Options(
            modes=(mode,),
            seed=int(seed or 0),
            genre=genre or None if upload else None,
            to_genre=to_genre or None,
            secs=secs or None,
            temperature=temperature,
            guidance=guidance,
            noise_scale=noise_scale,
            steps=int(steps),
            sources=tuple(names),
            data=session.options.data,
        )

    inputs = [
        mode, upload, first, second, genre, to_genre, noise_scale, steps, seed, secs, temperature, guidance,
    ]  # fmt: skip
    on_click(session, button, options_of, inputs, clips, takes)
