"""Data sets with planted faults: each fault is found once, with its count and its position; clean sets have none."""

import dataclasses
import json
import re
import shutil

import numpy as np
import pytest
from PIL import Image

from rcnn import data
from rcnn.data.items import Items
from rcnn.data.report import KINDS, WHOLE, Example, Notes
from rcnn.data.validation import shared_images, validate


class Own:
    """A user's data set, from a list of pages."""

    def __init__(self, pages, classes=data.Shapes.classes):
        self.pages, self.classes = pages, classes

    def __len__(self):
        return len(self.pages)

    def __getitem__(self, index):
        page = self.pages[index]
        if isinstance(page, Exception):
            raise page
        return page


def drawn(dataset):
    return [dataset[i] for i in range(len(dataset))]


def found(report):
    return [(problem.kind, problem.count) for problem in report.problems]


def check(dataset, **options):
    return validate(dataset, progress=False, **options)


@pytest.fixture(scope="module")
def pages():
    return drawn(data.Shapes(20))


@pytest.fixture
def own(pages):
    """Pages that a test may change."""
    return [(image.copy(), {key: values.copy() for key, values in target.items()}) for image, target in pages]


@pytest.fixture(scope="module")
def written(tmp_path_factory):
    """A VOC folder of 20 pages of shapes."""
    folder = tmp_path_factory.mktemp("voc") / "shapes"
    data.write_voc(data.Shapes(20), folder, "train", progress=False)
    return folder


@pytest.fixture
def folder(written, tmp_path):
    """A copy that a test may change."""
    return shutil.copytree(written, tmp_path / "shapes")


# ---------------------------------------------------------------------- clean sets


@pytest.mark.parametrize(
    "dataset",
    [
        data.Shapes(60),
        data.Digits(60),
        data.Digits(60, split="val", seed=3),
        data.Digits(50, size=(64, 200)),
        data.Shapes(40, size=(200, 96)),
    ],
    ids=["shapes", "digits", "val", "wide", "high"],
)
def test_a_clean_set_has_no_problems(dataset):
    report = check(dataset)
    assert report.problems == () and report.ok and "no problems found" in str(report)
    labels = np.concatenate([target["labels"] for _, target in drawn(dataset)])
    assert report.counts.per_class == {
        name: (labels == label).sum() for label, name in enumerate(dataset.classes) if label
    }
    assert (report.counts.images, report.counts.objects, report.counts.ignored) == (len(dataset), len(labels), 0)
    assert report.counts.empty == sum(len(target["labels"]) == 0 for _, target in drawn(dataset))


@pytest.mark.parametrize("kind", ["voc", "coco", "csv"])
def test_a_clean_folder_has_no_problems(tmp_path, kind):
    {"voc": data.write_voc, "coco": data.write_coco, "csv": data.write_csv}[kind](
        data.Shapes(30), tmp_path / kind, "train", progress=False
    )
    annotations = data.read_annotations(f"{kind}:{tmp_path / kind}", None)
    assert check(annotations).problems == check(data.AnnotatedImages(annotations)).problems == ()
    assert check(annotations).counts == check(data.Shapes(30)).counts


# ---------------------------------------------------------------------- a user's data set


def set_box(box):
    def plant(page):
        page[1]["boxes"][0] = box

    return plant


def set_label(label):
    def plant(page):
        page[1]["labels"][0] = label

    return plant


def twice(page):
    for key in ("boxes", "labels"):
        page[1][key] = np.concatenate([page[1][key], page[1][key][:1]])


def put(key, change):
    def plant(page):
        page[1][key] = change(page[1][key])

    return plant


