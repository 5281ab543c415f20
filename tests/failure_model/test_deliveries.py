"""Output that is handed to sinks, from an outbox: owed with the end of its turn, and settled once."""

import pytest

from holdfast import Agent, Delivery, Runtime, Session
from holdfast.events import Event
from tests.failure_model.agents import agent_of
from tests.failure_model.world import Aftermath, World, point, serve, until


class Box:
    """A receiver, which passes the places `delivering` and `delivered`."""

    def __init__(self, world: World) -> None:
        self._world = world

    async def deliver(self, delivery: Delivery) -> str:
        await point("delivering")
        self._world.act(f"{delivery.key} {delivery.text}")
        await point("delivered")
        return f"taken at attempt {delivery.attempt}"


class KnowingBox(Box):
    """One that can be asked what it has."""

    async def look_up(self, key: str) -> str | None:
        found = [it for it in self._world.ledger if it.startswith(key)]
        return "found" if found else None


PLACES = ("after turn.completed", "before sink.started", "after sink.started", "delivering", "delivered")


async def served(runtime: Runtime, agent: Agent, box: Box) -> Session:
    """The application after every start: it knows its sink, and waits until there is nothing left to do."""
    runtime.sink("box", box)
    session = await serve(runtime, agent)
    await until(lambda: not any(it.status == "owed" for it in session.deliveries))
    return session


async def gone_on(world: World, place: str, box: type[Box]) -> tuple[Aftermath, Session]:
    agent = agent_of("Hello.")
    await world.kill(place, agent, lambda runtime: served(runtime, agent, box(world)))
    async with world.runtime(agent) as runtime:
        session = await served(runtime, agent, box(world))
        return await world.look_at(session), session


def statuses(events: list[Event]) -> list[str]:
    return [event.data.status for event in events if event.type == "sink.delivered"]  # type: ignore[attr-defined]


@pytest.mark.parametrize("place", PLACES)
async def test_cp76_output_that_was_owed_when_its_process_died_arrives_once_where_the_sink_can_be_asked(
    world: World, place: str
) -> None:
    after, session = await gone_on(world, place, KnowingBox)
    assert statuses(after.events) == ["delivered"]
    assert len(world.ledger) == 1
    assert session.deliveries == ()
    assert after.kinds.count("turn.completed") == 1


@pytest.mark.parametrize("place", PLACES)
async def test_cp76_output_whose_delivery_was_cut_off_is_in_doubt_and_never_sent_again_on_a_guess(
    world: World, place: str
) -> None:
    after, session = await gone_on(world, place, Box)
    begun = place in PLACES[2:]
    assert statuses(after.events) == ["in_doubt" if begun else "delivered"]
    assert len(world.ledger) == (place == "delivered" or not begun)
    assert [it.status for it in session.deliveries] == (["in_doubt"] if begun else [])
