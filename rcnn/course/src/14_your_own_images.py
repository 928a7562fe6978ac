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
# **The question.** There is a folder of images in which somebody has drawn boxes. What has to happen between it and a
# detector whose numbers one can believe, in which order, and how long does it take without a GPU?
#
# | | step | with | what goes wrong without it |
# |---|---|---|---|
# | 1 | read the folder | `data.load` | boxes in somebody else's convention (notebook 02) |
# | 2 | look for faults, and mend them | `data.validate` | a detector that learns from lies |
# | 3 | fit the anchors | `evaluate.coverage`, `evaluate.suggest` | objects that no anchor can learn (notebook 04) |
# | 4 | decide, and write down what was decided | `plan` | a result that nobody can repeat |
# | 5 | train, from weights that know something | `train.fit` | hours where minutes do |
# | 6 | measure, and find the weakest stage | `evaluate`, `doctor` | a number without a reason |
#
# You will write `repair`, after which the validator is silent, and `choose_anchors`, which reaches a stated coverage on
# pages that it has not seen. At the end come a real photo with the pyramid of a large detector, and a folder of yours.
#
# [1] Ren, He, Girshick, Sun: *Faster R-CNN*, 2015 (arXiv 1506.01497). [2] Lin, Dollár, Girshick, He, Hariharan,
# Belongie: *Feature Pyramid Networks*, 2017 (arXiv 1612.03144). [3] Redmon, Farhadi: *YOLO9000*, 2017 (arXiv
# 1612.08242). [4] Lin et al.: *Microsoft COCO*, 2014 (arXiv 1405.0312). [5] Yosinski, Clune, Bengio, Lipson: *How
# transferable are features in deep neural networks?*, 2014 (arXiv 1411.1792).

# %% settings
FOLDER = None  # at the end of the notebook: "voc:photos", "coco:photos", "csv:photos" or "masks:photos"
COCO_WEIGHTS = None  # "coco" fetches 160 MB once; or the path of such a .pth or .safetensors file

import dataclasses
import tempfile
from pathlib import Path

import numpy as np
from PIL import Image
from sklearn.datasets import load_sample_image

import rcnn
from rcnn import anchors, boxes, checks, course, data, doctor, evaluate, plot, train, transform
from rcnn.train import defaults, plan

rcnn.set_num_threads(1)  # enough for small images
scratch = tempfile.TemporaryDirectory()  # goes with the notebook
root = Path(scratch.name)

# %% folder [markdown]
# ## 1  A folder
#
# So that everything here runs offline, we make a folder such as an annotation program leaves behind: images in
# `JPEGImages`, an XML file in VOC's form for each in `Annotations`, and in `ImageSets/Main` two lists, `train.txt` and
# `val.txt`, of which is for what. The images are blackboards: pages of handwritten digits, as the shipped detector
# knows them, but in white on dark. The detector has never seen one.
#
# A data set is any class with a length, `classes`, and `[i]` giving `(image, target)`; so a few lines make one of
# another. `data.write_voc` writes it. What is read back has the same boxes to the last bit, and says more of each object:
# whether it is `difficult` or `truncated`, which VOC's files state; whether it is a `crowd`, which COCO's do; its area.
#
# Then look, before anything else; `rcnn check` draws sixteen images, as `plot.contact_sheet` does. And let the
# validator look. It is silent here, and it should be, for this folder was written by a program.


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
print(*(f"{name} {array.shape} {array.dtype}" for name, array in boards[0][1].items()), "", sep="\n")
print(data.validate(boards, progress=False))

figure = plot.figure(10, 2.6)
for ax, index in zip(figure.subplots(1, 4), (0, 3, 7, 11), strict=True):
    image, target = boards[index]
    plot.boxes(plot.image(ax, image), target["boxes"], target["labels"], class_names=boards.classes)
    plot.title(ax, f"Board {index}")
figure

