"""How single numbers of a detection are computed: the inputs, the formula with values, and the result."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from rcnn import boxes, nn
from tab_engine.stages import Detection

COORDINATES = ("x1", "y1", "x2", "y2")
DELTAS = ("dx", "dy", "dw", "dh")
MAX_LOG_SCALE = math.log(1000 / 16)  # the largest dw and dh that `rcnn.boxes.decode` uses


def arithmetic(
    title: str,
    formula: str,
    inputs: dict[str, float],
    steps: list[str],
    result: float,
    products: dict[str, Any] | None = None,
) -> dict[str, Any]:
    """Return an `Arithmetic` of protocol.ts.

    Parameters
    ----------
    title, formula : str
        What the number is, and its formula with names.
    inputs : dict
        Maps the names of the inputs to their values.
    steps : list of str
        The formula with values.
    result : float
        The number.
    products : dict, optional
        The factors of a sum of products.

    Returns
    -------
    dict
        The message.
    """
    terms = [{"name": name, "value": float(value)} for name, value in inputs.items()]
    return {
        "title": title,
        "formula": formula,
        "inputs": terms,
        "steps": steps,
        "result": float(result),
        "products": products,
    }


def sum_of_products(title: str, result: str, a: np.ndarray, b: np.ndarray, offset: float, names: tuple[str, str, str]):
    """Return the `Arithmetic` of offset + sum of a * b.

    Parameters
    ----------
    title : str
        What the number is.
    result : str
        Name of the result in the formula.
    a, b : (K,) arrays
        The factors.
    offset : float
        The offset.
    names : (str, str, str)
        Names of a, of b and of the offset.

    Returns
    -------
    dict
        The message.
    """
    total = float(offset) + float(a.astype(np.float64) @ b.astype(np.float64))
    best = np.argsort(-np.abs(a * b), kind="stable")[:3]
    largest = [
        f"{names[0]} {k} * {names[1]} {k} = {number(a[k])} * {number(b[k])} = {number(a[k] * b[k])}" for k in best
    ]
    rest = total - float(offset) - float(np.sum(a[best].astype(np.float64) * b[best]))
    terms = " ".join(signed(float(a[k] * b[k])) for k in best)
    steps = [
        *largest,
        f"{result} = {number(offset)} {terms} {signed(rest)} ({len(a) - len(best)} other products) = {number(total)}",
    ]
    factors = {"a": a, "b": b, "offset": float(offset), "nameOfA": names[0], "nameOfB": names[1]}
    formula = f"{result} = {names[2]} + sum of {names[0]} k * {names[1]} k, k = 0 .. {len(a) - 1}"
    return arithmetic(title, formula, {names[2]: offset}, steps, total, factors)


def number(value: float) -> str:
    """Return a number with four significant digits.

    Parameters
    ----------
    value : float
        The number.

    Returns
    -------
    str
        The text.
    """
    return f"{float(value):.4g}"


def signed(value: float) -> str:
    """Return a number as a term of a sum, with its sign.

    Parameters
    ----------
    value : float
        The number.

    Returns
    -------
    str
        The text, such as "- 0.5".
    """
    return f"{'-' if value < 0 else '+'} {number(abs(value))}"


def moved_box(title: str, box: np.ndarray, deltas: np.ndarray, weights: tuple[float, ...]) -> list[dict[str, Any]]:
    """Return how four deltas move a box: one `Arithmetic` for each coordinate.

    Parameters
    ----------
    title : str
        What the new box is.
    box : (4,) array
        The box, in pixels.
    deltas : (4,) array
        The deltas.
    weights : (float, float, float, float)
        The weights of the deltas.

    Returns
    -------
    list of dict
        Messages for x1, y1, x2 and y2.
    """
    start, moves = [float(x) for x in box], [float(d) / w for d, w in zip(deltas, weights, strict=True)]
    result = boxes.decode(deltas[None], box[None], weights)[0]
    messages = []
    for index, name in enumerate(COORDINATES):
        axis, sign = index % 2, -1 if index < 2 else 1
        side, low = start[axis + 2] - start[axis], start[axis]
        letter, size = "xy"[axis], ("width", "height")[axis]
        shift, stretch = moves[axis], min(moves[axis + 2], MAX_LOG_SCALE)
        centre, new_side = low + side / 2 + shift * side, side * math.exp(stretch)
        given = {
            f"{letter} of the centre": low + side / 2,
            size: side,
            DELTAS[axis]: float(deltas[axis]),
            DELTAS[axis + 2]: float(deltas[axis + 2]),
        }
        over = [f" / {w:g}" if w != 1 else "" for w in (weights[axis], weights[axis + 2])]
        moved, log = f"{DELTAS[axis]}{over[0]}", f"{DELTAS[axis + 2]}{over[1]}"
        written = [f"{number(deltas[axis])}{over[0]}", f"{number(deltas[axis + 2])}{over[1]}"]
        plus = "-" if sign < 0 else "+"
        messages.append(
            arithmetic(
                f"{name} of {title}",
                f"{name} = centre {letter} + {moved} * {size} {plus} {size} * exp({log}) / 2",
                given,
                [
                    f"new centre = {number(low + side / 2)} + {written[0]} * {number(side)} = {number(centre)}",
                    f"new {size} = {number(side)} * exp({written[1]}) = {number(new_side)}",
                    f"{name} = {number(centre)} {plus} {number(new_side)} / 2 = {number(result[index])}",
                ],
                result[index],
            )
        )
    return messages


# ---------------------------------------------------------------------- cells and anchors


def receptive_field(detection: Detection, row: int, column: int, margin: int) -> list[float]:
    """Return the pixels on which a cell of the feature map depends, clipped to the image.

    Parameters
    ----------
    detection : Detection
        The detection.
    row, column : int
        The cell.
    margin : int
        The number of 3x3 convolutions that follow the feature map.

    Returns
    -------
    list of float
        The box x1, y1, x2, y2.
    """
    depth = detection.model.backbone.depth
    box = []
    for index, pixels in ((column, detection.image.shape[1]), (row, detection.image.shape[0])):
        low, high = index - 2 * depth - margin, index + 2 * depth + margin
        for blocks in (0, 1, 0):  # the layers of `SmallBackbone.stem`, from the last one to the first one
            low, high = low - 2 * blocks, high + 2 * blocks  # a residual block has two 3x3 convolutions
            low, high = 2 * low - 1, 2 * high + 1  # a 3x3 convolution with stride 2
        box.append((max(low, 0), min(high + 1, pixels)))
    (x1, x2), (y1, y2) = box
    return [x1, y1, x2, y2]


def cell(detection: Detection, level: int, row: int, column: int) -> dict[str, Any]:
    """Return a `Cell` of protocol.ts.

    Parameters
    ----------
    detection : Detection
        The detection.
    level, row, column : int
        The cell.

    Returns
    -------
    dict
        The message.
    """
    check("level", level, 1)
    rows, columns = detection.features.shape[1:]
    check("row", row, rows)
    check("column", column, columns)
    per_cell = len(detection.anchor_shapes)
    first = (row * columns + column) * per_cell
    features = detection.features[:, row, column]
    channel = int(features.argmax())
    return {
        "level": level,
        "row": row,
        "column": column,
        "features": features,
        "receptiveField": receptive_field(detection, row, column, margin=0),
        "rpnReceptiveField": receptive_field(detection, row, column, margin=detection.config.rpn_num_convs),
        "anchors": np.arange(first, first + per_cell),
        "hidden": hidden_layer(detection)[:, row, column],
        "feature": {"channel": channel, "arithmetic": feature(detection, channel, row, column)},
    }


def hidden_layer(detection: Detection) -> np.ndarray:
    """Return the hidden layer (C, rows, columns) of the RPN.

    Parameters
    ----------
    detection : Detection
        The detection.

    Returns
    -------
    (C, rows, columns) array
        The layer.
    """
    with nn.evaluation(), nn.no_grad():
        return detection.model.rpn.head.conv(detection.first.features[0]).data[0]


def feature(detection: Detection, channel: int, row: int, column: int) -> dict[str, Any]:
    """Return how the last residual block of the backbone computes a feature.

    Parameters
    ----------
    detection : Detection
        The detection.
    channel, row, column : int
        The feature.

    Returns
    -------
    dict
        An `Arithmetic` of protocol.ts.
    """
    block = detection.model.backbone.blocks[-1]
    conv, norm = block.second
    seen: dict[str, np.ndarray] = {}
    hooks = (
        conv.register_forward_hook(lambda _, args, result: seen.update(hidden=args[0].data[0].copy())),
        block.register_forward_hook(lambda _, args, result: seen.update(skipped=args[0].data[0].copy())),
    )
    try:
        with nn.evaluation(), nn.no_grad():
            detection.model.features(detection.batch)
    finally:
        for hook in hooks:
            hook.remove()
    padded = np.pad(seen["hidden"], ((0, 0), (1, 1), (1, 1)))  # (C, rows + 2, columns + 2)
    inputs = padded[:, row : row + 3, column : column + 3].ravel()  # (C * 9,)
    weights = conv.weight.data[channel].ravel()  # (C * 9,)
    convolved = float(inputs.astype(np.float64) @ weights.astype(np.float64))
    mean, variance = float(norm.running_mean[channel]), float(norm.running_var[channel])
    scale, shift = float(norm.weight.data[channel]), float(norm.bias.data[channel])
    deviation = math.sqrt(variance + norm.eps)
    normalised = (convolved - mean) / deviation * scale + shift
    skipped = float(seen["skipped"][channel, row, column])
    result = float(detection.features[channel, row, column])
    return arithmetic(
        f"feature of channel {channel} at row {row}, column {column}",
        "feature = max(0, (sum of input k * weight k - mean) / deviation * scale + shift + input of the block)",
        {
            "mean": mean,
            "deviation": deviation,
            "scale": scale,
            "shift": shift,
            "input of the block": skipped,
        },
        [
            f"convolution: sum of {len(inputs)} products = {number(convolved)}",
            f"batch norm: ({number(convolved)} {signed(-mean)}) / {number(deviation)} * {number(scale)} "
            f"{signed(shift)} = {number(normalised)}",
            f"feature = max(0, {number(normalised)} {signed(skipped)}) = {number(result)}",
        ],
        result,
        {"a": inputs, "b": weights, "offset": 0.0, "nameOfA": "input", "nameOfB": "weight"},
    )


def anchor(detection: Detection, index: int) -> dict[str, Any]:
    """Return an `Anchor` of protocol.ts.

    Parameters
    ----------
    detection : Detection
        The detection.
    index : int
        The index of the anchor.

    Returns
    -------
    dict
        The message.
    """
    check("anchor", index, len(detection.anchors))
    per_cell, columns = len(detection.anchor_shapes), detection.features.shape[2]
    place, kind = divmod(index, per_cell)
    row, column = divmod(place, columns)
    box, deltas, logit = detection.anchors[index], detection.deltas[index], float(detection.logits[index])
    size, ratio = detection.anchor_shapes[kind]
    moved = boxes.decode(deltas[None], box[None])
    layer = detection.model.rpn.head.cls_logits
    weights, bias = layer.weight.data[kind].ravel(), float(layer.bias.data[kind])
    hidden = hidden_layer(detection)[:, row, column]
    score = 1 / (1 + math.exp(-logit))
    return {
        "index": index,
        "level": 0,
        "row": row,
        "column": column,
        "size": float(size),
        "ratio": float(ratio),
        "box": floats(box),
        "logit": logit,
        "score": score,
        "deltas": floats(deltas),
        "decoded": floats(moved[0]),
        "clipped": floats(boxes.clip(moved, detection.image.shape[:2])[0]),
        "fate": fate(detection, index),
        "arithmetic": {
            "logit": sum_of_products(
                f"objectness logit of anchor {index}", "logit", hidden, weights, bias, ("hidden", "weight", "bias")
            ),
            "score": arithmetic(
                f"score of anchor {index}",
                "score = 1 / (1 + exp(-logit))",
                {"logit": logit},
                [f"score = 1 / (1 + exp({number(-logit)})) = {number(score)}"],
                score,
            ),
            "box": moved_box(f"the moved anchor {index}", box, deltas, (1.0, 1.0, 1.0, 1.0)),
        },
    }


def fate(detection: Detection, index: int) -> dict[str, Any]:
    """Return what became of an anchor: a `Fate` of protocol.ts.

    Parameters
    ----------
    detection : Detection
        The detection.
    index : int
        The index of the anchor.

    Returns
    -------
    dict
        The message.
    """
    candidates = np.flatnonzero(detection.candidate_anchors == index)
    if len(candidates) == 0:
        return {"kind": "not a candidate", "rank": int((detection.logits > detection.logits[index]).sum())}
    candidate = int(candidates[0])
    ranks = np.flatnonzero(detection.survivors == candidate)
    if len(ranks):
        rank = int(ranks[0])
        if rank < len(detection.proposals):
            return {"kind": "proposal", "proposal": rank}
        return {"kind": "not among the best", "rank": rank}
    found = detection.first.proposals[0]
    kept = detection.survivors  # descending
    overlap = boxes.iou(found.candidates[candidate][None], found.candidates[kept])[0]
    by = int(np.flatnonzero(overlap > detection.settings.rpn_nms_thresh)[0])
    return {
        "kind": "suppressed",
        "by": int(detection.candidate_anchors[kept[by]]),
        "byBox": floats(found.candidates[kept[by]]),
        "iou": float(overlap[by]),
    }


# ---------------------------------------------------------------------- RoIs and bins


def roi(detection: Detection, index: int) -> dict[str, Any]:
    """Return a `Roi` of protocol.ts.

    Parameters
    ----------
    detection : Detection
        The detection.
    index : int
        The index of the RoI.

    Returns
    -------
    dict
        The message.
    """
    check("roi", index, len(detection.proposals))
    return {
        "index": index,
        "box": floats(detection.proposals[index]),
        "score": float(detection.proposal_scores[index]),
        "level": 0,
        "samples": detection.samples(np.array([index]))[0],
        "pooled": detection.second.pooled.data[index],
    }


def bin_of(detection: Detection, index: int, row: int, column: int, channel: int) -> dict[str, Any]:
    """Return a `Bin` of protocol.ts.

    Parameters
    ----------
    detection : Detection
        The detection.
    index : int
        The index of the RoI.
    row, column, channel : int
        The bin and the channel.

    Returns
    -------
    dict
        The message.
    """
    (ph, pw), region = detection.config.pool_size, detection.proposals[index : index + 1]
    check("roi", index, len(detection.proposals))
    check("row", row, ph)
    check("column", column, pw)
    check("channel", channel, len(detection.features))
    features, scale = detection.features[channel], detection.scale
    title = f"pooled feature of RoI {index}, bin ({row}, {column}), channel {channel}"
    result = float(detection.second.pooled.data[index, channel, row, column])
    answer = {"roi": index, "row": row, "column": column, "channel": channel}
    if detection.settings.pooling == "pool":
        (top, bottom), (left, right) = (
            [int(side[0, place]) for side in detection.bounds(region[:, axis], region[:, axis + 2], bins, pixels)]
            for axis, bins, pixels, place in ((1, ph, features.shape[0], row), (0, pw, features.shape[1], column))
        )
        cells = [
            {"row": i, "column": j, "value": float(features[i, j])}
            for i in range(top, bottom)
            for j in range(left, right)
        ]
        values = ", ".join(number(one["value"]) for one in cells)
        message = arithmetic(
            title,
            "pooled feature = max of all cells of the bin",
            {f"({one['row']}, {one['column']})": one["value"] for one in cells},
            [f"max({values}) = {number(result)}" if cells else "an empty bin has the value 0"],
            result,
        )
        box = [(side - 0.5) / scale for side in (left, top, right, bottom)]  # a cell is centred on its index
        return {**answer, "box": box, "samples": [], "cells": cells, "arithmetic": message}
    x = detection.positions(region[:, 0], region[:, 2], pw)[0, column]  # (n,)
    y = detection.positions(region[:, 1], region[:, 3], ph)[0, row]  # (n,)
    samples = [sample(features, float(i), float(j), scale) for i in y for j in x]
    values = " + ".join(number(one["value"]) for one in samples)
    message = arithmetic(
        title,
        f"pooled feature = mean of the {len(samples)} samples of the bin",
        {f"sample {k}": one["value"] for k, one in enumerate(samples)},
        [
            *(f"sample {k} = {interpolation(one)} = {number(one['value'])}" for k, one in enumerate(samples)),
            f"pooled feature = ({values}) / {len(samples)} = {number(result)}",
        ],
        result,
    )
    half = [(axis[-1] - axis[0]) / (len(axis) - 1) * len(axis) / 2 if len(axis) > 1 else 0.5 for axis in (x, y)]
    centre = [float(x.mean()), float(y.mean())]
    box = [
        float(value / scale) for value in (*np.subtract(centre, half).tolist(), *np.add(centre, half).tolist())
    ]  # x1, y1, x2, y2
    return {**answer, "box": box, "samples": samples, "cells": [], "arithmetic": message}


def sample(features: np.ndarray, y: float, x: float, scale: float) -> dict[str, Any]:
    """Return a `Sample` of protocol.ts: the bilinear interpolation of a feature map at a point.

    Parameters
    ----------
    features : (rows, columns) array
        The feature map.
    y, x : float
        The point, in feature pixels.
    scale : float
        The number of feature pixels per image pixel.

    Returns
    -------
    dict
        The message.
    """
    rows, columns = features.shape
    outside = not (-1 <= y <= rows and -1 <= x <= columns)
    inside_y, inside_x = min(max(y, 0.0), rows - 1.0), min(max(x, 0.0), columns - 1.0)
    i, j = int(inside_y), int(inside_x)
    dy, dx = inside_y - i, inside_x - j
    neighbours = []
    for row, along_y in ((i, 1 - dy), (min(i + 1, rows - 1), dy)):
        for column, along_x in ((j, 1 - dx), (min(j + 1, columns - 1), dx)):
            weight = 0.0 if outside else along_y * along_x
            value = float(features[row, column])
            neighbours.append({"row": row, "column": column, "weight": weight, "value": value})
    value = sum(one["weight"] * one["value"] for one in neighbours)
    return {"x": x / scale, "y": y / scale, "column": x, "row": y, "neighbours": neighbours, "value": value}


def interpolation(point: dict[str, Any]) -> str:
    """Return the interpolation of a sample as text.

    Parameters
    ----------
    point : dict
        The `Sample`.

    Returns
    -------
    str
        The sum of products.
    """
    return " + ".join(f"{number(one['weight'])} * {number(one['value'])}" for one in point["neighbours"])


# ---------------------------------------------------------------------- scores and paths


def score(detection: Detection, index: int, label: int) -> dict[str, Any]:
    """Return a `Score` of protocol.ts.

    Parameters
    ----------
    detection : Detection
        The detection.
    index : int
        The index of the RoI.
    label : int
        The class.

    Returns
    -------
    dict
        The message.
    """
    check("roi", index, len(detection.proposals))
    check("label", label, detection.config.num_classes)
    heads, pooled = detection.model.roi_heads, detection.second.pooled
    with nn.evaluation(), nn.no_grad():
        hidden = heads.box_head(nn.Tensor(pooled.data[index : index + 1])).data[0]
    layer = heads.box_predictor.cls_score
    logits = detection.second.class_logits.data[index].astype(np.float64)
    powers = np.exp(logits - logits.max())
    probability = float(powers[label] / powers.sum())
    names = detection.config.class_names
    name = names[label] if names else str(label)
    return {
        "roi": index,
        "label": label,
        "logit": sum_of_products(
            f"logit of class {name} of RoI {index}",
            "logit",
            hidden,
            layer.weight.data[label],
            float(layer.bias.data[label]),
            ("hidden", "weight", "bias"),
        ),
        "probability": arithmetic(
            f"score of class {name} of RoI {index}",
            "score = exp(logit) / sum of exp(logit) over all classes",
            {f"logit of {names[k] if names else k}": value for k, value in enumerate(logits)},
            [
                f"exp(logit) = exp({number(logits[label])}) = {number(math.exp(logits[label]))}",
                f"sum of all {len(logits)} = {number(np.exp(logits).sum())}",
                f"score = {number(math.exp(logits[label]))} / {number(np.exp(logits).sum())} = {number(probability)}",
            ],
            probability,
        ),
        "box": moved_box(
            f"the box of class {name} of RoI {index}",
            detection.proposals[index],
            detection.second.box_deltas.data[index, label],
            detection.config.bbox_reg_weights,
        ),
    }


def path(detection: Detection, index: int) -> dict[str, Any]:
    """Return the `Path` of a detection, back to its pixels.

    Parameters
    ----------
    detection : Detection
        The detection.
    index : int
        The index of the detected object.

    Returns
    -------
    dict
        The message.
    """
    check("detection", index, len(detection.found["boxes"]))
    found, region = detection.found, int(detection.detection_rois[index])
    label = int(found["labels"][index])
    pooled = detection.second.pooled.data[region]  # (C, ph, pw)
    channel, row, column = map(int, np.unravel_index(pooled.argmax(), pooled.shape))
    origin = anchor(detection, int(detection.proposal_anchors[region]))
    place = cell(detection, 0, origin["row"], origin["column"])
    x1, y1, x2, y2 = place["rpnReceptiveField"]
    return {
        "detection": index,
        "box": floats(found["boxes"][index]),
        "score": float(found["scores"][index]),
        "label": label,
        "classScores": detection.class_scores[region],
        "deltas": floats(detection.second.box_deltas.data[region, label]),
        "scores": score(detection, region, label),
        "roi": roi(detection, region),
        "bin": bin_of(detection, region, row, column, channel),
        "proposal": {
            "index": region,
            "box": floats(detection.proposals[region]),
            "score": float(detection.proposal_scores[region]),
        },
        "anchor": origin,
        "cell": place,
        "pixels": detection.image[y1:y2, x1:x2],
    }


def floats(values: np.ndarray) -> list[float]:
    """Return an array as a list of floats.

    Parameters
    ----------
    values : array
        The numbers.

    Returns
    -------
    list of float
        The list.
    """
    return [float(value) for value in values]


def check(name: str, index: int, count: int) -> None:
    """Raise ValueError unless an index is valid.

    Parameters
    ----------
    name : str
        Name of the index.
    index : int
        The index.
    count : int
        The number of elements.

    Raises
    ------
    ValueError
        If the index is not an integer in 0 .. count - 1.
    """
    if not isinstance(index, int) or not 0 <= index < count:
        raise ValueError(f"{name} must be an integer in 0 .. {count - 1}, got {index!r}")
