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
# *Goals.* After this notebook, you can
#
# - measure each stage of a detector, and find the first stage with a wrong number;
# - tell faults in the annotations from faults in the detector;
# - sort detection errors into kinds and read a confusion matrix;
# - write a function that diagnoses six common faults;
# - say which faults a loss curve shows and which it hides.
#
# *Prerequisites.* Notebooks 08 (proposals), 11 (training) and 12 (average precision).
#
# *Time.* About two hours.
#
# **The question.** A detector finds nothing, or finds the wrong things. There is no error, no warning, and the loss is
# some number. Where do you look for the fault?
#
# Below are seven detectors, A to G. Each one is the digit detector that is part of rcnn, together with 16 annotated
# pages that it has not seen in training. Six of them have one planted fault each, one is sound, and their order is
# random. The faults are common in practice:
#
# | name | the fault |
# |---|---|
# | `"sound"` | none |
# | `"swapped axes"` | the annotated boxes are stored as y1, x1, y2, x2 |
# | `"shuffled boxes"` | each page has the boxes and labels of another one of the 16 pages |
# | `"labels from 0"` | the labels start at 0, which is the label of the background |
# | `"large anchors"` | the anchors are four times as large as in training |
# | `"wrong normalisation"` | `image_mean` or `image_std` belongs to pixels in another range |
# | `"untrained head"` | the second stage has random weights and is frozen |
#
# Do not read the settings of the detectors. **Measure** instead, in the order in which an image passes the stages:
# pixels, anchors, proposals, detections, classes. The rule is: *start with the first number that is wrong*, because all
# later numbers depend on it. Then ask what this number depends on. Only these things can contain the fault.
#
# The faults were planted into a trained detector, so they show clearly and within seconds. Section 7 shows what happens
# if a detector is *trained* with a fault.
#
# *History.* In 2012, Hoiem et al. [2] sorted the errors of detectors into kinds. TIDE [3] later measured how much AP
# each kind costs, with the kinds that this notebook uses.
#
# [1] Ren, He, Girshick, Sun: *Faster R-CNN*, 2015 (arXiv 1506.01497). [2] Hoiem, Chodpathumwan, Dai: *Diagnosing Error
# in Object Detectors*, 2012. [3] Bolya, Foley, Hays, Hoffman: *TIDE: A General Toolbox for Identifying Object Detection
# Errors*, 2020 (arXiv 2008.08115). [4] Karpathy: *A Recipe for Training Neural Networks*, 2019.

# %% setting-up
import textwrap

import numpy as np

import rcnn
from rcnn import boxes, checks, course, data, doctor, evaluate, plot, train
from rcnn.checks import diagnosis

rcnn.set_num_threads(1)  # on small images, more threads save little time
patients = diagnosis.ward(seed=13)  # seven detectors with their pages, A to G
reference = diagnosis.reference(seed=13)  # a sound detector, for comparison
names = [patient.name for patient in patients]


def examine_pages(patient):
    """Return the trace of all pages of a detector, and the list of their targets."""
    images, targets = zip(*patient.pages, strict=True)
    return patient.model.trace(list(images)), list(targets)


examined = {patient.name: examine_pages(patient) for patient in (reference, *patients)}

# %% look [markdown]
# ## 1  Look at the images first
#
# Look at images before you look at numbers ([4], its first step). Each panel shows one page of a detector. The dashed
# boxes are the annotations, and the coloured boxes are the detections with a score of at least 0.5. Write down a guess
# for each letter. If you cannot decide, write down up to three guesses.

# %% overlays
figure = plot.figure(11, 6.8)
for ax, patient in zip(figure.subplots(2, 4).flat, (reference, *patients), strict=True):
    (image, target), found = patient.pages[2], examined[patient.name][0].outputs[2]
    confident = found["scores"] >= 0.5
    plot.detections(
        ax,
        image,
        found["boxes"][confident],
        None,
        found["labels"][confident],
        diagnosis.Pages.classes,
        target["boxes"],
    )
    plot.title(ax, patient.name, f"{confident.sum()} of {len(confident)} detections shown")
course.show(
    figure,
    "One page of each detector. For the reference, A and B, almost every annotated box "
    "contains a digit and a detection. In C and F, the detections lie on the digits, but "
    "the annotated boxes lie elsewhere; in F, most of them are wider than high. In D and "
    "E, the annotated boxes lie on the digits, and there is no detection. In G, only the "
    "two largest digits have a detection.",
)

