# ---
# jupyter:
#   jupytext:
#     notebook_metadata_filter: rcnn
#     text_representation:
#       extension: .py
#       format_name: percent
#   kernelspec:
#     display_name: Python 3
#     language: python
#     name: python3
#   rcnn:
#     seconds: 180
# ---

# %% question [markdown]
# # Your own images
#
# *Goals.* After this notebook, you can
#
# - write, read and validate an annotated folder of images;
# - repair common faults in annotations with your own code;
# - choose anchors that cover the objects of a data set, and say what limits them;
# - train from existing weights with a written plan, and estimate how long it takes;
# - find the stage to work on next.
#
# *Prerequisites.* Notebooks 02 (data), 04 (anchors), 11 (training), 12 (average precision) and 13 (failures).
#
# *Time.* About two hours, without your own folder.
#
# **The question.** You have a folder of images with annotated boxes. Which steps lead to a detector whose numbers you
# can believe, in which order, and how long do they take without a GPU?
#
# | | step | with | without this step |
# |---|---|---|---|
# | 1 | read the folder | `data.load` | boxes in another convention (notebook 02) |
# | 2 | find faults and repair them | `data.validate` | a detector that learns from wrong boxes |
# | 3 | fit the anchors | `evaluate.coverage`, `evaluate.suggest` | objects that no anchor covers (notebook 04) |
# | 4 | write a plan | `plan` | a result that nobody can repeat |
# | 5 | train, from existing weights | `train.fit` | hours instead of minutes |
# | 6 | measure, and find the weakest stage | `evaluate`, `doctor` | a number without an explanation |
#
# You will write `repair`, after which the validator reports no problem, and `choose_anchors`, which reaches a given
# coverage on new images. The last sections use a real photo, the anchors of a large detector, and your own folder.
#
# *History.* R-CNN (2014) already started from weights that were trained on another task, ImageNet classification.
# Today, a detector for a new data set usually starts from weights that were trained on COCO [4]. YOLO9000 [3] fitted
# anchors to a data set by clustering.
#
# [1] Ren, He, Girshick, Sun: *Faster R-CNN*, 2015 (arXiv 1506.01497). [2] Lin, Dollár, Girshick, He, Hariharan,
# Belongie: *Feature Pyramid Networks*, 2017 (arXiv 1612.03144). [3] Redmon, Farhadi: *YOLO9000*, 2017 (arXiv
# 1612.08242). [4] Lin et al.: *Microsoft COCO*, 2014 (arXiv 1405.0312). [5] Yosinski, Clune, Bengio, Lipson: *How
# transferable are features in deep neural networks?*, 2014 (arXiv 1411.1792).

# %% settings
# Your folder for section 7, such as "voc:photos", "coco:photos" or "csv:photos".
FOLDER = None
# "coco" downloads 160 MB once; or the path of such a .pth or .safetensors file.
COCO_WEIGHTS = None

import dataclasses
import tempfile
import textwrap
from pathlib import Path

import numpy as np
from PIL import Image

import rcnn
from rcnn import (
    anchors,
    boxes,
    checks,
    course,
    data,
    doctor,
    evaluate,
    plot,
    train,
    transform,
)
from rcnn.train import defaults, plan

rcnn.set_num_threads(1)  # on small images, more threads save little time
scratch = tempfile.TemporaryDirectory()  # deleted when the notebook ends
root = Path(scratch.name)

# %% folder [markdown]
# ## 1  A folder
#
# To run offline, the notebook makes a folder like those that annotation programs write: images in `JPEGImages`, one VOC
# XML file for each image in `Annotations`, and the lists `train.txt` and `val.txt` in `ImageSets/Main`. The images are
# blackboards: pages of handwritten digits in white on dark. The digit detector of rcnn was trained on dark digits and
# has never seen a blackboard.
#
# A data set is any object with a length, an attribute `classes`, and items `(image, target)`, so a few lines make a new
# data set from another. `data.write_voc` writes it as a folder. `data.load` reads the same boxes back, to the last bit.
# It also reads whether an object is `difficult` or `truncated` (from VOC files) or a `crowd` (from COCO files), and its
# area.
#
# Look at the images first. `rcnn check` draws sixteen of them, as `plot.contact_sheet` does. Then run the validator.
# It reports no problem here, because a program wrote this folder.


# %% folder-made
class Blackboards(data.Digits):
    """Pages of digits (120 × 160), white on dark."""

    def __init__(self, count, split):
        super().__init__(count, split=split, seed=14, size=(120, 160))

    def __getitem__(self, index):
        image, target = super().__getitem__(index)
        return 255 - image, target


for split, count in (("train", 120), ("val", 40)):
    data.write_voc(Blackboards(count, split), root / "boards", split, progress=False)
spec = f"voc:{root / 'boards'}"
boards, unseen = data.load(spec, "train"), data.load(spec, "val")
print(
    *(f"{name} {array.shape} {array.dtype}" for name, array in boards[0][1].items()),
    "",
    sep="\n",
)
print(data.validate(boards, progress=False))

figure = plot.figure(10, 2.3)
for ax, index in zip(figure.subplots(1, 4), (0, 3, 7, 11), strict=True):
    image, target = boards[index]
    plot.boxes(
        plot.image(ax, image), target["boxes"], target["labels"], class_names=boards.classes
    )
    plot.title(ax, f"Board {index}")
course.show(
    figure,
    "Four boards with white handwritten digits on dark, of several sizes. Each digit has "
    "a tight box in the colour of its class.",
)

# %% damage [markdown]
# ## 2  Common faults
#
# Folders that people made are rarely without faults. The next cell writes twelve more boards and damages the files of
# six:
#
# - an image is missing,
# - class names are written with other capital letters (the classes here are `zero` to `nine`),
# - x1 and x2 are exchanged,
# - a box extends beyond the border,
# - an image was shrunk after the annotation,
# - an object is annotated twice.
#
# `data.load` refuses such a folder at the first fault, and names the file and the box. `data.read_annotations` reads
# what is in the files, right or wrong. `validate` uses it and lists all faults.
#
# > **What people get wrong.** `on_error="skip"` leaves faulty objects out of the training and reports them. Use it for
# > one file in a thousand. If a fifth of a folder is skipped, the rest is no longer a fair sample: if the skipped images
# > are those with objects at the border, the detector learns little about such objects.

