"""Templates: placeholders, and the escaping of text from data sets."""

import json

import pytest

from rcnn.cli.html import template

HOSTILE = ["</script><script>alert(1)</script>", "\"'&<>", "<!--", "{{style}}", "猫\u2028\udcff"]


@pytest.mark.parametrize("value", HOSTILE)
def test_text_contains_nothing_that_html_understands(value):
    escaped = template.text(value)
    assert not set("<>\"'") & set(escaped)
    escaped.encode()  # no lone surrogate is left


@pytest.mark.parametrize("value", HOSTILE)
def test_json_cannot_end_its_element_and_keeps_the_value(value):
    written = template.as_json({value: [value]})
    assert written.isascii() and not set("<>&") & set(written)
    assert json.loads(written) == {value: [value]}


def test_values_are_filled_in_once():
    page = template.fill("report.html", {"title": "{{body}}", "summary": "猫", "body": "{{title}}"}).decode("ascii")
    assert "<title>{{body}}</title>" in page and "{{title}}" in page and "&#29483;" in page
    assert "color-scheme: light dark" in page


def test_files_contain_no_address_outside_the_page():
    for name in ("viewer.html", "viewer.js", "report.html", "style.css"):
        content = template.read_file(name)
        assert "//" not in content.replace("// ", "") and "url(" not in content, name
        assert content.isascii() or name == "viewer.html", name  # only HTML has references for other characters
    for name in ("viewer.html", "report.html"):
        assert "default-src 'none'" in template.read_file(name)