# %% losses [markdown]
# ## 2  The losses
#
# The losses on these pages are easy to compute, and most people look at them first. `get_loss` compares the outputs of
# the network with the annotations, so a bad network and bad annotations have the same effect. Remember two numbers:
# log 2 = 0.69 is the objectness loss if all logits are 0, and log 11 = 2.40 is the classification loss of a head that
# predicts equal probabilities for eleven classes.
#
# **Predict**: for which faults are the RPN's losses high? For which faults are only the losses of the second stage high?

# %% losses-table
terms = "rpn_cls_loss", "rpn_reg_loss", "roi_cls_loss", "roi_reg_loss"


def losses_of(patient):
    """Return the four losses on the pages of a detector, or the text of an error."""
    images, targets = map(list, zip(*patient.pages, strict=True))
    try:
        losses = patient.model.get_loss(images, targets, np.random.default_rng(0))
    except ValueError as error:
        return f"refused: {error}"
    return [losses[name].item() for name in terms]


print(" " * 9, "  ".join(f"{name:>12}" for name in terms))
table = {patient.name: losses_of(patient) for patient in (reference, *patients)}
for name, row in table.items():
    line = row if isinstance(row, str) else "  ".join(f"{value:12.2f}" for value in row)
    print(textwrap.fill(f"{name:<9} {line}", 86, subsequent_indent=" " * 10))

# (7, 4), the reference first
measured = np.array([row for row in table.values() if not isinstance(row, str)])
assert (round(np.log(2), 2), round(np.log(11), 2)) == (0.69, 2.40)
assert len(measured) == 7 and (measured[:, 0] > np.log(2)).sum() == 4
assert (np.abs(measured[:, 2] - np.log(11)) < 0.05).sum() == 1 and (
    measured[1:, 2:] < measured[0, 2:] / 2
).all(1).any()

# %% losses-read [markdown]
# One detector cannot even be measured, because rcnn checks every target before it computes a loss. Many libraries do
# not: there, an object with the label 0 is trained as background without a warning, and the last class never occurs.
#
# One loss is close to log 11. Otherwise, the losses say little. Four detectors have an `rpn_cls_loss` above log 2, which
# is worse than logits of 0, and they have four different faults. One faulty detector even has *lower* losses in the
# second stage than the reference, because a loss depends only on the boxes that reach it.
#
# > **What people get wrong.** Do not tune the learning rate when a loss is too high. With a fault in the data, some
# > learning rate is always a little better than the others. Find the fault first.
#
# ## 3  Stage by stage
#
# For each stage and each object, find the box that overlaps the object best. If a stage loses an object, later stages
# rarely find it again ([1] section 4.1 measures the recall of proposals separately). Also measure activations: the
# pixels of the batch should have a mean between about -1 and 1, and a standard deviation of about 1 or less. A trained
# head is certain of most of its RoIs. The entropy of a row of class probabilities, $-\sum_c p_c \log p_c$, is 0 if the
# head is certain, and log 11 = 2.40 if all classes are equally probable.


# %% measures
def best_iou(found, wanted):
    """Return the highest IoU of each annotated box with the boxes found on its page.

    The result is an array (G,) for the G boxes of all pages.
    found, wanted: for each page, the boxes found (D, 4) and the annotated boxes (G, 4).
    """
    pairs = zip(found, wanted, strict=True)
    return np.concatenate(
        [boxes.iou(page, objects).max(axis=0, initial=0) for page, objects in pairs]
    )


def entropy(logits):
    """Return the entropy (R,) of the class probabilities of each RoI; logits (R, L)."""
    powers = np.exp(logits - logits.max(axis=1, keepdims=True))
    p = powers / powers.sum(axis=1, keepdims=True)  # (R, L)
    return -(p * np.log(p + 1e-12)).sum(axis=1)


def measure(trace, targets):
    """Return eight numbers, in the order of the stages."""
    wanted = [target["boxes"] for target in targets]
    anchors = [np.concatenate(trace.anchors)] * len(wanted)
    detected = [one["boxes"] for one in trace.outputs]
    return [
        trace.batch.mean(),
        trace.batch.std(),
        np.abs(trace.features[0]).mean(),
        np.median(best_iou(anchors, wanted)),
        (best_iou(trace.proposals, wanted) >= 0.5).mean(),
        entropy(trace.class_logits).mean(),
        (best_iou(detected, wanted) >= 0.5).mean(),
        np.mean([len(page) for page in detected]),
    ]


