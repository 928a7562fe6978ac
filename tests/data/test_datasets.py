"""Data sets: pages that depend only on (seed, split, index), boxes that fit the drawn objects, and splits of files."""

import hashlib
import pickle
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from annotated import record
from PIL import Image
from sklearn.datasets import load_digits

from rcnn import data
from rcnn.data import digits
from rcnn.data.pages import blend, tight_boxes
from rcnn.data.shapes import Shapes, shape_coverage, visible_shares
from rcnn.data.splits import source_of

NAMES = ("shapes", "digits")
PAGES = 40


@pytest.fixture(params=NAMES)
def pages(request):
    return data.load(request.param, "val", n=PAGES)


def digest(page) -> str:
    image, target = page
    return hashlib.sha256(image.tobytes() + target["boxes"].tobytes() + target["labels"].tobytes()).hexdigest()


def test_pages_have_the_documented_shapes_and_types(pages):
    assert pages.classes[0] == "background"
    counts = []
    for image, target in (pages[i] for i in range(len(pages))):
        boxes, labels = target["boxes"], target["labels"]
        assert (image.shape, image.dtype) == ((128, 128, 3), np.uint8)
        assert (boxes.shape, boxes.dtype) == ((len(labels), 4), np.float32)
        assert (labels.shape, labels.dtype) == ((len(boxes),), np.int64)
        assert ((labels >= 1) & (labels < len(pages.classes))).all()
        assert (boxes[:, :2] >= 0).all() and (boxes[:, 2:] <= 128).all() and (boxes[:, 2:] > boxes[:, :2]).all()
        counts.append(len(boxes))
    assert min(counts) <= 1 and max(counts) >= 7


def test_a_page_does_not_depend_on_earlier_pages(pages):
    forwards = [digest(pages[i]) for i in range(6)]
    assert [digest(pages[i]) for i in reversed(range(6))] == forwards[::-1]
    assert digest(pickle.loads(pickle.dumps(pages))[3]) == forwards[3]
    assert len(set(forwards)) == 6


@pytest.mark.parametrize("name", NAMES)
def test_another_process_draws_the_same_page(name):
    code = f"from rcnn import data; print(data.load({name!r}, 'train', seed=3)[17][0].tobytes().hex())"
    answer = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert answer.stdout.strip() == data.load(name, "train", seed=3)[17][0].tobytes().hex()


@pytest.mark.parametrize("name", NAMES)
def test_seed_split_and_index_each_change_the_page(name):
    pages = [data.load(name, split, seed=seed)[i] for split in ("train", "val") for seed in (0, 1) for i in (0, 1)]
    assert len({digest(page) for page in pages}) == 8


def test_indices_work_as_those_of_a_list(pages):
    assert len(pages) == PAGES
    assert digest(pages[-1]) == digest(pages[PAGES - 1])
    assert digest(pages[np.int64(2)]) == digest(pages[2])
    for beyond in (PAGES, -PAGES - 1):
        with pytest.raises(IndexError, match=f"page index {beyond} is out of range; the data set has {PAGES} pages"):
            pages[beyond]
    with pytest.raises(TypeError, match="page index must be an integer, got slice"):
        pages[:2]
    assert sum(1 for _ in data.load("shapes", "val", n=3)) == 3


def test_boxes_are_tight_around_the_drawn_objects(pages):
    for i in range(PAGES):
        _, coverage, labels = pages.draw(pages.rng(i))
        target = pages[i][1]
        np.testing.assert_array_equal(labels, target["labels"])
        for layer, box in zip(coverage, target["boxes"], strict=True):
            rows, columns = np.nonzero(layer > 0.5)
            assert box.tolist() == [columns.min(), rows.min(), columns.max() + 1, rows.max() + 1]


@pytest.mark.parametrize(
    "kind, left, top, right, bottom",
    [
        # Half extents of an upright shape of radius 20: a square 20 / sqrt(2); a triangle 20 up, 10 down and 20 cos 30
        # to either side; the arms of a cross, three times as long as wide, are 20 * 3 / sqrt(10) long.
        ("circle", 20, 20, 20, 20),
        ("square", 14.142, 14.142, 14.142, 14.142),
        ("triangle", 17.321, 20, 17.321, 10),
        ("cross", 18.974, 18.974, 18.974, 18.974),
    ],
)
def test_shapes_have_their_geometric_extent(kind, left, top, right, bottom):
    coverage = shape_coverage(kind, (40.3, 50.8), 20.0, 0.0, (100, 90))
    expected = [40.3 - left, 50.8 - top, 40.3 + right, 50.8 + bottom]
    tip = 1.0 if kind == "triangle" else 0.0  # the pixel at a sharp corner is never half covered
    np.testing.assert_allclose(tight_boxes(coverage[None])[0], expected, atol=0.5 + tip)


