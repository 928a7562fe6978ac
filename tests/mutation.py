"""Mutation of right answers: change one thing in a right answer, and see whether the check notices.

    python tests/mutation.py                  # all checks
    python tests/mutation.py iou nms          # some checks
    python tests/mutation.py --library iou    # the library's NumPy references instead of tests/mutants

Each right answer in `tests/mutants`, with the functions that it calls, is changed in one place of its syntax tree: an
operator, a comparison, a constant, an argument, a call, a slice, a condition or a statement. The script prints the
changed answers that pass the check. `tests/mutants/equivalent.txt` lists those that are right after all, each with the
reason. The exit status is 1 if others pass.
"""

from __future__ import annotations

import argparse
import ast
import copy
import importlib
import inspect
import pkgutil
import re
import signal
import sys
import warnings
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import mutants

import rcnn
from rcnn import checks

EQUIVALENT = Path(__file__).parent / "mutants" / "equivalent.txt"
SEEDS = (0, 1)
SECONDS = 5  # of processor time, after which an answer counts as wrong, because it does not end
LIBRARY = {  # check: module, public function, functions to change
    "iou": ("rcnn.boxes", "iou", ("iou", "_iou")),
    "convert": ("rcnn.boxes", "convert", ("convert",)),
    "encode": ("rcnn.boxes", "encode", ("encode", "_encode")),
    "decode": ("rcnn.boxes", "decode", ("decode", "_decode")),
    "nms": ("rcnn.nms", "nms", ("nms", "_nms")),
    "match": ("rcnn.matching", "match", ("match", "_match")),
    "sample": ("rcnn.matching", "sample", ("sample",)),
    "cell_anchors": ("rcnn.anchors", "cell_anchors", ("cell_anchors",)),
    "grid_anchors": ("rcnn.anchors", "grid_anchors", ("grid_anchors",)),
    "roi_align": ("rcnn.roi", "roi_align", ("_roi_align", "_averages", "_weights", "_samples")),
    "roi_align_backward": ("rcnn.roi", "roi_align_backward", ("_roi_align_backward",)),
    "roi_pool": ("rcnn.roi", "roi_pool", ("_roi_pool", "_bounds", "_bins")),
    "roi_pool_backward": ("rcnn.roi", "roi_pool_backward", ("_roi_pool_backward",)),
}
OPERATORS: dict[type[ast.AST], tuple[type[ast.AST], ...]] = {
    ast.Add: (ast.Sub,),
    ast.Sub: (ast.Add,),
    ast.Mult: (ast.Div,),
    ast.Div: (ast.Mult,),
    ast.FloorDiv: (ast.Div,),
    ast.Mod: (ast.Mult,),
    ast.Pow: (ast.Mult,),
    ast.BitAnd: (ast.BitOr,),
    ast.BitOr: (ast.BitAnd,),
    ast.Lt: (ast.LtE, ast.Gt),
    ast.LtE: (ast.Lt, ast.GtE),
    ast.Gt: (ast.GtE, ast.Lt),
    ast.GtE: (ast.Gt, ast.LtE),
    ast.Eq: (ast.NotEq,),
    ast.NotEq: (ast.Eq,),
    ast.In: (ast.NotIn,),
    ast.NotIn: (ast.In,),
    ast.And: (ast.Or,),
    ast.Or: (ast.And,),
}
PAIRS = (
    ("maximum", "minimum"),
    ("max", "min"),
    ("argmax", "argmin"),
    ("floor", "ceil"),
    ("zeros", "ones"),
    ("any", "all"),
)
NAMES = {**dict(PAIRS), **{two: one for one, two in PAIRS}}
HARMLESS = {"asarray", "array", "float", "list", "tuple", "enumerate", "zip", "len", "range", "copy", "astype"}