# %% findings
measures = [
    "pixels:\nmean",
    "pixels:\nstd",
    "features:\nmean size",
    "anchors:\nmedian IoU",
    "proposals:\nrecall",
    "head:\nentropy",
    "detections:\nrecall",
    "detections\nper page",
]
rows = np.array([measure(*examined[name]) for name in names])  # (7, 8)
sound = np.array(measure(*examined["reference"]))  # (8,)
white = np.abs(rows - sound) <= 0.3 * np.maximum(np.abs(rows), np.abs(sound))  # (7, 8)
assert white.all(axis=1).sum() == 2
others = white[:, [0, 1, 2, 3, 5]].all(axis=1)  # all numbers except those of found boxes
assert (others & ~white[:, 4] & ~white[:, 6]).sum() == 2
figure = plot.figure(10, 3.6)
plot.findings(figure.subplots(), rows, names, measures, sound, tolerance=0.3)
first = {
    name: measures[row.argmin()].replace("\n", " ")
    for name, row in zip(names, white, strict=True)
    if not row.all()
}
course.show(
    figure,
    "Table of eight numbers for the reference and the detectors A to G. The first "
    "coloured cell of each row is: "
    + ", ".join(f"{measure} in row {name}" for name, measure in first.items())
    + ". The other rows are white.",
)

# %% findings-read [markdown]
# Read each row from the left, and stop at the first coloured cell. (A cell is white if it differs by at most 30 % from
# the reference, because each detector has its own pages.) Then ask what this number depends on:
#
# | number | depends on |
# |---|---|
# | pixels | the images, `image_mean`, `image_std`; not on weights or annotations |
# | features | the same, and the backbone |
# | anchors | their sizes and ratios, and the annotated boxes; not on pixels or weights |
# | proposals | all of these, and the RPN |
# | head | the pixels, the proposals and the second stage; not on annotations |
# | detections | all of these |
#
# Which three detectors can you diagnose now? Two rows are white to the end, and only one of them is sound. Section 4
# tells them apart. In two more rows, the proposals and the detections miss the annotated boxes, although pixels, anchors
# and head agree with the reference.
#
# When a detector and its annotations disagree, *either may be wrong*. The images of section 1 show which. A head that is
# certain also shows that the detector sees its objects. To tell two faults of the annotations apart, treat a diagnosis
# as a hypothesis: undo the suspected fault, and measure again. Write this measurement.
#
# > **What people get wrong.** Do not change the detector until it agrees with wrong annotations. Do not apply two
# > remedies at once, because then you do not know which one helped.


# %% recalls-yours
def recalls(found, wanted):
    """Return three recalls: as annotated, with swapped axes, with the boxes of other pages.

    found, wanted: lists; for each of N >= 2 pages, the detected boxes (D, 4) and the
    annotated boxes (G, 4). On some pages, D or G may be 0. Do not change them.

    Return a tuple of three numbers. A recall is the fraction of all annotated boxes that
    have a detected box on their page with an IoU of at least 0.5. For the second recall,
    read the annotated boxes as y1, x1, y2, x2. For the third recall, pair page i with the
    annotated boxes of page (i + k) % N; the k in 1 .. N - 1 with the highest recall counts.
    """

    ### BEGIN SOLUTION
    def recall(wanted):
        return (best_iou(found, wanted) >= 0.5).mean()

    swapped = [page[:, [1, 0, 3, 2]] for page in wanted]
    moved = [wanted[k:] + wanted[:k] for k in range(1, len(wanted))]
    return recall(wanted), recall(swapped), max(map(recall, moved))
    ### END SOLUTION


# %% recalls-check points=3
diagnosis.check_recalls(recalls)
print(" " * 9 + "as annotated   axes swapped   of another page")
for name, (trace, targets) in examined.items():
    three = recalls(
        [one["boxes"] for one in trace.outputs], [target["boxes"] for target in targets]
    )
    print(f"{name:<9}{three[0]:12.2f}{three[1]:15.2f}{three[2]:18.2f}")
    assert sum(recall > 0.9 for recall in three) <= 1

# %% kinds [markdown]
# At most one of the three numbers is near 1, so this measurement tells the faults apart. If none is near 1, the
# annotations may be correct, and the detector does not find the objects.
#
# ## 4  Kinds of error
#
# Average precision is one number for all kinds of error. Sorting the errors says more ([2]; [3] section 2.2): a box that
# is close to an object but not close enough, a good box with the wrong class, both faults at once, a duplicate, a box on
# background, or a missed object.
#
# **Predict** the most frequent kind of error of each detector. If the annotations are wrong, what does the table call a
# *good* detection?