# %% damage [markdown]
# ## 2  What people leave behind
#
# Folders that people made are seldom clean. The next cell writes twelve more boards and damages six, in the files
# themselves, as it happens: an image is lost; a class is written in other letters (the classes are called `zero` to
# `nine` here); two corners are exchanged; a box is drawn beyond the border; an image is shrunk after it was annotated;
# an object is annotated twice.
#
# `data.load` refuses such a folder at the first fault, naming file and box. `data.read_annotations` gives what is
# written, right or wrong, and this is what `validate` reads, so that one fault does not hide the next.
#
# > **What people get wrong.** `on_error="skip"` trains without what is wrong, and says what it left out. It is there for
# > the one file in a thousand. If a fifth of a folder goes that way, what is left is no sample of it any more: if it is
# > images with objects at the border that go, the detector learns little of just these.

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
edit(10, lambda xml: xml.replace("<xmax>152", "<xmax>167"))  # of 160
Image.open(photos / "train_000008.png").resize((80, 60)).save(photos / "train_000008.png")
edit(9, lambda xml: xml.replace("<object>", "<object>" + xml.split("<object>")[1] + "<object>", 1))

damaged = data.read_annotations(f"voc:{root / 'damaged'}", None)
for problem in data.validate(damaged, progress=False, to_learn=False).problems:
    print(f"{problem.kind} ({problem.count}): {problem.sentence}\n    {problem.examples[0]}")

# %% repair [markdown]
# **Your turn.** What is wrong can be read off a record, and all but the lost image can be saved. A `Record` holds
# `image` (a path), `size` (the height and width that the annotation states), `boxes` (G, 4), `names` (G,) as they are
# written, and `labels` (G,), which are -1 where the name is none of the classes; then `difficult`, `crowd`, `truncated`
# and `areas`, (G,) each. `names` is a tuple, the others are arrays. `Image.open(path).size` is a file's (width, height),
# in this order. `annotations` has `records`, a list, and `classes`, the background first.
#
# Records and annotations are frozen: `dataclasses.replace(record, boxes=...)` makes another. Think about the order: what
# happens to a box of a shrunk image that is cut at the border first? And what shall become of two boxes that differ in
# their corners' order alone?
#
# One more question, which no program answers: a box that reached beyond the border ends there afterwards. Is it right?


# %% repair-yours
def repair(annotations):
    """The Annotations with every fault mended, as a new object; what was given stays as it was.

    - A record whose image does not exist is left out; every other one stays.
    - A name that differs from a class in capitals alone becomes the class, in `names` and in `labels`.
    - Where x2 < x1 or y2 < y1, the two are exchanged.
    - Where `size` is not that of the file, boxes are multiplied by the file's width or height over the
      stated one, and `size` becomes the file's, as (height, width).
    - Boxes end at the border of their image.
    - Of objects with the same box and the same class, one stays.
    - All arrays, and `names`, keep a row per object: the row that belongs to it. What `areas` says is free.
    """
    ### BEGIN SOLUTION
    lower = [name.lower() for name in annotations.classes]
    records = []
    for record in annotations.records:
        if not record.image.exists():
            continue
        with Image.open(record.image) as file:
            width, height = file.size
        stated = record.size or (height, width)
        y, x = height / stated[0], width / stated[1]
        corners = (record.boxes * [x, y, x, y]).reshape(-1, 2, 2)  # (G, 2, 2)
        found = np.concatenate([corners.min(axis=1), corners.max(axis=1)], axis=1)  # (G, 4)
        found = boxes.clip(found, (height, width))
        labels = np.array([lower.index(name.lower()) for name in record.names], np.int64)  # (G,)
        rows = [(*box, label) for box, label in zip(found.tolist(), labels.tolist(), strict=True)]
        kept = [i for i, row in enumerate(rows) if row not in rows[:i]]
        arrays = {name: getattr(record, name)[kept] for name in ("difficult", "crowd", "truncated")}
        records.append(
            dataclasses.replace(
                record,
                size=(height, width),
                boxes=found[kept],
                labels=labels[kept],
                names=tuple(annotations.classes[label] for label in labels[kept]),
                areas=record.areas[kept] * x * y,
                **arrays,
            )
        )
    return dataclasses.replace(annotations, records=records)
    ### END SOLUTION


