"""Run the whole detector with a stage of your own: here, an NMS of ten lines in place of the library's.

    python examples/replace_a_stage.py

Change `my_nms`, and look at how the average precision changes. The first argument of `rcnn.replace` names the stage;
its docstring lists them all.
"""

import rcnn
from rcnn import boxes, checks, data, evaluate


def my_nms(candidates, scores, iou_threshold):
    """Return the indices of the boxes (N, 4) to keep, by descending score."""
    order = list((-scores).argsort(kind="stable"))  # ties keep the first
    kept = []
    while order:
        best = order.pop(0)
        kept.append(best)
        overlap = boxes.iou(candidates[[best]], candidates[order])[0] if order else []
        order = [index for index, value in zip(order, overlap, strict=True) if value <= iou_threshold]
    return kept


model = rcnn.load_digits()  # the detector that ships with the package
pages = data.Digits(20, split="val")
ours = evaluate.evaluate(model, pages).mean_ap
with rcnn.replace("nms", my_nms):
    yours = evaluate.evaluate(model, pages).mean_ap
print(f"average precision on {len(pages)} pages: {ours:.4f} with the library's NMS, {yours:.4f} with yours")

try:
    checks.nms(my_nms)
    print("checks.nms: right")
except checks.CheckFailed as failed:
    print(failed)
