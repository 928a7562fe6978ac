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
#     seconds: 120
# ---

# %% question [markdown]
# # Capstone: from photos to a report
#
# *Goals.* After this notebook, you can
#
# - take a folder of annotated photos through all steps: look, check, repair, split, train, evaluate, diagnose;
# - find photos that are in both splits, although their files differ;
# - state an average precision (AP) with its spread over seeds and its confidence interval;
# - sort the errors of a detector by kind, and find faults in the annotations with the detector;
# - plan one experiment, and write a report that another person can check.
#
# *Prerequisites.* Notebooks 12 (average precision), 13 (failures) and 14 (your own images).
#
# *Time.* About three hours with the coins, and a week for a project with your own photos.
#
# **The question.** You report "AP 0.9". Why should a reader believe that the detector works on *new* photos?
#
# The notebook runs on photos of coins. You can follow it once with the coins, and then with your own photos: set
# `FOLDER` below. Keep notes while you work. Section 11 is a template for your report, and section 12 lists the five
# criteria by which it can be graded.
#
# *History.* In 2011, Torralba and Efros [1] trained detectors on one data set and tested them on another. The results
# were much worse than on the same data set. The test photos of a data set resemble its training photos more than they
# resemble the world.
#
# [1] Torralba, Efros: *Unbiased Look at Dataset Bias*, 2011. [2] Efron: *Bootstrap Methods: Another Look at the
# Jackknife*, 1979. [3] Bolya, Foley, Hays, Hoffman: *TIDE: A General Toolbox for Identifying Object Detection Errors*,
# 2020 (arXiv 2008.08115). [4] Barz, Denzler: *Do We Train on Test Data? Purging CIFAR of Near-Duplicates*, 2020 (arXiv
# 1902.00423). [5] Bouthillier et al.: *Accounting for Variance in Machine Learning Benchmarks*, 2021 (arXiv 2103.03098).

# %% settings
# Your folder, such as "labelme:my-photos" or "voc:photos"; None: photos of coins.
FOLDER = None
# Groups of photos for validation; (): a fifth of the photos, chosen at random.
HELD_OUT = ("tray2",)

import dataclasses
import io
import json
import tempfile
import textwrap
from collections import Counter
from pathlib import Path

import numpy as np
from PIL import Image

import rcnn
from rcnn import boxes, checks, course, data, doctor, evaluate, plot, train
from rcnn.course import photos
from rcnn.plot import style
from rcnn.train import defaults

rcnn.set_num_threads(1)  # on small images, more threads save little time
scratch = tempfile.TemporaryDirectory()  # deleted when the notebook ends
root = Path(scratch.name)


def require(condition, message):
    """Raise CheckFailed with a message unless a condition of a check holds."""
    if not condition:
        raise checks.CheckFailed(message)


# %% folder [markdown]
# ## 1  A folder of photos
#
# For your own project, take about a hundred photos and annotate them with labelme, a well-kept program that runs on
# your computer. The page `docs/annotating.md` explains each step, and lists other programs that rcnn reads. Three rules
# matter most: annotate *every* object of your classes, draw boxes close to the visible part, and decide doubtful cases
# in the same way in all photos.
#
# The next cell writes such a folder: 64 photos of two trays of coins, with one labelme file beside each photo. They are
# crops of one real photo, which scikit-image contains. Tray 1 consists of the 12 coins in its two upper rows, and tray 2
# of the 12 coins in its two lower rows. The rule for doubtful cases: a coin is annotated if at least a quarter of it is
# in the photo.
#
# A folder that people made has faults, and so has this one: the cell plants nine. With `FOLDER` set, the cell does
# nothing.


# %% folder-made
def write_photo(name, image, target, quality=95):
    """Write a photo and its labelme file."""
    Image.fromarray(image).save(root / "coins" / f"{name}.jpg", quality=quality)
    shapes = [
        {
            "label": "coin",
            "points": [box[:2], box[2:]],
            "shape_type": "rectangle",
            "flags": {},
        }
        for box in target["boxes"].tolist()
    ]
    size = {"imageHeight": image.shape[0], "imageWidth": image.shape[1]}
    sheet = {
        "version": "5.0.0",
        "flags": {},
        "shapes": shapes,
        "imagePath": f"{name}.jpg",
        "imageData": None,
    }
    (root / "coins" / f"{name}.json").write_text(json.dumps(sheet | size))


def edit(name, change):
    """Change the labelme file of a photo in place."""
    path = root / "coins" / f"{name}.json"
    sheet = json.loads(path.read_text())
    change(sheet)
    path.write_text(json.dumps(sheet))


def plant_faults(first_tray):
    edit("tray1_03", lambda sheet: sheet["shapes"][0].update(label="cion"))
    edit("tray1_07", lambda sheet: sheet["shapes"].append(sheet["shapes"][0]))
    edit("tray1_11", lambda sheet: sheet["shapes"][-1]["points"][1].__setitem__(0, 141.0))
    photo = root / "coins" / "tray1_15.jpg"  # shrunk after the annotation
    Image.open(photo).resize((64, 48)).save(photo)
    for name in ("tray1_19", "tray1_23"):  # the first coin has no box
        edit(name, lambda sheet: sheet["shapes"].pop(0))
    (root / "coins" / "tray1_27.json").unlink()
    for name, index, gain, size in (
        ("tray2_22", 5, 1.15, (128, 96)),
        ("tray2_23", 9, 0.9, (112, 84)),
    ):
        image, target = first_tray[index]  # a copy with another name, brightness and size
        changed = np.clip(image * gain, 0, 255).astype(np.uint8)
        resized = np.asarray(Image.fromarray(changed).resize(size))
        write_photo(name, resized, {"boxes": target["boxes"] * (size[0] / 128)}, quality=80)


