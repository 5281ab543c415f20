"""A call in doubt stays so until a person says what became of it, or has it run again."""

import asyncio
from pathlib import Path

import pytest

from holdfast import Agent, Runtime, Session, tool
from holdfast.drivers.sim import Sim, call, calls, say
from holdfast.errors import InputRejected, UnknownCall, UsageError
from holdfast.events import CallResolved, ToolStarted
from holdfast.fold import fold
from holdfast.state import decode_state, encode_state
from holdfast.store import Store
from holdfast.stores.memory import MemoryStore
from holdfast.testing import VirtualClock
from tests.turn.scenes import agent_of, assert_sound, cut_off, first, kinds, reopened, results, session_with

KEYS: list[str] = []


@tool(effect="once")
async def pay(cents: int) -> str:
    """Pay."""
    KEYS.append("paid")
    return f"paid {cents}"


@tool(effect="once")
async def hang() -> str:
    """Take for ever."""
    await asyncio.sleep(3_600)
    return "done at last"


def payer() -> Agent:
    return agent_of(call("pay", cents=5), say("I do not know."), say("All right."), tools=[pay])


async def in_doubt(agent: Agent | None = None) -> tuple[Store, str, str]:
    """A session whose one payment was cut off, as a store, its id, and the call's id."""
    agent = agent or payer()
    async with session_with(agent) as session:
        await session.run("Pay 5.")
        events = await session.events()
    store = await cut_off(events, first(events, "tool.started"))
    async with reopened(store, agent, session.id) as again:
        assert again.turn is not None
        result = await again.turn
        assert [doubt.name for doubt in result.in_doubt] == ["pay"]
        assert again.in_doubt == result.in_doubt
    KEYS.clear()
    return store, session.id, result.in_doubt[0].call_id


def sound(session: Session) -> None:
    state = session.state
    assert decode_state(encode_state(state)) == state


async def test_what_a_person_says_became_of_a_call_is_what_the_model_reads_from_then_on() -> None:
    store, session_id, call_id = await in_doubt()
    async with reopened(store, payer(), session_id) as session:
        before = session.state.sequence
        assert await session.resolve(call_id, result="paid 5", by="ada", reason="bank statement") is None
        assert session.in_doubt == ()
        (event,) = await session.events(before)
        assert isinstance(event.data, CallResolved)
        assert (event.data.by, event.data.reason) == ("ada", "bank statement")
        told = [message for message in await session.messages() if message.role == "tool"]
        assert [message.text for message in told] == ["paid 5"]
        inspected = await session.inspect("And now?")
        assert b"paid 5" in inspected.body
        assert b"In doubt" not in inspected.body
        assert (await session.run("And now?")).text == "All right."
        assert KEYS == [], "nothing was run"
        assert fold(session_id, await session.events()) == session.state
        sound(session)


async def test_a_prompt_that_was_sent_before_is_made_anew() -> None:
    store, session_id, call_id = await in_doubt()
    seen: list[str] = []

    def reply(request: object) -> str:
        seen.append(str([message.text for message in request.messages]))  # type: ignore[attr-defined]
        return "Yes."

    agent = Agent("You help.", name="agent", model=Sim.rule(reply), tools=[pay])
    async with reopened(store, agent, session_id) as session:
        await session.run("One.")
        await session.resolve(call_id, result="paid 5", by="ada")
        await session.run("Two.")
    assert "In doubt" in seen[0]
    assert "In doubt" not in seen[1]
    assert "paid 5" in seen[1]


async def test_a_call_that_a_person_wants_run_again_runs_once_with_its_key_and_no_model() -> None:
    store, session_id, call_id = await in_doubt()
    async with reopened(store, payer(), session_id) as session:
        turn = await session.resolve(call_id, rerun=True, by="ada")
        assert turn is not None
        result = await turn
        events = await session.events()
        assert (result.status, result.iterations, result.in_doubt) == ("completed", 0, ())
        assert KEYS == ["paid"]
        claims = [event.data for event in events if isinstance(event.data, ToolStarted)]
        assert [(claim.call_id, claim.attempt) for claim in claims] == [(call_id, 1), (call_id, 2)]
        told = [message for message in await session.messages() if message.role == "tool"]
        assert [message.text for message in told] == ["paid 5"]
        assert session.in_doubt == ()
        assert fold(session_id, events) == session.state
        assert_sound(events)
        sound(session)


