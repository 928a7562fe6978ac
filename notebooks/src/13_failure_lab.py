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
# detections, classes. The rule is one sentence long: *the first stage whose number is wrong is the one that is ill*, for
# everything after it suffers with it.
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
    pictures, targets = zip(*patient.pages, strict=True)
    return patient.model.trace(list(pictures)), list(targets)

walked = {patient.name: walk(patient) for patient in (healthy, *patients)}

# %% look [markdown]
# ## 1  Look first
#
# Pictures come before numbers ([4], its first step). Dashed are the annotations of one page of each patient, in colour the detections
# with a score of at least 0.5. Write down a guess for each letter now, and three where the picture does not decide.

# %% overlays
figure = plot.figure(11, 6.2)
for ax, patient in zip(figure.subplots(2, 4).flat, (healthy, *patients), strict=True):
    (picture, target), found = patient.pages[2], walked[patient.name][0].outputs[2]
    sure = found["scores"] >= 0.5
    plot.detections(ax, picture, found["boxes"][sure], None, found["labels"][sure],
                    diagnosis.Pages.classes, target["boxes"])
    plot.title(ax, patient.name, f"{sure.sum()} detections, {len(sure)} before the cut")
figure

# %% losses [markdown]
# ## 2  The losses
#
# The losses on these pages are cheap and say, at least, which half is ill. `get_loss` compares what the network says with
# the annotations, so a bad network and bad annotations look alike to it. Two numbers are worth knowing by heart: log 2 =
# 0.69, objectness that says nothing, and log 11 = 2.40, a head with eleven classes that says nothing.
#
# Predict: for which faults will the RPN's losses be high, and for which only those of the second stage?

# %% losses-table
terms = "rpn_cls_loss", "rpn_reg_loss", "roi_cls_loss", "roi_reg_loss"

def losses_of(patient):
    "The four losses on the patient's pages, or what `get_loss` has to say against them."
    pictures, targets = map(list, zip(*patient.pages, strict=True))
    try:
        losses = patient.model.get_loss(pictures, targets, np.random.default_rng(0))
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
# Note how little the other numbers tell. Two patients have nearly the same losses, and what ails them has nothing in
# common but that boxes do not lie where the network expects them.
#
# > **What people get wrong.** Tuning. A loss that is too high invites other learning rates, and with a fault in the data
# > some learning rate is always a little better. Find the fault first.
#
# ## 3  Stage by stage
#
# Now the walk. For every object take the box of each stage that overlaps it best. A stage that has lost an object cannot
# be mended by those after it ([1] section 4.1 measures the recall of proposals by itself). Activations, too: what goes
# into the network should have a mean and a deviation of about the size of 1, and a head that has learned something is
# certain of most of its RoIs. The entropy of a row of class probabilities, $-\sum_c p_c \log p_c$, is 0 where it is
# certain and log 11 = 2.40 where it knows nothing.

# %% measures
def nearest(boxes_list, targets):
    "(G,) for each object of all pages the IoU of the nearest of its page's boxes."
    return np.concatenate([boxes.iou(found, target["boxes"]).max(axis=0, initial=0)
                           for found, target in zip(boxes_list, targets, strict=True)])

def entropy(logits):
    "(R,) of the class probabilities of each RoI, from its logits (R, L)."
    powers = np.exp(logits - logits.max(axis=1, keepdims=True))
    p = powers / powers.sum(axis=1, keepdims=True)  # (R, L)
    return -(p * np.log(p + 1e-12)).sum(axis=1)

def measure(trace, targets):
    "Nine numbers, in the order in which an image meets what they are about."
    anchors = [np.concatenate(trace.anchors)] * len(targets)
    shares = [(nearest(found, targets) >= 0.5).mean()
              for found in (trace.proposals, [one["boxes"] for one in trace.outputs])]
    return [trace.images.mean(), trace.images.std(), np.abs(trace.features[0]).mean(),
            np.median(nearest(anchors, targets)), *shares, entropy(trace.class_logits).mean(),
            np.mean([len(one["boxes"]) for one in trace.outputs]),
            min(target["labels"].min() for target in targets)]

# %% findings
measures = ["pixels:\nmean", "pixels:\ndeviation", "features:\nmean size", "anchors:\nmedian IoU",
            "proposals:\nrecall", "detections:\nrecall", "head:\nentropy", "detections\nper page",
            "labels:\nsmallest"]
