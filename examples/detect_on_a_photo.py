"""Find the objects in a photo and draw their boxes.

    python examples/detect_on_a_photo.py photo.jpg

The first run downloads a detector for the 80 COCO classes (160 MB) and keeps it in your cache folder.
"""

import argparse

from PIL import Image

import rcnn
from rcnn import images, plot

parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
parser.add_argument("photo", help="an image file")
parser.add_argument("--weights", default="coco", help='"coco", or the path of a .safetensors or .pth file')
parser.add_argument("--score", type=float, default=0.5, help="show detections above this score (default: %(default)s)")
parser.add_argument("--out", default="detections.png", help="PNG file for the drawing (default: %(default)s)")
options = parser.parse_args()

model = rcnn.load_detector(options.weights)
photo = images.read(options.photo)  # (H, W, 3) uint8
found = model.predict([photo], score_thresh=options.score)[0]

names = model.config.class_names or [str(label) for label in range(model.config.num_classes)]
for box, score, label in zip(found["boxes"], found["scores"], found["labels"], strict=True):
    print(f"{names[label]:<16}{score:.2f}   x1, y1, x2, y2 = {', '.join(f'{x:.0f}' for x in box)}")

Image.fromarray(plot.annotate(photo, found["boxes"], found["scores"], found["labels"], names)).save(options.out)
print(f"{len(found['scores'])} objects, drawing: {options.out}")
