"""The front door: it opens, closes, hands sessions out, and leaves nothing running and nothing lost."""

import asyncio
import gc
import threading
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from holdfast import (
    Action,
    Agent,
    Allow,
    AskFor,
    CapabilityRef,
    Decision,
    Harness,
    Hook,
    HookEvent,
    Key,
    Message,
    Registry,
    Reply,
    Request,
    Rule,
    Runtime,
    Session,
    Tool,
    policy,
    tool,
)
from holdfast.config import Config, Limits
from holdfast.driver import Emit
from holdfast.drivers.sim import Sim, call, calls, fail, say
from holdfast.errors import (
    ConfigError,
    MissingService,
    RuntimeClosed,
    SessionHeld,
    StaleEpoch,
    StoreFull,
    StoreReadOnly,
    UnknownCapability,
    UnknownModel,
    UnknownSession,
    UsageError,
)
from holdfast.fold import fold
from holdfast.ids import new_id
from holdfast.store import Store
from holdfast.stores.memory import MemoryStore
from holdfast.stores.sqlite import SQLiteStore
from holdfast.testing import VirtualClock, run_virtual
from tests.turn.scenes import agent_of, assert_sound, claims, kinds, results


@pytest.fixture(params=["memory", "sqlite"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Store:
    """A store of each kind."""
    return MemoryStore() if request.param == "memory" else SQLiteStore(tmp_path / "log.db")


@pytest.fixture(autouse=True)
def _no_thread_is_left() -> Iterator[None]:
    before = set(threading.enumerate())
    yield
    left = {thread for thread in set(threading.enumerate()) - before if thread.name.startswith("holdfast")}
    assert left == set()


@tool(effect="pure")
async def look(place: str) -> str:
    """Look."""
    return f"nothing at {place}"


LOOK = (call("look", place="home"), say("done"))


def parrot(**options: Any) -> Agent:
    """An agent that can be written down but for its model."""
    return Agent("You repeat.", name="parrot", **options)


def echo(request: Request) -> str:
    return f"You said: {request.messages[-1].text}"


# --- before, after, and around -------------------------------------------------------------------------------------


async def test_outside_its_block_a_runtime_is_closed() -> None:
    runtime = Runtime()
    for _ in range(2):
        for ask in (runtime.session(agent_of()), runtime.open(new_id("session")), runtime.sessions()):
            with pytest.raises(RuntimeClosed, match="async with Runtime"):
                await ask
        async with runtime:
            assert await runtime.sessions() == []


async def test_a_session_of_a_closed_runtime_says_so_and_writes_nothing(store: Store) -> None:
    async with Runtime(store) as runtime:
        session = await runtime.session(agent_of(*LOOK, tools=[look]))
        turn = await session.send("go")
        result = await turn
    for late in (
        session.send("more"),
        session.run("more"),
        session.update(title="a"),
        session.approve("ask", by="a"),
    ):
        with pytest.raises(RuntimeClosed, match=session.id):
            await late
    assert await turn == result, "what is known is still told"
    await store.open()
    assert len(await store.read(session.id)) == 9 - 1
    await store.close()


async def test_closing_twice_is_fine(store: Store) -> None:
    async with Runtime(store) as runtime:
        await runtime.close()
        await runtime.close()


async def test_an_error_in_the_block_reaches_the_caller_at_once() -> None:
    async def fail() -> None:
        async with Runtime(drain=3_600) as runtime:
            session = await runtime.session(agent_of(say("a", delay=3_600)))
            await session.send("go")
            raise LookupError("mine")

    with pytest.raises(LookupError, match="mine"):
        await fail()


async def tasks_left() -> set[asyncio.Task[Any]]:
    await asyncio.sleep(0)
    return {task for task in asyncio.all_tasks() if task is not asyncio.current_task()}


async def test_no_task_outlives_the_runtime(store: Store) -> None:
    @tool
    async def sleep() -> None:
        """Sleep."""
        await asyncio.sleep(3_600)

    @tool(ask=True)
    async def pay() -> None:
        """Pay."""

    before = await tasks_left()
    plans = [
        agent_of(say("a")),
        agent_of(say("a", delay=3_600)),
        agent_of(calls(("sleep", {}), ("sleep", {})), tools=[sleep]),
        agent_of(call("pay"), tools=[pay]),
        agent_of(call("pay"), tools=[pay], limits=Limits(turn_timeout=86_400)),
    ]
    async with Runtime(store, drain=0.05) as runtime:
        for agent in plans:
            session = await runtime.session(agent)
            turn = await session.send("go")
            await session.send("more")
            async for _ in turn:
                break
        assert await tasks_left() - before
    assert await tasks_left() - before == set()


async def test_a_turn_begun_and_closed_at_once_leaves_no_waiting_behind() -> None:
    async with Runtime(drain=0) as runtime:
        turn = await (await runtime.session(agent_of(say("a", delay=3_600)))).send("go")

        async def wait() -> Any:
            return await turn

        waiter = asyncio.create_task(wait())
    with pytest.raises(RuntimeClosed):
        await waiter


def test_leaving_waits_for_what_runs() -> None:
    async def main() -> tuple[str, float]:
        async with Runtime(clock=VirtualClock()) as runtime:
            turn = await (await runtime.session(agent_of(say("done", delay=20)))).send("go")
        return (await turn).text, asyncio.get_running_loop().time()

    assert run_virtual(main()) == ("done", 20.0)


def test_leaving_waits_for_a_model_that_must_be_asked_again() -> None:
    async def main() -> tuple[str, float]:
        answers = iter([fail("overloaded", retry_after=10.0), say("done")])
        async with Runtime(clock=VirtualClock()) as runtime:
            turn = await (await runtime.session(Agent(model=Sim.rule(lambda request: next(answers))))).send(
                "go"
            )
        return (await turn).text, asyncio.get_running_loop().time()

    assert run_virtual(main()) == ("done", 10.0)


def test_leaving_waits_no_longer_than_it_was_told() -> None:
    async def main() -> float:
        async with Runtime(clock=VirtualClock(), drain=5) as runtime:
            turn = await (await runtime.session(agent_of(say("done", delay=20)))).send("go")
        with pytest.raises(RuntimeClosed):
            await turn
        return asyncio.get_running_loop().time()

    assert run_virtual(main()) == 5.0


@pytest.mark.parametrize("limits", [None, Limits(turn_timeout=86_400)], ids=["for ever", "with a deadline"])
def test_leaving_does_not_wait_for_people(limits: Limits | None) -> None:
    @tool(ask=True)
    async def pay() -> None:
        """Pay."""

    async def main() -> float:
        async with Runtime(clock=VirtualClock()) as runtime:
            session = await runtime.session(agent_of(call("pay"), tools=[pay], limits=limits))
            await session.run("go")
        return asyncio.get_running_loop().time()

    assert run_virtual(main()) == 0.0


def test_leaving_finishes_the_turn_under_way_and_begins_no_other() -> None:
    async def main() -> list[str]:
        store = MemoryStore()
        async with Runtime(store, clock=VirtualClock()) as runtime:
            session = await runtime.session(agent_of(say("one", delay=5), say("two")))
            await session.send("a")
            behind = await session.send("b")
        with pytest.raises(RuntimeClosed):
            await behind
        await store.open()
        return kinds(await store.read(session.id))

    assert run_virtual(main())[-2:] == ["output.message.completed", "turn.completed"]


class Watched:
    """A driver that remembers whether it was closed."""

    wire = "watched"
    closed = 0
    fail = False

    async def reply(self, request: Request, emit: Emit) -> Reply:
        return await Sim.always("hello").reply(request, emit)

    def encode(self, request: Request) -> bytes:
        return b""

    async def close(self) -> None:
        self.closed += 1
        if self.fail:
            raise OSError("the connection would not close")


async def test_drivers_that_the_runtime_made_are_closed_with_it() -> None:
    driver = Watched()
    async with Runtime(registry=Registry(drivers={"mine": lambda: driver}), model="mine/model") as runtime:
        assert (await (await runtime.session(Agent())).run("go")).text == "hello"
        assert driver.closed == 0
    assert driver.closed == 1


async def test_a_store_is_closed_even_when_a_driver_will_not_be(tmp_path: Path) -> None:
    before = set(threading.enumerate())
    driver = Watched()
    driver.fail = True
    runtime = Runtime(
        tmp_path / "log.db", registry=Registry(drivers={"mine": lambda: driver}), model="mine/model"
    )
    await runtime.__aenter__()
    await (await runtime.session(Agent())).run("go")
    with pytest.raises(OSError, match="would not close"):
        await runtime.close()
    assert not [it for it in threading.enumerate() if it.name.startswith("holdfast") and it not in before]


# --- sessions ------------------------------------------------------------------------------------------------------


async def test_sessions_are_listed_the_latest_written_first(store: Store) -> None:
    async with Runtime(store) as runtime:
        made = [await runtime.session(agent_of(say("a"), say("b"))) for _ in range(3)]
        for session in (*made, made[0]):
            await session.run("go")
        heads = await runtime.sessions()
        assert [head.session_id for head in heads] == [made[0].id, made[2].id, made[1].id]
        assert [head.session_id for head in await runtime.sessions(limit=1, offset=1)] == [made[2].id]
        assert heads[0].sequence == made[0].state.sequence


@pytest.mark.parametrize(
    "text", ["", "session", "session_x", "turn_" + "0" * 32, "session_" + "0" * 31, "\ud800"]
)
async def test_an_id_that_is_none_is_refused(text: str) -> None:
    async with Runtime() as runtime:
        with pytest.raises(UsageError):
            await runtime.open(text)


async def test_an_unknown_session_is_an_error_that_says_what_to_do(store: Store) -> None:
    async with Runtime(store) as runtime:
        with pytest.raises(UnknownSession, match="holdfast sessions"):
            await runtime.open(new_id("session"))


async def test_opening_a_session_that_is_open_here_is_the_same_session() -> None:
    async with Runtime() as runtime:
        session = await runtime.session(agent_of(say("one"), say("two")))
        await session.run("a")
        again = await runtime.open(session.id)
        assert again.state is session.state
        one, two = await asyncio.gather(runtime.open(session.id), runtime.open(session.id))
        assert one.state is two.state
        assert (await again.run("b")).text == "two"
        assert_sound(await session.events())


async def test_opening_from_many_tasks_at_once_makes_one_session(store: Store) -> None:
    agent = agent_of(say("one"), say("two"))
    async with Runtime(store) as runtime:
        session = await runtime.session(agent)
        await session.run("a")
    async with Runtime(store) as runtime:
        opened = await asyncio.gather(*[runtime.open(session.id, agent) for _ in range(10)])
        assert len({id(session.state) for session in opened}) == 1
        assert (await opened[3].run("b")).text == "two"


async def test_a_session_nobody_holds_is_let_go(store: Store) -> None:
    agent = agent_of(say("one"), say("two"))
    async with Runtime(store) as runtime:
        session_id = await _one_turn(runtime, agent)
        gc.collect()
        again = await runtime.open(session_id, agent)
        assert (await again.run("b")).text == "two"
        assert_sound(await again.events())


async def _one_turn(runtime: Runtime, agent: Agent) -> str:
    session = await runtime.session(agent)
    await session.run("a")
    return session.id


async def test_a_session_finds_its_agent_again_by_name(store: Store) -> None:
    agent = Agent("You look.", name="looker", model=Sim.storyboard(*LOOK, say("more")), tools=[look])
    async with Runtime(store) as runtime:
        session = await runtime.session(agent)
        await session.run("a")
    async with Runtime(store, agents=[agent]) as runtime:
        again = await runtime.open(session.id)
        assert (await again.run("b")).text == "more"


async def test_an_agent_with_functions_must_be_given_again(store: Store) -> None:
    agent = Agent("You look.", name="looker", model=Sim.storyboard(*LOOK, say("more")), tools=[look])
    async with Runtime(store) as runtime:
        session = await runtime.session(agent)
        await session.run("a")
    async with Runtime(store) as runtime:
        with pytest.raises(ConfigError, match="tool look, driver sim") as missing:
            await runtime.open(session.id)
        assert "agents=[...]" in str(missing.value)
        assert "'looker'" in str(missing.value)
        assert (await (await runtime.open(session.id, agent)).run("b")).text == "more"


async def test_an_agent_of_words_alone_comes_back_from_the_log(store: Store) -> None:
    registry = Registry(drivers={"echo": lambda: Sim.rule(echo)})
    agent = parrot(
        model="echo/any", capabilities=[CapabilityRef(name="files")], limits=Limits(max_iterations=7)
    )
    async with Runtime(store, registry=registry) as runtime:
        session = await runtime.session(agent, harness=Harness("House rules.", name="house"))
        digest = (await session.inspect()).manifest.digest
        await session.run("a")
    async with Runtime(store, registry=Registry(drivers={"echo": lambda: Sim.rule(echo)})) as runtime:
        again = await runtime.open(session.id)
        manifest = (await again.inspect()).manifest
        assert manifest.digest == digest
        assert (manifest.instructions.splitlines()[0], manifest.max_iterations) == ("House rules.", 7)
        assert (await again.run("b")).text == "You said: b"


async def test_rules_of_a_session_and_its_harness_hold_when_only_its_agent_is_given_again(
    store: Store,
) -> None:
    house = Harness(
        "House rules.",
        name="house",
        config=Config(rules=(Rule(id="h", decision="ask", name="look", arguments={"place": "work"}),)),
    )
    own = Config(instructions="Your name is Mia.", rules=(Rule(id="s", decision="deny", name="look"),))
    agent = Agent("You look.", name="looker", model=Sim.storyboard(*LOOK, say("more")), tools=[look])
    async with Runtime(store) as runtime:
        session = await runtime.session(agent, harness=house, config=own)
        before = (await session.inspect()).manifest
        await session.run("a")
    for known, given in (([agent], None), ([], agent)):
        async with Runtime(store, agents=known) as runtime:
            again = await runtime.open(session.id, given)
            manifest = (await again.inspect()).manifest
            assert (manifest.digest, manifest.instructions) == (before.digest, before.instructions)
            assert [rule.id for rule in manifest.rules] == ["h", "s"]
            assert await runtime.recover() == []
    async with Runtime(store, agents=[agent]) as runtime:
        again = await runtime.open(
            session.id, harness=Harness(name="other"), config=Config(instructions="Ben.")
        )
        manifest = (await again.inspect()).manifest
        assert (manifest.instructions, manifest.rules) == ("You look.\n\nBen.", ())


async def test_functions_of_a_harness_or_a_session_must_be_given_again(store: Store) -> None:
    agent = Agent("You look.", name="looker", model=Sim.storyboard(*LOOK, say("more")))
    house = Harness(name="house", tools=[look])

    @policy
    async def nobody(action: Action) -> Decision:
        return Allow()

    async with Runtime(store) as runtime:
        session = await runtime.session(agent, harness=house, config=Config(policies=(nobody,)))
        await session.run("a")
    async with Runtime(store, agents=[agent]) as runtime:
        with pytest.raises(
            ConfigError, match=r"tool look, policy nobody, .*harness 'house'.*; its config"
        ) as missing:
            await runtime.open(session.id)
        assert "agents=" not in str(missing.value)
        again = await runtime.open(session.id, harness=house, config=Config(policies=(nobody,)))
        assert (await again.run("b")).text == "more"


@pytest.mark.parametrize("how", ["await", "open", "recover"])
@pytest.mark.parametrize("lasts", [None, 3_600.0])
async def test_an_answer_that_another_process_recorded_is_gone_on_with_where_its_session_is_open(
    store: Store, how: str, lasts: float | None
) -> None:
    agent = Agent("You look.", name="looker", model=Sim.storyboard(*LOOK), tools=[look])
    ask = Hook(id="h", point="before_tool", run=asking(lasts))
    async with Runtime(store, agents=[agent]) as runtime, Runtime(store) as elsewhere:
        session = await runtime.session(agent, config=Config(hooks=(ask,)))
        turn = await session.send("a")
        (asked,) = (await turn).asks
        await (await elsewhere.open(session.id, drive=False)).approve(asked.ask_id, by="mia")
        async with asyncio.timeout(20):
            if how == "open":
                await runtime.open(session.id)
            elif how == "recover":
                await runtime.recover()
            if how != "await":
                async for event in session.follow():
                    if event.type == "turn.completed":
                        break
            assert (await turn).text == "done"


def asking(lasts: float | None) -> Any:
    async def ask(event: HookEvent) -> Decision:
        return AskFor(reason="may it?", expires_in=lasts)

    return ask


async def test_layers_stand_on_each_other() -> None:
    low = Harness("First.", name="low", model=Sim.always("low"), limits=Limits(max_iterations=3))
    high = Harness("Second.", name="high", parent=low)
    agent = parrot(limits=Limits(turn_timeout=9))
    async with Runtime(model=Sim.always("runtime")) as runtime:
        session = await runtime.session(agent, harness=high, config=Config(instructions="Last.", locale="de"))
        manifest = (await session.inspect()).manifest
        assert manifest.instructions.split("\n\n")[:4] == ["First.", "Second.", "You repeat.", "Last."]
        assert (manifest.max_iterations, manifest.turn_timeout, manifest.locale) == (3, 9, "de")
        assert (await session.run("go")).text == "low"
        assert (await (await runtime.session(parrot())).run("go")).text == "runtime"


async def test_services_are_lent_to_tools() -> None:
    desk: Key[str] = Key("desk")

    async def read(ctx: Any, arguments: Any) -> str:
        return ctx.scope[desk]

    reader = Tool(name="read", description="Read.", parameters=look.parameters, run=read, needs=(desk,))
    agent = agent_of(call("read", place="x"), say("done"), tools=[reader])
    async with Runtime(services={desk: "the runtime's"}) as runtime:
        for lent, expected in ((None, "the runtime's"), ({desk: "the session's"}, "the session's")):
            session = await runtime.session(agent, services=lent)
            await session.run("go")
            assert [it.text for it in await session.messages() if it.role == "tool"] == [expected]
    async with Runtime() as runtime:
        with pytest.raises(MissingService, match="'desk'"):
            await runtime.session(agent)


@pytest.mark.parametrize(
    ("agent", "error"),
    [
        (Agent(model="nobody/x"), UnknownModel),
        (Agent(model="no slash"), UnknownModel),
        (Agent(), UnknownModel),
        (Agent(model=Sim.always("a"), capabilities=["no such"]), UnknownCapability),
        (Agent(model=Sim.always("a"), limits=Limits(max_iterations=0)), ConfigError),
    ],
    ids=["vendor", "form", "none", "capability", "limit"],
)
async def test_what_cannot_be_resolved_is_an_error_before_anything_is_written(
    agent: Agent, error: type[Exception], store: Store
) -> None:
    async with Runtime(store) as runtime:
        with pytest.raises(error):
            await runtime.session(agent)
        assert await runtime.sessions() == []


# --- read-only -----------------------------------------------------------------------------------------------------


async def test_a_read_only_session_takes_nothing_over_and_runs_nothing(store: Store) -> None:
    agent = agent_of(*LOOK, say("more"), tools=[look])
    async with Runtime(store) as runtime:
        session = await runtime.session(agent)
        await session.run("a")
    async with Runtime(store) as runtime:
        watching = await runtime.open(session.id, read_only=True)
        events = await watching.events()
        assert_sound(events)
        assert await watching.messages()
        assert watching.state == fold(session.id, events)
        for write in (
            watching.send("b"),
            watching.update(title="b"),
            watching.files.write("/a.txt", b""),
        ):
            with pytest.raises((UsageError, ConfigError)):
                await write
        assert await watching.events() == events
        head = await runtime.store.head(session.id)
        assert head is not None
        assert head.epoch == 1
        writing = await runtime.open(session.id, agent)
        assert (await writing.run("b")).text == "more"


async def test_a_session_that_is_driven_here_is_opened_read_only_all_the_same(store: Store) -> None:
    async with Runtime(store) as runtime:
        session = await runtime.session(agent_of(say("one"), say("two")))
        await session.run("a")
        watching = await runtime.open(session.id, read_only=True)
        before = await watching.events()
        with pytest.raises(UsageError, match="read-only"):
            await watching.send("b")
        assert await watching.events() == before
        assert (await runtime.open(session.id)).state is session.state
        turn = await session.send("c")
        await turn
        assert (await watching.handle(turn.id)).text == "two"
        assert [it.sequence for it in await watching.events()] == list(range(1, len(before) + 5))


async def test_a_file_opened_read_only_can_be_looked_at(tmp_path: Path) -> None:
    agent = agent_of(*LOOK, tools=[look])
    async with Runtime(tmp_path / "log.db") as runtime:
        session = await runtime.session(agent)
        turn = await session.send("a", key="a")
        await turn
    async with Runtime(SQLiteStore(tmp_path / "log.db", read_only=True)) as runtime:
        assert [head.session_id for head in await runtime.sessions()] == [session.id]
        watching = await runtime.open(session.id, read_only=True)
        assert [message.text for message in await watching.messages()][-1] == "done"
        writing = await runtime.open(session.id, agent)
        with pytest.raises(StoreReadOnly):
            await writing.send("b")


# --- cut off, and opened again -------------------------------------------------------------------------------------


async def cut_off_and_reopened(store: Store, agent: Agent, begun: asyncio.Event) -> list[Message]:
    """Close while a turn runs, as soon as this has begun, then open and let it end. Returns the transcript."""
    async with Runtime(store, drain=0) as runtime:
        session = await runtime.session(agent)
        turn = await session.send("go")
        await begun.wait()
    async with Runtime(store) as runtime:
        again = await runtime.open(session.id, agent)
        handle = again.turn
        assert handle is not None
        assert handle.id == turn.id
        async with asyncio.timeout(60):
            assert (await handle).status == "completed"
        events = await again.events()
        assert_sound(events)
        assert fold(session.id, events) == again.state
        return await again.messages()


async def test_a_turn_cut_off_while_the_model_speaks_is_finished_once(store: Store) -> None:
    begun, calls_made = asyncio.Event(), []

    def choose(request: Request) -> Any:
        begun.set()
        calls_made.append(1)
        return say("a long answer", delay=0.0 if len(calls_made) > 1 else 3_600)

    messages = await cut_off_and_reopened(store, Agent(model=Sim.rule(choose)), begun)
    assert len(calls_made) == 2
    assert [message.text for message in messages] == ["go", "a long answer"]


@pytest.mark.parametrize(("effect", "runs", "status"), [("idempotent", 2, "ok"), ("once", 1, "in_doubt")])
async def test_a_turn_cut_off_while_a_tool_runs_is_finished_once(
    effect: Any, runs: int, status: str, store: Store
) -> None:
    begun, attempts = asyncio.Event(), []

    @tool(effect=effect)
    async def work() -> str:
        """Work."""
        begun.set()
        attempts.append(1)
        if len(attempts) == 1:
            await asyncio.sleep(3_600)
        return "worked"

    agent = agent_of(call("work"), say("done"), tools=[work])
    messages = await cut_off_and_reopened(store, agent, begun)
    assert len(attempts) == runs
    assert [it.content[0].status for it in messages if it.role == "tool"] == [status]  # type: ignore[union-attr]


async def test_an_input_that_waited_is_answered_after_a_restart(store: Store) -> None:
    slow = iter([3_600.0, 0.0, 0.0])
    agent = Agent(model=Sim.rule(lambda request: say(echo(request), delay=next(slow))))
    async with Runtime(store, drain=0) as runtime:
        session = await runtime.session(agent)
        await session.send("a")
        behind = await session.send("b", key="b")
        await asyncio.sleep(0.01)
    async with Runtime(store) as runtime:
        again = await runtime.open(session.id, agent)
        assert (await (await again.send("b", key="b"))).text == "You said: b"
        assert (await (await again.send("b", key="b"))).turn_id == behind.id
        assert_sound(await again.events())


async def test_recovery_may_be_cut_off_again_and_again(store: Store) -> None:
    """Each runtime gets a little further, however soon the next one takes over."""

    @tool(effect="idempotent")
    async def step(number: int) -> int:
        """Take a step."""
        return number

    plan = [call("step", number=number) for number in range(6)]
    agent = agent_of(*plan, say("there"), tools=[step])
    async with Runtime(store, drain=0) as runtime:
        session = await runtime.session(agent)
        await session.send("go")
    for patience in range(60):
        async with Runtime(store, drain=0) as runtime:
            again = await runtime.open(session.id, agent)
            await again.resume(by="whoever lets a parked turn go on")
            for _ in range(patience):
                await asyncio.sleep(0)
            if again.turn is None:
                break
    else:
        async with Runtime(store) as runtime:
            again = await runtime.open(session.id, agent)
            await again.resume(by="whoever lets a parked turn go on")
            if again.turn is not None:
                await again.turn
    await store.open()
    events = await store.read(session.id)
    await store.close()
    assert_sound(events)
    assert [result.text for result in results(events)] == [str(number) for number in range(6)]
    keys = {claim.call_id for claim in claims(events)}
    assert len(keys) == 6


async def test_what_is_said_to_a_session_at_work_elsewhere_is_recorded_there(store: Store) -> None:
    begun, release = asyncio.Event(), asyncio.Event()

    @tool
    async def work() -> str:
        """Work until released."""
        begun.set()
        await release.wait()
        return "worked"

    agent = agent_of(call("work"), say("done"), say("more"), say("and more"), tools=[work])
    async with Runtime(store) as runtime, Runtime(store) as other:
        session = await runtime.session(agent)
        turn = await session.send("go")
        await begun.wait()
        watching = await other.open(session.id, agent)
        with pytest.raises(SessionHeld):
            await watching.resume()
        mine = await watching.send("mine")
        assert mine.status == "queued"
        await watching.update(title="ours")
        async for event in session.follow():
            if event.type == "session.updated":
                break
        release.set()
        assert (await turn).text == "done"
        assert (await mine).text == "more", "it ran where the session was at work"
        assert (await watching.run("and here")).text == "and more", "whoever writes next takes over"
        events = await session.events()
        assert_sound(events)
        assert fold(session.id, events) == watching.state
        assert len({result.call_id for result in results(events)}) == 1


async def test_a_writer_that_was_superseded_in_the_middle_of_a_turn_writes_nothing_more(store: Store) -> None:
    begun, gate = asyncio.Event(), asyncio.Event()

    class Slow(Sim):
        async def reply(self, request: Request, emit: Emit) -> Reply:
            begun.set()
            await gate.wait()
            return await super().reply(request, emit)

    async with Runtime(store) as runtime:
        session = await runtime.session(Agent(model=Slow.always("one")))
        turn = await session.send("go")
        await begun.wait()
        await store.renew(_owner_of(session), 0.0)  # as if its lease had run out while it was asleep
        await store.claim(session.id, owner="somebody else", hold=0.0)
        gate.set()
        with pytest.raises(StaleEpoch, match="took over"):
            await turn
        assert kinds(await session.events()) == ["session.created", "input.message", "turn.started"]
        again = await runtime.open(session.id)
        assert again.turn is not None
        assert (await again.turn).text == "one", "whoever holds it next goes on"
        assert_sound(await again.events())


def _owner_of(session: Session) -> str:
    return session._journal.writer.name


class SmallDisk(MemoryStore):
    """A disk without room while `full` is set."""

    full = False

    def append(self, *args: Any, **options: Any) -> asyncio.Future[None]:
        if not self.full:
            return super().append(*args, **options)
        refused: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        refused.set_exception(StoreFull("the disk is full"))
        return refused


async def test_a_session_goes_on_once_there_is_room_again() -> None:
    store = SmallDisk()
    agent = agent_of(say("one", delay=0.01), say("two"))
    async with Runtime(store) as runtime:
        session = await runtime.session(agent)
        turn = await session.send("a")
        store.full = True
        with pytest.raises(StoreFull):
            await turn
        with pytest.raises(StoreFull):
            await session.send("b")
        store.full = False
        again = await runtime.open(session.id, agent)
        assert again.turn is not None
        assert (await again.turn).text == "one"
        assert (await again.run("b")).text == "two"
        assert_sound(await again.events())


# --- many ----------------------------------------------------------------------------------------------------------


async def test_many_sessions_share_a_store(store: Store) -> None:
    agent = agent_of(*LOOK, tools=[look])
    async with Runtime(store) as runtime:

        async def one() -> Session:
            session = await runtime.session(agent)
            assert (await session.run("go")).text == "done"
            return session

        sessions = await asyncio.gather(*[one() for _ in range(100)])
        for session in sessions:
            assert_sound(await session.events())
        assert len(await runtime.sessions(limit=1_000)) == 100


async def test_a_clock_of_ones_own_stamps_the_events() -> None:
    class Late:
        def now(self) -> Any:
            return VirtualClock().now() + timedelta(days=1)

    async with Runtime(clock=Late()) as runtime:
        session = await runtime.session(agent_of(say("done")))
        await session.run("go")
        days = {(event.ts.year, event.ts.day) for event in await session.events()}
    assert len(days) == 1
