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
#     seconds: 180
# ---

# %% question [markdown]
# # Failure lab
#
# **The question.** A detector finds nothing, or finds the wrong things. No line of code has failed, no warning was given,
# and the loss is some number. Where does one look?
#
# Below are seven patients. Each is the digit detector that comes with this package, with 16 annotated pages that it has
# never seen. Six of them have one planted fault each, one is sound, and their order is drawn at random. The faults are
# those that people really make:
#
# | name | what was done |
# |---|---|
# | `"sound"` | nothing |
# | `"swapped axes"` | the boxes of the annotations are y1, x1, y2, x2 |
# | `"shuffled boxes"` | each page has the boxes and labels of some other page of the 16 |
# | `"labels from 0"` | the labels count from 0, so the background has lost its place |
# | `"large anchors"` | the anchors are four times as large as those of the training |
# | `"wrong normalisation"` | `image_mean` or `image_std` is for pixels in another range |
# | `"untrained head"` | the second stage has random weights, and was frozen |
#
# You will not read their settings. You will **measure**, walking the way that an image walks: pixels, anchors, proposals,
# detections, classes. The rule is one sentence long: *begin with the first number that is wrong*, for everything after it
# suffers with it. And ask what that number depends on, for this is all that can be ill.
#
# The faults were planted into a detector that had been trained rightly. That shows them clearly, and within seconds; what
# a fault does when a detector is *trained* with it comes at the end.
#
# [1] Ren, He, Girshick, Sun: *Faster R-CNN*, 2015 (arXiv 1506.01497). [2] Hoiem, Chodpathumwan, Dai: *Diagnosing Error in
# Object Detectors*, 2012. [3] Bolya, Foley, Hays, Hoffman: *TIDE: A General Toolbox for Identifying Object Detection
# Errors*, 2020 (arXiv 2008.08115). [4] Karpathy: *A Recipe for Training Neural Networks*, 2019.

# %% setting-up
import numpy as np

import rcnn
from rcnn import boxes, course, data, doctor, evaluate, plot, train
from rcnn.checks import diagnosis

rcnn.set_num_threads(1)  # on small pages a second one gains little, and loses much on a busy machine
patients = diagnosis.ward(seed=13)  # seven, A to G
healthy = diagnosis.reference(seed=13)  # one that is known to be sound, to compare with
names = [patient.name for patient in patients]


def walk(patient):
    "(the trace of all pages of a patient, the target of each page): what there is to measure."
    images, targets = zip(*patient.pages, strict=True)
    return patient.model.trace(list(images)), list(targets)


walked = {patient.name: walk(patient) for patient in (healthy, *patients)}

# %% look [markdown]
# ## 1  Look first
#
# Plots come before numbers ([4], its first step). Dashed are the annotations of one page of each patient, in colour
# the detections with a score of at least 0.5. Write down a guess for each letter now, and three where the plot does
# not decide.

# %% overlays
figure = plot.figure(11, 6.2)
for ax, patient in zip(figure.subplots(2, 4).flat, (healthy, *patients), strict=True):
    (image, target), found = patient.pages[2], walked[patient.name][0].outputs[2]
    sure = found["scores"] >= 0.5
    plot.detections(
        ax,
        image,
        found["boxes"][sure],
        None,
        found["labels"][sure],
        diagnosis.Pages.classes,
        target["boxes"],
    )
    plot.title(ax, patient.name, f"{sure.sum()} detections, {len(sure)} before the cut")
figure

# %% losses [markdown]
# ## 2  The losses
#
# The losses on these pages are cheap, and everybody looks at them first. `get_loss` compares what the network says with
# the annotations, so a bad network and bad annotations look alike to it. Two numbers are worth knowing by heart: log 2 =
# 0.69, objectness that says nothing, and log 11 = 2.40, a head with eleven classes that says nothing.
#
# Predict: for which faults will the RPN's losses be high, and for which only those of the second stage?

# %% losses-table
terms = "rpn_cls_loss", "rpn_reg_loss", "roi_cls_loss", "roi_reg_loss"


