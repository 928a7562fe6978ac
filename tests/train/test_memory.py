"""The estimate of the memory of a training step."""

from pathlib import Path

import pytest

from rcnn import data
from rcnn.train import Group, Recipe, memory
from rcnn.zoo.detectors import faster_rcnn_small

PAGES = data.Shapes(3)
MODEL = faster_rcnn_small(PAGES.classes)


class Sized:
    """Images of which only the sizes are known."""

    classes = PAGES.classes

    def __init__(self, *sizes: tuple[int, int]) -> None:
        self.sizes = sizes

    def __len__(self) -> int:
        return len(self.sizes)

    def annotation(self, index: int) -> tuple[tuple[int, int], dict[str, object]]:
        return self.sizes[index], {}


def test_estimate_follows_the_largest_image_and_its_largest_scale() -> None:
    square = memory.image_bytes(MODEL, PAGES, Recipe())  # 128 x 128 pixels
    assert memory.image_bytes(MODEL, Sized((128, 128), (128, 256)), Recipe()) == pytest.approx(2 * square)
    assert memory.image_bytes(MODEL, PAGES, Recipe(scale_jitter=(1, 2))) == pytest.approx(4 * square)
    assert 300 < square / 128**2 < 400  # bytes per pixel; a training step was measured at 345 to 380


def test_batch_that_fits_is_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    for free in (None, 10**12):
        monkeypatch.setattr(memory, "available", lambda free=free: free)
        assert memory.fit_batch(MODEL, PAGES, Recipe()) == (Recipe(), "")


def test_smaller_batch_is_compensated(monkeypatch: pytest.MonkeyPatch) -> None:
    weights = 3 * sum(parameter.data.nbytes for parameter in MODEL.parameters())
    image = memory.image_bytes(MODEL, PAGES, Recipe())
    monkeypatch.setattr(memory, "available", lambda: (weights + 3.5 * image) / memory.USABLE)
    recipe, text = memory.fit_batch(MODEL, PAGES, Recipe(batch_size=8))
    assert recipe == Recipe(batch_size=3, accumulate=3)
    assert text.startswith("a step with batch_size = 8 needs about ") and text.endswith(
        "are available; use batch_size = 3 and accumulate = 3"
    )
    monkeypatch.setattr(memory, "available", lambda: weights)
    recipe, text = memory.fit_batch(MODEL, PAGES, Recipe(batch_size=8))
    assert recipe == Recipe(batch_size=1, accumulate=8) and text.endswith("choose a smaller min_size and max_size")


def test_processes_of_a_machine_share_its_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    class Three(Group):
        size, neighbours = 3, 2

    weights = 4 * sum(parameter.data.nbytes for parameter in MODEL.parameters())  # one more for the sums
    image = memory.image_bytes(MODEL, PAGES, Recipe())
    monkeypatch.setattr(memory, "available", lambda: (2 * (weights + 3 * image) + 1) / memory.USABLE)
    assert memory.fit_batch(MODEL, PAGES, Recipe(batch_size=9), Three()) == (Recipe(batch_size=9), "")
    recipe, _ = memory.fit_batch(MODEL, PAGES, Recipe(batch_size=10), Three())  # one process would have 4 images
    assert recipe == Recipe(batch_size=9, accumulate=2)
    monkeypatch.setattr(memory, "available", lambda: weights)
    recipe, text = memory.fit_batch(MODEL, PAGES, Recipe(batch_size=9), Three())
    assert recipe == Recipe(batch_size=3, accumulate=3) and text.endswith("choose a smaller min_size and max_size")


def test_available_memory_is_that_of_the_machine_or_of_its_container(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def files(meminfo: str, limit: str) -> None:
        (tmp_path / "meminfo").write_text(meminfo)
        (tmp_path / "max").write_text(limit)
        (tmp_path / "current").write_text("1000\n")

    monkeypatch.setattr(memory, "MEMINFO", tmp_path / "meminfo")
    monkeypatch.setattr(memory, "LIMITS", ((tmp_path / "max", tmp_path / "current"),))
    files("MemTotal:       100 kB\nMemAvailable:    50 kB\n", "max\n")
    assert memory.available() == 50 * 1024
    files("MemTotal:       100 kB\nMemAvailable:    50 kB\n", "9000\n")
    assert memory.available() == 8000
    files("", "500\n")
    assert memory.available() == 0
    monkeypatch.delattr(memory.os, "sysconf")
    files("", "max\n")
    assert memory.available() is None
