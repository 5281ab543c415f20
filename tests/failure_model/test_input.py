"""An input, from the moment it is sent to the moment its turn begins."""

import asyncio

import pytest

from holdfast import Runtime, Session
from holdfast.drivers.sim import call
from holdfast.errors import OutcomeUnknown, StoreFull
from holdfast.events import InputMessage
from holdfast.fold import fold
from holdfast.testing import FailingStore, SlowStore, problems_in
from tests.failure_model.agents import agent_of, gated, toil
from tests.failure_model.world import INPUT, PATIENCE, World, rest

AGENT = agent_of("Hello.", "And again.")


async def with_session(runtime: Runtime) -> Session:
    """A session that is on the disk."""
    session = await runtime.session(AGENT)
    await session.update(title="here")
    return session


async def test_cp01_of_an_input_that_was_not_committed_nothing_is_stored_and_a_retry_is_accepted_once(
    world: World,
) -> None:
    await world.kill("before input.message", AGENT)
    async with world.runtime(AGENT) as runtime:
        assert await runtime.sessions() == []
    after = await world.go_on(AGENT)
    assert after.kinds.count("input.message") == 1
    assert after.text == "Hello."


async def test_cp02_a_retry_after_a_lost_reply_returns_the_same_turn_and_makes_no_second_one(
    world: World,
) -> None:
    await world.kill("after input.message", AGENT)
    (accepted,) = [event.data for event in await world.log() if isinstance(event.data, InputMessage)]
    async with world.runtime(AGENT) as runtime:
        (head,) = await runtime.sessions()
        session = await runtime.open(head.session_id)
        turn = await session.send(INPUT, key=INPUT)
        assert turn.id == accepted.turn_id
        assert (await turn).text == "Hello."
        after = await world.look_at(session)
    assert [message.id for message in after.messages if message.role == "user"] == [accepted.message.id]
    assert after.kinds.count("turn.started") == 1


async def test_cp03_a_full_disk_is_a_typed_error_and_leaves_nothing_partial_and_reads_go_on(
    world: World,
) -> None:
    store = FailingStore(world.disk.store(), StoreFull(), at=2)
    async with Runtime(store, agents=[AGENT]) as runtime:
        session = await with_session(runtime)
        before = await world.log(session.id)
        with pytest.raises(StoreFull):
            await session.send(INPUT, key=INPUT)
        assert await session.events() == before
        session = await runtime.open(session.id)
        assert (await session.run(INPUT, key=INPUT)).text == "Hello."
        assert (await world.look_at(session)).kinds.count("input.message") == 1


@pytest.mark.parametrize("done", [True, False], ids=["committed", "not committed"])
async def test_cp04_after_a_lost_commit_reply_a_retry_by_key_finds_or_inserts_and_never_both(
    world: World, done: bool
) -> None:
    store = FailingStore(world.disk.store(), OutcomeUnknown(), at=2, done=done)
    async with Runtime(store, agents=[AGENT]) as runtime:
        session = await with_session(runtime)
        with pytest.raises(OutcomeUnknown):
            await session.send(INPUT, key=INPUT)
        found = "input.message" in [event.type for event in await world.log(session.id)]
        assert found == done
        session = await runtime.open(session.id)
        assert (await session.run(INPUT, key=INPUT)).text == "Hello."
        assert (await world.look_at(session)).kinds.count("input.message") == 1


async def test_cp06_an_input_whose_sender_was_cancelled_is_found_by_its_key(world: World) -> None:
    async with Runtime(SlowStore(world.disk.store(), 0.05), agents=[AGENT]) as runtime:
        session = await with_session(runtime)
        sending = asyncio.ensure_future(session.send(INPUT, key=INPUT))
        await asyncio.sleep(0.01)
        sending.cancel()
        with pytest.raises(asyncio.CancelledError):
            await sending
        assert (await session.run(INPUT, key=INPUT)).text == "Hello."
        assert (await world.look_at(session)).kinds.count("input.message") == 1


async def test_cp07_a_message_is_a_projection_and_never_there_without_its_event(world: World) -> None:
    agent = agent_of(call("toil"), "Done.", tools=[toil(world)])
    for place in await world.places(agent):
        await world.disk.wipe()
        await world.kill_at(place, agent)
        async with world.runtime() as runtime:
            for head in await runtime.sessions():
                session = await runtime.open(head.session_id, read_only=True)
                events = await session.events()
                assert await session.messages() == fold(head.session_id, events).messages
                assert problems_in(events, at_rest=False) == []