def losses_of(patient):
    "The four losses on the patient's pages, or what `get_loss` has to say against them."
    images, targets = map(list, zip(*patient.pages, strict=True))
    try:
        losses = patient.model.get_loss(images, targets, np.random.default_rng(0))
    except ValueError as error:
        return f"refused: {error}"
    return "  ".join(f"{losses[name].item():12.2f}" for name in terms)


print(" " * 7, "  ".join(f"{name:>12}" for name in terms))
for patient in (healthy, *patients):
    print(f"{patient.name:<8}{losses_of(patient)}")

# %% losses-read [markdown]
# One patient gives itself away here, for this library looks at every target before it learns from it. Many do not: there
# an object with the label 0 is taught to be background, in silence, and the last class is never seen.
#
# One loss stands at a number that you know by heart. Beyond that, note how little they tell. Four patients have an
# `rpn_cls_loss` above log 2, worse than saying nothing, and four different things ail them. And the losses of a second
# stage can be *lower* than those of the sound patient in one that is ill: a loss knows only what is put before it.
#
# > **What people get wrong.** Tuning. A loss that is too high invites other learning rates, and with a fault in the data
# > some learning rate is always a little better. Find the fault first.
#
# ## 3  Stage by stage
#
# Now the walk. For every object take the box of each stage that overlaps it best. An object that a stage has lost is
# rarely found again by those after it ([1] section 4.1 measures the recall of proposals by itself). Activations, too:
# what goes into the network should have a mean and a deviation of about the size of 1, and a head that has learned
# something is certain of most of its RoIs. The entropy of a row of class probabilities, $-\sum_c p_c \log p_c$, is 0
# where it is certain and log 11 = 2.40 where it knows nothing.


# %% measures
def nearest(found, wanted):
    "(G,) for each annotated box, a list of (G, 4) by page, the IoU of the nearest found on its page."
    return np.concatenate(
        [
            boxes.iou(page, objects).max(axis=0, initial=0)
            for page, objects in zip(found, wanted, strict=True)
        ]
    )


def entropy(logits):
    "(R,) of the class probabilities of each RoI, from its logits (R, L)."
    powers = np.exp(logits - logits.max(axis=1, keepdims=True))
    p = powers / powers.sum(axis=1, keepdims=True)  # (R, L)
    return -(p * np.log(p + 1e-12)).sum(axis=1)


def measure(trace, targets):
    "Eight numbers, in the order in which an image meets what they are about."
    wanted = [target["boxes"] for target in targets]
    anchors = [np.concatenate(trace.anchors)] * len(wanted)
    detected = [one["boxes"] for one in trace.outputs]
    return [
        trace.batch.mean(),
        trace.batch.std(),
        np.abs(trace.features[0]).mean(),
        np.median(nearest(anchors, wanted)),
        (nearest(trace.proposals, wanted) >= 0.5).mean(),
        entropy(trace.class_logits).mean(),
        (nearest(detected, wanted) >= 0.5).mean(),
        np.mean([len(page) for page in detected]),
    ]


# %% findings
measures = [
    "pixels:\nmean",
    "pixels:\ndeviation",
    "features:\nmean size",
    "anchors:\nmedian IoU",
    "proposals:\nrecall",
    "head:\nentropy",
    "detections:\nrecall",
    "detections\nper page",
]
figure = plot.figure(10, 3.6)
plot.findings(
    figure.subplots(),
    [measure(*walked[name]) for name in names],
    names,
    measures,
    measure(*walked["sound"]),
    tolerance=0.3,
)
figure

