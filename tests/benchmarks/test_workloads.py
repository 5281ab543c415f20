"""Each workload, made tiny: it runs through the front door and its figures can be true. Nothing is timed."""

import shutil

import pytest

from benchmarks.figures import TARGETS, Effort, Figure
from benchmarks.worker import PARTS, measure, measure_apart

TINY = Effort(repeats=2, slice=0.001, turns=25, deltas=(130, 200), sessions=6)


def figures_of(workload: str) -> dict[str, Figure]:
    found = {figure.name: figure for figure in measure(workload, TINY)}
    assert {figure.workload for figure in found.values()} == {workload}
    assert all(value > 0 for figure in found.values() for value in figure.values)
    return found


@pytest.mark.parametrize(
    ("workload", "timed"),
    [
        ("w1", ["one tool", "no tool"]),
        ("w3", ["per delta, 130", "per delta, 200", "per delta, 130, one a read"]),
        ("w4", ["16 calls"]),
    ],
)
def test_a_timed_figure_has_every_repeat_by_both_clocks(workload: str, timed: list[str]) -> None:
    figures = figures_of(workload)
    for name in timed:
        figure = figures[name]
        assert len(figure.values) == len(figure.other) == TINY.repeats
        assert figure.clock == "cpu"
        assert min(figure.values) <= figure.median <= max(figure.values)


def test_the_consumer_sees_every_delta() -> None:
    figures = figures_of("w3")
    assert figures["seen, of 130"].values == (130,)
    assert figures["seen, of 200"].values == (200,)
    assert figures["seen, of 130, one a read"].values == (130,)


def test_a_long_session_is_measured_early_and_late_and_its_file_holds_what_was_said() -> None:
    figures = figures_of("w2")
    assert len(figures["turn 15 / turn 10"].values) == TINY.repeats
    assert figures["storage / content"].median < figures["storage / transcript"].median
    assert figures["stored a turn"].median * TINY.turns > 4_096


def test_a_durable_turn_commits_each_step_and_a_pure_tool_saves_one() -> None:
    figures = figures_of("w5")
    assert 1 <= figures["commits a turn, pure tool"].median <= figures["commits a turn"].median <= 4
    assert figures["one tool"].clock == "wall"


@pytest.mark.skipif(shutil.which("strace") is None, reason="strace is not installed")
def test_every_commit_of_a_durable_turn_is_synced() -> None:
    figures = figures_of("w5")
    assert figures["syncs a turn"].median >= figures["commits a turn"].median


def test_a_crowd_is_measured_in_memory_and_on_a_file() -> None:
    found = [figure.name for figure in measure("w6", TINY) if figure.unit == "s"]
    assert found == ["6 sessions, memory", "6 sessions, file"]


def test_a_first_turn_needs_an_import_and_an_import_needs_python() -> None:
    figures = figures_of("w7")
    assert figures["python alone"].median < figures["import"].median
    assert figures["modules after import"].median <= figures["modules after the first turn"].median
    assert figures["memory after import"].median < 200


def test_a_workload_measures_the_same_figures_in_a_process_of_its_own() -> None:
    (measured,) = measure_apart("w1", TINY)
    assert [figure.name for figure in measured.figures] == ["one tool", "no tool"]
    assert measured.collector.startswith("on ")


def test_every_target_belongs_to_a_workload() -> None:
    assert {workload for workload, _ in TARGETS} == PARTS.keys()
    assert all(target.hold <= target.reach for target in TARGETS.values())
