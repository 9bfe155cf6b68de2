"""The tab "Takes": two takes side by side, with stars."""

from __future__ import annotations

from typing import Any

import gradio as gr

from trainer.studio.clips_html import take_html
from trainer.studio.events import with_messages
from trainer.studio.session import Session

NONE = "<p>No take chosen.</p>"


def add_tab(session: Session, takes: gr.State) -> None:
    """Add the tab; it lists a take when its name is written to `takes`."""
    with gr.Tab("Takes") as tab:
        gr.Markdown(f"All takes are in the folder `{session.options.output}`.")
        with gr.Row():
            sides = [_add_side(side) for side in ("Left", "Right")]
    choices = [choice for choice, _, _ in sides]

    def list_takes(*chosen: str | None) -> list[Any]:
        existing = session.takes()
        names = [(f"\N{BLACK STAR} {name}" if session.is_starred(name) else name, name) for name in existing]
        # A value that is no choice would make every later event fail.
        return [gr.update(choices=names, value=name if name in existing else None) for name in chosen]

    @with_messages
    def show(take: str | None) -> tuple[str, bool]:
        return (take_html(session, take), session.is_starred(take)) if take else (NONE, False)

    @with_messages
    def set_star(take: str | None, starred: bool, *chosen: str | None) -> list[Any]:
        if take:
            session.set_star(take, starred)
        return list_takes(*chosen)

    tab.select(list_takes, choices, choices, show_progress="hidden")
    takes.change(list_takes, choices, choices, show_progress="hidden")
    for choice, star, clips in sides:
        choice.change(show, choice, [clips, star], show_progress="minimal")
        star.input(set_star, [choice, star, *choices], choices, show_progress="hidden")


def _add_side(side: str) -> tuple[gr.Dropdown, gr.Checkbox, gr.HTML]:
    with gr.Column():
        choice = gr.Dropdown([], value=None, label=f"{side} take", elem_id=f"take-{side.lower()}")
        star = gr.Checkbox(False, label="Star", elem_id=f"star-{side.lower()}")
        return choice, star, gr.HTML(NONE, elem_id=f"clips-{side.lower()}")