async def test_a_run_again_that_is_cut_off_is_in_doubt_again_and_can_be_resolved() -> None:
    store, session_id, call_id = await in_doubt()
    async with reopened(store, payer(), session_id) as session:
        turn = await session.resolve(call_id, rerun=True, by="ada")
        assert turn is not None
        await turn
        events = await session.events()
    start = first(events, "call.resolved")
    for after in range(start, len(events)):
        cut = await cut_off(events, after)
        KEYS.clear()
        async with reopened(cut, payer(), session_id) as session:
            await asyncio.sleep(1)
            assert session.turn is None
            dispatched = sum(event.type == "tool.started" for event in events[:after]) > 1
            settled = sum(event.type == "tool.completed" for event in events[:after]) > 1
            assert bool(session.in_doubt) == (dispatched and not settled)
            assert ([] if dispatched else ["paid"]) == KEYS
            if session.in_doubt:
                await session.resolve(call_id, result="paid 5", by="ada")
            assert session.in_doubt == ()
            assert_sound(await session.events())


async def test_a_run_again_that_is_cancelled_before_it_began_leaves_the_call_in_doubt() -> None:
    store, session_id, call_id = await in_doubt()
    async with Runtime(store, clock=VirtualClock()) as runtime:
        session = await runtime.open(session_id, payer(), drive=False)
        turn = await session.resolve(call_id, rerun=True, by="ada")
        assert turn is not None
        assert (await turn.cancel("no")).status == "cancelled"
        assert [doubt.call_id for doubt in session.in_doubt] == [call_id]
    async with reopened(store, payer(), session_id) as session:
        await asyncio.sleep(1)
        assert session.turn is None
        assert [doubt.call_id for doubt in session.in_doubt] == [call_id]
        assert_sound(await session.events())
    assert KEYS == []


async def test_a_run_again_that_nobody_began_is_begun_after_a_restart() -> None:
    store, session_id, call_id = await in_doubt()
    async with Runtime(store, clock=VirtualClock()) as runtime:
        session = await runtime.open(session_id, payer(), drive=False)
        assert await session.resolve(call_id, rerun=True, by="ada") is not None
    assert KEYS == []
    async with reopened(store, payer(), session_id) as session:
        await asyncio.sleep(1)
        assert (session.turn, session.in_doubt) == (None, ())
    assert KEYS == ["paid"]


async def test_a_run_again_waits_for_the_turn_under_way() -> None:
    store, session_id, call_id = await in_doubt()
    agent = Agent("You help.", model=Sim.rule(lambda request: say("Slowly said.", pace=1.0)), tools=[pay])
    async with reopened(store, agent, session_id) as session:
        talking = await session.send("Talk.")
        turn = await session.resolve(call_id, rerun=True, by="ada")
        assert turn is not None
        assert turn.status == "queued"
        assert KEYS == []
        assert (await talking).text == "Slowly said."
        assert (await turn).status == "completed"
        assert KEYS == ["paid"]
        assert_sound(await session.events())


async def test_a_run_again_in_the_queue_can_be_cancelled_and_the_call_is_in_doubt_as_before() -> None:
    store, session_id, call_id = await in_doubt()
    agent = Agent("You help.", model=Sim.rule(lambda request: say("Slowly said.", pace=1.0)), tools=[pay])
    async with reopened(store, agent, session_id) as session:
        await session.send("Talk.")
        turn = await session.resolve(call_id, rerun=True, by="ada")
        assert turn is not None
        assert (await turn.cancel("no")).status == "cancelled"
        assert [doubt.call_id for doubt in session.in_doubt] == [call_id]
        assert KEYS == []