# %% damage-done
dozen = Blackboards(12, "train")
dozen.classes = (
    "background",
    "zero",
    "one",
    "two",
    "three",
    "four",
    "five",
    "six",
    "seven",
    "eight",
    "nine",
)
data.write_voc(dozen, root / "damaged", "train", progress=False)


def edit(number, change):
    path = root / "damaged" / "Annotations" / f"train_{number:06d}.xml"
    path.write_text(change(path.read_text()))


photos = root / "damaged" / "JPEGImages"
(photos / "train_000001.png").unlink()
edit(3, lambda xml: xml.replace("five", "Five").replace("two", "TWO"))
edit(4, lambda xml: xml.replace("xmin", "?").replace("xmax", "xmin").replace("?", "xmax"))
edit(10, lambda xml: xml.replace("<xmax>152", "<xmax>167"))  # the image is 160 pixels wide
Image.open(photos / "train_000008.png").resize((80, 60)).save(photos / "train_000008.png")
edit(
    9, lambda xml: xml.replace("<object>", f"<object>{xml.split('<object>')[1]}<object>", 1)
)

damaged = data.read_annotations(f"voc:{root / 'damaged'}", None)
problems = data.validate(damaged, progress=False, to_learn=False).problems
assert len(problems) == 6
for problem in problems:
    print(
        f"{problem.kind} ({problem.count}): {problem.sentence}".replace(": ", ":\n    ", 1)
    )
    print(textwrap.indent(textwrap.fill(f"{problem.examples[0]}", 80), "    "))

# %% repair [markdown]
# **Your turn.** Repair these faults in four steps. Each step has its own check:
#
# 1. `repair_names` corrects the class names of an image.
# 2. `repair_boxes` corrects the boxes of an image. Think about the order: what happens to a box of a shrunk image if you
#    clip it first?
# 3. `distinct_rows` finds objects that are annotated twice.
# 4. `repair` applies the three functions to all records.
#
# One more question has no automatic answer: if a box extends beyond the border and is clipped, is it correct then?


# %% names-yours
def repair_names(names, classes):
    """Return the names in the spelling of the classes, and their labels.

    The result is a pair: a tuple of G str, and an array (G,) of int.
    names: G names. Each one equals a class, apart from capital letters. G may be 0.
    classes: the class names, background first; they may contain capital letters, too. A
    label is an index into classes.
    """
    ### BEGIN SOLUTION
    lower = [name.lower() for name in classes]
    labels = np.array([lower.index(name.lower()) for name in names], np.int64)  # (G,)
    return tuple(classes[label] for label in labels), labels
    ### END SOLUTION


# %% names-check points=1
def expect(function, arguments, expected, hint):
    """Return the result of a function. Raise CheckFailed unless it is as expected."""
    call = f"{function.__name__}({', '.join(map(repr, arguments))})"
    try:
        result = function(*arguments)
    except (ValueError, IndexError, KeyError, TypeError) as error:
        raise checks.CheckFailed(
            f"{call} raises {type(error).__name__}: {error}\nHint: {hint}"
        ) from None
    results, wanted = (r if isinstance(r, tuple) else (r,) for r in (result, expected))
    same = len(results) == len(wanted) and all(map(np.array_equal, results, wanted))
    if not same:
        raise checks.CheckFailed(
            f"{call} returns {result!r}, expected {expected!r}\nHint: {hint}"
        )
    return result


classes = ("background", "catfish", "cat", "Dog", "hotDog", "Dogs")
for names, spelled, labels, hint in (
    (
        ("cat", "Dog"),
        ("cat", "Dog"),
        [2, 3],
        "Compare whole names. These are correct already.",
    ),
    (
        ("DOG", "Cat", "dog"),
        ("Dog", "cat", "Dog"),
        [3, 2, 3],
        "Compare names without capital letters. A class may have some, too.",
    ),
    (
        ("dogs", "HOTDOG", "Catfish"),
        ("Dogs", "hotDog", "catfish"),
        [5, 4, 1],
        "Return the spelling of the class. Compare whole names, not parts.",
    ),
    ((), (), [], "An image may have no objects."),
):
    wanted = spelled, np.array(labels, int)
    found, numbers = expect(repair_names, (names, classes), wanted, hint)
    if not isinstance(found, tuple):
        raise checks.CheckFailed(
            f"repair_names returns the names as {type(found).__name__}, expected a tuple"
        )
    if not isinstance(numbers, np.ndarray) or numbers.dtype.kind not in "iu":
        raise checks.CheckFailed(
            f"repair_names({names}, {classes}) returns the labels {numbers!r}; expected an "
            "array of integers\nHint: np.array([]) contains floats. Pass a dtype."
        )
print("repair_names: correct")


# %% boxes-yours
def repair_boxes(box_array, stated, actual):
    """Return the repaired boxes of an image, (G, 4), as a new array.

    box_array: (G, 4), as annotated; G may be 0.
    stated: the size (height, width) in the annotation.
    actual: the size (height, width) of the image file.

    - If x2 < x1 or y2 < y1, exchange the two.
    - Multiply x by the actual width divided by the stated one, and y by the quotient of the
      heights. Do not round.
    - Clip the boxes to the image file; `boxes.clip(box_array, size)` does this.
    """
    ### BEGIN SOLUTION
    y, x = actual[0] / stated[0], actual[1] / stated[1]
    corners = (box_array * [x, y, x, y]).reshape(-1, 2, 2)  # (G, 2, 2)
    ordered = np.concatenate([corners.min(axis=1), corners.max(axis=1)], axis=1)  # (G, 4)
    return boxes.clip(ordered, actual)
    ### END SOLUTION


