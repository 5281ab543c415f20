"""Simulated processes: an order of steps that follows from the seed, virtual time, and death without last words."""

import asyncio
import gc
import itertools
import random
from collections.abc import Callable, Coroutine
from typing import Any

import pytest

from holdfast import Agent, MemoryStore, Runtime, tool
from holdfast.drivers.sim import Sim, calls
from holdfast.errors import UsageError
from holdfast.testing import Crash, Simulation, Standstill, VirtualClock, crash


async def three_racers() -> str:
    """Three tasks of four steps each; the order in which they took them."""
    steps: list[str] = []

    async def racer(name: str) -> None:
        for _ in range(4):
            steps.append(name)
            await asyncio.sleep(0)

    async with asyncio.TaskGroup() as group:
        for name in "abc":
            group.create_task(racer(name))
    return "".join(steps)


@pytest.mark.parametrize("seed", range(5))
def test_the_same_seed_takes_the_same_way(seed: int) -> None:
    first, second = Simulation(seed), Simulation(seed)
    assert first.run(three_racers()) == second.run(three_racers())
    assert first.trace == second.trace


def test_other_seeds_take_other_ways() -> None:
    worlds = [Simulation(seed) for seed in range(30)]
    ways = {world.run(three_racers()) for world in worlds}
    assert len(ways) > 20
    assert len({world.trace for world in worlds}) == len(ways)


def test_some_seed_finds_a_lost_update() -> None:
    async def main() -> int:
        balance = 0

        async def deposit(delay: int) -> None:
            nonlocal balance
            for _ in range(delay):
                await asyncio.sleep(0)
            before = balance
            await asyncio.sleep(0)
            balance = before + 1

        async with asyncio.TaskGroup() as group:
            group.create_task(deposit(0))
            group.create_task(deposit(2))
        return balance

    assert {Simulation(seed).run(main()) for seed in range(40)} == {1, 2}


def test_a_whole_turn_takes_the_same_way_again() -> None:
    @tool(effect="pure")
    async def wait(seconds: float) -> str:
        """Wait."""
        await asyncio.sleep(seconds)
        return "done"

    async def main() -> list[str]:
        model = Sim.storyboard(calls(*[("wait", {"seconds": n % 2}) for n in range(6)]), "Done.")
        async with Runtime(clock=VirtualClock()) as runtime:
            session = await runtime.session(Agent(model=model, tools=[wait]))
            await session.run("Wait.")
            return [f"{event.type} {event.ts}" for event in await session.events()]

    first, second, other = Simulation(1), Simulation(1), Simulation(2)
    assert first.run(main()) == second.run(main())
    assert first.trace == second.trace
    other.run(main())
    assert other.trace != first.trace


def test_callbacks_keep_their_order() -> None:
    async def main() -> list[int]:
        called: list[int] = []
        loop = asyncio.get_running_loop()
        for number in range(20):
            loop.call_soon(called.append, number)
        await asyncio.sleep(0.1)
        return called

    for seed in range(10):
        assert Simulation(seed).run(main()) == list(range(20))


def test_a_task_may_be_late_for_a_callback_and_never_early() -> None:
    async def main() -> str:
        steps: list[str] = []

        async def step(name: str) -> None:
            steps.append(name)

        before = asyncio.create_task(step("before"))
        asyncio.get_running_loop().call_soon(steps.append, "callback")
        after = asyncio.create_task(step("after"))
        await asyncio.wait([before, after])
        return " ".join(steps)

    assert {Simulation(seed).run(main()) for seed in range(60)} == {
        "before callback after",
        "callback before after",
        "callback after before",
    }


def test_chance_is_the_same_for_the_same_seed_and_untouched_outside() -> None:
    async def main() -> list[float]:
        return [random.random() for _ in range(3)]

    before = random.getstate()
    assert Simulation(4).run(main()) == Simulation(4).run(main())
    assert Simulation(4).run(main()) != Simulation(5).run(main())
    assert random.getstate() == before


def test_time_is_virtual_and_goes_on_from_process_to_process() -> None:
    async def main() -> float:
        await asyncio.sleep(3_600)
        return asyncio.get_running_loop().time()

    world = Simulation()
    assert [round(world.run(main())) for _ in range(3)] == [3_600, 7_200, 10_800]
    assert round(world.now) == 10_800


def test_a_failure_says_its_seed() -> None:
    async def main() -> None:
        raise LookupError("no such luck")

    with pytest.raises(LookupError, match="no such luck") as caught:
        Simulation(42).run(main())
    assert "Simulation(42)" in "".join(caught.value.__notes__)


