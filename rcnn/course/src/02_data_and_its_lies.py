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
#     seconds: 20
# ---

# %% question [markdown]
# # Data and its lies
#
# **The question.** A detector believes what it is shown. If every box is a little beside its object, it learns to draw
# boxes beside objects; if x and y are swapped, it learns nothing, and no error message says why. The loss falls a
# little in either case. How can one know, before training, that the data say what they should?
#
# | name | shape | what it is |
# |---|---|---|
# | `image` | (h, w, 3) | 8-bit colours, as people have them |
# | `target` | a dict | `boxes` (G, 4) and `labels` (G,), for the G objects of an image |
# | `size` | (height, width) | of an image; y comes first |
# | `images` | (N, 3, H, W) | a batch: images resized, normalised and padded |
#
# You will write `resize_boxes`, which takes boxes along when their image is resized, and `find_faults`, which is given
# a data set with five planted errors and says where they are and of what kind.
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
    """A data set of what is at hand: a length, `classes`, and `[i]` are all that a data set needs."""

    def __init__(self, items, classes):
        self.items, self.classes = items, classes

    def __len__(self):
        return len(self.items)

    def __getitem__(self, index):
        return self.items[index]


rcnn.set_num_threads(1)  # enough for small pages
drawn = data.Digits(45, seed=3, size=(96, 144))  # (height, width): wider than high, on purpose
pages = Pages([drawn[i] for i in range(len(drawn))], drawn.classes)
photo = load_sample_image("flower.jpg")  # (427, 640, 3)

# %% targets [markdown]
# ## 1  What a target is
#
# A *target* says what is on an image. It is a dict of two arrays with a row for each object:
#
# - `boxes` (G, 4): `x1, y1, x2, y2` in pixels of *this* image, with $x_2 > x_1$ and $y_2 > y_1$;
# - `labels` (G,): whole numbers from 1 to $L - 1$. L counts the classes *and the background*, whose label is 0.
#
# Nothing is ever annotated as background. It is what the detector says of a region that holds no object, so its label
# must exist and must not be given to an object. (So the digit 0 has the label 1 here, and the digit 9 the label 10.)
# And G = 0 is an ordinary image: it teaches the detector where there is nothing; its arrays have the shapes (0, 4)
# and (0,).
#
# > **What people get wrong.** Labels from 0. The first class then counts as background, and all others are named one
# > too low. rcnn refuses such a target; torchvision trains on it, its losses look as they always do, and the detector
# > never finds an object of the first class.

# %% targets-shown
page, blank = 8, next(i for i in range(len(pages)) if len(pages[i][1]["boxes"]) == 0)
print("L =", len(pages.classes), "classes:", ", ".join(pages.classes))
figure = plot.figure(8, 2.8)
for ax, index in zip(figure.subplots(1, 2), (page, blank), strict=True):
    image, target = pages[index]
    plot.boxes(plot.image(ax, image), target["boxes"], target["labels"], class_names=pages.classes)
    plot.title(
        ax,
        f"Page {index}: image {image.shape}",
        f"boxes {target['boxes'].shape}, labels {target['labels'].shape}: {target['labels']}",
    )
figure

# %% notations [markdown]
# ## 2  One box, four notations
#
# Take an image 60 pixels wide and 40 high, and an object that fills its columns 10 to 29 and its rows 5 to 24. In
# continuous coordinates, column 10 begins at $x = 10$ and column 29 ends at $x = 30$. So the box is (10, 5, 30, 25), and
# it is $30 - 10 = 20$ pixels wide, with nothing to add. Other conventions write other numbers for it:
#
# | who | what is written | why |
# |---|---|---|
# | rcnn, torchvision | 10, 5, 30, 25 | the two corners, continuous |
# | VOC's XML [3] | 11, 6, 30, 25 | the first and the last pixel, both part of the box, counted from 1 |
# | COCO's JSON [4] | 10, 5, 20, 20 | a corner, then width and height |
# | many text files | 0.333, 0.375, 0.333, 0.5 | the centre, then width and height, as shares of the image |
#
# All are four numbers, and none says which convention it follows. `rcnn.data` turns those of VOC and COCO into the first
# row; torchvision's `VOCDetection` and `CocoDetection` hand out what the file says, and leave the rest to you. Below,
# VOC's numbers are read as they should be, and in two wrong ways. The second of these was right once: the paper's own
# code takes 1 from all four numbers, and counts a width as $x_2 - x_1 + 1$ everywhere (notebook 01). Taken over into
# code without that + 1, it is wrong.