# %% findings-read [markdown]
# Read each row from the left, and stop at the first dark cell. (Differences of less than 30 % are left white: patients
# have pages of their own.) That leaves few suspects, if you ask what each number depends on:
#
# | number | what can make it wrong |
# |---|---|
# | pixels | the images, `image_mean`, `image_std`; no weight, no annotation |
# | features | the same, and the backbone |
# | anchors | their sizes and ratios, and the annotated boxes; no pixel, no weight |
# | proposals | all of these, and the RPN |
# | head | the pixels, the proposals and the second stage; no annotation |
# | detections | all of these |
#
# Which three patients can be named now? Two rows are white to the end, and only one of them belongs to a sound patient;
# section 4 has a plot for them. And two patients are left whose proposals and detections miss the annotated boxes,
# though pixels, anchors and head are as in the sound one.
#
# When a detector and its annotations disagree, *either may be wrong*. The plots of section 1 say which, and so does a
# head that is certain of what it sees. To tell two faults of annotations apart, take a diagnosis for what it is, a
# hypothesis: undo the fault that you suspect, and measure again. Write that measurement.
#
# > **What people get wrong.** Mending the detector until it agrees with annotations that are wrong. And two remedies at
# > once: if it is better afterwards, you do not know why.


# %% recalls-yours
def recalls(found, wanted):
    """Three recalls: as annotated, with x and y exchanged back, and with the boxes of another page.

    found and wanted: of each of N pages, N >= 2, the detected boxes (D, 4) and the annotated ones
    (G, 4), which are not changed. A recall is the share of all annotated boxes that some box found
    on their page overlaps by an IoU of at least 0.5. For the second, annotated boxes are read as
    y1, x1, y2, x2. For the third, page i has the annotated boxes of page (i + k) % N; of
    k = 1 .. N - 1 the one with the highest recall counts.
    """

    ### BEGIN SOLUTION
    def recall(wanted):
        return (nearest(found, wanted) >= 0.5).mean()

    turned = [page[:, [1, 0, 3, 2]] for page in wanted]
    moved = [wanted[k:] + wanted[:k] for k in range(1, len(wanted))]
    return recall(wanted), recall(turned), max(map(recall, moved))
    ### END SOLUTION


# %% recalls-check points=3
diagnosis.check_recalls(recalls)
print(" " * 8 + "as annotated   exchanged back   of another page")
for name, (trace, targets) in walked.items():
    three = recalls([one["boxes"] for one in trace.outputs], [target["boxes"] for target in targets])
    print(f"{name:<8}{three[0]:12.2f}{three[1]:17.2f}{three[2]:18.2f}")

# %% kinds [markdown]
# Three numbers, of which at most one is near 1: that is a measurement which tells things apart. Where none is, the
# annotations may be right, and it is the detector that does not find the objects.
#
# ## 4  Kinds of error
#
# Average precision is one number for everything that can go wrong. Sorting the errors is more telling ([2]; [3] section
# 2.2): a box that is near but not near enough, a good box of the wrong class, a second box on an object, a box on
# nothing, an object without a box. Each bar is the AP that would be won if there were no error of this kind.
#
# Predict the longest bar of each patient. Where annotations are wrong, what will a *good* detection be called?


# %% error-kinds
def draw_errors(ax, patient):
    "Draws the kinds of error of a patient; says so where the targets are refused."
    trace, targets = walked[patient.name]
    try:
        errors = evaluate.error_kinds(trace.outputs, targets, len(patient.pages.classes))
    except ValueError as error:
        plot.title(ax, patient.name, f"refused: {error}").set_axis_off()
        return
    kinds = list(errors.repaired)
    at = [list(errors.examples).index(kind) for kind in kinds]
    plot.error_kinds(
        ax,
        kinds,
        np.array(list(errors.repaired.values())) - errors.mean_ap,
        errors.detections.sum(axis=1)[at],
        errors.objects.sum(axis=1)[at],
    )
    ax.set(xlim=(0, 2), xticks=(0, 0.5, 1), xlabel="gained by its repair")  # one scale for all
    plot.title(ax, patient.name, f"mean AP {errors.mean_ap:.3f}")


figure = plot.figure(11, 8.5)
for ax, patient in zip(figure.subplots(4, 2).flat, (healthy, *patients), strict=True):
    draw_errors(ax, patient)
figure

