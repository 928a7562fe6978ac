"""Answers to `checks.roi_targets`."""

import functools
from types import SimpleNamespace

import numpy as np

from mutants import answer
from rcnn import boxes, roi_heads
from rcnn.matching import match, sample


def as_rcnn(proposals, gt_boxes, gt_labels, **settings):
    return roi_heads.find_targets(proposals, gt_boxes, gt_labels, **settings)


def with_config(function):
    """Return the function with its keyword arguments in one object, except the generator."""

    @functools.wraps(function)
    def called(*given, rng, **settings):
        return function(*given, SimpleNamespace(**settings), rng)

    return called


@with_config
def objects_first(proposals, gt_boxes, gt_labels, config, rng):
    return _answer(proposals, gt_boxes, gt_labels, config, rng)


@with_config
def by_loops(proposals, gt_boxes, gt_labels, config, rng):
    """Choose box by box, with a generator that draws one index at a time."""
    kinds = {True: [], False: []}
    for roi in [*gt_boxes, *proposals.astype(float)]:
        overlaps = [float(boxes.iou([roi], [true])[0, 0]) for true in gt_boxes]
        best = max(range(len(overlaps)), key=overlaps.__getitem__, default=None)
        iou = 0.0 if best is None else overlaps[best]
        if iou >= config.fg_iou_thresh:
            move = boxes.encode([gt_boxes[best]], [roi], config.weights)[0]
            kinds[True].append((roi, gt_labels[best], move))
        elif iou < config.bg_iou_thresh:
            kinds[False].append((roi, 0, np.zeros(4)))
    chosen = []
    for is_object, most in (
        (True, int(config.batch_size * config.positive_fraction)),
        (False, config.batch_size),
    ):
        while kinds[is_object] and len(chosen) < most:
            chosen.append(kinds[is_object].pop(int(rng.integers(len(kinds[is_object])))))
    return [list(column) for column in zip(*chosen, strict=True)] if chosen else ([], [], [])


def _candidates(proposals, gt_boxes):
    return np.concatenate([proposals, gt_boxes])


def _labels(matches, gt_labels):
    labels = np.minimum(matches + 1, 0)
    labels[matches >= 0] = gt_labels[matches[matches >= 0]]
    return labels


def _drawn(labels, config, rng):
    return np.concatenate(sample(labels, config.batch_size, config.positive_fraction, rng))


def _match(overlaps, config):
    return match(overlaps, config.fg_iou_thresh, config.bg_iou_thresh)


def _encode(true, rois, config):
    return boxes.encode(true, rois, config.weights)


def _answer(
    proposals,
    gt_boxes,
    gt_labels,
    config,
    rng,
    candidates=_candidates,
    match=_match,
    labels=_labels,
    drawn=_drawn,
    encode=_encode,
):
    """Return the answer; any step can be replaced."""
    rois = candidates(proposals, gt_boxes)
    matches = match(boxes.iou(rois, gt_boxes), config)
    classes = labels(matches, gt_labels)
    chosen = drawn(classes, config, rng)
    rois, classes, matches = rois[chosen], classes[chosen], matches[chosen]
    deltas = np.zeros((len(rois), 4))
    deltas[matches >= 0] = encode(gt_boxes[matches[matches >= 0]], rois[matches >= 0], config)
    return rois, classes, deltas


@with_config
def no_true_boxes(*given):
    return _answer(*given, candidates=lambda proposals, gt_boxes: proposals)


@with_config
def true_boxes_alone(*given):
    return _answer(*given, candidates=lambda proposals, gt_boxes: gt_boxes)


@with_config
def true_boxes_twice(*given):
    return _answer(*given, candidates=lambda proposals, gt_boxes: np.concatenate([gt_boxes, proposals, gt_boxes]))


@with_config
def best_is_forced(*given):
    return _answer(
        *given,
        candidates=lambda proposals, gt_boxes: proposals,
        match=lambda overlaps, config: match(overlaps, config.fg_iou_thresh, config.bg_iou_thresh, force_best=True),
    )


@with_config
def greater_than_the_threshold(*given):
    return _answer(
        *given,
        match=lambda overlaps, config: match(
            np.where(overlaps == config.fg_iou_thresh, 0, overlaps),
            config.fg_iou_thresh,
            config.bg_iou_thresh,
        ),
    )


@with_config
def thresholds_of_the_rpn(*given):
    return _answer(*given, match=lambda overlaps, config: match(overlaps, 0.7, 0.3))


