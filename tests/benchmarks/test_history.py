"""The figure of docs/history.md, which benchmarks/history.py draws, agrees with the page."""

import re
from pathlib import Path

import history
import pytest
from legible import assert_nothing_is_clipped
from matplotlib.colors import to_rgb

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "history.md").read_text(encoding="utf-8")
PAPERS = dict(re.findall(r"^- ([^:\n]+): ((?:.|\n  )+)", PAGE.partition("## Papers")[2], re.M))
ROWS = dict(re.findall(r"^\| \**\[([^]]+)\]\(#papers\), (\d{4})", PAGE, re.M))


def test_every_detector_of_the_figure_is_in_a_table_and_in_the_list_of_papers():
    assert {detector.name: str(detector.year) for detector in history.DETECTORS} == {
        name: year for name, year in ROWS.items() if name != "DINO"
    }
    assert {name: re.search(r"\b(20\d\d)\b(?!\.\d)", paper)[1] for name, paper in PAPERS.items()} == ROWS
    assert len(history.DETECTORS) == 19  # "nineteen detectors"


def test_an_arxiv_number_is_not_later_than_its_paper():
    numbers = {
        name: match[1] for name, text in PAPERS.items() if (match := re.search(r"(\d{4}\.\d{4,5})$", text.strip()))
    }
    assert len(set(numbers.values())) == len(numbers) == 16
    assert all(2000 + int(number[:2]) <= int(ROWS[name]) for name, number in numbers.items())


def test_detectors_are_in_order_of_their_years():
    years = [detector.year for detector in history.DETECTORS]
    assert years == sorted(years)


@pytest.mark.parametrize(
    ("column", "first", "year"), [(1, "R-CNN", 2014), (0, "Faster R-CNN", 2015), (3, "DETR", 2020)]
)
def test_the_alternative_text_states_when_a_part_is_first_learned(column, first, year):
    """Features become learned in 2014, proposals in 2015, suppression in 2020."""
    learned = next(
        d
        for d in history.DETECTORS
        if any(part.startswith("*") for part in d.parts[column].split(" + ")[-1:]) and d.name != "Viola and Jones"
    )
    assert (learned.name, learned.year) == (first, year)
    assert str(year) in re.search(r"!\[(.*?)\]\(history.png\)", PAGE)[1]


def test_the_figure_is_legible():
    figure = history.draw()
    assert_nothing_is_clipped(figure)
    assert min(text.get_fontsize() for text in figure.axes[0].texts) >= 8
    assert figure.get_size_inches()[0] == 7.0  # 700 pixels at 100 dots per inch
    assert to_rgb(figure.get_facecolor()) == (1, 1, 1)  # opaque, so that the text is visible on a dark page
    cells = [patch for patch in figure.axes[0].patches if patch.get_height() == 0.86]
    right = max(patch.get_x() + patch.get_width() for patch in cells)
    assert right <= figure.axes[0].get_xlim()[1]


def test_no_text_is_wider_than_its_cell():
    figure = history.draw()
    figure.draw_without_rendering()
    ax = figure.axes[0]
    boxes = [patch.get_window_extent() for patch in ax.patches if patch.get_height() == 0.86]
    for text in ax.texts:
        x, y = ax.transData.transform(text.get_position())
        extent = text.get_window_extent()
        inside = [box for box in boxes if box.x0 <= x < box.x1 and box.y0 <= y < box.y1]
        assert all(box.x0 <= extent.x0 and extent.x1 <= box.x1 for box in inside), text.get_text()
        beside = [box for box in boxes if not inside and box.y0 <= y < box.y1 and x < box.x0]
        assert all(extent.x1 < box.x0 for box in beside), text.get_text()


def test_the_command_draws_the_file(tmp_path, monkeypatch):
    monkeypatch.setattr("sys.argv", ["history.py", "--plot", str(tmp_path / "a.png")])
    history.main()
    assert (tmp_path / "a.png").read_bytes().startswith(b"\x89PNG")