def test_going_round_in_circles_is_found() -> None:
    async def main() -> None:
        async with asyncio.timeout(60):  # which never comes, since no time passes
            for _ in itertools.count():
                await asyncio.sleep(0)

    with pytest.raises(Standstill, match=r"100,000 steps at 0\.000 s; the last was one of .*main 1"):
        Simulation(3).run(main())


def test_a_simulation_inside_of_a_coroutine_is_refused() -> None:
    async def main() -> None:
        Simulation().run(asyncio.sleep(0))

    with pytest.raises(UsageError, match="in a plain function, not in a coroutine"):
        asyncio.run(main())


def test_only_a_simulated_process_can_die() -> None:
    async def main() -> None:
        await crash("here")

    with pytest.raises(UsageError, match="run it with Simulation"):
        asyncio.run(main())


Body = Callable[[list[str]], Coroutine[Any, Any, None]]


async def with_a_handler(said: list[str]) -> None:
    try:
        await crash("in a try")
    except BaseException as error:
        said.append(f"handled {type(error).__name__}")
        await asyncio.sleep(0)
        said.append("and went on")
        raise


async def with_other_tasks(said: list[str]) -> None:
    async def work() -> None:
        for _ in range(10):
            await asyncio.sleep(0)
            said.append("worked")

    async with asyncio.TaskGroup() as group:
        for _ in range(3):
            group.create_task(work())
        await crash("beside other tasks")


async def with_callbacks(said: list[str]) -> None:
    loop = asyncio.get_running_loop()
    loop.call_soon(said.append, "called")
    loop.call_later(0.0, said.append, "called late")
    await crash("with callbacks due")


async def with_a_coroutine_that_clings_to_life(said: list[str]) -> None:
    while True:
        try:
            await crash("and would not go")
        except GeneratorExit:
            await asyncio.sleep(0)
            said.append("still here")


async def with_a_task_that_has_not_begun(said: list[str]) -> None:
    async def begin() -> None:
        said.append("began")

    task = asyncio.create_task(begin(), name="late")
    await crash(f"before {task.get_name()} began")


async def with_a_task_made_on_the_way_out(said: list[str]) -> None:
    async def begin() -> None:
        said.append("began")

    try:
        await crash("with a finally")
    finally:
        task = asyncio.create_task(begin())
        await task


async def deep_inside_of_others_that_cling(said: list[str]) -> None:
    async def cling(depth: int) -> None:
        try:
            async with asyncio.TaskGroup() as group:
                group.create_task(asyncio.sleep(10))
                await (cling(depth - 1) if depth else crash("deep inside"))
        finally:
            await asyncio.sleep(1)

    async with asyncio.timeout(5):
        await cling(3)


DEATHS: list[Body] = [
    with_other_tasks,
    with_callbacks,
    with_a_coroutine_that_clings_to_life,
    with_a_task_that_has_not_begun,
    with_a_task_made_on_the_way_out,
    deep_inside_of_others_that_cling,
]


@pytest.mark.parametrize("body", DEATHS)
@pytest.mark.parametrize("seed", range(5))
def test_nothing_of_a_dead_process_runs(body: Body, seed: int) -> None:
    said: list[str] = []
    with pytest.raises(Crash):
        Simulation(seed).run(body(said))
    gc.collect()  # what is left behind must not complain either: warnings are errors here
    assert set(said) <= {"worked"}
    assert len(said) <= 3, "tasks went on after the death of their process"


def test_a_handler_does_not_hear_of_the_crash() -> None:
    said: list[str] = []
    with pytest.raises(Crash, match="died in a try"):
        Simulation().run(with_a_handler(said))
    assert said == ["handled GeneratorExit"]  # the frame being let go, not the crash


def test_a_store_survives_its_process() -> None:
    disk, world = MemoryStore(), Simulation()
    agent = Agent("You help.", name="helper", model=Sim.always("Hello."))

    async def first() -> None:
        runtime = await Runtime(disk, clock=VirtualClock()).__aenter__()
        session = await runtime.session(agent)
        await session.run("Hello?", key="one")
        await crash("after the answer")

    async def second() -> str:
        async with Runtime(disk, agents=[agent], clock=VirtualClock()) as runtime:
            (head,) = await runtime.sessions()
            session = await runtime.open(head.session_id)
            return (await session.messages())[-1].text

    with pytest.raises(Crash):
        world.run(first())
    assert world.run(second()) == "Hello."
