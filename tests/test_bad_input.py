"""What cannot be, or should not: a lease of nothing, clocks that jump, blobs whose bytes changed, tools that are not
the same any more when a turn goes on. Each is a typed error or a documented recovery."""

import asyncio
import sqlite3
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import asyncpg
import pytest

from holdfast import (
    NOT_DONE,
    Agent,
    Config,
    Context,
    Event,
    Limits,
    Runtime,
    Session,
    SQLiteStore,
    Tool,
    tool,
)
from holdfast.archive import export_session, import_session
from holdfast.drivers.sim import Sim, Step, call, fail, say
from holdfast.errors import DeterminismError, SessionHeld, StoreCorrupt, UsageError
from holdfast.events import TURN_ENDS, Effect, ToolCompleted, TurnStarted
from holdfast.fold import fold
from holdfast.hook import Allow, AskFor, Modify
from holdfast.policy import Action, Policy
from holdfast.state import encode_state
from holdfast.store import Store, digest_of
from holdfast.stores.memory import MemoryStore
from holdfast.stores.postgres import PostgresStore
from holdfast.testing import VirtualClock, run_virtual
from holdfast.testing.said import said

HOUR = timedelta(hours=1)
FORWARD, BACK = pytest.param(HOUR, id="forward"), pytest.param(-HOUR, id="back")


@pytest.mark.parametrize("lease", [0, 0.0, -1.0, float("nan")])
def test_a_lease_of_nothing_is_refused_before_anything_is_opened(lease: float) -> None:
    with pytest.raises(UsageError, match="holds nothing; give more than 0"):
        Runtime(lease=lease)


class JumpingClock:
    """Follows the loop's time, and jumps when told to."""

    def __init__(self) -> None:
        self._steady = VirtualClock()
        self._ahead = timedelta()

    def jump(self, by: timedelta) -> None:
        self._ahead += by

    def now(self) -> datetime:
        return self._steady.now() + self._ahead


def time() -> float:
    return round(asyncio.get_running_loop().time(), 6)


def sleeper(seconds: float, effect: Effect = "pure") -> Tool:
    """A tool that takes so long."""

    @tool(effect=effect)
    async def sleep() -> str:
        """Sleep."""
        await asyncio.sleep(seconds)
        return "slept"

    return sleep


def agent_of(*steps: Step | str, tools: tuple[Tool, ...] = (), **options: Any) -> Agent:
    return Agent("You help.", name="helper", model=Sim.storyboard(*steps), tools=tools, **options)


@pytest.mark.parametrize("jump", [FORWARD, BACK])
def test_cp56_a_lease_is_not_moved_by_the_wall_clock_of_its_holder_or_of_a_rival(jump: timedelta) -> None:
    async def main() -> None:
        store, clock = MemoryStore(), JumpingClock()
        agent = agent_of(call("sleep"), say("Done."), tools=(sleeper(100.0),))
        async with Runtime(store, clock=clock) as one, Runtime(store, clock=clock, agents=[agent]) as other:
            turn = await (await one.session(agent)).send("Go.")
            await asyncio.sleep(1)
            clock.jump(jump)
            await asyncio.sleep(60)  # two leases long
            (head,) = await other.sessions()
            with pytest.raises(SessionHeld) as held:
                await store.claim(head.session_id, owner="rival", hold=1.0)
            assert 0 < held.value.seconds <= 30
            assert (await turn).text == "Done."
            assert time() == 100

    run_virtual(main())


@pytest.mark.parametrize("jump", [FORWARD, BACK])
def test_a_lease_of_a_dead_runtime_ends_in_time_whatever_the_wall_clock_does(jump: timedelta) -> None:
    async def main() -> None:
        store, clock = MemoryStore(), JumpingClock()
        await store.open()
        await store.append("session_a", _first("session_a", clock), expected=0, epoch=1)
        await store.claim("session_a", owner="dead", hold=30.0)
        clock.jump(jump)
        await asyncio.sleep(29)
        with pytest.raises(SessionHeld):
            await store.claim("session_a", owner="heir", hold=30.0)
        await asyncio.sleep(1)
        assert await store.claim("session_a", owner="heir", hold=30.0) == 3

    run_virtual(main())


