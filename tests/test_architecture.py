"""The architecture of the package, checked on the syntax trees of rcnn/."""

import ast
import dataclasses
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from rcnn import FasterRCNNConfig

ROOT = Path(__file__).parent.parent
MODULES = sorted(path for path in (ROOT / "rcnn").rglob("*.py") if path.parent.name != "src")  # without notebooks

# The layers, lowest first; a module may import from the layers below its own, and within its own package.
LAYERS = (
    {"_validate", "_files"},
    {"_ext"},
    {"nn"},
    {"images", "boxes"},
    {"transform", "anchors", "matching", "nms", "roi"},
    {"fpn", "backbones", "rpn", "roi_heads", "views"},
    {"config", "trace", "model"},
    {"zoo", "data", "plot"},
    {"evaluate"},
    {"doctor", "train"},
    {"checks"},
    {"course"},
    {"cli"},
)
LEVELS = {part: level for level, layer in enumerate(LAYERS) for part in layer}
# Exceptions: modules that may import a neighbour.
NEIGHBOURS = {"_files": {"_validate"}, "backbones": {"fpn"}, "model": {"config", "trace"}}
# Modules below which everything lies: the public names, and the program.
TOP = {"__init__", "__main__"}

# Libraries that only these packages may import.
RESERVED = {
    "matplotlib": {"plot"},
    "defusedxml": {"data"},
    "yaml": {"data"},
    "threadpoolctl": {"_ext"},
    "safetensors": {"zoo"},
    "tomli_w": {"train"},
    "av": {"cli"},
    "onnx": {"zoo"},
    "ipywidgets": {"course"},
    "jupytext": {"course"},
    "nbformat": {"course"},
}


def imports(path: Path) -> Iterator[str]:
    """Yield the absolute names of the modules that the file imports, such as "rcnn.nn.tensor" and "numpy"."""
    package = path.relative_to(ROOT).parent.parts
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = package[: len(package) - node.level + 1] if node.level else ()
            module = ".".join((*base, *((node.module,) if node.module else ())))
            yield from (f"{module}.{alias.name}" for alias in node.names)


def part(name: str) -> str:
    """Return the module or package in rcnn to which a dotted name belongs, such as "nn" for "rcnn.nn.tensor.Tensor"."""
    parts = name.split(".")[1:]
    is_module = parts and ((ROOT / "rcnn" / parts[0]).is_dir() or (ROOT / "rcnn" / f"{parts[0]}.py").exists())
    return parts[0] if is_module else "__init__"


def name_of(path: Path) -> str:
    return ".".join(path.relative_to(ROOT).with_suffix("").parts)


def test_every_part_has_a_layer():
    parts = {part(name_of(path)) for path in MODULES}
    assert parts - TOP == set(LEVELS)


def test_the_package_folder_has_few_entries():
    entries = [path for path in (ROOT / "rcnn").iterdir() if path.name != "__pycache__"]
    assert len(entries) <= 32


@pytest.mark.parametrize("path", MODULES, ids=name_of)
def test_imports_follow_the_order_of_the_layers(path):
    own = part(name_of(path))
    if own in TOP:
        return
    used = {part(name) for name in imports(path) if name.split(".")[0] == "rcnn"} - {own, "__init__"}
    below = {other for other in LEVELS if LEVELS[other] < LEVELS[own]} | NEIGHBOURS.get(own, set())
    assert used <= below, f"{own} imports {sorted(used - below)}, which do not lie below it"


@pytest.mark.parametrize("path", MODULES, ids=name_of)
def test_libraries_are_imported_only_where_allowed(path):
    for name in imports(path):
        owners = RESERVED.get(name.split(".")[0])
        assert owners is None or part(name_of(path)) in owners, f"{name} belongs to {owners}"


def config_fields_read(tree: ast.AST) -> set[str]:
    """Return the attributes read from `config`, `something.config`, or a name to which one of these was assigned."""

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


def project_files() -> list[Path]:
    """Return the files that are written by hand."""
    folders = ("rcnn", "tests", "notebooks", "benchmarks", ".ci")
    files = [path for folder in folders for path in (ROOT / folder).rglob("*")] + list(ROOT.glob("*"))
    suffixes = {".py", ".pyx", ".pxd", ".pyi", ".md", ".toml", ".in", ".yaml", ".ipynb", ".json", ""}
    return [path for path in files if path.is_file() and path.suffix in suffixes and path.name != ".git"]


def test_no_file_contains_an_absolute_path_of_one_machine():
    private = re.compile(r"(?<![\w.])/(home|root|Users|work|tmp)" + r"/\w")
    for path in project_files():
        found = private.search(path.read_text(encoding="utf-8"))
        assert not found, f"{path.relative_to(ROOT)} names a path of one machine: {found and found.group()}"