if FOLDER is None:
    (root / "coins").mkdir()
    trays = {
        "tray1": photos.Coins(40, "train", seed=15),
        "tray2": photos.Coins(22, "val", seed=15),
    }
    for tray, images in trays.items():
        for number in range(len(images)):
            write_photo(f"{tray}_{number:02d}", *images[number])
    plant_faults(trays["tray1"])
spec = FOLDER or f"labelme:{root / 'coins'}"
files = sorted((root / "coins").glob("*")) if FOLDER is None else []
print(*(f"{file.name:<14}{file.stat().st_size:>6} bytes" for file in files[:4]), sep="\n")
assert FOLDER or sum(file.suffix == ".jpg" for file in files) == 64

# %% real [markdown]
# ## 2  Look
#
# Before you compute anything, look at your photos and write down answers to five questions:
#
# 1. *Scale.* How many pixels do the smallest and the largest object have? (Compare them with the sizes of anchors,
#    notebook 04.)
# 2. *Clutter.* What else is in the photos, and what looks like an object but is not one?
# 3. *Occlusion.* Which objects hide others, and where does your box end?
# 4. *Light and camera.* Are all photos taken with the same camera, in the same place, on the same day?
# 5. *Groups.* Which photos show the same objects, or follow each other in a video?
#
# The six photos below are in scikit-image and scikit-learn. We drew the boxes by hand. **Predict** for each photo which
# of the first three questions makes it hard for a detector. Then look at the coins.

# %% real-shown
figure = plot.figure(11, 6.6)
names = ("chelsea", "coffee", "motorcycle", "astronaut", "rocket", "flower")
for ax, name in zip(figure.subplots(2, 3).flat, names, strict=True):
    image, target = photos.load(name)
    plot.boxes(
        plot.image(ax, image), target["boxes"], target["labels"], class_names=photos.CLASSES
    )
    sides = np.sqrt((target["boxes"][:, 2:] - target["boxes"][:, :2]).prod(axis=1))
    plot.title(ax, name, f"sizes in pixels: {', '.join(f'{side:.0f}' for side in sides)}")
course.show(
    figure,
    "Six real photos with boxes: a cat that fills the photo, and its eyes; a cup on a "
    "saucer, with a spoon that the cup partly hides; a motorcycle in front of a bench in "
    "a cluttered garage; an astronaut whose helmet hides her arm; a thin, tall rocket "
    "between towers; and two flowers, one of which is cut by the border.",
)

# %% look-shown
annotations = data.read_annotations(spec, None)
records = annotations.records
chosen = np.linspace(0, len(records) - 1, 9).astype(int)
shown = []
for i in chosen:
    with Image.open(records[i].image) as file:
        shown.append(np.asarray(file.convert("RGB")))
figure = plot.contact_sheet(
    shown,
    [records[i].boxes for i in chosen],
    [records[i].labels for i in chosen],
    annotations.classes,
    [records[i].image.stem for i in chosen],
)
course.show(
    figure,
    f"Contact sheet of {len(chosen)} photos with their boxes, {len(records)} photos in "
    f"total. Classes: {', '.join(annotations.classes[1:])}. Look for objects without a "
    "box, and boxes that do not fit.",
)

# %% check [markdown]
# The cat fills its photo, and its eyes are small (scale). The motorcycle stands in a cluttered garage (clutter). The
# cup hides a part of the spoon, and the helmet hides an arm of the astronaut (occlusion).
#
# ## 3  Check and repair
#
# `data.validate` finds faults that a program can see. **Predict**: nine faults were planted. Which of these can the
# validator find, and which can it not find?
#
# | fault | photos |
# |---|---|
# | a misspelt class | 1 |
# | an object that is annotated twice | 1 |
# | a box that extends beyond the photo | 1 |
# | a photo that was shrunk after it was annotated | 1 |
# | an object without a box | 2 |
# | a photo without a labelme file | 1 |
# | a copy of a photo of tray 1, saved as a photo of tray 2 | 2 |

# %% check-shown
report = data.validate(annotations, progress=False)
for problem in report.problems:
    example = str(problem.examples[0]).replace(f"{root}/", "")
    print(f"{problem.kind} ({problem.count}):\n    {problem.sentence}")
    print(textwrap.indent(textwrap.fill(example, 80), "    "))
seen = {problem.kind for problem in report.problems}
assert FOLDER or seen == {
    "few-examples",
    "duplicate-box",
    "box-outside",
    "size-mismatch",
    "unannotated-image",
}

# %% repair [markdown]
# The validator reports the first four faults and the missing file. It cannot know that a coin without a box is a coin.
# It finds photos with *the same pixels*, but the two copies have other pixels.
#
# Repair what it found. In your own folder, open the photos that the report names in labelme, correct them, and run the
# cell above again. For the coins, the next cell changes the labelme files as you would.
#
# > **What people get wrong.** They repair in code what they should look at. `tray1_15` has the wrong size in its file,
# > so the boxes can be scaled. If the photo had been *cropped*, the report would be the same, and scaling would place
# > every box beside its object. After each repair, look at the photo again.


# %% repair-done
def scale_to_file(sheet):
    """Scale the points of a photo that was resized after the annotation."""
    with Image.open(root / "coins" / sheet["imagePath"]) as file:
        factors = file.width / sheet["imageWidth"], file.height / sheet["imageHeight"]
        sheet["imageWidth"], sheet["imageHeight"] = file.size
    for shape in sheet["shapes"]:
        shape["points"] = [[x * factors[0], y * factors[1]] for x, y in shape["points"]]