# %% error-kinds
def draw_errors(ax, errors):
    """Draw a table of the kinds of error; rows are detectors, dark cells many errors."""
    kinds = list(errors[0][1].repaired)
    ax.set_xticks(range(len(kinds)), kinds)
    ax.set_yticks(
        range(len(errors)),
        [f"{name}   mean AP {found.mean_ap:.3f}" for name, found in errors],
    )
    ax.tick_params(length=0)
    counts = np.zeros((len(errors), len(kinds)), int)
    for row, (_, found) in enumerate(errors):
        at = [list(found.examples).index(kind) for kind in kinds]
        detections = found.detections.sum(axis=1)[at]
        objects = found.objects.sum(axis=1)[at]
        counts[row] = np.where(np.array(kinds) == "missed", objects, detections)
        for column, kind in enumerate(kinds):
            gain = found.repaired[kind] - found.mean_ap
            text = f"{counts[row, column]}" + (f"\nAP {gain:+.2f}" if gain >= 0.01 else "")
            ax.text(column, row, text, ha="center", va="center", fontsize=10)
    ax.imshow(np.minimum(counts, 100), cmap="Oranges", vmin=0, vmax=150, aspect="auto")
    ax.spines[:].set_visible(False)


errors, refused = [], []
for patient in (reference, *patients):
    trace, targets = examined[patient.name]
    try:
        found = evaluate.error_kinds(trace.outputs, targets, len(patient.pages.classes))
        errors.append((patient.name, found))
    except ValueError as error:
        refused.append(f"{patient.name} is refused: {error}")

figure = plot.figure(9, 5)
ax = figure.subplots()
draw_errors(ax, errors)
print(*refused)
plot.title(
    ax,
    "Wrong detections and missed objects",
    "below: the AP that is gained if they are corrected, if it is at least 0.01",
)
poor = {name: found for name, found in errors if found.mean_ap < 0.5}
gains = {
    name: {kind: found.repaired[kind] - found.mean_ap for kind in found.repaired}
    for name, found in poor.items()
}
good_after = [
    (name, kind) for name, row in gains.items() for kind, gain in row.items() if gain > 0.7
]
assert [kind for _, kind in good_after] == ["class", "missed"]
assert all(
    max(row.values()) < 0.2 for name, row in gains.items() if name not in dict(good_after)
)
course.show(
    figure,
    f"Counts of six kinds of error for {len(errors)} detectors. Two have a mean AP of at "
    f"least {min(found.mean_ap for _, found in errors if found.mean_ap >= 0.5):.2f}. The "
    f"others have {max(found.mean_ap for found in poor.values()):.2f} or less. "
    + " ".join(
        f"In row {name}, correcting the kind '{kind}' would bring {gains[name][kind]:.2f}."
        for name, kind in good_after
    )
    + " In the other poor rows, most errors are background and missed, or missed alone, "
    "and no correction brings much.",
)

# %% names [markdown]
# One detector would be good if its boxes had the right classes, and another if it had boxes for the objects that it
# missed. For other detectors, no single correction helps much, although almost all detections are wrong. If all is wrong
# at once, correcting one kind brings little AP, and the counts say more than the gains. Remember this pattern: if the
# annotations are at the wrong places, good detections count as "background" and their objects as "missed".
#
# ### Which class for which
#
# Where detections lie on the objects, compare the classes. A *confusion matrix* counts how often the detector predicts
# each class for each annotated class: rows are annotated classes, and columns are predicted classes.
# `evaluate.confusion` computes it, but refuses labels of 0. The next cell therefore counts by hand, for the three
# detectors whose detections lie on the annotated boxes. The last row contains objects with the label 0. The last column
# contains objects without a detection with a score of at least 0.5.
#
# **Predict**: where are the counts of a sound detector? Where are they if the labels start at 0?


# %% names-called
def confusion(patient):
    """Return counts (L, L): rows are annotated labels, columns predicted ones or 0."""
    counts = np.zeros((len(patient.pages.classes),) * 2, int)
    trace, targets = examined[patient.name]
    for found, target in zip(trace.outputs, targets, strict=True):
        confident = found["scores"] >= 0.5
        overlap = boxes.iou(found["boxes"][confident], target["boxes"])  # (D, G)
        none = np.full((1, overlap.shape[1]), 0.5)  # better than a detection below 0.5
        overlap = np.concatenate([none, overlap])  # (D + 1, G)
        predicted = np.append(0, found["labels"][confident])[overlap.argmax(axis=0)]  # (G,)
        np.add.at(counts, (target["labels"], predicted), 1)
    return counts


on_objects = [
    patients[row] for row in np.flatnonzero(rows[:, 6] > 0.9)
]  # detections: recall
assert len(on_objects) == 3
figure = plot.figure(11, 4.0)
for ax, patient in zip(figure.subplots(1, len(on_objects)), on_objects, strict=True):
    plot.confusion_matrix(ax, confusion(patient), patient.pages.classes)
    plot.title(ax, patient.name, "annotated objects by predicted class")
    ax.set_xticks(ax.get_xticks(), [*patient.pages.classes[1:], "none"], rotation=0)
    ax.set_yticks(ax.get_yticks(), [*patient.pages.classes[1:], "label 0"])
    ax.set_ylabel("annotated class" if patient is on_objects[0] else "")
