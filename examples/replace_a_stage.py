"""Run the whole detector with your own NMS (non-maximum suppression) instead of the library's.

    python examples/replace_a_stage.py

Change `my_nms`, and see how the average precision changes. The first argument of `rcnn.replace` is the name of the
function to replace. The docstring of `rcnn.replace` lists all names.
"""

import rcnn
from rcnn import boxes, checks, data, evaluate


def my_nms(candidates, scores, iou_threshold):
    """Return the indices of the boxes to keep, in descending order of score; `candidates` (N, 4), `scores` (N,)."""
    order = list((-scores).argsort(kind="stable"))  # of two equal scores, the first box comes first
    kept = []
    while order:
        best = order.pop(0)
        kept.append(best)
        overlap = boxes.iou(candidates[[best]], candidates[order])[0] if order else []
        order = [index for index, value in zip(order, overlap, strict=True) if value <= iou_threshold]
    return kept


model = rcnn.load_digits()  # the detector that is included in the package
pages = data.Digits(20, split="val")
ours = evaluate.evaluate(model, pages).mean_ap
with rcnn.replace("nms", my_nms):
    yours = evaluate.evaluate(model, pages).mean_ap
print(f"average precision on {len(pages)} pages: {ours:.4f} with the library's NMS, {yours:.4f} with yours")

try:
    checks.nms(my_nms)
    print("checks.nms: correct")
except checks.CheckFailed as failed:
    print(failed)