if FOLDER is None:
    edit("tray1_03", lambda sheet: sheet["shapes"][0].update(label="coin"))
    edit("tray1_07", lambda sheet: sheet["shapes"].pop())
    edit("tray1_11", lambda sheet: sheet["shapes"][-1]["points"][1].__setitem__(0, 128.0))
    edit("tray1_15", scale_to_file)
annotations = data.read_annotations(spec, None)
report = data.validate(annotations, progress=False)
print(
    "remaining problems:", ", ".join(problem.kind for problem in report.problems) or "none"
)
print(
    f"{report.counts.images} photos, {report.counts.objects} objects of "
    f"{len(annotations.classes) - 1} class"
)
assert FOLDER or report.ok

# %% leaks [markdown]
# ## 4  Split
#
# The photos for validation must be new to the detector. Otherwise, the AP tells how well the detector remembers. A photo
# that is in both splits is a *leak*. In the test photos of CIFAR-10 and CIFAR-100, two known data sets for
# classification, 3 % and 10 % of the images have a near-duplicate among the training images [4].
#
# **Your turn.** Write `find_leaks`, which finds copies even if their brightness, size or compression differs:
#
# 1. Convert each photo to grey and reduce it to 16 × 16 pixels, as a vector $t$ of 256 numbers (`thumbnail` does this).
# 2. Subtract the mean of $t$, and divide by the norm: $u = (t - \bar t) / \lVert t - \bar t \rVert$. A brighter copy
#    $a t + b$ with $a > 0$ then has the same $u$. A uniform photo has the norm 0; it has no copies.
# 3. The correlation of two photos is $u \cdot v$. A pair with a correlation of at least 0.98 is a leak.
#
# What happens in step 3 if you forget to subtract the mean in step 2? Think of two photos in thick fog, in which all
# pixels have almost the same grey. The check contains two such photos.


# %% leaks-yours
def thumbnail(image):
    """Return a photo (H, W, 3) in grey, with 16 x 16 pixels, as floats (256,)."""
    small = Image.fromarray(image).convert("L").resize((16, 16), Image.Resampling.BOX)
    return np.asarray(small, float).ravel()


def find_leaks(train_photos, val_photos):
    """Return the list of pairs (i, j) for which val_photos[j] is a copy of train_photos[i].

    The pairs are in ascending order: by i, then by j. Without copies, the list is empty.
    train_photos, val_photos: lists of photos (H, W, 3) uint8 with any sizes. A list may be
    empty. The photos must not change.
    """

    ### BEGIN SOLUTION
    def units(images):
        vectors = np.array([thumbnail(image) for image in images]).reshape(
            -1, 256
        )  # (N, 256)
        vectors -= vectors.mean(axis=1, keepdims=True)
        norms = np.linalg.norm(vectors, axis=1, keepdims=True)
        return vectors / np.where(norms == 0, 1, norms)

    alike = units(train_photos) @ units(val_photos).T >= 0.98  # (T, V)
    return [(int(i), int(j)) for i, j in np.argwhere(alike)]
    ### END SOLUTION


# %% leaks-check points=3
def saved(image, gain=1.0, offset=0.0, size=None, quality=90):
    """Return a photo with another brightness and size, saved as JPEG and read again."""
    changed = Image.fromarray(np.clip(image * gain + offset, 0, 255).astype(np.uint8))
    buffer = io.BytesIO()
    changed.resize(size or changed.size).save(buffer, "JPEG", quality=quality)
    return np.asarray(Image.open(buffer).convert("RGB"))


bank = [
    photos.load(name)[0] for name in ("chelsea", "coffee", "rocket", "flower", "camera")
]
bank += [photos.Coins(8, "train", seed=1)[i][0] for i in range(8)]
black = np.zeros((30, 40, 3), np.uint8)
down, across = np.where(np.indices((16, 16)) < 8, -1, 1)  # (16, 16) each
patterns = [  # a correlation of 40 / sqrt(1600 + k * k) with the first one
    np.repeat((128 + 40 * down + k * across).astype(np.uint8)[:, :, None], 3, axis=2)
    for k in (0, 8, 9)
]
for train_photos, val_photos, expected, hint in (
    (bank[:5], bank[5:], [], "These photos are all different."),
    (bank, [bank[2].copy()], [(2, 0)], "val_photos[0] equals train_photos[2]."),
    (bank, [saved(bank[6])], [(6, 0)], "A copy that was saved as JPEG has other pixels."),
    (
        bank,
        [saved(bank[0], gain=0.6), saved(bank[7], 0.7, 60)],
        [(0, 0), (7, 1)],
        "Divide by the norm.",
    ),
    (
        bank,
        [bank[9], saved(bank[3], size=(320, 213))],
        [(3, 1), (9, 0)],
        "The size does not matter.",
    ),
    (
        bank[1:4],
        [bank[0], bank[2], bank[2]],
        [(1, 1), (1, 2)],
        "Pairs are sorted by i, then by j.",
    ),
    (
        [bank[4], bank[5], bank[4]],
        [bank[4]],
        [(0, 0), (2, 0)],
        "A photo may have several copies.",
    ),
    (
        [saved(bank[0], 0.2, 150)],
        [saved(bank[1], 0.2, 150)],
        [],
        "Different photos in fog. Subtract the mean.",
    ),
    (
        patterns[:1],
        patterns[1:],
        [(0, 0)],
        "The correlations are 0.981 and 0.976. At least 0.98 is a leak.",
    ),
    (bank[5:9], [255 - bank[5]], [], "A negative is not a copy: its correlation is -1."),
    ([black, bank[0]], [black + 90], [], "A uniform photo has the norm 0, and no copies."),
    (bank[:2], [], [], "There may be no photos."),
    ([], bank[:2], [], "There may be no photos."),
):
    before = [image.copy() for image in (*train_photos, *val_photos)]
    try:
        result = find_leaks(list(train_photos), list(val_photos))
    except (ValueError, IndexError) as error:
        message = f"find_leaks raises {type(error).__name__}: {error}\nHint: {hint}"
        raise checks.CheckFailed(message) from None
    require(
        isinstance(result, list),
        f"find_leaks returns {type(result).__name__}. Return a list of pairs.",
    )
    result = [tuple(int(index) for index in pair) for pair in result]
    require(
        result == expected,
        f"find_leaks returns {result}, expected {expected}.\nHint: {hint}",
    )
    same = map(np.array_equal, before, (*train_photos, *val_photos))
    require(all(same), "find_leaks changes a photo. Work on a copy.")