course.show(
    figure,
    "Three confusion matrices. In A, almost all counts lie one column to the right of the "
    "diagonal, and the row of label 0 is not empty. In B, almost all counts lie on the "
    "diagonal. In D, all objects are in the last column: no detection has a score of at "
    "least 0.5.",
)

# %% diagnose [markdown]
# ## 5  Your diagnosis
#
# Now write your diagnosis as a function, in three steps. The checks try it on new detectors, with other pages and with
# several wrong normalisations.
#
# **Step 1: the network.** Three faults are in the detector itself: wrong normalisation, large anchors, untrained head.
# Measure in the order of the stages. For the thresholds, use the table of section 3: it shows each number for a sound
# detector. A good threshold lies in the middle of a wide gap. You may use `best_iou` and `entropy`, or your own
# measures.


# %% network-yours
def network_fault(trace, targets):
    """Return "wrong normalisation", "large anchors", "untrained head" or None.

    None: there is no such fault.
    trace: the trace of all pages.
    targets: for each page, {"boxes": (G, 4), "labels": (G,)}.
    """
    ### BEGIN SOLUTION
    wanted = [target["boxes"] for target in targets]
    if not 0.1 < trace.batch.std() < 10:
        return "wrong normalisation"
    if np.median(best_iou([np.concatenate(trace.anchors)] * len(wanted), wanted)) < 0.3:
        return "large anchors"
    return "untrained head" if entropy(trace.class_logits).mean() > 1 else None
    ### END SOLUTION


# %% network-check points=1
def check_step(step, its_faults, other_faults):
    """Raise CheckFailed unless a step finds its faults, and None for other detectors."""
    rng = np.random.default_rng()
    for fault in (*its_faults, *other_faults):
        model, pages = diagnosis.PLANTED[fault](rng)
        result = step(*examine_pages(diagnosis.Patient(fault, model, pages)))
        expected = fault if fault in its_faults else None
        if result != expected:
            raise checks.CheckFailed(
                f"detector with fault {fault!r}: your function returns {result!r}, "
                f"expected {expected!r}\n"
                f"Hint: {diagnosis.HINTS[fault]}"
            )


of_network = "wrong normalisation", "large anchors", "untrained head"
of_annotations = "swapped axes", "shuffled boxes", "labels from 0"
check_step(network_fault, of_network, ("sound", *of_annotations))
print("network_fault: correct for seven new detectors")

# %% annotations-step [markdown]
# **Step 2: the annotations.** The other three faults are in the annotations: swapped axes, shuffled boxes, and labels
# from 0. Two of them need `recalls`. For the third, one number is enough: the difference between the label of a
# detection and the label of the object on which it lies. It is the same for almost all objects. The network of the
# detectors in this check is sound.


# %% annotations-yours
def annotation_fault(trace, targets):
    """Return "swapped axes", "shuffled boxes", "labels from 0" or None.

    None: there is no such fault.
    trace, targets: as for network_fault. A page may have no detections.
    """
    ### BEGIN SOLUTION
    outputs = trace.outputs
    as_annotated, swapped, of_another_page = recalls(
        [found["boxes"] for found in outputs], [target["boxes"] for target in targets]
    )
    if max(swapped, of_another_page) > max(as_annotated, 0.5):
        return "swapped axes" if swapped > of_another_page else "shuffled boxes"
    differences = [
        found["labels"][boxes.iou(found["boxes"], target["boxes"]).argmax(axis=0)]
        - target["labels"]
        for found, target in zip(outputs, targets, strict=True)
        if len(found["boxes"])
    ]
    return "labels from 0" if np.median(np.concatenate(differences)) == 1 else None
    ### END SOLUTION


# %% annotations-check points=2
check_step(annotation_fault, of_annotations, ("sound",))
print("annotation_fault: correct for four new detectors")

# %% diagnose-step [markdown]
# **Step 3: the diagnosis.** Put the two steps together. In which order? What do you return if neither step finds a
# fault?


# %% diagnose-yours
def diagnose(patient):
    """Return one of the seven names in `diagnosis.NAMES` for a detector, by measurement.

    patient.model: the detector.
    patient.pages: for each page, the image and its target, {"boxes": (G, 4), "labels":
    (G,)}.
    """
    ### BEGIN SOLUTION
    trace, targets = examine_pages(patient)
    return network_fault(trace, targets) or annotation_fault(trace, targets) or "sound"
    ### END SOLUTION


