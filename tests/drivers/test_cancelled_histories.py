"""After a turn was cancelled, wherever it stood, every provider takes the next request."""

import asyncio

import pytest

from holdfast import Agent, Runtime, tool
from holdfast.driver import Transcript
from holdfast.drivers.sim import Sim, Step, calls, say
from holdfast.testing import VirtualClock, run_virtual
from tests.turn.test_abridge import check_all


@tool(effect="pure")
async def look(where: str) -> str:
    """Look."""
    return f"nothing in {where}"


@tool(effect="once")
async def dig(where: str) -> str:
    """Dig, for an hour."""
    await asyncio.sleep(3_600)
    return "dug"


@tool(ask=True)
async def pay(cents: int) -> str:
    """Pay."""
    return "paid"


LOOK, DIG, PAY = ("look", {"where": "here"}), ("dig", {"where": "there"}), ("pay", {"cents": 5})
SLOWLY = {"pace": 1.0}

SCENES: dict[str, tuple[Step, ...]] = {
    "before its first word": (say("One two three.", delay=60.0),),
    "while it speaks": (say("One two three four five.", **SLOWLY),),
    "while it thinks": (say("One.", thinking="Let me think about this for a while.", **SLOWLY),),
    "while it asks for a call": (calls(LOOK, DIG, text="I will look.", **SLOWLY),),
    "while a call runs": (calls(DIG),),
    "while one call of three is settled": (calls(LOOK, DIG, PAY, text="All at once."),),
    "while a person is asked": (calls(PAY, LOOK),),
    "while it speaks after a call": (calls(LOOK), say("One two three four five.", **SLOWLY)),
}


@pytest.mark.parametrize("scene", SCENES)
def test_after_a_turn_that_was_cancelled_the_next_request_is_one_that_every_provider_takes(
    scene: str,
) -> None:
    async def main() -> None:
        model = Sim.storyboard(*SCENES[scene], say("Right."))
        agent = Agent("You help.", model=model, tools=[look, dig, pay])
        async with Runtime(clock=VirtualClock()) as runtime:
            session = await runtime.session(agent)
            turn = await session.send("Go.")
            await asyncio.sleep(2.5)
            assert (await turn.cancel("enough")).status == "cancelled"
            sent = (await session.inspect("And now?")).request.messages
            assert sent[-1].text == "And now?"
            check_all(Transcript(sent))
            assert (await session.run("And now?")).status == "completed"

    run_virtual(main())
