"""The tab "New music": sample the prior, with conditions in the ranges that the run was trained on."""

from __future__ import annotations

import math
import random

import gradio as gr

from trainer.config import MAX_GUIDANCE, MAX_SEED, MAX_TEMPERATURE
from trainer.generation.options import Options
from trainer.studio.events import on_click
from trainer.studio.session import Session

ANY = "any"
MAX_COUNT = 16
MIN_STEPS = 50  # of a slider
LABELS = {
    "loudness_db": "Loudness, dB",
    "centroid_hz": "Brightness, Hz",
    "tempo_bpm": "Tempo, bpm",
    "beat_clarity": "Clarity of the beat",
}


def add_tab(session: Session, takes: gr.State) -> None:
    """Add the tab; a new take's name is written to `takes`."""
    generator = session.generator
    is_conditional = generator.model.capabilities.conditional
    names = [
        name
        for name, statistics in generator.metadata.attributes.items()
        if is_conditional and statistics.low < statistics.high
    ]
    with gr.Tab("New music"), gr.Row():
        with gr.Column(scale=1, min_width=280):
            choices = [(ANY, ""), *((name, name) for name in generator.genres)]
            genre = gr.Dropdown(choices, value="", label="Genre", visible=is_conditional)
            keys = generator.metadata.keys
            key = gr.Dropdown(
                [(ANY, ""), *((name, name) for name in keys)],
                value="",
                label="Key",
                visible=bool(is_conditional and keys),
            )
            count = gr.Slider(1, MAX_COUNT, value=4, step=1, label="Clips")
            attributes = _attribute_controls(session, names)
            seed = gr.Number(0, label="Seed", precision=0, minimum=0, maximum=MAX_SEED)
            gr.Button("Another seed", size="sm").click(lambda: random.randint(0, MAX_SEED), outputs=seed)
            with gr.Accordion("More", open=False):
                secs = gr.Number(
                    generator.clip_samples / generator.sample_rate_hz,
                    label="Seconds",
                    interactive=generator.model.capabilities.any_length,
                )
                temperature = gr.Slider(0, MAX_TEMPERATURE, value=Options.temperature, label="Temperature")
                guidance = gr.Slider(0, MAX_GUIDANCE, value=Options.guidance, label="Guidance")
            button = gr.Button("Generate", variant="primary", elem_id="generate")
        with gr.Column(scale=3):
            clips = gr.HTML("<p>Choose what to hear, then press Generate.</p>", elem_id="new-music")

    def options_of(
        genre: str,
        key: str,
        count: int,
        seed: int,
        secs: float,
        temperature: float,
        guidance: float,
        *values: float,
    ) -> Options:
        is_set, levels = values[: len(names)], values[len(names) :]
        return Options(
            modes=("prior",),
            count=int(count),
            seed=int(seed or 0),
            genre=genre or None,
            attributes={
                name: level for name, given, level in zip(names, is_set, levels, strict=True) if given
            },
            key=key or None,
            secs=secs if secs and round(secs * generator.sample_rate_hz) != generator.clip_samples else None,
            temperature=temperature,
            guidance=guidance,
        )

    inputs = [genre, key, count, seed, secs, temperature, guidance]
    on_click(session, button, options_of, [*inputs, *attributes], clips, takes)


def _attribute_controls(session: Session, names: list[str]) -> list[gr.Checkbox | gr.Slider]:
    """Return a checkbox for each attribute, then a slider for each."""
    boxes, sliders = [], []
    for name in names:
        statistics = session.generator.metadata.attributes[name]
        label = LABELS.get(name, name)
        boxes.append(gr.Checkbox(False, label=f"Set the {label[0].lower()}{label[1:].partition(',')[0]}"))
        low, high, step = slider_range(statistics.low, statistics.high)
        middle = round((low + high) / 2 / step) * step
        sliders.append(gr.Slider(low, high, value=middle, step=step, label=label, visible=False))
        boxes[-1].change(
            lambda given: gr.update(visible=given),
            boxes[-1],
            sliders[-1],
            show_progress="hidden",
            queue=False,
        )
    return [*boxes, *sliders]


def slider_range(low: float, high: float) -> tuple[float, float, float]:
    """Return the round numbers within a range, and their distance: at least `MIN_STEPS` steps."""
    step = 10.0 ** math.floor(math.log10((high - low) / MIN_STEPS))
    decimals = max(0, -round(math.log10(step)))
    return (
        round(math.ceil(low / step) * step, decimals),
        round(math.floor(high / step) * step, decimals),
        step,
    )