# %% names [markdown]
# One patient would be well if its boxes had the right names, another if it had boxes for what it missed. For others no
# single repair helps, though hardly anything is right: where all is wrong at once, mending one kind brings no AP, and the
# counts beside the bars tell more than the bars. Annotations that lie elsewhere make "background" of good detections and
# "missed" of found objects, in about equal numbers. That pattern is worth remembering.
#
# ### Which name for which
#
# Where boxes lie on the objects, one can ask for names. A *confusion matrix* counts how often each class is taken for
# each other: a row for each class that was annotated, a column for each that was said. `evaluate.confusion` makes it, but
# not of a label 0; here it is made by hand, of the three patients whose detections lie on the annotated boxes. The last
# row and column are those of the label 0, nothing: objects annotated as nothing, and objects with no sure detection.
#
# Predict: where are the counts of a sound patient, and where if labels begin with 0?


# %% names-called
def called(patient):
    "(L, L) counts of the objects: rows are annotated labels, columns what is said; 0 where nothing is."
    counts = np.zeros((len(patient.pages.classes),) * 2, int)
    for found, target in zip(walked[patient.name][0].outputs, walked[patient.name][1], strict=True):
        sure = found["scores"] >= 0.5
        shared = boxes.iou(found["boxes"][sure], target["boxes"])  # (D, G)
        shared = np.concatenate([np.full((1, shared.shape[1]), 0.5), shared])  # (D + 1, G)
        said = np.append(0, found["labels"][sure])[shared.argmax(axis=0)]  # (G,)
        np.add.at(counts, (target["labels"], said), 1)
    return counts


lying = [patient for patient in patients if measure(*walked[patient.name])[6] > 0.9]  # detections: recall
figure = plot.figure(13, 4.6)
for ax, patient in zip(figure.subplots(1, len(lying)), lying, strict=True):
    plot.confusion_matrix(ax, called(patient), patient.pages.classes)
    plot.title(ax, patient.name, "annotated objects, by what was said of them")
figure

# %% diagnose [markdown]
# ## 5  Your diagnosis
#
# Write down what you did as a function. It gets a patient, measures, and returns a name. It will be tried on new wards:
# other pages, another order, and another of several wrong normalisations. Use `walk`, `nearest`, `entropy` and your
# `recalls`, or measures of your own, and ask in the order of the stages. Which bound separates ill from sound? The table
# of section 3 has a sound row to measure from; a bound in the middle of a wide gap is a good one.
#
# Two hints. For names, one number is enough: by how much the label of a detection differs from that of the object on
# which it lies, the same for nearly all. And be able to say `"sound"`: who finds something in everybody is no doctor.


# %% diagnose-yours
def diagnose(patient):
    """One of the seven names (`diagnosis.NAMES`) for a patient, by measurement.

    patient.model: the detector. patient.pages: of each of its pages the image and its target,
    {"boxes": (G, 4), "labels": (G,)}.
    """
    ### BEGIN SOLUTION
    trace, targets = walk(patient)
    wanted, found = [target["boxes"] for target in targets], [one["boxes"] for one in trace.outputs]
    if not 0.1 < trace.batch.std() < 10:
        return "wrong normalisation"
    if np.median(nearest([np.concatenate(trace.anchors)] * len(wanted), wanted)) < 0.3:
        return "large anchors"
    if entropy(trace.class_logits).mean() > 1:
        return "untrained head"
    as_annotated, exchanged, of_another_page = recalls(found, wanted)
    if max(exchanged, of_another_page) > max(as_annotated, 0.5):
        return "swapped axes" if exchanged > of_another_page else "shuffled boxes"
    shifts = [
        one["labels"][boxes.iou(one["boxes"], target["boxes"]).argmax(axis=0)] - target["labels"]
        for one, target in zip(trace.outputs, targets, strict=True)
        if len(one["boxes"])
    ]
    return "labels from 0" if np.median(np.concatenate(shifts)) == 1 else "sound"
    ### END SOLUTION


# %% diagnose-check points=6
for _ in range(3):
    diagnosis.check(diagnose)  # a new ward each time
print("right for all patients of three new wards. And those above:")
for patient in patients:
    print(f"  {patient.name}: {diagnose(patient)}")