# %% repair-check points=4
checks.repair(repair)

mended = repair(damaged)
problems = data.validate(mended, progress=False, to_learn=False).problems
print("left to mend:", ", ".join(problem.kind for problem in problems) or "nothing")
four = [i for i, record in enumerate(mended.records) if record.image.stem[-2:] in ("04", "08", "09", "10")]
figure, clean = plot.figure(10, 2.6), data.AnnotatedImages(mended)
titles = {"04": "Exchanged corners", "08": "Shrunk", "09": "Annotated twice", "10": "Beyond the border"}
for ax, index in zip(figure.subplots(1, 4), four, strict=True):
    image, target = clean[index]
    plot.boxes(plot.image(ax, image), target["boxes"], target["labels"], class_names=mended.classes)
    plot.title(ax, titles[mended.records[index].image.stem[-2:]])
figure

# %% coverage [markdown]
# The box that was beyond the border is the one at the right edge of the last board: it is legal now, and still too wide.
# A validator asks for what is possible. Whether it is true, somebody has to look.
#
# ## 3  Anchors that fit
#
# An anchor is positive where its IoU with an object is 0.7 or more ([1] section 3.1.2). *Coverage* asks of each object:
# what is the highest IoU that any anchor has with it? A *size* is the square root of an area. The paper's anchors have
# the sizes 128, 256 and 512 pixels, those of the ready-made small network 14, 24 and 40, and most digits lie between 10
# and 40. Predict: for what share of them do the paper's anchors reach 0.5, and 0.7? And the small network's?

# %% coverage-shown
model = rcnn.faster_rcnn_small(boards.classes, min_size=120, max_size=240)  # boards as they are, 120 × 160
strides = model.strides()
sets = {
    "the paper's": anchors.AnchorGenerator((128, 256, 512), (0.5, 1, 2)),
    "ready-made": model.anchor_generator,
}
covered = {
    name: evaluate.coverage(boards, generator, strides, 120, 240, progress=False)
    for name, generator in sets.items()
}
for name, of_set in covered.items():
    print(f"{name:<13}at least 0.5: {of_set.recall(0.5):6.1%}   at least 0.7: {of_set.recall(0.7):6.1%}")

figure = plot.figure(10, 4)
left, right = figure.subplots(1, 2)
before = covered["ready-made"]
cell = anchors.cell_anchors(model.config.anchor_sizes, model.config.aspect_ratios)
plot.coverage(left, before.sizes, before.ratios, before.best_iou, cell)
plot.title(left, "Objects and ready-made anchors")
plot.title(plot.coverage_histogram(right, before.best_iou), "How well these cover them")
figure

# %% reach [markdown]
# ### How far an anchor reaches
#
# Remember the table of notebook 04. Lay an anchor of size $s$ on an object of the same shape, with the same centre, and
# of size $S > s$. All of the anchor is inside, so $\mathrm{IoU} = (s / S)^2$. Let the areas be equal instead, and one
# ratio $f$ times the other: each side then differs by $\sqrt f$, one way and the other, and
#
# $$ \mathrm{IoU} = \frac{1}{2 \sqrt f - 1} . $$
#
# Ask for 0.7. A size may be wrong by a factor of $1 / \sqrt{0.7} = 1.2$ either way, a ratio by $f = 1.47$. So *sizes must
# be close, ratios need not be*: one size covers objects whose sizes differ by 1.43, one ratio those that differ by 2.2.
# What [3] section 2 finds by clustering, for a detector of its own kind, follows the same measure: IoU, not distance.
#
# And the centres differ. Anchors stand on a grid, so an object lies up to half a stride off, along x and along y. Of a
# square of 12 pixels, 4 off both ways, an anchor of the same size covers $8 \times 8$ pixels, and the IoU is
# $64 / (2 \cdot 144 - 64) = 0.29$. No square does better than 0.36, that of 20 pixels which just contains it. With a
# stride of 8, *no choice of sizes* reaches 0.7 on all small objects. The next cell separates the two causes: it enlarges
# images and anchors alike, and leaves the stride.