def _first(session_id: str, clock: JumpingClock) -> list[Event]:
    return said(session_id, 1, "hello", at=clock.now())


@pytest.mark.parametrize("jump", [FORWARD, BACK])
def test_a_retry_comes_when_its_time_has_passed_whatever_the_wall_clock_does(jump: timedelta) -> None:
    async def main() -> None:
        clock = JumpingClock()
        agent = Agent(model=Sim.script(fail("overloaded", retry_after=60.0), say("Done.")))
        async with Runtime(clock=clock) as runtime:
            turn = await (await runtime.session(agent)).send("Go.")
            await asyncio.sleep(1)
            clock.jump(jump)
            assert (await turn).text == "Done."
            assert time() == 60

    run_virtual(main())


@pytest.mark.parametrize("jump", [FORWARD, BACK])
def test_a_turn_that_was_cut_off_is_owed_at_once_whatever_the_wall_clock_does(jump: timedelta) -> None:
    async def main() -> None:
        store, clock = MemoryStore(), JumpingClock()
        agent = agent_of(call("sleep"), say("Done."), tools=(sleeper(1.0),))
        async with Runtime(store, clock=clock, drain=0) as runtime:
            session = await runtime.session(agent)
            await session.send("Go.")
        clock.jump(jump)
        async with Runtime(store, clock=clock, agents=[agent]) as runtime:
            (again,) = await runtime.recover()
            assert again.turn is not None
            assert (await again.turn).text == "Done."
            assert time() < 10

    run_virtual(main())


def asking() -> Policy:
    """A policy that asks about every call, for two hours."""

    async def decide(action: Action) -> Allow | AskFor:
        if action.kind != "tool":
            return Allow()
        return AskFor(reason="may I?", expires_at=VirtualClock().now() + 2 * HOUR)

    return Policy(name="asking", decide=decide)


def waiting_agent() -> Agent:
    return agent_of(call("sleep"), say("Done."), tools=(sleeper(1.0),), config=Config(policies=(asking(),)))


def test_an_ask_ends_by_the_wall_clock_which_may_come_sooner() -> None:
    async def main() -> None:
        store, clock = MemoryStore(), JumpingClock()
        async with Runtime(store, clock=clock, drain=0) as runtime:
            session = await runtime.session(waiting_agent())
            assert (await session.run("Go.")).status == "waiting"
        clock.jump(2 * HOUR)
        async with Runtime(store, clock=clock, agents=[waiting_agent()]) as runtime:
            (again,) = await runtime.recover()
            if (turn := again.turn) is not None:
                assert (await turn).text == "Done."
            assert _statuses(await again.events()) == ["denied"]
            assert time() < 10

    run_virtual(main())


def test_an_ask_ends_by_the_wall_clock_which_may_come_later_and_can_be_answered_until_then() -> None:
    async def main() -> None:
        clock = JumpingClock()
        async with Runtime(clock=clock) as runtime:
            session = await runtime.session(waiting_agent())
            waiting = await session.run("Go.")
            clock.jump(-HOUR)
            await asyncio.sleep(2.5 * 3_600)
            assert session.turn is not None
            await session.approve(waiting.asks[0].ask_id, by="ana")
            assert (await session.turn).text == "Done."
            assert _statuses(await session.events()) == ["ok"]

    run_virtual(main())


def _statuses(events: list[Event]) -> list[str]:
    return [event.data.result.status for event in events if isinstance(event.data, ToolCompleted)]


