"""What the measurements of a run mean: each rule looks at one stage and says its number, and what ails it.

The stages come in the order in which an image meets them, for a stage that is ill makes those after it look ill: the
first trouble is the one to mend first.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np

from rcnn.doctor.evidence import FOUND, Evidence, Objects, part_of

# Where a number begins to tell of trouble. Each lies well outside of what sound runs of the small network give, and
# well inside of what the faults give that tests/test_doctor_faults.py plants.
LEAST_STD, MOST_STD = 0.03, 10.0  # of the normalised pixels, in the channel with the most; dark ones have 0.1
MOST_MEAN = 4.0  # of the normalised pixels, in either direction
MOST_DRIFT = 1.0  # of what reaches the first norm, in its deviations
LEAST_COVERED = 0.5  # share of the objects with an anchor at IoU 0.5
WELL_COVERED = 0.75  # the same; between the two, they are covered if the RPN finds them
LEAST_POSITIVE = 0.01  # share of the sampled anchors that are positive, unless the RPN finds the objects
LEAST_PROPOSED = 0.85  # share of the objects with a proposal at IoU 0.5
LEAST_KEPT = 0.85  # share of the objects with a proposal that have a detection, too
MOST_CONFUSED = 0.15  # share of the objects found that are given another class
LEAST_SHIFTED = 0.5  # share of the objects found whose class is off by the same one number; so of the mean class
LEAST_FALL = 0.8  # the loss at the end as a share of that after a third; to call all background is learned before
WELL = 0.75  # share of the objects that are found and named rightly: what is odd on the way there does no harm
MOST_RISE = 1.5  # the loss at the end as a multiple of its lowest level on the way
MOST_GAP = 0.25  # detected share on images that were trained on, less that on others
FEW_OBJECTS, FEW_STEPS = 10, 100  # fewer say nothing


@dataclass(frozen=True)
class Verdict:
    """What one rule says.

    stage: which it is about. number: the measurement, as a sentence. trouble: what is wrong, in a few words; None if
    nothing is. remedy: what to do about it.
    """

    stage: str
    number: str
    trouble: str | None = None
    remedy: str = ""


def judge(evidence: Evidence) -> list[Verdict]:
    """The verdicts on all stages, in their order."""
    return [verdict for rule in RULES for verdict in rule(evidence)]


def data(evidence: Evidence) -> Iterator[Verdict]:
    """Whether the annotations can be right."""
    for problem in evidence.problems:
        seen = f"{problem.count} times, first: {problem.examples[0]}" if problem.examples else f"{problem.count} times"
        yield Verdict("data", seen, problem.sentence, problem.remedy)
    if not evidence.problems:
        yield Verdict("data", "nothing is wrong with the annotations")


def normalisation(evidence: Evidence) -> Iterator[Verdict]:
    """Whether the pixels reach the network centred and scaled, and as its norms expect them."""
    mean, std = evidence.pixel_mean, evidence.pixel_std
    if not np.isfinite(mean).all():
        return  # no image could be read
    number = f"normalised pixels have mean {_row(mean)} and deviation {_row(std)}"
    wrong = std.max() < LEAST_STD or std.max() > MOST_STD or np.abs(mean).max() > MOST_MEAN
    yield Verdict(
        "normalisation",
        number,
        "the pixels are not normalised" if wrong else None,
        "pixels lie in 0 .. 1 here: image_mean and image_std must be of that range, such as (0.485, 0.456, "
        "0.406) and (0.229, 0.224, 0.225), not of 0 .. 255",
    )
    if evidence.drift is not None:
        yield Verdict(
            "normalisation",
            f"what reaches the first norm lies {evidence.drift:.2f} deviations from what it has learned to expect",
            "the pixels are normalised otherwise than in training"
            if evidence.drift > MOST_DRIFT and not _is_good(evidence.train)
            else None,
            "use the image_mean and image_std, and the order of colours, that the weights were trained with",
        )


def anchors(evidence: Evidence) -> Iterator[Verdict]:
    """Whether there are anchors near the objects."""
    objects = evidence.train
    if len(objects) < FEW_OBJECTS:
        yield Verdict("anchors", f"{len(objects)} objects are too few to judge this and what follows by")
        return
    covered, is_found = objects.share("anchors"), objects.share("proposals") >= LEAST_PROPOSED
    yield Verdict(
        "anchors",
        f"{_percent(covered)} of the objects have an anchor at IoU {FOUND} or more; the median of "
        f"the best IoU is {np.median(objects.anchors):.2f}",
        "the anchors do not cover the objects" if covered < (LEAST_COVERED if is_found else WELL_COVERED) else None,
        'let them fit the data: in the run\'s file anchors = "fit" in place of anchor_sizes and '
        "aspect_ratios; in Python evaluate.suggest, with more of them if need be",
    )
    positive, sampled = float(objects.sampled[:, 0].mean()), float(objects.sampled.sum(axis=1).mean())
    yield Verdict(
        "anchors",
        f"of {sampled:.0f} anchors sampled on an image with objects, {positive:.1f} are positive",
        "few positives per image" if positive < LEAST_POSITIVE * sampled and not is_found else None,
        "anchors of the objects' own sizes and ratios, a lower rpn_fg_iou_thresh, or a lower rpn_batch_size_per_image",
    )


def learning(evidence: Evidence) -> Iterator[Verdict]:
    """Whether everything that should learn does, and the loss fell and stayed low."""
    frozen = Counter(part_of(name) for name in evidence.frozen)
    stuck = [
        part
        for part, count in frozen.items()
        if count == evidence.parameters.get(part) and not part.startswith(tuple(evidence.pretrained))
    ]
    yield Verdict(
        "learning",
        f"{len(evidence.frozen)} of {sum(evidence.parameters.values())} parameters are frozen",
        f"{', '.join(stuck)} cannot learn" if stuck else None,
        "take the names out of the recipe's freeze, or set requires_grad; only layers that come with trained "
        "weights may rest",
    )
    losses = evidence.losses
    if len(losses) < FEW_STEPS:
        return
    window = max(len(losses) // 10, FEW_STEPS // 4)
    levels = np.convolve(losses, np.full(window, 1 / window), mode="valid")  # moving means
    first, third, last, lowest = levels[0], levels[len(losses) // 3], levels[-1], levels.min()
    number = (
        f"the total loss went from {first:.2f} to {third:.2f} after a third of the steps and {last:.2f} at the "
        f"end; its lowest level was {lowest:.2f}"
    )
    trouble = None
    if not np.isfinite(losses).all():
        trouble = "the loss is not finite"
    elif last > MOST_RISE * lowest:
        trouble = "the loss has risen again: the learning rate is too high"
    elif last > LEAST_FALL * third and not _is_good(evidence.train):
        trouble = "the loss hardly falls: the learning rate is too low or too high"
    yield Verdict(
        "learning",
        number,
        trouble,
        "try a third and three times the learning rate for a few hundred steps; with a high one, a longer warm-up",
    )


def proposals(evidence: Evidence) -> Iterator[Verdict]:
    """Whether the RPN proposes a box for every object."""
    objects = evidence.train
    if len(objects) < FEW_OBJECTS:
        return
    share = objects.share("proposals")
    yield Verdict(
        "proposals",
        f"{_percent(share)} of the objects have a proposal at IoU {FOUND} or more",
        "the RPN's recall is low" if share < LEAST_PROPOSED else None,
        "mend what is wrong above first; look, with rcnn check, whether the boxes lie on the objects; then "
        "train longer, or raise rpn_post_nms_top_n_test",
    )


def detections(evidence: Evidence) -> Iterator[Verdict]:
    """Whether the head keeps the objects that were proposed, gives them their classes, and does so on new images."""
    objects = evidence.train
    proposed = objects.proposals >= FOUND
    if proposed.sum() < FEW_OBJECTS:
        return
    kept = float((objects.detections[proposed] >= FOUND).mean())
    yield Verdict(
        "detections",
        f"{_percent(kept)} of the objects that were proposed are detected, as any class",
        "the head loses objects" if kept < LEAST_KEPT else None,
        "train longer, or lower box_score_thresh; a head that learns nothing may be frozen",
    )
    yield from _classes(objects, evidence)
    if evidence.val is not None and len(evidence.val) >= FEW_OBJECTS:
        right, right_on_new = _right(objects), _right(evidence.val)
        yield Verdict(
            "new images",
            f"{_percent(right)} of the objects are found and named rightly on images that "
            f"were trained on, {_percent(right_on_new)} on others",
            "what was learned does not carry over" if right - right_on_new > MOST_GAP else None,
            "more images, flip and scale_jitter, fewer steps, or weights that know something already; see "
            "that both sets are annotated alike",
        )


def _classes(objects: Objects, evidence: Evidence) -> Iterator[Verdict]:
    """Whether the objects that are found are given their classes."""
    found = objects.predicted > 0
    if found.sum() < FEW_OBJECTS:
        return
    predicted, labels = objects.predicted[found], objects.labels[found]
    wrong = predicted != labels
    number = f"{_percent(wrong.mean())} of the objects found are given another class"
    for shift in (-1, 1):
        shifted = predicted == labels + shift
        share = float(shifted.mean())
        # A head that gives one class to all is right about that one, and so shifts no more than half of the classes.
        if min(share, np.mean([shifted[labels == label].mean() for label in np.unique(labels)])) > LEAST_SHIFTED:
            yield Verdict(
                "classes",
                f"for {_percent(share)} of the objects found, the detector's label is the annotation's {shift:+d}",
                "the labels are shifted by one",
                "count the classes from 1, for 0 is the background, both in training and here; names in the same order",
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
        "look at what is confused, for the annotations may be; then more images of these classes, or more steps",
    )


def _right(objects: Objects) -> float:
    """The share of the objects that are found and named rightly."""
    return float((objects.predicted == objects.labels).mean())


def _is_good(objects: Objects) -> bool:
    """Whether the detector does what it should with these objects."""
    return len(objects) >= FEW_OBJECTS and _right(objects) >= WELL


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