# %% reach-shown
sizes_of, ratios_of = model.config.anchor_sizes, model.config.aspect_ratios
for factor in (1, 2, 3):
    larger = anchors.AnchorGenerator(tuple(factor * size for size in sizes_of), ratios_of)
    one = evaluate.coverage(boards, larger, strides, factor * 120, factor * 240, progress=False)
    print(
        f"boards of {factor * 120} × {factor * 160}, sizes {larger.sizes}: "
        f"0.5 for {one.recall(0.5):.1%}, 0.7 for {one.recall(0.7):.1%}, "
        f"{one.num_positive.mean():.1f} positive each"
    )

# %% choose [markdown]
# Larger images cost four or nine times the work. It is the price of small objects, and why a pyramid, whose first level
# has a stride of 4, is worth its own ([2] section 4.1).
#
# **Your turn.** Choose at most three sizes and three ratios for images of which you know only the data set. What is asked
# for: on *other* images of the same kind, at least **99%** of the objects have an anchor of an IoU of 0.5, and **90%** one
# of 0.7. The images are drawn afresh, three kinds of them: with wide, with nearly square and with tall objects, whose sizes
# differ by a factor of about 2.4 and whose ratios by about 2. `evaluate.suggest` finds such anchors by search, and you may
# call it; but a few lines that know what the last section says will do.
#
# > **What people get wrong.** Anchors are in pixels of the *batch*, the boxes of a data set in pixels of their images.
# > If 600 pixels become 800, an object of 60 becomes one of 80. If you fit anchors to all images, those of
# > validation included, you measure a little of your own choice.


# %% choose-yours
def choose_anchors(dataset, strides, min_size, max_size):
    """(sizes, ratios): at most three of each, that cover the objects of images like these.

    dataset: has a length; dataset[i] is (image (h, w, 3), {"boxes": (G, 4), "labels": (G,)}), G may be 0.
    strides: [(rows, columns)] of the one level.
    min_size, max_size: decide how images are resized, as `transform.resized_size` says.
    sizes are square roots of areas in pixels of the resized image; ratios are height / width.
    """
    ### BEGIN SOLUTION
    found_sizes, found_ratios = [], []
    for i in range(len(dataset)):
        image, target = dataset[i]
        resized = transform.resized_size(image.shape[:2], min_size, max_size)
        scaled = transform.scale_boxes(target["boxes"], image.shape[:2], resized)  # (G, 4)
        width, height = (scaled[:, 2:] - scaled[:, :2]).T  # (G,) each
        found_sizes.append(np.sqrt(width * height))
        found_ratios.append(height / width)
    middles = (1 / 6, 1 / 2, 5 / 6)  # of three equal parts
    return (
        np.quantile(np.concatenate(found_sizes), middles),
        np.quantile(np.concatenate(found_ratios), middles),
    )
    ### END SOLUTION


# %% choose-check points=4
checks.choose_anchors(choose_anchors)

chosen = choose_anchors(boards, strides, 120, 240)
mine = anchors.AnchorGenerator(*(tuple(map(float, numbers)) for numbers in chosen))
on_unseen = evaluate.coverage(unseen, mine, strides, 120, 240, progress=False)
print("sizes", np.round(chosen[0], 1), "  ratios", np.round(chosen[1], 2))
print(f"unseen boards: 0.5 for {on_unseen.recall(0.5):.1%}, 0.7 for {on_unseen.recall(0.7):.1%}")

