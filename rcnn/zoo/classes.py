"""The names of COCO's classes, by the labels that the public detectors give.

Lin et al., "Microsoft COCO: Common Objects in Context", 2014. The set numbers its categories up to 90 and uses 80 of
the numbers; the public detectors have an output for each number.
"""

COCO_NAMES = (
    "background", "person", "bicycle", "car", "motorcycle", "airplane", "bus", "train", "truck", "boat",
    "traffic light", "fire hydrant", "unused 12", "stop sign", "parking meter", "bench", "bird", "cat", "dog",
    "horse", "sheep", "cow", "elephant", "bear", "zebra", "giraffe", "unused 26", "backpack", "umbrella",
    "unused 29", "unused 30", "handbag", "tie", "suitcase", "frisbee", "skis", "snowboard", "sports ball", "kite",
    "baseball bat", "baseball glove", "skateboard", "surfboard", "tennis racket", "bottle", "unused 45",
    "wine glass", "cup", "fork", "knife", "spoon", "bowl", "banana", "apple", "sandwich", "orange", "broccoli",
    "carrot", "hot dog", "pizza", "donut", "cake", "chair", "couch", "potted plant", "bed", "unused 66",
    "dining table", "unused 68", "unused 69", "toilet", "unused 71", "tv", "laptop", "mouse", "remote", "keyboard",
    "cell phone", "microwave", "oven", "toaster", "sink", "refrigerator", "unused 83", "book", "clock", "vase",
    "scissors", "teddy bear", "hair drier", "toothbrush",
)
