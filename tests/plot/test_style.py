"""Shared style: contrasting colours, figures that notebooks display and that are freed, unchanged global settings."""

import gc
import io
import os
import subprocess
import sys
import weakref

import numpy as np
import pytest
from matplotlib.text import Text

from rcnn import evaluate, plot
from rcnn.cli.shared import write_figure
from rcnn.plot import style


@pytest.mark.parametrize(
    "label, color",
    [(0, style.NEUTRAL), (1, style.PALETTE[0]), (8, style.PALETTE[7]), (10, "#B3FF99"), (11, style.PALETTE[0])],
)
def test_label_color(label, color):
    assert style.label_color(label) == color


def test_ten_digits_have_ten_colours():
    assert len({style.label_color(label) for label in range(1, 11)}) == 10


@pytest.mark.parametrize(
    "color, text", [("#ffffff", "black"), ("#000000", "white"), (style.YELLOW, "black"), (style.BLUE, "white")]
)
def test_tag_text_contrasts(color, text):
    assert style.contrasting(color) == text


def test_figures_are_displayed_by_notebooks_and_freed():
    figure = plot.figure(2, 1)
    figure.subplots()
    assert figure._repr_png_().startswith(b"\x89PNG")
    reference = weakref.ref(figure)
    del figure
    gc.collect()
    assert reference() is None


def test_import_leaves_matplotlib_alone():
    code = (
        "import sys, rcnn; assert 'matplotlib' not in sys.modules; "
        "import matplotlib; before = dict(matplotlib.rcParams); import rcnn.plot; "
        "assert dict(matplotlib.rcParams) == before; assert 'matplotlib.pyplot' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True, env={**os.environ, "MPLBACKEND": "agg"})


# ---------------------------------------------------------------------- names of users

NAMES = ["$x_{$", "$$", r"\frac$", r"a\$b$c$", "_hidden", "^_%&#~", "\ud800x", "a\x00b", "$1\n$2"]


def texts(figure):
    """Every text that matplotlib draws in a figure, as it is drawn."""
    figure.savefig(io.BytesIO(), format="png")
    drawn = [text for text in figure.findobj(Text) if text.get_text()]
    assert not any(text._preprocess_math(text.get_text())[1] is True for text in drawn)  # no formula
    return {text._preprocess_math(text.get_text())[0].removeprefix("\u200b") for text in drawn}


@pytest.mark.filterwarnings("ignore:Glyph")
@pytest.mark.parametrize("name", NAMES)
def test_names_are_drawn_literally(name):
    names, shown = ("background", name, "other"), style.clean(name)
    box = np.array([[2.0, 2, 20, 20], [5, 5, 30, 30]])
    found = {"boxes": box, "scores": np.array([0.9, 0.8]), "labels": np.array([1, 2])}
    photo = np.zeros((40, 60, 3), np.uint8)
    result = evaluate.evaluate_detections([found], [found], 3)

    def drawn(draw, *given):
        figure = plot.figure()
        draw(figure.subplots(), *given)
        return texts(figure)

    assert shown in drawn(plot.confusion_matrix, evaluate.confusion([found], [found], 3), names)
    assert shown in drawn(plot.ap_bars, result.ap, names)
    assert shown in drawn(plot.precision_recall_classes, result.recall, result.precision, result.ap, names)
    assert shown in drawn(plot.findings, np.ones((1, 1)), [name], ["measure"], [1])
    assert shown in drawn(plot.findings, np.ones((1, 1)), ["row"], [name], [1])
    assert shown in drawn(plot.ranking, np.array([0.9]), np.array([True]), None, [name])
    assert shown in drawn(plot.levels, {name: 0.5})
    assert shown in drawn(plot.loss_curves, {name: [1.0, 2.0]})
    assert shown in drawn(style.title, name) and shown in drawn(style.title, "title", name)
    assert shown in drawn(style.note, name) and shown in drawn(style.graph, name, "y")
    assert plot.annotate(photo, box, found["scores"], found["labels"], names).shape[2] == 3
    first = name.partition("\n")[0]
    sheet = texts(plot.contact_sheet([photo], [box], [found["labels"]], names, [name]))
    assert shown in sheet and style.clean(first) in sheet  # tag and caption


def test_annotate_warns_of_missing_glyphs():
    found = np.array([[2.0, 2, 20, 20]]), np.array([0.9]), np.array([1])
    with pytest.warns(UserWarning, match="no installed font has all characters of the names in the image"):
        plot.annotate(np.zeros((40, 60, 3), np.uint8), *found, ("background", "\u676f"))


CLOCK = "clock \u231a"  # matplotlib installs this character with STIXGeneral, but not with DejaVu Sans


@pytest.mark.filterwarnings("error")
def test_names_are_drawn_with_an_installed_font_that_has_their_characters(tmp_path):
    assert style.font_with(frozenset("clock"))[0] == "DejaVu Sans"
    family, file = style.font_with(frozenset(CLOCK))
    assert style.glyph_count(file, frozenset(CLOCK)) == len(set(CLOCK)) and family != "DejaVu Sans"
    found = np.array([[2.0, 2, 20, 20]]), np.array([0.9]), np.array([1])
    plot.annotate(np.zeros((40, 60, 3), np.uint8), *found, ("background", CLOCK))
    figure = plot.figure()
    style.title(figure.subplots(), CLOCK)
    write_figure(tmp_path / "figure.png", figure)
    assert (tmp_path / "figure.png").exists()


def test_fonts_that_cannot_be_read_are_not_used(tmp_path):
    (tmp_path / "broken.ttf").write_bytes(b"no font")
    assert style.glyph_count(str(tmp_path / "broken.ttf"), frozenset("a")) == 0