@pytest.mark.parametrize("angle", [0.0, 0.3, -0.7])
@pytest.mark.parametrize(
    "kind, area",
    [("circle", np.pi * 400), ("square", 800), ("triangle", 0.75 * 3**0.5 * 400), ("cross", (2 * 3 - 1) * 160)],
)  # bars of 6a by 2a with a = 20 / sqrt(10): 5 squares of (2a) ** 2 = 160
def test_shapes_have_their_area_at_every_angle(kind, area, angle):
    assert shape_coverage(kind, (40.3, 50.8), 20.0, angle, (100, 90)).sum() == pytest.approx(area, rel=0.01)


def test_shapes_turn_clockwise():
    turned = tight_boxes(shape_coverage("triangle", (50, 50), 30.0, np.pi / 2, (100, 100))[None])[0]
    np.testing.assert_allclose(turned, [35, 24, 80, 76], atol=1.5)  # the top corner is now on the right


def test_visible_share_excludes_later_layers():
    layers = np.zeros((3, 4, 4), np.float32)
    layers[0, :, :2] = 1  # 8 pixels
    layers[1, :2] = 1  # covers 4 of them
    layers[2, 3, :2] = 1  # covers 2 more
    assert visible_shares(layers).tolist() == [0.25, 1.0, 1.0]


def test_no_shape_is_almost_hidden():
    shapes = Shapes(PAGES)
    layers = [shapes.draw(shapes.rng(i))[1] for i in range(PAGES)]
    shares = np.concatenate([visible_shares(page) for page in layers if len(page)])
    assert shares.min() >= 0.75
    assert (shares < 0.95).any()  # some do overlap


def test_every_glyph_belongs_to_one_split_in_equal_proportions():
    glyphs, values = digits.load_glyphs()
    split = digits.split_glyphs(values)
    assert sorted([*split["train"], *split["val"]]) == list(range(1797))
    assert not {glyphs[i].tobytes() for i in split["train"]} & {glyphs[i].tobytes() for i in split["val"]}
    for digit in range(10):
        assert (values[split["train"]] == digit).sum() == pytest.approx(0.78 * (values == digit).sum(), abs=0.5)


@pytest.mark.parametrize("split", ["train", "val"])
def test_pages_draw_only_glyphs_of_their_split(split):
    glyphs, values = digits.load_glyphs()
    pages, own = data.Digits(1, split, seed=9), digits.split_glyphs(values)[split]
    np.testing.assert_array_equal(pages.glyphs, glyphs[own])
    np.testing.assert_array_equal(pages.digits, values[own])


def test_digits_are_dark_and_overlap_little():
    pages = data.Digits(PAGES)
    for i in range(PAGES):
        image, coverage, _ = pages.draw(pages.rng(i))
        boxes = pages[i][1]["boxes"]
        blank = np.median(image[coverage.max(axis=0, initial=0) == 0])
        for layer, box in zip(coverage, boxes, strict=True):
            assert blank - np.median(image[layer > 0.9]) > 30
            sides = np.minimum(box[2:], boxes[:, 2:]) - np.maximum(box[:2], boxes[:, :2])  # (G, 2)
            shared = np.sort(
                np.clip(sides, 0, None).prod(axis=1)
            )  # the largest is the intersection of the box with itself
            assert shared[:-1].sum() <= 0.25 * shared[-1]


def test_digits_come_in_many_sizes():
    boxes = np.concatenate([target["boxes"] for _, target in data.Digits(PAGES)])
    heights = boxes[:, 3] - boxes[:, 1]
    assert 9 <= heights.min() <= 15 and 38 <= heights.max() <= 50


def test_a_full_page_and_a_small_page_have_no_free_position():
    rng = np.random.default_rng(0)
    assert digits.find_place(rng, (65, 10), (64, 90), np.zeros((0, 4))) is None
    assert digits.find_place(rng, (20, 20), (64, 90), np.array([[0, 0, 90, 64]])) is None
    assert digits.find_place(rng, (64, 30), (64, 30), np.zeros((0, 4))).tolist() == [0, 0, 30, 64]


def test_the_shipped_glyphs_are_those_of_scikit_learn():
    source = load_digits()
    glyphs, numbers = digits.load_glyphs()
    np.testing.assert_array_equal(glyphs[:, 2:-2, 2:-2], (source.images / 16).astype(np.float32))
    np.testing.assert_array_equal(numbers, source.target)
    assert not glyphs.flags.writeable and glyphs.sum() == glyphs[:, 2:-2, 2:-2].sum()