# %% boxes-check points=1
good, size = np.array([[10.5, 20, 30, 60.25], [0, 0, 5, 8]]), (100, 80)
swap_x, swap_y = [2, 1, 0, 3], [0, 3, 2, 1]
for given, stated, expected, hint in (
    (good, size, good, "These boxes are correct already."),
    (good[:, swap_x], size, good, "x1 and x2 are exchanged."),
    (good[:, swap_y], size, good, "y1 and y2 are exchanged."),
    (good[:, [2, 3, 0, 1]], size, good, "x1 and x2 are exchanged, and y1 and y2, too."),
    (
        np.array([good[0, swap_x], good[1, swap_y]]),
        size,
        good,
        "x is exchanged in the first box, y in the second. Exchange them box by box.",
    ),
    (
        good + [0, 0, 70, 70],
        size,
        np.array([[10.5, 20, 80, 100], [0, 0, 75, 78]]),
        "Clip x to the width, y to the height.",
    ),
    (
        good - [15, 30, 0, 0],
        size,
        np.array([[0, 0, 30, 60.25], [0, 0, 5, 8]]),
        "A coordinate must not be negative.",
    ),
    (
        good * [2, 3, 2, 3],
        (300, 160),
        good,
        "Scale x by the ratio of the widths, and y by the ratio of the heights.",
    ),
    (
        good * 2 + [0, 0, 200, 0],
        (200, 160),
        np.array([[10.5, 20, 80, 60.25], [0, 0, 80, 8]]),
        "Scale first, then clip.",
    ),
    (good[:0], size, good[:0], "An image may have no objects."),
):
    before = given.copy()
    expect(repair_boxes, (given, stated, size), expected, hint)
    if not np.array_equal(given, before):
        raise checks.CheckFailed("repair_boxes changes its argument. Work on a copy.")
print("repair_boxes: correct")


# %% rows-yours
def distinct_rows(box_array, labels):
    """Return the indices of the objects to keep, in ascending order.

    Of equal objects, keep only the first. The result is a list or an array of integers.
    box_array, labels: (G, 4), (G,), after the repair; G may be 0. Two objects are equal if
    they have exactly the same box and the same label.
    """
    ### BEGIN SOLUTION
    pairs = zip(box_array.tolist(), labels.tolist(), strict=True)
    rows = [(*box, label) for box, label in pairs]
    return [i for i, row in enumerate(rows) if row not in rows[:i]]
    ### END SOLUTION


# %% rows-check points=1
alike = np.array(
    [[1, 2, 5, 7], [1, 2, 5, 7.25], [1, 2, 6, 7], [1, 3, 5, 7], [2, 2, 5, 7], [1, 2, 6, 6]]
)
for rows, labels, kept, hint in (
    (
        [0, 1, 2, 3, 4, 5],
        [1, 1, 1, 1, 1, 1],
        [0, 1, 2, 3, 4, 5],
        "These boxes differ. Compare all four coordinates, each exactly.",
    ),
    (
        [0, 0],
        [1, 2],
        [0, 1],
        "The same box with two classes is no duplicate. Compare the labels, too.",
    ),
    (
        [1, 0, 1, 0, 1],
        [1, 2, 1, 2, 1],
        [0, 1],
        "Keep the first of equal objects, in the original order.",
    ),
    ([0, 0, 1, 0], [1, 1, 1, 2], [0, 2, 3], "Go on after an object that is left out."),
    ([], [], [], "An image may have no objects."),
):
    rows, labels = np.array(rows, int), np.array(labels, int)
    expect(distinct_rows, (alike[rows], labels), np.array(kept, int), hint)
print("distinct_rows: correct")


# %% repair-yours
def repair(annotations):
    """Return new Annotations without faults, and leave the given ones unchanged.

    annotations.records: a list of `Record`; annotations.classes: the class names,
    background first. A record has
    - image: a path; size: the stated (height, width), or None if the file does not state
      it: the boxes are then in pixels of the image file, so do not scale them;
    - boxes (G, 4), names (a tuple of G), labels (G,), which are -1 if the name is not among
      the classes;
    - the arrays difficult, crowd, truncated and areas, (G,) each.

    Leave out each record whose image does not exist, and keep all others, also a record
    without objects, or a second record of the same image. Apply your three functions to the
    names, labels and boxes of each one; compare only objects of the same record. Set its
    size to that of the file: `Image.open(path).size` is (width, height). All arrays, and
    names, keep one row for each object. The values of areas may be wrong. Records and
    annotations are frozen: make new ones with `dataclasses.replace(record, boxes=...)`.
    """
    ### BEGIN SOLUTION
    records = []
    for record in annotations.records:
        if not record.image.exists():
            continue
        with Image.open(record.image) as file:
            size = file.size[::-1]  # (height, width)
        found = repair_boxes(record.boxes, record.size or size, size)
        names, labels = repair_names(record.names, annotations.classes)
        keep = distinct_rows(found, labels)
        arrays = {
            name: getattr(record, name)[keep]
            for name in ("difficult", "crowd", "truncated", "areas")
        }
        records.append(
            dataclasses.replace(
                record,
                size=size,
                boxes=found[keep],
                labels=labels[keep],
                names=tuple(names[i] for i in keep),
                **arrays,
            )
        )
    return dataclasses.replace(annotations, records=records)
    ### END SOLUTION


# %% repair-check points=4
checks.repair(repair)

repaired = repair(damaged)
problems = data.validate(repaired, progress=False, to_learn=False).problems
print("remaining problems:", ", ".join(problem.kind for problem in problems) or "none")
four = [
    i
    for i, record in enumerate(repaired.records)
    if record.image.stem[-2:] in ("04", "08", "09", "10")
]
figure, clean = plot.figure(10, 2.3), data.AnnotatedImages(repaired)
titles = {
    "04": "Exchanged corners",
    "08": "Shrunk",
    "09": "Annotated twice",
    "10": "Beyond the border",
}
for ax, index in zip(figure.subplots(1, 4), four, strict=True):
    image, target = clean[index]
    plot.boxes(
        plot.image(ax, image),
        target["boxes"],
        target["labels"],
        class_names=repaired.classes,
    )
    plot.title(ax, titles[repaired.records[index].image.stem[-2:]])