every = data.AnnotatedImages(annotations)
stems = [record.image.stem for record in annotations.records]
everything = [every[i][0] for i in range(len(every))]
pairs = [(i, j) for i, j in find_leaks(everything, everything) if i < j]
for i, j in pairs:
    print(f"{stems[j]} is a copy of {stems[i]}")
assert FOLDER or len(pairs) == 2

# %% groups [markdown]
# Copies are the obvious leak. The other one is hidden in question 5 above: photos of *the same objects*. If photos of
# tray 1 are in both splits, the detector is tested on coins that it knows. So split by *group*: all photos of a tray, a
# street, a patient or a video go to the same split. Here, the part of the file name before the first `_` is the group.
#
# The next cell drops the copies by name (add the names of yours), and splits.

# %% split-done
dropped = ("tray2_22", "tray2_23") if FOLDER is None else ()  # the copies in your folder
records = [record for record in annotations.records if record.image.stem not in dropped]
annotations = dataclasses.replace(annotations, records=records)
groups = [record.image.stem.split("_")[0] for record in records]
if HELD_OUT and set(HELD_OUT) < set(groups):
    in_val = [group in HELD_OUT for group in groups]
    sides = [
        [i for i, answer in enumerate(in_val) if answer == side] for side in (False, True)
    ]
    parts = [annotations.subset(side) for side in sides]
else:
    parts = data.split(annotations)
# The photos for training, and those for validation.
learnt, unseen = map(data.AnnotatedImages, parts)
classes = learnt.classes
for name, part in (("training", learnt), ("validation", unseen)):
    count = sum(len(part.annotation(i)[1]["boxes"]) for i in range(len(part)))
    print(f"{name:<12}{len(part):3d} photos, {count:4d} objects")
print("groups:", dict(Counter(groups)))
assert FOLDER or (len(learnt), len(unseen)) == (39, 22)

# %% choose [markdown]
# ## 5  Choose a detector, and the number to report
#
# Decide *before* the training which number you will report. Otherwise, you choose the one that looks best. Suppose that
# the detector is to measure the diameters of coins, to sort them by value. A box that is a third too large is then of no
# use, so the notebook reports the AP at an IoU of **0.75**.
#
# | your photos | detector | start from |
# |---|---|---|
# | small images, few classes, no GPU | `faster_rcnn_small` | the weights of digits, or random weights |
# | about a hundred photos or more | MobileNet with pyramid (`--model mobilenet`) | ImageNet weights |
# | many classes, small and large objects, hours of time | ResNet-50 with pyramid (`--model resnet50`) | COCO weights |
#
# The coins are small grey images, so the small network is enough. As in notebook 14, `defaults.for_dataset` proposes
# the settings, and `defaults.resolve` fits the anchors to the *training* photos. Write down what you change, and why:
# here 60 steps of four photos, so that a training takes seconds.

# %% choose-shown
rcnn.save(root / "digits.safetensors", rcnn.load_digits())
THRESHOLD, STEPS = 0.75, 60
plan = defaults.for_dataset(spec, steps=STEPS)
recipe = dataclasses.replace(plan.recipe, batch_size=4, warmup_steps=20, val_every=0)
plan = dataclasses.replace(plan, recipe=recipe, weights=str(root / "digits.safetensors"))
plan = defaults.resolve(plan, learnt, progress=False)
model, skipped = plan.make_model()
settings = model.config
side = settings.min_size, settings.max_size
print(
    f"short side {side[0]}; anchor sizes {np.round(settings.anchor_sizes, 1)}, ratios "
    f"{settings.aspect_ratios}"
)
print("skipped weights:", *(skipped or ["none"]), sep="\n    ")
for name, part in (("training", learnt), ("validation", unseen)):
    covered = evaluate.coverage(
        part, model.anchor_generator, model.strides(), *side, progress=False
    )
    half, strict = covered.recall(0.5), covered.recall(0.7)
    print(f"{name:<12}at least 0.5: {half:.0%}   at least 0.7: {strict:.0%}")

# %% train [markdown]
# ## 6  Train more than once
#
# The seed of a training decides the random weights, the order of the photos and the augmentation. With another seed, the
# same settings lead to another AP. A difference between two single trainings can therefore be luck. Train with three
# seeds at least, and report the mean with the lowest and the highest value [5].
#
# **Predict** the mean AP at IoU 0.5 and at IoU 0.75, and how far the three seeds are apart.