# %% diagnose-check points=6
for _ in range(2):
    diagnosis.check(diagnose)  # ten new detectors each time
print("correct for 20 new detectors. The detectors of this notebook:")
for patient in patients:
    print(f"  {patient.name}: {diagnose(patient)}")

# %% doctor [markdown]
# ## 6  A second opinion
#
# The command `rcnn doctor RUN` measures the stages in the same order. It measures a few more numbers, compares each
# with a threshold that sound runs keep, and prints a remedy for every fault. The cell prints its first finding for each
# detector, and the whole report for one of them. If it disagrees with you, find out who is right, and by which number.


# %% second-opinion
def examine(patient):
    """Return the verdicts of rcnn's doctor on a detector."""
    frozen = [
        name
        for name, parameter in patient.model.named_parameters()
        if not parameter.requires_grad
    ]
    return doctor.examine(patient.model, patient.pages, frozen=frozen, progress=False)


for patient in patients:
    troubles = [verdict.trouble for verdict in examine(patient) if verdict.trouble]
    print(
        f"{patient.name}: {troubles[0] if troubles else 'nothing is wrong'}"
        + (f"  (and {len(troubles) - 1} more)" if len(troubles) > 1 else "")
    )
print(f"\nthe whole report on {patients[0].name}:\n")
print(doctor.report(examine(patients[0])))

# %% rules [markdown]
# A rule of the doctor is short. The next cell shows the rule for anchors: its number, its threshold, its remedy. Low
# coverage is accepted if the RPN finds the objects anyway, because it does no harm then.
#
# Most of these measurements compute IoUs of anchors, proposals and detections with objects. The kernel makes them fast
# enough for every validation. The second cell below measures how much faster it is than the NumPy reference.

# %% rule-source
course.source(doctor.rules.anchors)

# %% rule-ratio
anchors = np.concatenate(examined["reference"][0].anchors)
objects = np.concatenate([target["boxes"] for target in examined["reference"][1]])
print("anchors", anchors.shape, "objects", objects.shape)
course.compare(boxes.iou, anchors, objects.astype(np.float32))

# %% trained-in [markdown]
# ## 7  Training with a fault
#
# So far, the network was trained correctly, and the fault came later. More often, the network has *learned* from the
# fault, and you have the loss curves. The cell makes four short runs on shapes, from the same random weights: a sound
# one, one with swapped axes, one with a frozen head, and one with a learning rate of 1.
#
# **Predict**: can you tell the run with swapped axes from the sound one by its curve?


# %% trained-runs
class Swapped(data.Shapes):
    """Pages whose boxes are stored as y1, x1, y2, x2."""

    def __getitem__(self, index):
        image, target = super().__getitem__(index)
        return image, {**target, "boxes": target["boxes"][:, [1, 0, 3, 2]]}


runs = {
    "sound": (data.Shapes, {}),
    "swapped axes": (Swapped, {}),
    "frozen head": (data.Shapes, {"freeze": ("roi_heads",)}),
    "learning rate 1": (data.Shapes, {"lr": 1.0}),
}
histories, trained = {}, {}
for name, (kind, change) in runs.items():
    rcnn.seed(0)
    model = trained[name] = rcnn.faster_rcnn_small(kind.classes, min_size=96)
    recipe = train.Recipe(
        **{"steps": 80, "batch_size": 2, "lr": 2e-3, "warmup_steps": 10, **change}
    )
    histories[name] = train.fit(model, kind(size=(96, 96)), recipe, progress=False).history

# %% trained-curves
figure = plot.figure(10.5, 3.2)
for ax, name in zip(
    figure.subplots(1, 3), ("total_loss", "rpn_cls_loss", "roi_cls_loss"), strict=True
):
    losses = {run: history[name] for run, history in histories.items()}
    plot.loss_curves(ax, losses, smoothing=15, log=True)
    plot.title(ax, name, "mean of 15 steps; pale: every step")
    if name == "roi_cls_loss":
        plot.levels(ax, {"log 5": np.log(5)})
    else:
        ax.get_legend().remove()  # the last panel has the legend for all three