course.show(
    figure,
    "Four boards with their boxes: exchanged corners, a shrunk image, an object annotated "
    "twice, and a box beyond the border. After a correct repair, all boxes fit, except "
    "the one that was clipped at the right border: it is too wide.",
)

# %% coverage [markdown]
# The box that extended beyond the border is at the right edge of the last board. It is valid now, but still too wide. A
# validator checks whether a box is possible. Whether it is correct, you must see in the image.
#
# ## 3  Anchors that fit
#
# An anchor is positive if its IoU with an object is at least 0.7 ([1] section 3.1.2). *Coverage* is the highest IoU of
# each object with any anchor. A *size* is the square root of an area. The paper's anchors have the sizes 128, 256 and
# 512 pixels, those of the small network of rcnn 14, 24 and 40, and most digits have sizes between 10 and 40.
# **Predict**: for which fraction of the digits do the paper's anchors reach 0.5, and 0.7? And those of the small
# network?

# %% coverage-shown
# Boards keep their size, 120 × 160.
model = rcnn.faster_rcnn_small(boards.classes, min_size=120, max_size=240)
strides = model.strides()
sets = {
    "paper": anchors.AnchorGenerator((128, 256, 512), (0.5, 1, 2)),
    "small network": model.anchor_generator,
}
covered = {
    name: evaluate.coverage(boards, generator, strides, 120, 240, progress=False)
    for name, generator in sets.items()
}
for name, of_set in covered.items():
    half, strict = of_set.recall(0.5), of_set.recall(0.7)
    print(f"{name:<14}at least 0.5: {half:6.1%}   at least 0.7: {strict:6.1%}")

figure = plot.figure(10, 4)
left, right = figure.subplots(1, 2)
before = covered["small network"]
assert model.config.anchor_sizes == (14, 24, 40)
assert np.mean((before.sizes >= 10) & (before.sizes <= 40)) > 0.9
cell = anchors.cell_anchors(model.config.anchor_sizes, model.config.aspect_ratios)
plot.coverage(left, before.sizes, before.ratios, before.best_iou, cell)
plot.title(left, "Objects and anchors of the small network")
plot.title(plot.coverage_histogram(right, before.best_iou), "Coverage by these anchors")
course.show(
    figure,
    "Left: size and ratio of every digit on the training boards, and those of the small "
    "network's six anchors. Three of these have the ratio 1 and lie below most digits. "
    f"Right: histogram of the best IoU of each digit. {before.recall(0.5):.0%} of the "
    f"digits reach 0.5, but only {before.recall(0.7):.0%} reach 0.7.",
)

# %% reach [markdown]
# ### How far an anchor reaches
#
# Remember the table of notebook 04. Take an anchor of size $s$ and an object of size $S > s$ with the same shape and the
# same centre. The anchor lies inside the object, so $\mathrm{IoU} = (s / S)^2$. Now take equal areas and a ratio that
# differs by the factor $f$. Each side differs by $\sqrt f$, and
#
# $$ \mathrm{IoU} = \frac{1}{2 \sqrt f - 1} . $$
#
# For an IoU of 0.7, a size may differ by a factor of $1 / \sqrt{0.7} = 1.20$ in either direction, and a ratio by
# $f = 1.47$. So *sizes must be close, ratios need not be*. One size covers objects whose sizes differ by a factor of
# 1.43, and one ratio covers ratios that differ by 2.17. The clustering of [3] section 2 uses the same measure for
# another detector: IoU instead of distance.
#
# The centres also differ. Anchors are on a grid, so an object can be half a stride away along x and along y. Consider a
# square of 12 pixels and an anchor of the same size that is 4 pixels away in both directions. They share
# $8 \times 8$ pixels, so the IoU is $64 / (2 \cdot 144 - 64) = 0.29$. The best square has 20 pixels, just contains the
# object, and reaches an IoU of 0.36. With a stride of 8, *no choice of sizes* reaches 0.7 on all small objects. The
# next cell separates the two causes: it enlarges images and anchors, and keeps the stride.

# %% reach-shown
assert round(0.7**-0.5, 2) == 1.2 and round(1 / 0.7, 2) == 1.43
f = ((1 / 0.7 + 1) / 2) ** 2
assert round(f, 2) == 1.47 and round(f**2, 2) == 2.17
widths = np.arange(2, 60)[:, None]
squares = 4 + widths / 2 * [-1, -1, 1, 1]  # (58, 4)
overlap = boxes.iou(squares, [[-6, -6, 6, 6]])[:, 0]
assert (
    round(overlap[10], 2) == 0.29
    and widths[overlap.argmax(), 0] == 20
    and round(overlap.max(), 2) == 0.36
)

sizes_of, ratios_of = model.config.anchor_sizes, model.config.aspect_ratios
print("boards      anchor sizes       0.5     0.7   positive anchors per object")
for factor in (1, 2, 3):
    larger = anchors.AnchorGenerator(tuple(factor * size for size in sizes_of), ratios_of)
    one = evaluate.coverage(
        boards, larger, strides, factor * 120, factor * 240, progress=False
    )
    row = f"{factor * 120} × {factor * 160}   {', '.join(map(str, larger.sizes)):<14}"
    fractions = f"{one.recall(0.5):>8.1%}{one.recall(0.7):>8.1%}"
    print(f"{row}{fractions}{one.num_positive.mean():>8.1f}")

# %% choose [markdown]
# Images with two or three times the side length need four or nine times the work. This is the cost of small objects. A
# feature pyramid, whose first level has a stride of 4, is an alternative ([2] section 4.1).
#
# **Your turn.** Choose at most three sizes and three ratios, from the data set alone, in two steps:
#
# 1. `object_shapes` collects the size and the ratio of every object, in pixels of the resized image.
# 2. `choose_anchors` chooses three of each. Look at the quantiles of your sizes and ratios.
#
# The check of step 2 applies your anchors to *other* images of the same kind. There, at least **99 %** of the objects
# must have an anchor with an IoU of at least 0.5, and **90 %** one with an IoU of at least 0.7. The check draws new
# images of three kinds: with wide, with almost square and with tall objects. Their sizes differ by a factor of up to
# 2.4, and their ratios by a factor of up to 2. You may call `evaluate.suggest`, which searches for such anchors, but a
# few lines with the ideas of the last section are enough.
#
# > **What people get wrong.** Anchors are in pixels of the *batch*, and the boxes of a data set are in pixels of their
# > images. If an image is resized from 600 to 800 pixels, an object of 60 pixels gets 80. Another mistake: if you fit
# > anchors to all images, including those for validation, your measurement is biased.


