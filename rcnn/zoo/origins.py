"""Description of files that contain no weights for a detector of rcnn, with advice on what to do.

A file of another format is recognised by its first bytes, and a checkpoint of another model by the names of its layers.
"""

from __future__ import annotations

import re
from collections.abc import Iterable

from rcnn._validate import listed

START_LENGTH = 512  # bytes that `of_bytes` needs

UNPACK = "it is a compressed archive; unpack it first"
BEGINNINGS = (
    (rb"version https://git-lfs", "it is a Git LFS pointer, not the file itself; fetch the file: git lfs pull"),
    (rb"(?i)\s*<", "it is a web page, such as an error or a login page; download the file again from a direct link"),
    (rb"\x1f\x8b|BZh|\xfd7zXZ|7z\xbc\xaf|Rar!|\x28\xb5\x2f\xfd", UNPACK),
    (rb"(?s).{257}ustar", "it is a tar archive; unpack it first"),
    (rb"\x89HDF", "it is an HDF5 file, probably from Keras; only weights of PyTorch models are read"),
    (rb"\x93NUMPY", "it is a NumPy array, not a state dict"),
    (rb"GGUF", "it is a GGUF file, which contains a language model"),
    (rb"(?s).{4}TFL3", "it is a TensorFlow Lite model; only weights of PyTorch models are read"),
    (
        rb"(?s)\x08\x01\x12|\x0a.{1,2}\x0a.{1,200}\x12.(Placeholder|Const)",
        "it seems to be a TensorFlow graph; only weights of PyTorch models are read",
    ),
    (rb"(?s)\x08.?(\x10.)?[\x12\x1a\x3a]", "it seems to be an ONNX model; use the .pth file that it was exported from"),
    (rb"\x89PNG|\xff\xd8\xff|GIF8|RIFF|BM", "it is an image, not weights"),
    (rb"\([dl]p|c\w+\n", "it is a pickle in an old format, which torch.save does not write"),
    (rb"\s*[\[{]", "it is a JSON file, not weights"),
    (rb"(?s)\x00+\Z", "its first bytes are all zero, because its download is incomplete; download it again"),
)

READABLE = (
    "rcnn reads its own files, and torchvision's Faster R-CNN with a feature pyramid and a MobileNet or a ResNet of "
    "18, 34, 50 or 101 layers"
)
EXAMPLES = 60  # characters
LAYERS = "it has the layer names of"
ALONE = "without a detector; in Python, pass it as weights_backbone=PATH"
MODELS = (
    (r"^(momentum_buffer|exp_avg)$", "it contains the state of an optimiser, but no weights"),
    (r"\.bottom_up\.|^proposal_generator\.", f"{LAYERS} Detectron2"),
    (r"^(neck|bbox_head|roi_head|rpn_head|mask_head)\.", f"{LAYERS} MMDetection"),
    (r"^backbone\.body\.stem\.|^roi_heads\.box\.", f"{LAYERS} maskrcnn-benchmark"),
    (r"^RCNN_", f"{LAYERS} the repository faster-rcnn.pytorch"),
    (r"conv_encoder\.", f"{LAYERS} a Hugging Face detector"),
    (r"^(class|query)_embed\.|^transformer\.", f"{LAYERS} DETR"),
    (r"^head\.(classification|regression)_head\.", "it is a RetinaNet, an FCOS or an SSD from torchvision"),
    (r"^(model\.)*\d+\.(conv|cv\d|m|bn)\.|^module_list\.|\.dark\d\.", f"{LAYERS} a YOLO model"),
    (r"^(roi_heads|rpn)\.", "it is a Faster R-CNN with another backbone"),
    (r"^features\.1\.(block|conv)\.0\.0\.", f"it is a MobileNet {ALONE}"),
    (r"^(aux_)?classifier\.", "it is a model for classification or segmentation"),
    (r"^layer1\.0\.conv1\.", f"it is a ResNet {ALONE}"),
)


def of_bytes(start: bytes) -> str | None:
    """Describe a file that does not begin like a file from torch.save, and say what to do with it.

    Parameters
    ----------
    start : bytes
        The first `START_LENGTH` bytes of the file.

    Returns
    -------
    str or None
        The end of an error message, such as "it is an image, not weights"; None if the format is unknown.
    """
    return next((text for pattern, text in BEGINNINGS if re.match(pattern, start)), None)


def of_names(names: Iterable[str], beside: Iterable[str] = ()) -> str:
    """Describe a checkpoint whose names do not match a detector, and say what rcnn reads instead.

    Parameters
    ----------
    names : iterable of str
        Names of the tensors.
    beside : iterable of str
        The outermost keys of the file.

    Returns
    -------
    str
        The end of an error message, such as "it has the layer names of DETR; rcnn reads ...".
    """
    names = list(names)
    lightning = "it is a PyTorch Lightning checkpoint, and " if any("lightning" in key for key in beside) else ""
    for pattern, text in MODELS:
        if any(re.search(pattern, name) for name in names):
            return f"{lightning}{text}; {READABLE}"
    return f"{lightning}its layers have unknown names, such as {listed(names, EXAMPLES)}; {READABLE}"