last = {
    run: {name: np.mean(losses[-40:]) for name, losses in h.items()}
    for run, h in histories.items()
}
assert abs(last["frozen head"]["roi_cls_loss"] - np.log(5)) < 0.1
assert max(histories["learning rate 1"]["total_loss"][:10]) > 100
assert abs(last["swapped axes"]["total_loss"] / last["sound"]["total_loss"] - 1) < 0.2
assert last["swapped axes"]["rpn_cls_loss"] > last["sound"]["rpn_cls_loss"]
probe = data.Shapes(8, split="val", size=(96, 96))
trace = trained["learning rate 1"].trace([image for image, _ in probe])
logits = trace.class_logits  # (R, 5)
assert (logits.argmax(axis=1) == 0).all()  # background
course.show(
    figure,
    "Losses of four runs of 80 steps on a logarithmic axis. With a learning rate of 1, "
    "the total loss is above 100 in the first ten steps and then comes back to the "
    "others. The run with swapped axes follows the sound one in all panels. With the "
    f"frozen head, roi_cls_loss stays at {last['frozen head']['roi_cls_loss']:.2f}, near "
    "log 5.",
)

# %% table [markdown]
# The frozen head shows only in its own loss, and therefore in the total: it stays near log 5 while the RPN learns. The
# learning rate of 1 shows within ten steps. Its curve comes back to the others later, but the detector has not
# recovered: it predicts background for every RoI, and one large bias is enough for that. The run with swapped axes
# follows the sound one. Its RPN is a little slower, but not enough to notice. In its first steps, a network learns how
# rare objects are, and any boxes serve for that. A loss curve shows faults of the *training*. It can hide faults of the
# *data* for a long time. To find those, look at annotated images, and run `rcnn check`.
#
# ## 8  Symptoms and remedies
#
# | symptom | measurement | cause | remedy |
# |---|---|---|---|
# | first losses far from log 2 and log L | the losses before step 1 | large initial weights, a sum instead of a mean | notebook 11, section 1 |
# | one batch is not overfitted | the four losses on it | no gradient, wrong targets | the checks of notebooks 05 to 10 |
# | one batch is overfitted, but boxes lie beside the objects | decode of encode | one is not the inverse of the other | the checks of notebook 06 |
# | loss is flat | `requires_grad`; a third of the learning rate and three times it | frozen part, learning rate too low or far too high | remove it from `freeze`; change the rate |
# | loss is NaN | the first non-finite stage | empty boxes, learning rate too high, no warm-up | `rcnn check`; a lower rate; clipping |
# | no detections, or random ones | mean and standard deviation of the batch | `image_mean`, `image_std` for 0 .. 255 | the values of the training, for 0 .. 1 |
# | small or large objects are missed | highest IoU with an anchor, by size | anchors do not cover the objects | `evaluate.suggest` |
# | detections on the objects, annotations beside them | recall with swapped columns | x and y swapped | correct the reader of the annotations |
# | the same, and swapping does not help | recall with other pages' annotations | the lists of images and targets are shifted | join by file name, not by position |
# | good boxes, all with wrong classes | detected label minus annotated label | labels from 0, another order of the classes | count from 1; store the class names with the weights |
# | good boxes, random classes | entropy of the head | untrained head, or not loaded | load strictly; look for missing names |
# | good on training images, poor on new ones | AP on both | too few images, or inconsistent annotations | more images, `flip`, `scale_jitter` |
# | several boxes on every object | kinds of error: duplicate | NMS threshold too high, or no NMS | `box_nms_thresh` 0.5 |
#
# > **What people get wrong.** Do not start in the middle of such a table. Look at annotated images first, because many
# > faults are in the data and not in the code. Then start with the first stage.

# %% by-hand [markdown]
# ## A number to check
#
# How bad is an anchor that is four times too large in each direction? Take an object that one of the original anchors
# fits exactly. It lies inside the large anchor and fills 1/16 of it, so the IoU is $1/16 = 0.0625$. The cell computes
# this number for the three square anchors of a cell.
#
# An anchor is positive if its IoU is at least 0.7 ([1] section 3.1.2). The largest original square is 40 pixels wide,
# and the smallest large one 56 pixels. Their IoU is at most $(40/56)^2 = 0.51$. So no large square reaches 0.7 with an
# object that an original square fits exactly. Only the best-anchor rule of notebook 05 makes an anchor positive for it.

# %% by-hand-check
cell = rcnn.anchors.cell_anchors((14, 24, 40), (1.0,))  # (3, 4), squares around (0, 0)
large = rcnn.anchors.cell_anchors((56, 96, 160), (1.0,))
overlaps = boxes.iou(cell, large)  # (3, 3)
print("widths of the original anchors:", (cell[:, 2] - cell[:, 0]).tolist())
print("widths of the large anchors:   ", (large[:, 2] - large[:, 0]).tolist())
print("IoU of each with its large one:", np.diag(overlaps).tolist(), " by hand:", 1 / 16)
assert (np.diag(overlaps) == 1 / 16).all() and round(float(overlaps.max()), 2) == 0.51

# %% questions [markdown]
# ## Five questions
#
# Click on an answer to see whether it is right, and why.