async def test_a_call_can_be_resolved_while_its_siblings_still_run() -> None:
    agent = agent_of(
        calls(("pay", {"cents": 5}), ("hang", {})), say("I see."), say("never"), tools=[pay, hang]
    )
    async with session_with(agent) as session:
        turn = await session.send("Both.")
        await asyncio.sleep(1)
        events = await session.events()
        await turn.cancel()
    store = await cut_off(events, first(events, "tool.started") + 1)
    async with reopened(store, agent, session.id) as again:
        await asyncio.sleep(1)
        doubts = again.in_doubt
        for doubt in doubts:
            await again.resolve(doubt.call_id, result="it happened", by="ada")
        assert again.in_doubt == ()
        await asyncio.sleep(4_000)
        assert "it happened" in [message.text for message in await again.messages()]
        assert_sound(await again.events())
        sound(again)
    assert doubts


async def test_a_call_that_is_not_in_doubt_cannot_be_resolved() -> None:
    store, session_id, call_id = await in_doubt()
    async with reopened(store, payer(), session_id) as session:
        with pytest.raises(UnknownCall, match=f"in doubt: {call_id}"):
            await session.resolve("call_7", result="x", by="ada")
        with pytest.raises(UsageError, match="either"):
            await session.resolve(call_id, by="ada")
        with pytest.raises(UsageError, match="either"):
            await session.resolve(call_id, result="x", rerun=True, by="ada")
        with pytest.raises(InputRejected):
            await session.resolve(call_id, result="x", by="\udc80")
        await session.resolve(call_id, result="x", by="ada")
        with pytest.raises(UnknownCall, match="in doubt: none"):
            await session.resolve(call_id, result="y", by="bob")
        assert kinds(await session.events()).count("call.resolved") == 1


async def test_a_run_again_that_fails_says_so_and_nothing_is_in_doubt() -> None:
    @tool(name="pay", effect="once")
    async def broken(cents: int) -> str:
        """Pay."""
        raise RuntimeError("no money")

    store, session_id, call_id = await in_doubt()
    agent = agent_of(say("x"), tools=[broken])
    async with reopened(store, agent, session_id) as session:
        turn = await session.resolve(call_id, rerun=True, by="ada")
        assert turn is not None
        assert (await turn).in_doubt == ()
        assert results(await session.events())[-1].status == "error"
        assert session.in_doubt == ()


async def test_a_tool_that_is_gone_cannot_be_run_again_and_the_call_stays_in_doubt() -> None:
    store, session_id, call_id = await in_doubt()
    async with reopened(store, agent_of(say("x")), session_id) as session:
        turn = await session.resolve(call_id, rerun=True, by="ada")
        assert turn is not None
        assert [doubt.call_id for doubt in (await turn).in_doubt] == [call_id]
        assert [doubt.call_id for doubt in session.in_doubt] == [call_id]


async def test_resolving_from_another_process_while_the_session_is_at_work_goes_by_letter(
    tmp_path: Path,
) -> None:
    store, session_id, call_id = await in_doubt()
    assert isinstance(store, MemoryStore)
    agent = Agent("You help.", model=Sim.rule(lambda request: say("Slowly said.", pace=1.0)), tools=[pay])
    async with reopened(store, agent, session_id) as session:
        talking = await session.send("Talk.")
        async with Runtime(_Shared(store), clock=VirtualClock()) as other:
            elsewhere = await other.open(session_id, agent, drive=False)
            await elsewhere.resolve(call_id, result="paid 5", by="ada")
            assert len(await store.letters(session_id)) == 1
        await talking
        assert session.in_doubt == ()
        assert await store.letters(session_id) == []


class _Shared:
    """The store of another runtime, which closes it itself."""

    def __init__(self, store: Store) -> None:
        self._store = store

    def __getattr__(self, name: str) -> object:
        return getattr(self._store, name)

    async def open(self) -> None:
        """It is open."""

    async def close(self) -> None:
        """It stays open."""
