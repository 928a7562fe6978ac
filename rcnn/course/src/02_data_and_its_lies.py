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
#     seconds: 30
# ---

# %% question [markdown]
# # Data and its lies
#
# *Goals.* After this notebook, you can
#
# - describe a training target: boxes, labels and the background class;
# - convert the box formats of VOC, COCO and text files without losing a pixel;
# - resize an image together with its boxes, and explain normalisation and padding;
# - find wrong annotations with a program, and say which errors no program finds.
#
# *Prerequisites.* Notebook 01 (boxes and IoU).
#
# *Time.* Two to three hours.
#
# **The question.** A detector learns whatever its training data contain. If every box is slightly beside its object,
# the detector learns to draw boxes beside objects. If x and y are swapped, it learns nothing useful, and no error
# message says why. In both cases, the loss decreases a little. How can you find out, before training, whether the
# annotations are right?
#
# | name | shape | content |
# |---|---|---|
# | `image` | (h, w, 3) | an image with 8-bit colours |
# | `target` | a dict | `boxes` (G, 4) and `labels` (G,) for the G objects of an image |
# | `size` | (height, width) | size of an image; the height comes first |
# | `images` | (N, 3, H, W) | a batch: resized, normalised and padded images |
#
# You will write `resize_boxes`, which resizes boxes together with their image, and `find_faults`, which finds five
# wrong pages in a data set and names the kind of each error.
#
# *History.* PASCAL VOC (2005 to 2012) [3] and COCO (2014) [4] made detectors comparable. Their file formats are still
# the most common ones, and they contradict each other.
#
# [1] Ren, He, Girshick, Sun: *Faster R-CNN*, 2015 (arXiv 1506.01497). [2] Lin, Dollár, Girshick, He, Hariharan,
# Belongie: *Feature Pyramid Networks*, 2017 (arXiv 1612.03144). [3] Everingham, Van Gool, Williams, Winn, Zisserman:
# *The PASCAL Visual Object Classes (VOC) Challenge*, 2010. [4] Lin et al.: *Microsoft COCO*, 2014 (arXiv 1405.0312).

# %% setting-up
import tempfile
from pathlib import Path

import numpy as np
from PIL import Image
from sklearn.datasets import load_sample_image

import rcnn
from rcnn import boxes, checks, course, data, images, plot, transform
from rcnn.data import overlay


class Pages:
    """A data set in memory. A data set only needs a length, `classes` and `[i]`."""

    def __init__(self, items, classes):
        self.items, self.classes = items, classes

    def __len__(self):
        return len(self.items)

    def __getitem__(self, index):
        return self.items[index]


rcnn.set_num_threads(1)  # enough for small images
# The size is (height, width); pages are wider than high, so that swapped axes are visible.
drawn = data.Digits(45, seed=3, size=(96, 144))
pages = Pages([drawn[i] for i in range(len(drawn))], drawn.classes)
photo = load_sample_image("flower.jpg")  # (427, 640, 3)

# %% targets [markdown]
# ## 1  The target of an image
#
# A *target* lists the objects of an image. It is a dict of two arrays with one row for each object:
#
# - `boxes` (G, 4): `x1, y1, x2, y2` in pixels of *this* image, with $x_2 > x_1$ and $y_2 > y_1$;
# - `labels` (G,): integers from 1 to $L - 1$. L is the number of classes *including the background*, whose label is
#   0.
#
# Nobody annotates background. It is the detector's answer for a region without an object, so its label must exist,
# but no object may have it. (Here, the digit 0 has the label 1, and the digit 9 has the label 10.) An image with G =
# 0 is valid: it teaches the detector what is not an object. Its arrays have the shapes (0, 4) and (0,).
#
# > **What people get wrong.** They start the labels at 0. The first class then counts as background, and all other
# > names are shifted by one. rcnn rejects such a target. torchvision trains on it, the losses look normal, and the
# > detector never finds an object of the first class.

# %% targets-shown
page, blank = 8, next(i for i in range(len(pages)) if len(pages[i][1]["boxes"]) == 0)
print("L =", len(pages.classes), "classes:", ", ".join(pages.classes))
figure = plot.figure(10, 3.6)
for ax, index in zip(figure.subplots(1, 2), (page, blank), strict=True):
    image, target = pages[index]
    plot.boxes(
        plot.image(ax, image), target["boxes"], target["labels"], class_names=pages.classes
    )
    labels = target["labels"]
    shapes = f"boxes {target['boxes'].shape}, labels {labels.shape}: {labels}"
    plot.title(ax, f"Page {index}: image {image.shape}", shapes)
course.show(
    figure,
    f"Left: a page with {len(pages[page][1]['boxes'])} digits in boxes. The tag of a box "
    "is the digit; its label is larger by 1. Right: a blank page, whose target has no "
    "boxes.",
)