# %% suggest [markdown]
# ### What a search finds
#
# `evaluate.suggest` goes on from such a start: it moves one number at a time to where recall at 0.5, recall at 0.7 and the
# mean of the best IoU rise most, judged by the true grid and rounding. Given the anchors to beat, it never falls below
# them. Below is what it finds with as many numbers as the ready-made anchors have. On these small images the stride is
# the limit, for your anchors as well. Where objects are unlike the digits that the ready-made anchors were made for, the
# choice decides.

# %% suggest-shown
found = evaluate.suggest(
    boards, strides, 120, 240, num_ratios=2, generator=model.anchor_generator, progress=False
)
print(found)
after = evaluate.coverage(unseen, found.generator, strides, 120, 240, progress=False)
print(f"on unseen boards: 0.5 for {after.recall(0.5):.1%}, 0.7 for {after.recall(0.7):.1%}")

figure = plot.figure(10, 3.8)
left, right = figure.subplots(1, 2)
plot.title(plot.coverage_histogram(left, found.before.best_iou), "Before", "boards to train with")
plot.title(plot.coverage_histogram(right, found.after.best_iou), "After", "boards to train with")
figure

# %% plan [markdown]
# ## 4  A plan, written down and followed
#
# `defaults.for_dataset` makes the plan that `rcnn train voc:FOLDER` follows; `defaults.resolve` fills in what the data
# decide: class names, anchors. As a TOML file it says everything, and with the same files it gives the same weights,
# bit for bit. A few lines of it are ours here: few steps of four boards, for this is a notebook, with a short warm-up and
# no validation on the way, and `weights`. They name what to begin with: the shipped detector of dark digits on light
# paper. It was made for another task, but a near one, and features transfer the better, the nearer the tasks are ([5]).
#
# The plan is then followed twice, once from these weights and once from random ones: 80 steps of four boards, less than
# three passes through the folder. Predict the average precision of both on the 40 unseen boards, and that of the shipped
# detector as it is, which reads pages of dark digits at 0.98.

# %% plan-written
rcnn.save(root / "digits.safetensors", rcnn.load_digits())
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
print(f"({len(lines)} lines in all)")

# %% train-done
from_digits, left_out = decided.make_model()
print("left out of the weights:", ", ".join(left_out) or "nothing, for the classes are the same")
from_random, _ = dataclasses.replace(decided, weights=None).make_model()
runs = {
    "from the weights of digits": train.fit(from_digits, boards, recipe, progress=False),
    "from random weights": train.fit(from_random, boards, recipe, progress=False),
}
names = ("the shipped detector as it is", *runs)
for name, one in zip(names, (rcnn.load_digits(), from_digits, from_random), strict=True):
    result = evaluate.evaluate(one, unseen, progress=False)
    print(f"{name:<31}AP at IoU 0.5: {result.mean_ap:.3f}")

figure = plot.figure(8, 3.4)
totals = {name: run.history["total_loss"] for name, run in runs.items()}
plot.loss_curves(figure.subplots(), totals, smoothing=8)
figure

# %% evaluation [markdown]
# What the shipped detector knows of dark digits is worth nothing on boards as it is, and nearly everything after a few
# steps. Random weights get there as well, with more of everything: from 400 pages of dark digits they reach about 0.95 in
# 2,400 steps. This is what `weights = "coco"` is for, and `weights_backbone = "imagenet"`: on photos, begin with a network
# that has seen photos.
#
# > **What people get wrong.** A new task has other classes, and the last layer has other shapes. `load_into(model, path,
# > skip_mismatched=True)` leaves out what does not fit and *says* what; a plan does the same. A loader that skips in
# > silence will also skip a backbone whose names have another prefix, and then one trains from random weights and wonders.
#
# ## 5  Measure, and ask where it breaks
#
# One number says how good a detector is, and not why. The doctor walks through the stages and gives each its own number,
# on boards that were trained on and on others. Read it from the top: a stage cannot be better than what it is handed. The
# boards below it show detections from a score of 0.5 on, and the ground truth dashed; the doctor counts those with low
# scores, too. Which stage would you work on next?

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
    plot.detections(ax, image, one["boxes"], one["scores"], one["labels"], unseen.classes, target["boxes"])
    plot.title(ax, f"Unseen board {index}", f"{len(one['boxes'])} detections with a score of at least 0.5")
