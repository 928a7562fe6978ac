"""Rules of the doctor. Each rule judges the measurements of one stage: it states a number, the fault and the remedy.

The stages are in the order in which an image passes through them. If a stage fails, the later stages fail as well.
Therefore, fix the first failing stage before you look at the later stages.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np

from rcnn._validate import listed
from rcnn.data.report import WHOLE, Problem
from rcnn.doctor.evidence import FOUND, Evidence, Objects, part_of

# If a measurement is beyond one of these thresholds, the stage fails. Each threshold is far from the measurements of
# good runs of the small network. It is also far from the measurements of the detectors with deliberate faults that
# tests/doctor/test_doctor_faults.py trains.
LEAST_STD, MOST_STD = 0.03, 10.0  # largest standard deviation of a normalised channel; dark images have 0.1
MOST_MEAN = 4.0  # absolute value of the mean of the normalised pixels, in any channel
MOST_DRIFT = 1.0  # drift of the first norm layer's input, in running standard deviations
LEAST_COVERED = 0.5  # fraction of the objects that have an anchor with IoU 0.5 or more
WELL_COVERED = 0.75  # the same fraction; below it, the anchors are good enough only if the RPN finds the objects
LEAST_POSITIVE = 0.01  # fraction of the sampled anchors that are positive; not used if the RPN finds the objects
LEAST_PROPOSED = 0.85  # fraction of the objects that have a proposal with IoU 0.5 or more
LEAST_KEPT = 0.85  # fraction of the proposed objects that are detected
MOST_CONFUSED = 0.15  # fraction of the found objects that have a wrong class
LEAST_SHIFTED = 0.5  # fraction of the found objects whose label is off by +1 (or -1); and its mean over the classes
LEAST_FALL = 0.8  # final loss / loss after a third of the steps; by then, the head has learned to predict background
WELL = 0.75  # fraction of objects found with the right class; above it, unusual values at earlier stages are harmless
MOST_RISE = 1.5  # final loss / lowest loss; both are moving means
MOST_GAP = 0.25  # fraction of objects found with the right class on training images, minus the fraction on new images
FEW_OBJECTS, FEW_STEPS = 10, 100  # if there are fewer, the rule does not judge


@dataclass(frozen=True)
class Verdict:
    """The verdict of one rule.

    Attributes
    ----------
    stage : str
        Name of the stage.
    number : str
        The measurement, as a sentence.
    trouble : str or None
        What is wrong, in a few words; None if the stage is fine.
    remedy : str
        What to do about it.
    """

    stage: str
    number: str
    trouble: str | None = None
    remedy: str = ""


def judge(evidence: Evidence) -> list[Verdict]:
    """Return the verdicts on all stages, in the order of the stages.

    Parameters
    ----------
    evidence : Evidence
        The measurements.

    Returns
    -------
    list of Verdict
        The verdicts of all rules. After too few training steps, the stages after "learning" are not judged.
    """
    rules = RULES[: RULES.index(learning) + 1] if _is_short(evidence) else RULES
    return [verdict for rule in rules for verdict in rule(evidence)]


def data(evidence: Evidence) -> Iterator[Verdict]:
    """Judge the annotations.

    Parameters
    ----------
    evidence : Evidence
        The measurements.

    Yields
    ------
    Verdict
        One verdict for each problem, or a single good verdict if there is no problem.
    """
    for problem in evidence.problems:
        yield Verdict("data", _found(problem), problem.sentence, problem.remedy)
    if not evidence.problems:
        yield Verdict("data", "no errors in the annotations")


def _found(problem: Problem) -> str:
    """Return how often a problem was found, and an example; for a problem of the whole data set, its measurement."""
    example = problem.examples[0] if problem.examples else None
    if example is not None and example.place == WHOLE:
        return f"in {WHOLE}, {example.detail}" if example.detail else f"found in {WHOLE}"
    times = "once" if problem.count == 1 else f"{problem.count:,} times"
    if example is None:
        return f"found {times}"
    return f"found {times}: {example}" if problem.count == 1 else f"found {times}, for example {example}"


def normalisation(evidence: Evidence) -> Iterator[Verdict]:
    """Judge the normalisation of the pixels.

    Parameters
    ----------
    evidence : Evidence
        The measurements.

    Yields
    ------
    Verdict
        A verdict on the pixel statistics, and one on the drift at the first norm layer. There is no verdict if no image
        could be read.
    """
    mean, std = evidence.pixel_mean, evidence.pixel_std
    if not np.isfinite(mean).all():
        return  # no image could be read
    number = f"the normalised pixels have mean {_row(mean)} and standard deviation {_row(std)}"
    wrong = std.max() < LEAST_STD or std.max() > MOST_STD or np.abs(mean).max() > MOST_MEAN
    yield Verdict(
        "normalisation",
        number,
        "the pixels are not normalised" if wrong else None,
        "use image_mean and image_std for pixels from 0 to 1, such as (0.485, 0.456, 0.406) and (0.229, 0.224, 0.225), "
        "and not for pixels from 0 to 255",
    )
    if evidence.drift is not None:
        yield Verdict(
            "normalisation",
            f"the mean input of the first norm layer is {evidence.drift:.2f} standard deviations from its running mean",
            "the pixels are not normalised as in training"
            if evidence.drift > MOST_DRIFT and not _is_good(evidence.train)
            else None,
            "use the image_mean, the image_std and the channel order with which the weights were trained",
        )


def anchors(evidence: Evidence) -> Iterator[Verdict]:
    """Judge the anchors.

    Parameters
    ----------
    evidence : Evidence
        The measurements.

    Yields
    ------
    Verdict
        One verdict on how well the anchors cover the objects, and one on the number of positive anchors.
    """
    objects = evidence.train
    if len(objects) < FEW_OBJECTS:
        yield Verdict("anchors", f"{len(objects)} objects are too few to judge this and later stages")
        return
    covered, is_found = objects.share("anchors"), objects.share("proposals") >= LEAST_PROPOSED
    yield Verdict(
        "anchors",
        f"{_percent(covered)} of the objects have an anchor at IoU {FOUND} or more; the median of "
        f"the best IoU is {np.median(objects.anchors):.2f}",
        "the anchors do not cover the objects" if covered < (LEAST_COVERED if is_found else WELL_COVERED) else None,
        'fit the anchors to the data: in the plan, write anchors = "fit" instead of anchor_sizes and aspect_ratios; in '
        "Python, use evaluate.suggest; if that is not enough, use more anchors",
    )
    positive, sampled = float(objects.sampled[:, 0].mean()), float(objects.sampled.sum(axis=1).mean())
    yield Verdict(
        "anchors",
        f"{positive:.1f} of {sampled:.0f} sampled anchors are positive, on average over images with objects",
        "there are few positive anchors per image" if positive < LEAST_POSITIVE * sampled and not is_found else None,
        "use anchors with the sizes and ratios of the objects, a lower rpn_fg_iou_thresh, or a lower "
        "rpn_batch_size_per_image",
    )


def learning(evidence: Evidence) -> Iterator[Verdict]:
    """Judge the frozen parameters and the loss curve.

    Parameters
    ----------
    evidence : Evidence
        The measurements.

    Yields
    ------
    Verdict
        A verdict on the frozen parameters, and one on the loss or on the number of steps.
    """
    frozen = Counter(part_of(name) for name in evidence.frozen)
    stuck = [
        part
        for part, count in frozen.items()
        if count == evidence.parameters.get(part) and not part.startswith(tuple(evidence.pretrained))
    ]
    yield Verdict(
        "learning",
        f"{len(evidence.frozen)} of {sum(evidence.parameters.values())} parameters are frozen",
        f"{listed(stuck)} cannot learn" if stuck else None,
        "remove these names from freeze in the recipe, or set requires_grad = True; only pretrained layers may stay "
        "frozen",
    )
    losses = evidence.losses
    if _is_short(evidence):
        yield Verdict(
            "learning",
            f"the detector was trained for {len(losses)} steps",
            "too few steps to judge",
            f"train longer: a pretrained detector needs at least {FEW_STEPS} steps, and random weights need some 1,000",
        )
    if len(losses) < FEW_STEPS:
        return
    window = max(len(losses) // 10, FEW_STEPS // 4)
    levels = np.convolve(losses, np.full(window, 1 / window), mode="valid")  # moving means
    first, third, last, lowest = levels[0], levels[len(losses) // 3], levels[-1], levels.min()
    number = (
        f"the total loss is {first:.2f} at the start, {third:.2f} after a third of the steps and {last:.2f} at the "
        f"end; its lowest value is {lowest:.2f}"
    )
    trouble = None
    if not np.isfinite(losses).all():
        trouble = "the loss is not finite"
    elif last > MOST_RISE * lowest:
        trouble = "the loss rose again: the learning rate is too high"
    elif last > LEAST_FALL * third and not _is_good(evidence.train):
        trouble = "the loss barely falls: the learning rate is too low or too high"
    yield Verdict(
        "learning",
        number,
        trouble,
        "try a third of the learning rate, and three times the learning rate, for a few hundred steps; use a longer "
        "warm-up if the learning rate is high",
    )


def proposals(evidence: Evidence) -> Iterator[Verdict]:
    """Judge the proposals.

    Parameters
    ----------
    evidence : Evidence
        The measurements.

    Yields
    ------
    Verdict
        A verdict on the RPN's recall. There is no verdict if there are too few objects.
    """
    objects = evidence.train
    if len(objects) < FEW_OBJECTS:
        return
    share = objects.share("proposals")
    yield Verdict(
        "proposals",
        f"{_percent(share)} of the objects have a proposal at IoU {FOUND} or more",
        "the RPN's recall is low" if share < LEAST_PROPOSED else None,
        "first fix any trouble above; run rcnn check to see whether the boxes lie on the objects; then train longer, "
        "or increase rpn_post_nms_top_n_test",
    )


def detections(evidence: Evidence) -> Iterator[Verdict]:
    """Judge the detections, their classes, and the gap between training images and new images.

    Parameters
    ----------
    evidence : Evidence
        The measurements.

    Yields
    ------
    Verdict
        A verdict on the fraction of the proposed objects that are detected, one on the classes, and one on the gap.
        There is no verdict if too few objects are proposed.
    """
    objects = evidence.train
    proposed = objects.proposals >= FOUND
    if proposed.sum() < FEW_OBJECTS:
        return
    kept = float((objects.detections[proposed] >= FOUND).mean())
    yield Verdict(
        "detections",
        f"{_percent(kept)} of the proposed objects are detected, with any class",
        "the head loses objects" if kept < LEAST_KEPT else None,
        "make sure that the head is not frozen; train longer, or use a lower box_score_thresh",
    )
    yield from _classes(objects, evidence)
    if evidence.val is not None and len(evidence.val) >= FEW_OBJECTS:
        right, right_on_new = _right(objects), _right(evidence.val)
        yield Verdict(
            "new images",
            f"{_percent(right)} of the objects are found with the right class on training "
            f"images, and {_percent(right_on_new)} on new images",
            "the detector does not generalise to new images" if right - right_on_new > MOST_GAP else None,
            "use more images, flip and scale_jitter, fewer steps, or pretrained weights; make sure that both sets are "
            "annotated in the same way",
        )


def _classes(objects: Objects, evidence: Evidence) -> Iterator[Verdict]:
    """Judge the predicted classes of the objects that are found."""
    found = objects.predicted > 0
    if found.sum() < FEW_OBJECTS:
        return
    predicted, labels = objects.predicted[found], objects.labels[found]
    wrong = predicted != labels
    number = f"{_percent(wrong.mean())} of the objects found have a wrong class"
    for shift in (-1, 1):
        shifted = predicted == labels + shift
        share = float(shifted.mean())
        # A head that predicts the same class for all objects is right for this class. The mean over the classes is then
        # at most 0.5, so this is not mistaken for a shift.
        if min(share, np.mean([shifted[labels == label].mean() for label in np.unique(labels)])) > LEAST_SHIFTED:
            yield Verdict(
                "classes",
                f"for {_percent(share)} of the objects found, the detector's label is the annotated label {shift:+d}",
                "the labels are shifted by one",
                "number the classes from 1 both in training and here, because 0 is the background; keep the class "
                "names in the same order",
            )
            return
    if not wrong.any():
        yield Verdict("classes", number)
        return
    confused = Counter(zip(labels[wrong].tolist(), predicted[wrong].tolist(), strict=True))
    (label, as_label), count = confused.most_common(1)[0]
    names = evidence.class_names
    yield Verdict(
        "classes",
        f"{number}, most often {names[label]} as {names[as_label]} ({count} times)",
        "the head confuses classes" if wrong.mean() > MOST_CONFUSED else None,
        "look at the confused objects, because their annotations may be wrong; then use more images of these classes, "
        "or more steps",
    )


def _right(objects: Objects) -> float:
    """Return the fraction of the objects that are found with the right class."""
    return float((objects.predicted == objects.labels).mean())


def _is_good(objects: Objects) -> bool:
    """Return True if the detector finds these objects and predicts their classes well."""
    return len(objects) >= FEW_OBJECTS and _right(objects) >= WELL


def _is_short(evidence: Evidence) -> bool:
    """Return True if the detector was trained for too few steps, and is not good yet."""
    return 0 < len(evidence.losses) < FEW_STEPS and not _is_good(evidence.train)


def _percent(share: float) -> str:
    return f"{100 * share:.0f} %"


def _row(values: np.ndarray) -> str:
    return "(" + ", ".join(f"{value:.2g}" for value in values) + ")"


RULES: tuple[Callable[[Evidence], Iterator[Verdict]], ...] = (
    data,
    normalisation,
    anchors,
    learning,
    proposals,
    detections,
)
