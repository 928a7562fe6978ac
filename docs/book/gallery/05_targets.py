# %% [markdown]
# # Matching and deltas
#
# What each anchor learns: its kind, its object, and the deltas that lead to the object.

# %%
import numpy as np

import rcnn
from rcnn import anchors, boxes, data, matching, plot

image, target = data.Digits(split="val")[7]
grid = anchors.AnchorGenerator(*(rcnn.load_digits().config.anchor_sizes, rcnn.load_digits().config.aspect_ratios))(
    (128, 128), [(16, 16)]
)[0]
overlaps = boxes.iou(grid, target["boxes"])  # (A, G)
matches = matching.match(overlaps, high=0.7, low=0.3, force_best=True)  # (A,)
positive = np.flatnonzero(matches >= 0)

# %% [markdown]
# `match_bands` draws a histogram of the best IoU of each anchor, coloured by kind of anchor.

# %%
figure = plot.figure(7, 3.8)
plot.match_bands(figure.subplots(), overlaps.max(axis=1), high=0.7, low=0.3)
figure

# %% [markdown]
# `match_shares` compares the fractions of positive, ignored and negative anchors.

# %%
counts = []
for high in (0.5, 0.7):
    kinds = matching.match(overlaps, high=high, low=0.3, force_best=True)
    counts.append([(kinds >= 0).sum(), (kinds == matching.IGNORED).sum(), (kinds == matching.BACKGROUND).sum()])
figure = plot.figure(8, 2.4)
plot.match_shares(figure.subplots(), np.array(counts), ["threshold 0.5", "threshold 0.7"])
figure

# %% [markdown]
# `matched_anchors` draws positive anchors as boxes, and the others as dots; `moves` draws an arrow from each
# positive anchor to its object.

# %%
figure = plot.figure(10, 5.2)
left, right = figure.subplots(1, 2)
plot.matched_anchors(left, image, grid, matches, target["boxes"])
plot.moves(right, image, grid[positive], target["boxes"][matches[positive]])
figure

# %% [markdown]
# `delta_histograms` draws the distribution of each of the four deltas.

# %%
deltas = boxes.encode(target["boxes"][matches[positive]], grid[positive])
figure = plot.figure(8, 4)
plot.delta_histograms(figure.subplots(), deltas, limit=0.8)
figure