figure

# %% time [markdown]
# Nearly every object gets a proposal, and nearly every proposed object is detected: what remains to be learned is which
# digit it is, and the doctor shows this on boards that were trained on, too. So more steps come first, then more boards.
#
# How long does the real thing take? On two threads of the machine on which the README was measured, a step of this
# network (four pages of 128 × 128) takes 43 ms. A folder of 800 such pages gets 4,800 steps of two pages from
# `rcnn train`, about two minutes there, and ends at an AP of 0.98. Images of twice the side take about four times as
# long, and a ResNet-50 with a pyramid has a multiple of this network's layers and channels: at 800 × 1200, a training
# step takes a processor some seconds. So `rcnn train` brings images of one's own to a short side of at most 320 pixels
# and fits the anchors to that. How long a step then takes on your machine, its progress bar says; whether the night is
# long enough, you can work out before it begins.
#
# ## 6  A photo, and the detector of COCO
#
# The public detector on a ResNet-50 with a pyramid knows the 80 classes of COCO [4]. Its weights are 160 MB, so this
# notebook does not fetch them unless `COCO_WEIGHTS` at the top says so. But what a photo meets on its way needs no
# weights: it is resized to 800 × 1199, padded to 800 × 1216, and five levels of anchors are laid on it, one size each,
# three ratios ([2] section 4.1). Each panel shows the anchors of the cell that is nearest to the pagoda's middle. Before
# you look: which level covers the pagoda, which is about 370 pixels high in the photo, and so about 700 in the batch?