@pytest.mark.parametrize(("jump", "stop"), [(HOUR, "deadline"), (-HOUR, "end_turn")])
def test_a_deadline_is_an_instant_of_the_wall_clock_and_ends_a_turn_once(jump: timedelta, stop: str) -> None:
    async def main() -> None:
        clock = JumpingClock()
        agent = agent_of(
            call("sleep"),
            say("Done."),
            say("More."),
            tools=(sleeper(50.0),),
            limits=Limits(turn_timeout=60.0),
        )
        async with Runtime(clock=clock) as runtime:
            session = await runtime.session(agent)
            turn = await session.send("Go.")
            await asyncio.sleep(1)
            clock.jump(jump)
            assert (await turn).stop == stop
            events = await session.events()
            assert sum(event.type in TURN_ENDS for event in events) == 1
            assert _statuses(events) == ["ok"]
            assert (await session.run("Again.")).status == "completed"

    run_virtual(main())


@pytest.mark.parametrize("jump", [FORWARD, BACK])
def test_a_log_whose_times_jump_is_in_the_order_of_its_numbers(jump: timedelta) -> None:
    async def main() -> None:
        store, clock = MemoryStore(), JumpingClock()
        agent = agent_of("One.", "Two.", "Three.")
        async with Runtime(store, clock=clock) as runtime:
            session = await runtime.session(agent)
            for _ in range(3):
                await session.run("Go on.")
                clock.jump(jump)
            events = await session.events()
            state = encode_state(session.state)
            lines = [line async for line in export_session(store, session.id)]
        assert [event.sequence for event in events] == list(range(1, len(events) + 1))
        assert encode_state(fold(session.id, events)) == state
        async with Runtime(clock=clock) as runtime:
            await import_session(runtime.store, lines)
            moved = await runtime.open(session.id, agent)
            texts = [message.text for message in await moved.messages() if message.role == "assistant"]
            assert texts == ["One.", "Two.", "Three."]

    run_virtual(main())


Damage = Callable[[str], Awaitable[None]]
"""Changes the bytes of the blob with this digest, and keeps its name."""


@asynccontextmanager
async def sqlite(path: Path) -> AsyncIterator[tuple[Store, Damage]]:
    async def damage(digest: str) -> None:
        with sqlite3.connect(path) as connection:
            changed = connection.execute("UPDATE blobs SET data = ? WHERE digest = ?", (b"rotten", digest))
            assert changed.rowcount == 1
        connection.close()

    yield SQLiteStore(path), damage


@asynccontextmanager
async def postgres(url: str, schema: str) -> AsyncIterator[tuple[Store, Damage]]:
    connection = await asyncpg.connect(url)

    async def damage(digest: str) -> None:
        change = f"UPDATE {schema}.blobs SET data = $1 WHERE digest = $2"
        assert await connection.execute(change, b"rotten", digest) == "UPDATE 1"

    yield PostgresStore(url, schema=schema), damage
    await connection.close()


@pytest.fixture(params=["sqlite", "postgres"])
async def rotting(
    request: pytest.FixtureRequest, tmp_path: Path, postgres_url: str, schema: str
) -> AsyncIterator[tuple[Store, Damage]]:
    """A store, and a way to damage its blobs."""
    place = sqlite(tmp_path / "log.db") if request.param == "sqlite" else postgres(postgres_url, schema)
    async with place as found:
        yield found


LARGE = bytes(range(256)) * 1_000


async def test_a_blob_whose_bytes_changed_fails_the_call_that_reads_it_and_the_turn_goes_on(
    rotting: tuple[Store, Damage],
) -> None:
    store, damage = rotting
    agent = Agent(
        capabilities=["files"], model=Sim.storyboard(call("read_file", path="/large.bin"), say("I see."))
    )
    async with Runtime(store) as runtime:
        session = await runtime.session(agent)
        await session.files.write("/large.bin", LARGE)
        await damage(digest_of(LARGE))
        result = await session.run("Read it.")
        assert (result.status, result.text) == ("completed", "I see.")
        (outcome,) = [event.data for event in await session.events() if isinstance(event.data, ToolCompleted)]
        assert outcome.result.status == "error"
        assert "StoreCorrupt" in outcome.result.text
        assert "have changed; restore a backup" in outcome.result.text
        with pytest.raises(StoreCorrupt, match=digest_of(LARGE)):
            await session.files.read("/large.bin")
        with pytest.raises(StoreCorrupt, match=digest_of(LARGE)):
            _ = [line async for line in export_session(store, session.id)]