# %% quiz
assert boxes.iou([[0, 0, 20, 20]], [[-10, -10, 30, 30]])[0, 0] == 1 / 4
course.quiz("""
    A row of the table in section 3 agrees with the reference in pixels and features. Three
    numbers are too low: the median IoU of the anchors, the recall of the proposals and the
    recall of the detections. Where do you look first?
    [ ] At the NMS and the score threshold, because the detections are what counts.
        They come last. They cannot make anchors or proposals worse.
    [ ] At all three stages, because there are three faults.
        There may be one. Proposals start from anchors, and detections start from proposals.
    [x] At the sizes of the anchors and at the annotated boxes.
        The first wrong number depends on these two only. The other two numbers follow from
        it.

    The `roi_reg_loss` of a detector is half as large as that of a sound one. Does it
    predict better boxes?
    [x] This is unknown. Measure the IoU of its detections with the objects.
        The loss only counts positive RoIs and is divided by all sampled ones. With fewer
        positive RoIs, it decreases.
    [ ] Yes, because this loss measures the error of the boxes.
        It measures it for positive RoIs only. The objects without any positive RoI have no
        effect on it.
    [ ] Yes, but only if its `rpn_reg_loss` is also lower.
        That loss has the same weakness: it counts positive anchors only.

    The three recalls of a detector are 0.03 as annotated, 0.05 with swapped axes, and 0.97
    with the boxes of another page. What do you do?
    [ ] Train the detector on these pages, because it misses 97 % of the objects.
        It finds the objects. Training would teach it to put boxes at wrong places.
    [ ] Lower the score threshold, so that more objects are found.
        The detections lie on the objects already. More of them would not lie on the wrong
        boxes.
    [x] Correct the program that joins images and annotations.
        The lists are shifted against each other. Join them by file name instead of by
        position.

    An anchor fits an object exactly. By mistake, all anchors become twice as wide and twice
    as high, around the same centres. What is the IoU of this anchor with the object now?
    [ ] 1/2
        The width and the height both double, so the area becomes four times as large.
    [x] 1/4
        The intersection is the object, and the union is the large anchor, which has four
        times its area.
    [ ] 1, because the object still lies inside the anchor.
        This is the fraction of the object that is covered. The IoU also counts the rest of
        the anchor.

    You train a detector from random weights. The loss curves look like those of a sound
    run. Are the annotations right?
    [ ] Yes, because a network cannot learn from wrong boxes.
        In its first steps, it learns how rare objects are, and wrong boxes show that as
        well as right ones.
    [ ] Yes, if the learning rate was suitable.
        A learning rate affects the training. It does not show whether the boxes lie on the
        objects.
    [x] Maybe. Look at annotated images, and run `rcnn check`.
        Section 7 shows a run with swapped axes whose curve follows the sound one.
""")

# %% next [markdown]
# ## What you have learned
#
# - Measure the stages in their order, and start with the first number that is wrong.
# - Detector and annotations can both be wrong. Undo the suspected fault, and measure again.
# - A loss curve shows faults of the training, but can hide faults of the data.
#
# ## Exercises without solutions
#
# **Warm-up** (minutes)
#
# 1. `rcnn.replace("cell_anchors", lambda sizes, ratios: 1.5 * rcnn.anchors.cell_anchors(sizes, ratios))` makes anchors
#    larger within a `with` block. Compute `measure(*examine_pages(reference))` in such a block. Predict first which of
#    the eight numbers change.
# 2. Call `examine(reference)`. Which numbers does the doctor measure that section 3 does not?
#
# **Core** (half an hour)
#
# 3. Plant another fault: boxes that are shifted by 2 pixels, one third of the annotations missing, red and blue swapped.
#    Which numbers of this notebook show it? Does the doctor find it?
# 4. Plant a bug in a stage: in `rcnn.replace("decode", wrong)`, let `wrong` swap dx with dy, or forget the weights.
#    Which is the first wrong number? Write such bugs for `batched_nms` and `roi_align`, too, and let a friend find
#    them.
# 5. Make the faults smaller: anchors 1.5 times as large, or the boxes of another page for a quarter of the pages. When
#    does your function miss the fault? Does the AP still suffer then?
#
# **Stretch** (an evening)
#
# 6. Train shapes with swapped boxes for 300 steps instead of 80. A convolution has almost no information about the
#    position on the page. What is the best that the network can do?
# 7. Plant two faults in one detector. Does the rule of the first wrong number find both, one after the other?
#
# ## Where to go next
#
# Notebook 14 goes from a folder of images to a detector. `rcnn/doctor` contains the doctor, and
# `rcnn/evaluate/errors.py` the kinds of error. Read [4] before you train your own network.
