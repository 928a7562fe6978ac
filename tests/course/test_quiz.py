"""Questions with feedback: the text is read strictly, and the page needs no script."""

import re
from html.parser import HTMLParser

import pytest

from rcnn import course

TEXT = """
    Which box does NMS
    keep first?
    [ ] The largest box.
        The *size* of a box
        does not matter: 2 * 3 * 4.
    [x] The box with the highest `score`.
        NMS visits the boxes by descending score.

    Is 1 < 2 && 2 > 1?
    [x] Yes.
        Both are true.
    [ ] No.
        Count again.
"""


def test_text_becomes_questions():
    first, second = course.quiz(TEXT).questions
    assert first.text == "Which box does NMS keep first?"
    assert [(choice.text, choice.right, choice.explanation) for choice in first.choices] == [
        ("The largest box.", False, "The *size* of a box does not matter: 2 * 3 * 4."),
        ("The box with the highest `score`.", True, "NMS visits the boxes by descending score."),
    ]
    assert second.text == "Is 1 < 2 && 2 > 1?"


def test_terminal_shows_no_answers():
    assert repr(course.quiz(TEXT)) == (
        "1. Which box does NMS keep first?\n   A. The largest box.\n   B. The box with the highest `score`.\n\n"
        "2. Is 1 < 2 && 2 > 1?\n   A. Yes.\n   B. No."
    )


class Page(HTMLParser):
    """The tags of a page, and the text within each `details`."""

    def __init__(self, page):
        super().__init__()
        self.open, self.tags, self.details = [], [], []
        self.feed(page)
        assert self.open == []

    def handle_starttag(self, tag, attrs):
        self.open.append(tag)
        self.tags.append((tag, dict(attrs)))
        if tag == "details":
            self.details.append("")

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        if "details" in self.open:
            self.details[-1] += data


def test_page_is_folded_and_needs_no_script():
    page = course.quiz(TEXT)._repr_html_()
    parsed = Page(page)
    assert parsed.details == [
        "A. The largest box.✗ Wrong. The size of a box does not matter: 2 * 3 * 4.",
        "B. The box with the highest score.✓ Right. NMS visits the boxes by descending score.",
        "A. Yes.✓ Right. Both are true.",
        "B. No.✗ Wrong. Count again.",
    ]
    names = [tag for tag, _ in parsed.tags]
    assert names.count("details") == names.count("summary") == 4
    assert "script" not in names and not re.search(r"\bon\w+=", page)
    assert not any("open" in attributes for tag, attributes in parsed.tags if tag == "details")
    assert [attributes["aria-label"] for _, attributes in parsed.tags if "aria-label" in attributes] == [
        "Question 1",
        "Question 2",
    ]
    assert "<code>score</code>" in page and "The <em>size</em> of" in page and "1 &lt; 2 &amp;&amp; 2 &gt; 1?" in page


@pytest.mark.parametrize(
    "change, message",
    [
        ((TEXT, "  \n "), "text must have at least one question, got none"),
        (("    Is 1 < 2 && 2 > 1?\n", ""), r"question 2 \(''\): the text of the question must come before its answers"),
        (("    [ ] No.\n        Count again.\n", ""), "question 2 .* must have 2 to 8 answers, got 1"),
        (("[ ] The largest", "[x] The largest"), r"question 1 \('Which box.*exactly one right answer.*got 2"),
        (("[x] Yes", "[ ] Yes"), "question 2 .* got 0"),
        (("        Count again.\n", ""), "the answer 'No.' has no explanation"),
        (("        Count again", "    Count again"), r"expected '\[x\] ...', .* got 'Count again.'"),
        (("[ ] No.", "[X] No."), r"expected '\[x\] ...', .* got '\[X\] No.'"),
    ],
)
def test_malformed_text_is_reported(change, message):
    with pytest.raises(ValueError, match=message):
        course.quiz(TEXT.replace(*change))
