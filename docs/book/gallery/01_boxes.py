# %% [markdown]
# # Boxes and IoU
#
# Boxes on a pixel grid, their overlap, and the IoU as a function of a shift.

# %%
import numpy as np

from rcnn import boxes, data, plot

# %% [markdown]
# `box_formats` draws one box with its coordinates in every format.

# %%
figure = plot.figure(9, 4)
plot.title(plot.box_formats(figure.subplots(), (2, 1, 7, 4), size=(6, 9)), "One box in three formats")
figure

# %% [markdown]
# `pixel_grid` shades the pixels that a box covers.

# %%
covered = np.zeros((4, 7), bool)
covered[1:3, 2:5] = True
figure = plot.figure(6, 3.6)
plot.pixel_grid(figure.subplots(), covered, (2, 1, 5, 3))
figure

# %% [markdown]
# `pixel_boxes` compares boxes on a small image whose pixels are visible.

# %%
image, target = data.Digits(split="val")[7]
x1, y1, x2, y2 = target["boxes"][0].astype(int)
small = image[y1 - 2 : y2 + 3, x1 - 2 : x2 + 3]
right = np.array([2, 2, x2 - x1 + 2, y2 - y1 + 2])
figure = plot.figure(5, 5)
plot.pixel_boxes(figure.subplots(), small, np.stack([right, right - [0, 0, 1, 1]]), ["x2, y2 excluded", "included"])
figure

# %% [markdown]
# `overlap` shades the intersection of two boxes, and lists the areas from which the IoU is computed.

# %%
figure = plot.figure(5, 5)
plot.overlap(figure.subplots(), np.array([0, 0, 6, 6.0]), np.array([3, 2, 9, 8.0]), limits=(-1, -1, 11, 10))
figure

# %% [markdown]
# `iou_surface` draws the IoU as a function of two variables.

# %%
still = np.array([[0, 0, 20, 20.0]])
shift = np.linspace(-20, 20, 81)
dx, dy = np.meshgrid(shift, shift)
moved = still + np.stack([dx, dy, dx, dy], axis=-1).reshape(-1, 4)
figure = plot.figure(5.5, 4.5)
plot.iou_surface(figure.subplots(), boxes.iou(moved, still).reshape(81, 81), shift, shift, "dx, pixels", "dy, pixels")
figure

# %% [markdown]
# `image` and `boxes` draw an image and boxes with their classes; `title` adds a heading and a caption.

# %%
figure = plot.figure(5, 5.4)
ax = plot.boxes(
    plot.image(figure.subplots(), image),
    target["boxes"],
    target["labels"],
    class_names=data.Digits(split="val").classes,
)
plot.title(ax, "A page of digits", f"{len(target['boxes'])} objects")
figure
