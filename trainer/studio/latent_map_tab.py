"""The tab "Map": clips by their latents; a click plays the nearest one, or makes one there."""

from __future__ import annotations

import gradio as gr
import numpy as np

from trainer.studio.clips_html import clips_html
from trainer.studio.events import with_messages
from trainer.studio.latent_map import clip_at, map_of
from trainer.studio.session import Session

PLAY, MAKE = "plays the nearest clip", "makes one there"


def add_tab(session: Session) -> None:
    """Add the tab."""
    with gr.Tab("Map") as tab:
        gr.Markdown(
            "Each point is a clip of the dataset. The model hears near points alike, in what stays the same over a "
            "clip."
        )
        with gr.Row():
            with gr.Column(scale=2):
                action = gr.Radio([PLAY, MAKE], value=PLAY, label="A click")
                picture = gr.Image(
                    interactive=False, show_label=False, buttons=[], elem_id="map", alt_text="Map of clips"
                )
            with gr.Column(scale=1):
                clips = gr.HTML("<p>Click on the map.</p>", elem_id="map-clips")

    draw = with_messages(lambda: map_of(session).picture)
    tab.select(draw, outputs=picture, concurrency_limit=1, concurrency_id="model")

    @with_messages
    def show(action: str, click: gr.SelectData) -> str:
        nearest = map_of(session).nearest(*click.index)
        rate_hz = session.generator.sample_rate_hz
        name = f"{nearest.clip.name} ({nearest.clip.genre})"
        shown: dict[str, np.ndarray] = {name: nearest.clip.audio}
        if action == MAKE:
            shown = {f"{name}, moved to the click": clip_at(session, nearest), **shown}
        return clips_html(shown, rate_hz)

    picture.select(show, action, clips, concurrency_limit=1, concurrency_id="model")