# %% shapes-yours
def object_shapes(dataset, min_size, max_size):
    """Return (sizes, ratios) of all objects, (N,) each.

    The objects are in the order of the images and of their boxes.
    dataset: has a length; dataset[i] is an image (h, w, 3) and its target
    {"boxes": (G, 4), "labels": (G,)}; G may be 0.
    min_size, max_size: the settings of `transform.resized_size(size, min_size, max_size)`,
    which computes the size (height, width) of a resized image.
    `transform.scale_boxes(boxes, size, resized)` scales its boxes.

    A size is the square root of an area, in pixels of the resized image.
    A ratio is height / width.
    """
    ### BEGIN SOLUTION
    found_sizes, found_ratios = [np.zeros(0)], [np.zeros(0)]
    for i in range(len(dataset)):
        image, target = dataset[i]
        resized = transform.resized_size(image.shape[:2], min_size, max_size)
        scaled = transform.scale_boxes(target["boxes"], image.shape[:2], resized)  # (G, 4)
        width, height = (scaled[:, 2:] - scaled[:, :2]).T  # (G,) each
        found_sizes.append(np.sqrt(width * height))
        found_ratios.append(height / width)
    return np.concatenate(found_sizes), np.concatenate(found_ratios)
    ### END SOLUTION


# %% shapes-check points=1
def pair(height, width, *rows):
    target = {
        "boxes": np.array(rows, float).reshape(-1, 4),
        "labels": np.ones(len(rows), int),
    }
    return np.zeros((height, width, 3), np.uint8), target


tall, wide, empty = (
    pair(50, 100, [0, 0, 10, 40]),
    pair(100, 100, [0, 0, 18, 2], [1, 1, 9, 9]),
    pair(80, 60),
)
for dataset, expected, hint in (
    (
        [tall],
        ([40.0], [4.0]),
        "The image doubles from 50 × 100 to 100 × 200. A ratio is height / width.",
    ),
    ([wide], ([6.0, 8.0], [1 / 9, 1.0]), "This image keeps its size."),
    (
        [tall, empty, wide],
        ([40.0, 6.0, 8.0], [4.0, 1 / 9, 1.0]),
        "Keep the order of the images and of their boxes. An image may have no objects.",
    ),
    (
        [pair(50, 400, [0, 0, 16, 16])],
        ([8.0], [1.0]),
        "max_size limits the long side: 50 × 400 becomes 25 × 200.",
    ),
    ([empty], ([], []), "There may be no objects."),
):
    try:
        shapes = object_shapes(dataset, 100, 200)
    except (ValueError, IndexError) as error:
        raise checks.CheckFailed(
            f"object_shapes raises {type(error).__name__}: {error}\nHint: {hint}"
        ) from None
    if (
        shapes is None
        or len(shapes) != 2
        or not all(
            np.shape(got) == np.shape(want) and np.allclose(got, want)
            for got, want in zip(shapes, expected, strict=True)
        )
    ):
        raise checks.CheckFailed(
            f"object_shapes returns {shapes}, expected {expected}\nHint: {hint}"
        )
print("object_shapes: correct")


# %% choose-yours
def choose_anchors(dataset, strides, min_size, max_size):
    """Return (sizes, ratios), at most three of each, for the objects of such images.

    Both are sequences of positive numbers.
    strides: [(rows, columns)] of the only level.
    dataset, min_size, max_size: as in `object_shapes`, which you may call. Some of the
    images may have no objects.
    """
    ### BEGIN SOLUTION
    sizes, ratios = object_shapes(dataset, min_size, max_size)
    middles = (1 / 6, 1 / 2, 5 / 6)  # the middles of three equal parts
    return np.quantile(sizes, middles), np.quantile(ratios, middles)
    ### END SOLUTION


# %% choose-check points=4
checks.choose_anchors(choose_anchors)

chosen = choose_anchors(boards, strides, 120, 240)
yours = anchors.AnchorGenerator(*(tuple(map(float, numbers)) for numbers in chosen))
on_unseen = evaluate.coverage(unseen, yours, strides, 120, 240, progress=False)
print("sizes", np.round(chosen[0], 1), "  ratios", np.round(chosen[1], 2))
half, strict = on_unseen.recall(0.5), on_unseen.recall(0.7)
print(f"unseen boards: 0.5 for {half:.1%}, 0.7 for {strict:.1%}")

# %% suggest [markdown]
# ### What a search finds
#
# `evaluate.suggest` starts in the same way. Then it changes one number at a time, and keeps the change that increases
# most the recall at 0.5, the recall at 0.7 and the mean highest IoU. It uses the true grid and the true rounding, and
# its result is never worse than the given anchors. The cell searches for as many numbers as the small network has. On
# these small images, the stride is the limit, for your anchors as well. If your objects differ from digits, the choice
# of anchors matters more.

# %% suggest-shown
found = evaluate.suggest(
    boards,
    strides,
    120,
    240,
    num_ratios=2,
    generator=model.anchor_generator,
    progress=False,
)
print(found)
assert found.after.recall(0.7) > found.before.recall(0.7)
after = evaluate.coverage(unseen, found.generator, strides, 120, 240, progress=False)
print(f"on unseen boards: 0.5 for {after.recall(0.5):.1%}, 0.7 for {after.recall(0.7):.1%}")

