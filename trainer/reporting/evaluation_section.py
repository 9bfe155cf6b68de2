"""The section of a report on how a run was judged: tables, the latents, new clips under real ones."""

import json
import math
from html import escape
from pathlib import Path

from preprocessing.html.page import data_uri
from trainer.runs.directory import EVALUATION

_TABLES = {
    "reconstruction_quality": (
        "Reconstruction",
        "Held-out clips through the model and back, beside baselines.",
    ),
    "generation_quality": (
        "New music",
        "Smaller Fr\u00e9chet distances sound more like the corpus; real clips are the floor.",
    ),
    "condition_adherence": (
        "What is asked, and what is heard",
        "Genres as a classifier hears them; attributes as measured.",
    ),
}
_PICTURES = {
    "latents": "The global latents of held-out clips, by genre.",
    "spectrograms": "Real held-out clips above, new ones below.",
}


def evaluation_section(run: Path) -> str:
    """HTML of the last evaluation, or nothing where there was none."""
    path = run / EVALUATION / "evaluation.json"
    if not path.exists():
        return ""
    tables = json.loads(path.read_text("utf-8"))
    about = tables["about"]
    parts = [
        "<h2>Judged on clips that it never trained on</h2>",
        f'<p class="soft">After epoch {about["epoch"]}: {about["held_out_clips"]} clips of the split '
        f"{escape(about['split'])}, {about['count']} new clips.</p>",
    ]
    for name, (title, lead) in _TABLES.items():
        if tables[name]:
            parts += [
                f'<h3 style="margin-top:2rem">{title}</h3><p class="soft">{lead}</p>',
                _table(tables[name]),
            ]
    for name, caption in _PICTURES.items():
        picture = run / EVALUATION / f"{name}.png"
        if picture.exists():
            uri = data_uri(picture.read_bytes(), "image/png")
            parts.append(f'<p class="soft">{caption}</p><img class="training" src="{uri}" alt="{caption}">')
    return "".join(parts)


def _table(rows: list[dict]) -> str:
    """Figures down, rows across."""
    figures = dict.fromkeys(figure for row in rows for figure in row if figure != "what")
    head = "".join(f"<th>{escape(row.get('what', ''))}</th>" for row in rows)
    body = "".join(
        f"<tr><th>{escape(figure.replace('_', ' '))}</th>"
        + "".join(f"<td>{_shown(row.get(figure))}</td>" for row in rows)
        + "</tr>"
        for figure in figures
    )
    return (
        f'<div class="card"><table><thead><tr><th></th>{head}</tr></thead><tbody>{body}</tbody></table></div>'
    )


def _shown(value: float | None) -> str:
    if value is None or not math.isfinite(value):
        return "\N{EN DASH}"
    if isinstance(value, int):
        return f"{value:,}"
    return f"{value:,.0f}" if abs(value) >= 1_000 else f"{value:.3g}"
