"""What a click on a button that generates does: a take, its clips, and errors as messages."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any, TypeVar

import gradio as gr

from preprocessing.errors import CommandError
from trainer.generation.options import Options
from trainer.studio.clips_html import take_html
from trainer.studio.session import Session, describe

Result = TypeVar("Result")


def with_messages(function: Callable[..., Result]) -> Callable[..., Result]:
    """Show the program's own sentence where `function` raises an error that the user can mend."""

    @functools.wraps(function)
    def wrapped(*args: Any) -> Result:
        try:
            return function(*args)
        except CommandError as error:
            raise gr.Error(describe(error), duration=None, print_exception=False) from error

    return wrapped


def on_click(
    session: Session,
    button: gr.Button,
    options_of: Callable[..., Options],
    inputs: list[Any],
    clips: gr.HTML,
    takes: gr.State,
) -> None:
    """Let a button generate a take of the options that `options_of` makes of the inputs, and show it in `clips`.

    Requests queue for the model; the rest of the page stays usable.
    """

    @with_messages
    def generate(*values: Any) -> tuple[str, str]:
        take = session.make_take(options_of(*values))
        return take_html(session, take), take

    button.click(
        generate, inputs, [clips, takes], concurrency_limit=1, concurrency_id="model", show_progress="full"
    )
