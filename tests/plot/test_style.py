"""Shared style: contrasting colours, figures that notebooks display and that are freed, unchanged global settings."""

import gc
import os
import subprocess
import sys
import weakref

import pytest

from rcnn import plot
from rcnn.plot import style


@pytest.mark.parametrize(
    "label, color", [(0, style.NEUTRAL), (1, style.PALETTE[0]), (8, style.PALETTE[7]), (9, style.PALETTE[0])]
)
def test_label_color(label, color):
    assert style.label_color(label) == color


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
