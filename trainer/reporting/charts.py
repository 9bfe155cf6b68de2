"""A metric's course over the epochs as a small chart in SVG, and numbers as a reader likes them."""

import math
from html import escape

import numpy as np
from matplotlib.ticker import MaxNLocator

from preprocessing.html.numbers import MINUS, format_number

CHARTS = (
    ("ELBO", "nats per clip, higher is better", {"train": "train_elbo", "test": "test_elbo"}),
    (
        "Log-likelihood",
        "nats per clip, the ELBO's first term",
        {"train": "train_log_likelihood", "test": "test_log_likelihood"},
    ),
    (
        "KL divergence",
        "nats per clip, the ELBO's second term",
        {"train": "train_kl", "test": "test_kl"},
    ),
    ("Signal-to-noise ratio", "dB, reconstructed test clips; silence scores 0", {"test": "test_snr_db"}),
    ("KL weight", "times the KL term in the training loss", {"train": "beta"}),
    ("Speed", "clips per second", {"train": "clips_per_sec"}),
)

_WIDTH, _HEIGHT = 380, 210  # in the SVG's own units
_LEFT, _RIGHT, _TOP, _BOTTOM = 62, 370, 10, 184
_FAR = 100.0  # frames beyond the frame: out of sight, and within what a browser can draw


def line_chart(title: str, unit: str, keys: dict[str, str], epochs: list[dict[str, float]]) -> str:
    """Draw curves over epochs as a card with inline SVG.

    Args:
        title: the chart's heading.
        unit: what its values are measured in.
        keys: the metric to draw for each of the page's colours, "train" and "test".
        epochs: the metrics of each epoch, in order; a value that is missing or not finite leaves a gap.

    Returns:
        The card, or nothing where no epoch has any of the metrics.
    """
    x = [int(epoch["epoch"]) for epoch in epochs]
    curves = {
        name: [epoch.get(key, math.nan) for epoch in epochs]
        for name, key in keys.items()
        if any(key in epoch for epoch in epochs)
    }
    if not curves:
        return ""
    finite = [value for values in curves.values() for value in values if math.isfinite(value)]
    legend = "".join(
        f'<span class="{name}">{name} <b>{format_number(values[-1])}</b></span>'
        for name, values in curves.items()
    )
    lost = sum(not all(math.isfinite(values[i]) for values in curves.values()) for i in range(len(x)))
    if lost:
        legend += f'<span class="warn">{lost} of {len(x)} epochs without a finite value</span>'
    plot = ""
    if finite:
        low, high = _value_range(finite)
        plot = _plot(x, curves, low, high)
        if low > min(finite) or high < max(finite):
            legend += '<span class="soft">some epochs lie beyond the frame</span>'
    return (
        f'<div class="card"><h3>{escape(title)} <small>{escape(unit)}</small></h3>'
        f'<div class="legend">{legend}</div>{plot}</div>'
    )


def _value_range(values: list[float]) -> tuple[float, float]:
    """Frame the bulk of the values, lest a first epoch's fall or a diverged one flatten all others."""
    low, high = np.percentile(values, (10, 90))
    if low == high:
        return min(values), max(values)
    reach = 0.5 * (high - low)
    return max(min(values), low - reach), min(max(values), high + reach)


def _plot(x: list[int], curves: dict[str, list[float]], low: float, high: float) -> str:
    margin = 0.05 * (high - low) or abs(high) or 1.0
    low, high = low - margin, high + margin
    first, last = (x[0], x[-1]) if x[-1] > x[0] else (x[0] - 1, x[0] + 1)

    def across(epoch: float) -> float:
        return round(_LEFT + (epoch - first) / (last - first) * (_RIGHT - _LEFT), 1)

    def down(value: float) -> float:
        share = min(max((value - low) / (high - low), -_FAR), _FAR)
        return round(_BOTTOM - share * (_BOTTOM - _TOP), 1)

    marks = []
    for tick in _ticks(low, high, MaxNLocator(5)):
        marks.append(f'<path class="grid" d="M{_LEFT} {down(tick)}H{_RIGHT}"/>')
        marks.append(_text(_LEFT - 6, down(tick) + 4, "end", f"{tick:,.6g}".replace("-", MINUS)))
    for tick in _ticks(x[0], x[-1], MaxNLocator(6, integer=True)):
        marks.append(_text(across(tick), _BOTTOM + 18, "middle", f"{tick:g}"))
    for name, values in curves.items():
        points = [
            (across(epoch), down(value)) if math.isfinite(value) else None
            for epoch, value in zip(x, values, strict=True)
        ]
        window = f'x="0" y="{_TOP}" width="{_WIDTH}" height="{_BOTTOM - _TOP}"'
        view = f'viewBox="0 {_TOP} {_WIDTH} {_BOTTOM - _TOP}"'
        marks.append(f'<svg class="{name}" {window} {view}>{_curve(points)}</svg>')
    return f'<svg viewBox="0 0 {_WIDTH} {_HEIGHT}" aria-hidden="true">{"".join(marks)}</svg>'


def _ticks(low: float, high: float, locator: MaxNLocator) -> list[float]:
    return [tick for tick in locator.tick_values(low, high) if low <= tick <= high]


def _text(x: float, y: float, anchor: str, text: str) -> str:
    return f'<text x="{x}" y="{y}" text-anchor="{anchor}">{text}</text>'


def _curve(points: list[tuple[float, float] | None]) -> str:
    """Join neighbouring points by a line and mark the last, so that even a lone point is seen."""
    steps, pen = [], "M"
    for point in points:
        if point is None:
            pen = "M"
            continue
        steps.append(f"{pen}{point[0]} {point[1]}")
        pen = "L"
    known = [point for point in points if point]
    if not known:
        return ""
    x, y = known[-1]
    return f'<path d="{"".join(steps)}"/><circle cx="{x}" cy="{y}" r="3"/>'