async def test_cp08_an_accepted_input_whose_turn_had_not_begun_is_taken_up_by_a_sweep_once(
    world: World,
) -> None:
    model, agent = gated(world, "Hello.", "And again.")

    async def send_two(runtime: Runtime) -> None:
        session = await runtime.session(agent)
        await session.send("One.", key="One.")
        await session.send("Two.", key="Two.")
        model.gate.set()
        await rest(session)

    await world.kill("after turn.completed", agent, send_two)
    assert [event.type for event in await world.log()].count("turn.started") == 1
    async with world.runtime(agent) as runtime:
        stop = asyncio.Event()
        sweep = asyncio.ensure_future(runtime.work(stop=stop))
        async with asyncio.timeout(PATIENCE):
            while [event.type for event in await world.log()].count("turn.completed") < 2:
                await runtime.store.woken(0.1)
        stop.set()
        await sweep
        (head,) = await runtime.sessions()
        after = await world.look_at(await runtime.open(head.session_id))
    assert after.kinds.count("turn.started") == 2
    assert after.text == "And again."


async def test_cp08_an_input_that_was_left_for_a_writer_that_went_away_is_taken_up_by_a_sweep(
    world: World,
) -> None:
    async with world.runtime(AGENT) as runtime:
        session = await runtime.session(AGENT)
        await session.run("One.", key="One.")
    store = await world.watcher()
    await store.claim(session.id, owner="who goes away", hold=60)
    async with world.runtime(AGENT) as runtime:
        turn = await (await runtime.open(session.id)).send("Two.", key="Two.")
    await store.renew("who goes away", 0.0)
    async with world.runtime(AGENT) as runtime:
        assert await runtime.store.due(runtime.clock.now()) == [session.id]
        await runtime.drive(session.id)
        session = await runtime.open(session.id)
        await rest(session)
        after = await world.look_at(session)
    assert after.outcome is not None
    assert (after.outcome.turn_id, after.text) == (turn.id, "And again.")


async def test_cp09_two_inputs_at_once_are_recorded_in_order_and_one_waits_for_the_other(
    world: World,
) -> None:
    model, agent = gated(world, "Hello.", "And again.")
    async with world.runtime(agent) as runtime:
        session = await runtime.session(agent)
        one, two = await asyncio.gather(session.send("One."), session.send("Two."))
        assert (one.status, two.status) == ("running", "queued")
        model.gate.set()
        assert [(await turn).text for turn in (one, two)] == ["Hello.", "And again."]
        after = await world.look_at(session)
    inputs = [event.data.turn_id for event in after.events if isinstance(event.data, InputMessage)]
    began = [event.context.turn_id for event in after.events if event.type == "turn.started"]
    assert inputs == began == [one.id, two.id]
    assert after.kinds.index("turn.completed") < len(after.kinds) - 1 - after.kinds[::-1].index(
        "turn.started"
    )


async def test_cp09_inputs_from_two_processes_are_each_accepted_and_one_waits_for_the_other(
    world: World,
) -> None:
    model, agent = gated(world, "Hello.", "And again.")
    async with world.runtime(agent) as one, world.runtime(agent) as other:
        mine = await one.session(agent)
        first = await mine.send("One.", key="One.")
        theirs = await other.open(mine.id)
        second = await theirs.send("Two.", key="Two.")
        model.gate.set()
        assert [(await turn).text for turn in (first, second)] == ["Hello.", "And again."]
        events = await world.log()
    assert problems_in(events) == []
    assert [event.type for event in events].count("input.message") == 2


@pytest.mark.parametrize("place", ["before post", "after post"])
async def test_cp02_an_input_that_was_left_for_the_writer_is_accepted_once_when_it_is_sent_again(
    world: World, place: str
) -> None:
    model, agent = gated(world, "Hello.", "And again.")

    async def send(runtime: Runtime) -> None:
        (head,) = await runtime.sessions()
        await (await runtime.open(head.session_id)).send("Two.", key="Two.")

    async with world.runtime(agent) as runtime:
        session = await runtime.session(agent)
        await session.send("One.", key="One.")
        await world.kill(place, agent, send, beside=True)
        turn = await session.send("Two.", key="Two.")
        model.gate.set()
        assert (await turn).text == "And again."
    async with world.runtime(
        agent
    ) as runtime:  # a letter that came too late is thrown away by whoever is next
        for session_id in await runtime.store.due(runtime.clock.now()):
            await runtime.drive(session_id)
        assert await runtime.store.letters(session.id) == []
    events = await world.log()
    assert problems_in(events) == []
    assert [event.type for event in events].count("input.message") == 2


async def test_cp02_one_key_in_two_processes_is_one_turn(world: World) -> None:
    model, agent = gated(world)
    async with world.runtime(agent) as one, world.runtime(agent) as other:
        mine = await one.session(agent)
        await mine.send("One.", key="One.")
        theirs = await other.open(mine.id)
        left = await theirs.send("Two.", key="Two.")
        turn = await mine.send("Two.", key="Two.")
        assert turn.id == left.id
        model.gate.set()
        await turn
        events = await world.log()
    assert problems_in(events) == []
    assert [event.type for event in events].count("input.message") == 2