figure = plot.figure(10, 3.8)
left, right = figure.subplots(1, 2, sharey=True)
plot.title(
    plot.coverage_histogram(left, found.before.best_iou),
    "Anchors of the small network",
    "training boards",
)
plot.title(
    plot.coverage_histogram(right, found.after.best_iou),
    "Suggested anchors",
    "training boards",
)
top = max(ax.dataLim.y1 for ax in (left, right))
right.set_ylim(0, 1.3 * top)  # the same scale for both, with room for the legends
course.show(
    figure,
    "Histograms of the best IoU of each digit, with the anchors of the small network and "
    "with the suggested anchors. The fraction that reaches 0.7 rises from "
    f"{found.before.recall(0.7):.0%} to {found.after.recall(0.7):.0%}.",
)

# %% plan [markdown]
# ## 4  A written plan
#
# `defaults.for_dataset` makes the plan that `rcnn train voc:FOLDER` follows. `defaults.resolve` adds the settings that
# the data decide: class names and anchors. As a TOML file, the plan contains every setting. With the same files, it
# gives the same weights, bit for bit. The cell changes some lines: few steps of four boards, a short warm-up, no
# validation during the training, and `weights`, the weights at the start. These are the weights of the digit detector.
# It was trained for a similar task, and features transfer better between similar tasks ([5]).
#
# The cell after the plan trains twice, from these weights and from random ones: 80 steps of four boards, less than three
# epochs. **Predict** the average precision of both on the 40 unseen boards. What is the AP of the digit detector without
# any training on boards? (On pages with dark digits it is 0.985, as notebook 11 measures.)

# %% plan-written
rcnn.save(root / "digits.safetensors", rcnn.load_digits())
default = defaults.for_dataset(spec)
assert (default.recipe.steps, default.recipe.batch_size) == (1200, 2)
assert len(unseen) == 40 and 80 * 4 / len(boards) < 3 and defaults.MAX_SHORT_SIDE == 320
begun = defaults.for_dataset(spec, steps=80)
recipe = dataclasses.replace(begun.recipe, batch_size=4, warmup_steps=20, val_every=0)
begun = dataclasses.replace(begun, recipe=recipe, weights=str(root / "digits.safetensors"))
decided = defaults.resolve(begun, boards, progress=False)

plan.write(root / "run.toml", decided)
shown = (
    "[model]",
    "[recipe]",
    "kind",
    "anchor_sizes",
    "aspect_ratios",
    "min_size",
    "max_size",
    "rpn_fg_iou_thresh",
    "steps",
    "batch_size",
    "lr",
    "flip",
    "scale_jitter",
)
lines = (root / "run.toml").read_text().splitlines()
print("\n".join(line for line in lines if line.split(" =")[0] in shown))
print(f"({len(lines)} lines in total)")

# %% train-done
from_digits, skipped = decided.make_model()
print("skipped weights:", ", ".join(skipped) or "none, because the classes are the same")
from_random, _ = dataclasses.replace(decided, weights=None).make_model()
runs = {}
for name, one in (
    ("from the weights of digits", from_digits),
    ("from random weights", from_random),
):
    runs[name] = train.fit(one, boards, recipe, progress=False)
names, aps = ("digit detector, not trained on boards", *runs), []
for name, one in zip(names, (rcnn.load_digits(), from_digits, from_random), strict=True):
    aps.append(evaluate.evaluate(one, unseen, progress=False).mean_ap)
    print(f"{name:<38} AP at IoU 0.5: {aps[-1]:.3f}")
assert aps[0] < 0.05 and aps[1] > 0.85 and aps[2] < 0.3

figure = plot.figure(8, 3.4)
totals = {name: run.history["total_loss"] for name, run in runs.items()}
ax = plot.loss_curves(figure.subplots(), totals, smoothing=8)
plot.title(ax, "Total loss on boards", "mean of 8 steps; pale: every step")
course.show(
    figure,
    "Total loss in 80 training steps. From the weights of digits, the loss is lower "
    f"throughout and ends at {np.mean(totals['from the weights of digits'][-8:]):.1f}; "
    f"from random weights, it ends at {np.mean(totals['from random weights'][-8:]):.1f}.",
)

# %% evaluation [markdown]
# Without training on boards, the digit detector finds almost nothing on them. After a few steps from its weights, it
# finds almost everything. Random weights need many more steps and boards. For photos, start from a network that was
# trained on photos: set `weights = "coco"` or `weights_backbone = "imagenet"` in the plan.
#
# > **What people get wrong.** A new task has other classes, so the last layer has another shape. `load_into(model, path,
# > skip_mismatched=True)` skips what does not fit and *reports* it; a plan does the same. A loader that skips weights
# > without a report also skips a backbone whose parameters have another prefix. The training then starts from random
# > weights, and nobody notices.
#
# ## 5  Measure, and find the weakest stage
#
# One number says how good a detector is, but not why. The doctor gives each stage its own number, on boards from the
# training and on unseen boards. Read the report from the top: a stage cannot be better than its input. The figure below
# it shows detections with a score of at least 0.5, and the ground truth dashed. The doctor also counts detections with
# lower scores. Which stage would you work on next?

# %% evaluation-shown
print(
    doctor.report(
        doctor.examine(
            from_digits,
            boards,
            unseen,
            num_images=40,
            progress=False,
            losses=runs["from the weights of digits"].history["total_loss"],
        )
    )
)

figure = plot.figure(10, 3.9)
for ax, index in zip(figure.subplots(1, 2), (1, 5), strict=True):
    image, target = unseen[index]
    one = from_digits.predict([image], score_thresh=0.5)[0]
    plot.detections(
        ax,
        image,
        one["boxes"],
        one["scores"],
        one["labels"],
        unseen.classes,
        target["boxes"],
    )
    plot.title(
        ax,
        f"Unseen board {index}",
        f"{len(one['boxes'])} detections with a score of at least 0.5",
    )
course.show(
    figure,
    "Detections on two unseen boards, with class and score. The ground truth is dashed. "
    "Almost every digit has one detection whose box fits.",
)

