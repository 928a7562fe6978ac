"""The batches of a step, their augmentation, and the prefetching threads."""

import threading
from collections.abc import Iterator
from pathlib import Path

import annotated
import numpy as np
import pytest

from rcnn import data
from rcnn.train import Recipe
from rcnn.train.loader import Loader, describe, prefetch
from rcnn.zoo.detectors import faster_rcnn_small

PAGES = data.Shapes(5, seed=3)
MODEL = faster_rcnn_small(PAGES.classes)


# ---------------------------------------------------------------------- loading


def loader(pages: object = PAGES) -> Loader:
    return Loader(pages, MODEL.make_batch)


def test_unchanged_images_equal_the_models_own_batch() -> None:
    batch = loader().load([3, 1])
    expected = MODEL.make_batch([PAGES[3][0], PAGES[1][0]])
    np.testing.assert_array_equal(batch.images.images, expected.images)
    assert batch.indices == [3, 1] and batch.images.image_sizes == expected.image_sizes
    for index, target in zip([3, 1], batch.targets, strict=True):
        np.testing.assert_array_equal(target["boxes"], PAGES[index][1]["boxes"])
        np.testing.assert_array_equal(target["labels"], PAGES[index][1]["labels"])


def test_changed_images_and_their_boxes() -> None:
    batch = loader().load([3, 1], Recipe(flip=1, scale_jitter=(1.5, 1.5)))
    assert batch.images.image_sizes == [(192, 192)] * 2 and batch.images.original_sizes == [(128, 128)] * 2
    expected = MODEL.make_batch([PAGES[index][0][:, ::-1] for index in (3, 1)], [1.5, 1.5])
    np.testing.assert_array_equal(batch.images.images, expected.images)
    boxes = PAGES[3][1]["boxes"]
    np.testing.assert_array_equal(batch.targets[0]["boxes"][:, [0, 2]], 128 - boxes[:, [2, 0]])
    np.testing.assert_array_equal(batch.complete[0]["boxes"], boxes)


def test_cropped_images_and_their_boxes() -> None:
    batches = [loader().load([0, 1, 2], Recipe(crop=0.5), step) for step in (0, 1)]
    for batch in batches:
        assert batch.images.image_sizes == batch.images.original_sizes  # the pages have the size of the model's input
        for target, (height, width) in zip(batch.targets, batch.images.original_sizes, strict=True):
            assert len(target["boxes"]) and (target["boxes"] >= 0).all()
            assert (target["boxes"] <= [width, height, width, height]).all()
    assert batches[0].images.original_sizes != batches[1].images.original_sizes


class OnePage:
    """A data set of one page with a given target."""

    classes = PAGES.classes

    def __init__(self, **target: object) -> None:
        self.target = target
        self.image = np.zeros((64, 64, 3), np.uint8)

    def __len__(self) -> int:
        return 1

    def __getitem__(self, index: int) -> tuple[np.ndarray, dict[str, object]]:
        return self.image, self.target


BOXES = [[0, 0, 10, 10], [0, 0, 20, 20], [0, 0, 30, 30]]


def test_difficult_objects_and_crowds_are_not_learned() -> None:
    page = OnePage(boxes=BOXES, labels=[1, 2, 3], difficult=[True, False, False], crowd=[False, False, True])
    batch = loader(page).load([0])
    assert batch.targets[0]["boxes"].tolist() == [BOXES[1]] and batch.targets[0]["labels"].tolist() == [2]
    assert batch.complete[0] == page.target