# %% train-done
def fitted(images, seed, steps=STEPS):
    """Return a detector trained on photos, and the history of its losses."""
    own = dataclasses.replace(recipe, seed=seed, steps=steps)
    model, _ = dataclasses.replace(plan, recipe=own).make_model()
    run = train.fit(model, images, own, progress=False)
    model.eval()
    return model, run.history


def average_precision(model, threshold=THRESHOLD):
    """Return the mean AP on the photos for validation."""
    return evaluate.evaluate(model, unseen, iou_threshold=threshold, progress=False).mean_ap


seeds = (0, 1, 2)
trained = [fitted(learnt, seed) for seed in seeds]
baseline = np.array([average_precision(model) for model, _ in trained])  # (3,)
at_half = np.array([average_precision(model, 0.5) for model, _ in trained])  # (3,)
for name, values in (("0.5", at_half), (f"{THRESHOLD}", baseline)):
    spread = f"from {values.min():.3f} to {values.max():.3f}"
    print(f"AP at IoU {name:<5} mean {values.mean():.3f}, {spread}")
assert FOLDER or (at_half.min() > 0.95 and 0.88 < baseline.min() < baseline.max() < 0.99)

detector, history = trained[0]  # the sections below examine the first detector
found, targets = evaluate.predictions(detector, unseen, progress=False)

# %% interval [markdown]
# ## 7  How certain is the number?
#
# The seeds are one source of chance, and the photos for validation are another: with other photos of the same kind, the
# AP would be different. The *bootstrap* [2] estimates how different. It needs no new photos:
#
# 1. Draw as many photos as there are, *with replacement*: some occur twice or more, others not at all.
# 2. Compute the AP of this sample.
# 3. Repeat this a few hundred times. The middle 95 % of the APs are the confidence interval: its limits are the
#    quantiles 0.025 and 0.975.
#
# **Your turn.** Write `bootstrap_interval`. Draw photos, not objects: the objects of a photo share light, scale and
# background, so they are not independent. **Predict**: is the interval wider or narrower than the range over the seeds?


# %% interval-yours
def bootstrap_interval(measure, count, draws, rng):
    """Return (low, high): the limits of the middle 95 % of a measure over resampled photos.

    measure: a function that takes `count` indices of photos, an array of integers of which
    some may be equal, and returns a number, or NaN if the photos have no objects. Call it
    once for each sample, and leave NaN out.
    count: the number of photos. draws: the number of samples. rng: the np.random.Generator
    to draw with, the only source of randomness.
    """
    ### BEGIN SOLUTION
    values = [measure(rng.integers(count, size=count)) for _ in range(draws)]
    low, high = np.nanquantile(values, [0.025, 0.975])
    return float(low), float(high)
    ### END SOLUTION


# %% interval-check points=3
def check_interval(count, draws, measure, expected, tolerance, hint, seed=0):
    """Compare an interval with the expected one, and look at the indices of the photos."""
    calls = []

    def watched(indices):
        calls.append(np.array(indices))
        return measure(calls[-1])

    result = bootstrap_interval(watched, count, draws, np.random.default_rng(seed))
    require(np.shape(result) == (2,), f"Return a pair (low, high), got {result!r}.")
    shapes = {indices.shape for indices in calls}
    require(
        shapes == {(count,)},
        f"Draw {count} of {count} photos each time, got the shapes {shapes}.",
    )
    require(len(calls) == draws, f"Draw {draws} samples, got {len(calls)}.")
    drawn = np.stack(calls)
    inside = drawn.dtype.kind in "iu" and drawn.min() >= 0 and drawn.max() < count
    require(inside, f"Indices are integers from 0 to {count - 1}.")
    require(
        np.allclose(result, expected, atol=tolerance),
        f"The interval is ({result[0]:.3f}, {result[1]:.3f}), expected ({expected[0]:.3f}, "
        f"{expected[1]:.3f}).\n"
        f"Hint: {hint}",
    )
    return drawn


check_interval(1, 50, lambda indices: 7.0, (7, 7), 1e-9, "All values are equal.")
# The mean of three indices from 0 to 2 is 0 in 1 of 27 samples, and 2 in another 1 of 27:
# both are more than 2.5 % of the samples.
check_interval(
    3,
    10000,
    np.mean,
    (0, 2),
    1e-9,
    "Draw with replacement. Take the quantiles 0.025 and 0.975.",
)
scores = np.linspace(0, 1, 400)
half = 1.96 * scores.std() / np.sqrt(400)
normal = 0.5 - half, 0.5 + half


def check_scores(seed):
    """Compare the interval of a mean with that of a normal distribution."""
    middle = "Take the middle 95 % of the values."
    return check_interval(
        400, 3000, lambda i: scores[i].mean(), normal, 0.003, middle, seed
    )


drawn = check_scores(0)
require(
    np.bincount(drawn.ravel(), minlength=400).min() > 2000,
    "Each photo must be equally likely.",
)
check_interval(
    5,
    3000,
    lambda indices: np.nan if 0 in indices else 1.0,
    (1, 1),
    1e-9,
    "Leave NaN out, for example with np.nanquantile.",
)
other, again = check_scores(1), check_scores(0)
require((drawn != other).any(), "Draw with rng, so that another seed draws other samples.")
require((drawn == again).all(), "Draw with rng: the same seed must draw the same samples.")


def measure_ap(indices):
    chosen = [found[i] for i in indices], [targets[i] for i in indices], len(classes)
    return evaluate.evaluate_detections(*chosen, iou_threshold=THRESHOLD).mean_ap


