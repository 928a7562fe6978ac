"""Checks of drawn figures: texts are legible, and nothing is clipped."""

import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.text import Text


def texts(figure):
    """Return the texts of a drawn figure, without its tick labels, because some are outside the view."""
    figure.draw_without_rendering()
    numbers = {text for ax in figure.findobj(Axes) for text in ax.get_xticklabels() + ax.get_yticklabels()}
    return [text for text in figure.findobj(Text) if text.get_visible() and text.get_text() and text not in numbers]


def assert_nothing_is_clipped(figure):
    """Check that no text is too small, and that the outermost pixels are white (clipped content would reach them)."""
    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    dots = np.asarray(canvas.buffer_rgba())[:, :, :3]
    for side in (dots[:2], dots[-2:], dots[:, :2], dots[:, -2:]):
        assert (side == 255).all()
    assert min((text.get_fontsize() for text in figure.findobj(Text) if text.get_text()), default=8) >= 8
    for text in texts(figure):
        field = text.get_window_extent()
        assert 0 <= field.x0 <= field.x1 <= dots.shape[1], text.get_text()
        assert 0 <= field.y0 <= field.y1 <= dots.shape[0], text.get_text()