figure = plot.figure(10, 3.6)
plot.findings(figure.subplots(), [measure(*walked[name]) for name in names], names, measures,
              measure(*walked["sound"]), tolerance=0.3)
figure

# %% findings-read [markdown]
# Read each row from the left, and stop at the first dark cell. (Differences of less than 30 % are left white: patients
# have pages of their own.) Four faults have now a name, and each has its number:
#
# - the pixels are wrong before anything has been computed;
# - the pixels are right, and the best anchors do not fit;
# - anchors and proposals are right, and the head is as uncertain as it can be;
# - everything is as it should be but a label.
#
# Two patients are left whose detections miss the annotations, though pixels, anchors and head are as in the sound one.
# When a detector and its annotations disagree, *either may be wrong*; the picture above says which. To tell two faults of
# annotations apart, take a diagnosis for what it is, a hypothesis: undo the fault that you suspect, and measure again. If
# the columns have been exchanged, exchanging them once more brings the recall back. If the boxes belong to another page,
# they lie well on the detections of that page.
#
# > **What people get wrong.** Mending the detector until it agrees with annotations that are wrong. And two remedies at
# > once: if it is better afterwards, you do not know why.
#
# ## 4  Kinds of error
#
# Average precision is one number for everything that can go wrong. Sorting the errors is more telling ([2] section 2; [3]
# section 2.2): a box that is near but not near enough, a good box of the wrong class, a second box on an object, a
# box on nothing, an object without a box. Each bar is the AP that would be won if there were no error of this kind.
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
    plot.error_kinds(ax, kinds, np.array(list(errors.repaired.values())) - errors.mean_ap,
                     errors.detections.sum(axis=1)[at], errors.objects.sum(axis=1)[at])
    ax.set(xlim=(0, 2), xticks=(0, 0.5, 1), xlabel="gained by its repair")  # one scale for all
    plot.title(ax, patient.name, f"mean AP {errors.mean_ap:.3f}")

figure = plot.figure(11, 8.5)
for ax, patient in zip(figure.subplots(4, 2).flat, (healthy, *patients), strict=True):
    draw_errors(ax, patient)
figure

# %% diagnose [markdown]
# One patient would be well if its boxes had the right names, another if it had boxes for what it missed. For others no
# single repair helps, though hardly anything is right: where all is wrong at once, mending one kind brings no AP, and the
# counts beside the bars tell more than the bars. Annotations that lie elsewhere make "background" of good detections and
# "missed" of found objects, in about equal numbers. That pattern is worth remembering.
#
# ## 5  Your diagnosis
#
# Write down what you did as a function. It gets a patient, measures, and returns a name. It will be tried on new wards:
# other pages, another order, and another of several wrong normalisations. Use `walk`, `nearest` and `entropy`, or
# measures of your own, and ask in the order of the stages.
#
# Two hints. For labels, compare the label of each detection with that of the object on which it lies: one number, the
# same for nearly all. And be able to say `"sound"`: who finds something in everybody is no doctor.

# %% diagnose-yours
def diagnose(patient):
    """One of the seven names (`diagnosis.NAMES`) for a patient, by measurement.

    patient.model: the detector. patient.pages: of each of its pages the picture and its target,
    {"boxes": (G, 4), "labels": (G,)}.
    """
    ### BEGIN SOLUTION
    trace, targets = walk(patient)
    if not 0.1 < trace.images.std() < 10:
        return "wrong normalisation"
    if np.median(nearest([np.concatenate(trace.anchors)] * len(targets), targets)) < 0.3:
        return "large anchors"
    if entropy(trace.class_logits).mean() > 2:
        return "untrained head"
    found = [one["boxes"] for one in trace.outputs]
    if np.mean(nearest(found, targets) >= 0.5) < 0.5:
        turned = [{"boxes": target["boxes"][:, [1, 0, 3, 2]]} for target in targets]
        return "swapped axes" if np.mean(nearest(found, turned) >= 0.5) > 0.5 else "shuffled boxes"
    shifts = [one["labels"][boxes.iou(one["boxes"], target["boxes"]).argmax(axis=0)] - target["labels"]
              for one, target in zip(trace.outputs, targets, strict=True) if len(one["boxes"])]
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
    frozen = [name for name, parameter in patient.model.named_parameters()
              if not parameter.requires_grad]
    return doctor.examine(patient.model, patient.pages, frozen=frozen, progress=False)

