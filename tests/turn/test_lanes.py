"""Calls run side by side, lanes one after another, and each outcome is durable on its own."""

import asyncio
from collections.abc import Sequence
from itertools import count

import pytest

from holdfast import Context, Event, Runtime, StoreError, Tool, ToolError, tool
from holdfast.config import Limits
from holdfast.drivers.sim import Step, calls, say
from holdfast.errors import StoreFull
from holdfast.stores.memory import MemoryStore
from holdfast.testing import VirtualClock
from tests.turn.scenes import (
    agent_of,
    assert_sound,
    claims,
    cut_off,
    first,
    kinds,
    reopened,
    results,
    session_with,
)


def many(name: str, number: int) -> Step:
    return calls(*[(name, {"number": index}) for index in range(number)])


def texts(events: Sequence[Event]) -> list[str]:
    return [result.text for result in results(events)]


class Crowd:
    """A tool that counts how many of its calls run at the same time, and releases them all once `expected` do."""

    def __init__(self, expected: int, *, lane: str = "") -> None:
        self.most = self.now = 0
        self._expected = expected
        self._all_here = asyncio.Event()
        self.tool = tool(name="meet", effect="pure", lane=lane)(self.meet)

    async def meet(self, number: int) -> int:
        """Meet the others."""
        self.now += 1
        self.most = max(self.most, self.now)
        if self.now == self._expected:
            self._all_here.set()
        async with asyncio.timeout(60):  # virtual seconds: a meeting that never happens fails at once
            await self._all_here.wait()
        await asyncio.sleep(1)
        self.now -= 1
        return number


async def test_calls_of_one_reply_run_at_the_same_time() -> None:
    crowd = Crowd(16)
    async with session_with(agent_of(many("meet", 16), say("done"), tools=[crowd.tool])) as session:
        await session.run("go")
        events = await session.events()
    assert crowd.most == 16
    assert sorted(texts(events), key=int) == [str(number) for number in range(16)]
    assert_sound(events)


async def test_at_most_32_calls_run_at_the_same_time() -> None:
    crowd = Crowd(32)
    async with session_with(agent_of(many("meet", 70), say("done"), tools=[crowd.tool])) as session:
        await session.run("go")
        assert_sound(await session.events())
    assert crowd.most == 32


async def test_the_cap_can_be_lowered() -> None:
    crowd = Crowd(3)
    agent = agent_of(many("meet", 10), say("done"), tools=[crowd.tool], limits=Limits(tool_concurrency=3))
    async with session_with(agent) as session:
        await session.run("go")
        assert_sound(await session.events())
    assert crowd.most == 3


async def test_calls_that_share_a_lane_run_one_after_another() -> None:
    crowd, other = Crowd(1, lane="desk"), Crowd(2)
    strangers = Tool(**{**_fields(other.tool), "name": "elsewhere"})
    wanted = calls(
        *[("meet", {"number": n}) for n in range(4)], *[("elsewhere", {"number": n}) for n in range(2)]
    )
    async with session_with(agent_of(wanted, say("done"), tools=[crowd.tool, strangers])) as session:
        await session.run("go")
        events = await session.events()
    assert crowd.most == 1
    assert other.most == 2
    in_lane = [claim.call_id for claim in claims(events) if claim.name == "meet"]
    assert in_lane == sorted(in_lane), "a lane keeps the model's order"
    assert_sound(events)


def _fields(tool: Tool) -> dict[str, object]:
    return {name: getattr(tool, name) for name in ("description", "parameters", "run", "effect", "lane")}


async def test_a_lane_claims_each_call_only_when_its_turn_comes() -> None:
    @tool(lane="desk")
    async def sign(number: int) -> int:
        """Sign."""
        return number

    async with session_with(agent_of(many("sign", 3), say("done"), tools=[sign])) as session:
        await session.run("go")
        events = await session.events()
    order = [kind for kind in kinds(events) if kind.startswith("tool.")]
    assert order == ["tool.started", "tool.completed"] * 3


async def test_without_parallel_calls_they_run_one_after_another() -> None:
    crowd = Crowd(1)
    agent = agent_of(many("meet", 4), say("done"), tools=[crowd.tool], parallel_calls=False)
    async with session_with(agent) as session:
        await session.run("go")
        assert_sound(await session.events())
    assert crowd.most == 1


@tool(effect="pure")
async def finish_backwards(number: int) -> int:
    """Take longer, the earlier it was asked for."""
    await asyncio.sleep(10 - number)
    return number


