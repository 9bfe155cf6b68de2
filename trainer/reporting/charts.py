"""Lay out line charts of metrics over epochs; `templates/charts.html.jinja` draws them as SVG."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import numpy as np
from matplotlib.ticker import MaxNLocator

from preprocessing.html.numbers import MINUS

Point = tuple[float, float]

_WIDTH, _HEIGHT = 380, 210  # in SVG units
_LEFT, _RIGHT, _TOP, _BOTTOM = 62, 370, 10, 184
_MAX_OVERSHOOT = 100.0  # frame heights; far outside the frame, within the coordinates that browsers can draw


@dataclass(frozen=True)
class Metric:
    """A chart's heading, its unit, and the keys in metrics.jsonl by curve: "train", "test"."""

    title: str
    unit: str
    keys: dict[str, str]


METRICS = (
    Metric("ELBO", "nats per clip, higher is better", {"train": "train_elbo", "test": "test_elbo"}),
    Metric(
        "Log-likelihood",
        "nats per clip, the ELBO's first term",
        {"train": "train_log_likelihood", "test": "test_log_likelihood"},
    ),
    Metric(
        "KL divergence", "nats per clip, the ELBO's second term", {"train": "train_kl", "test": "test_kl"}
    ),
    Metric(
        "Signal-to-noise ratio", "dB, reconstructed test clips; silence scores 0", {"test": "test_snr_db"}
    ),
    Metric("KL weight", "factor of the KL term in the training loss", {"train": "beta"}),
    Metric("Throughput", "clips per second", {"train": "clips_per_sec"}),
)


@dataclass(frozen=True)
class Series:
    """The values of a curve; one that is not finite leaves a gap."""

    name: str
    css_class: str  # which sets the colour
    epochs: list[int]  # in order
    values: list[float]


@dataclass(frozen=True)
class Tick:
    """A label of an axis and its position in SVG units."""

    position: float
    label: str


@dataclass(frozen=True)
class Curve:
    """A curve with its path in SVG units, which is empty if the curve has no finite value."""

    name: str
    css_class: str
    last_value: float
    path: str
    last_point: Point | None


@dataclass(frozen=True)
class Frame:
    """The area of a chart in SVG units."""

    width: int = _WIDTH
    height: int = _HEIGHT
    left: int = _LEFT
    right: int = _RIGHT
    top: int = _TOP
    bottom: int = _BOTTOM


@dataclass(frozen=True)
class LineChart:
    """A chart as the template draws it."""

    title: str
    unit: str
    curves: list[Curve]
    value_ticks: list[Tick]
    epoch_ticks: list[Tick]
    epochs: int
    gaps: int  # epochs in which a curve has no finite value
    clipped: bool  # whether values lie outside the frame
    frame: Frame = Frame()


def line_charts(epochs: list[dict[str, float]]) -> list[LineChart]:
    """Lay out a chart of each of `METRICS` that any epoch has, with the curves "train" and "test"."""
    charts = (
        line_chart(metric, [_series(name, name, key, epochs) for name, key in metric.keys.items()])
        for metric in METRICS
    )
    return [chart for chart in charts if chart is not None]


def run_charts(runs: dict[str, tuple[str, list[dict[str, float]]]]) -> list[LineChart]:
    """Lay out a chart of each of `METRICS` that any run has, with one curve for each run.

    Args:
        runs: The CSS class and the metrics of each epoch, by the run's name. The test metrics are drawn where a metric
            has them.
    """
    charts = []
    for metric in METRICS:
        split, key = next((name, metric.keys[name]) for name in ("test", "train") if name in metric.keys)
        series = [_series(name, css_class, key, epochs) for name, (css_class, epochs) in runs.items()]
        chart = line_chart(metric, series)
        if chart is not None:
            charts.append(
                replace(chart, unit=f"{split}, {chart.unit}" if len(metric.keys) > 1 else chart.unit)
            )
    return charts


