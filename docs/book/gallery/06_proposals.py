# %% [markdown]
# # Proposals and NMS
#
# From the scores of the RPN to the boxes that the second stage classifies.

# %%
import numpy as np

import rcnn
from rcnn import boxes, data, evaluate, nms, plot

model = rcnn.load_digits()
pages = data.Digits(20, split="val")
image, target = pages[7]
trace = model.trace([image], [target])
probability = 1 / (1 + np.exp(-trace.objectness[0][0].reshape(16, 16, 6).max(axis=2)))  # (16, 16)
candidates, scores = trace.candidates[0], trace.candidate_scores[0]

# %% [markdown]
# `objectness` draws the probability of an object at each cell, and `proposals` the best boxes.

# %%
figure = plot.figure(10, 5.2)
left, right = figure.subplots(1, 2)
plot.title(plot.objectness(left, image, probability), "Objectness")
plot.title(plot.proposals(right, image, trace.proposals[0], trace.proposal_scores[0], top=50), "The 50 best proposals")
figure

# %% [markdown]
# `nearest_proposals` highlights the nearest proposal of each object.

# %%
best = trace.proposals[0][:20]
figure = plot.figure(5, 5.4)
plot.nearest_proposals(figure.subplots(), image, best, boxes.iou(best, target["boxes"]), target["boxes"])
figure

# %% [markdown]
# `funnel` draws how many boxes are left after each step.

# %%
figure = plot.figure(8, 4)
plot.funnel(figure.subplots(), trace.counts())
figure

# %% [markdown]
# `suppression_step` and `suppression_queue` show one step of NMS; `suppression_legend` adds the legend.

# %%
few = np.argsort(-scores, kind="stable")[:60:5]  # (12,), by descending score
overlaps = boxes.iou(candidates[few], candidates[few])
first, removed = 0, overlaps[0] > 0.5
states = np.where(removed, "removed now", "waiting").tolist()
states[first] = "kept now"
figure = plot.figure(9, 4.6)
left, right = figure.subplots(1, 2)
plot.suppression_step(left, candidates[few], states, image)
plot.suppression_legend(left, states)
plot.suppression_queue(right, scores[few], states, overlaps[0])
figure

# %% [markdown]
# `recall_steps` draws the recall after each step, and `stage_recall` that of each stage of a detector.

# %%
steps = {
    "anchors": trace.anchors[0],
    "candidates": candidates,
    "NMS": candidates[nms.nms(candidates, scores, model.config.rpn_nms_thresh)],
    "proposals": trace.proposals[0],
}
recalls = {
    f"IoU {limit}": np.array(
        [(boxes.iou(target["boxes"], found).max(axis=1) >= limit).mean() for found in steps.values()]
    )
    for limit in (0.5, 0.7)
}
figure = plot.figure(8, 3.8)
plot.recall_steps(figure.subplots(), tuple(steps), np.array([len(found) for found in steps.values()]), recalls)
figure

# %%
stages = evaluate.recall_by_stage(model, pages, progress=False)
figure = plot.figure(8, 3.6)
plot.stage_recall(figure.subplots(), stages.stages, {"IoU 0.5": stages.recall(), "IoU 0.7": stages.recall(0.7)})
figure

# %% [markdown]
# `growth` draws how the running time depends on the number of boxes, and a line of the expected growth. These times
# are those of a function whose time is proportional to the square of the number.

# %%
sizes = np.array([500, 1000, 2000, 4000])
figure = plot.figure(6, 3.8)
plot.growth(figure.subplots(), sizes, {"all pairs of boxes": 2e-8 * sizes**2.0}, power=2)
figure