# %% notations [markdown]
# ## 2  One box in four formats
#
# An image is 60 pixels wide and 40 pixels high. An object fills its columns 10 to 29 and its rows 5 to 24. In
# continuous coordinates, column 10 starts at $x = 10$, and column 29 ends at $x = 30$. The box is therefore (10, 5,
# 30, 25), and its width is $30 - 10 = 20$ pixels, without + 1. Other conventions use other numbers for this box:
#
# | convention | numbers | meaning |
# |---|---|---|
# | rcnn, torchvision | 10, 5, 30, 25 | two corners in continuous coordinates |
# | VOC's XML files [3] | 11, 6, 30, 25 | first and last pixel of the object, counted from 1 |
# | COCO's JSON files [4] | 10, 5, 20, 20 | top left corner, width and height |
# | many text files (YOLO) | 0.333, 0.375, 0.333, 0.5 | centre, width and height, as fractions of the image |
#
# The numbers alone do not tell which convention is used. `rcnn.data` converts VOC and COCO to the first row.
# torchvision's `VOCDetection` and `CocoDetection` return the numbers of the file unchanged. The plot shows three
# readings of VOC's numbers: the right one and two wrong ones. The second wrong one is an old convention: the code of
# the Faster R-CNN paper subtracts 1 from all four numbers and computes a width as $x_2 - x_1 + 1$ (notebook 01). In
# code without this + 1, it is wrong.

# %% notations-drawn
small = np.full((40, 60, 3), 225, np.uint8)
small[5:25, 10:30] = (130, 150, 170)  # rows 5 to 24, columns 10 to 29
readings = np.array([[10, 5, 30, 25], [11, 6, 30, 25], [10, 5, 29, 24]])
names = [
    "right: 1 subtracted from x1 and y1",
    "wrong: numbers unchanged",
    "wrong: 1 subtracted from all",
]

figure = plot.figure(9, 4.2)
ax = plot.pixel_boxes(figure.subplots(), small, readings, names)
ax.set(xlim=(6, 34), ylim=(29, 2))
caption = "three readings of one box in a VOC file"
plot.title(ax, "xmin 11, ymin 6, xmax 30, ymax 25", caption)
for name, box in zip(names, readings, strict=True):
    print(f"{name:<38}IoU with the object {boxes.iou(readings[:1], box[None])[0, 0]:.4f}")
assert np.allclose(boxes.iou(readings[:1], readings)[0], (1, 0.9025, 0.9025))
course.show(
    figure,
    "A dark square of 20 × 20 pixels and three boxes. The right box encloses it exactly. "
    "The unchanged numbers lose the first row and the first column. If 1 is subtracted "
    "from all numbers, the last row and the last column are lost.",
)

# %% last-pixel [markdown]
# Each wrong reading loses one row and one column. For an object of $s \times s$ pixels, the IoU is then
#
# $$ \mathrm{IoU} = \left(\frac{s - 1}{s}\right)^2, $$
#
# which is 0.9025 for 20 pixels and 0.84 for 12 pixels. Such a box still looks right. But COCO's evaluation also
# counts the detections that reach an IoU of 0.9 and 0.95 (notebook 12), and a detector that has learned such boxes
# perfectly cannot reach them for small objects.
#
# ## 3  Resize an image and its boxes
#
# Photos have many sizes. A convolutional network accepts all of them, but it learns objects at the sizes in pixels
# that it sees. Therefore, all images are resized to a similar size: the shorter side becomes 800 pixels, unless the
# longer side would then exceed 1333 pixels. Both sides have the same scale:
#
# $$ \begin{aligned}
# s &= \min\left(\frac{800}{\min(h, w)}, \frac{1333}{\max(h, w)}\right), \\
# h' &= \lfloor s\,h \rfloor, \quad w' = \lfloor s\,w \rfloor.
# \end{aligned} $$
#
# The paper uses 600 for the shorter side ([1] section 3.3), and its code limits the longer side to 1000. FPN uses 800
# ([2] section 5.1), and torchvision and rcnn use 800 and 1333. **Predict** the new size of photos with 480 × 640, 640
# × 480 and 500 × 2000 pixels (height × width).

# %% sizes-shown
for size in ((480, 640), (640, 480), (500, 2000), (427, 640), (4000, 3000)):
    height, width = transform.resized_size(size, min_size=800, max_size=1333)
    factors = f"height × {height / size[0]:.5f}   width × {width / size[1]:.5f}"
    print(f"{size!s:<14}becomes {(height, width)!s:<14}{factors}")
course.source(transform.resized_size)

# %% resize [markdown]
# The two factors at the end of each line are not always equal, because rounding down changes one side more than the
# other. The image is resized to exactly $h' \times w'$, so multiply x by $w' / w$ and y by $h' / h$. torchvision does
# the same.
#
# **Exercise.** Write `resize_boxes`. Take care which of the two numbers of a size belongs to x.
#
# > **What people get wrong.** They resize the image in the data set and forget the boxes. Or they resize both, and
# > the detector's transform resizes the image again. Resize in one place only: pass the original image and its boxes
# > to rcnn, and the detections are in pixels of the original image.


# %% resize-yours
def resize_boxes(boxes, size, min_size, max_size):
    """Return (boxes (G, 4), (height, width)) of an image after resizing.

    boxes: (G, 4) x1, y1, x2, y2 in pixels of the image, floats or integers; G may be 0. A
        box may extend beyond the image: do not clip it. The array must not change.
    size: (height, width) of the image.
    min_size, max_size: the shorter side becomes min_size, unless the longer side would then
        exceed max_size; then the longer side becomes max_size. At the end, both sides are
        rounded down to integers. The boxes have the factors of these rounded sides.
    """
    ### BEGIN SOLUTION
    scale = min(min_size / min(size), max_size / max(size))
    height, width = int(size[0] * scale), int(size[1] * scale)
    y, x = height / size[0], width / size[1]
    return np.asarray(boxes) * [x, y, x, y], (height, width)
    ### END SOLUTION


