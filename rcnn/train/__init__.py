"""Training: recipes and plans, the loop, its data loader, the folder of a run, and the search for values not finite.

run = train.fit(model, dataset, train.Recipe(steps=1000), out="runs/mine", val=val)
"""

from rcnn.train.loop import WORKERS, fit, freeze, train_step, validate
from rcnn.train.nonfinite import first_non_finite
from rcnn.train.plan import Plan
from rcnn.train.recipe import RECIPES, Recipe
from rcnn.train.run_folder import Run

__all__ = [
    "RECIPES",
    "WORKERS",
    "Plan",
    "Recipe",
    "Run",
    "first_non_finite",
    "fit",
    "freeze",
    "train_step",
    "validate",
]
