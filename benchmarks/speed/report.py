"""Functions that report the results: tables in Markdown, and JSON with everything that was measured."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from speed import busy, record
from speed.rows import GOALS, Result
from speed.timing import summary

MEBIBYTE = 2**20
OURS = "rcnn"


def markdown(facts: Mapping[str, str], results: Sequence[Result]) -> str:
    """Return a list of the facts about the run, followed by a table for each kind of result."""
    parts = ["\n".join(f"- {name}: {value}" for name, value in facts.items())]
    for name in dict.fromkeys(result.table for result in results):
        mine = [result for result in results if result.table == name]
        parts += [NOTES.get(name, SWEEP_NOTE), TABLES.get(name, sweep_table)(mine)]
    return "\n\n".join(parts)


def work_table(results: Sequence[Result]) -> str:
    """Return the table of times, with a line for each row and peer."""
    rows = [["work", "threads", "rcnn, ms", "peer", "peer, ms", "ratio", "goal, aim", "met", "agreement"]]
    for result in results:
        ours = summary(result.samples[OURS]).median
        first = [result.work + speed(result), str(result.threads), number(1000 * ours)]
        peers = [name for name in result.samples if name != OURS]
        if not peers:
            rows.append([*first, *[""] * 6])
        for name in peers:
            theirs = summary(result.samples[name]).median
            answers = result.agreements[name]
            rows.append(
                [
                    *first,
                    name,
                    number(1000 * theirs),
                    f"{theirs / ours:.2f}",
                    *goal(result.name, name, theirs / ours),
                    answers.text + ("" if answers.holds else " (!)"),
                ]
            )
            first = ["", "", ""]
    return table(rows, right=(1, 2, 4, 5))


def memory_table(results: Sequence[Result]) -> str:
    """Return the table of memory in MiB, with a line for each row and peer."""
    rows = [["peak memory", "rcnn, MiB", "peer", "peer, MiB", "ratio", "goal, aim", "met"]]
    for result in results:
        ours = summary(result.samples[OURS]).median
        first = [result.work, f"{ours / MEBIBYTE:.0f}"]
        peers = [name for name in result.samples if name != OURS]
        if not peers:
            rows.append([*first, *[""] * 5])
        for name in peers:
            theirs = summary(result.samples[name]).median
            rows.append(
                [
                    *first,
                    name,
                    f"{theirs / MEBIBYTE:.0f}",
                    f"{ours / theirs:.2f}",
                    *goal(result.name, name, ours / theirs),
                ]
            )
            first = ["", ""]
    return table(rows, right=(1, 3, 4))


def shape_table(results: Sequence[Result]) -> str:
    """Return the table of convolutions, with a line for each shape and a line for the total."""
    peers = [name for name in results[0].samples if name != OURS]
    rows = [
        [
            "convolution",
            "times",
            "rcnn, ms",
            "GFLOP/s",
            *(cell for name in peers for cell in (f"{name}, ms", "ratio")),
            "largest difference",
        ]
    ]
    sums = dict.fromkeys([OURS, *peers], 0.0)
    for result in results:
        medians = {name: summary(result.samples[name]).median for name in sums}
        sums = {name: sums[name] + result.times * medians[name] for name in sums}
        difference = max((agreement.difference for agreement in result.agreements.values()), default=0.0)
        rows.append(
            [
                result.work,
                str(result.times),
                *_against(medians, result.flop),
                (f"{difference:.0e}" if difference else "0") + ("" if result.holds else " (!)"),
            ]
        )
    flop = sum(result.times * result.flop for result in results)
    rows.append(["all of these", str(sum(result.times for result in results)), *_against(sums, flop), ""])
    return table(rows, right=range(1, len(rows[0])))


def sweep_table(results: Sequence[Result]) -> str:
    """Return the table of a sweep, with a line for each amount of work."""
    peers = [name for name in dict.fromkeys(name for result in results for name in result.samples) if name != OURS]
    rows = [[results[0].table, "rcnn, ms", *(f"{name}, ms (ratio)" for name in peers)]]
    for result in results:
        medians = {name: summary(samples).median for name, samples in result.samples.items()}
        ours = medians[OURS]
        cells = [
            f"{number(1000 * medians[name])} ({medians[name] / ours:.2f})" if name in medians else "" for name in peers
        ]
        rows.append([f"{result.x:g}" + ("" if result.holds else " (!)"), number(1000 * ours), *cells])
    return table(rows, right=range(len(rows[0])))


def busy_table(results: Sequence[Result]) -> str:
    """Return the table of times with other work on the machine, with a line for each situation."""
    return table(busy.table(results), right=range(2, 7))


TABLES = {"work": work_table, "memory": memory_table, "shapes": shape_table, "busy": busy_table}
NOTES = {
    "work": "Times are medians, in float32. The ratio is the time of the peer divided by the time of rcnn. Above 1, "
    "rcnn is faster. GFLOP/s are those of rcnn, and count the operations of the direct algorithm.",
    "memory": "Each library runs in its own process. The ratio is the memory of rcnn divided by that of the peer. "
    "Below 1, rcnn needs less.",
    "busy": "Other processes run endless loops. Times are means, because medians hide rare long waits. The ratio is "
    "the time with all threads divided by the time with one thread. The control divides two times with one thread.",
    "shapes": 'All convolutions of the detector. "times" is how often each one occurs in a forward pass. The last line '
    "is their total.",
}
SWEEP_NOTE = "Time against the amount of work. The ratio is the time of the peer divided by the time of rcnn."


def _against(seconds: Mapping[str, float], flop: int) -> Iterator[str]:
    ours = seconds[OURS]
    yield number(1000 * ours)
    yield f"{flop / ours / 1e9:.0f}"
    for name, theirs in seconds.items():
        if name != OURS:
            yield number(1000 * theirs)
            yield f"{theirs / ours:.2f}"


def speed(result: Result) -> str:
    """Return the speed of rcnn in GFLOP/s as text, or an empty string if the row has no number of operations."""
    return f", {result.flop / summary(result.samples[OURS]).median / 1e9:.0f} GFLOP/s" if result.flop else ""


def goal(row: str, peer: str, ratio: float) -> tuple[str, str]:
    """Return the goal of a row against a peer and whether it is met, or two empty strings if there is no goal."""
    wanted = GOALS.get((row, peer))
    return ("", "") if wanted is None else (f"{wanted.least:g}, {wanted.aim:g}", wanted.verdict(ratio))


def number(value: float) -> str:
    """Return the value with three significant digits, or without decimals if it is at least 100."""
    return f"{value:.0f}" if value >= 100 else f"{value:.3g}"


def table(rows: Sequence[Sequence[str]], right: Sequence[int] = ()) -> str:
    """Return a Markdown table whose header is the first row; the columns in `right` are right-aligned."""
    head, *body = rows
    rule = ["---:" if column in right else "---" for column in range(len(head))]
    return "\n".join(f"| {' | '.join(cells)} |" for cells in (head, rule, *body))


def as_data(facts: Mapping[str, str], results: Sequence[Result]) -> dict[str, Any]:
    """Return all data for JSON: the facts, and each row with its samples, medians, quartiles, ratios and goals."""
    return {"facts": dict(facts), "rows": [_row_data(result) for result in results]}


def _row_data(result: Result) -> dict[str, Any]:
    summaries = {name: asdict(summary(samples)) for name, samples in result.samples.items()}
    ours = summaries[OURS]["median"]
    goals = {peer: asdict(wanted) for (row, peer), wanted in GOALS.items() if row == result.name}
    return {
        **asdict(result),
        "unit": "bytes" if result.table == "memory" else "seconds",
        "summaries": summaries,
        "peer by rcnn": {name: one["median"] / ours for name, one in summaries.items() if name != OURS},
        "goals": goals,
    }


def write_json(path: Path, data: Mapping[str, Any]) -> None:
    """Write the data to a file as JSON."""
    path.write_text(json.dumps(data, indent=1) + "\n", encoding="utf-8")


def entries(results: Sequence[Result], section: str = "speed") -> dict[str, dict[str, record.Entry]]:
    """Return the entries for docs/results.json: times in `section`, memory, and the ratios for all convolutions."""
    found: dict[str, dict[str, record.Entry]] = {}
    for result in results:
        if result.table in ("work", "memory"):
            where = section if result.table == "work" else "memory"
            found.setdefault(where, {})[result.name] = _entry(result)
    crowded = [result for result in results if result.table == "busy"]
    if crowded:
        found["busy"] = {"table": record.table(busy_table(crowded), "python benchmarks/run.py --only busy")}
    shapes = [result for result in results if result.table == "shapes"]
    command = "python benchmarks/run.py --only shape"
    for peer in [name for name in shapes[0].samples if name != OURS] if shapes else []:
        ours, theirs = (
            sum(result.times * summary(result.samples[name]).median for result in shapes) for name in (OURS, peer)
        )
        found.setdefault("convolutions", {})[peer] = record.entry(round(theirs / ours, 2), "ratio", command)
    return found


def _entry(result: Result) -> record.Entry:
    """Return the entry of a row: the median of rcnn, and the medians and ratios of the peers."""
    memory = result.table == "memory"
    factor, unit = (1 / MEBIBYTE, "MiB") if memory else (1000.0, "ms")
    medians = {name: summary(samples).median for name, samples in result.samples.items()}
    ours = medians.pop(OURS)
    peers: dict[str, record.Entry] = {}
    for name, theirs in medians.items():
        ratio = ours / theirs if memory else theirs / ours
        peers[name] = {"value": float(f"{factor * theirs:.4g}"), "ratio": round(ratio, 2)}
        if name in result.agreements:
            peers[name]["answers"] = result.agreements[name].text
    more: record.Entry = {"work": result.work, "threads": result.threads, "peers": peers}
    if result.flop:
        more["gflops"] = round(result.flop / ours / 1e9)
    command = f"python benchmarks/run.py --only {result.name} --threads {result.threads}"
    return record.entry(float(f"{factor * ours:.4g}"), unit, command, **more)