# %% time [markdown]
# Almost every object has a proposal, and almost every proposed object is detected. The detector still confuses
# some classes, on training boards, too. So first train for more steps, and then add boards.
#
# **How long does a full training take?** Multiply the number of steps by the time of one step, which the progress bar
# of `rcnn train` shows after the first steps. For this folder, `rcnn train` plans 1,200 steps of two boards. Images
# with twice the side length take about four times as long. A ResNet-50 with a pyramid has many more layers and
# channels, and one training step at 800 × 1200 takes some seconds on a CPU. `rcnn train` therefore resizes your images
# to a short side of at most 320 pixels, and fits the anchors to that size.
#
# ## 6  A photo, and the COCO detector
#
# The public detector with a ResNet-50 and a pyramid knows the 80 classes of COCO [4]. Its weights have 160 MB, so this
# notebook does not download them unless you set `COCO_WEIGHTS` at the top. The steps before the network need no
# weights: the photo is resized to 800 × 1199 and padded to 800 × 1216. Then five levels of anchors are placed on it,
# with one size and three ratios each ([2] section 4.1). Each panel shows the anchors of the cell nearest to the middle
# of the pagoda; the first two panels are enlarged. **Predict**: which level covers the pagoda? It is 371 pixels high in
# the photo, and 695 in the batch.