@pytest.mark.parametrize(
    ("plant", "kind", "words"),
    [
        (set_box([0, 0, 140, 20]), "box-outside", "box 0: (0, 0, 140, 20) in an image 128 pixels wide and 128 high"),
        (set_box([-1.5, 0, 14, 20]), "box-outside", "box 0: (-1.5, 0, 14, 20)"),
        (set_box([200, 200, 210, 220]), "box-outside", "box 0: (200, 200, 210, 220)"),
        (set_box([128, 5, 129, 20]), "box-outside", "box 0: (128, 5, 129, 20)"),
        (set_box([30, 10, 20, 40]), "empty-box", "box 0: (30, 10, 20, 40)"),
        (set_box([20, 40, 30, 40]), "empty-box", "box 0: (20, 40, 30, 40)"),
        (set_box([np.nan, 10, 20, 40]), "not-finite", "box 0: (nan, 10, 20, 40)"),
        (set_box([1, 10, np.inf, 40]), "not-finite", "box 0: (1, 10, inf, 40)"),
        (set_label(0), "background-label", "box 0: ("),
        (set_label(5), "label-range", "box 0: label 5; labels are 1 to 4"),
        (set_label(-1), "label-range", "box 0: label -1; labels are 1 to 4"),
        (twice, "duplicate-box", "repeats box 0"),
        (put("labels", lambda labels: labels.astype(float)), "malformed-item", "labels must contain integers"),
        (put("labels", lambda labels: labels[1:]), "malformed-item", "labels must have shape (3,), got (2,)"),
        (put("boxes", lambda boxes: boxes[:, :3]), "malformed-item", "boxes must have shape (N, 4), got (3, 3)"),
        (lambda page: page[1].pop("labels"), "malformed-item", "got dict with 'boxes'"),
    ],
)
@pytest.mark.filterwarnings("error")
def test_each_fault_of_a_target_is_found_once(own, plant, kind, words):
    assert len(own[4][1]["boxes"]) == 3
    plant(own[4])
    report = check(Own(own))
    assert found(report) == [(kind, 1)]
    example = report.problems[0].examples[0]
    assert example.image == 4 and str(example).startswith("image 4") and words in str(example)
    assert report.ok == (KINDS[kind].severity == "warning")


@pytest.mark.parametrize(
    ("page", "kind", "words"),
    [
        (KeyError("gone"), "failing-item", "KeyError: 'gone'"),
        (np.zeros((8, 8, 3), np.uint8), "malformed-item", "must be (image, target), got ndarray"),
        (
            (np.zeros((3, 8, 8), np.uint8), {"boxes": [], "labels": []}),
            "malformed-item",
            "shape (H, W, 3), got (3, 8, 8)",
        ),
        (
            (np.full((8, 8, 3), 255.0), {"boxes": [], "labels": []}),
            "malformed-item",
            "must be in [0, 1], got values from 255 to 255",
        ),
        ((np.zeros((8, 8, 3), int), {"boxes": [], "labels": []}), "malformed-item", "got int64"),
        ((None, {"boxes": [], "labels": []}), "malformed-item", "got NoneType"),
        (("missing.png", {"boxes": [], "labels": []}), "malformed-item", "missing.png"),
        ((np.zeros((8, 8, 3), np.uint8), [1]), "malformed-item", "got list"),
    ],
)
def test_a_malformed_item_is_found_and_the_others_are_checked(own, page, kind, words):
    own[7] = page
    own[9][1]["labels"][0] = 0
    report = check(Own(own))
    assert found(report) == [(kind, 1), ("background-label", 1)]
    assert words in str(report.problems[0].examples[0]) and report.problems[0].examples[0].image == 7


def test_a_view_that_does_not_fit_into_memory_is_a_malformed_item(own):
    own[0] = np.broadcast_to(np.uint8(1), (2**20, 2**20, 3)), own[0][1]
    report = check(Own(own))
    assert found(report) == [("malformed-item", 1)]
    assert "the image must be smaller" in report.problems[0].examples[0].detail


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("x", [1e308, -1e308, np.inf, 1e39])
def test_extreme_coordinates_give_no_warnings(own, x):
    boxes = own[0][1]["boxes"] = own[0][1]["boxes"].astype(np.float64)
    boxes[0, ::2] = x
    assert not check(Own(own)).ok


def test_all_forms_of_an_image_are_valid(own, tmp_path):
    Image.fromarray(own[2][0]).save(tmp_path / "a.png")
    own[0] = (own[0][0] / 255, own[0][1])
    own[1] = (Image.fromarray(own[1][0]), own[1][1])
    own[2] = (tmp_path / "a.png", own[2][1])
    own[3][1]["boxes"][0, 0] = -0.75  # a rounded coordinate, which is clipped
    assert check(Own(own)).problems == ()


def test_difficult_objects_and_crowds_are_counted_separately(own):
    plain = check(Own(own)).counts
    own[4][1].update(difficult=[True, False, False], crowd=[False, True, False])
    counts = check(Own(own)).counts
    assert (counts.objects, counts.ignored) == (plain.objects - 2, 2)
    assert sum(counts.per_class.values()) == counts.objects
    own[4][1]["crowd"] = [True]
    assert found(check(Own(own))) == [("malformed-item", 1)]


