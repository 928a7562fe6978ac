"""The file docs/results.json, which contains every measured number in the pages.

The file has a section for each kind of measurement. A section maps names to entries. An entry has a `value`, a `unit`,
the `command` that measured the value, the `machine` on which it was measured, and other keys that the tables of the
section need. `benchmarks/pages.py` copies the numbers into the pages.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

RESULTS = Path(__file__).parents[2] / "docs" / "results.json"

Entry = dict[str, Any]


def entry(value: float | list[float], unit: str, command: str, **more: object) -> Entry:
    """Return an entry without its machine, which `update` adds."""
    return {"value": value, "unit": unit, "command": command, **more}


def read(path: Path | None = None) -> dict[str, dict[str, Entry]]:
    """Read the file and return all sections."""
    sections: dict[str, dict[str, Entry]] = json.loads((path or RESULTS).read_text(encoding="utf-8"))
    return sections


def update(section: str, entries: Mapping[str, Entry], machine: str, path: Path | None = None) -> None:
    """Replace the given entries in a section of the file, and keep all other entries."""
    path = path or RESULTS
    sections = read(path) if path.exists() else {}
    measured = {name: {**one, "machine": machine} for name, one in entries.items()}
    sections[section] = {**sections.get(section, {}), **measured}
    write(sections, path)


def write(sections: Mapping[str, Mapping[str, Entry]], path: Path | None = None) -> None:
    """Write all sections to the file."""
    (path or RESULTS).write_text(json.dumps(sections, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")


def table(markdown: str, command: str) -> Entry:
    """Return an entry that contains a Markdown table, whose header gives the units."""
    head, rule, *body = [[cell.strip() for cell in line.strip()[1:-1].split("|")] for line in markdown.splitlines()]
    right = [column for column, cell in enumerate(rule) if cell.endswith(":")]
    return {"columns": head, "rows": body, "right": right, "command": command}