@with_config
def high_threshold_only(*given):
    return _answer(*given, match=lambda overlaps, config: match(overlaps, config.fg_iou_thresh, config.fg_iou_thresh))


@with_config
def low_threshold_only(*given):
    return _answer(*given, match=lambda overlaps, config: match(overlaps, config.bg_iou_thresh, config.bg_iou_thresh))


@with_config
def first_object(*given):
    return _answer(
        *given,
        match=lambda overlaps, config: np.where(
            (overlaps >= config.fg_iou_thresh).any(axis=1),
            (overlaps >= 0.25).argmax(axis=1),
            _match(overlaps, config),
        ),
    )


@with_config
def index_as_label(*given):
    return _answer(
        *given, labels=lambda matches, gt_labels: np.where(matches >= 0, matches + 1, np.minimum(matches + 1, 0))
    )


@with_config
def one_class(*given):
    return _answer(*given, labels=lambda matches, gt_labels: np.where(matches >= 0, 1, np.minimum(matches + 1, 0)))


@with_config
def classes_count_from_zero(*given):
    rois, labels, deltas = _answer(*given)
    return rois, np.maximum(labels - 1, 0), deltas


@with_config
def background_is_minus_one(*given):
    rois, labels, deltas = _answer(*given)
    return rois, np.where(labels > 0, labels, -1), deltas


@with_config
def labels_in_another_order(*given):
    rois, labels, deltas = _answer(*given)
    return rois, np.sort(labels), deltas


@with_config
def not_filled_up(*given):
    def drawn(labels, config, rng):
        positive, negative = sample(labels, config.batch_size, config.positive_fraction, rng)
        most = int(config.batch_size * (1 - config.positive_fraction))
        return np.concatenate([positive, negative[:most]])

    return _answer(*given, drawn=drawn)


@with_config
def no_fraction(*given):
    return _answer(
        *given,
        drawn=lambda labels, config, rng: np.concatenate(sample(labels, config.batch_size, 1.0, rng)),
    )


@with_config
def rounded_up(*given):
    def drawn(labels, config, rng):
        size = config.batch_size
        return np.concatenate(sample(labels, size, np.ceil(size * config.positive_fraction) / size, rng))

    return _answer(*given, drawn=drawn)


@with_config
def everything(*given):
    return _answer(*given, drawn=lambda labels, config, rng: np.flatnonzero(labels >= 0))


@with_config
def with_replacement(*given):
    def drawn(labels, config, rng):
        positive, negative = sample(labels, config.batch_size, config.positive_fraction, rng)
        return np.concatenate(
            [rng.choice(rows, len(rows)) for rows in (positive, negative) if len(rows)] or [[]]
        ).astype(int)

    return _answer(*given, drawn=drawn)


@with_config
def ignored_as_background(*given):
    return _answer(*given, labels=lambda matches, gt_labels: np.maximum(_labels(matches, gt_labels), 0))


@with_config
def the_first_ones(*given):
    def drawn(labels, config, rng):
        most = int(config.batch_size * config.positive_fraction)
        positive = np.flatnonzero(labels > 0)[:most]
        return np.concatenate([positive, np.flatnonzero(labels == 0)[: config.batch_size - len(positive)]])

    return _answer(*given, drawn=drawn)


@with_config
def a_generator_of_its_own(*given):
    return _answer(*given, drawn=lambda labels, config, rng: _drawn(labels, config, np.random.default_rng(0)))


@with_config
def a_new_generator_each_time(*given):
    return _answer(*given, drawn=lambda labels, config, rng: _drawn(labels, config, np.random.default_rng()))


@with_config
def true_boxes_always_chosen(proposals, gt_boxes, gt_labels, config, rng):
    def drawn(labels, config, rng):
        positive, negative = sample(labels, config.batch_size, config.positive_fraction, rng)
        sure = np.arange(len(proposals), len(labels))[: len(positive)]
        others = rng.permutation(np.setdiff1d(np.flatnonzero(labels > 0), sure))[: len(positive) - len(sure)]
        return np.concatenate([sure, others, negative])

    return _answer(proposals, gt_boxes, gt_labels, config, rng, drawn=drawn)


@with_config
def easy_background_only(proposals, gt_boxes, gt_labels, config, rng):
    def drawn(labels, config, rng):
        positive, negative = sample(labels, config.batch_size, config.positive_fraction, rng)
        overlaps = boxes.iou(_candidates(proposals, gt_boxes), gt_boxes).max(axis=1, initial=0)
        easy = rng.permutation(np.flatnonzero((labels == 0) & (overlaps == 0)))[: len(negative)]
        rest = np.setdiff1d(np.flatnonzero(labels == 0), easy)[: len(negative) - len(easy)]
        return np.concatenate([positive, easy, rest])

    return _answer(proposals, gt_boxes, gt_labels, config, rng, drawn=drawn)


