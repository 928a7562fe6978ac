# %% [markdown]
# # RoIPool and RoIAlign
#
# How one region of interest (RoI) becomes a small map of fixed size.

# %%
import numpy as np

import rcnn
from rcnn import data, plot, roi

y, x = np.mgrid[:7, :9]
hill = np.exp(-((x - 4.2) ** 2 + (y - 3.1) ** 2) / 7)  # (7, 9), a feature map with one channel
box = np.array([1.3, 0.8, 6.6, 5.4])  # in cells, because the scale is 1

# %% [markdown]
# `quantised_bins` draws the rounded bins of RoIPool, and `bins_legend` its legend; `sample_points` draws the
# sample points of RoIAlign.

# %%
figure = plot.figure(10, 4.4)
left, right = figure.subplots(1, 2)
plot.title(plot.quantised_bins(left, hill, box, 1.0, (2, 2)), "RoIPool")
plot.bins_legend(left)
plot.title(plot.sample_points(right, hill, box, 1.0, (2, 2)), "RoIAlign")
figure

# %% [markdown]
# `bin_values` draws the pooled values.

# %%
pooled = roi.roi_align(hill[None, None], box[None], np.zeros(1, int), (2, 2), 1.0)[0, 0]
figure = plot.figure(3.4, 3.2)
plot.bin_values(figure.subplots(), pooled, (0, 1))
figure

# %% [markdown]
# `shift_curves` draws values against the shift of a RoI: RoIPool jumps, RoIAlign does not.

# %%
shifts = np.linspace(0, 2, 101)
moved = box + shifts[:, None] * (1, 0, 1, 0)
images = np.zeros(len(shifts), int)
curves = {
    "RoIPool": roi.roi_pool(hill[None, None], moved, images, (2, 2))[:, 0, 0, 0],
    "RoIAlign": roi.roi_align(hill[None, None], moved, images, (2, 2), 1.0)[:, 0, 0, 0],
}
figure = plot.figure(7, 3.8)
plot.shift_curves(figure.subplots(), shifts, curves, "shift, cells", "output of the first bin", at=0.5)
figure

# %% [markdown]
# `pooled_features` draws the channels of one RoI as tiles.

# %%
image, target = data.Digits(split="val")[7]
trace = rcnn.load_digits().trace([image], [target])
figure = plot.figure(6, 6)
plot.pooled_features(figure.subplots(), trace.pooled[0], max_channels=36)
figure
