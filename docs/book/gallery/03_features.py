# %% [markdown]
# # Features and stride
#
# Sliding windows, receptive fields and feature maps.

# %%
import numpy as np

import rcnn
from rcnn import data, nn, plot

model = rcnn.load_digits()
image, target = data.Digits(split="val")[7]
trace = model.trace([image], [target])

# %% [markdown]
# `sliding_windows` draws the positions of a filter on a padded map, and `windows_legend` its legend.

# %%
figure = plot.figure(5, 4.6)
ax = plot.sliding_windows(figure.subplots(), (7, 7), kernel=3, stride=2, padding=1)
plot.title(ax, "7 × 7, stride 2, padding 1", "filter 3 × 3")
plot.windows_legend(ax)
figure

# %% [markdown]
# `cells_and_pixels` shows which pixels each cell of a stack of layers sees. A layer is (kernel, stride, padding).

# %%
figure = plot.figure(10, 3.4)
plot.cells_and_pixels(figure.subplots(), [(3, 2, 1), (3, 2, 1), (3, 1, 1)], 24, cell=3, pixel=3)
figure

# %% [markdown]
# `feature_map` draws the largest activation of each cell, or some channels side by side.

# %%
figure = plot.figure(10, 4)
left, right = figure.subplots(1, 2)
plot.title(plot.feature_map(left, trace.features[0][0]), "Largest activation", "of all channels")
plot.title(plot.feature_map(right, trace.features[0][0], max_channels=16), "The first 16 channels")
figure

# %% [markdown]
# `influence` draws how much each pixel changes a cell, with boxes for comparison.

# %%
batch = nn.Tensor(trace.batch.astype(np.float64), requires_grad=True)
with nn.evaluation():
    features = model.backbone.astype(np.float64)(batch)
features = features if isinstance(features, nn.Tensor) else features[0]
features[0, :, 8, 8].sum().backward()
gradient = np.abs(batch.grad[0]).sum(axis=0)  # (H, W)
figure = plot.figure(5.5, 5)
ax = plot.influence(figure.subplots(), gradient / gradient.max(), {"one stride": (60.5, 60.5, 68.5, 68.5)})
plot.title(ax, "Influence of each pixel on cell (8, 8)")
figure