def changes(node: ast.AST) -> Iterator[ast.AST | None]:
    """Yield changed copies of a node; None stands for the node's removal."""
    if isinstance(node, ast.BinOp | ast.BoolOp | ast.AugAssign):
        for other in OPERATORS.get(type(node.op), ()):
            yield _with(node, op=other())
    elif isinstance(node, ast.Compare) and len(node.ops) == 1:
        for other in OPERATORS.get(type(node.ops[0]), ()):
            yield _with(node, ops=[other()])
    elif isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.USub | ast.Not | ast.Invert):
        yield node.operand
    elif isinstance(node, ast.Constant):
        yield from _constants(node)
    elif isinstance(node, ast.Attribute) and node.attr in NAMES:
        yield _with(node, attr=NAMES[node.attr])
    elif isinstance(node, ast.Name) and node.id in NAMES and isinstance(node.ctx, ast.Load):
        yield _with(node, id=NAMES[node.id])
    elif isinstance(node, ast.Call):
        yield from _calls(node)
    elif isinstance(node, ast.Slice):
        for part in ("lower", "upper", "step"):
            if getattr(node, part) is not None:
                yield _with(node, **{part: None})
    elif isinstance(node, ast.If | ast.IfExp | ast.While):
        yield _with(node, test=ast.UnaryOp(ast.Not(), node.test))
    elif isinstance(node, ast.Assign | ast.AugAssign | ast.Expr | ast.Continue | ast.Break):
        yield None


def _constants(node: ast.Constant) -> Iterator[ast.AST]:
    value = node.value
    if isinstance(value, bool):
        yield _with(node, value=not value)
    elif isinstance(value, int | float):
        yield _with(node, value=value + 1)
        if value not in (0, 1):
            yield _with(node, value=value - 1)
        elif value == 1:
            yield _with(node, value=0)


def _calls(node: ast.Call) -> Iterator[ast.AST]:
    name = getattr(node.func, "attr", getattr(node.func, "id", ""))
    if len(node.args) == 1 and not node.keywords and name not in HARMLESS:
        yield node.args[0]
    if len(node.args) >= 2 and name not in {"maximum", "minimum", "max", "min", "zip", "isclose"}:
        yield _with(node, args=[node.args[1], node.args[0], *node.args[2:]])
    for i in (i for i, keyword in enumerate(node.keywords) if keyword.arg != "strict"):
        yield _with(node, keywords=[*node.keywords[:i], *node.keywords[i + 1 :]])
    if isinstance(node.func, ast.Attribute) and name not in HARMLESS and not _is_module(node.func.value):
        yield node.func.value  # x.clip(0) becomes x


def _is_module(node: ast.AST) -> bool:
    return isinstance(node, ast.Name) and node.id in {"np", "math", "random", "optim", "rng"}


def _strict(top: ast.AST) -> set[int]:
    """Return the ids of the values of `strict=`, which only guard against mistakes of the caller."""
    calls = (node for node in ast.walk(top) if isinstance(node, ast.Call))
    return {id(keyword.value) for call in calls for keyword in call.keywords if keyword.arg == "strict"}


def _with(node: Any, **fields: Any) -> Any:
    changed = copy.deepcopy(node)
    for name, value in fields.items():
        setattr(changed, name, value)
    return changed


class _Replace(ast.NodeTransformer):
    """Replace the node with the given number, in the order of `ast.walk`, by another one."""

    def __init__(self, old: ast.AST, new: ast.AST | None) -> None:
        self.old, self.new = old, new

    def visit(self, node: ast.AST) -> Any:
        if node is self.old:
            return ast.Pass() if self.new is None else self.new
        return super().generic_visit(node)


def mutations(tree: ast.Module, functions: set[str]) -> Iterator[tuple[str, str, ast.Module]]:
    """Yield (function, change, changed module) for every change in these functions."""
    for top in tree.body:
        if not isinstance(top, ast.FunctionDef) or top.name not in functions:
            continue
        skipped = {id(part) for default in (top.args, *top.decorator_list) for part in ast.walk(default)}
        skipped |= _strict(top)
        nodes = [node for node in ast.walk(top) if id(node) not in skipped]
        for node in nodes:
            if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant):
                continue  # a docstring
            for number, new in enumerate(changes(node)):
                twin = copy.deepcopy(tree)
                old = _counterpart(tree, twin, node)
                changed = _Replace(old, copy.deepcopy(new)).visit(twin)
                before = ast.unparse(node)
                after = "nothing" if new is None else ast.unparse(new)
                if before == after:
                    continue
                line = ast.unparse(_statement(top, node)).splitlines()[0]
                yield top.name, f"{before}  ->  {after}   [{number}]   in: {line}", ast.fix_missing_locations(changed)


def _counterpart(tree: ast.AST, twin: ast.AST, node: ast.AST) -> ast.AST:
    return next(other for one, other in zip(ast.walk(tree), ast.walk(twin), strict=True) if one is node)