# %% resize-check points=2
checks.resize_boxes(resize_boxes)

flowers = np.array([[169, 85, 446, 360], [288, 374, 470, 427]])
moved, size = resize_boxes(flowers, photo.shape[:2], 256, 427)
resized = transform.resize(transform.as_image(photo), size)
print(f"{photo.shape[:2]} becomes {resized.shape[:2]}, and the boxes become")
print(np.round(moved, 1))

figure = plot.figure(10, 3.7)
shown_boxes, titles = (moved, flowers), ("Resized boxes", "Boxes that were not resized")
for ax, shown, title in zip(figure.subplots(1, 2), shown_boxes, titles, strict=True):
    plot.boxes(
        plot.image(ax, resized),
        shown,
        np.array([1, 1]),
        class_names=("background", "flower"),
    )
    plot.title(ax, title)
course.show(
    figure,
    "A photograph of two flowers, resized to 60 % of its size. Left: the resized boxes "
    "enclose the flowers. Right: the original boxes are too large and too far to the "
    "right and down; most of one box is outside the image.",
)

# %% batch [markdown]
# ## 4  From images to a batch
#
# Two steps remain. First, each channel, with values from 0 to 1, is normalised: $(c - \mu) / \sigma$. The constants
# belong to the weights; weights that were trained on ImageNet use ImageNet's constants. Then the images are padded
# with zeros at the right and at the bottom, so that all images of the batch have the same size, and both sides are
# divisible by 32 (a ResNet halves both sides five times; see notebook 03).
#
# Neither step changes the boxes, because the padding is at the right and at the bottom, so the origin stays the same.
# After normalisation, zero is the mean. The padding therefore has the mean colour $\mu$, as the plot shows.
#
# > **What people get wrong.** They normalise after padding. The zeros then become $-\mu / \sigma$, and the network
# > sees an edge. Or they normalise twice, in the data set and in the detector: values between -2.1 and 2.6 then
# > become values between -11 and 10, which the weights have never seen. rcnn rejects images of floats outside [0, 1];
# > torchvision accepts them.

# %% batch-shown
panorama = photo[100:300]  # (200, 640, 3)
mean, deviation = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
batch = transform.make_batch([photo, panorama], 256, 427, mean, deviation)
print("images", batch.images.shape, batch.images.dtype, "  image_sizes", batch.image_sizes)
assert batch.images.shape[2:] == (256, 448)
black_and_white = np.array([[0, 0, 0], [1, 1, 1]])
once = (black_and_white - mean) / deviation
twice = (once - mean) / deviation
assert np.allclose((once.min(), once.max()), (-2.1, 2.6), atol=0.05)
assert np.allclose((twice.min(), twice.max()), (-11, 10), atol=0.5)

figure = plot.figure(10, 3.5)
shares = []
axes = figure.subplots(1, 2)
for ax, planes, (height, width) in zip(axes, batch.images, batch.image_sizes, strict=True):
    # Undo the normalisation.
    visible = planes.transpose(1, 2, 0) * deviation + mean  # (H, W, 3)
    plot.image(ax, np.clip(visible, 0, 1))
    name = f"image, {height} × {width}"
    plot.boxes(ax, [[0, 0, width, height]], labels=[1], class_names=["", name])
    shares.append(1 - height * width / planes[0].size)
    heading = f"Padded to {planes.shape[1]} × {planes.shape[2]} pixels"
    plot.title(ax, heading, f"padding: {shares[-1]:.0%} of the area")
course.show(
    figure,
    "Two images of a batch, both padded to 256 × 448 pixels. The photograph has a grey "
    f"strip at its right, {shares[0]:.0%} of the area. The panorama has a grey strip at "
    f"its right and a large grey area below, {shares[1]:.0%} of the area.",
)

# %% lies [markdown]
# ## 5  A gallery of lies
#
# The next two cells show eleven ways in which a target can be wrong; each is one line of code. The first tile is the
# truth. Look at each tile before you read its title, and ask: would a test of the numbers find this error? Red dashed
# boxes are invalid whatever the image shows. The first figure contains errors in the numbers of the boxes. In the
# second figure, nearly all boxes are possible, but they do not belong to the image or to the labels.
#
# The best test is to *draw the boxes on the images and look at them*. It takes a minute and finds nearly all of these
# errors.

# %% lies-shown
H, W = 96, 144  # of all pages

