"""One self-contained page about a verdict: figures of champion and candidate, and both to see and hear."""

from __future__ import annotations

from datetime import datetime
from html import escape

from preprocessing.html.numbers import format_number
from preprocessing.html.page import Show, Sound, details, document, fact_list, same_scale
from trainer.registry.promotion import METRICS, Compared, Criteria, said

NAME = "comparison.html"

_LEADS = {
    "clips": "Test clips that neither model was trained on. Press play, or click a picture to hear that "
    "moment. One colour scale serves all pictures, from the loudest original down by 80 dB.",
    "new": "Made from nothing by both models, from the same seed.",
}
_STYLE = """\
.verdict { margin: 0 0 1rem; border-left-width: 5px; }
.verdict strong { font-size: 1.2rem; display: block; }
.promoted { border-left-color: #3f9c72; } .refused { border-left-color: var(--warn); }
.good { color: #3f9c72; }
.three { display: grid; gap: 1rem 1.25rem; margin-top: .75rem;
  grid-template-columns: repeat(auto-fit, minmax(min(100%, 300px), 1fr)); }
.facts .wide dt { flex-basis: 4.4rem; }
.chosen th::before { content: "\\2192\\00a0"; }
td small { display: inline-block; min-width: 10rem; white-space: nowrap; }
@media (max-width: 640px) { th, td { padding-left: .5rem; } td small { min-width: 0; white-space: normal; } }
"""


def write_page(
    decision: dict, sets: list[Compared], criteria: Criteria, clips: list, new: list[list[Sound]]
) -> str:
    """Writes the page.

    Args:
        verdict: What `verdict.json` holds.
        sets: What was measured, one table for each.
        criteria: By which it was decided.
        clips: For each clip its track id, genre, original and reconstructions.
        new: For each new clip what each model made.
    """
    originals = [original for _, _, original, _ in clips]
    show = same_scale(originals, originals[0].sample_rate_hz / 2)
    body = [
        _verdict_card(decision),
        _facts(decision),
        *(_table(one, criteria) for one in sets),
        f'<h2>Held-out clips</h2><p class="soft">{_LEADS["clips"]}</p>',
        *(_clip_card(*clip, show) for clip in clips),
        f'<h2>New music</h2><p class="soft">{_LEADS["new"]}</p>',
        *(_cards(f"New {index:02d}", "", sounds, show) for index, sounds in enumerate(new)),
        details("The whole verdict", decision),
    ]
    return document(f"Candidate {decision['candidate']}", "".join(body), _STYLE)


def _verdict_card(decision: dict) -> str:
    word = decision["decision"]
    notes = "".join(f'<p class="soft">{escape(note)}.</p>' for note in decision["notes"])
    return (
        f'<aside class="card verdict {word}"><strong>{word.capitalize()}</strong>'
        f"{escape(_sentence(decision['reason']))}{notes}</aside>"
    )


def _sentence(reason: str) -> str:
    return f"{reason[:1].upper()}{reason[1:]}."


def _facts(decision: dict) -> str:
    criteria = decision["criteria"]
    return fact_list(
        {
            "Must gain": f"{criteria['metric']}, {criteria['min_gain']:.1%}",
            "May lose": f"{criteria['max_loss']:.1%} each",
            "New clips": f"{criteria['count']:,}",
            "Judged": f"{datetime.fromisoformat(decision['judged']):%d %b %Y, %H:%M} UTC".lstrip("0"),
        },
        {
            "Champion": decision["champion"] or "none yet",
            "Start": f"the weights of {decision['start']}" if decision["start"] else "from nothing",
            "Dataset": f"{decision['dataset'][:12]} {decision['data']}",
        },
    )


def _table(one: Compared, criteria: Criteria) -> str:
    """A row for each metric, with what the change means."""
    gains = one.gains() if one.champion else {}
    rows = []
    for name, metric in METRICS.items():
        before = f"<td>{_figure(one.champion[name])}</td>" if one.champion else ""
        style = ' class="chosen"' if name == criteria.metric else ""
        change = _change(name, gains[name], one, criteria) if gains else ""
        unit = f" <small>{metric.unit}</small>" if metric.unit else ""
        rows.append(
            f"<tr{style}><th>{escape(metric.title)}{unit}</th>{before}"
            f"<td>{_figure(one.candidate[name])}</td>{change}</tr>"
        )
    columns = ["champion", "candidate", "error"] if one.champion else ["candidate"]
    head = "".join(f"<th>{column}</th>" for column in columns)
    return (
        f'<h2>On {escape(one.what)}</h2><p class="soft">{one.clips} test clips of the dataset '
        f'{one.dataset[:12]}, on which neither was trained.</p><div class="card"><table><thead><tr><th></th>'
        f"{head}</tr></thead><tbody>{''.join(rows)}</tbody></table></div>"
    )


def _change(name: str, value: float, one: Compared, criteria: Criteria) -> str:
    if value < -criteria.max_loss:
        style, meaning = "warn", "too much is lost"
    elif name == criteria.metric and one.what == "the new clips":
        enough = value >= criteria.min_gain
        style, meaning = ("good", "gains enough") if enough else ("warn", "gains too little")
    else:
        style, meaning = ("good", "better") if value > 0 else ("", "within what is allowed")
    return f'<td class="{style}">{said(value).removesuffix(" error")} <small>{meaning}</small></td>'


def _figure(value: float) -> str:
    return format_number(value, 2 if abs(value) < 100 else 0)


def _clip_card(track_id: str, genre: str, original: Sound, made: list[Sound], show: Show) -> str:
    return _cards(track_id, genre, [original, *made], show)


def _cards(title: str, genre: str, sounds: list[Sound], show: Show) -> str:
    figures = "".join(show(sound) for sound in sounds)
    return (
        f'<article class="card pair-card"><h3>{escape(title)} <small>{escape(genre)}</small></h3>'
        f'<div class="three">{figures}</div></article>'
    )
