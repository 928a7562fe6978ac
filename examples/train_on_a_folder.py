"""Train a detector on a folder of annotated images, and measure it.

    python examples/train_on_a_folder.py voc:my-photos
    python examples/train_on_a_folder.py coco:my-photos --steps 3000

Anchors, image size and number of steps are chosen from the data; `rcnn check voc:my-photos` says first whether the
annotations are sound.
"""

import argparse

from rcnn import evaluate, train
from rcnn.train import defaults

parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
parser.add_argument("dataset", help="voc:FOLDER, coco:FOLDER, csv:FOLDER or masks:FOLDER")
parser.add_argument("--steps", type=int, help="the number of training steps (default: as many as the data suggest)")
parser.add_argument("--out", default="runs/example", help="the folder of the run (default: %(default)s)")
options = parser.parse_args()

plan = defaults.for_dataset(options.dataset, steps=options.steps)
dataset, val = plan.load_train(), plan.load_val()
plan = defaults.resolve(plan, dataset)
print(f"{len(dataset)} images to train on, {len(val)} to validate on; classes: {', '.join(dataset.classes[1:])}")

model, _ = plan.make_model()
train.fit(model, dataset, plan.recipe, out=options.out, val=val)

result = evaluate.evaluate(model, val)
print(f"average precision at an IoU of 0.5: {result.mean_ap:.3f}; weights: {options.out}/model.safetensors")