def test_all_occurrences_are_counted_and_the_first_are_examples(own):
    for _, target in own:
        target["labels"][:] = 0
    total = sum(len(target["labels"]) for _, target in own)
    problem = next(p for p in check(Own(own), examples=3).problems if p.kind == "background-label")
    assert problem.count == total and [(e.image, e.box) for e in problem.examples] == [(0, 0), (0, 1), (0, 2)]
    assert f"and {total - 3} more" in str(problem)
    with pytest.raises(ValueError, match="examples must be an integer of at least 1, got 0"):
        check(Own(own), examples=0)


# ---------------------------------------------------------------------- classes and copies


def test_classes_without_objects_or_with_few(own):
    for i, (_, target) in enumerate(own):
        keep = (target["labels"] != 2) & ((target["labels"] != 3) | (i == 1))
        target["boxes"], target["labels"] = target["boxes"][keep], target["labels"][keep]
    three = sum((target["labels"] == 3).sum() for _, target in own)
    assert 1 <= three < 5
    report = check(Own(own))
    assert found(report) == [("unused-class", 1), ("few-examples", 1)] and report.ok
    assert [str(p.examples[0]) for p in report.problems] == ["'square': label 2", f"'triangle': {three}"]


@pytest.mark.parametrize(
    ("counts", "few"),
    [
        ((4, 5), 1),
        ((5, 6), 0),
        ((9, 40, 40), 1),
        ((10, 40, 40), 0),
        ((9, 30, 30), 0),
    ],
)
def test_only_low_numbers_of_objects_are_reported(counts, few):
    image = np.zeros((100, 100, 3), np.uint8)
    boxes = np.arange(sum(counts))[:, None] + np.array([0, 0, 5, 5])
    labels = np.repeat(np.arange(len(counts)) + 1, counts)
    report = check(Own([(image, {"boxes": boxes, "labels": labels})], ("background", *"abc"[: len(counts)])))
    assert found(report) == [("few-examples", few)] * (few > 0)


def test_few_objects_are_enough_for_evaluation(own):
    assert [kind for kind, _ in found(check(Own(own[:4])))] == ["few-examples"]
    assert check(Own(own[:4]), to_learn=False).problems == ()


def test_names_of_classes(own):
    classes = ("thing", "Traffic light", "traffic_light", "triangle", "cross")
    assert found(check(Own(own, classes))) == [("no-background", 1), ("similar-names", 1)]


def test_images_without_objects_are_a_problem_only_if_they_are_the_majority(own):
    nothing = {"boxes": np.zeros((0, 4)), "labels": np.zeros(0, int)}
    empty = [(np.full((9, 9, 3), i, np.uint8), nothing) for i in range(21)]
    half = 20 - 2 * check(Own(own)).counts.empty
    assert check(Own(own + empty[:half])).problems == ()
    report = check(Own(own + empty))
    assert found(report) == [("mostly-empty", report.counts.empty)] and report.ok
    assert found(check(Own(empty))) == [("no-objects", 1)] and not check(Own(empty)).ok
    assert found(check(Own([]))) == [("no-images", 1)]


def test_the_same_image_twice(own):
    own[5] = (own[3][0], own[3][1])
    own[8] = (own[3][0], own[1][1])
    report = check(Own(own))
    assert ("identical-images", 2) in found(report)
    examples = next(p for p in report.problems if p.kind == "identical-images").examples
    assert [str(e) for e in examples] == ["image 5: same as image 3", "image 8: same as image 3, with other boxes"]


def test_the_same_image_in_train_and_val(own):
    val = drawn(data.Shapes(12, split="val"))
    train = ("train", check(Own(own)))
    assert shared_images(train, ("val", check(Own(val)))) == ()
    val[2] = own[6]
    (problem,) = shared_images(train, ("val", check(Own(val))))
    assert (problem.kind, problem.count) == ("shared-image", 1)
    assert str(problem.examples[0]) == "image 2: same as image 6 of train"


# ---------------------------------------------------------------------- the format of all boxes


def rewritten(pages, change):
    return Own(
        [(image, {**target, "boxes": change(target["boxes"], image.shape)}) for image, target in pages],
        data.Digits.classes,
    )


def as_shares(boxes, shape):
    return boxes / np.array([shape[1], shape[0]] * 2, np.float32)