def line_chart(metric: Metric, series: list[Series]) -> LineChart | None:
    """Lay out the curves of a metric; None if no series has a point."""
    series = [each for each in series if each.epochs]
    if not series:
        return None
    finite = [
        values for each in series if (values := [value for value in each.values if math.isfinite(value)])
    ]
    low, high = _common_range(finite) if finite else (0.0, 1.0)
    x = sorted({epoch for each in series for epoch in each.epochs})
    axes = _Axes.around(x, low, high)
    gaps = {
        epoch
        for each in series
        for epoch, value in zip(each.epochs, each.values, strict=True)
        if not math.isfinite(value)
    }
    return LineChart(
        title=metric.title,
        unit=metric.unit,
        curves=[_curve(each, axes) for each in series],
        value_ticks=axes.value_ticks() if finite else [],
        epoch_ticks=axes.epoch_ticks(x) if finite else [],
        epochs=len(x),
        gaps=len(gaps),
        clipped=any(not low <= value <= high for values in finite for value in values),
    )


def _series(name: str, css_class: str, key: str, epochs: list[dict[str, float]]) -> Series:
    """Return the values of a key of all epochs; without points if no epoch has the key."""
    known = epochs if any(key in epoch for epoch in epochs) else []
    values = [epoch.get(key, math.nan) for epoch in known]
    return Series(name, css_class, [int(epoch["epoch"]) for epoch in known], values)


def _common_range(curves: list[list[float]]) -> tuple[float, float]:
    """Return a range around most values of all curves, and around where each of them ends."""
    low, high = _value_range([value for values in curves for value in values])
    ends = [values[-1] for values in curves]
    return min(low, *ends), max(high, *ends)


def _value_range(values: list[float]) -> tuple[float, float]:
    """Return a range around most values, so that the first epochs or a diverged one do not flatten the others."""
    low, high = (float(value) for value in np.percentile(values, (10, 90)))
    if low == high:
        return min(values), max(values)
    reach = 0.5 * (high - low)
    return max(min(values), low - reach), min(max(values), high + reach)


@dataclass(frozen=True)
class _Axes:
    """Maps epochs and values to SVG units."""

    first: float
    last: float
    low: float
    high: float

    @classmethod
    def around(cls, x: list[int], low: float, high: float) -> _Axes:
        margin = 0.05 * (high - low) or abs(high) or 1.0
        first, last = (x[0], x[-1]) if x[-1] > x[0] else (x[0] - 1, x[0] + 1)
        return cls(first, last, low - margin, high + margin)

    def x(self, epoch: float) -> float:
        return round(_LEFT + (epoch - self.first) / (self.last - self.first) * (_RIGHT - _LEFT), 1)

    def y(self, value: float) -> float:
        share = (value - self.low) / (self.high - self.low)
        share = min(max(share, -_MAX_OVERSHOOT), _MAX_OVERSHOOT)
        return round(_BOTTOM - share * (_BOTTOM - _TOP), 1)

    def value_ticks(self) -> list[Tick]:
        ticks = MaxNLocator(5).tick_values(self.low, self.high)
        return [Tick(self.y(tick), _tick_label(tick)) for tick in ticks if self.low <= tick <= self.high]

    def epoch_ticks(self, x: list[int]) -> list[Tick]:
        ticks = MaxNLocator(6, integer=True).tick_values(x[0], x[-1])
        return [Tick(self.x(tick), f"{tick:g}") for tick in ticks if x[0] <= tick <= x[-1]]


def _tick_label(value: float) -> str:
    millions = 1e6 <= abs(value) < 1e9
    label = f"{value / 1e6:,.6g}M" if millions else f"{value:,.6g}"
    return label.replace("-", MINUS)


def _curve(series: Series, axes: _Axes) -> Curve:
    """Connect neighbouring points by lines; the last point is marked, so that a single point is visible."""
    commands, points, command = [], [], "M"
    for epoch, value in zip(series.epochs, series.values, strict=True):
        if not math.isfinite(value):
            command = "M"
            continue
        points.append((axes.x(epoch), axes.y(value)))
        commands.append(f"{command}{points[-1][0]} {points[-1][1]}")
        command = "L"
    last_point = points[-1] if points else None
    return Curve(series.name, series.css_class, series.values[-1], "".join(commands), last_point)