for patient in patients:
    troubles = [verdict.trouble for verdict in examine(patient) if verdict.trouble]
    print(f"{patient.name}: {troubles[0] if troubles else 'nothing is wrong'}"
          + (f"  (and {len(troubles) - 1} that follow)" if len(troubles) > 1 else ""))

# %% report
print(doctor.report(examine(patients[0])))

# %% rules [markdown]
# A rule of the doctor is short. This one judges the anchors: its number, its bound, its remedy. Note that poor coverage is
# forgiven where the RPN finds the objects all the same, for then it does no harm. A doctor who does not ask for the harm
# alarms at every oddity.

# %% rule-source
course.source(doctor.rules.anchors)

# %% rule-speed [markdown]
# All this measuring is IoU: anchors with objects, proposals with objects, detections with objects. The kernel makes it
# cheap enough to be done at every validation.

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
        picture, target = super().__getitem__(index)
        return picture, {**target, "boxes": target["boxes"][:, [1, 0, 3, 2]]}

runs = {"sound": (data.Shapes, {}), "swapped axes": (Swapped, {}),
        "frozen head": (data.Shapes, {"freeze": ("roi_heads",)}),
        "rate of 1": (data.Shapes, {"lr": 1.0})}
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
# The frozen head shows, in its own loss alone: it stays at log 5, while the RPN learns as it should. The rate of 1 shows
# within ten steps; that its curve comes back down to the others is no recovery, for to call everything background takes
# one large bias and nothing else. And the swapped run goes along with the sound one; its RPN lags a little, too little to
# be a sign. In its first steps a network learns how rare objects are, and for that any boxes will do. A curve of the loss
# finds faults of the *training*. Faults of the *data* it can hide for a long time: there looking at annotated pages
# helps, and `rcnn check`.
#
# ## What to look at, and what to do
#
# | symptom | measurement | cause | remedy |
# |---|---|---|---|
# | first loss is not log 2, log L | the losses before step 1 | labels beyond the classes, a sum for a mean | notebook 11, section 1 |
# | one batch is not learned by heart | four losses of 100 steps on it | no gradient, wrong targets, decode is not encode's inverse | checks of notebooks 05 to 10 |
# | loss is flat | `requires_grad`; a third and three times the rate | frozen part, rate too low or far too high | take it out of `freeze`; mend the rate |
# | loss is NaN | the first stage that is not finite | boxes without extent, rate too high, no warm-up | `rcnn check`; a lower rate; clipping |
# | nothing is found, pixels far from 0 and 1 | mean and deviation of the batch | `image_mean`, `image_std` for 0 .. 255 | those of the training, for 0 .. 1 |
# | small, or large, objects are missed | best anchor's IoU, by size | anchors do not cover the objects | `anchors.suggest` |
# | proposals miss what the eye sees in the overlay | recall after exchanging columns | x and y swapped | mend the reader of the annotations |
# | detections good, AP near 0 | recall on the neighbours' targets | lists of pictures and targets have slipped | join by name, not by place |
# | good boxes, all of them misnamed | label found minus label annotated | labels from 0, another order of names | count from 1; store names with weights |
# | boxes good, classes at random | entropy of the head | head is untrained or was not loaded | load strictly; look for missing names |
# | good in training, poor on new pages | AP on both | too few pages, or both annotated differently | more pages, `flip`, `scale_jitter` |
# | several boxes on every object | kinds of error: duplicate | NMS threshold too high, or NMS left out | `box_nms_thresh` 0.5 |
#
# > **What people get wrong.** Beginning with the last row of such a table. Begin with the first stage, and look at
# > annotated pages before anything else: in practice more detectors are ill by their data than by their code.

# %% by-hand [markdown]
# ## A number to check
#
# How bad is an anchor that is four times too large in each direction? Take an object that one of the right anchors fits
# exactly. Of its large relative it fills one part in sixteen, and it lies wholly inside, so the IoU is $1/16 = 0.0625$.
# Below is that number for the three square anchors of a cell. An anchor is positive from 0.7 on ([1] section 3.1.2); no
# object that the right ones fit has one of these.

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
# 3. Train shapes with swapped boxes for 300 steps instead of 80. A convolution does not know where on the page it is. What
#    is the best that the network can do?
# 4. Give a patient two faults. Does the rule of the first wrong stage still find both, one after the other?