@with_config
def no_weights(*given):
    return _answer(*given, encode=lambda true, rois, config: boxes.encode(true, rois))


@with_config
def divided_by_the_weights(*given):
    return _answer(*given, encode=lambda true, rois, config: boxes.encode(true, rois) / np.array(config.weights))


@with_config
def weights_hard_coded(*given):
    return _answer(*given, encode=lambda true, rois, config: boxes.encode(true, rois, (10, 10, 5, 5)))


@with_config
def from_the_object_back(*given):
    return _answer(*given, encode=lambda true, rois, config: boxes.encode(rois, true, config.weights))


@with_config
def deltas_to_the_first_object(proposals, gt_boxes, gt_labels, config, rng):
    return _answer(
        proposals,
        gt_boxes,
        gt_labels,
        config,
        rng,
        encode=lambda true, rois, config: boxes.encode(
            np.repeat(gt_boxes[:1], len(rois), axis=0), rois, config.weights
        ),
    )


@with_config
def deltas_of_background(proposals, gt_boxes, gt_labels, config, rng):
    rois, labels, deltas = _answer(proposals, gt_boxes, gt_labels, config, rng)
    if len(gt_boxes):
        nearest = boxes.iou(rois, gt_boxes).argmax(axis=1)
        deltas = boxes.encode(gt_boxes[nearest], rois, config.weights)
    return rois, labels, deltas


@with_config
def deltas_of_objects_only(*given):
    rois, labels, deltas = _answer(*given)
    return rois, labels, deltas[labels > 0]


@with_config
def boxes_in_place_of_rois(proposals, gt_boxes, gt_labels, config, rng):
    rois, labels, deltas = _answer(proposals, gt_boxes, gt_labels, config, rng)
    return boxes.decode(deltas, rois, config.weights), labels, deltas


@with_config
def in_cells_of_the_map(proposals, gt_boxes, gt_labels, config, rng):
    rois, labels, deltas = _answer(proposals, gt_boxes, gt_labels, config, rng)
    return rois / 8, labels, deltas


@with_config
def indices(proposals, gt_boxes, gt_labels, config, rng):
    rois, labels, deltas = _answer(proposals, gt_boxes, gt_labels, config, rng)
    return np.arange(len(rois)), labels, deltas


@with_config
def fails_without_objects(proposals, gt_boxes, gt_labels, config, rng):
    boxes.iou(proposals, gt_boxes).max(axis=1)
    return _answer(proposals, gt_boxes, gt_labels, config, rng)


@with_config
def changes_the_proposals(proposals, gt_boxes, gt_labels, config, rng):
    answer = _answer(proposals, gt_boxes, gt_labels, config, rng)
    proposals += 1
    return answer


@with_config
def two_things(*given):
    return _answer(*given)[:2]


@with_config
def forgets_to_return(*given):
    _answer(*given)


def _first_of_class(proposals, gt_boxes, gt_labels, settings):
    found = as_rcnn(proposals, gt_boxes, gt_labels, **settings)
    deltas = found.deltas.copy()
    for row, label in enumerate(found.labels):
        if label > 0:
            first = gt_boxes[np.flatnonzero(gt_labels == label)[:1]]
            deltas[row] = boxes.encode(first, found.rois[row : row + 1], settings["weights"])[0]
    return found.rois, found.labels, deltas


