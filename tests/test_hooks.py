"""Hooks before a turn change what the model is told and not what was said; those after it run at least once."""

import asyncio
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from holdfast import (
    Agent,
    Capability,
    Config,
    Deny,
    Fact,
    Hook,
    HookEvent,
    Image,
    Interrupt,
    Modify,
    Request,
    Runtime,
    Session,
    SQLiteStore,
    Store,
    Text,
    Usage,
    tool,
)
from holdfast.capability import Compaction
from holdfast.drivers.sim import Sim, calls, fail, say
from holdfast.events import HookDecided, TurnCompleted
from holdfast.facts.hooks import HooksOwed, HooksRun
from holdfast.fold import fold
from holdfast.hook import Point
from holdfast.stores.memory import MemoryStore
from holdfast.testing import crashtest


@pytest.fixture(params=["memory", "sqlite"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Store:
    return MemoryStore() if request.param == "memory" else SQLiteStore(tmp_path / "h.db")


def hook(decide: Any, point: Point = "before_turn", id: str = "t:h", **options: Any) -> Hook:
    async def run(event: HookEvent) -> Any:
        return decide(event) if callable(decide) else decide

    return Hook(id=id, point=point, run=run, **options)


def shout(event: HookEvent) -> Modify:
    assert event.message is not None
    return Modify(message=event.message.text.upper())


def told(request: Request) -> list[str]:
    return [message.text for message in request.messages if message.role == "user"]


class Listening:
    """A model that remembers what it was told."""

    def __init__(self, *script: Any, model: Sim | None = None) -> None:
        self.model = model or Sim.storyboard(*(script or (say("Done."),) * 9))
        self.heard: list[list[str]] = []
        inner = self.model.reply

        async def reply(request: Request, emit: Any) -> Any:
            self.heard.append(told(request))
            return await inner(request, emit)

        self.model.reply = reply  # type: ignore[method-assign]


async def until(holds: Callable[[], object]) -> None:
    """Wait for what nothing tells of."""
    while not holds():  # noqa: ASYNC110
        await asyncio.sleep(0.001)


async def settled(session: Session) -> list[Fact]:
    """What is on the log once the hooks after the turn are."""
    while not isinstance((events := await session.events())[-1].data, HooksRun):  # noqa: ASYNC110
        await asyncio.sleep(0.001)
    return [event.data for event in events]


def agent(model: Any, *hooks: Hook, **config: Any) -> Agent:
    return Agent("x", name="a", model=model, config=Config(hooks=hooks, **config))


async def said(session: Session) -> list[str]:
    return [message.text for message in await session.messages() if message.role == "user"]


async def test_the_model_is_told_other_words_and_the_log_keeps_what_was_said(store: Store) -> None:
    listening = Listening()
    async with Runtime(store) as runtime:
        session = await runtime.session(agent(listening.model, hook(shout)))
        await session.run("hello")
        await session.run("again")
        assert listening.heard == [["HELLO"], ["HELLO", "AGAIN"]]
        assert await said(session) == ["hello", "again"]
        facts = [event.data for event in await session.events() if isinstance(event.data, HookDecided)]
        assert [(it.point, it.decision, it.view) for it in facts] == [
            ("before_turn", "modify", "HELLO"),
            ("before_turn", "modify", "AGAIN"),
        ]
        assert told((await session.inspect()).request) == ["HELLO", "AGAIN"]


async def test_a_session_opened_later_tells_the_model_the_same(tmp_path: Path) -> None:
    async with Runtime(tmp_path / "h.db") as runtime:
        session = await runtime.session(agent(Listening().model, hook(shout)))
        await session.run("hello")
    listening = Listening()
    async with Runtime(tmp_path / "h.db") as runtime:
        session = await runtime.open(session.id, agent(listening.model))  # whatever its hooks are now
        await session.run("again")
        assert listening.heard == [["HELLO", "again"]]
        events = await session.events()
    assert fold(session.id, events).views == session.state.views


async def test_each_hook_sees_what_those_before_it_changed_and_pictures_stay() -> None:
    picture = Image(url="https://example.com/a.png")
    listening = Listening()
    async with Runtime() as runtime:
        hooks = [hook(shout, id="a"), hook(lambda event: Modify(message=event.message.text + "!"), id="b")]
        session = await runtime.session(agent(listening.model, *hooks))
        await session.run((Text(text="look"), picture))
        request = (await session.inspect()).request
    assert listening.heard == [["LOOK!"]]
    assert request.messages[0].content == (Text(text="LOOK!"), picture)


async def test_a_hook_blocks_the_prompt_before_the_model_hears_it() -> None:
    listening = Listening()
    async with Runtime() as runtime:
        session = await runtime.session(agent(listening.model, hook(Deny("not here"))))
        result = await session.run("hello")
        await asyncio.sleep(0)
    assert (result.status, result.stop, listening.heard) == ("failed", "interrupted", [])
    assert result.error is not None
    assert result.error.message == "not here"


@pytest.mark.parametrize("decision", [Modify(message=""), Modify(arguments="{}"), Modify()])
async def test_a_change_that_leaves_nothing_to_say_refuses(decision: Modify) -> None:
    async with Runtime() as runtime:
        session = await runtime.session(agent(Listening().model, hook(decision)))
        assert (await session.run("hello")).stop == "interrupted"


async def test_what_steers_a_turn_passes_the_same_hooks() -> None:
    listening = Listening(calls(("wait", {})), say("Done."))
    steered = asyncio.Event()

    @tool(effect="pure")
    async def wait() -> str:
        """Wait."""
        await steered.wait()
        return "waited"

    async with Runtime() as runtime:
        session = await runtime.session(agent(listening.model, hook(shout), tools=(wait,)))
        turn = await session.send("hello")
        await until(lambda: session.state.turn and session.state.turn.calls)
        await session.steer("more")
        steered.set()
        assert (await turn).status == "completed"
        assert await said(session) == ["hello", "more"]
    assert listening.heard == [["HELLO"], ["HELLO", "MORE"]]


async def test_steering_cannot_slip_a_blocked_prompt_past_a_guard() -> None:
    listening = Listening(calls(("wait", {})), say("Done."))
    steered = asyncio.Event()

    @tool(effect="pure")
    async def wait() -> str:
        """Wait."""
        await steered.wait()
        return "waited"

    guard = hook(lambda event: Deny("no") if "evil" in event.message.text else None, guard=True)
    async with Runtime() as runtime:
        session = await runtime.session(agent(listening.model, guard, tools=(wait,)))
        turn = await session.send("hello")
        await until(lambda: session.state.turn and session.state.turn.calls)
        await session.steer("evil")
        steered.set()
        assert (await turn).stop == "interrupted"
    assert listening.heard == [["hello"]]


async def test_a_stored_verdict_is_not_asked_for_again(tmp_path: Path) -> None:
    asked: list[str] = []

    def once(event: HookEvent) -> Modify:
        asked.append(event.message.text if event.message else "")
        return Modify(message=f"{len(asked)}")

    def stuck(event: HookEvent) -> Any:
        return None

    async def never(event: HookEvent) -> None:
        await asyncio.Event().wait()

    first = [hook(once, id="a"), Hook(id="b", point="before_reason", run=never, timeout=30.0)]
    async with Runtime(tmp_path / "h.db") as runtime:
        session = await runtime.session(agent(Listening().model, *first))
        await session.send("hello")
        await until(lambda: session.state.views)
        await runtime.close(drain=0)
    listening = Listening()
    async with Runtime(tmp_path / "h.db") as runtime:
        session = await runtime.open(
            session.id, agent(listening.model, hook(once, id="a"), hook(stuck, id="c"))
        )
        assert session.turn is not None
        assert (await session.turn).status == "completed"
    assert (asked, listening.heard) == (["hello"], [["1"]])


async def test_a_failed_model_call_is_tried_again_with_the_same_words() -> None:
    listening = Listening(model=Sim.script(fail("overloaded"), say("Done.")))
    asked: list[str] = []

    def count(event: HookEvent) -> Modify:
        asked.append("")
        return Modify(message=f"asked {len(asked)}")

    async with Runtime() as runtime:
        session = await runtime.session(agent(listening.model, hook(count)))
        assert (await session.run("hello")).status == "completed"
    assert set(map(tuple, listening.heard)) == {("asked 1",)}


async def test_a_summary_is_made_of_what_the_model_was_told() -> None:
    bodies: list[str] = []

    spy = Listening(*[say("word " * 200, usage=Usage(input_tokens=400, output_tokens=200))] * 12)
    inner = spy.model.reply

    async def reply(request: Request, emit: Any) -> Any:
        bodies.append(" ".join(message.text for message in request.messages))
        return await inner(request, emit)

    spy.model.reply = reply  # type: ignore[method-assign]
    compact = Capability(name="c", compaction=Compaction(threshold=300, keep=50))
    async with Runtime() as runtime:
        session = await runtime.session(
            agent(spy.model, hook(lambda event: Modify(message="[hidden]")), capabilities=(compact,))
        )
        for number in range(4):
            await session.run(f"my secret is canary{number} " * 20)
        assert session.state.compacted
    assert not any("canary" in body for body in bodies)


async def test_a_replaced_result_is_kept_only_where_the_hook_keeps_it(store: Store) -> None:
    @tool(effect="pure")
    async def read() -> str:
        """Read."""
        return "the original canary"

    def hooks(keep: bool) -> Hook:
        return hook(Modify(result="[hidden]"), "after_tool", keep_original=keep)

    async with Runtime(store) as runtime:
        for keep in (True, False):
            model = Sim.storyboard(calls(("read", {})), say("Done."))
            session = await runtime.session(agent(model, hooks(keep), tools=(read,)))
            await session.run("go")
            fact = next(it.data for it in await session.events() if isinstance(it.data, HookDecided))
            assert (fact.original is not None) == keep
            if fact.original is not None:
                assert b"the original canary" in await store.get_blob(fact.original.digest)


# --- after the turn


async def test_hooks_after_a_turn_run_once_and_the_log_says_so(store: Store) -> None:
    seen: list[HookEvent] = []
    async with Runtime(store) as runtime:
        after = hook(lambda event: seen.append(event), "after_turn")
        session = await runtime.session(agent(Listening().model, after))
        await session.run("hello")
        kinds = [event.type for event in await session.events()][-3:]
        assert session.state.aftermath == {}
        assert session.state.due() is None
    assert kinds == ["turn.completed", "hooks.owed", "hooks.run"]
    assert [(it.status, it.attempt, it.message and it.message.text) for it in seen] == [
        ("completed", 1, "Done.")
    ]


async def _cut_off(place: Path) -> str:
    """A session whose process went away while its hooks after the turn ran."""

    async def never(event: HookEvent) -> None:
        await asyncio.Event().wait()

    async with Runtime(place) as runtime:
        after = Hook(id="t:h", point="after_turn", run=never, timeout=30.0)
        session = await runtime.session(agent(Listening().model, after))
        await session.send("hello")
        await until(lambda: session.state.aftermath)
        await runtime.close(drain=0)
        return session.id


async def test_hooks_that_were_cut_off_run_when_the_session_is_gone_on_with(tmp_path: Path) -> None:
    session_id = await _cut_off(tmp_path / "h.db")
    seen: list[HookEvent] = []
    again = agent(Listening().model, hook(lambda event: seen.append(event), "after_turn"))
    async with Runtime(tmp_path / "h.db", agents=[again]) as runtime:
        [session] = await runtime.recover()
        facts = await settled(session)
        assert await runtime.recover() == []
    assert session.id == session_id
    assert [(it.status, it.attempt, it.message and it.message.text) for it in seen] == [
        ("completed", 2, "Done.")
    ]
    assert [type(it) for it in facts[-4:]] == [TurnCompleted, HooksOwed, HooksOwed, HooksRun]


async def test_hooks_that_break_the_process_each_time_are_given_up(tmp_path: Path) -> None:
    session_id = await _cut_off(tmp_path / "h.db")

    async def never(event: HookEvent) -> None:
        await asyncio.Event().wait()

    for _ in range(2):
        async with Runtime(tmp_path / "h.db") as runtime:
            after = Hook(id="t:h", point="after_turn", run=never, timeout=30.0)
            session = await runtime.open(session_id, agent(Listening().model, after))
            before = dict(session.state.aftermath)
            await until(lambda: session.state.aftermath != before)  # noqa: B023
            await runtime.close(drain=0)
    async with Runtime(tmp_path / "h.db") as runtime:
        session = await runtime.open(session_id, agent(Listening().model, after))
        last = (await settled(session))[-1]
    assert isinstance(last, HooksRun)
    assert last.reason == "they were begun 3 times, and cut off each time"


async def test_what_is_said_next_does_not_wait_for_hooks_that_are_owed(tmp_path: Path) -> None:
    session_id = await _cut_off(tmp_path / "h.db")
    seen: list[str] = []
    again = agent(Listening().model, hook(lambda event: seen.append(event.turn_id), "after_turn"))
    async with Runtime(tmp_path / "h.db") as runtime:
        session = await runtime.open(session_id, again)
        result = await session.run("more")
        await until(lambda: not session.state.aftermath)
    assert result.status == "completed"
    assert len(set(seen)) == 2


ENDED: list[tuple[str, int]] = []


def test_hooks_survive_a_crash_anywhere() -> None:
    def make() -> Agent:
        async def before(event: HookEvent) -> Any:
            return Modify(message="HELLO") if event.message and event.message.text != "HELLO" else None

        async def after(event: HookEvent) -> None:
            ENDED.append((event.turn_id, event.attempt))

        @tool(effect="idempotent")
        async def look(page: int) -> str:
            """Look."""
            return f"page {page}"

        return Agent(
            "x",
            name="a",
            model=Sim.storyboard(calls(("look", {"page": 1})), say("Done.")),
            tools=[look],
            config=Config(
                hooks=(
                    Hook(id="t:before", point="before_turn", run=before),
                    Hook(id="t:after", point="after_turn", run=after),
                )
            ),
        )

    ENDED.clear()
    report = crashtest(make, "hello", limit=120)
    report.check()
    turns = {turn_id for turn_id, _ in ENDED}
    assert report.kills
    assert len(turns) >= report.scenarios, "in every scenario the hooks after the turn ran"
    assert any(attempt > 1 for _, attempt in ENDED)


# --- who brings them


async def test_capabilities_come_first_and_their_hooks_carry_their_name() -> None:
    order: list[str] = []

    def noting(name: str, point: Point = "before_turn") -> Hook:
        return hook(lambda event: order.append(name), point, id=name)

    bundle = Capability(name="bundle", hooks=(noting("check"), noting("bundle:named")))
    async with Runtime() as runtime:
        session = await runtime.session(
            agent(Listening().model, noting("mine"), noting("check"), capabilities=(bundle,))
        )
        await session.run("hello")
        manifest = (await session.inspect()).manifest
    assert order == ["check", "bundle:named", "mine", "check"]
    assert [it.id for it in manifest.hooks] == ["bundle:check", "bundle:named", "mine", "check"]


async def test_a_muted_hook_is_not_asked_and_explain_says_so() -> None:
    order: list[str] = []
    bundle = Capability(name="bundle", hooks=(hook(lambda event: order.append("x"), id="check"),))
    async with Runtime() as runtime:
        loud = await runtime.session(agent(Listening().model, capabilities=(bundle,)))
        muted = await runtime.session(
            agent(Listening().model, capabilities=(bundle,)), config=Config(muted_hooks=("bundle:check",))
        )
        await muted.run("hello")
        told = {it.field: it for it in (await muted.inspect()).manifest.explain()}
        digests = {(await it.inspect()).manifest.digest for it in (loud, muted)}
    assert order == []
    assert told["muted_hooks.bundle:check"].layers == ("session",)
    assert told["hooks.bundle:check"].layers == ("capability bundle",)
    assert len(digests) == 2


async def test_every_layers_muted_hooks_count() -> None:
    hooks = tuple(hook(Interrupt("no"), id=name) for name in ("a", "b"))
    async with Runtime() as runtime:
        session = await runtime.session(
            agent(Listening().model, *hooks, muted_hooks=("a",)), config=Config(muted_hooks=("b", "a"))
        )
        assert (await session.run("hello")).status == "completed"