lies = {  # name: function of image p, boxes b (G, 4), labels k (G,) and index i of a page
    "the truth": lambda p, b, k, i: (p, b, k),
    "x and y swapped": lambda p, b, k, i: (p, b[:, [1, 0, 3, 2]], k),
    "x, y, width, height": lambda p, b, k, i: (p, boxes.convert(b, "xyxy", "xywh"), k),
    "y from the bottom": lambda p, b, k, i: (
        p,
        [0, H, 0, H] + b[:, [0, 3, 2, 1]] * [1, -1, 1, -1],
        k,
    ),
    "fractions of the page": lambda p, b, k, i: (p, b / [W, H, W, H], k),
    "boxes of half the size": lambda p, b, k, i: (p, b / 2, k),
    "boxes of another page": lambda p, b, k, i: (
        p,
        *pages[(i + 1) % len(pages)][1].values(),
    ),
    "image rotated": lambda p, b, k, i: (np.rot90(p), b, k),
    "image mirrored": lambda p, b, k, i: (p[:, ::-1], b, k),
    "last pixel missing": lambda p, b, k, i: (p, b - [0, 0, 1, 1], k),
    "labels from 0": lambda p, b, k, i: (p, b, k - 1),
    "labels of the next box": lambda p, b, k, i: (p, b, np.roll(k, 1)),
}
signs = (
    "each box lies on its digit",
    "beside the digits; one box leaves the page",
    "nearly all boxes are empty: x2 < x1 or y2 < y1",
    "in the right columns, but upside down",
    "all boxes lie within the first pixel",
    "too small, and too far to the left and up",
    "wrong places, and classes of other digits",
    "the page is turned, the boxes are not",
    "the 7 is on the left, its box on the right",
    "looks right; a row and a column are missing",
    "each digit is named one lower; 0 has no name",
    "the boxes are right, the classes are not",
)  # how to see each of them
assert len(lies) == len(signs) == 1 + 11
image, target = pages[page]


def gallery(first, last):
    """Draw the tiles first .. last - 1."""
    chosen = list(lies.values())[first:last]
    tiles = [lie(image, target["boxes"], target["labels"], page) for lie in chosen]
    captions = [f"{name}\n{sign}" for name, sign in zip(lies, signs, strict=True)]
    return plot.contact_sheet(
        *zip(*tiles, strict=True), pages.classes, captions[first:last], columns=2
    )


course.show(
    gallery(0, 6),
    "Six tiles with the same page. In the truth, each box lies on its digit. With x and y "
    "swapped, the boxes lie beside the digits, and one is outside the page. Read as x, y, "
    "width, height, the boxes are invalid. With y from the bottom, they are upside down. "
    "Fractions of the page lie in the top left corner, and boxes of half the size are too "
    "small.",
)

# %% more-lies-shown
course.show(
    gallery(6, 12),
    "Six tiles. Boxes of another page lie beside the digits. On the rotated and on the "
    "mirrored page, the boxes lie where the digits were before. Without the last pixel, "
    "the boxes look right. With labels from 0, each digit is named one lower, and the 0 "
    "has no name. With the labels of the next box, the boxes are right, but the digits "
    "are not.",
)

# %% levels [markdown]
# ## 6  What a program can find
#
# `data.validate`, or `rcnn check` in a terminal, reads every image once and reports errors on three levels:
#
# 1. **One box.** The box is empty, not finite or outside its image, its label is not a class, or it appears twice.
# 2. **All boxes together.** If most boxes are empty, but none is if the numbers are read as x, y, width and height,
#    then this is their format. If no number exceeds 1, the numbers are fractions of the image.
# 3. **Boxes and images.** All numbers are possible, but the boxes do not lie on the objects. Section 7 explains how a
#    program can see this.
#
# **Predict** which of the lies it finds. In the output, `-` means that it found nothing.


# %% validator
def told(lie):
    """Return the data set with this lie on every page."""
    items = []
    for i in range(len(pages)):
        image, target = pages[i]
        image, some_boxes, labels = lie(image, target["boxes"], target["labels"], i)
        items.append((image, {"boxes": some_boxes, "labels": labels}))
    return Pages(items, pages.classes)


reports = {name: data.validate(told(lie), progress=False) for name, lie in lies.items()}
for name, report in reports.items():
    print(f"{name:<24}{', '.join(f'{p.kind} ({p.count})' for p in report.problems) or '-'}")
silent = {name for name, report in reports.items() if not report.problems}
missed = {"image mirrored", "last pixel missing", "labels of the next box"}
assert silent == {"the truth", *missed}

print("\ndetails of two reports, with remedies:")
for name in ("x, y, width, height", "boxes of another page"):
    for problem in reports[name].problems:
        print(f"- {problem.sentence} ({problem.kind}, {problem.count} times)")
        print(f"  {problem.remedy}")

# %% overlay [markdown]
# ## 7  How a program can compare boxes with images
#
# `validate` finds no error in the truth, and none in three of the lies. How can it find *y from the bottom*, although
# each number is possible?
#
# An object differs from its surroundings. Therefore, the *contrast* between the inside of a box and its surroundings
# is usually higher in its own image than in other images. For each box, compute the contrast $c_j$ in every image $j$
# of the data set. The *fit* of the box is the fraction of the images in which it has less contrast than in its own
# image $i$:
#
# $$ \mathrm{fit} = \frac{1}{N} \sum_j \left[\, c_j < c_i \,\right] . $$
#
# If the fit is near 1, the box belongs to its image. A box that does not belong to its image has a random rank, so
# its fit is 1/2 on average, *for any kind of image*. This needs neither a detector nor a threshold for grey values.
# (In detail, the fit is the mean of two such ranks, one for the contrast of colours and one for the contrast of
# edges; equal values share their rank.) If the boxes fit little better than chance, `validate` tries several
# transformations, and reports one that makes them fit.


