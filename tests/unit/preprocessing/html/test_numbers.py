"""Number formats of pages and tables."""

from __future__ import annotations

import math

import pytest

from preprocessing.html.numbers import format_number, format_significant


@pytest.mark.parametrize(
    ("value", "text"),
    [(None, "—"), (math.nan, "not finite"), (-1234.56, "\N{MINUS SIGN}1,234.6"), (1e38, "1.00e+38")],
)
def test_numbers_have_thousands_separators_and_a_true_minus(value, text):
    assert format_number(value) == text


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (None, "—"),
        (-math.inf, "not finite"),
        (12, "12"),
        (12_345, "12,345"),
        (-0.012345, "\N{MINUS SIGN}0.0123"),
        (99.96, "100"),
        (176_946.6, "176,947"),
    ],
)
def test_significant_digits_are_three_at_most(value, text):
    assert format_significant(value) == text
