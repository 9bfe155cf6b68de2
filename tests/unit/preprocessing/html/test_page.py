"""Pages rendered from templates: escaping, facts, and the elements that pages share."""

from __future__ import annotations

import jinja2
import pytest

from preprocessing.html.page import fact_list, render

HOSTILE = '<script>alert(1)</script> & "jazz" {{ title }} $title'
ESCAPED = "&lt;script&gt;alert(1)&lt;/script&gt; &amp; &#34;jazz&#34; {{ title }} $title"


@pytest.fixture
def render_source(tmp_path, monkeypatch):
    """Return a function that renders the source of a template, as part of a package of its own."""
    package = tmp_path / f"pages_of_{tmp_path.name}"  # unique, since imports are cached by name
    (package / "templates").mkdir(parents=True)
    (package / "__init__.py").touch()
    monkeypatch.syspath_prepend(tmp_path)

    def render_text(source, **values):
        (package / "templates/page.html.jinja").write_text(source)
        return render(package.name, "page.html.jinja", **values)

    return render_text


def test_a_page_escapes_its_title_and_has_the_style_and_the_script(render_source):
    source = (
        '{% extends "base.html.jinja" %}{% block style %}.own { color: red; }{% endblock %}'
        "{% block content %}<p>{{ text }}</p>{% endblock %}"
    )
    page = render_source(source, title=HOSTILE, text=HOSTILE)
    assert page.startswith("<!doctype html>")
    assert f"<title>{ESCAPED}</title>" in page
    assert f"<h1>{ESCAPED}</h1>" in page
    assert f"<p>{ESCAPED}</p>" in page
    assert page.index(".card {") < page.index(".own {") < page.index("</style>")
    assert 'querySelectorAll("audio")' in page[page.index("<script>") :]


def test_a_missing_value_is_an_error(render_source):
    with pytest.raises(jinja2.UndefinedError, match="title"):
        render_source('{% extends "base.html.jinja" %}')


def test_empty_facts_are_left_out(render_source):
    source = '{% import "elements.html.jinja" as elements %}{{ elements.fact_list(facts) }}'
    html = render_source(source, facts=fact_list({"Rate": "<3", "Date": ""}, wide={"Genres": "jazz"}))
    assert "<div><dt>Rate</dt><dd>&lt;3</dd></div>" in html
    assert '<div class="wide"><dt>Genres</dt><dd>jazz</dd></div>' in html
    assert "Date" not in html


def test_details_show_values_as_escaped_json(render_source):
    source = '{% import "elements.html.jinja" as elements %}{{ elements.details("All", values) }}'
    assert "&#34;name&#34;: &#34;&lt;i&gt;&#34;" in render_source(source, values={"name": "<i>"})
