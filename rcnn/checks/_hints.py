"""Further hints: after a check has failed, `checks.hint()` prints a second hint, and then where to read about it."""

from __future__ import annotations

import re
from dataclasses import dataclass
from importlib import resources

import rcnn

NO_FAILURE = "No check has failed yet."
ELSEWHERE = "The check that failed last has no further hints. The section above it explains the exercise."
NO_MORE = "There is no further hint. Work through the input in the message by hand, step by step, and compare."

STEPS = {  # the steps of the function of each check; a hint, not a solution
    "anchor_generator": "Take one level. Compute its stride from the two sizes and its cell anchors from its own "
    "sizes, and copy these to every position. Then do the same for the next level.",
    "assign": "Sort the detections by score, with a stable sort. Keep a list of objects that are taken. For each "
    "detection, find the one object that it overlaps most, compare the IoU, look into the list, and only then decide.",
    "average_precision": "First replace each precision by the largest one at the same or a higher recall. Then "
    "integrate, or read this curve at the given recalls. Recalls that are never reached count as 0.",
    "bin_bounds": "Round both ends (halves away from zero), count the cells from the first to the last one, divide "
    "this length by the number of bins, and only at the end clip the bounds to the map.",
    "bin_weights": "List the positions of all points along the axis. For each point, write down the two cells "
    "around it and their weights, which add up to 1. The row of a bin is the mean over its points.",
    "binary_cross_entropy": "Write -log(sigmoid(z)) as log(1 + exp(-z)). Which of exp(z) and exp(-z) is at most 1? "
    "Rewrite the formula until only this one is left, for either sign of z.",
    "cell_anchors": "From size^2 = width * height and ratio = height / width, work out the width and the height. Halve "
    "both, round the four corners, and check the order with two sizes and two ratios.",
    "choose_anchors": "Collect the sizes (square roots of areas) and the ratios (height / width) of all objects in the "
    "resized images. Which three numbers are close, in ratio, to all of the sizes?",
    "conv2d_backward": "Write the forward pass as loops: out[n, o, i, j] += x[n, c, i * s + u, j * s + v] * "
    "weight[o, c, u, v]. Each loop step gives one step of the gradient of x and one of the gradient of weight.",
    "convert": "Convert to one format in the middle first, for example to the corner and the sides, and from there to "
    "the target. Each step adds or subtracts a side, or half of it.",
    "cross_entropy_gradient": "The gradient of one row is softmax minus one-hot label. Subtract the largest logit of "
    "each row before exp, and divide by the number of rows.",
    "decode": "Divide by the weights, cap dw and dh, compute the centre and the sides of the old box, move and scale "
    "them, and go half a side away from the new centre in each direction.",
    "encode": "Compute the centre and the sides of both boxes. The shift of the centre is divided by the sides of "
    "`boxes`; the ratio of the sides goes through the logarithm. Multiply by the weights last.",
    "find_faults": "Write one small function for each kind that takes an image, boxes and labels and returns True or "
    "False. Test the kinds in the order of the list, and stop at the first one that is found.",
    "grid_anchors": "Compute the shifts of all positions first: (x, y, x, y) for each row and column. Then add each "
    "cell anchor to each shift, and check which index changes fastest.",
    "head_loss_gradient": "The two losses are independent. For the logits: softmax minus one-hot, over R. For the "
    "deltas: zeros, except in the row of the true class of each object, where the slope of smooth L1 over R stands.",
    "iou": "Follow one pair: the larger of the two left edges, the smaller of the two right edges, a width of at least "
    "0, the same for the height, the product, the two areas, the union, the quotient.",
    "learning_rate": "Compute the two factors separately, print both for a few steps, and compare them with the "
    "text: at step 0, at step `warmup`, halfway, at step `steps`, and after it.",
    "match": "Find the largest IoU of each row and its column. Set the three kinds of answers by comparing this IoU "
    "with the thresholds. Only then look at the columns for `force_best`.",
    "nms": "Sort once. Take the first box that is left, keep it, and remove from the rest what overlaps it too much. "
    "Repeat with the rest until nothing is left. Map the indices back to `boxes`.",
    "recalls": "Write a function that returns the recall for two lists of pages. Call it with the annotations as they "
    "are, with swapped columns, and for each k with the pages moved by k; keep the best of these.",
    "repair": "Repair one kind of fault in one record, and run the validator again. Create new arrays instead of "
    "writing into the old ones, and change every field of a record that depends on the change.",
    "resize_boxes": "Compute the scale from the shorter side, check the longer side, round both sides down, and only "
    "then compute the two ratios new / old that the boxes are multiplied by.",
    "roi_align": "Follow one bin: where are its points (in cells, not rounded)? Which four cells are around "
    "each point, and what are their weights? What happens to a point outside the map?",
    "roi_align_backward": "Whatever the forward pass reads with a weight receives the gradient with the same weight. "
    "Add up; do not assign.",
    "roi_pool": "Follow one axis: scale, round, count the cells from the first to the last one, divide by the number "
    "of bins, floor and ceiling, then clip to the map. The maximum comes last.",
    "roi_pool_backward": "Repeat the forward pass, and for each bin remember the position of the maximum. Add the "
    "gradient of the bin at this position. Empty bins send nothing.",
    "roi_targets": "Join the proposals and the true boxes, compute the IoU with all objects, match, sample both kinds, "
    "and build labels and deltas for the chosen rows only.",
    "rpn_loss_gradient": "The derivative of one anchor is sigmoid minus label. Anchors that were not sampled get 0. "
    "Divide by the number of sampled anchors, if there are any.",
    "sample": "Collect the indices of both kinds. Decide how many of each are needed. Draw without replacement with "
    "`rng`, and sort the chosen indices.",
    "smooth_l1": "Compute |d| for each element, choose between the two formulas with |d| < beta, and add "
    "up everything.",
    "smooth_l1_gradient": "Differentiate the two formulas separately: d^2 / (2 beta) and |d| - beta / 2. They meet at "
    "|d| = beta, where both slopes are 1 or -1.",
    "top_down": "For each row of the finer level, write down floor(i * h / H), and the same for the columns. Index the "
    "coarser level with both lists, and add.",
    "training_step": "Clear the gradients, compute the losses once, check that the total is finite, go backward, clip, "
    "step. Each of these happens exactly once.",
}


