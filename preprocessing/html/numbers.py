"""Numbers as a reader likes them, on pages and in tables. Standard library only."""

from __future__ import annotations

import math

MINUS = "\N{MINUS SIGN}"


def format_number(value: float | None, places: int = 1) -> str:
    """Write a number for a reader: thousands apart, a true minus, and a dash for a missing value."""
    if value is None:
        return "\N{EM DASH}"
    if not math.isfinite(value):
        return "not finite"
    text = f"{value:,.{places}f}" if abs(value) < 1e9 else f"{value:.2e}"
    return text.replace("-", MINUS)
