# %% [markdown]
# # The second stage and its gradients
#
# The RoIs that the second stage learns from, and where the gradients of the losses flow.

# %%
import numpy as np

import rcnn
from rcnn import data, nn, plot, roi_heads

pages = data.Digits(4, split="val")
model = rcnn.load_digits().train()
images, targets = [pages[i][0] for i in range(4)], [pages[i][1] for i in range(4)]
trace = model.trace(images, targets, rng=np.random.default_rng(0))

# %% [markdown]
# `roi_batch` draws the sampled RoIs of a page, one row for each class.

# %%
figure = plot.figure(7, 4.4)
plot.roi_batch(
    figure.subplots(), images[1], trace.sampled_rois[1], trace.sampled_labels[1], ["background", *pages.classes[1:]]
)
figure

# %% [markdown]
# `gradient_flow` draws the parts of the detector with the gradient norms that they receive, and `gradient_table` a
# table of these norms.


# %%
def gradient_norms(names, parts):
    losses = model.get_loss(images, targets, rng=np.random.default_rng(0))
    model.zero_grad()
    sum(losses[name] for name in names).backward()
    grads = {name: [p.grad for p in part.parameters() if p.grad is not None] for name, part in parts.items()}
    return {name: np.sqrt(sum(float((grad**2).sum()) for grad in found)) for name, found in grads.items()}


parts = {"backbone": model.backbone, "rpn": model.rpn, "roi_heads": model.roi_heads}
norms = {
    "rpn": gradient_norms(["rpn_cls_loss", "rpn_reg_loss"], parts),
    "roi": gradient_norms(["roi_cls_loss", "roi_reg_loss"], parts),
}
figure = plot.figure(9.4, 4.2)
plot.gradient_flow(figure.subplots(), norms)
figure

# %%
losses = ("rpn_cls_loss", "rpn_reg_loss", "roi_cls_loss", "roi_reg_loss")
figure = plot.figure(8, 2.8)
plot.gradient_table(figure.subplots(), {name: gradient_norms([name], parts) for name in losses})
figure

# %% [markdown]
# `gradient_by_class` draws the gradient of the deltas of each RoI and class; only the true class has one.

# %%
sample = roi_heads.find_targets(
    trace.proposals[1], trace.gt_boxes[1], trace.gt_labels[1], batch_size=24, rng=np.random.default_rng(2)
)
class_logits, box_deltas = model.forward(images[1:2], sample.rois, np.zeros(len(sample.rois), int))
leaf = nn.Tensor(box_deltas.data, requires_grad=True)
_, loss = roi_heads.loss(class_logits, leaf, [sample])
loss.backward()
figure = plot.figure(7, 4.4)
plot.gradient_by_class(figure.subplots(), leaf.grad, sample.labels, pages.classes)
figure

# %% [markdown]
# `gradient_errors` draws the error of numerical gradients for several step sizes.

# %%
steps = np.logspace(-12, 0, 25)
errors = {
    name: np.abs((np.sin(dtype(1 + steps)) - np.sin(dtype(1 - steps))) / dtype(2 * steps) - np.cos(1)) + 1e-18
    for name, dtype in (("float64", np.float64), ("float32", np.float32))
}
figure = plot.figure(7, 3.8)
plot.gradient_errors(figure.subplots(), steps, {name: np.minimum(values, 10) for name, values in errors.items()})
figure