@dataclass
class _Memory:
    """The check that failed last, and the number of further hints that were given for it."""

    failed: bool = False
    name: str | None = None  # None for a check that stands in a notebook
    given: int = 0


_memory = _Memory()


def remember(name: str) -> None:
    """Note that a check has failed, so that `hint` refers to it.

    Parameters
    ----------
    name : str
        Name of the check.
    """
    _memory.failed, _memory.name, _memory.given = True, name, 0


def forget() -> None:
    """Note that a check has failed that has no further hints, because it stands in a notebook."""
    _memory.failed, _memory.name, _memory.given = True, None, 0


def hint() -> None:
    """Print a further hint for the check that failed last.

    The message of a failed check contains the first hint. The first call of this function prints the second hint: the
    steps of the function. The second call names the section of the course that explains the exercise. A check that
    stands in a notebook has no further hints.
    """
    if _memory.name is None:
        print(ELSEWHERE if _memory.failed else NO_FAILURE)
        return
    further = [text for text in (STEPS.get(_memory.name), _section(_memory.name)) if text is not None]
    print(further[_memory.given] if _memory.given < len(further) else NO_MORE)
    _memory.given += 1


def _section(name: str) -> str | None:
    """Return where the course explains the exercise of a check, or None if no notebook calls the check."""
    folder = resources.files(rcnn) / "course" / "src"
    for source in sorted(folder.iterdir(), key=lambda file: file.name):
        if not source.name.endswith(".py"):
            continue
        text = source.read_text(encoding="utf-8")
        call = re.search(rf"(checks\.|check_){name}\(", text)
        headings = re.findall(r"^# (#{2,3} .+)$", text[: call.start()] if call else "", re.MULTILINE)
        if headings:
            title = headings[-1].lstrip("# ")
            return f"Read the section “{title}” of notebook {source.name[:2]}, just above the exercise, once more."
    return None