# %% doctor [markdown]
# ## 6  A second opinion
#
# `rcnn doctor RUN` walks the same way. It measures a few things more, holds each number against bounds that sound runs
# keep well, and gives for every trouble the remedy. Here is what it says first of each patient, and the whole report on
# one of them. Where it and you disagree, find out who is right, and by which number.


# %% second-opinion
def examine(patient):
    "The doctor's verdicts on a patient."
    frozen = [name for name, parameter in patient.model.named_parameters() if not parameter.requires_grad]
    return doctor.examine(patient.model, patient.pages, frozen=frozen, progress=False)


for patient in patients:
    troubles = [verdict.trouble for verdict in examine(patient) if verdict.trouble]
    print(
        f"{patient.name}: {troubles[0] if troubles else 'nothing is wrong'}"
        + (f"  (and {len(troubles) - 1} that follow)" if len(troubles) > 1 else "")
    )

# %% report
print(doctor.report(examine(patients[0])))

# %% rules [markdown]
# A rule of the doctor is short. This one judges the anchors: its number, its bound, its remedy. Note that poor coverage
# is forgiven where the RPN finds the objects all the same, for then it does no harm. A doctor who does not ask for the
# harm alarms at every oddity.
#
# Most of this measuring is IoU: anchors, proposals and detections with objects. The kernel makes it cheap enough to be
# done at every validation; the second cell below measures by how much.

# %% rule-source
course.source(doctor.rules.anchors)

# %% rule-ratio
anchors = np.concatenate(walked["sound"][0].anchors)
objects = np.concatenate([target["boxes"] for target in walked["sound"][1]])
print("anchors", anchors.shape, "objects", objects.shape)
course.compare(boxes.iou, anchors, objects.astype(np.float32))

# %% trained-in [markdown]
# ## 7  When the fault was trained in
#
# So far the network was right and was led astray afterwards. More often it has *learned* from the fault. Then the
# loss curves are what there is to see, and now they are asked to name something. Four short runs on shapes, from the
# same random weights: a sound one, one with swapped axes, one with a frozen head, one with a learning rate of 1.
#
# Predict: can you tell the swapped run from the sound one by its curve?


# %% trained-runs
class Swapped(data.Shapes):
    "Pages whose boxes are y1, x1, y2, x2."

    def __getitem__(self, index):
        image, target = super().__getitem__(index)
        return image, {**target, "boxes": target["boxes"][:, [1, 0, 3, 2]]}


runs = {
    "sound": (data.Shapes, {}),
    "swapped axes": (Swapped, {}),
    "frozen head": (data.Shapes, {"freeze": ("roi_heads",)}),
    "rate of 1": (data.Shapes, {"lr": 1.0}),
}
histories = {}
for name, (kind, change) in runs.items():
    rcnn.seed(0)
    model = rcnn.faster_rcnn_small(kind.classes, min_size=96)
    recipe = train.Recipe(**{"steps": 80, "batch_size": 2, "lr": 2e-3, "warmup_steps": 10, **change})
    histories[name] = train.fit(model, kind(size=(96, 96)), recipe, progress=False).history

# %% trained-curves
figure = plot.figure(12, 3.4)
for ax, name in zip(figure.subplots(1, 3), ("total_loss", "rpn_cls_loss", "roi_cls_loss"), strict=True):
    losses = {run: history[name] for run, history in histories.items()}
    plot.loss_curves(ax, losses, smoothing=15, log=True)
    plot.title(ax, name, "mean of 15 steps; pale: every step")
    if name == "roi_cls_loss":
        plot.levels(ax, {"log 5": np.log(5)})
    else:
        ax.get_legend().remove()  # the last one serves all
figure