def as_sides(boxes, shape):
    return np.concatenate([boxes[:, :2], boxes[:, 2:] - boxes[:, :2]], axis=1)


def swap(boxes, shape):
    return boxes[:, [1, 0, 3, 2]]


@pytest.mark.parametrize(
    ("size", "change", "kind"),
    [
        ((128, 128), swap, "swapped-axes"),
        ((64, 200), swap, "swapped-axes"),
        ((96, 96), as_shares, "relative-boxes"),
        ((128, 128), as_sides, "width-height"),
        ((128, 128), lambda boxes, _: boxes / 2, "wrong-scale"),
        (
            (128, 128),
            lambda boxes, _: (
                128
                - boxes[:, [2, 3, 0, 1]]
                + [1, 0, 1, 0] * boxes
                - [128, 0, 128, 0]
                + [1, 0, 1, 0] * boxes[:, [2, 3, 0, 1]]
            ),
            "upside-down",
        ),
    ],
)
def test_boxes_in_another_format(size, change, kind):
    report = check(rewritten(drawn(data.Digits(50, size=size)), change))
    assert report.problems[0].kind == kind and not report.ok
    assert {p.kind for p in report.problems[1:]} <= {"box-outside", "empty-box"}  # consequences of the fault
    assert report.problems[0].examples[0].place == WHOLE and report.problems[0].count >= 200
    assert "more" not in str(report.problems[0])


def test_boxes_of_other_images():
    pages = drawn(data.Digits(50))
    report = check(Own([(pages[i][0], pages[i - 1][1]) for i in range(50)], data.Digits.classes))
    assert [p.kind for p in report.problems] == ["shuffled"] and report.problems[0].count >= 25
    for example in report.problems[0].examples:
        assert example.detail == f"its boxes fit image {(example.image - 1) % 50}"


def test_a_few_boxes_outside_are_not_reported_as_swapped_axes():
    pages = drawn(data.Digits(30, size=(64, 200)))
    annotated = [target for _, target in pages if len(target["boxes"])]
    for target in annotated:
        target["boxes"][0] = [10, 40, 30, 90]
    total = sum(len(target["boxes"]) for target in annotated)
    assert total > len(annotated) > 0.1 * total
    assert found(check(Own(pages, data.Digits.classes))) == [("box-outside", len(annotated))]


# ---------------------------------------------------------------------- annotated files


def annotation(folder, i):
    return folder / "Annotations" / f"train_{i:06d}.xml"


def image(folder, i):
    return folder / "JPEGImages" / f"train_{i:06d}.png"


def edit(path, pattern, replacement):
    text = path.read_text()
    changed = re.sub(pattern, replacement, text, count=1)
    assert changed != text
    path.write_text(changed)


def cut_short(path):
    path.write_bytes(path.read_bytes()[:-2000])


@pytest.mark.parametrize(
    ("plant", "kind", "words"),
    [
        (lambda f: image(f, 4).unlink(), "missing-image", "train_000004.png (Annotations/train_000004.xml)"),
        (lambda f: cut_short(image(f, 4)), "unreadable-image", "(Annotations/train_000004.xml): "),
        (lambda f: image(f, 4).write_text("no"), "unreadable-image", "(Annotations/train_000004.xml): "),
        (
            lambda f: annotation(f, 4).write_text("<annotation>"),
            "unreadable-annotation",
            "Annotations/train_000004.xml: ",
        ),
        (
            lambda f: edit(annotation(f, 4), "<xmin>.*?</xmin>", "<xmin>left</xmin>"),
            "unreadable-annotation",
            "xmin of object 0",
        ),
        (
            lambda f: edit(annotation(f, 4), "<width>128", "<width>256"),
            "size-mismatch",
            "states 256 x 128, but the file has 128 x 128",
        ),
        (lambda f: edit(annotation(f, 4), "<xmax>.*?</xmax>", "<xmax>400</xmax>"), "box-outside", "box 0: ("),
        (lambda f: edit(annotation(f, 4), "<xmax>.*?</xmax>", "<xmax>0</xmax>"), "empty-box", "box 0: ("),
        (lambda f: edit(annotation(f, 4), "<xmax>.*?</xmax>", "<xmax>nan</xmax>"), "not-finite", "nan"),
        (lambda f: edit(annotation(f, 4), "<name>.*?</name>", "<name>cat</name>"), "unknown-class", "box 0: 'cat'"),
    ],
)
def test_each_fault_of_a_folder_is_found_once_and_stops_training(folder, plant, kind, words):
    plant(folder)
    report = check(data.read_voc(folder, progress=False))
    assert found(report) == [(kind, 1)] and not report.ok
    assert words in str(report.problems[0].examples[0])


