# %% [markdown]
# # Evaluation
#
# Detections, average precision, and the kinds of errors.

# %%
import numpy as np

import rcnn
from rcnn import data, evaluate, plot

model = rcnn.load_digits()
pages = data.Digits(40, split="val")
items = [pages[i] for i in range(40)]
images, targets = [image for image, _ in items], [target for _, target in items]
detections = model.predict(images)
result = evaluate.evaluate_detections(detections, targets, len(pages.classes))

# %% [markdown]
# `detections` draws the detections of an image on axes; `annotate` draws them into the image itself.

# %%
found = {name: values[detections[7]["scores"] > 0.5] for name, values in detections[7].items()}
figure = plot.figure(10, 5.2)
left, right = figure.subplots(1, 2)
plot.detections(
    left, images[7], found["boxes"], found["scores"], found["labels"], pages.classes, gt_boxes=targets[7]["boxes"]
)
drawing = plot.annotate(
    np.kron(images[7], np.ones((4, 4, 1), np.uint8)),
    4 * found["boxes"],
    found["scores"],
    found["labels"],
    pages.classes,
)
plot.image(right, drawing)
figure

# %% [markdown]
# `precision_recall` draws the curve of one class, and `precision_recall_classes` those of all classes.

# %%
eight = pages.classes.index("8")
figure = plot.figure(10, 4.2)
left, right = figure.subplots(1, 2)
plot.precision_recall(left, result.recall[eight], result.precision[eight], "8", result.ap[eight])
plot.precision_recall_classes(right, result.recall, result.precision, result.ap, pages.classes)
figure

# %% [markdown]
# `interpolation` shows the envelope from which average precision is computed.

# %%
figure = plot.figure(5.5, 4)
plot.interpolation(figure.subplots(), result.recall[eight], result.precision[eight])
figure

# %% [markdown]
# `ranking`, `ranked_boxes` and `ranked_curve` show a ranked list: its scores, its boxes and its curve.

# %%
scores = np.array([0.95, 0.9, 0.7, 0.55, 0.3])
correct = np.array([True, True, False, True, False])
recall = np.cumsum(correct) / 4
precision = np.cumsum(correct) / np.arange(1, 6)
figure = plot.figure(12, 4)
left, middle, right = figure.subplots(1, 3)
plot.ranking(left, scores, correct, admitted=3)
plot.ranked_boxes(middle, images[7], found["boxes"][:5], correct[: len(found["boxes"])], targets[7]["boxes"])
plot.ranked_curve(right, recall, precision, correct, admitted=3)
figure

# %% [markdown]
# `ap_bars` draws the average precision of each class, and `confusion_matrix` the confused classes.

# %%
figure = plot.figure(11, 4.8)
left, right = figure.subplots(1, 2)
plot.ap_bars(left, result.ap, pages.classes)
confusion = evaluate.confusion(detections, targets, len(pages.classes))
plot.confusion_matrix(right, confusion, pages.classes)
figure

# %% [markdown]
# `error_kinds` draws how much average precision each kind of error costs.

# %%
errors = evaluate.error_kinds(detections, targets, len(pages.classes))
figure = plot.figure(8, 3.6)
kinds = list(errors.repaired)
rows = [list(errors.examples).index(kind) for kind in kinds]
gains = np.array([errors.repaired[kind] - errors.mean_ap for kind in kinds])
plot.error_kinds(figure.subplots(), kinds, gains, errors.detections.sum(axis=1)[rows], errors.objects.sum(axis=1)[rows])
figure

# %% [markdown]
# `evaluation_page` draws all of this in one figure, as `rcnn eval --plots` does.

# %%
stages = evaluate.recall_by_stage(model, pages, progress=False)
plot.evaluation_page(result, confusion, errors, stages, pages.classes)

# %% [markdown]
# `findings` draws a table of measures, and highlights values that differ from a reference.

# %%
reference = np.array([0.25, 0.98, 0.97])
rows = np.array([[0.25, 0.98, 0.97], [0.25, 0.51, 0.40]])
figure = plot.figure(7, 2.2)
plot.findings(
    figure.subplots(), rows, ["detector A", "detector B"], ["anchors", "proposals", "detections"], reference, 0.05
)
figure
