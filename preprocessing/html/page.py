"""Render self-contained HTML pages from Jinja templates: the environment, and the data of shared elements.

The templates of a package are in its `templates` folder. They extend `base.html.jinja` and import
`elements.html.jinja`, both of this package. Every value is escaped; a page loads nothing from elsewhere.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from jinja2 import ChoiceLoader, Environment, PackageLoader, StrictUndefined

from preprocessing.html.media import ClipFigure
from preprocessing.html.numbers import format_number, format_significant

GENERATOR = "gtzan-cvae"  # in the head of each page


@dataclass(frozen=True)
class Fact:
    """A name and its value; a `wide` fact is on a line of its own."""

    name: str
    value: str
    wide: bool = False


@dataclass(frozen=True)
class Gallery:
    """Clips side by side below a heading and a sentence about them."""

    heading: str
    lead: str
    figures: list[ClipFigure]


def render(package: str, template: str, **values: Any) -> str:
    """Render a page.

    Args:
        package: The package whose `templates` folder contains the template, such as "trainer.reporting".
        template: The name of the file.
        values: The variables of the template.

    Returns:
        The page's HTML.

    Raises:
        jinja2.UndefinedError: A variable of the template is not in `values`.
    """
    return _environment(package).get_template(template).render(values, generator=GENERATOR)


def is_own_page(content: bytes) -> bool:
    """Tell whether a file is a page that this project has rendered."""
    return f'<meta name="generator" content="{GENERATOR}">'.encode() in content


def fact_list(facts: Mapping[str, str], wide: Mapping[str, str]) -> list[Fact]:
    """List facts for the macro `fact_list`: `wide` ones come last, those without a value are left out."""
    short_facts = [Fact(name, value) for name, value in facts.items() if value]
    return short_facts + [Fact(name, value, wide=True) for name, value in wide.items() if value]


def _environment(package: str) -> Environment:
    environment = Environment(
        loader=ChoiceLoader([PackageLoader(package), PackageLoader("preprocessing.html")]),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["number"] = format_number
    environment.filters["significant"] = format_significant
    environment.filters["pretty_json"] = _pretty_json
    return environment


def _pretty_json(values: Any) -> str:
    return json.dumps(values, indent=2, ensure_ascii=False)
