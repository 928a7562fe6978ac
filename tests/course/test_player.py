"""Step-through figures: one frame per step, which can be read without a script."""

import re

import pytest

from rcnn import course, plot
from rcnn.course import animation

CAPTIONS = ["The first box is kept, because its score is higher.", "The second box overlaps it & is removed."]


def draw(figure, step):
    plot.title(figure.subplots(), f"Step {step}")


@pytest.fixture(scope="module")
def page():
    return course.player(draw, CAPTIONS, size=(3, 2))._repr_html_()


def test_every_step_has_an_image_and_a_caption(page):
    assert re.findall(r'alt="([^"]+)"', page) == [f"Step {step} of 2, described in the caption" for step in (1, 2)]
    assert re.findall("<figcaption>(.+?)</figcaption>", page) == [
        "<strong>Step 1 of 2.</strong> The first box is kept, because its score is higher.",
        "<strong>Step 2 of 2.</strong> The second box overlaps it &amp; is removed.",
    ]
    assert page.count('width="300" height="200"') == 2


def test_controls_have_names_and_appear_only_with_the_script(page):
    assert re.findall('<button type="button">(.+?)</button>', page) == ["Back", "Play", "Forward"]
    assert '<label>Step <input type="range" min="1" max="2" value="1"></label>' in page
    assert 'role="group" aria-label="Figure in 2 steps"' in page
    assert ".rcnn-player .controls { display: none" in page and ".rcnn-player.live .controls { display: flex" in page
    assert "hidden>" not in page  # without the script, every step is visible


def test_page_does_not_change_from_run_to_run(page):
    assert course.player(draw, CAPTIONS, size=(3, 2))._repr_html_() == page


def test_figures_instead_of_a_function(page):
    figures = [plot.figure(3, 2) for _ in CAPTIONS]
    for step, figure in enumerate(figures):
        draw(figure, step)
    assert course.player(figures, CAPTIONS)._repr_html_() == page


def test_terminal_shows_the_captions():
    assert repr(course.player(draw, CAPTIONS, size=(3, 2))) == (
        f"Figure in 2 steps:\n1. {CAPTIONS[0]}\n2. {CAPTIONS[1]}"
    )


@pytest.mark.parametrize(
    "arguments, error, message",
    [
        ((draw, CAPTIONS[:1]), ValueError, "captions must have one string for each of at least two steps"),
        ((draw, "both"), ValueError, "captions must have one string"),
        ((draw, [CAPTIONS[0], "short"]), ValueError, r"captions\[1\] must have 30 to 600 characters"),
        ((3, CAPTIONS), TypeError, "frames must be a function or a sequence of figures, got int"),
        (([plot.figure()], CAPTIONS), ValueError, r"one string per figure \(1\), got 2"),
        (([plot.figure(3, 2), plot.figure(2, 3)], CAPTIONS), ValueError, "must have the same size, got .*2.0, 3.0"),
        ((draw, CAPTIONS, (3, 2), 0.1), ValueError, r"seconds must be in \[0.2, 60\], got 0.1"),
    ],
)
def test_invalid_arguments_are_reported(arguments, error, message):
    with pytest.raises(error, match=message):
        course.player(*arguments)


def test_large_player_is_rejected(monkeypatch):
    monkeypatch.setattr(animation, "MOST_BYTES", 9000)
    with pytest.raises(ValueError, match="at most 9 kB, got .* kB in 2 frames; draw fewer or smaller frames"):
        course.player(draw, CAPTIONS, size=(9, 4))
