"""The table and the JSON."""

from __future__ import annotations

import os
import platform
from collections.abc import Iterable, Sequence
from importlib.metadata import version
from typing import Any

import apsw

from benchmarks.figures import Figure, Target, target_of

HEAD = ("", "figure", "unit", "median", "least", "other clock", "reach", "hold")


def machine(collector: str) -> dict[str, str]:
    """What the figures were measured on."""
    return {
        "processor": _processor(),
        "cores": str(os.cpu_count()),
        "load": " ".join(f"{load:.1f}" for load in os.getloadavg()),
        "system": f"{platform.system()} {platform.release()}",
        "python": platform.python_version(),
        "holdfast": version("holdfast"),
        "msgspec": version("msgspec"),
        "sqlite": apsw.sqlite_lib_version(),
        "garbage collector": collector,
    }


def _processor() -> str:
    try:
        with open("/proc/cpuinfo", encoding="utf-8") as file:
            return next(line.partition(":")[2].strip() for line in file if line.startswith("model name"))
    except (OSError, StopIteration):
        return platform.machine()


def table(figures: Sequence[Figure]) -> str:
    """The figures in columns, and below them why some could not be measured."""
    rows = [HEAD, *(_row(figure) for figure in figures)]
    widths = [max(len(row[column]) for row in rows) for column in range(len(HEAD))]
    skipped = [f"{it.workload}, {it.name}: skipped: {it.skipped}" for it in figures if it.skipped]
    return "\n".join([*(_line(row, widths) for row in rows), *skipped])


def _line(row: Sequence[str], widths: Sequence[int]) -> str:
    cells = [
        cell.ljust(width) if column < 3 else cell.rjust(width)
        for column, (cell, width) in enumerate(zip(row, widths, strict=True))
    ]
    return "  ".join(cells).rstrip()


def _row(figure: Figure) -> tuple[str, ...]:
    target = target_of(figure)
    other = Figure(workload="", name="", unit="", values=figure.other).median if figure.other else None
    unit = f"{figure.unit} {figure.clock}".strip()
    return (
        figure.workload.upper(),
        figure.name,
        unit,
        "skipped" if figure.skipped else number(figure.median),
        number(min(figure.values)) if len(figure.values) > 1 else "",
        "" if other is None else number(other),
        _judged(figure, target, target.reach) if target else "",
        _judged(figure, target, target.hold) if target else "",
    )


def _judged(figure: Figure, target: Target, limit: float) -> str:
    return f"{target.sign} {limit:g} {target.verdict(figure, limit):<4}"


def number(value: float) -> str:
    """Three digits that count."""
    if value >= 100 or value == int(value):
        return f"{value:,.0f}"
    return f"{value:.1f}" if value >= 10 else f"{value:.3g}"


def misses(figures: Iterable[Figure]) -> list[str]:
    """The workloads that do not reach what they must."""
    return sorted(
        {
            it.workload
            for it in figures
            if (target := target_of(it)) and target.verdict(it, target.reach) == "MISS"
        }
    )


def as_data(figures: Iterable[Figure], about: dict[str, str]) -> dict[str, Any]:
    """Everything, for JSON."""
    return {"machine": about, "figures": [_datum(figure) for figure in figures]}


def _datum(figure: Figure) -> dict[str, Any]:
    datum: dict[str, Any] = {
        "workload": figure.workload,
        "name": figure.name,
        "unit": figure.unit,
        "clock": figure.clock,
        "median": None if figure.skipped else figure.median,
        "values": figure.values,
        "other": figure.other,
    }
    if figure.skipped:
        datum["skipped"] = figure.skipped
    if target := target_of(figure):
        for name, limit in (("reach", target.reach), ("hold", target.hold)):
            datum[name] = {
                "limit": limit,
                "least": target.least,
                "verdict": target.verdict(figure, limit),
            }
    return datum
