# %% [markdown]
# # Training
#
# Losses, validation and proposals of a training run.

# %%
import numpy as np

import rcnn
from rcnn import boxes, data, plot, train

# %% [markdown]
# The run: twenty steps on pages with shapes, from random weights.

# %%
pages, unseen = data.Shapes(40), data.Shapes(8, split="val")
rcnn.seed(0)
model = rcnn.faster_rcnn_small(pages.classes)
recipe = train.Recipe(steps=20, batch_size=2, lr=1e-3, warmup_steps=5, val_every=10)
best = {0: [trace.proposals[0][:10] for trace in (model.trace([unseen[i][0]]) for i in range(8))]}
run = train.fit(model, pages, recipe, val=unseen, progress=False)
best[20] = [trace.proposals[0][:10] for trace in (model.trace([unseen[i][0]]) for i in range(8))]

# %% [markdown]
# `loss_curves` draws the losses, `levels` adds lines for comparison, and `lines` draws any other values.

# %%
figure = plot.figure(10, 3.8)
left, right = figure.subplots(1, 2)
plot.levels(plot.loss_curves(left, run.history, smoothing=3), {"log 2": np.log(2)})
plot.lines(right, np.arange(20), {"learning rate": np.array([recipe.lr_at(i) for i in range(20)])}, "step", "rate")
figure

# %% [markdown]
# `training_curves` draws losses, learning rate and AP in one figure, as `rcnn train` does.

# %%
plot.training_curves(run.history, [recipe.lr_at(i) for i in range(20)], run.validation)

# %% [markdown]
# `settling` draws how well the best boxes fit the objects after several steps.

# %%
overlaps = [
    np.concatenate(
        [boxes.iou(found, unseen[i][1]["boxes"]).max(axis=0, initial=0) for i, found in enumerate(best[step])]
    )
    for step in (0, 20)
]
figure = plot.figure(6, 3.6)
plot.settling(figure.subplots(), (0, 20), overlaps)
figure
