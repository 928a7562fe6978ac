"""Figures of the notebooks: every image has alternative text."""

import base64
import re

import nbformat
import numpy as np
import pytest

from rcnn import course, data, plot
from rcnn.course import figures, widgets

ALT = 'Two boxes "A" & B overlap by a third of their area.'


@pytest.fixture(scope="module")
def png():
    return plot.png(plot.figure(3, 2))


def test_shown_figure_is_an_image_with_text(png):
    shown = course.show(plot.figure(3, 2), ALT)
    page = shown._repr_html_()
    assert base64.b64decode(re.search(r"base64,([^\"]+)", page).group(1)) == png
    assert 'alt="Two boxes &quot;A&quot; &amp; B overlap by a third of their area."' in page
    assert 'width="300" height="200"' in page and "max-width: 100%" in page
    assert repr(shown) == f"Figure: {ALT}"


def test_wide_figure_scrolls_where_it_would_be_illegible(png):
    wide, limit = plot.png(plot.figure(9, 3)), figures.LEGIBLE
    page = figures.as_html(wide, ALT)
    assert page.startswith('<div class="rcnn-wide" tabindex="0" role="group" aria-label="Wide figure"')
    assert page.endswith("</div>") and "overflow-x: auto" in page and f"min-width: {limit}px" in page
    assert "min-width" not in figures.as_html(png, ALT) and "<div" not in figures.as_html(png, ALT)


def test_line_breaks_in_the_text_become_spaces(png):
    assert figures.DescribedFigure(png, "Two boxes\n    overlap by a third of their area.").alt == (
        "Two boxes overlap by a third of their area."
    )


@pytest.mark.parametrize(
    "alt, error, message",
    [
        (None, TypeError, "alt must be a string, got NoneType"),
        ("", ValueError, "30 to 600 characters .* got 0 characters: ''"),
        ("Two boxes", ValueError, "got 9 characters: 'Two boxes'"),
        ("Two boxes. " * 60, ValueError, "got 659 characters"),
        ("Image of two boxes that overlap by a third", ValueError, "remove 'Image of'"),
        ("A figure that shows two boxes, one in the other", ValueError, "remove 'A figure that'"),
    ],
)
def test_useless_text_is_rejected(alt, error, message):
    with pytest.raises(error, match=message):
        course.show(plot.figure(3, 2), alt)


def test_images_without_text_are_found(png):
    content, output = base64.b64encode(png).decode(), nbformat.v4.new_output
    with_text, without = figures.as_html(png, ALT), f'<p><img src="data:image/png;base64,{content}"></p>'
    cells = {
        "printed": [output("stream", text="<img>")],
        "described": [output("display_data", data={"text/html": with_text, "text/plain": ALT})],
        "plain": [output("display_data", data={"image/png": content, "text/plain": "figure"})],
        "html": [output("display_data", data={"text/html": with_text + without + without})],
        "empty": [output("display_data", data={"text/html": without.replace("<img", '<img alt=""')})],
        "jpeg": [output("display_data", data={"image/jpeg": content})],
    }
    cells = [nbformat.v4.new_code_cell(id=name, outputs=outputs) for name, outputs in cells.items()]
    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_markdown_cell("<img>"), *cells])
    assert figures.images_without_text(notebook) == ["plain", "html", "html", "empty", "jpeg"]


def test_texts_of_the_explorers_contain_their_numbers():
    assert "The IoU is 1.00, 0.60, 0.14, 0.25, 0.25, 0.00." in widgets.box_iou().alt
    boxes = np.array([[x, 0, x + 20, 10] for x in (0, 8, 16, 100)], float)
    assert "after steps 1, 2, 3" in widgets.nms_stepper(boxes, [0.4, 0.3, 0.2, 0.1], 0.4).alt
    assert "At the end, 3 boxes are kept." in widgets.nms_stepper(boxes, [0.4, 0.3, 0.2, 0.1], 0.4).alt
    assert "at stride 4" in widgets.anchor_painter(data.Digits(2)).alt
    assert "RoIAlign changes smoothly" in widgets.pool_compare().alt
    target = {"boxes": boxes[:1], "labels": np.array([1])}
    found = {"boxes": boxes, "scores": np.array([0.97, 0.6, 0.3, 0.01]), "labels": np.array([1, 1, 1, 1])}
    assert "Above these thresholds, there are 3 detections with precision 0.33, recall 1.00; 2 detections with" in (
        widgets.score_threshold([np.zeros((20, 128, 3))], [found], [target], 1).alt
    )