# %% table [markdown]
# The frozen head shows, in its own loss alone: it stays near log 5, while the RPN learns as it should. The rate of 1
# shows within ten steps; that its curve comes back down to the others is no recovery, for to call everything background
# takes one large bias and nothing else. And the swapped run goes along with the sound one; its RPN lags a little, too
# little to be a sign. In its first steps a network learns how rare objects are, and for that any boxes will do. A curve
# of the loss finds faults of the *training*. Faults of the *data* it can hide for a long time: there looking at
# annotated pages helps, and `rcnn check`.
#
# ## 8  What to look at, and what to do
#
# | symptom | measurement | cause | remedy |
# |---|---|---|---|
# | first losses far from log 2, log L | the losses before step 1 | first weights too large, a sum for a mean | notebook 11, section 1 |
# | one batch is not learned by heart | the four losses on it | no gradient, wrong targets | checks of notebooks 05 to 10 |
# | it is, and boxes lie beside the objects | decode of encode | one is not the other's inverse | checks of notebook 06 |
# | loss is flat | `requires_grad`; a third and three times the rate | frozen part, rate too low or far too high | take it out of `freeze`; mend the rate |
# | loss is NaN | the first stage that is not finite | boxes without extent, rate too high, no warm-up | `rcnn check`; a lower rate; clipping |
# | nothing, or nonsense, is found | mean and deviation of the batch | `image_mean`, `image_std` for 0 .. 255 | those of the training, for 0 .. 1 |
# | small, or large, objects are missed | best anchor's IoU, by size | anchors do not cover the objects | `evaluate.suggest` |
# | annotated boxes beside the objects, detections on them | recall after exchanging columns | x and y swapped | mend the reader of the annotations |
# | the same, and exchanging columns does not help | recall with other pages' annotations | lists of images and targets have slipped | join by name, not by place |
# | good boxes, all of them misnamed | label found minus label annotated | labels from 0, another order of names | count from 1; store names with weights |
# | boxes good, classes at random | entropy of the head | head is untrained or was not loaded | load strictly; look for missing names |
# | good in training, poor on new pages | AP on both | too few pages, or both annotated differently | more pages, `flip`, `scale_jitter` |
# | several boxes on every object | kinds of error: duplicate | NMS threshold too high, or NMS left out | `box_nms_thresh` 0.5 |
#
# > **What people get wrong.** Beginning anywhere in such a table. Look at annotated pages before anything else, for many
# > detectors are ill by their data and not by their code; then begin with the first stage.

# %% by-hand [markdown]
# ## A number to check
#
# How bad is an anchor that is four times too large in each direction? Take an object that one of the right anchors fits
# exactly. Of its large relative it fills one part in sixteen, and it lies wholly inside, so the IoU is $1/16 = 0.0625$.
# Below is that number for the three square anchors of a cell. An anchor is positive from an IoU of 0.7 on ([1] section
# 3.1.2). Even the largest right square, 40 wide, and the smallest large one, 56 wide, share no more than
# $(40/56)^2 = 0.51$: an object that a right square fits exactly reaches 0.7 with none of the large ones. All that is
# positive for it is what the best-anchor rule of notebook 05 forces.

# %% by-hand-check
cell = rcnn.anchors.cell_anchors((14, 24, 40), (1.0,))  # (3, 4), squares around (0, 0)
large = rcnn.anchors.cell_anchors((56, 96, 160), (1.0,))
print("widths of the right anchors:", (cell[:, 2] - cell[:, 0]).tolist())
print("widths of the large anchors:", (large[:, 2] - large[:, 0]).tolist())
print("IoU of each with its large one:", np.diag(boxes.iou(cell, large)).tolist(), " by hand:", 1 / 16)

# %% next [markdown]
# ## To try
#
# 1. Plant a fault of your own: boxes that are 2 pixels too far left, one annotation in three left out, red and blue
#    exchanged. Which of the numbers above shows it? Does the doctor?
# 2. Make it harder: anchors 1.5 times as large, or one page in four with another's boxes. How small may a fault be until
#    your function misses it, and until the AP does not suffer from it?
# 3. Train shapes with swapped boxes for 300 steps instead of 80. A convolution hardly knows where on the page it is. What
#    is the best that the network can do?
# 4. Give a patient two faults. Does the rule of the first wrong number still find both, one after the other?