def test_an_image_can_be_loaded_exactly_if_it_has_no_errors(folder):
    for i, (pattern, replacement) in enumerate(
        [
            ("<xmax>.*?</xmax>", "<xmax>129</xmax>"),
            ("<xmax>.*?</xmax>", "<xmax>129.01</xmax>"),
            ("<xmin>.*?</xmin>", "<xmin>0</xmin>"),
            ("<xmin>.*?</xmin>", "<xmin>-1</xmin>"),
            ("<xmin>.*?</xmin><ymin>.*?</ymin><xmax>.*?</xmax>", r"<xmin>0</xmin><ymin>1</ymin><xmax>0</xmax>"),
            ("<ymin>.*?</ymin>", "<ymin>inf</ymin>"),
            ("<height>128", "<height>0"),
            ("<height>128", "<height>127"),
        ]
    ):
        text = re.sub(r">\s+<", "><", annotation(folder, i + 4).read_text())
        annotation(folder, i + 4).write_text(re.sub(pattern, replacement, text, count=1))
    pages = data.VOC(folder, progress=False)
    report = check(pages)
    stopped = {e.image for p in report.problems if p.severity == "error" for e in p.examples}
    fails = set()
    for i in range(len(pages)):
        try:
            pages[i]
        except ValueError:
            fails.add(i)
    assert stopped == fails and len(fails) == 5


def test_skipped_entries_are_a_warning(folder):
    image(folder, 4).unlink()
    annotation(folder, 9).write_text("<annotation>")
    pages = data.VOC(folder, on_error="skip", progress=False)
    report = check(pages)
    assert found(report) == [("left-out", 2)] and report.ok and report.counts.images == 18


def test_a_file_that_is_listed_twice(folder):
    annotations = data.read_voc(folder, progress=False)
    again = dataclasses.replace(annotations.records[3], source="again.xml")
    report = check(dataclasses.replace(annotations, records=[*annotations.records, again]))
    assert found(report) == [("listed-twice", 1)] and report.ok
    assert str(report.problems[0].examples[0]).startswith(
        "train_000003.png (again.xml): same file as train_000003.png (A"
    )


def test_annotations_that_count_from_0(folder):
    for i in range(20):
        text = re.sub(
            "<(xmin|ymin|xmax|ymax)>(.*?)<",
            lambda m: f"<{m[1]}>{float(m[2]) - 1:g}<",
            annotation(folder, i).read_text(),
        )
        annotation(folder, i).write_text(text)
    edit(annotation(folder, 4), "<xmin>.*?</xmin>", "<xmin>0</xmin>")
    report = check(data.read_voc(folder, progress=False))
    assert [p.kind for p in report.problems] == ["counts-from-0"] and "first_pixel=0" in report.problems[0].remedy
    assert (4, 0) in [(e.image, e.box) for e in report.problems[0].examples]
    assert check(data.read_voc(folder, first_pixel=0, progress=False)).problems == ()


def test_boxes_at_minus_1_have_another_reason_if_some_end_beyond_the_image(own):
    own[4][1]["boxes"][0, 0] = -1
    assert found(check(Own(own))) == [("counts-from-0", 1)]
    own[5][1]["boxes"][0, 2] = 128.5
    assert check(Own(own)).problems == ()


def test_difficult_objects_of_a_folder_are_counted_separately(folder):
    edit(annotation(folder, 4), "<difficult>0", "<difficult>1")
    report = check(data.read_voc(folder, progress=False))
    assert report.problems == () and report.counts.ignored == 1


@pytest.mark.parametrize("most, dark", [(4095, True), (16383, True), (65535, False)])
def test_sixteen_bit_images_that_do_not_use_all_bits(tmp_path, most, dark):
    values = np.linspace(0, most, 40 * 60).astype(np.uint16).reshape(40, 60)
    Image.fromarray(values).save(tmp_path / "a.png")
    row = {"image": "a.png", "x1": 1, "y1": 2, "x2": 9, "y2": 9, "label": "cat"}
    report = check(data.read_table([row], tmp_path), to_learn=False)
    assert found(report) == ([("dark-image", 1)] if dark else [])