async def test_a_session_whose_layers_changed_opens_only_with_its_agent_given(
    rotting: tuple[Store, Damage],
) -> None:
    store, damage = rotting
    greeter = Agent("You greet.", name="greeter")
    model = Sim.always("Hello.")
    async with Runtime(store, model=model) as runtime:
        session = await runtime.session(greeter)
        await session.run("Hi.")
        layers = session.state.layers
    async with Runtime(store, model=model) as runtime:
        before = await runtime.store.read(session.id)
        await damage(layers)
        with pytest.raises(StoreCorrupt, match=f"{layers}.* have changed; restore a backup"):
            await runtime.open(session.id)
        assert await runtime.store.read(session.id) == before
        again = await runtime.open(session.id, greeter)
        assert (await again.run("Hi again.")).text == "Hello."


CALL = (call("pay", cents=5), say("Done."))


class Till:
    """A tool that was deployed in several versions, and the payments that all of them made."""

    def __init__(self) -> None:
        self.paid: list[int] = []

    def tool(self, name: str = "pay", effect: Effect = "once") -> Tool:
        async def pay(cents: int) -> str:
            """Pay."""
            self.paid.append(cents)
            return "paid"

        async def asked(ctx: Context) -> object:
            return "it was paid" if self.paid else NOT_DONE

        options: dict[str, Any] = {"reconcile": asked} if effect == "reconcile" else {}
        return tool(name=name, effect=effect, **options)(pay)

    def tool_in_words(self) -> Tool:
        """The same with another type of argument."""

        @tool(name="pay", effect="idempotent")
        async def pay(cents: tuple[str, str]) -> str:
            """Pay."""
            raise AssertionError(cents)

        return pay


async def cut_off_at(kind: str, agent: Agent) -> tuple[MemoryStore, str]:
    """The log of a turn of this agent as it was just after the first event of this kind."""
    async with Runtime(drain=0) as runtime:
        session = await runtime.session(agent)
        await session.run("Go.")
        events = await session.events()
    last = next(event.sequence for event in events if event.type == kind)
    store = MemoryStore()
    await store.open()
    await store.append(session.id, events[:last], expected=0, epoch=1)
    return store, session.id


async def resumed(store: MemoryStore, session_id: str, agent: Agent) -> list[Event]:
    """Go on with another deployment's agent; the log then."""
    async with Runtime(store, drain=0) as runtime:
        session = await runtime.open(session_id, agent)
        assert session.turn is not None
        assert (await session.turn).status == "completed"
        return await session.events()


@pytest.mark.parametrize("name", ["pay_now", None])
async def test_a_call_that_was_not_begun_and_whose_tool_has_another_name_now_is_an_error_result(
    name: str | None,
) -> None:
    till = Till()
    place = await cut_off_at("output.message.completed", agent_of(*CALL, tools=(till.tool(),)))
    till.paid.clear()
    others = (till.tool(name),) if name else ()
    events = await resumed(*place, agent_of(*CALL, tools=others))
    assert _statuses(events) == ["error"]
    outcome = next(event.data for event in events if isinstance(event.data, ToolCompleted))
    assert "there is no tool 'pay'" in outcome.result.text
    assert till.paid == []


async def test_a_call_that_was_begun_and_whose_arguments_do_not_fit_any_more_is_in_doubt() -> None:
    till = Till()
    place = await cut_off_at("tool.started", agent_of(*CALL, tools=(till.tool(effect="idempotent"),)))
    events = await resumed(*place, agent_of(*CALL, tools=(till.tool_in_words(),)))
    assert _statuses(events) == ["in_doubt"]
    assert till.paid == [5]