# %% overlay-shown
def fits_of(dataset):
    """Return the fit of each box to its own image: (B,)."""
    reduced = [
        overlay.reduce_image(i, np.ascontiguousarray(image), target["boxes"].astype(float))
        for i, (image, target) in enumerate(dataset)
    ]

    def unchanged(some_boxes, size):
        return some_boxes

    fits, owners = overlay.box_fits(reduced, reduced, unchanged)  # (B, N), (B,)
    return fits[np.arange(len(owners)), owners]


fits = {
    name: fits_of(told(lies[name]))
    for name in ("the truth", "last pixel missing", "y from the bottom", "image mirrored")
}
means = {name: fit.mean() for name, fit in fits.items()}
assert abs(means["last pixel missing"] - means["the truth"]) < 0.02
assert all(np.mean(fits[name] > 0.9) > 0.9 for name in ("the truth", "last pixel missing"))
assert 0.4 < means["image mirrored"] < 0.6 and 0.4 < means["y from the bottom"] < 0.65

figure = plot.figure(8, 3.8)
ax = figure.subplots()
plot.fit_histogram(ax, fits)
plot.title(ax, "How well boxes fit their images", f"{len(pages)} pages of digits")
course.show(
    figure,
    "Four histograms of the fit. For the truth and for boxes without their last pixel, "
    "nearly all fits are above 0.9. For mirrored pages and for y from the bottom, the "
    "fits are spread evenly from 0 to 1, as by chance.",
)

# %% blind [markdown]
# The plot explains why three of the lies were not found. The mirrored pages *are* visible: their boxes fit little
# better than chance. But mirroring is not one of the transformations that `validate` tries, so it reports nothing. A
# box without its last row and column fits as well as the true box; only a person with a magnifying glass can see the
# difference. And contrast cannot tell a 4 from a 9, so no level finds a wrong label that is one of the classes.
#
# This answers the question: let a program find what it can, and correct these errors. If it finds nothing, this is
# not a proof. Draw the boxes and labels of a dozen images, and look at them.
#
# ### Near duplicates
#
# An exact duplicate is found by comparing numbers. If two people annotate the same object, their boxes differ by a
# pixel. To find such pairs, compute the IoU of all boxes of a page with each other, and look at pairs above a
# threshold such as 0.8. The cell first measures the speed of the IoU for the boxes of all pages, (N, 4) with (N, 4).

# %% nearly-twice
every_box = np.concatenate([target["boxes"] for _, target in pages])  # (N, 4)
print("N =", len(every_box))
course.compare(boxes.iou, every_box, every_box)

doubled = [
    np.concatenate([target["boxes"], target["boxes"][:1] + [1, 0, 0, 1]])
    for _, target in pages
    if len(target["boxes"])
]  # the first object of each page once more, moved by one pixel
found = sum((np.triu(boxes.iou(b, b), k=1) > 0.8).any() for b in doubled)
print(f"\nnear duplicates found on {found} of {len(doubled)} pages")
course.source(boxes._iou)

# %% exif [markdown]
# ### A photo that is stored rotated
#
# If you hold a camera upright, it stores the photo rotated and writes the rotation into the file's EXIF data. Some
# programs apply this rotation and some do not. If boxes are drawn with one kind of program and read with the other,
# the result is the tile *image rotated*. `rcnn.images.read` applies the rotation. rcnn's readers also rotate boxes
# that were drawn on the stored image. With Pillow alone, call `ImageOps.exif_transpose`.

# %% exif-shown
with tempfile.TemporaryDirectory() as folder:
    path = Path(folder) / "photo.jpg"
    exif = Image.Exif()
    exif[0x0112] = 6  # orientation 6: rotate by a quarter turn, clockwise
    Image.fromarray(np.rot90(photo[:, 160:460])).save(path, exif=exif)
    with Image.open(path) as file:
        stored, upright = np.asarray(file), images.read(path)

figure = plot.figure(9, 4)
left, right = figure.subplots(1, 2, subplot_kw={"anchor": "N"})  # the tops are aligned
plot.title(plot.image(left, stored), "As stored", f"{stored.shape}")
plot.title(plot.image(right, upright), "After the rotation", f"{upright.shape}")
course.show(
    figure,
    "Left: the photograph as stored in the file, lying on its side and wider than high. "
    "Right: after the rotation by a quarter turn, it is upright and higher than wide.",
)

# %% faults [markdown]
# ## 8  Five planted errors
#
# **Exercise.** You get a data set with pages like those above, whose height and width differ. Five of the pages are
# wrong, and other pages are wrong in each run. There are five kinds of error. If several apply to a page, the first
# one in this table counts:
#
# | kind | error |
# |---|---|
# | `"label"` | some label is not one of 1 .. $L - 1$ |
# | `"empty"` | some box does not have $x_2 > x_1$ and $y_2 > y_1$ |
# | `"outside"` | some box extends *more than one pixel* beyond its page; up to one pixel is rounding, and is accepted |
# | `"twice"` | the same box (all four numbers are equal) with the same label appears twice |
# | `"elsewhere"` | the boxes do not lie on the digits |
#
# Solve it in three steps.
#
# **Step 1: `box_fault`** finds the first four kinds, which only need the numbers of one page. Two traps: all
# comparisons with NaN are false, so test what must be true, and negate it. A page without objects is not wrong.


