"""What tests of turns share: runtimes in virtual time, questions to a log, and a log that was cut off somewhere."""

from collections import Counter
from collections.abc import AsyncIterator, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import Any

from holdfast import Agent, Event, Runtime, Session, Store, Tool, ToolResult
from holdfast.config import Config, Limits
from holdfast.drivers.sim import Sim, Step
from holdfast.events import (
    TURN_ENDS,
    CallResolved,
    InputMessage,
    OutputMessageCompleted,
    ToolCompleted,
    ToolStarted,
)
from holdfast.stores.memory import MemoryStore
from holdfast.testing import VirtualClock


def agent_of(
    *steps: Step | str,
    name: str = "agent",
    tools: Sequence[Tool] = (),
    limits: Limits | None = None,
    **config: Any,
) -> Agent:
    """An agent whose model plays these steps, by their place in the transcript."""
    return Agent(
        "You help.",
        name=name,
        model=Sim.storyboard(*steps),
        tools=tools,
        limits=limits,
        config=Config(**config),
    )


@asynccontextmanager
async def opened(
    agent: Agent, store: Store | None = None, session_id: str = "", **options: Any
) -> AsyncIterator[Session]:
    """A session of this agent in a runtime of its own, in virtual time: a new one, or that one as after a restart."""
    async with Runtime(store, clock=VirtualClock(), drain=0, **options) as runtime:
        yield await (runtime.open(session_id, agent) if session_id else runtime.session(agent))


def session_with(agent: Agent, store: Store | None = None) -> AbstractAsyncContextManager[Session]:
    """A new session of this agent, in virtual time."""
    return opened(agent, store)


def reopened(store: Store, agent: Agent, session_id: str) -> AbstractAsyncContextManager[Session]:
    """A session in another runtime on the same store, as after a restart."""
    return opened(agent, store, session_id)


async def cut_off(events: Sequence[Event], after: int) -> MemoryStore:
    """A store that holds only the first `after` of these events: what a crash there leaves."""
    store = MemoryStore()
    await store.open()
    await store.append(events[0].session_id, events[:after], expected=0, epoch=1)
    return store


def kinds(events: Sequence[Event]) -> list[str]:
    """The types of events, in order."""
    return [event.type for event in events]


def results(events: Sequence[Event]) -> list[ToolResult]:
    """The outcomes of calls, in the order in which they came."""
    return [event.data.result for event in events if isinstance(event.data, ToolCompleted)]


def claims(events: Sequence[Event]) -> list[ToolStarted]:
    """The claims of calls, in order."""
    return [event.data for event in events if isinstance(event.data, ToolStarted)]


def first(events: Sequence[Event], kind: str) -> int:
    """The sequence of the first event of this type."""
    return next(event.sequence for event in events if event.type == kind)


def assert_sound(events: Sequence[Event], *, at_rest: bool = True) -> None:
    """What holds of every log: numbered 1..n, one end per turn, one outcome per call, no outcome of nothing."""
    assert [event.sequence for event in events] == list(range(1, len(events) + 1))
    asked = [
        call.id
        for event in events
        if isinstance(event.data, OutputMessageCompleted)
        for call in event.data.message.calls
    ]
    reruns = [
        event.data for event in events if isinstance(event.data, CallResolved) and event.data.result is None
    ]
    answered = [result.call_id for result in results(events)]
    assert len(answered) <= len(set(answered)) + len(reruns), "a call with two outcomes"
    assert set(answered) <= set(asked)
    ends = Counter(event.context.turn_id for event in events if event.type in TURN_ENDS)
    assert set(ends.values()) <= {1}, "a turn with two ends"
    if at_rest:
        assert set(answered) == set(asked), "a call without an outcome"
        accepted = {event.data.turn_id for event in events if isinstance(event.data, InputMessage)}
        accepted |= {fact.turn_id for fact in reruns}
        assert set(ends) == accepted, "an input whose turn did not end"