@pytest.mark.parametrize(
    ("then", "now", "status"),
    [
        ("pure", "pure", "ok"),
        ("pure", "once", "ok"),
        ("idempotent", "idempotent", "ok"),
        ("idempotent", "reconcile", "ok"),
        ("idempotent", "once", "in_doubt"),
        ("reconcile", "reconcile", "ok"),
        ("reconcile", "idempotent", "in_doubt"),
        ("reconcile", "once", "in_doubt"),
        ("once", "pure", "in_doubt"),
        ("once", "idempotent", "in_doubt"),
        ("once", "reconcile", "in_doubt"),
    ],
)
async def test_a_call_is_run_again_only_if_its_tool_allowed_it_then_and_allows_it_now(
    then: Effect, now: Effect, status: str
) -> None:
    till = Till()
    place = await cut_off_at("tool.started", agent_of(*CALL, tools=(till.tool(effect=then),)))
    events = await resumed(*place, agent_of(*CALL, tools=(till.tool(effect=now),)))
    assert _statuses(events) == [status]
    if now == "reconcile" or status == "in_doubt":
        assert till.paid == [5]


async def test_a_call_that_would_run_again_with_other_arguments_is_refused_and_stays_owed() -> None:
    async def decide(action: Action) -> Allow | Modify:
        return Modify(arguments='{"cents":6}') if action.kind == "tool" else Allow()

    till = Till()
    tools = (till.tool(effect="idempotent"),)
    store, session_id = await cut_off_at("tool.started", agent_of(*CALL, tools=tools))
    rounding = agent_of(*CALL, tools=tools, config=Config(policies=(Policy(name="rounding", decide=decide),)))
    with pytest.raises(DeterminismError, match="was claimed with other arguments"):
        await resumed(store, session_id, rounding)
    assert till.paid == [5]
    assert _statuses(await resumed(store, session_id, agent_of(*CALL, tools=tools))) == ["ok"]
    assert till.paid == [5, 5]


async def test_two_runtimes_with_different_agents_take_turns_and_the_log_says_which_ran() -> None:
    store = MemoryStore()
    old = Agent("You help.", name="helper", model=Sim.always("Old."), tools=[Till().tool()])
    new = Agent("You help otherwise.", name="helper", model=Sim.always("New."))
    async with Runtime(store) as one, Runtime(store) as other:
        mine = await one.session(old)
        assert (await mine.run("Go.")).text == "Old."
        theirs = await other.open(mine.id, new)
        assert (await theirs.run("Go.")).text == "New."
        assert (await mine.run("Go.")).text == "Old."
        events = await mine.events()
        digests = [event.data.manifest for event in events if isinstance(event.data, TurnStarted)]
        assert digests[0] == digests[2] != digests[1]
        for digest in set(digests):
            assert digest_of(await store.get_blob(digest)) == digest


async def test_a_call_that_one_runtime_asks_about_is_an_error_result_where_its_tool_is_gone() -> None:
    async def decide(action: Action) -> Allow | AskFor:
        return AskFor(reason="may I?") if action.kind == "tool" else Allow()

    store = MemoryStore()
    till = Till()
    careful = agent_of(
        *CALL, tools=(till.tool(),), config=Config(policies=(Policy(name="p", decide=decide),))
    )
    async with Runtime(store) as one, Runtime(store) as other:
        session = await one.session(careful)
        waiting = await session.run("Go.")
        theirs: Session = await other.open(session.id, agent_of(*CALL, tools=(till.tool("pay_now"),)))
        turn = theirs.turn
        assert turn is not None
        await theirs.approve(waiting.asks[0].ask_id, by="ana")
        assert (await turn).text == "Done."
        assert _statuses(await theirs.events()) == ["error"]
    assert till.paid == []
