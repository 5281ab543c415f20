"""The command line: the table, the JSON, and what it says when the other side is missing."""

import json
import subprocess
import sys
from pathlib import Path

import msgspec
import pytest

from benchmarks import side_by_side
from benchmarks.figures import Figure
from benchmarks.report import as_data, misses, number, table
from tests.conftest import ROOT

FAST = Figure(
    workload="w1", name="no tool", unit="µs", clock="cpu", values=(70.0, 30.0, 35.0), other=(90.0, 80.0, 70.0)
)
SLOW = Figure(workload="w4", name="16 calls", unit="ms", clock="cpu", values=(0.81, 0.82, 2.0))
RATE = Figure(
    workload="many", name="100 sessions at once, file", unit="turns/s", values=(2_900.0, 3_100.0, 3_200.0)
)
AWAY = Figure(
    workload="postgres", name="50 sessions at once", unit="turns/s", values=(), skipped="no Postgres: why"
)
COUNT = Figure(workload="w7", name="modules after import", unit="", values=(231.0,))


def benchmarks(*arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "benchmarks", *arguments]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=100, check=False)


def test_a_row_tells_the_median_and_what_it_is_held_to() -> None:
    head, fast, slow, count = table([FAST, SLOW, COUNT]).splitlines()
    assert head.split() == ["figure", "unit", "median", "least", "other", "clock", "reach", "hold"]
    assert fast.split() == [
        "W1",
        "no",
        "tool",
        "µs",
        "cpu",
        "35",
        "30",
        "80",
        "≤",
        "80",
        "ok",
        "≤",
        "40",
        "ok",
    ]
    assert slow.split()[-6:] == ["≤", "0.8", "MISS", "≤", "0.4", "MISS"]
    assert count.split() == ["W7", "modules", "after", "import", "231"]


def test_a_rate_must_reach_what_it_is_held_to_and_a_figure_that_was_skipped_says_why() -> None:
    _, rate, away, why = table([RATE, AWAY]).splitlines()
    assert rate.split()[-6:] == ["≥", "3000", "ok", "≥", "3000", "ok"]
    assert away.split()[-7:] == ["skipped", "≥", "800", "skip", "≥", "800", "skip"]
    assert why == "postgres, 50 sessions at once: skipped: no Postgres: why"
    assert misses([RATE, AWAY]) == []
    assert misses([msgspec.structs.replace(RATE, values=(2_900.0,))]) == ["many"]
    (datum,) = as_data([AWAY], {})["figures"]
    assert (datum["median"], datum["skipped"]) == (None, "no Postgres: why")


def test_a_miss_names_its_workload() -> None:
    assert misses([FAST, SLOW, COUNT]) == ["w4"]


def test_the_data_hold_every_repeat_and_the_verdicts() -> None:
    fast, slow, count = as_data([FAST, SLOW, COUNT], {})["figures"]
    assert fast["values"] == (70.0, 30.0, 35.0)
    assert fast["hold"] == {"limit": 40, "least": False, "verdict": "ok"}
    assert slow["reach"] == {"limit": 0.8, "least": False, "verdict": "MISS"}
    assert "reach" not in count


@pytest.mark.parametrize(
    ("value", "text"), [(12_345.6, "12,346"), (45.04, "45.0"), (1.234, "1.23"), (4.0, "4")]
)
def test_a_number_has_the_digits_that_count(value: float, text: str) -> None:
    assert number(value) == text


def test_the_json_goes_to_a_file_or_alone_to_standard_output(tmp_path: Path) -> None:
    out = tmp_path / "figures.json"
    shown = benchmarks("--workloads", "w4", "--repeats", "1", "--quick", "--out", str(out))
    assert shown.returncode == 0, shown.stderr
    assert "16 calls" in shown.stdout
    assert json.loads(out.read_text())["figures"][0]["name"] == "16 calls"

    alone = benchmarks("--workloads", "w4", "--repeats", "1", "--quick", "--json")
    assert json.loads(alone.stdout)["machine"]["garbage collector"].startswith("on ")


def test_a_profile_names_functions_by_their_place_in_the_checkout() -> None:
    shown = benchmarks("--profile", "w4", "--quick")
    assert shown.returncode == 0, shown.stderr
    assert "src/holdfast/turn/" in shown.stdout
    assert str(ROOT) not in shown.stdout


def test_an_unknown_workload_is_refused_with_the_known_ones() -> None:
    refused = benchmarks("--workloads", "w1,w9")
    assert refused.returncode == 2
    assert "no workload w9; there are w1, w2" in refused.stderr


def test_without_the_other_side_the_comparison_says_what_is_missing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    uv = tmp_path / "uv"
    uv.write_text("#!/bin/sh\n")
    uv.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(side_by_side.Unavailable, match=r"there is no run_all.py in .*/nowhere"):
        side_by_side.compare("agno", "w1", place=tmp_path / "nowhere")


def test_without_uv_the_comparison_says_how_to_get_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr(sys, "executable", str(tmp_path / "python"))
    (tmp_path / "run_all.py").touch()
    with pytest.raises(side_by_side.Unavailable, match="pip install uv"):
        side_by_side.compare("agno", "w1", place=tmp_path)
