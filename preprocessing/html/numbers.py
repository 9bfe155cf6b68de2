"""Number formats of pages, tables and JSON. Standard library only."""

from __future__ import annotations

import math

MINUS = "\N{MINUS SIGN}"


def format_number(value: float | None, places: int = 1) -> str:
    """Format a number with thousands separators and a true minus sign; a missing value is a dash."""
    if value is None:
        return "\N{EM DASH}"
    if not math.isfinite(value):
        return "not finite"
    text = f"{value:,.{places}f}" if abs(value) < 1e9 else f"{value:.2e}"
    return text.replace("-", MINUS)


def format_significant(value: float | None) -> str:
    """Format a number to three significant digits; integers and values from 100 up to the unit."""
    if value is None or not math.isfinite(value):
        return format_number(value)
    text = f"{value:,.0f}" if isinstance(value, int) or abs(value) >= 100 else f"{value:.3g}"
    return text.replace("-", MINUS)


def format_duration(secs: float) -> str:
    """Format a duration in its two largest units; empty if it is not known."""
    if not 0 < secs < math.inf:
        return ""
    minutes, rest = divmod(round(secs), 60)
    if minutes >= 60:
        return f"{minutes // 60} h {minutes % 60} min"
    return f"{minutes} min {rest} s" if minutes else f"{secs:.1f} s"