@pytest.mark.parametrize("size", [(64, 64), (64, 200), (150, 90)])
@pytest.mark.parametrize("kind", [data.Shapes, data.Digits])
def test_pages_of_other_sizes(kind, size):
    for image, target in kind(8, size=size):
        assert image.shape == (*size, 3)
        assert (target["boxes"] <= [size[1], size[0]] * 2).all()


def test_tight_boxes_and_blend_by_hand():
    coverage = np.zeros((2, 4, 6))
    coverage[0, 1:3, 2:5] = 1.0
    coverage[0, 0, 0] = 0.5  # not by more than half
    coverage[1, 3, 5] = 0.6
    assert tight_boxes(coverage).tolist() == [[2, 1, 5, 3], [5, 3, 6, 4]]
    assert tight_boxes(coverage[:0]).shape == (0, 4)
    image = np.full((1, 2, 3), 100.0)
    blend(image, np.array([200.0, 0.0, 100.0]), np.array([[0.25, 0.0]]))
    assert image.tolist() == [[[125, 75, 100], [100, 100, 100]]]


@pytest.mark.parametrize(
    "call, message",
    [
        (
            lambda: data.load("mnist", "train"),
            "no data set 'mnist'; the data sets are: shapes, digits, voc:PATH, coco:PATH, csv:PATH, yolo:PATH, ",
        ),
        (lambda: data.load("voc:", "train"), "no data set 'voc:'; the data sets are: "),
        (lambda: data.load("pascal:there", "train"), "no data set 'pascal:there'; the data sets are: "),
        (lambda: data.load("shapes", "train", options={"size": 3}), "shapes takes no options, got 'size'"),
        (
            lambda: data.load("voc:there", "train", options={"images": "x"}),
            r"voc:PATH has no option 'images'; its options are on_error, classes, first_pixel",
        ),
        (
            lambda: data.load(__file__, "train"),
            r"test_datasets\.py has no annotations in a known format: voc, coco, yolo",
        ),
        (lambda: data.load("csv:there", "train", n=-1), "n must be an integer of at least 0, got -1"),
        (lambda: data.load("shapes", "test"), "split must be one of train, val, got 'test'"),
        (lambda: data.Digits(-1), "n must be an integer of at least 0 and at most 10000000, got -1"),
        (lambda: data.Shapes(1, seed=-2), "seed must be an integer of at least 0, got -2"),
        (lambda: data.Shapes(1, size=(128, 32)), r"size .* 64 to 10,000 pixels each, got \(128, 32\)"),
        (lambda: tight_boxes(np.zeros((1, 3, 3))), "layer 0"),
        (lambda: shape_coverage("hexagon", (5, 5), 3.0, 0.0, (9, 9)), "got 'hexagon'"),
    ],
)
def test_invalid_arguments_are_errors(call, message):
    with pytest.raises(ValueError, match=message):
        call()


def test_lengths_of_the_splits():
    assert [len(data.load("shapes", split)) for split in ("train", "val")] == [20_000, 200]
    assert len(data.load("digits", "val", n=7)) == 7


# ---------------------------------------------------------------------- image files


@pytest.fixture
def folders(tmp_path):
    """A folder with ten pages in each format; subfolders have the names of the formats."""
    pages = data.Shapes(10)
    for kind, write in (
        ("voc", data.write_voc),
        ("coco", data.write_coco),
        ("csv", data.write_csv),
        ("yolo", data.write_yolo),
    ):
        write(pages, tmp_path / kind, "train", progress=False)
    for i, (image, target) in enumerate(pages):
        mask = np.zeros(image.shape[:2], np.uint8)
        for value, (x1, y1, x2, y2) in enumerate(target["boxes"].astype(int), start=1):
            mask[y1:y2, x1:x2] = value
        for folder, array in (("images", image), ("masks", mask)):
            (tmp_path / "masks" / folder).mkdir(parents=True, exist_ok=True)
            Image.fromarray(array).save(tmp_path / "masks" / folder / f"{i}.png")
    return tmp_path