# %% box-fault-yours
def box_fault(boxes, labels, size, num_classes):
    """Return "label", "empty", "outside" or "twice", the first that applies, or None.

    boxes: (G, 4) float, x1, y1, x2, y2. labels: (G,) int. G may be 0. num_classes: L, which
    includes the background. size: (height, width) of the page. The arguments must not
    change.
    """
    ### BEGIN SOLUTION
    height, width = size
    rows = [
        (*box, label) for box, label in zip(boxes.tolist(), labels.tolist(), strict=True)
    ]
    if not ((labels >= 1) & (labels < num_classes)).all():
        return "label"
    if not (boxes[:, 2:] > boxes[:, :2]).all():
        return "empty"
    if (boxes[:, :2] < -1).any() or (boxes[:, 2:] > [width + 1, height + 1]).any():
        return "outside"
    return "twice" if len(set(rows)) < len(rows) else None
    ### END SOLUTION


# %% box-fault-check points=2
def examine(expected, why, *rows, size=(20, 30), num_classes=4):
    """Raise CheckFailed unless box_fault returns `expected` for the rows (box, label)."""
    table = np.array(rows, float).reshape(-1, 5)
    numbers, labels = table[:, :4].astype(np.float32), table[:, 4].astype(int)
    copies = numbers.copy(), labels.copy()
    given = box_fault(*copies, size, num_classes)
    if given != expected:
        raise checks.CheckFailed(
            f"box_fault returns {given!r}, expected {expected!r}, for size {size}, "
            f"num_classes {num_classes} and the rows (x1, y1, x2, y2, label) "
            f"{table.tolist()}\nHint: {why}"
        )
    for before, after in zip((numbers, labels), copies, strict=True):
        if not np.array_equal(before, after, equal_nan=True):
            raise checks.CheckFailed("box_fault changes its arguments. Work on a copy.")


whole = (2, 3, 8, 9, 1)
examine(None, "A page without objects is not wrong.")
examine(None, "All values are valid; the largest label is L - 1.", whole, (0, 0, 30, 20, 3))
examine("label", "0 is the background.", whole, (1, 1, 5, 5, 0))
examine("label", "The largest label is L - 1.", whole, (1, 1, 5, 5, 4))
examine("label", "A label must not be negative.", (1, 1, 5, 5, -1), whole)
examine("empty", "x2 must be greater than x1.", whole, (5, 1, 5, 6, 1))
examine("empty", "y2 must be greater than y1.", (1, 6, 5, 3, 1))
examine("empty", "Comparisons with NaN are false.", whole, (np.nan, 1, 5, 6, 1))
examine("empty", "Comparisons with NaN are false.", (1, 1, 5, np.nan, 1))
examine(None, "One pixel beyond the page is accepted.", (-1, -1, 31, 21, 2), whole)
examine("outside", "x belongs to the width, y to the height.", whole, (1, 1, 5, 25, 1))
examine("outside", "x1 may be -1, but not less.", (-2, 1, 5, 5, 1))
examine("outside", "y1 may be -1, but not less.", (1, -2, 5, 5, 1))
examine("outside", "x2 may be width + 1, but not more.", (1, 1, 32, 5, 1))
examine("outside", "y2 may be height + 1, but not more.", whole, (1, 1, 5, 22, 1))
examine(None, "For width 20 and height 30, y may be 25.", (1, 1, 5, 25, 1), size=(30, 20))
other = (1, 1, 5, 5, 2)
examine("twice", "The same box with the same label.", whole, other, whole)
examine("twice", "Compare every row with all other rows.", other, whole, whole)
examine(None, "The labels differ.", whole, (2, 3, 8, 9, 2))
examine(None, "The boxes differ.", whole, (2, 3, 8, 9.5, 1))
first = "Several kinds apply. The first one in the table counts."
label, empty, outside = (5, 1, 1, 5, 0), (5, 1, 5, 6, 1), (1, 1, 32, 5, 1)
examine("label", first, outside, empty, label, label)
examine("empty", first, outside, empty, empty)
examine("outside", first, outside, outside)
print("box_fault: right")

# %% contrast [markdown]
# **Step 2: `ink_contrast`** measures whether boxes lie on ink, which is dark. Let the grey value of a pixel be the
# mean of its three channels, $m$ the median of all grey values of the page, and $\bar g$ the mean grey value inside a
# box, averaged over the boxes of the page. Return $m - \bar g$.
#
# A pixel is inside a box if the box covers any part of it: the columns from $\lfloor x_1 \rfloor$ to
# $\lceil x_2 \rceil - 1$, and the same for the rows. A box may extend one pixel beyond the page. The trap: in Python,
# a negative index counts from the end.
#
# **Step 3: `find_faults`** combines both. If the boxes of a page lie on its digits, then $m - \bar g \ge 20$. If they
# do not, then $m - \bar g \le 10$. `validate` cannot help with *elsewhere*: it reports such errors only if they
# affect most of a data set.