# %% photo-shown
photo, target = course.photos.load("china")  # (427, 640, 3)
pagoda = target["boxes"].astype(float)  # (1, 4), drawn by hand, down to the trees
assert pagoda[0, 3] - pagoda[0, 1] == 371
imagenet = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)  # mean, standard deviation
batch = transform.make_batch([photo], 800, 1333, *imagenet)
padded, resized = batch.images.shape[2:], batch.image_sizes[0]
pyramid = anchors.AnchorGenerator(
    [(size,) for size in (32, 64, 128, 256, 512)], (0.5, 1.0, 2.0)
)
features = [
    (-(-padded[0] // stride), -(-padded[1] // stride)) for stride in (4, 8, 16, 32, 64)
]
levels = pyramid(padded, features)  # five of (A_l, 4)
object_box = transform.scale_boxes(pagoda, photo.shape[:2], resized)
in_batch = transform.to_images(batch, *imagenet)[0]
assert (tuple(resized), tuple(padded)) == ((800, 1199), (800, 1216))
assert round(float(object_box[0, 3] - object_box[0, 1])) == 695

figure = plot.figure(10, 5.8)
middle = (object_box[0, :2] + object_box[0, 2:]) / 2
*axes, last = figure.subplots(2, 3).flat
zooms = (6, 3, 1, 1, 1)  # the anchors of the first two levels are small
for ax, level, (rows, columns), zoom in zip(axes, levels, features, zooms, strict=True):
    plot.anchor_level(ax, in_batch, level, near=middle, max_dots=19 * zoom)
    best = boxes.iou(level, object_box).max()
    assert best < 0.7
    caption = f"anchors {level.shape}"
    if zoom > 1:
        x, y = np.array(resized[::-1]) / (2 * zoom)  # half of the part that is shown
        ax.set_xlim(middle[0] - x, middle[0] + x)
        ax.set_ylim(middle[1] + y, middle[1] - y)
        caption += f"; enlarged {zoom} times"
    plot.title(ax, f"{rows} × {columns} cells, best IoU {best:.2f}", caption)
plot.title(
    plot.boxes(plot.image(last, in_batch), object_box),
    "The pagoda",
    f"{resized[0]} × {resized[1]}",
)
best_of_levels = [float(boxes.iou(level, object_box).max()) for level in levels]
assert best_of_levels == sorted(best_of_levels)
course.show(
    figure,
    "Six panels with a pagoda. Five panels show the three anchors of one cell at each "
    "level of the pyramid: they grow from 32 to 512 pixels, and their best IoU with the "
    f"pagoda rises from {best_of_levels[0]:.2f} to {best_of_levels[-1]:.2f}. The last "
    "panel shows the pagoda, whose area is larger than that of any anchor.",
)

# %% coco [markdown]
# No anchor reaches 0.7 on the pagoda, because it is larger than the largest size. The detector can learn such an object
# anyway, because the best anchor of an object is positive, whatever its IoU ([1] section 3.1.2, notebook 05). For a
# folder full of pagodas, `evaluate.suggest` would change the sizes.
#
# The next cell is the code for a script. With `COCO_WEIGHTS = "coco"`, it downloads the file once, checks its hash and
# keeps it. With a path, it reads that file. The output on this page was computed without weights. torchvision's
# detector returns the same boxes from the same file, up to the rounding errors of float32. The pagoda will not be found,
# because COCO has no such class. Boats and people are among its classes.

# %% coco-shown
figure = None
if COCO_WEIGHTS is None:
    print("no detections here, because COCO_WEIGHTS is None")
    print('"coco" downloads the weights (160 MB, once)')
else:
    detector = rcnn.faster_rcnn_resnet_50_fpn(weights=COCO_WEIGHTS)
    one = detector.predict([photo], score_thresh=0.5)[0]
    figure = plot.figure(10, 6)
    ax = plot.detections(
        figure.subplots(),
        photo,
        one["boxes"],
        one["scores"],
        one["labels"],
        detector.config.class_names,
    )
    plot.title(
        ax,
        "The public COCO detector",
        f"{len(one['boxes'])} detections with a score of at least 0.5",
    )
shown = (
    None
    if figure is None
    else course.show(
        figure, f"The COCO detector finds {len(one['boxes'])} objects in the photo."
    )
)
shown

# %% own [markdown]
# ## 7  Your folder
#
# Set `FOLDER` at the top. The cell below then applies steps 1 to 4 to your images: the report, three images, the
# coverage before and after the fit of the anchors, and the plan. It reports images that cannot be used, and skips them.
# The rest takes longer and belongs in a terminal. A run has the name of its folder:
#
#     rcnn check voc:photos
#     rcnn train voc:photos --model resnet50 --plan run.toml
#     # then edit run.toml: weights = "coco" below [model]
#     rcnn train run.toml
#     rcnn eval voc:photos --weights runs/photos --errors --plots plots
#     rcnn doctor runs/photos
#
# While `FOLDER` is `None`, the cell uses the boards.

# %% own-shown
own_spec = FOLDER or spec
report = data.validate(data.read_annotations(own_spec, "train"), progress=False)
print("\n".join(map(str, report.problems)) or "no problems found")
print(
    "the data are ready for training" if report.ok else "repair the errors before you train"
)

options = {} if report.ok else {"on_error": "skip"}
own = data.load(own_spec, "train", options=options)
first = defaults.for_dataset(own_spec, options=options)
print(
    f"short side {first.settings['min_size']}, "
    f"{first.recipe.steps} steps of {first.recipe.batch_size} images"
)
small = rcnn.faster_rcnn_small(own.classes, **first.settings)
print(
    evaluate.suggest(
        own,
        small.strides(),
        small.config.min_size,
        small.config.max_size,
        num_ratios=2,
        generator=small.anchor_generator,
        progress=False,
    )
)

figure = plot.figure(10, 3)
for ax, index in zip(
    figure.subplots(1, 3), np.linspace(0, len(own) - 1, 3).astype(int), strict=True
):
    image, target = own[index]
    plot.boxes(
        plot.image(ax, image), target["boxes"], target["labels"], class_names=own.classes
    )
    plot.title(ax, f"Image {index}", f"{image.shape}, {len(target['boxes'])} objects")
course.show(
    figure,
    "Three images of the folder with their boxes: the first, the middle and the last of "
    f"{len(own)}. Check that every object has a box, and that the boxes fit.",
)

# %% number [markdown]
# ## A number to check
#
# How many anchors does the photo of section 6 have? The padded batch has 800 × 1216 pixels, and the strides are 4, 8,
# 16, 32 and 64. The number of cells is rounded up (800 / 64 = 12.5 gives 13 rows), and each cell has three anchors:
#
# $$ \begin{aligned}
# 3 \, (& 200 \cdot 304 + 100 \cdot 152 + 50 \cdot 76 \\
# & + 25 \cdot 38 + 13 \cdot 19) = 242{,}991 .
# \end{aligned} $$
#
# The cell counts the rows of the arrays. In training, all anchors are compared with all objects. The cell also measures
# this step for eight objects, with the NumPy reference and with the kernel.

# %% number-shown
everything = np.concatenate(levels)
print("anchors:", len(everything), "=", " + ".join(str(len(level)) for level in levels))
assert len(everything) == 242_991
eight = np.concatenate([object_box + [40 * i, 0, 40 * i, 0] for i in range(8)])  # (8, 4)
course.compare(boxes.iou, everything, eight.astype(np.float32), repeat=5)

# %% questions [markdown]
# ## Five questions
#
# Click on an answer to see whether it is right, and why.

# %% quiz
course.quiz("""
    A folder has 400 images. The validator reports that 80 of them have a box beyond the
    border. What do you do first?
    [ ] Load the folder with on_error="skip".
        Then all objects in these images that touch the border are missing from the
        training.
    [ ] Clip all boxes, and train.
        If the images were shrunk after the annotation, clipping makes every box wrong and
        valid.
    [x] Look at some of these images with their boxes.
        The same report can have several causes, and each cause needs another repair.

    An anchor has the size 20, and its cell is exactly at the centre of a square object of
    size 40. What is the IoU?
    [ ] 0.5
        The sides differ by a factor of 2, the areas by a factor of 4.
    [x] 0.25
        The anchor lies inside the object, so the IoU is (20 / 40)², the quotient of the
        areas.
    [ ] It depends on the stride.
        The stride decides where the centres are. Here, they are equal.

    Images of 600 × 800 pixels are resized to a short side of 300. Their objects have sizes
    of about 60 pixels. Which anchor size fits?
    [x] 30
        Anchors are in pixels of the batch, in which everything is half as large.
    [ ] 60
        This is the size in the file. The network never sees the file's pixels.
    [ ] 120
        Resizing from 600 to 300 halves the objects. It does not double them.

    All digits have a proposal, nearly all are detected, but many with the wrong class, even
    on training boards. What is the most promising next step?
    [ ] Other anchors
        The anchors have done their work: every object has a proposal.
    [ ] More boards for training
        The detector does not yet know the boards that it has seen.
    [x] More training steps
        Errors on the training images mean that the detector has not learned enough from
        them.

    A plan starts from weights with 91 classes, and your folder has 3. What happens to the
    last layer?
    [ ] Its first three rows are used.
        These rows belong to other classes. rcnn never copies a part of a parameter.
    [x] Its weights are skipped and reported, and it starts from random weights.
        All other layers keep their weights. The report tells you that nothing else was
        skipped.
    [ ] The training stops with an error.
        It would without `skip_mismatched`. A plan sets this option, because a new task
        usually has other classes.
""")

# %% next [markdown]
# ## What you have learned
#
# - Look at the images, validate the annotations and repair them before you train.
# - Fit the anchors in pixels of the batch. On small objects, the stride limits the coverage.
# - Start from weights of a similar task, write a plan, and let the weakest stage decide what to do next.
#
# ## Exercises without solutions
#
# **Warm-up** (minutes)
#
# 1. Print the coverage of `course.photos.Coins(40)` by the anchors of the small network, with a short side of 96 and a
#    long side of 192 pixels. Which of their sizes do the coins need?
# 2. Keep the anchors of the small network: `dataclasses.replace(begun, anchors=None)`. What changes, and why so little?
#
# **Core** (half an hour)
#
# 3. How many boards are enough? Train on `boards.subset(range(n))` for $n$ = 5, 10, 20, 40, from the weights of digits.
# 4. `dataclasses.replace(recipe, flip=0.5)` mirrors half of the boards. For which digits does the AP decrease?
#
# **Stretch** (an evening)
#
# 5. Train on faults: add 3 pixels to x1 and x2 of every box before you write the folder. What do `validate` and the
#    doctor report? What is the AP at an IoU of 0.75 (`evaluate.evaluate(..., iou_threshold=0.75)`)?
#
# ## Where to go next
#
# Notebook 15 is the capstone: it leads from a folder of real photos to a written report. `docs/annotating.md` shows how
# to annotate your own photos, and `docs/your_own_images.md` how to train on them. `rcnn/data` reads the folders, and
# `rcnn/train/defaults.py` chooses the settings. [5] measures how well features transfer.
