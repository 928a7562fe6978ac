"""Train a detector on a folder of annotated images, and measure its average precision.

    python examples/train_on_a_folder.py voc:my-photos
    python examples/train_on_a_folder.py coco:my-photos --steps 3000

The script chooses the anchors, the image size and the number of steps from the data. Run `rcnn check voc:my-photos`
first, to find faults in the annotations.
"""

import argparse

from rcnn import evaluate, train
from rcnn.train import defaults

parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
parser.add_argument("dataset", help="voc:FOLDER, coco:FOLDER, csv:FOLDER or masks:FOLDER")
parser.add_argument("--steps", type=int, help="number of training steps (default: depends on the data set)")
parser.add_argument("--out", default="runs/example", help="folder for the results (default: %(default)s)")
options = parser.parse_args()

plan = defaults.for_dataset(options.dataset, steps=options.steps)
dataset, val = plan.load_train(), plan.load_val()
plan = defaults.resolve(plan, dataset)
print(f"{len(dataset)} training images, {len(val)} validation images; classes: {', '.join(dataset.classes[1:])}")

model, _ = plan.make_model()
train.fit(model, dataset, plan.recipe, out=options.out, val=val)

result = evaluate.evaluate(model, val)
print(f"average precision at an IoU of 0.5: {result.mean_ap:.3f}; weights: {options.out}/model.safetensors")