# %% contrast-yours
def ink_contrast(image, boxes):
    """Return the median grey value of a page minus the mean grey value in its boxes.

    The result is a float. image: (h, w, 3) uint8. boxes: (G, 4), G at least 1. The boxes
    overlap the page.
    """
    ### BEGIN SOLUTION
    grey = image.mean(axis=2)  # (h, w)
    inside = [
        grey[int(max(y1, 0)) : int(np.ceil(y2)), int(max(x1, 0)) : int(np.ceil(x2))].mean()
        for x1, y1, x2, y2 in boxes.tolist()
    ]
    return float(np.median(grey) - np.mean(inside))
    ### END SOLUTION


# %% contrast-check points=1
row, column = np.indices((4, 6))
grey = 60 + 20 * row + column**2  # the median is 100.5
colours = [grey + 5 * row, grey + 5 * row, grey - 10 * row]  # their mean is `grey`
coloured = np.stack(colours, axis=2).astype(np.uint8)  # (4, 6, 3)
for some_boxes, average, hint in (  # average: of `grey` in a box, then of the boxes
    ([[0, 0, 1, 1]], 60, "m is the median grey value. Grey is the mean of the channels."),
    ([[2, 1, 3, 2]], 84, "The grey value is the mean of the three channels."),
    ([[1, 0, 4, 2]], 70 + 14 / 3, "Take the mean in a box, not the median."),
    ([[2.5, 1.5, 3.5, 2.5]], 96.5, "Which pixels does the box cover, even in part?"),
    ([[-0.8, -1, 1.2, 1]], 60.5, "A negative index counts from the end."),
    ([[5, 3, 7, 5]], 145, "The box covers a single pixel of the page."),
    ([[0, 0, 1, 1], [1, 0, 4, 2], [5, 3, 6, 4]], (265 + 44 / 3) / 3, "Average the boxes."),
):
    expected = 100.5 - average
    given = ink_contrast(coloured, np.array(some_boxes, np.float32))
    if given is None or np.ndim(given) or not np.isclose(float(given), expected):
        raise checks.CheckFailed(
            f"ink_contrast returns {given}, expected {expected:.3f}, for the boxes "
            f"{some_boxes} of a page of 4 × 6 pixels whose grey value is 60 + 20 * row + "
            f"column**2 (median 100.5)\nHint: {hint}"
        )
print("ink_contrast: right")


# %% faults-yours
def find_faults(dataset):
    """Return {index: kind} for the wrong pages.

    dataset: has a length and `classes`, the background first. dataset[i] is the pair
        (image, target): image (h, w, 3) uint8, target {"boxes": (G, 4) float32, "labels":
        (G,) int64}, where G may be 0. It must not change.
    kind: the first that applies, in this order: "label", "empty", "outside", "twice",
    "elsewhere".
    """
    ### BEGIN SOLUTION
    found = {}
    for i in range(len(dataset)):
        image, target = dataset[i]
        some_boxes = target["boxes"]
        kind = box_fault(
            some_boxes, target["labels"], image.shape[:2], len(dataset.classes)
        )
        if kind is None and len(some_boxes) and ink_contrast(image, some_boxes) < 15:
            kind = "elsewhere"
        if kind:
            found[i] = kind
    return found
    ### END SOLUTION


# %% faults-check points=4
checks.find_faults(find_faults)

print(f"{'':<24}your result for {len(pages)} pages")
for name, lie in lies.items():
    kinds = list(find_faults(told(lie)).values())
    counts = ", ".join(f"{kind} {kinds.count(kind)}" for kind in dict.fromkeys(kinds))
    print(f"{name:<24}{counts or '-'}")

# %% reading [markdown]
# The table shows the result of your function for the gallery. A lie on all pages is found only on some of them: if a
# page is full of digits, misplaced boxes lie on other digits, and the grey values inside them are as dark. One page
# is not enough to decide. `validate` uses all pages together, and ranks instead of thresholds for grey values, so it
# can also name the cause. Both miss changes of a single pixel, and wrong labels that are valid classes.
#
# ## A number to check
#
# The object of section 2 fills the columns 10 to 29 and the rows 5 to 24 of an image of width 60 and height 40. With
# the rule of section 3, the scale is the smaller of $800 / 40 = 20$ and $1333 / 60 = 22.2$. The box becomes (200,
# 100, 600, 500), and its area is $400^2 =$ **160,000** square pixels. The cell takes the long way: it writes the
# image and VOC's XML, reads the folder like `rcnn train`, and makes the batch. Then it counts the dark pixels of the
# batch, without using the box. They are about 0.1 % fewer, because bilinear resizing rounds the corners.

# %% number
xml = """<annotation>
<filename>a.png</filename><size><width>60</width><height>40</height></size>
<object><name>thing</name>
<bndbox><xmin>11</xmin><ymin>6</ymin><xmax>30</xmax><ymax>25</ymax></bndbox></object>
</annotation>"""
with tempfile.TemporaryDirectory() as folder:
    Path(folder, "a.xml").write_text(xml)
    Image.fromarray(small).save(Path(folder, "a.png"))
    image, target = data.VOC(folder, progress=False)[0]