low, high = bootstrap_interval(measure_ap, len(unseen), 300, np.random.default_rng(15))
interval = f"({low:.3f}, {high:.3f})"
print(f"AP at IoU {THRESHOLD}: {baseline[0]:.3f}, 95 % interval over photos {interval}")
assert FOLDER or high - low > baseline.max() - baseline.min()

# %% errors [markdown]
# With 22 photos for validation, the interval over photos is wider than the range over the seeds. More photos for
# *validation* would make the number more certain. More seeds would not.
#
# ## 8  Errors, by kind and in pictures
#
# The AP says how many errors there are. Their kinds say what to do about them: [3] and notebook 13 explain the kinds.
# "AP without" is the AP that remains if all errors of a kind are repaired. **Predict** which kind costs most at an IoU
# of 0.75.

# %% errors-shown
errors = evaluate.error_kinds(found, targets, len(classes), iou_threshold=THRESHOLD)
print(errors)
gains = {kind: value - errors.mean_ap for kind, value in errors.repaired.items()}
costly = max(gains, key=gains.get)
assert FOLDER or 1 <= errors.objects.sum(axis=1)[evaluate.KINDS.index("localisation")] <= 15
others = sum(gains.values()) - gains[costly]
assert FOLDER or (costly == "localisation" and gains[costly] > 3 * others)

by_photo = []
for one, target in zip(found, targets, strict=True):
    of_photo = [one], [target], len(classes)
    result = evaluate.evaluate_detections(*of_photo, iou_threshold=THRESHOLD)
    by_photo.append(result.mean_ap)
worst = np.argsort(by_photo, kind="stable")[:4]
hidden = 0  # coins whose detections are not shown
figure = plot.figure(11, 2.7)
for ax, i in zip(figure.subplots(1, 4), worst, strict=True):
    clear = found[i]["scores"] >= 0.5
    arrays = (found[i][key][clear] for key in ("boxes", "scores", "labels"))
    plot.detections(ax, unseen[i][0], *arrays, classes, targets[i]["boxes"])
    plot.title(ax, unseen.records[i].image.stem, f"AP {by_photo[i]:.2f}")
    overlaps = boxes.iou(targets[i]["boxes"], found[i]["boxes"][clear])
    hidden += (overlaps.max(axis=1, initial=0) < 0.1).sum()
missed = errors.objects.sum(axis=1)[evaluate.KINDS.index("missed")]
assert FOLDER or (missed <= 1 and hidden > missed)
course.show(
    figure,
    "The four photos with the lowest AP: "
    + ", ".join(f"{unseen.records[i].image.stem} with {by_photo[i]:.2f}" for i in worst)
    + ". Detections with a score of at least 0.5 have solid boxes, and the ground truth "
    "is dashed. Many solid boxes differ from the dashed ones by some pixels on one side.",
)

# %% missing [markdown]
# The detector finds almost all coins, but the boxes of a few coins are not exact enough. More coins in the pictures
# have only a dashed box than the table counts as missed: the scores of their detections are below 0.5, so the pictures
# do not show them. The table counts all detections.
#
# ### Errors of the annotator
#
# Now turn the question around: run the detector on the *training* photos. A detection with a high score where there is
# no box is either an error of the detector or a box that you forgot. The two are easy to tell apart: look. **Predict**
# what the detector finds in the two photos in which a coin has no box, although it was trained on these photos.

# %% missing-shown
on_train, train_targets = evaluate.predictions(detector, learnt, progress=False)
of_training = evaluate.error_kinds(on_train, train_targets, len(classes))
strange = of_training.examples["background"]  # by descending score
figure = plot.figure(11, 2.7)
suspects = []
for ax, (i, d) in zip(figure.subplots(1, 4), strange[:4], strict=False):
    suspects.append((learnt.records[i].image.stem, float(on_train[i]["scores"][d])))
    one = [on_train[i][key][[d]] for key in ("boxes", "scores", "labels")]
    plot.detections(ax, learnt[i][0], *one, classes, train_targets[i]["boxes"])
    plot.title(ax, suspects[-1][0], f"score {suspects[-1][1]:.2f}, no box")
print(*(f"{name}: {score:.2f}" for name, score in suspects), sep="\n")
assert FOLDER or {name for name, _ in suspects[:2]} == {"tray1_19", "tray1_23"}
assert FOLDER or suspects[1][1] > 0.9
course.show(
    figure,
    "Detections without a box on the training photos, highest score first: "
    + ", ".join(f"{name} with {score:.2f}" for name, score in suspects)
    + ". Each photo shows one such detection with a solid box. The annotated objects have "
    "dashed boxes.",
)

# %% doctor [markdown]
# The first two suspects are the coins without a box. The others are coins of which less than a quarter is visible: the
# detector finds them, and our rule for doubtful cases leaves them out.
#
# In your own project, correct such photos in labelme, and train again. Do the same with the photos for validation, but
# then correct *all* errors of the annotation that you see, not only those that cost you AP. Otherwise, you fit the test
# to the detector.
#
# ## 9  The doctor
#
# The doctor gives each stage its own number (notebook 13). **Predict** whether it finds a stage that loses objects. It
# counts an object as found at an IoU of 0.5.

# %% doctor-shown
verdicts = doctor.examine(
    detector, learnt, unseen, losses=history["total_loss"], progress=False
)
print(doctor.report(verdicts))
assert FOLDER or all(verdict.trouble is None for verdict in verdicts)

