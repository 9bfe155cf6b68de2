"""A dataset as one web page: how many clips, how they sound, one of each genre to hear, what was left out."""

from __future__ import annotations

import os
from collections import defaultdict
from html import escape

import numpy as np
from matplotlib.ticker import MaxNLocator

from preprocessing.dataset import example
from preprocessing.dataset.quarantine import NOT_BAD, REASONS, Rejected
from preprocessing.dataset.splits import SPLITS
from preprocessing.html import page
from preprocessing.validation.checks import Reading

SHOWN_FILES, SHOWN_PAIRS = 5, 20  # of each reason
HEARD_SECS = 30.0  # of a clip, at most: the players of ten genres at 3 kHz take half a megabyte
MEASURES = {  # of an entry: name, unit
    "loudness_db": ("loudness", "dB"),
    "centroid_hz": ("brightness", "Hz"),
    "tempo_bpm": ("tempo", "BPM"),
}

_TYPICAL = (
    "For each, the training clip of middle loudness. Press play, or click a picture to hear that moment. "
    "One colour scale serves all pictures, from the loudest down by 80 dB."
)
_WIDTH, _LEFT, _RIGHT, _ROW = 380, 74, 342, 26  # of a chart, in its own units
_LABEL = 12  # characters of a genre that it has room for
_BINS = 74
_KERNEL = np.exp(-0.5 * (np.arange(-4, 5) / 1.6) ** 2)  # smooths a histogram
_STYLE = """\
.bar { width: 40%; text-align: left; white-space: nowrap; line-height: 0; }
.bar i { display: inline-block; height: .8rem; background: currentColor; }
tbody th { overflow-wrap: anywhere; }
.validation { color: #3f9c72; }
.ridges path { stroke-width: 1.5; }
.ridges .grid { stroke-width: 1; }
.ridges .ridge { fill: currentColor; fill-opacity: .3; stroke-width: 1; }
.reason { margin-top: 1rem; }
.reason p { margin: .25rem 0 .5rem; }
.reason ul { margin: 0; padding-left: 1.1rem; font-size: .875rem; color: var(--soft); }
.reason li { overflow-wrap: anywhere; }
.reason b { color: var(--ink); font-weight: 500; }
@media (max-width: 640px) { .bar { display: none; } th, td { padding-left: .5rem; } }
"""


def write_page(name: str, reading: Reading) -> str:
    """Writes the page of a dataset without faults, whose reading has `heard`; `name` is its heading."""
    rate_hz = reading.manifest.sample_rate_hz
    sounds = [_sound(record) for _, record in sorted(reading.heard.items())]
    show = page.same_scale(sounds, rate_hz / 2, lossless=False)
    body = [
        _facts(reading),
        '<h2>Clips</h2><p class="soft">To train a model, to choose among models, and to test one.</p>',
        _counts_table(reading),
        '<h2>How it sounds</h2><p class="soft">How many clips of a genre are how loud, bright and fast; ',
        'the line and the number are their mean.</p><div class="charts">',
        *(_ridges(reading, measure) for measure in MEASURES),
        "</div>",
        page.gallery("One clip of each genre", _TYPICAL, sounds, show),
        _left_out(reading),
        page.details("The options it was made with", reading.manifest.options),
    ]
    return page.document(f"{name}: {len(reading.entries):,} clips", "".join(body), _STYLE)


def _sound(record: example.Record) -> page.Sound:
    heard = record.audio[: min(record.valid_samples, round(HEARD_SECS * record.sample_rate_hz))]
    return page.Sound(record.track_id, heard, record.sample_rate_hz)


def _facts(reading: Reading) -> str:
    manifest = reading.manifest
    megabytes = sum(shard.bytes for shard in manifest.shards) / 1e6
    secs = manifest.clip_samples / manifest.sample_rate_hz
    return page.fact_list(
        {
            "Duration": reading.duration(None),
            "A clip": f"{secs:.3g} s at {manifest.sample_rate_hz:,} Hz",
            "Samples": f"{manifest.clip_samples:,}",
            "Shards": f"{len(manifest.shards)}, {megabytes:,.0f} MB",
            "Split by": str(manifest.options.get("split", "")),
            "Files left out": f"{len(reading.rejected):,}",
        },
        {"Dataset": reading.home, "Digest": manifest.digest, "Verified": reading.verified()},
    )