def test_images_without_an_annotation_are_counted(folder):
    annotation(folder, 4).unlink()
    (folder / "ImageSets" / "Main" / "train.txt").unlink()
    report = check(data.read_voc(folder))
    assert found(report) == [("unannotated-image", 1)] and report.ok and report.counts.images == 19
    assert str(report.problems[0].examples[0]).endswith("train_000004.png: it has no annotation and is left out")
    report = check(data.read_voc(folder, unannotated="empty"))
    assert found(report) == [("unannotated-image", 1)] and report.counts.images == 20
    with pytest.raises(ValueError, match="unannotated must be one of skip, empty, got 'drop'"):
        data.read_voc(folder, unannotated="drop")


@pytest.mark.parametrize("upright", [False, True])
def test_rotated_images_are_checked_in_the_orientation_of_their_boxes(tmp_path, upright):
    """Wide images are stored rotated; boxes on the stored and on the upright image are both correct."""
    rows = []
    for i, (page, target) in enumerate(drawn(data.Digits(30, size=(64, 160)))):
        stored = Image.fromarray(page).transpose(Image.Transpose.ROTATE_90)  # orientation 6 turns it back
        exif = stored.getexif()
        exif[0x0112] = 6
        stored.save(tmp_path / f"{i}.png", exif=exif)
        for (x1, y1, x2, y2), label in zip(target["boxes"].tolist(), target["labels"], strict=True):
            box = (x1, y1, x2, y2) if upright else (y1, 160 - x2, y2, 160 - x1)
            size = {"width": 160, "height": 64} if upright else {"width": 64, "height": 160}
            rows.append(
                {
                    "image": f"{i}.png",
                    **dict(zip(("x1", "y1", "x2", "y2"), box, strict=True)),
                    **size,
                    "label": f"digit {label - 1}",
                }
            )
    annotations = data.read_table(rows, tmp_path)
    assert {kind for kind, _ in found(check(annotations))} <= {"unannotated-image"}  # pages without objects
    shown, pages = Items(annotations), data.AnnotatedImages(annotations)
    for i in range(len(pages)):
        image, target = pages[i]
        np.testing.assert_array_equal(shown.read(i).image, image)
        np.testing.assert_array_equal(shown.read(i).upright, target["boxes"])


# ---------------------------------------------------------------------- the report


def test_a_report_is_the_same_every_time_as_text_and_as_json(own):
    own[4][1]["boxes"][1] = [5, 5, 400, 20]
    own[4][1]["labels"][2] = 0
    own[6] = RuntimeError("no")
    first, second = check(Own(own)), check(Own(own))
    assert first == second and str(first) == str(second)
    assert json.loads(json.dumps(first.as_dict())) == second.as_dict()
    text = str(first)
    assert re.search(r"^circle +\d+$", text, re.MULTILINE) and "3 errors, 0 warnings" in text
    assert re.search(r"^ +1  error: a box extends more than one pixel .*\(box-outside\)$", text, re.MULTILINE)
    assert text.count("to do: ") == 3 and text.index("failing-item") < text.index("box-outside")


def test_errors_come_before_warnings_and_causes_before_effects():
    notes = Notes(1)
    for kind in reversed(KINDS):
        notes.add(kind, Example("here"))
    problems = notes.problems()
    severities = [problem.severity for problem in problems]
    assert severities == sorted(severities) and problems[0].kind == "no-images" and len(problems) == len(KINDS)


def test_only_some_of_the_images():
    pages = data.Shapes(6, seed=3)
    everything = check(pages)
    some = check(pages, only=[1, 4])
    assert some.counts.images == 2 < everything.counts.images
    assert some.counts.objects == sum(len(pages[i][1]["labels"]) for i in (1, 4))
    assert [example.image for example in some.digests.values()] == [1, 4]


def test_boxes_are_tested_on_the_chosen_images_only():
    pages = drawn(data.Digits(100))
    half = Own(pages[:50] + rewritten(pages[50:], swap).pages, data.Digits.classes)
    assert found(check(half, only=range(50))) == []
    assert [kind for kind, _ in found(check(half, only=range(50, 100)))] == ["swapped-axes"]


def test_a_line_break_in_a_name_does_not_start_a_line_of_the_report():
    assert str(Example("a.png\n1 error", box=2, detail="x\r1")) == r"a.png\n1 error, box 2: x\r1"