# %% notations-drawn
small = np.full((40, 60, 3), 225, np.uint8)
small[5:25, 10:30] = (130, 150, 170)  # rows 5 to 24, columns 10 to 29
readings = np.array([[10, 5, 30, 25], [11, 6, 30, 25], [10, 5, 29, 24]])
names = ["as it should be", "its numbers as they are", "1 taken from all of them"]

figure = plot.figure(9, 4.2)
ax = plot.pixel_boxes(figure.subplots(), small, readings, names)
ax.set(xlim=(6, 34), ylim=(29, 2))
plot.title(ax, "xmin 11, ymin 6, xmax 30, ymax 25", "three readings of one object in a VOC file")
for name, box in zip(names, readings, strict=True):
    print(f"{name:<26}IoU with the object {boxes.iou(readings[:1], box[None])[0, 0]:.4f}")
figure

# %% last-pixel [markdown]
# A row and a column are lost in each of the wrong readings, so that of $s \times s$ pixels
#
# $$ \mathrm{IoU} = \left(\frac{s - 1}{s}\right)^2 $$
#
# remains: 0.9025 for 20 pixels, and 0.84 for an object of 12. A box that is off by this much still looks right. But
# COCO's measure also asks which detections reach an IoU of 0.9 and of 0.95 (notebook 12), and a detector that has
# learned such boxes perfectly cannot reach them on small objects.
#
# ## 3  The image is resized, and its boxes go along
#
# Photos come in all sizes. A network could take any, but it learns objects at the sizes in pixels that it is shown. So
# all images are brought to a similar size. The rule is: the shorter side becomes 800 pixels, unless the longer one
# would then exceed 1333. With one scale for both sides,
#
# $$ s = \min\left(\frac{800}{\min(h, w)}, \frac{1333}{\max(h, w)}\right), \qquad
#    h' = \lfloor s\,h \rfloor, \quad w' = \lfloor s\,w \rfloor. $$
#
# The paper has a shorter side of 600 ([1] section 3.3), and its code stops at 1000 for the longer one; 800 came with the
# pyramids ([2] section 5.1), and torchvision and rcnn have 800 and 1333. Predict, before you run the cell: what becomes
# of a photo of 480 × 640, of 640 × 480, and of a panorama of 500 × 2000 (height × width)?

# %% sizes-shown
for size in ((480, 640), (640, 480), (500, 2000), (427, 640), (4000, 3000)):
    height, width = transform.resized_size(size, min_size=800, max_size=1333)
    factors = f"height x {height / size[0]:.5f}   width x {width / size[1]:.5f}"
    print(f"{size!s:<14}becomes {(height, width)!s:<14}{factors}")
course.source(transform.resized_size)

# %% resize [markdown]
# The two factors at the end of each line are nearly the same, and not always quite: cutting to whole pixels changes one
# side a little more than the other. The image is stretched to exactly $h' \times w'$, so x goes with $w' / w$ and y
# with $h' / h$. torchvision does the same.
#
# **Your turn.** Write the rule with what it means for boxes. Mind which of the two numbers of a size belongs to x.
#
# > **What people get wrong.** They resize the image in the data set and forget the boxes; or resize both, and the
# > transform of the detector resizes the image again, with boxes that are in neither's pixels. One place should do
# > both: give rcnn the image as it is, with its boxes, and the detections are in the pixels of that image.


