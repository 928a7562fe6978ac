"""The examples in docstrings."""

import doctest
import importlib
import pkgutil

import pytest

import rcnn

MODULES = [found.name for found in pkgutil.walk_packages(rcnn.__path__, "rcnn.") if "._ext._" not in found.name]


@pytest.mark.parametrize("name", [name for name in MODULES if not name.endswith("__main__")])
def test_the_examples_of_a_module_run(name):
    assert doctest.testmod(importlib.import_module(name)).failed == 0


def test_there_are_examples():
    finder = doctest.DocTestFinder()
    modules = [importlib.import_module(name) for name in MODULES if not name.endswith("__main__")]
    assert sum(bool(found.examples) for module in modules for found in finder.find(module)) >= 30