def _statement(top: ast.FunctionDef, node: ast.AST) -> ast.AST:
    """Return the innermost statement that contains a node."""
    found: ast.AST = top
    for statement in ast.walk(top):
        if (
            isinstance(statement, ast.stmt)
            and statement is not top
            and any(part is node for part in ast.walk(statement))
        ):
            found = statement
    return found


def called(tree: ast.Module, names: set[str]) -> set[str]:
    """Return the functions of a module that these functions call, directly or not, and these functions."""
    own = {top.name: top for top in tree.body if isinstance(top, ast.FunctionDef)}
    found, waiting = set(), [name for name in names if name in own]
    while waiting:
        name = waiting.pop()
        if name not in found:
            found.add(name)
            waiting += [n.id for n in ast.walk(own[name]) if isinstance(n, ast.Name) and n.id in own]
    return found


def run(module: ModuleType, tree: ast.Module, name: str) -> Any:
    """Return the function of this name, after the changed module has been run in a namespace of its own."""
    space = {"__name__": f"changed.{module.__name__}", "__file__": module.__file__}
    exec(compile(tree, module.__file__ or "", "exec"), space)
    return space[name]


def passes(check: str, function: Any) -> bool:
    """Return whether a function passes a check with all seeds, in limited time."""
    try:
        for seed in SEEDS:
            signal.setitimer(signal.ITIMER_VIRTUAL, SECONDS)
            getattr(checks, check)(function, seed=seed)
    except checks.CheckFailed:
        return False
    finally:
        signal.setitimer(signal.ITIMER_VIRTUAL, 0)
    return True


def sources(check: str, library: bool) -> Iterator[tuple[ModuleType, ast.Module, str, set[str]]]:
    """Yield (module, its syntax tree, the right answer, the functions to change)."""
    if library:
        module_name, name, functions = LIBRARY[check]
        module = importlib.import_module(module_name)
        tree = ast.parse(inspect.getsource(module))
        for top in tree.body:
            if isinstance(top, ast.FunctionDef):
                top.decorator_list = []
        yield module, tree, name, set(functions)
        return
    module = importlib.import_module(f"mutants.{check}")
    tree = ast.parse(inspect.getsource(module))
    seen: set[str] = set()
    for right in module.RIGHT:
        functions = called(tree, {right.__name__}) - seen
        seen |= functions
        yield module, tree, right.__name__, functions


def examine(check: str, library: bool, explained: list[re.Pattern[str]]) -> tuple[int, list[str]]:
    """Return the number of changed answers, and a line for each that passes and is not explained."""
    count, lines = 0, []
    for module, tree, name, functions in sources(check, library):
        for function, change, changed in mutations(tree, functions):
            try:
                answer = run(module, changed, name)
            except Exception:
                continue  # the module itself cannot be run
            count += 1
            line = f"{check} | {function} | {change}"
            if not any(known.fullmatch(line) for known in explained) and passes(check, answer):
                lines.append(line)
    return count, lines


def explanations() -> list[re.Pattern[str]]:
    """Return patterns for the changes that are known to be right; `*` is a wildcard."""
    rows = EQUIVALENT.read_text(encoding="utf-8").splitlines()
    known = [row.rsplit(" # ", 1)[0].strip() for row in rows if " # " in row]
    return [re.compile(re.escape(pattern).replace(r"\*", ".*"), re.DOTALL) for pattern in known]


def main() -> int:
    """Run the changes of all checks, or of some, and print what passes."""
    names = [name for _, name, _ in pkgutil.iter_modules(mutants.__path__)]
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("checks", nargs="*", default=None, help="names of checks; all without it")
    parser.add_argument("--library", action="store_true", help="change the library's NumPy references")
    given = parser.parse_args()
    warnings.simplefilter("ignore")
    signal.signal(signal.SIGVTALRM, _too_long)
    explained, passing = explanations(), 0
    with rcnn.use_backend("numpy"):
        for check in given.checks or [name for name in names if not given.library or name in LIBRARY]:
            count, lines = examine(check, given.library, explained)
            passing += len(lines)
            print(f"{check}: {count} changes, {len(lines)} pass without an explanation", flush=True)
            for line in lines:
                print(f"  {line}", flush=True)
    return int(passing > 0)


def _too_long(*_: object) -> None:
    raise TimeoutError(f"does not end in {SECONDS} seconds")


if __name__ == "__main__":
    sys.exit(main())
