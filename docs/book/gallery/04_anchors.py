# %% [markdown]
# # Anchors
#
# The anchors of a cell, of a level and of a data set.

# %%
import numpy as np

import rcnn
from rcnn import anchors, boxes, data, evaluate, plot

model = rcnn.load_digits()
pages = data.Digits(40, split="val")
image, target = pages[7]
cell = anchors.cell_anchors((16, 32), (0.5, 1.0, 2.0))  # (6, 4)
grid = anchors.grid_anchors(cell, (16, 16), (8, 8))  # (1536, 4)
overlaps = boxes.iou(grid, target["boxes"])  # (A, G)

# %% [markdown]
# `cell_anchors` draws the anchors of one cell, coloured by aspect ratio.

# %%
figure = plot.figure(5, 4.6)
plot.cell_anchors(figure.subplots(), cell, stride=8)
figure

# %% [markdown]
# `anchor_order` writes the indices of the anchors at each centre.

# %%
few = anchors.grid_anchors(anchors.cell_anchors((12,), (1, 2)), (2, 3), (18, 20))  # (12, 4)
figure = plot.figure(8, 3.9)
plot.anchor_order(figure.subplots(), few, color_of=np.tile([0, 1], 6))
figure

# %% [markdown]
# `anchor_level` draws the centres of a level, and all anchors of one cell.

# %%
figure = plot.figure(5, 5)
plot.anchor_level(figure.subplots(), image, grid, near=(64, 64))
figure

# %% [markdown]
# `best_anchors` draws each object and its best anchor.

# %%
figure = plot.figure(5, 5)
best = grid[overlaps.argmax(axis=0)]
plot.best_anchors(figure.subplots(), image, target["boxes"], best, overlaps.max(axis=0))
figure

# %% [markdown]
# `coverage` draws each object of a data set as a dot, coloured by its best IoU with an anchor, and
# `coverage_histogram` the distribution of these IoUs.

# %%
found = evaluate.coverage(pages, model.anchor_generator, model.strides(), 128, 128, progress=False)
figure = plot.figure(10, 4.2)
left, right = figure.subplots(1, 2)
plot.coverage(left, found.sizes, found.ratios, found.best_iou, model.anchor_generator.cells[0])
plot.coverage_histogram(right, found.best_iou)
figure

# %% [markdown]
# `coverage_map` draws the best IoU as a function of two variables, here of the size and the aspect ratio.

# %%
sizes, ratios = np.geomspace(8, 64, 61), np.geomspace(0.25, 4, 61)
root = np.sqrt(ratios)[:, None]
half = np.stack([sizes / root, sizes * root], axis=-1) / 2  # (61, 61, 2)
objects = np.concatenate([64 - half, 64 + half], axis=-1).reshape(-1, 4)
best = boxes.iou(grid, objects).max(axis=0).reshape(61, 61)
figure = plot.figure(5.5, 4.4)
plot.coverage_map(figure.subplots(), sizes, ratios, best, "size of the object, pixels", "height / width", log=True)
figure