batch = transform.make_batch([image], 800, 1333, mean, deviation)
sizes = batch.original_sizes[0], batch.image_sizes[0]
in_batch = transform.scale_boxes(target["boxes"], *sizes)
halfway = (225 + 150) / 2 / 255  # between the grey values of background and object
dark = (transform.to_images(batch, mean, deviation)[0].mean(axis=2) < halfway).sum()
print("read from the file:", target["boxes"][0], "  in the batch:", in_batch[0])
print("area of the box:      ", boxes.area(in_batch)[0])
print("number of dark pixels:", dark)
assert boxes.area(in_batch)[0] == 160_000 and 0.0005 < 1 - dark / 160_000 < 0.0015

# %% learned [markdown]
# ## What you have learned
#
# - A target consists of boxes in pixels of its image, and of labels from 1 to L - 1.
# - Resizing changes the boxes, with one factor for each axis. Normalisation and padding do not change them.
# - A program finds impossible numbers and boxes that do not fit their images. Wrong labels need a person who looks.
#
# ## Exercises without solutions
#
# **Warm-up** (minutes)
#
# 1. Write the pages to a folder with `data.write_voc(pages, "pages", "train")`, and read one of the XML files. Which
#    of the four numbers of a box are larger by 1? Then run `rcnn check voc:pages` in a terminal, and look at the
#    image that it saves.
# 2. A box misses the last row and the last column of an object of $s \times s$ pixels. For which $s$ is its IoU below
#    0.9? For which is it below 0.95?
#
# **Core** (half an hour)
#
# 3. Add your own lie to `lies`: for example, move the boxes of every second page to the right. How far must they move
#    until their mean fit decreases, and until `validate` reports an error? Which error is it?
# 4. How many pages does `validate` need to find *boxes of another page*? Shorten `pages` until it finds nothing.
#
# **Stretch** (an evening)
#
# 5. Write mirroring as a function of boxes and size, pass it to `overlay.box_fits` instead of the function that
#    changes nothing, and verify that the mirrored pages fit again.
# 6. Find wrong labels with a detector: run `rcnn.load_digits()` on the pages with *labels of the next box*, and list
#    the objects on which a certain detection has another class. How many wrong labels do you find? How many right
#    labels does your list contain? (This detector was trained on right labels. Would it work if it had been trained
#    on the wrong ones?)

# %% questions [markdown]
# ## Five questions
#
# Click on an answer to see whether it is right, and why.

# %% quiz
course.quiz("""
    A COCO file has the box (40, 10, 20, 30). Its image is resized from 480 × 640 to 240 ×
    320. What is the box in rcnn after resizing?
    [ ] (20, 5, 10, 15)
        These are still x, y, width and height. First convert to two corners.
    [x] (20, 5, 30, 20)
        As corners, the box is (40, 10, 60, 40). Both sides of the image become half as
        long, so all numbers are halved.
    [ ] (40, 10, 60, 40)
        This is the box in the original image. It must be resized together with the image.
    [ ] (5, 20, 20, 30)
        A size starts with the height, but a box starts with x.

    A batch contains an image of 100 × 150 pixels and one of 200 × 90 pixels (height ×
    width), already resized. What is the shape of the batch?
    [ ] (2, 3, 200, 150)
        This is the largest height and the largest width. Both must also be divisible by 32.
    [ ] (2, 3, 224, 224)
        Height and width are rounded up separately. The batch need not be square.
    [x] (2, 3, 224, 160)
        The largest height, 200, is rounded up to 224, and the largest width, 150, to 160.
    [ ] (2, 3, 192, 128)
        Rounding down would cut the images off. Padding only adds pixels.

    A box has x2 = NaN. Which test finds it?
    [ ] `x2 <= x1`
        Every comparison with NaN is false, so this test finds nothing.
    [ ] `x2 - x1 < 1`
        The difference is NaN, too, and the comparison is false.
    [ ] `x2 == np.nan`
        NaN is not equal to anything, not even to itself.
    [x] `not x2 > x1`
        The comparison is false, so its negation is true. Test what must hold, and negate
        it.

    In a data set of 500 images, the mean fit of all boxes is 0.51. What is the most likely
    reason?
    [ ] About half of the boxes are wrong, and the other half is right.
        Right boxes have a fit near 1, and wrong ones of 0.5 on average. The mean would be
        about 0.75.
    [x] The boxes do not belong to their images.
        A box at a random place has a random rank, so its fit is 0.5 on average.
    [ ] The boxes are one pixel too small.
        Such boxes still have nearly the same contrast. Their fit stays near 1.
    [ ] The labels are wrong.
        The fit compares boxes and images. It does not use the labels.

    `data.validate` finds no problem in a data set. Which conclusion is justified?
    [ ] The annotations are right.
        Wrong labels and shifts of a pixel are not found, as the gallery shows.
    [ ] Nothing can be concluded, because it misses some errors.
        Many frequent errors, such as swapped axes and a wrong format, are now unlikely.
    [x] The boxes are possible, and most of them lie on something that stands out.
        This is what the three levels of the test examine. For the rest, draw the boxes and
        labels of a dozen images.
""")

# %% next [markdown]
# ## Where to go next
#
# Notebook 03 explains what the backbone computes from the batch. In the library, `rcnn.data` contains the readers and
# `validate`, and `rcnn.transform` resizes and normalises. For further reading, see [3] section 3 and [4] section 4 on
# how people annotated these data sets.
