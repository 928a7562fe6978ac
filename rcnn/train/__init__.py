"""Training: recipes, plans and their defaults, the loop, the data loader, run folders, a search for non-finite values.

For example:

    run = train.fit(model, dataset, train.Recipe(steps=1000), out="runs/first", val=val)
"""

from rcnn.train.defaults import RECIPES
from rcnn.train.loop import WORKERS, fit, freeze, validate
from rcnn.train.nonfinite import first_non_finite
from rcnn.train.parallel import Group
from rcnn.train.plan import Plan
from rcnn.train.recipe import Recipe
from rcnn.train.run_folder import Run
from rcnn.train.step import train_step

__all__ = [
    "RECIPES",
    "WORKERS",
    "Group",
    "Plan",
    "Recipe",
    "Run",
    "first_non_finite",
    "fit",
    "freeze",
    "train_step",
    "validate",
]
