"""Each workload, made tiny: it runs through the front door and its figures can be true. Nothing is timed."""

import gc
import shutil

import pytest

from benchmarks import fleet, official, wire
from benchmarks.calculator import Calculator, calculator, one_turn
from benchmarks.figures import PROTOCOLS, TARGETS, Effort, Figure
from benchmarks.worker import PARTS, measure, measure_apart
from holdfast import Runtime

TINY = Effort(
    repeats=2,
    slice=0.001,
    turns=25,
    deltas=(130, 200),
    sessions=6,
    many=3,
    postgres=2,
    events=40,
    speech=3,
    idle=0.3,
)


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


def test_an_answer_that_streams_slowly_is_kept_meanwhile_which_is_no_content_of_its_own() -> None:
    figures = figures_of("w2")
    assert 1 <= figures["kept while it streams"].median <= TINY.speech
    assert figures["storage / content, streamed"].median > figures["storage / log, streamed"].median > 1


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


def test_sessions_at_work_side_by_side_share_commits() -> None:
    figures = figures_of("many")
    assert len(figures["3 sessions at once, file"].values) == TINY.repeats
    assert figures["commits a turn"].median < 4


def test_the_same_is_measured_on_a_postgres(postgres_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TEST_POSTGRES_URL", postgres_url)
    assert len(figures_of("postgres")["2 sessions at once"].values) == TINY.repeats


def test_without_the_extra_postgres_is_skipped_with_the_reason(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fleet, "find_spec", lambda name: None)
    figure = figures_of("postgres")["2 sessions at once"]
    assert figure.values == ()
    assert "pip install 'holdfast[postgres]'" in figure.skipped


def test_a_long_session_is_opened_by_new_processes() -> None:
    figures = figures_of("open")
    assert len(figures["40 events"].values) == TINY.repeats
    assert figures["40 events"].median < figures["40 events, and a first turn"].median


def test_turns_of_a_killed_process_are_recovered_and_counted() -> None:
    assert len(figures_of("recover")["6 turns"].values) == TINY.repeats


def test_an_idle_worker_is_watched() -> None:
    assert figures_of("idle")["a worker, 6 sessions at rest"].median < 100


def test_what_control_costs_is_measured() -> None:
    figures = {it.name: it for it in measure("control", TINY)}
    assert {"a policy and two hooks add", "1,000 rules add", "1,000 rules about hosts"} <= set(figures)
    assert all(it.median > 0 for name, it in figures.items() if not name.endswith(("add", "adds")))


@pytest.mark.timeout(240)
def test_each_driver_is_measured_on_a_server_of_its_own_process_and_beside_the_official_client() -> None:
    figures = figures_of("wire")
    for name in PROTOCOLS:
        assert len(figures[f"a delta, {name}"].values) == TINY.repeats
        assert len(figures[f"a delta, {name}, official client"].values) == TINY.repeats
        assert figures[f"encode, {name}"].clock == figures[f"import, {name}"].clock == "cpu"
        assert figures[f"6 streams, {name}, resident"].median > 10


async def test_an_official_client_that_is_not_installed_is_skipped_with_the_reason(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(official, "find_spec", lambda name: None)
    figure = await wire.theirs("gemini", 1, "", 1)
    assert figure.values == ()
    assert figure.skipped == "google.genai is not installed: pip install 'holdfast[dev]'"


def test_a_first_turn_needs_an_import_and_an_import_needs_python() -> None:
    figures = figures_of("w7")
    assert figures["python alone"].median < figures["import"].median
    assert figures["modules after import"].median <= figures["modules after the first turn"].median
    assert figures["memory after import"].median < 200


def test_a_workload_measures_the_same_figures_in_a_process_of_its_own() -> None:
    (measured,) = measure_apart("w1", TINY)
    assert [figure.name for figure in measured.figures] == ["one tool", "no tool"]
    assert measured.collector.startswith("on ")


@pytest.mark.parametrize("calls", [0, 1, 16])
async def test_a_session_that_is_over_leaves_no_circle_to_the_collector(calls: int) -> None:
    agent = calculator(Calculator(calls=calls))
    async with Runtime() as runtime:
        await one_turn(runtime, agent)
        gc.collect()
        gc.disable()
        try:
            for _ in range(50):
                await one_turn(runtime, agent)
            left = gc.collect()
        finally:
            gc.enable()
    assert left < 50, f"{left / 50} objects a session"


def test_every_target_belongs_to_a_workload() -> None:
    assert {workload for workload, _ in TARGETS} == PARTS.keys()
    for target in TARGETS.values():
        assert target.hold >= target.reach if target.least else target.hold <= target.reach