@pytest.mark.parametrize(
    ("target", "message"),
    [
        ({"boxes": [[5, 0, 5, 9]], "labels": [1]}, r"^image 0: target: box 0 must .*, got \[5.0, 0.0, 5.0, 9.0\]"),
        ({"boxes": BOXES, "labels": [1, 5, 1]}, r"^image 0: target: the label of box 1 is 5; "),
        ({"boxes": BOXES, "labels": [1, 2, 3], "crowd": [True]}, r"target\['crowd'\] must have shape \(3,\)"),
    ],
)
def test_error_of_a_wrong_target_names_the_image(target: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        loader(OnePage(**target)).load([0])


def test_error_of_a_data_set_gets_a_note() -> None:
    with pytest.raises(IndexError) as error:
        loader().load([2, 7])
    assert error.value.__notes__ == ["The error occurred while reading image 7."]


def test_description_of_an_image_names_its_file() -> None:
    files = data.AnnotatedImages(data.Annotations(("background", "a"), [annotated.record(Path("a/b.jpg"))]))
    assert describe(files, 0) == f"image 0 ({Path('a/b.jpg')})"
    own = OnePage()
    own.records = [{"boxes": []}]  # a user's class may use the same name for its rows
    assert describe(own, 0) == "image 0"


class GreyAt4:
    """PAGES with a grey last page."""

    classes = PAGES.classes

    def __init__(self, shape: tuple[int, ...]) -> None:
        self.shape = shape

    def __len__(self) -> int:
        return len(PAGES)

    def __getitem__(self, index: int) -> tuple[np.ndarray, dict[str, np.ndarray]]:
        image, target = PAGES[index]
        return (np.zeros(self.shape, np.uint8) if index == 4 else image), target


@pytest.mark.parametrize("recipe", [{}, {"flip": 1}, {"crop": 0.5}])
@pytest.mark.parametrize("shape", [(64, 64), (64,), (64, 64, 4)])
def test_error_of_a_wrong_image_names_its_index_in_the_data_set(
    shape: tuple[int, ...], recipe: dict[str, float]
) -> None:
    with pytest.raises(ValueError, match=r"^image 4 must have (the )?shape \(H, W, 3\), (not|got) \(64,"):
        loader(GreyAt4(shape)).load([1, 4], Recipe(**recipe))


# ---------------------------------------------------------------------- prefetching


@pytest.mark.parametrize("workers", [0, 1, 3])
def test_results_come_in_order(workers: int) -> None:
    assert list(prefetch(lambda x: x * x, range(20), workers)) == [x * x for x in range(20)]
    assert list(prefetch(str, [], workers)) == []


def test_platform_without_threads_computes_each_result_when_it_is_requested(monkeypatch: pytest.MonkeyPatch) -> None:
    def start(thread: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr(threading.Thread, "start", start)
    made: list[int] = []
    results = prefetch(lambda x: made.append(x) or x, range(5), workers=2)
    assert [next(results), len(made)] == [0, 1]
    assert list(results) == [1, 2, 3, 4]


def test_number_of_prefetched_items_is_bounded() -> None:
    started: list[int] = []

    def numbers() -> Iterator[int]:
        for number in range(100):
            started.append(number)
            yield number

    results = prefetch(lambda x: x, numbers(), workers=2)
    assert started == []
    assert [next(results), next(results)] == [0, 1]
    assert len(started) == 4
    results.close()
    assert not [t for t in threading.enumerate() if t.name.startswith("rcnn-loader")]


@pytest.mark.parametrize("workers", [0, 2])
def test_an_error_is_raised_when_its_turn_comes(workers: int) -> None:
    def make(x: int) -> int:
        if x == 3:
            raise OSError("c.jpg cannot be read")
        return x

    results = prefetch(make, range(10), workers)
    assert [next(results) for _ in range(3)] == [0, 1, 2]
    with pytest.raises(OSError, match="c.jpg"):
        next(results)
    assert not [t for t in threading.enumerate() if t.name.startswith("rcnn-loader")]


@pytest.mark.parametrize("workers", [0, 2])
def test_an_error_of_the_items_comes_after_the_results_before_it(workers: int) -> None:
    def numbers() -> Iterator[int]:
        yield from range(3)
        raise KeyboardInterrupt

    results, found = prefetch(lambda x: x * x, numbers(), workers), []
    with pytest.raises(KeyboardInterrupt):
        for result in results:
            found.append(result)
    assert found == [0, 1, 4]
    assert not [t for t in threading.enumerate() if t.name.startswith("rcnn-loader")]
