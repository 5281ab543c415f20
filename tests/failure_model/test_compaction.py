"""A summary in place of the beginning of a transcript: cut off anywhere, it is whole or not there at all."""

from typing import Any

import pytest

from holdfast import Agent, CapabilityRef, Request, Runtime
from holdfast.driver import Emit, Reply
from holdfast.drivers.sim import Step, fail, say
from holdfast.facts.compaction import ContextCompacted
from holdfast.fold import fold
from holdfast.messages import Message
from holdfast.turn.abridge import INSTRUCTIONS, OPENING
from tests.failure_model.agents import agent_with
from tests.failure_model.world import Aftermath, Model, World, point, serve

INPUTS = tuple(f"{number} " + "some words that fill the transcript, " * 30 for number in range(5))
TAKES_IN = 4_800
"""Characters that the model takes in: less than all inputs together."""


def is_summary(request: Request) -> bool:
    return request.instructions.startswith(INSTRUCTIONS)


class Forgetful(Model):
    """A model that takes in little, and passes `summarising` and `summarised` when it is to sum up."""

    def __init__(self, sent: list[list[Message]]) -> None:
        super().__init__(self._answer)
        self._sent = sent

    async def reply(self, request: Request, emit: Emit) -> Reply:
        if not is_summary(request):
            self._sent.append(list(request.messages))
            return await super().reply(request, emit)
        await point("summarising")
        reply = await super().reply(request, emit)
        await point("summarised")
        return reply

    def _answer(self, request: Request) -> Step | str:
        if is_summary(request):
            return say("They talked.")
        if sum(len(message.text) for message in request.messages) > TAKES_IN:
            return fail("too_large")
        return f"Heard {request.messages[-1].text[0]}."


def forgetful(sent: list[list[Message]], **config: Any) -> Agent:
    capabilities = (CapabilityRef(name="compaction", config=config),)
    return agent_with(Forgetful(sent), capabilities=capabilities)


def summaries(after: Aftermath) -> list[ContextCompacted]:
    return [event.data for event in after.events if isinstance(event.data, ContextCompacted)]


def check_sent(sent: list[list[Message]], after: Aftermath) -> None:
    """What the model was told is the transcript up to there, as it is or with the one summary in front, and never
    something in between."""
    (done,) = summaries(after)
    ids = [message.id for message in after.messages]
    for messages in sent:
        told = [message.id for message in messages]
        start = done.covers if told[0] == done.summary.id else 0
        rest = told[1:] if start else told
        assert rest == ids[start : start + len(rest)]


@pytest.mark.parametrize(
    "place", ["summarising", "summarised", "before context.compacted", "after context.compacted"]
)
async def test_cp22_the_old_context_is_intact_until_the_summary_is_durable_and_the_originals_are_kept(
    world: World, place: str
) -> None:
    sent: list[list[Message]] = []
    agent = forgetful(sent)
    await world.kill(place, agent, lambda runtime: serve(runtime, agent, *INPUTS))
    events = await world.log()
    state = fold(events[0].session_id, events)
    there = place.startswith("after")
    assert (state.summary is not None, state.compacted > 0) == (there, there)
    async with world.runtime() as runtime:
        session = await runtime.open(state.session_id, read_only=True)
        before = await session.messages()
    assert [message.text for message in before if message.role == "user"] == list(INPUTS)
    after = await world.go_on(agent, *INPUTS)
    assert after.messages[: len(before)] == before
    assert [message.text for message in after.messages if message.role == "assistant"] == [
        f"Heard {number}." for number in range(5)
    ]
    (done,) = summaries(after)
    assert done.summary.text == sent[-1][0].text == OPENING + "They talked."
    check_sent(sent, after)


@pytest.mark.parametrize("place", ["after context.compaction.asked", "summarised"])
async def test_cp22_a_summary_that_somebody_wants_is_made_once_whoever_dies_over_it(
    world: World, place: str
) -> None:
    sent: list[list[Message]] = []
    agent = forgetful(sent, keep=0)

    async def ask(runtime: Runtime) -> None:
        session = await serve(runtime, agent, *INPUTS[:2])
        await session.compact(by="mia")
        await serve(runtime, agent, *INPUTS[:3])

    await world.kill(place, agent, ask)
    after = await world.go_on(agent, *INPUTS[:3])
    assert after.text == "Heard 2."
    assert [done.reason for done in summaries(after)] == ["asked"]
    assert after.kinds.count("context.compaction.asked") == 1
    check_sent(sent, after)