# %% photo-shown
photo = load_sample_image("china.jpg")  # (427, 640, 3)
pagoda = np.array([[63, 29, 372, 400]], float)  # drawn by hand, down to where the trees begin
imagenet = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)  # mean, deviation
batch = transform.make_batch([photo], 800, 1333, *imagenet)
padded, resized = batch.images.shape[2:], batch.image_sizes[0]
pyramid = anchors.AnchorGenerator([(size,) for size in (32, 64, 128, 256, 512)], (0.5, 1.0, 2.0))
features = [(-(-padded[0] // stride), -(-padded[1] // stride)) for stride in (4, 8, 16, 32, 64)]
levels = pyramid(padded, features)  # five of (A_l, 4)
object_box = transform.scale_boxes(pagoda, photo.shape[:2], resized)
in_batch = transform.to_images(batch, *imagenet)[0]

figure = plot.figure(10, 5.8)
middle = (object_box[0, :2] + object_box[0, 2:]) / 2
*axes, last = figure.subplots(2, 3).flat
for ax, level, (rows, columns) in zip(axes, levels, features, strict=True):
    plot.anchor_level(ax, in_batch, level, near=middle, max_dots=19)
    best = boxes.iou(level, object_box).max()
    plot.title(ax, f"{rows} × {columns} cells, best IoU {best:.2f}", f"anchors {level.shape}")
plot.title(plot.boxes(plot.image(last, in_batch), object_box), "The pagoda", f"{resized[0]} × {resized[1]}")
figure

# %% coco [markdown]
# No anchor reaches 0.7 on the pagoda: it is larger than the largest size. Such an object is learned all the same, because
# the best anchor of an object is positive whatever its IoU ([1] section 3.1.2, notebook 05). In a folder full of
# pagodas, `evaluate.suggest` would move the sizes.
#
# The next cell is what one would write in a script. With `COCO_WEIGHTS = "coco"` it downloads the file once, checks it
# against its hash and keeps it; with a path it reads that file. This page was made without, and says no more than that.
# torchvision's detector gives the same boxes from the same file, to the last decimals that float32 allows. Do not expect
# the pagoda to be found: COCO has no such class, and a detector can only name what it was taught. Boats and people are
# among what it knows.

# %% coco-shown
figure = None
if COCO_WEIGHTS is None:
    print('nothing is detected here: COCO_WEIGHTS is None; "coco" fetches the weights (160 MB, once)')
else:
    detector = rcnn.faster_rcnn_resnet_50_fpn(weights=COCO_WEIGHTS)
    one = detector.predict([photo], score_thresh=0.5)[0]
    figure = plot.figure(10, 6)
    ax = plot.detections(
        figure.subplots(), photo, one["boxes"], one["scores"], one["labels"], detector.config.class_names
    )
    plot.title(ax, "The public detector of COCO", f"{len(one['boxes'])} detections, score at least 0.5")
figure

# %% own [markdown]
# ## 7  Your folder
#
# Set `FOLDER` at the top, and the cell below does steps 1 to 4 with your images: the report, three images to look at,
# what the anchors cover before and after, and the plan. Images that cannot be used are in the report, and left out of
# what follows it. The rest is long enough for a terminal; a run is named after its folder:
#
#     rcnn check voc:photos
#     rcnn train voc:photos --model resnet50 --plan run.toml
#     # then edit run.toml: weights = "coco" below [model]
#     rcnn train run.toml
#     rcnn eval voc:photos --weights runs/photos --errors --plots plots
#     rcnn doctor runs/photos
#
# As long as `FOLDER` is `None`, the boards take the place of your images.

# %% own-shown
own_spec = FOLDER or spec
report = data.validate(data.read_annotations(own_spec, "train"), progress=False)
print("\n".join(map(str, report.problems)) or "no problems found")
print("training may start" if report.ok else "training must not start")

left_out = {} if report.ok else {"on_error": "skip"}
own = data.load(own_spec, "train", options=left_out)
first = defaults.for_dataset(own_spec, options=left_out)
print(f"short side {first.settings['min_size']}, {first.recipe.steps} steps of {first.recipe.batch_size}")
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
for ax, index in zip(figure.subplots(1, 3), np.linspace(0, len(own) - 1, 3).astype(int), strict=True):
    image, target = own[index]
    plot.boxes(plot.image(ax, image), target["boxes"], target["labels"], class_names=own.classes)
    plot.title(ax, f"Image {index}", f"{image.shape}, {len(target['boxes'])} objects")
figure

# %% number [markdown]
# ## A number to check
#
# How many anchors does the photo of section 6 get? The padded batch is 800 × 1216, the strides are 4, 8, 16, 32 and 64,
# what does not divide is rounded up (800 / 64 = 12.5 gives 13 rows), and each cell has three anchors:
#
# $$ 3 \, (200 \cdot 304 + 100 \cdot 152 + 50 \cdot 76 + 25 \cdot 38 + 13 \cdot 19) = 242{,}991 . $$
#
# The cell counts the rows of the arrays. In training all of them are held against all objects, so it also measures what
# that costs, in the reference and in the kernel, here for eight objects.

# %% number-shown
everything = np.concatenate(levels)
print("anchors:", len(everything), "=", " + ".join(str(len(level)) for level in levels))
eight = np.concatenate([object_box + [40 * i, 0, 40 * i, 0] for i in range(8)]).astype(np.float32)
course.compare(boxes.iou, everything, eight, repeat=5)

# %% next [markdown]
# ## To try
#
# 1. How few boards are enough? Train on `boards.subset(range(n))` for $n$ = 5, 10, 20, 40, from the weights of digits.
# 2. Leave the anchors as they were for digits: `dataclasses.replace(begun, anchors=None)`. What changes, and why so
#    little?
# 3. Train on the faults: add 3 pixels to x1 and x2 of every box before writing the folder. What does `validate` say, what
#    does the doctor say, and what does AP at an IoU of 0.75 say (`evaluate.evaluate(..., iou_threshold=0.75)`)?
# 4. `dataclasses.replace(recipe, flip=0.5)` mirrors every second board. Which digits does it cost?
