"""The pages of the reference: one for each public module, in the order in which an image meets the modules."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path

GROUPS = {
    "The detector": ("rcnn", "rcnn.config", "rcnn.model", "rcnn.trace", "rcnn.views"),
    "The stages": (
        "rcnn.images",
        "rcnn.transform",
        "rcnn.backbones",
        "rcnn.fpn",
        "rcnn.anchors",
        "rcnn.boxes",
        "rcnn.matching",
        "rcnn.nms",
        "rcnn.rpn",
        "rcnn.roi",
        "rcnn.roi_heads",
    ),
    "Layers": ("rcnn.nn", "rcnn.nn.functional", "rcnn.nn.optim"),
    "Around the detector": (
        "rcnn.zoo",
        "rcnn.data",
        "rcnn.plot",
        "rcnn.evaluate",
        "rcnn.doctor",
        "rcnn.train",
        "rcnn.checks",
        "rcnn.course",
        "rcnn.course.widgets",
    ),
}
MODULES = tuple(name for names in GROUPS.values() for name in names)
ELSEWHERE = {"rcnn.nn.functional": ("concatenate",)}  # names that another page documents
TOP = """rcnn
====

These functions apply to all of rcnn. The other names at the top of the package are documented where they are defined:

- :class:`~rcnn.model.FasterRCNN` in :mod:`rcnn.model`, :class:`~rcnn.config.FasterRCNNConfig` in :mod:`rcnn.config`,
  and :class:`~rcnn.trace.Trace` in :mod:`rcnn.trace`;
- functions that make, load and save detectors, such as :func:`~rcnn.zoo.faster_rcnn_resnet_50_fpn`,
  :func:`~rcnn.zoo.load_digits` and :func:`~rcnn.zoo.save`, in :mod:`rcnn.zoo`.

.. currentmodule:: rcnn

.. autofunction:: replace
.. autofunction:: seed
.. autofunction:: set_conv_algorithm
.. autofunction:: set_num_threads
.. autofunction:: use_backend
"""


def write(folder: Path) -> None:
    """Write a page for each public module, and a page that lists them.

    Parameters
    ----------
    folder : Path
        Folder to write to.
    """
    folder.mkdir()
    (folder / "rcnn.rst").write_text(TOP)
    for name in MODULES[1:]:
        imported = "   :imported-members:\n" if is_package(name) else ""  # its names come from modules inside
        excluded = f"   :exclude-members: {', '.join(ELSEWHERE[name])}\n" if name in ELSEWHERE else ""
        text = f".. automodule:: {name}\n   :members:\n{imported}{excluded}"
        (folder / f"{name}.rst").write_text(f"{name}\n{'=' * len(name)}\n\n{text}")
    groups = [
        f"## {title}\n\n```{{toctree}}\n:maxdepth: 1\n\n" + "\n".join(names) + "\n```\n"
        for title, names in GROUPS.items()
    ]
    introduction = (
        "# Reference\n\nEach page lists the public functions and classes of a module, with shapes, units, errors and "
        "sources. A link beside each name leads to its source code.\n\n"
    )
    (folder / "index.md").write_text(introduction + "\n".join(groups))


def is_package(name: str) -> bool:
    """Return whether a module is a package."""
    spec = find_spec(name)
    return spec is not None and spec.submodule_search_locations is not None