RIGHT = (as_rcnn, objects_first, by_loops)
WRONG = (
    (no_true_boxes, "The true boxes are missing"),
    (true_boxes_alone, "The proposals are missing"),
    (true_boxes_twice, "to the proposals only once"),
    (best_is_forced, "The true boxes are missing"),
    (greater_than_the_threshold, r"\*at least\* `fg_iou_thresh`"),
    (thresholds_of_the_rpn, "the IoU is at least `fg_iou_thresh`|neither object nor background|at least"),
    (high_threshold_only, "neither object nor background"),
    (low_threshold_only, "neither object nor background"),
    (first_object, "class of the object that it overlaps most"),
    (index_as_label, "not the index of the object"),
    (one_class, "the class of the object"),
    (classes_count_from_zero, "the class of the object"),
    (background_is_minus_one, "0 is background"),
    (labels_in_another_order, "are right, but they belong"),
    (not_filled_up, "Background fills the rest of the sample"),
    (no_fraction, "is the fraction of RoIs on objects"),
    (rounded_up, "rounded down"),
    (everything, "are enough candidates of both"),
    (with_replacement, "without replacement"),
    (ignored_as_background, "neither object nor background"),
    (the_first_ones, "The choice must depend on the random"),
    (a_generator_of_its_own, "a generator of your own"),
    (a_new_generator_each_time, "the choice cannot be repeated"),
    (true_boxes_always_chosen, "the same probability, including true"),
    (easy_background_only, "overlap an object a little"),
    (no_weights, "multiplied by `weights`"),
    (divided_by_the_weights, "multiplied by `weights`"),
    (weights_hard_coded, "multiplied by `weights`"),
    (from_the_object_back, "to its matched object, not"),
    (deltas_to_the_first_object, "to its matched object"),
    (deltas_of_background, "no object to move to"),
    (deltas_of_objects_only, "have one row for each chosen RoI"),
    (boxes_in_place_of_rois, "chosen, not moved|without replacement"),
    (in_cells_of_the_map, "are chosen, but not moved"),
    (indices, "rois of shape"),
    (fails_without_objects, "without objects is valid input"),
    (changes_the_proposals, "changes its argument 'proposals'"),
    (two_things, "three arrays"),
    (forgets_to_return, "without `return`"),
)
WRONG += (  # each with the description of a misconception
    answer(
        "negative coordinates are clipped", lambda p, g, c, **s: as_rcnn(np.maximum(p, 0), np.maximum(g, 0), c, **s)
    ),
    answer(
        "sides are a pixel at least",
        lambda p, g, c, **s: as_rcnn(np.concatenate([p[:, :2], np.maximum(p[:, 2:], p[:, :2] + 1)], axis=1), g, c, **s),
    ),
    answer(
        "weights of dx and dy swapped",
        lambda p, g, c, **s: as_rcnn(p, g, c, **{**s, "weights": tuple(s["weights"][i] for i in (1, 0, 3, 2))}),
    ),
    answer("at most five classes", lambda p, g, c, **s: as_rcnn(p, g, np.minimum(c, 20), **s)),
    answer(
        "a threshold of 0.5, whatever is given", lambda p, g, c, **s: as_rcnn(p, g, c, **{**s, "fg_iou_thresh": 0.5})
    ),
    answer(
        "everything below the upper threshold is background",
        lambda p, g, c, **s: as_rcnn(p, g, c, **{**s, "bg_iou_thresh": s["fg_iou_thresh"]}),
    ),
    answer(
        "labels as floats",
        lambda p, g, c, **s: (lambda t: (t.rois, t.labels.astype(float), t.deltas))(as_rcnn(p, g, c, **s)),
        "labels of dtype",
    ),
    answer(
        "labels as a column",
        lambda p, g, c, **s: (lambda t: (t.rois, t.labels[:, None], t.deltas))(as_rcnn(p, g, c, **s)),
    ),
    answer(
        "RoIs rounded to pixels",
        lambda p, g, c, **s: (lambda t: (t.rois.round(), t.labels, t.deltas))(as_rcnn(p, g, c, **s)),
    ),
    answer(
        "dw and dh are not logarithms",
        lambda p, g, c, **s: (
            lambda t: (
                t.rois,
                t.labels,
                np.concatenate([t.deltas[:, :2], np.exp(t.deltas[:, 2:]) * (t.labels > 0)[:, None]], axis=1),
            )
        )(as_rcnn(p, g, c, **s)),
    ),
    answer("deltas of the first object of the same class", lambda p, g, c, **s: _first_of_class(p, g, c, s)),
    answer(
        "a dict",
        lambda p, g, c, **s: (
            vars(as_rcnn(p, g, c, **s)).copy() if hasattr(as_rcnn(p, g, c, **s), "__dict__") else {"rois": p}
        ),
    ),
    answer(
        "one RoI fewer",
        lambda p, g, c, **s: (lambda t: (t.rois[1:], t.labels[1:], t.deltas[1:]))(as_rcnn(p, g, c, **s)),
    ),
    answer(
        "text as labels",
        lambda p, g, c, **s: (lambda t: (t.rois, t.labels.astype(str), t.deltas))(as_rcnn(p, g, c, **s)),
    ),
    answer(
        "rows of labels in ascending order",
        lambda p, g, c, **s: (lambda t: (t.rois, np.sort(t.labels), t.deltas))(as_rcnn(p, g, c, **s)),
    ),
)