@pytest.mark.parametrize("kind", ["voc", "coco", "csv", "yolo", "masks"])
def test_load_reads_every_format(folders, kind):
    train, val = (data.load(f"{kind}:{folders / kind}", split) for split in ("train", "val"))
    assert (len(train), len(val)) == (8, 2) and train.classes == val.classes
    image, target = train[0]
    assert image.shape == (128, 128, 3) and target["boxes"].dtype == np.float32
    few = data.load(f"{kind}:{folders / kind}", "train", n=3)
    assert [few[i][0].tobytes() for i in range(3)] == [train[i][0].tobytes() for i in range(3)] and len(few) == 3
    assert len(data.load(f"{kind}:{folders / kind}", "train", n=100)) == 8
    assert len(data.read_annotations(f"{kind}:{folders / kind}", None).records) == 10


def test_load_passes_options_to_the_reader(folders, monkeypatch):
    classes = ["cross", "circle", "square", "triangle"]
    for kind in ("voc", "coco", "csv", "yolo"):
        pages = data.load(f"{kind}:{folders / kind}", "val", options={"classes": classes})
        assert pages.classes == ("background", *classes)
    moved = data.load(f"voc:{folders / 'voc'}", "train", options={"first_pixel": 0})
    straight = data.load(f"voc:{folders / 'voc'}", "train")
    assert (moved.records[0].boxes == straight.records[0].boxes + 1).all()
    cells = data.load(f"masks:{folders / 'masks'}", "val", options={"class_name": "cell"})
    assert cells.classes == ("background", "cell")
    (folders / "csv" / "images" / "train_000000.png").write_bytes(b"")
    skipping = data.load(f"csv:{folders / 'csv'}", "train", options={"on_error": "skip"})
    others = data.load(f"csv:{folders / 'csv'}", "val", options={"on_error": "skip"})
    assert len(skipping) + len(others) == 9 and len(skipping.skipped) + len(others.skipped) == 1
    monkeypatch.setenv("HOME", str(folders))
    assert len(data.load("csv:~/csv", "train")) == 8


def numbered(count):
    """Return annotations of the images 0.png, 1.png, ..."""
    return data.Annotations(("background", "class 1"), [record(Path(f"{i}.png")) for i in range(count)], [BROKEN])


BROKEN = data.Broken("x.xml", "empty")


@pytest.mark.parametrize(
    "count, share, held_out", [(2, 0.2, 1), (10, 0.2, 2), (13, 0.2, 3), (5, 0.9, 4), (100, 0.25, 25)]
)
def test_split_holds_out_a_fraction(count, share, held_out):
    annotations = numbered(count)
    rest, part = data.split(annotations, share)
    assert (len(rest.records), len(part.records)) == (count - held_out, held_out)
    order = {id(record): i for i, record in enumerate(annotations.records)}
    for side in (rest, part):
        positions = [order[id(record)] for record in side.records]
        assert positions == sorted(positions) and side.classes == annotations.classes
        assert side.broken == [BROKEN]  # in both parts, because it may belong to either
    assert {*map(id, rest.records)} | {*map(id, part.records)} == {*order}


def test_split_depends_only_on_names_and_seed():
    annotations = numbered(40)
    chosen = {record.image.name for record in data.split(annotations)[1].records}
    backwards = data.split(annotations.subset(range(39, -1, -1)))[1].records
    assert {record.image.name for record in backwards} == chosen
    assert {record.image.name for record in data.split(annotations, seed=1)[1].records} != chosen
    pages = data.AnnotatedImages(data.Annotations(annotations.classes, annotations.records))
    rest, part = data.split(pages)
    assert {record.image.name for record in part.records} == chosen and len(rest) == 32 and len(pages) == 40


@pytest.mark.parametrize(
    "count, share, message",
    [(1, 0.2, "at least two images are needed"), (4, 0, "share must be between 0 and 1, got 0"), (4, 1, "got 1")],
)
def test_split_rejects_invalid_arguments(count, share, message):
    with pytest.raises(ValueError, match=message):
        data.split(numbered(count), share)


@pytest.mark.parametrize(
    "known, split, expected",
    [
        ((), None, (None, False)),
        ((), "train", (None, True)),
        ((), "val", (None, True)),
        (("train", "val"), "train", ("train", False)),
        (("train", "val"), "val", ("val", False)),
        (("train",), "train", ("train", True)),
        (("train", "test"), "val", ("train", True)),
        (("trainval", "test"), "train", ("trainval", True)),
        (("trainval", "test"), "val", ("trainval", True)),
        (("val",), "val", ("val", False)),
        (("a", "b"), "b", ("b", False)),
        (("train", "val"), None, (None, False)),
    ],
)
def test_source_of_a_split(known, split, expected):
    assert source_of(split, known, "x") == expected