# %% resize-yours
def resize_boxes(boxes, size, min_size, max_size):
    """(boxes (G, 4), (height, width)): what an image's boxes and its size become when it is resized.

    boxes: (G, 4) x1, y1, x2, y2 in pixels of the image; G may be 0. They must not be changed in place.
    size: (height, width) of the image.
    min_size, max_size: the shorter side becomes min_size, unless the longer one would then exceed
        max_size; then the longer becomes max_size. Both sides are cut to whole pixels.
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
print(f"{photo.shape[:2]} becomes {resized.shape[:2]}, and the boxes become", np.round(moved, 1).tolist())

figure = plot.figure(7, 2.6)
shown_boxes, titles = (moved, flowers), ("They went along", "They did not")
for ax, shown, title in zip(figure.subplots(1, 2), shown_boxes, titles, strict=True):
    plot.boxes(plot.image(ax, resized), shown, np.array([1, 1]), class_names=("background", "flower"))
    plot.title(ax, title)
figure

# %% batch [markdown]
# ## 4  From images to a batch: nothing happens to the boxes
#
# Two steps remain. Each channel, with values from 0 to 1, is normalised, $(c - \mu) / \sigma$, with constants that belong
# to the weights: those of ImageNet where the weights know ImageNet. Then zeros at the right and at the bottom bring all
# images of a batch to one size, divisible by 32: a ResNet halves both sides five times (notebook 03).
#
# Neither concerns the boxes. That is why the zeros are on the right and at the bottom only: the origin stays where it
# was. And since zero is the mean after normalisation, the padding has the mean colour, $\mu$, as the plot shows.
#
# > **What people get wrong.** Normalising after padding: the zeros then become $-\mu / \sigma$, an edge that the network
# > sees. And normalising twice, in the data set and in the detector: what lay between -2.1 and 2.6 then lies between
# > -11 and 10, and weights that were trained on the former know nothing of the latter. rcnn refuses an image of
# > floats outside of [0, 1]; torchvision takes it.

# %% batch-shown
panorama = photo[100:300]  # (200, 640, 3)
mean, deviation = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
batch = transform.make_batch([photo, panorama], 256, 427, mean, deviation)
print("images", batch.images.shape, batch.images.dtype, "  image_sizes", batch.image_sizes)

figure = plot.figure(7, 2.5)
for ax, planes, (height, width) in zip(figure.subplots(1, 2), batch.images, batch.image_sizes, strict=True):
    visible = planes.transpose(1, 2, 0) * deviation + mean  # (H, W, 3), normalisation undone
    plot.image(ax, np.clip(visible, 0, 1))
    plot.title(
        ax,
        f"{height} × {width} in {planes.shape[1]} × {planes.shape[2]}",
        f"zeros: {1 - height * width / planes[0].size:.0%} of the image",
    )
figure

# %% lies [markdown]
# ## 5  A gallery of lies
#
# Eleven ways in which a target can be wrong; each takes one line of code. The first tile is the truth.
# Look at each before you read its caption, and ask: would a test of the numbers alone have found this? A box is red and
# dashed where it cannot be right whatever the image shows.
#
# The test that finds nearly all of them is to *draw the boxes on the images and look*. It takes a minute, and there is
# no excuse for leaving it out.

# %% lies-shown
H, W = 96, 144  # of all pages

lies = {  # name: (image p, boxes b (G, 4), labels k (G,), the page's index i) -> (image, boxes, labels)
    "the truth": lambda p, b, k, i: (p, b, k),
    "x and y swapped": lambda p, b, k, i: (p, b[:, [1, 0, 3, 2]], k),
    "x, y, width, height": lambda p, b, k, i: (p, boxes.convert(b, "xyxy", "xywh"), k),
    "y from the bottom": lambda p, b, k, i: (p, [0, H, 0, H] + b[:, [0, 3, 2, 1]] * [1, -1, 1, -1], k),
    "shares of the page": lambda p, b, k, i: (p, b / [W, H, W, H], k),
    "made for half the size": lambda p, b, k, i: (p, b / 2, k),
    "another page's": lambda p, b, k, i: (p, *pages[(i + 1) % len(pages)][1].values()),
    "image turned": lambda p, b, k, i: (np.rot90(p), b, k),
    "image mirrored": lambda p, b, k, i: (p[:, ::-1], b, k),
    "last pixel left out": lambda p, b, k, i: (p, b - [0, 0, 1, 1], k),
    "labels from 0": lambda p, b, k, i: (p, b, k - 1),
    "labels of the next box": lambda p, b, k, i: (p, b, np.roll(k, 1)),
}
image, target = pages[page]
tiles = [lie(image, target["boxes"], target["labels"], page) for lie in lies.values()]
shown, shown_boxes, shown_labels = (list(each) for each in zip(*tiles, strict=True))
plot.contact_sheet(shown, shown_boxes, shown_labels, pages.classes, list(lies))

# %% levels [markdown]
# ## 6  What a program can find
#
# `data.validate`, or `rcnn check` in a terminal, reads every image once and lists what is wrong. It works on three
# levels:
#
# 1. **One box.** No inside, not finite, outside of its image, a label that no class has, twice the same.
# 2. **All boxes together.** If most of them have no inside, but all would as x, y, width and height, then that is what
#    they are. If no number exceeds 1, they are shares of the image.
# 3. **Boxes and images.** No number is impossible, but the boxes do not lie on what is there. Section 7 says how a
#    program can see that.
#
# Which of the lies will it find? Predict, then run. A `-` means that it found nothing.


# %% validator
def told(lie):
    """The data set of all pages as this lie shows them."""
    items = []
    for i in range(len(pages)):
        image, target = pages[i]
        image, some_boxes, labels = lie(image, target["boxes"], target["labels"], i)
        items.append((image, {"boxes": some_boxes, "labels": labels}))
    return Pages(items, pages.classes)


reports = {name: data.validate(told(lie), progress=False) for name, lie in lies.items()}
for name, report in reports.items():
    print(f"{name:<24}{', '.join(f'{p.kind} ({p.count})' for p in report.problems) or '-'}")

print("\nmore of two of the reports, with what is to be done:")
for problem in (*reports["x, y, width, height"].problems, *reports["another page's"].problems):
    print(f"- {problem.sentence} ({problem.kind}, {problem.count} times)\n  {problem.remedy}")

# %% overlay [markdown]
# ## 7  How a program can look
#
# The truth is rightly found to be without fault, and so are three of the lies, wrongly. But how can it know that y was
# counted from the bottom, where each number is possible?
#
# An object differs from what is around it. So a box has more *contrast* between its inside and its surroundings on its
# own image than on others. For each box, take the contrast $c_j$ that it has on each image $j$ of the set. Its *fit*
# is the share of the images on which it has less than on its own, $i$:
#
# $$ \mathrm{fit} = \frac{1}{N} \sum_j \left[\, c_j < c_i \,\right] . $$
#
# Near 1, the box belongs to its image. A box that does not has an even chance of any rank: 1/2 on average, *whatever
# the images show*. No detector is needed for this, and no threshold in grey values. (In full: the mean of two such
# ranks, by the contrast of colour and by that of edges, where equals share their rank.) If the boxes fit hardly better
# than chance, `validate` tries what could have happened to them, and reports what makes them fit.


# %% overlay-shown
def fits_of(dataset):
    """(B,): how well each box fits its own image."""
    reduced = [
        overlay.reduce_image(i, np.ascontiguousarray(image), target["boxes"].astype(float))
        for i, (image, target) in enumerate(dataset)
    ]
    fits, owners = overlay.box_fits(reduced, reduced, lambda some_boxes, size: some_boxes)  # (B, N), (B,)
    return fits[np.arange(len(owners)), owners]


figure = plot.figure(8, 3.8)
ax = figure.subplots()
plot.fit_histogram(
    ax,
    {
        name: fits_of(told(lies[name]))
        for name in ("the truth", "last pixel left out", "y from the bottom", "image mirrored")
    },
)
plot.title(ax, "How well boxes fit their images", f"{len(pages)} pages of digits")
figure

# %% blind [markdown]
# Here is why three of the lies were not found. The mirrored pages *are* visible: their boxes fit hardly better than
# chance. But mirroring is not among the changes that `validate` tries, so it has no verdict. A box that lacks its last
# row fits as well as the truth; only a person with a magnifying glass sees that. And no contrast tells a 4 from a 9:
# wrong labels are invisible to all three levels.
#
# So this is the answer to the question at the top: let a program look for what it can find, and mend that. But a silent
# validator is no proof. Draw the boxes, with their labels, on a dozen images and look.
#
# ### Nearly twice
#
# The same box twice is found by comparing numbers. Two people who annotate the same object draw boxes that differ by a
# pixel. For these, one asks for the IoU of each box with each other one on the page, and looks at pairs above 0.8, say.
# So notebook 01's function has its first use. Its reference is six lines, and the kernel beside it does the same in the
# same order; here are both on the boxes of all pages, (N, 4) against (N, 4).

# %% nearly-twice
every_box = np.concatenate([target["boxes"] for _, target in pages])  # (N, 4)
print("N =", len(every_box))
course.compare(boxes.iou, every_box, every_box)

doubled = [
    np.concatenate([target["boxes"], target["boxes"][:1] + [1, 0, 0, 1]])
    for _, target in pages
    if len(target["boxes"])
]  # each page's first object once more, a pixel off
found = sum((np.triu(boxes.iou(b, b), k=1) > 0.8).any() for b in doubled)
print(f"\nnearly the same box twice: found on {found} of {len(doubled)} pages")
course.source(boxes._iou)

# %% exif [markdown]
# ### The photo that lies on its side
#
# A camera that is held upright stores the photo lying down and writes into the file, as EXIF data, how to turn it. Some
# programs turn it and some do not. Boxes that were drawn with one kind and read with the other are those of the tile
# *image turned*. `rcnn.images.read` turns; so do rcnn's readers, which turn the boxes along where they were drawn
# on the stored image. With Pillow alone it is your task: `ImageOps.exif_transpose`.

# %% exif-shown
with tempfile.TemporaryDirectory() as folder:
    path = Path(folder) / "photo.jpg"
    exif = Image.Exif()
    exif[0x0112] = 6  # the number for "turn by a quarter, clockwise"
    Image.fromarray(np.rot90(photo[:, 160:460])).save(path, exif=exif)  # of what was seen, (427, 300, 3)
    with Image.open(path) as file:
        stored, upright = np.asarray(file), images.read(path)

figure = plot.figure(5.5, 2.4)
left, right = figure.subplots(1, 2)
plot.title(plot.image(left, stored), "As stored", f"{stored.shape}")
plot.title(plot.image(right, upright), "As it was seen", f"{upright.shape}")
figure

# %% faults [markdown]
# ## 8  Five planted errors
#
# **Your turn.** You are given pages like those above, of unequal height and width, and five of them are wrong. They are
# planted afresh each time, so there is nothing to remember. A page is wrong in one of five ways. If several apply, the
# first of them counts:
#
# | kind | what is wrong |
# |---|---|
# | `"label"` | some label is not one of 1 .. $L - 1$ |
# | `"empty"` | some box does not have $x_2 > x_1$ and $y_2 > y_1$ |
# | `"outside"` | some box reaches *more than a pixel* beyond its page; up to a pixel is rounding, and let pass |
# | `"twice"` | the same box with the same label is there twice |
# | `"elsewhere"` | the boxes do not lie on the digits |
#
# The last is the hard one, because no number is impossible. `validate` cannot help: its verdicts of that kind are on a
# whole set, most of which suffers from the same. But you know these pages: ink is dark. Let a pixel's grey value be the
# mean of its three channels, $m$ the median of the page's grey values, and $\bar g$ the mean grey value inside a box,
# averaged over the boxes of the page. On the pages that you are given: where boxes are on their digits,
# $m - \bar g \ge 20$; where they are beside them, $m - \bar g \le 10$.
#
# Two traps: comparisons with NaN are false, all of them, so ask for what must hold and negate that. And a page without
# objects is not wrong.


# %% faults-yours
def find_faults(dataset):
    """{index: kind} of the pages in which something is wrong: the first kind of the table that applies.

    dataset: has a length and `classes`, the background first; dataset[i] is the pair
        (image (h, w, 3) uint8, {"boxes": (G, 4) float32, "labels": (G,) int64}), where G may be 0.
        It must not be changed.
    kinds, the first that applies: "label", "empty", "outside", "twice", "elsewhere".
    """
    ### BEGIN SOLUTION
    found = {}
    for i in range(len(dataset)):
        image, target = dataset[i]
        some_boxes, labels = target["boxes"], target["labels"]
        height, width = image.shape[:2]
        rows = [(*box, label) for box, label in zip(some_boxes.tolist(), labels.tolist(), strict=True)]
        if not ((labels >= 1) & (labels < len(dataset.classes))).all():
            found[i] = "label"
        elif not (some_boxes[:, 2:] > some_boxes[:, :2]).all():
            found[i] = "empty"
        elif (some_boxes[:, :2] < -1).any() or (some_boxes[:, 2:] > [width + 1, height + 1]).any():
            found[i] = "outside"
        elif len(set(rows)) < len(rows):
            found[i] = "twice"
        elif rows:
            grey = image.mean(axis=2)  # (h, w)
            inside = [
                grey[int(max(y1, 0)) : int(np.ceil(y2)), int(max(x1, 0)) : int(np.ceil(x2))].mean()
                for x1, y1, x2, y2, _ in rows
            ]
            if np.median(grey) - np.mean(inside) < 15:
                found[i] = "elsewhere"
    return found
    ### END SOLUTION


# %% faults-check points=4
checks.find_faults(find_faults)

print(f"{'':<24}yours, of {len(pages)} pages")
for name, lie in lies.items():
    kinds = list(find_faults(told(lie)).values())
    print(f"{name:<24}{', '.join(f'{kind} {kinds.count(kind)}' for kind in dict.fromkeys(kinds)) or '-'}")

# %% reading [markdown]
# The table shows your function on the gallery. A lie that concerns all pages shows on some only: where a page is full
# of digits, boxes that are in the wrong places lie on other digits, and the ink inside them is as dark. One page proves
# little. `validate` pools all pages before it judges, and works with ranks, which need no limit in grey values; so it can
# name the cause. What passes both is what changes a pixel, or labels alone.
#
# ## A number to check
#
# Section 2 had an object in columns 10 to 29 and rows 5 to 24 of an image 60 wide and 40 high. Resized by the rule of
# section 3, with 800 and 1333, the scale is the smaller of $800 / 40 = 20$ and $1333 / 60 = 22.2$. So the box becomes
# (200, 100, 600, 500), and it covers $400^2 =$ **160,000** square pixels. The cell takes the long way: it writes the
# image and VOC's XML, reads the folder as `rcnn train` does, and makes the batch. Then it counts the dark pixels of
# the batch, which knows nothing of boxes. They are about 0.1% fewer: bilinear resizing makes the edges soft and the
# corners round.

# %% number
xml = """<annotation><filename>a.png</filename><size><width>60</width><height>40</height></size>
<object><name>thing</name>
<bndbox><xmin>11</xmin><ymin>6</ymin><xmax>30</xmax><ymax>25</ymax></bndbox></object></annotation>"""
with tempfile.TemporaryDirectory() as folder:
    Path(folder, "a.xml").write_text(xml)
    Image.fromarray(small).save(Path(folder, "a.png"))
    image, target = data.VOC(folder, progress=False)[0]

batch = transform.make_batch([image], 800, 1333, mean, deviation)
in_batch = transform.scale_boxes(target["boxes"], batch.original_sizes[0], batch.image_sizes[0])
halfway = (225 + 150) / 2 / 255  # between the two greys
dark = (transform.to_images(batch, mean, deviation)[0].mean(axis=2) < halfway).sum()
print("read from the file:", target["boxes"][0], "  in the batch:", in_batch[0])
print("area of the box:           ", boxes.area(in_batch)[0])
print("pixels that are dark there:", dark)

# %% next [markdown]
# ## To try
#
# 1. Add a lie of your own to `lies`, such as boxes of every second page shifted by three pixels. From which shift on do
#    their fits drop, and from which does `validate` speak up? Why not before?
# 2. `rcnn check voc:FOLDER` does all this for a folder of yours and draws sixteen pages. What does it say of the last
#    data set that you downloaded?
# 3. How many pages does the verdict on *another page's* need? Shorten `pages` until `validate` falls silent.
# 4. Write the change "mirrored" as a function of boxes and size, pass it to `overlay.box_fits` in place of the one that
#    changes nothing, and see the mirrored pages fit again.
