"""What the shape of the code promises, read from the syntax trees of rcnn/."""

import ast
import dataclasses
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from rcnn import FasterRCNNConfig

ROOT = Path(__file__).parent.parent
MODULES = sorted((ROOT / "rcnn").rglob("*.py"))

# Who may import whom, from the bottom up. Of the packages only nn is split into its modules.
DOOR = {"_arrays", "_backend", "_buffers"}
ARRAYS = {"anchors", "boxes", "matching", "nms", "roi"}
NN = {"nn", "nn.convolution", "nn.fast", "nn.functional", "nn.module", "nn.modules", "nn.optim", "nn.passes",
      "nn.pooling", "nn.random", "nn.resampling", "nn.tensor", "nn.windows"}
STAGES = {"backbone", "fpn", "roi_heads", "rpn", "transform"}
ALLOWED = {
    "_ext": set(),
    "_arrays": set(),
    "errors": set(),
    "pth": {"errors"},
    "_backend": {"_ext"},
    "_buffers": {"_backend"},
    "files": set(),
    "sizes": set(),
    "anchors": DOOR | {"boxes", "sizes"},
    "boxes": DOOR,
    "matching": DOOR,
    "nms": DOOR | {"boxes"},
    "taps": {"_backend"},
    "roi": DOOR | {"taps"},
    "nn.random": set(),
    "nn.tensor": DOOR | {"nn.passes"},
    "nn.passes": DOOR,
    "nn.windows": DOOR | {"nn.tensor"},
    "nn.fast": DOOR | {"nn.passes", "nn.windows"},
    "nn.convolution": DOOR | {"nn.fast", "nn.passes", "nn.tensor", "nn.windows"},
    "nn.pooling": DOOR | {"nn.passes", "nn.tensor", "nn.windows"},
    "nn.functional": DOOR | {"nn.convolution", "nn.passes", "nn.pooling", "nn.random", "nn.tensor"}
    | {"nn.resampling", "nn.windows"},
    "nn.resampling": DOOR | {"nn.passes", "nn.tensor", "nn.windows"},
    "nn.module": {"nn.tensor"},
    "nn.modules": {"nn.functional", "nn.module", "nn.random", "nn.tensor", "nn.windows"},
    "nn.optim": DOOR | {"nn.modules", "nn.passes", "nn.tensor"},
    "nn": {"nn.functional", "nn.module", "nn.modules", "nn.optim", "nn.random", "nn.tensor"},
    "config": NN,
    **{stage: DOOR | ARRAYS | NN | {"config"} for stage in STAGES},
    "fpn": NN | {"backbone"},
    "pictures": set(),
    "transform": DOOR | ARRAYS | NN | {"config", "pictures", "sizes"},
    "trace": set(),
    "model": DOOR | ARRAYS | NN | STAGES | {"config", "trace"},
    "checkpoint": NN | STAGES | {"config", "download", "errors", "files", "model", "pth"},
    "factories": NN | STAGES | {"checkpoint", "config", "data", "errors", "model"},
    "data": DOOR | ARRAYS | {"files", "pictures", "sizes"},
    "download": set(),
    "evaluate": DOOR | ARRAYS | {"data", "model", "trace", "transform"},
    "recipe": NN,
    "augment": DOOR | {"transform"},
    "loader": DOOR | {"augment", "config", "data", "recipe", "sizes", "transform"},
    "finite": DOOR | NN | STAGES | {"model"},
    "plan": DOOR | NN | {"anchors", "checkpoint", "config", "data", "factories", "files", "model", "recipe"},
    "runs": DOOR | NN | {"checkpoint", "files", "model", "plan", "recipe"},
    "train": DOOR | NN | {"augment", "checkpoint", "data", "evaluate", "finite", "loader", "model", "recipe", "runs"},
    "checks": DOOR | ARRAYS | NN | {"config", "data", "evaluate", "roi_heads", "rpn", "sizes", "transform"}
    | {"checkpoint", "model"},  # of checks.diagnosis, which plants faults in a detector
    "doctor": DOOR | ARRAYS | NN | {"data", "model", "trace"},
    "plot": set(),
    "widgets": ARRAYS | {"anchors", "data", "evaluate", "plot"},
    "course": {"_backend", "files"},
    "__init__": DOOR | NN | STAGES | {"checkpoint", "config", "factories", "model", "trace"},
}
LIBRARY = set(ALLOWED)
ALLOWED |= {"commands": LIBRARY, "cli": LIBRARY | {"commands"}, "__main__": {"cli"}}