async def test_the_transcript_has_results_in_the_models_order() -> None:
    async with session_with(
        agent_of(many("finish_backwards", 4), say("done"), tools=[finish_backwards])
    ) as session:
        await session.run("go")
        events, messages = await session.events(), await session.messages()
    assert texts(events) == ["3", "2", "1", "0"]
    assert [message.text for message in messages if message.role == "tool"] == ["0", "1", "2", "3"]


async def test_each_outcome_is_recorded_when_it_is_known() -> None:
    async with session_with(
        agent_of(many("finish_backwards", 3), say("done"), tools=[finish_backwards])
    ) as session:
        await session.run("go")
        events = [event for event in await session.events() if event.type == "tool.completed"]
    assert [(event.ts - events[0].ts).total_seconds() for event in events] == [0.0, 1.0, 2.0]


@pytest.mark.parametrize("settled", range(5))
async def test_after_a_crash_only_the_calls_without_an_outcome_go_on(settled: int) -> None:
    runs: list[tuple[int, int]] = []

    @tool(effect="idempotent")
    async def note(ctx: Context, number: int) -> str:
        """Note a number."""
        await asyncio.sleep(4 - number)
        runs.append((number, ctx.call.attempt))
        return f"noted {number}"

    agent = agent_of(many("note", 4), say("done"), tools=[note])
    async with session_with(agent) as session:
        await session.run("go")
        events = await session.events()
    assert [number for number, _ in runs] == [3, 2, 1, 0]
    runs.clear()
    crash = await cut_off(events, first(events, "tool.completed") - 1 + settled)
    async with reopened(crash, agent, session.id) as again:
        turn = again.turn
        assert turn is not None
        assert (await turn).text == "done"
        resumed = await again.events()
        messages = await again.messages()
    assert sorted(runs) == [(number, 2) for number in range(4 - settled)]
    assert [it.text for it in messages if it.role == "tool"] == [f"noted {number}" for number in range(4)]
    assert_sound(resumed)


async def test_a_failing_call_leaves_its_siblings_alone() -> None:
    @tool(effect="pure")
    async def divide(number: int) -> float:
        """Divide 10 by a number."""
        await asyncio.sleep(0)
        return 10 / number

    async with session_with(agent_of(many("divide", 3), say("done"), tools=[divide])) as session:
        result = await session.run("go")
        outcomes = sorted(results(await session.events()), key=lambda it: it.call_id)
    assert result.status == "completed"
    assert [it.status for it in outcomes] == ["error", "ok", "ok"]
    assert outcomes[0].text == "Error: divide failed: ZeroDivisionError: division by zero."


class FullDisk(MemoryStore):
    """A disk that fills up after a number of appends."""

    def __init__(self, room: int) -> None:
        super().__init__()
        self._room = count(room, -1)

    def append(self, *args: object, **options: object) -> asyncio.Future[None]:
        if next(self._room) > 0:
            return super().append(*args, **options)  # type: ignore[arg-type]
        refused: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        refused.set_exception(StoreFull("the disk is full"))
        return refused


@pytest.mark.parametrize("room", [2, 3, 4])
async def test_a_store_that_fails_between_parallel_calls_is_one_plain_error(room: int) -> None:
    @tool
    async def note(number: int) -> int:
        """Note."""
        await asyncio.sleep(number)
        return number

    agent = agent_of(many("note", 4), say("done"), tools=[note])
    async with Runtime(FullDisk(room), clock=VirtualClock(), drain=0) as runtime:
        session = await runtime.session(agent)
        turn = await session.send("go")
        with pytest.raises(StoreFull, match="the disk is full") as broken:
            await turn
        assert isinstance(broken.value, StoreError)
        with pytest.raises(StoreFull):
            await session.send("again")


async def test_a_raising_tool_of_ours_is_not_mistaken_for_a_broken_log() -> None:
    @tool
    async def borrow(number: int) -> int:
        """Use some other store, which fails."""
        raise StoreFull("their disk is full")

    async with session_with(agent_of(many("borrow", 2), say("done"), tools=[borrow])) as session:
        result = await session.run("go")
        assert [it.text for it in results(await session.events())] == [
            "Error: borrow failed: StoreFull: their disk is full."
        ] * 2
    assert result.status == "completed"


async def test_a_tool_error_is_the_authors_own_words() -> None:
    @tool
    async def order(number: int) -> int:
        """Order."""
        raise ToolError(f"we have no number {number}")

    async with session_with(agent_of(many("order", 1), say("done"), tools=[order])) as session:
        await session.run("go")
        assert texts(await session.events()) == ["Error: we have no number 0"]
