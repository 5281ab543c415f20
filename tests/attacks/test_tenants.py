"""What one of several who share a store may try on another: rows 096 to 098 of the checklist."""

from collections.abc import Awaitable
from itertools import pairwise

import pytest

from holdfast import Agent, Config, HoldfastError, Rate, Runtime, ToolResult, tool
from holdfast.drivers.sim import Sim, call, say
from holdfast.errors import CursorRefused


async def refusal(attempt: Awaitable[object]) -> tuple[type[HoldfastError], str]:
    with pytest.raises(HoldfastError) as caught:
        await attempt
    return type(caught.value), str(caught.value)


async def test_s096_what_belongs_to_another_session_is_answered_as_what_does_not_exist() -> None:
    @tool(ask=True)
    async def pay() -> str:
        """Pay."""
        return "paid"

    agent = Agent(name="payer", model=Sim.storyboard(call("pay"), say("Done.")), tools=[pay])
    async with Runtime() as runtime:
        theirs = await runtime.session(agent, organisation="acme")
        (ask,) = (await theirs.run("Go.")).asks
        mine = await runtime.session(agent, organisation="evil")
        await mine.run("Go.")
        absent = "ask_" + "0" * 32
        for attempt in (mine.approve, mine.deny):
            kind, words = await refusal(attempt(ask.ask_id, by="eve"))
            assert (kind, words) == await refusal_about(attempt(absent, by="eve"), absent, ask.ask_id)
        assert (await theirs.refresh()).asks.keys() == {ask.ask_id}


async def refusal_about(
    attempt: Awaitable[object], absent: str, present: str
) -> tuple[type[HoldfastError], str]:
    """The refusal, as if it had been about the other."""
    kind, words = await refusal(attempt)
    return kind, words.replace(absent, present)


async def test_s096_a_cursor_opens_nothing_but_what_it_was_made_for() -> None:
    agent = Agent(name="echo", model=Sim.always("Hi."))
    async with Runtime() as runtime:
        theirs, mine = await runtime.session(agent), await runtime.session(agent)
        await theirs.run("secret")
        await mine.run("mine")
        async with runtime.subscribe(theirs) as watching:
            await anext(watching)
            cursor = watching.cursor
        with pytest.raises(CursorRefused) as refused:
            runtime.subscribe(mine, after=cursor)
        assert refused.value.why == "scope"


async def test_s097_ids_made_in_the_same_instant_cannot_be_guessed_from_each_other() -> None:
    agent = Agent(name="echo", model=Sim.always("Hi."))
    async with Runtime() as runtime:
        ids = [(await runtime.session(agent)).id for _ in range(200)]
    tails = [int(found[-12:], 16) for found in ids]
    steps = {after - before for before, after in pairwise(tails)}
    assert len(set(ids)) == 200
    assert len(steps) == 199, "the last 48 bits follow from those before"


async def test_s098_a_rate_of_a_principal_is_not_used_up_by_another() -> None:
    @tool(effect="pure")
    async def look() -> str:
        """Look."""
        return "nothing"

    rate = Rate(tool="look", calls=1, per=3_600.0, scope="principal")

    async def outcome(runtime: Runtime, who: str) -> str:
        model = Sim.storyboard(call("look"), say("Done."))
        agent = Agent(model=model, tools=[look], config=Config(rates=(rate,)))
        session = await runtime.session(agent, principal=who)
        await session.run("Go.")
        (result,) = [it.content[0] for it in await session.messages() if it.role == "tool"]
        assert isinstance(result, ToolResult)
        return result.status

    async with Runtime() as runtime:
        assert [await outcome(runtime, who) for who in ("ann", "ann", "bob")] == ["ok", "error", "ok"]