def _counts_table(reading: Reading) -> str:
    """Clips by genre and split, with bars."""
    genres = reading.manifest.genres
    most = max(sum(reading.counts(genre)) for genre in genres)
    head = "".join(f'<th class="{split}">{split}</th>' for split in SPLITS)
    rows = [f'<tr><th></th><th class="bar"></th>{head}<th>duration</th></tr>']
    for genre in (*genres, None):
        counts = reading.counts(genre)
        bars = "".join(
            f'<i class="{split}" style="width:{100 * count / most:.2f}%"></i>'
            for split, count in zip(SPLITS, counts, strict=True)
        )
        cells = "".join(f"<td>{count:,}</td>" for count in counts) + f"<td>{reading.duration(genre)}</td>"
        rows.append(
            f'<tr><th>{escape(genre or "all")}</th><td class="bar">{bars if genre else ""}</td>{cells}</tr>'
        )
    return (
        f'<div class="card"><table><thead>{rows[0]}</thead><tbody>{"".join(rows[1:])}</tbody></table></div>'
    )


def _ridges(reading: Reading, measure: str) -> str:
    """One measure as a card with inline SVG: a row for each genre, as high as it has clips there."""
    name, unit = MEASURES[measure]
    values = reading.values(measure, None)
    if not values:
        return ""
    margin = 0.06 * (max(values) - min(values)) or 1.0
    low, high = min(values) - margin, max(values) + margin
    floor = _ROW * len(reading.manifest.genres)

    def across(value: float) -> str:
        return f"{_LEFT + (value - low) / (high - low) * (_RIGHT - _LEFT):.1f}"

    marks = []
    for tick in MaxNLocator(5).tick_values(low, high):
        if low <= tick <= high:
            x = across(tick)
            marks.append(f'<path class="grid" d="M{x} 0V{floor}"/>')
            marks.append(f'<text x="{x}" y="{floor + 16}" text-anchor="middle">{_figure(tick)}</text>')
    for row, genre in enumerate(reading.manifest.genres, start=1):
        marks.append(f'<text x="0" y="{_ROW * row - 4}">{escape(genre[:_LABEL])}</text>')
        if its := reading.values(measure, genre):
            marks.append(_ridge(np.array(its), low, high, _ROW * row))
            mean = float(np.mean(its))
            marks.append(f'<path d="M{across(mean)} {_ROW * row}v-{_ROW - 6}"/>')
            marks.append(f'<text x="{_WIDTH}" y="{_ROW * row - 4}" text-anchor="end">{_figure(mean)}</text>')
    view = f'viewBox="0 0 {_WIDTH} {floor + 22}" role="img" aria-label="{name} by genre"'
    return (
        f'<div class="card"><h3>{name.capitalize()} <small>{unit}</small></h3>'
        f'<svg class="ridges train" {view}>{"".join(marks)}</svg></div>'
    )


def _figure(value: float) -> str:
    text = f"{value:,.0f}" if abs(value) >= 100 else f"{value:.3g}"
    return text.replace("-", "\N{MINUS SIGN}")


def _ridge(values: np.ndarray, low: float, high: float, base: int) -> str:
    """A histogram of one genre, smoothed, as a filled outline."""
    heights, _ = np.histogram(values, bins=_BINS, range=(low, high))
    heights = np.convolve(heights, _KERNEL, mode="same")
    heights = heights / heights.max() * (_ROW - 6)
    across = _LEFT + (np.arange(_BINS) + 0.5) / _BINS * (_RIGHT - _LEFT)
    steps = "L".join(f"{x:.1f} {base - height:.1f}" for x, height in zip(across, heights, strict=True))
    return f'<path class="ridge" d="M{_LEFT} {base}L{steps}L{_RIGHT} {base}z"/>'


def _left_out(reading: Reading) -> str:
    """What became no record: by reason its meaning and its first files; of copies, the pairs."""
    if not reading.rejected:
        return ""
    by_reason: dict[str, list[Rejected]] = defaultdict(list)
    for rejected in reading.rejected:
        by_reason[rejected.reason].append(rejected)
    uris = [one.source_uri for one in reading.entries.values()] + [one.uri for one in reading.rejected]
    start = os.path.commonprefix(uris)  # noqa: RUF071 (what it has of a name is cut off; uris are no paths)
    folder = start[: start.rfind("/") + 1]
    cards = []
    rank = {reason: (reason in NOT_BAD, -len(of), reason) for reason, of in by_reason.items()}
    for reason in sorted(by_reason, key=rank.__getitem__):
        of = by_reason[reason]
        shown = SHOWN_PAIRS if reason == "duplicate" else SHOWN_FILES
        items = "".join(
            f"<li><b>{escape(one.uri.removeprefix(folder))}</b> "
            f"{escape(one.detail.replace(f' {folder}', ' '))}</li>"
            for one in of[:shown]
        )
        rest = f"<li>and {len(of) - shown:,} more</li>" if len(of) > shown else ""
        cards.append(
            f'<div class="card reason"><h3>{escape(reason)} <small>{len(of):,}</small></h3>'
            f"<p>{escape(REASONS.get(reason, ''))}</p><ul>{items}{rest}</ul></div>"
        )
    lead = f"Files that became no record; names are those below {escape(folder)}"
    return f'<h2>Left out</h2><p class="soft">{lead}</p>{"".join(cards)}'