# Libraries that only these may import.
RESERVED = {"matplotlib": {"plot"}, "sklearn": {"data"}, "defusedxml": {"data"}, "threadpoolctl": {"_backend"},
            "safetensors": {"checkpoint"}, "tomli_w": {"plan"}, "ipywidgets": {"widgets"}, "jupytext": {"course"},
            "nbformat": {"course"}}


def imports(path: Path) -> Iterator[str]:
    """Dotted names that the file imports, relative ones resolved: "rcnn.nn.tensor", "numpy"."""
    package = path.relative_to(ROOT).parent.parts
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = package[: len(package) - node.level + 1] if node.level else ()
            module = ".".join((*base, *((node.module,) if node.module else ())))
            yield from (f"{module}.{alias.name}" for alias in node.names)


def entry(name: str) -> str:
    """The entry of `ALLOWED` that a dotted name below rcnn belongs to: "rcnn.nn.tensor.Tensor" to "nn.tensor"."""
    parts = [part for part in name.split(".")[1:] if part != "__init__"]
    for length in (2, 1):
        if ".".join(parts[:length]) in ALLOWED:
            return ".".join(parts[:length])
    is_module = parts and ((ROOT / "rcnn" / parts[0]).is_dir() or (ROOT / "rcnn" / f"{parts[0]}.py").exists())
    return parts[0] if is_module else "__init__"


def name_of(path: Path) -> str:
    return ".".join(path.relative_to(ROOT).with_suffix("").parts)


@pytest.mark.parametrize("path", MODULES, ids=name_of)
def test_imports_point_one_way(path):
    own = entry(name_of(path))
    assert own in ALLOWED, f"rcnn.{own} has no line in ALLOWED"
    used = {entry(name) for name in imports(path) if name.split(".")[0] == "rcnn"} - {own}
    allowed = ALLOWED[own]
    assert used <= allowed, f"{own} imports {sorted(used - allowed)}, and may import {sorted(allowed)}"


def test_no_entry_imports_itself_in_a_circle():
    done: set[str] = set()
    while remaining := set(ALLOWED) - done:
        free = {own for own in remaining if ALLOWED[own] <= done}
        assert free, f"a circle among {sorted(remaining)}"
        done |= free


@pytest.mark.parametrize("path", MODULES, ids=name_of)
def test_libraries_stay_where_they_belong(path):
    for name in imports(path):
        owners = RESERVED.get(name.split(".")[0])
        assert owners is None or entry(name_of(path)).split(".")[0] in owners, f"{name} belongs to {owners}"


def config_fields_read(tree: ast.AST) -> set[str]:
    """What is read of `config`, of `something.config`, or of a name that one of these was assigned to."""

    def is_config(node: ast.expr) -> bool:
        name = node.id if isinstance(node, ast.Name) else getattr(node, "attr", None)
        return name == "config" or (isinstance(node, ast.Name) and name in aliases)

    aliases: set[str] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Assign) and is_config(node.value):
            aliases |= {target.id for target in node.targets if isinstance(target, ast.Name)}
    return {node.attr for node in ast.walk(tree) if isinstance(node, ast.Attribute) and is_config(node.value)}


def test_every_field_of_the_config_is_used():
    trees = [ast.parse(path.read_text(encoding="utf-8")) for path in MODULES if path.name != "config.py"]
    used = set().union(*map(config_fields_read, trees))
    assert {field.name for field in dataclasses.fields(FasterRCNNConfig)} - used == set()


@pytest.mark.parametrize("path", MODULES, ids=name_of)
def test_no_module_has_grown_into_two(path):
    assert len(path.read_text(encoding="utf-8").splitlines()) <= 420


def project_files() -> list[Path]:
    """The files that are written by hand, and so are read by others."""
    folders = ("rcnn", "tests", "notebooks", "benchmarks", ".ci")
    files = [path for folder in folders for path in (ROOT / folder).rglob("*")] + list(ROOT.glob("*"))
    suffixes = {".py", ".pyx", ".pxd", ".pyi", ".md", ".toml", ".in", ".yaml", ".ipynb", ".json", ""}
    return [path for path in files if path.is_file() and path.suffix in suffixes and path.name != ".git"]


def test_no_file_speaks_of_one_machine():
    private = re.compile(r"(?<![\w.])/(home|root|Users|work|tmp)" + r"/\w")
    for path in project_files():
        found = private.search(path.read_text(encoding="utf-8"))
        assert not found, f"{path.relative_to(ROOT)} names a path of one machine: {found and found.group()}"
