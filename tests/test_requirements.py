"""The requirements in pyproject.toml: each package has a lower bound that works."""

import tomllib
from pathlib import Path

import pytest
from packaging.requirements import Requirement

SETTINGS = tomllib.loads((Path(__file__).parent.parent / "pyproject.toml").read_text(encoding="utf-8"))
PROJECT = SETTINGS["project"]
EXTRAS = PROJECT["optional-dependencies"]
ALL = [
    Requirement(text)
    for text in (*SETTINGS["build-system"]["requires"], *PROJECT["dependencies"], *sum(EXTRAS.values(), []))
    if not text.startswith("rcnn[")
]


@pytest.mark.parametrize("requirement", ALL, ids=str)
def test_every_requirement_has_a_lower_bound(requirement):
    assert {part.operator for part in requirement.specifier} <= {">=", "=="}
    assert len(requirement.specifier) == 1


def test_a_package_has_the_same_bound_everywhere():
    bounds = {(requirement.name, str(requirement.marker), str(requirement.specifier)) for requirement in ALL}
    assert len(bounds) == len({(name, marker) for name, marker, _ in bounds})


@pytest.mark.parametrize(
    ("name", "version"),
    [("matplotlib", "3.8.0"), ("threadpoolctl", "2.2.0"), ("tomli-w", "0.1.0"), ("numpy", "1.26.4")],
)
def test_a_version_that_does_not_work_is_not_allowed(name, version):
    requirements = [requirement for text in PROJECT["dependencies"] if (requirement := Requirement(text)).name == name]
    assert requirements and not [each for each in requirements if version in each.specifier]


def test_the_requirements_of_users_contain_no_tools():
    names = {Requirement(text).name for text in PROJECT["dependencies"]}
    tools = {Requirement(text).name for name in ("notebooks", "test", "bench", "peers") for text in EXTRAS[name]}
    assert not names & tools