# %% experiment [markdown]
# At an IoU of 0.5, no stage loses objects. The doctor does not see what the errors of section 8 show: the boxes are not
# exact enough for an IoU of 0.75.
#
# ## 10  One experiment of your own
#
# A report contains one experiment: one question, one change, and a prediction that you write down first. The change is
# compared with the baseline, with the same seeds and the same photos for validation. A difference counts only if it is
# clearly larger than the range over the seeds.
#
# Our question is the one that most projects face: *should you annotate more photos, or train for longer?* The cell
# measures both in reverse: a quarter of the photos with all steps, and all photos with half of the steps. **Predict**
# which one costs more.
#
# > **What people get wrong.** They change two things at once, or they compare one training with another. Or they try
# > twenty settings and report the best one on the photos on which they chose it. If you choose among many settings, keep
# > a third part of the photos (*test*) that you use once, at the end.

# %% experiment-done
quarter = learnt.subset(range(0, len(learnt), 4))
experiments = {
    "baseline": baseline,
    f"{len(quarter)} instead of {len(learnt)} photos": [
        average_precision(fitted(quarter, seed)[0]) for seed in seeds
    ],
    f"{STEPS // 2} instead of {STEPS} steps": [
        average_precision(fitted(learnt, seed, STEPS // 2)[0]) for seed in seeds
    ],
}
for name, values in experiments.items():
    spread = f"from {min(values):.3f} to {max(values):.3f}"
    print(f"{name:<28} mean {np.mean(values):.3f}, {spread}")
_, fewer_photos, fewer_steps = experiments.values()
assert FOLDER or len(quarter) == 10
assert FOLDER or abs(np.mean(fewer_photos) - baseline.mean()) < 0.04
assert FOLDER or max(fewer_steps) < baseline.min() - 0.05

figure = plot.figure(8, 2.6)
ax = style.graph(figure.subplots(), f"AP at IoU {THRESHOLD} on {len(unseen)} photos", "")
for row, values in enumerate(experiments.values()):
    ax.plot(values, [row] * 3, "o", markersize=8, color=style.BLUE, alpha=0.7)
ax.set_yticks(range(3), list(experiments))
ax.set_ylim(2.5, -0.5)
plot.title(ax, "More photos or more steps?", "one point for each seed")
course.show(
    figure,
    "Average precision of three seeds each. "
    + "; ".join(
        f"{name}: {min(values):.2f} to {max(values):.2f}"
        for name, values in experiments.items()
    )
    + ". The points of the baseline and of fewer photos overlap; those of fewer steps lie "
    "far to the left.",
)

# %% report [markdown]
# Ten photos are as good as 39 here, within the range of the seeds. With half of the steps, the AP is much lower. So
# train for longer before you take more photos. This holds for these coins and this detector: your report says so, too.
#
# ## 11  Your report (template)
#
# Copy this template into a document of your own<!-- notebook only -->, or double-click on this cell in a live
# notebook<!-- /notebook only -->. Replace each line in italics by your text. Two pages are enough.
#
# ### Title, author, date
#
# *One sentence: what the detector finds, in which photos, and the AP with its interval.*
#
# ### Data
#
# *How many photos, of what, taken where and with what? Which classes, which rule for doubtful cases? Which faults did
# you find, and how did you repair them? How did you split, and how did you look for leaks? Figure: a contact sheet.*
#
# ### Method
#
# *Which detector, which initial weights, which settings differ from the defaults, and why? How long did the training
# take, on which computer? Attach the plan (`run.toml`).*
#
# ### Results
#
# *The number that you chose before the training: mean and range over the seeds, and the interval over photos. Errors by
# kind. What does the doctor say?*
#
# ### Errors
#
# *Four photos with errors, and one sentence for each: what went wrong, and is it the detector or the annotation?*
#
# ### Experiment
#
# *The question, the change, the prediction, the result with its range, the conclusion. A result that differs from your
# prediction is worth more than one that does not.*
#
# ### Limits
#
# *For which photos would you not trust the detector? What would you do next, and how long would it take?*

# %% rubric [markdown]
# ## 12  Rubric
#
# A lecturer can grade the report with these five criteria. Each level includes those to its left.
#
# | criterion | 1 point | 2 points | 3 points |
# |---|---|---|---|
# | **Data** | numbers of photos, objects and classes | a rule for doubtful objects; faults are counted and repaired | a split by group, with reasons; a search for near copies |
# | **Training** | initial weights, settings, time | reasons for settings; loss curves | one change, with a prediction and several seeds |
# | **Evaluation** | AP on unseen photos | measure chosen before; result for each class | range over seeds, interval over photos, careful conclusions |
# | **Error analysis** | some errors, in pictures | errors by kind, each with a picture | the weakest stage, with its measurement |
# | **Report** | complete; others could repeat it | figures with captions; each conclusion names a number | short; says where the detector fails; the plan is attached |
#
# Fifteen points in total. A low AP costs no point: a detector that fails, with a report that shows why, can get all of
# them.

# %% number [markdown]
# ## A number to check
#
# How many objects do you need for validation? Let the recall be $p$, and let the $n$ objects be found independently of
# each other. Then the measured recall has the standard deviation $\sqrt{p (1 - p) / n}$, and 95 % of the measurements
# deviate by at most 1.96 standard deviations. For $p = 0.9$ and a deviation of at most $0.02$,
#
# $$ n = \frac{1.96^2 \cdot 0.9 \cdot 0.1}{0.02^2} = 864.4 , $$
#
# so you need 865 objects. For half of the deviation, you need four times as many. With 100 objects, the deviation is
# $0.059$. The cell measures the recall of 20,000 simulated detectors. Real objects come in photos and are not
# independent, so you need even more.

# %% number-shown
p = 0.9
needed = 1.96**2 * p * (1 - p) / 0.02**2
rng = np.random.default_rng(15)
for n in (100, int(np.ceil(needed))):
    low, high = np.quantile(rng.binomial(n, p, size=20_000) / n, [0.025, 0.975])
    print(f"{n:4d} objects: 95 % of the recalls are in ({low:.3f}, {high:.3f})")
assert round(needed, 1) == 864.4 and abs((high - low) / 2 - 0.02) < 0.001
assert round(1.96 * (p * (1 - p) / 100) ** 0.5, 3) == 0.059

# %% questions [markdown]
# ## Five questions
#
# Click on an answer to see whether it is right, and why.

# %% quiz
course.quiz("""
    A video shows three dogs. Its 300 frames are split at random into training and
    validation, and the AP is 0.97. What does this number tell you?
    [ ] The detector finds dogs in new videos with AP 0.97.
        Nothing was measured on another video. Almost every validation frame has a neighbour
        in training.
    [ ] The split is fair, because it is random.
        Chance is fair only if the photos are independent. Neighbouring frames are almost
        copies.
    [x] The detector finds these three dogs in frames that resemble its training frames.
        Split by video: then the validation shows dogs and places that the training did not
        contain.
    [ ] Nothing, because 0.97 is too high to be true.
        The number is true. It only answers another question than the one you care about.

    Setting A has AP 0.91, 0.94 and 0.95 with three seeds, setting B has 0.93, 0.92 and
    0.96. Which sentence is right?
    [ ] B is better, because its best value and its mean are higher.
        The means are 0.933 and 0.937. This difference is a tenth of the range of either
        setting.
    [x] These trainings do not show a difference.
        Both ranges cover almost the same values. More seeds or more photos could show a
        small difference.
    [ ] A and B are equally good.
        A difference that you cannot measure may still exist. You only know that it is
        small.

    You halve the width of the confidence interval over photos. What did you do, most
    likely?
    [ ] I drew 1,200 bootstrap samples instead of 300.
        More samples make the limits of the interval less random, but do not move them
        closer together.
    [ ] I trained with twelve seeds instead of three.
        More seeds make the mean over seeds more certain. The photos for validation remain
        the same.
    [ ] I took twice as many photos for validation.
        The width decreases with the square root of the number of photos: twice as many give
        71 %.
    [x] I took four times as many photos for validation.
        The square root of four is two.

    At an IoU of 0.75, most of the lost AP is due to localisation errors. Which change is
    the most promising?
    [x] Train for longer, and check whether the annotated boxes are exact.
        The boxes must become more exact. Inexact annotations limit how exact they can
        become.
    [ ] Lower the score threshold.
        The AP uses all scores already. A lower threshold adds detections, but moves no box.
    [ ] Lower the threshold of NMS.
        NMS removes boxes. Duplicates cost almost nothing here.
    [ ] Add classes, so that similar objects are told apart.
        No error of the kind "class" was counted.

    The detector reports a coin with score 0.99 in a validation photo, where there is no
    box. You look: there is a coin. What do you do?
    [ ] Add this box, because it raises the AP.
        If you correct only what costs AP, the annotation drifts towards the detector.
    [ ] Leave it, because photos for validation must not be changed.
        A wrong annotation makes the number wrong, for every detector that is compared on
        it.
    [x] Correct all photos for validation by the same rule, and measure again.
        Then the correction does not depend on what this detector finds.
    [ ] Move this photo to the training photos.
        The remaining photos would be those that suit the detector.
""")

# %% exercises [markdown]
# ## What you have learned
#
# - Look at the photos, repair what a program finds, and search for what it cannot find: leaks and missing boxes.
# - Choose the number before the training, and report it with its range over seeds and its interval over photos.
# - Kinds of error, pictures and the doctor say what to do next. One experiment with a prediction shows whether it
#   helped.
#
# ## Exercises without solutions
#
# **Warm-up** (minutes)
#
# 1. Sort the photos for validation by the number of objects. Is the AP of a photo (`by_photo`) related to it?
# 2. Set `THRESHOLD` to 0.5 and run the notebook again. Which conclusions change?
#
# **Core** (half an hour)
#
# 3. `find_leaks` finds no mirrored copies, and no crops. Extend it to mirrored copies. Which threshold separates
#    copies from other photos here?
# 4. Draw the AP against the number of steps (15, 30, 60, 120), with three seeds each. Where does it stop rising?
# 5. Draw bootstrap samples of *objects* instead of photos: for each object, note whether the detector finds it, and
#    resample these. Compare the interval of the recall with that over photos.
#
# **Stretch** (an evening)
#
# 6. Run the whole notebook with your own photos, and write a report of two pages. Exchange it with another learner, and
#    grade each other's report by the rubric.
# 7. Let the detector annotate: run `rcnn detect new-photos --weights runs/my-photos --labelme pre-annotated` on 50 new
#    photos, and correct the boxes in labelme. Measure how many seconds you need for a photo with and without this help.

# %% next [markdown]
# ## Where to go next
#
# `docs/annotating.md` and `docs/your_own_images.md` describe the same path on the command line. `rcnn train` writes a
# report of its own, and `rcnn view` shows the errors in your browser. For a detector that is faster or finds smaller
# objects, read `docs/accuracy.md` and `docs/speed.md`. [5] explains what else belongs in a fair comparison.