@pytest.mark.parametrize(
    "known, split, message",
    [
        (("val",), "train", "x has no split 'train'; it has val"),
        (("test",), "train", "no split 'train'; it has test"),
        (("trainval", "test"), "tset", "it has val, test, train, trainval$"),
        (("train",), "test", "it has val, train$"),
        ((), "test", "it has no splits of its own, so use train or val"),
        ([f"s{i}" for i in range(12)], "train", "it has s0, s1, s2, s3, s4, s5, s6, s7, s8, s9, ...$"),
    ],
)
def test_unknown_splits_are_errors(known, split, message):
    with pytest.raises(ValueError, match=message):
        source_of(split, known, "x")


LONG = "a\nb" * 1000


@pytest.mark.parametrize(
    "call, message",
    [
        (lambda: data.split(["a", "b"], 0.5, 0), r"images must be Annotations or AnnotatedImages, got \['a', 'b'\]"),
        (lambda: data.split(None), "images must be Annotations or AnnotatedImages, got None"),
        (lambda: data.split(numbered(4), "a"), "share must be between 0 and 1, got 'a'"),
        (lambda: data.split(numbered(4), 0.5, None), "seed must be an integer of at least 0, got None"),
        (lambda: data.load(None, "train"), "name must be a string, got None"),
        (lambda: data.load(b"x", "train"), "name must be a string, got b'x'"),
        (lambda: data.load([], "train"), r"name must be a string, got \[\]"),
        (lambda: data.load(LONG, "train"), "there is no data set 'a.nb"),
        (lambda: data.load(f"voc:{LONG}", "train"), "folder must have at most 255 bytes between two slashes, got 'a"),
        (lambda: data.load("shapes", LONG), "split must be one of train, val, got 'a"),
        (lambda: data.load("shapes", []), r"split must be one of train, val, got \[\]"),
        (lambda: data.load("voc:there", 3), "split must be a string, got 3"),
        (lambda: data.load("shapes", "train", "a"), "n must be an integer of at least 0 and at most 10000000, got 'a'"),
        (lambda: data.load("shapes", "train", 2, None), "seed must be an integer of at least 0, got None"),
        (lambda: data.load("shapes", "train", 2, options=True), "options must be a mapping from option names to val"),
        (lambda: data.load("voc:x", "train", options=["a"]), "options must be a mapping from option names to values"),
        (lambda: data.load("voc:x", "train", options={LONG: 1}), "voc:PATH has no option 'a"),
        (lambda: data.load("shapes", "train", options={LONG: 1}), "shapes takes no options, got 'a"),
        (lambda: data.Shapes(2, None), "seed must be an integer of at least 0, got None"),
        (lambda: data.Digits(2, seed=1.5), "seed must be an integer of at least 0, got 1.5"),
        (lambda: data.Shapes(2, size=None), "size must be two integers of at least 1 .*, got None"),
        (lambda: data.validate(data.Shapes(2), examples=None), "examples must be an integer of at least 1, got None"),
        (lambda: data.validate(data.Shapes(2), progress=2), "progress must be True or False, got 2"),
        (lambda: data.validate(data.Shapes(2), only=[2]), r"only must contain indices from 0 to 1, got array\(\[2\]\)"),
        (lambda: data.validate(data.Shapes(2), only=["a"]), "only must contain integers, got list"),
        (lambda: data.VOC(None), "folder must be a path, got None"),
        (lambda: data.COCO(5), "annotations must be a path, got 5"),
        (lambda: data.YOLO(b"x"), "folder must be a path, got b'x'"),
        (lambda: data.find_formats(None), "path must be a path, got None"),
        (lambda: data.write_csv(data.Shapes(1), None, "train"), "folder must be a path, got None"),
        (lambda: data.write_csv(data.Shapes(1), "there", None), "split must be a name of letters, .*, got None"),
    ],
)
def test_arguments_of_other_types_are_refused_in_a_short_line(call, message):
    with pytest.raises((TypeError, ValueError), match=f"^{message}") as caught:
        call()
    assert "\n" not in str(caught.value) and len(str(caught.value)) < 300


def test_the_name_of_an_unknown_user_is_a_folder_that_does_not_exist():
    with pytest.raises(FileNotFoundError, match="there is no folder ~nobody-has-this-name/x"):
        data.load("voc:~nobody-has-this-name/x", "train")


def test_a_split_that_does_not_exist_is_shown_in_part(tmp_path):
    data.write_voc(data.Shapes(2), tmp_path, "train", progress=False)
    with pytest.raises(ValueError, match=r"has no split 'a.*\.\.\..*'; it has val, train") as caught:
        data.load(f"voc:{tmp_path}", LONG)
    assert len(str(caught.value)) < 400
