"""A transcript that has become too long is summarised for the model, once, and nothing of it is lost."""

from collections.abc import AsyncIterator, Callable, Sequence
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from holdfast import (
    Agent,
    Config,
    Event,
    Interrupt,
    Limits,
    MemoryStore,
    Message,
    Policy,
    Registry,
    Request,
    Runtime,
    Session,
    Settings,
    SQLiteStore,
    ToolError,
    Usage,
    tool,
)
from holdfast import history as reading
from holdfast.budget import Budget
from holdfast.capability import CapabilityRef
from holdfast.catalogue import ModelInfo, Prices
from holdfast.drivers.sim import Sim, Step, call, calls, fail, say
from holdfast.errors import InputRejected
from holdfast.events import OutputMessageCompleted, ReasonFailed
from holdfast.facts.budgets import BudgetReserved
from holdfast.facts.compaction import CompactionFailed, ContextCompacted
from holdfast.fold import fold
from holdfast.hook import Allow, Decision
from holdfast.policy import Action
from holdfast.state import encode_state
from holdfast.store import Store
from holdfast.testing import Ledger, VirtualClock, crashtest
from holdfast.testing.invariants import problems_in
from holdfast.turn.abridge import INSTRUCTIONS, OPENING, WORD_FOR_WORD
from tests.turn.scenes import cut_off, first, kinds

LINE = "some words that fill the transcript, " * 30
"""About a thousand characters."""

SPENT = Usage(input_tokens=900, output_tokens=50)


def compaction(**config: Any) -> CapabilityRef:
    return CapabilityRef(name="compaction", config=config)


def is_summary(request: Request) -> bool:
    """Whether this request asks for a summary."""
    return request.instructions.startswith(INSTRUCTIONS)


def size(request: Request) -> int:
    return sum(len(message.text) for message in request.messages)


def narrow(limit: int, *, answer: Callable[[Request], Step | str] | None = None, summary: Any = None) -> Sim:
    """A model that refuses more than `limit` characters, and summarises what it is told."""

    def choose(request: Request) -> Step | str:
        if is_summary(request):
            return summary(request) if callable(summary) else summary or say("They talked.", usage=SPENT)
        if size(request) > limit:
            return fail("too_large", "prompt is too long")
        return answer(request) if answer else f"heard {len(request.messages)}"

    return Sim.rule(choose)


def agent_of(sim: Sim, *more: CapabilityRef, **options: Any) -> Agent:
    return Agent("You help.", name="helper", model=sim, capabilities=more or (compaction(),), **options)


@pytest.fixture(params=["memory", "sqlite"])
async def store(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Store]:
    store: Store = MemoryStore() if request.param == "memory" else SQLiteStore(tmp_path / "log.db")
    yield store
    await store.close()


async def talk(session: Session, turns: int) -> None:
    for number in range(turns):
        assert (await session.run(f"{number} {LINE}")).status == "completed"


def facts(events: Sequence[Event], kind: type) -> list[Any]:
    return [event.data for event in events if isinstance(event.data, kind)]


async def sound(session: Session) -> list[Event]:
    """The session's events, which are as they should be and say what its state says."""
    events = await session.events()
    assert problems_in(events) == []
    assert encode_state(session.state) == encode_state(fold(session.id, events))
    return events


def answered(messages: Sequence[Message]) -> None:
    """Raise `AssertionError` unless each call is followed by its result, and each result follows its call."""
    waiting: list[str] = []
    for message in messages:
        if message.role == "tool":
            assert message.content[0].call_id == waiting.pop(0)  # type: ignore[union-attr]
        else:
            assert not waiting
            waiting = [it.id for it in message.calls]
    assert not waiting


# -- too large


async def test_a_request_that_is_too_large_is_made_smaller_and_sent_again(store: Store) -> None:
    sim = narrow(5_000)
    async with Runtime(store) as runtime:
        session = await runtime.session(agent_of(sim))
        await talk(session, 12)
        events = await sound(session)
        messages = await session.messages()
        sent = sim.requests[-1].messages
    done = facts(events, ContextCompacted)
    assert done
    assert not facts(events, CompactionFailed)
    assert {it.reason for it in done} == {"too_large"}
    assert [message.text.split()[0] for message in messages[::2]] == [str(n) for n in range(12)]
    assert len(messages) == 24, "the transcript is whole"
    assert sent[0].text == OPENING + "They talked."
    assert list(sent[1:]) == messages[done[-1].covers : len(messages) - 1]
    at = [kind for kind in kinds(events) if kind.startswith(("reason", "context", "output"))]
    place = at.index("reason.failed")
    assert at[place : place + 3] == ["reason.failed", "context.compacted", "output.message.completed"]


async def test_a_fact_says_what_was_summarised_and_what_it_cost() -> None:
    prices = ModelInfo(name="m", prices=(Prices(Decimal(1), Decimal(2)),))
    sim = narrow(5_000, answer=lambda request: say("ok", usage=Usage(input_tokens=10, output_tokens=1)))
    registry = Registry(drivers={"sim": sim}, models={"sim/m": prices})
    agent = Agent(model="sim/m", capabilities=[compaction()])
    async with Runtime(registry=registry) as runtime:
        session = await runtime.session(agent)
        await talk(session, 5)
        (done,) = facts(await sound(session), ContextCompacted)
        messages = await session.messages()
        turn = session.state.outcome
    assert done.upto == messages[done.covers - 1].id
    assert (done.messages_before, done.messages_after) == (9, 9 - done.covers + 1)
    assert (done.tokens_before, done.usage, done.cost) == (11, SPENT, Decimal("0.001"))
    assert turn is not None
    assert turn.usage == SPENT + Usage(input_tokens=10, output_tokens=1), "the turn pays for it"
    assert turn.cost == Decimal("0.001012")
    assert session.state.usage.input_tokens == 5 * 10 + 900
    assert turn.iterations == 1


async def test_a_request_that_stays_too_large_fails_its_turn_after_one_summary() -> None:
    sim = narrow(5_000)
    async with Runtime() as runtime:
        session = await runtime.session(agent_of(sim))
        await talk(session, 2)
        result = await session.run("x" * 30_000)
        events = await sound(session)
        assert (await session.run("short")).status == "completed", "what was too large is summarised by then"
    assert result.error is not None
    assert (result.status, result.error.code) == ("failed", "too_large")
    ours = [event for event in events if event.context.turn_id == result.turn_id]
    assert [it.reason for it in facts(ours, ReasonFailed)] == ["too_large", "too_large"]
    assert len(facts(ours, ContextCompacted)) == 1


async def test_each_reply_may_have_a_summary_of_its_own() -> None:
    @tool(effect="pure")
    async def read(page: int) -> str:
        """Read."""
        return f"{page} {LINE}"

    def answer(request: Request) -> Step | str:
        pages = [int(message.text.split()[0]) for message in request.messages if message.role == "tool"]
        page = max(pages, default=0) + 1
        return call("read", page=page) if page <= 20 else "All read."

    sim = narrow(4_500, answer=answer)
    async with Runtime() as runtime:
        session = await runtime.session(agent_of(sim, tools=[read]))
        result = await session.run("Read all pages.")
        events = await sound(session)
    assert (result.text, result.iterations) == ("All read.", 21)
    assert len(facts(events, ContextCompacted)) > 3
    for request in sim.requests:
        answered(list(request.messages))


async def test_without_the_capability_a_request_that_is_too_large_fails() -> None:
    async with Runtime() as runtime:
        session = await runtime.session(Agent(model=narrow(3_000)))
        await talk(session, 2)
        result = await session.run(LINE)
        assert not facts(await sound(session), ContextCompacted)
    assert result.status == "failed"


async def test_the_request_that_is_worked_on_stays_word_for_word() -> None:
    @tool(effect="pure")
    async def read() -> str:
        """Read."""
        return LINE

    def answer(request: Request) -> Step | str:
        done = sum(message.role == "tool" for message in request.messages)
        last = request.messages[-1].text
        return "ok" if last == "Before that." else call("read") if done < 2 else "enough"

    sim = narrow(2_000, answer=answer)
    async with Runtime() as runtime:
        session = await runtime.session(agent_of(sim, tools=[read]))
        await session.run("Before that.")
        await session.run("Pay 17 euros to Zoe.")
        events = await sound(session)
    told = facts(events, ContextCompacted)[-1].summary.text
    assert told == OPENING + "They talked." + WORD_FOR_WORD + "Pay 17 euros to Zoe."


# -- the threshold


@pytest.mark.parametrize(
    ("config", "window"), [({"threshold": 4_000}, None), ({}, 4_706), ({"threshold": 0.5}, 8_000)]
)
async def test_a_transcript_beyond_the_threshold_is_summarised_before_the_next_request(
    config: dict[str, Any], window: int | None
) -> None:
    def answer(request: Request) -> Step:
        return say("ok", usage=Usage(input_tokens=size(request), output_tokens=0))

    sim = narrow(100_000, answer=answer)
    registry = Registry(drivers={"sim": sim}, models={"sim/m": ModelInfo(name="m", context_window=window)})
    agent = Agent(model="sim/m", capabilities=[compaction(**config)])
    async with Runtime(registry=registry) as runtime:
        session = await runtime.session(agent)
        await talk(session, 20)
        events = await sound(session)
    done = facts(events, ContextCompacted)
    assert len(done) > 2
    assert {it.reason for it in done} == {"threshold"}
    assert all(4_000 < it.tokens_before < 4_000 + 1_300 for it in done)
    assert max(size(request) for request in sim.requests if not is_summary(request)) < 4_000 + 2_400


async def test_without_a_window_that_is_known_nothing_is_summarised_in_advance() -> None:
    sim = narrow(100_000, answer=lambda request: say("ok", usage=Usage(input_tokens=10**6)))
    async with Runtime() as runtime:
        session = await runtime.session(agent_of(sim))
        await talk(session, 5)
        assert not facts(await sound(session), ContextCompacted)


async def test_a_summary_is_not_an_iteration_and_is_not_made_where_no_reply_can_follow() -> None:
    sim = narrow(100_000, answer=lambda request: say("ok", usage=Usage(input_tokens=9_000)))
    async with Runtime() as runtime:
        session = await runtime.session(
            agent_of(sim, compaction(threshold=5_000), limits=Limits(max_iterations=1))
        )
        await talk(session, 4)
        events = await sound(session)
    assert len(facts(events, ContextCompacted)) == 3
    assert kinds(events)[-2:] == ["output.message.completed", "turn.completed"]


# -- failures


async def test_a_summary_that_failed_is_tried_again_later() -> None:
    tries: list[int] = []

    def summary(request: Request) -> Step:
        tries.append(1)
        return fail("overloaded") if len(tries) < 3 else say("They talked.")

    sim = narrow(5_000, summary=summary)
    async with Runtime(clock=VirtualClock()) as runtime:
        session = await runtime.session(agent_of(sim))
        await talk(session, 5)
        events = await sound(session)
    failed = facts(events, CompactionFailed)
    assert [(it.attempt, it.error_kind, it.retry_at is None) for it in failed] == [
        (1, "overloaded", False),
        (2, "overloaded", False),
    ]
    (done,) = facts(events, ContextCompacted)
    assert done.attempt == 3
    assert facts(events, OutputMessageCompleted)[-1].attempt == 1, "attempts at the reply are counted apart"


async def test_a_summary_that_fails_for_good_leaves_the_transcript_as_it_was() -> None:
    sim = narrow(5_000, summary=fail("content_policy", "no"))
    async with Runtime() as runtime:
        session = await runtime.session(agent_of(sim))
        await talk(session, 4)
        result = await session.run(LINE)
        events = await sound(session)
        assert session.state.summary is None
        assert len(await session.messages()) == session.message_count == 9
    assert result.error is not None
    assert (result.status, result.error.code, result.error.message) == (
        "failed",
        "too_large",
        "prompt is too long",
    )
    (failed,) = facts(events, CompactionFailed)
    assert (failed.error.message, failed.retry_at) == ("no", None)


async def test_a_summary_in_advance_that_fails_stops_nothing() -> None:
    @tool(effect="pure")
    async def look() -> str:
        """Look."""
        return LINE

    def answer(request: Request) -> Step:
        usage = Usage(input_tokens=9_000)
        more = sum(message.role == "tool" for message in request.messages) % 4 != 3
        return calls(("look", {}), usage=usage) if more else say("ok", usage=usage)

    sim = narrow(100_000, answer=answer, summary=fail("authentication", "no"))
    async with Runtime() as runtime:
        session = await runtime.session(agent_of(sim, compaction(threshold=5_000), tools=[look]))
        assert (await session.run("go")).status == "completed"
        assert len(facts(await sound(session), CompactionFailed)) == 1, "one try in a turn is enough"


@pytest.mark.parametrize("answer", [say(""), say("no", stop="refusal"), say("\ud800")])
async def test_an_answer_that_is_no_summary_is_a_failure(answer: Step) -> None:
    sim = narrow(5_000, summary=answer)
    async with Runtime(clock=VirtualClock()) as runtime:
        session = await runtime.session(agent_of(sim))
        await talk(session, 4)
        assert (await session.run(LINE)).status == "failed"
        events = await sound(session)
    assert facts(events, CompactionFailed)
    assert not facts(events, ContextCompacted)


async def test_a_summariser_that_is_told_too_much_is_told_less() -> None:
    told: list[int] = []

    def summary(request: Request) -> Step:
        told.append(size(request))
        return fail("too_large") if told[-1] > 60_000 else say("They talked.")

    sim = narrow(100_000, summary=summary)
    async with Runtime() as runtime:
        session = await runtime.session(agent_of(sim, compaction(keep=1_000)))
        for number in range(9):
            await session.run(f"{number} " + "y" * 11_000)
        await session.compact(by="ana")
        assert (await session.run("and now?")).status == "completed"
        (done,) = facts(await sound(session), ContextCompacted)
    assert len(told) > 1
    assert told[-1] <= 60_000
    assert done.attempt == 1


async def test_the_next_model_is_sent_everything_where_no_summary_helps() -> None:
    wide = narrow(100_000)
    agent = Agent(model=[narrow(5_000, summary=fail("quota")), wide], capabilities=[compaction()])
    async with Runtime() as runtime:
        session = await runtime.session(agent)
        await talk(session, 5)
        events = await sound(session)
    assert facts(events, CompactionFailed)[0].next_model == "sim/"
    assert len(wide.requests[-1].messages) == 9


async def test_a_summary_is_tried_before_another_model() -> None:
    wide = narrow(100_000)
    agent = Agent(model=[narrow(5_000), wide], capabilities=[compaction()])
    async with Runtime() as runtime:
        session = await runtime.session(agent)
        await talk(session, 5)
        assert facts(await sound(session), ContextCompacted)
        assert not wide.requests
        assert (await session.run("z" * 9_000)).status == "completed"
    assert len(wide.requests) == 1, "the second one is asked when even the summary was too much for the first"


async def test_the_deadline_of_a_turn_ends_a_summary_too() -> None:
    sim = narrow(5_000, summary=say("late", delay=100))
    async with Runtime(clock=VirtualClock()) as runtime:
        session = await runtime.session(agent_of(sim, limits=Limits(turn_timeout=10)))
        await talk(session, 4)
        result = await session.run(LINE)
        events = await sound(session)
    assert (result.status, result.stop) == ("completed", "deadline")
    assert not facts(events, CompactionFailed)


async def test_a_summary_can_be_cancelled() -> None:
    sim = narrow(5_000, summary=say("late", delay=100))
    async with Runtime(clock=VirtualClock()) as runtime:
        session = await runtime.session(agent_of(sim))
        await talk(session, 4)
        turn = await session.send(LINE)
        async for item in turn:
            if isinstance(item, Event) and item.type == "reason.failed":
                break
        assert (await turn.cancel()).status == "cancelled"
        await sound(session)


# -- crashes


def forgetful() -> Agent:
    """An agent with a tool, whose model takes little and goes on by what it is told."""

    def answer(request: Request) -> Step | str:
        text = " ".join(message.text for message in request.messages)
        done = max([int(word[4:]) for word in text.split() if word.startswith("DONE")], default=0)
        return call("work", number=done + 1) if done < 3 else "Finished."

    def summary(request: Request) -> Step:
        told = request.messages[0].text
        done = max([number for number in range(4) if f"DONE{number}" in told], default=0)
        return say(f"DONE{done} of them", usage=SPENT)

    @tool(effect="idempotent")
    async def work(number: int) -> str:
        """Work."""
        return f"DONE{number} {LINE}"

    sim = narrow(2_900, answer=answer, summary=summary)
    return agent_of(sim, compaction(keep=100), tools=[work])


def test_a_turn_that_is_summarised_survives_a_crash_at_every_boundary() -> None:
    report = crashtest(forgetful, ["Work.", "And again."], ledger=Ledger())
    report.check()
    assert report.kills > 50
    assert set(report.ends) == {"turn.completed"}


async def test_a_summary_that_was_cut_off_is_made_again_after_a_restart() -> None:
    async with Runtime() as runtime:
        session = await runtime.session(agent_of(narrow(5_000)))
        await talk(session, 5)
        events = await session.events()
    left = await cut_off(events, first(events, "reason.failed"))
    sim = narrow(5_000)
    async with Runtime(left) as runtime:
        again = await runtime.open(session.id, agent_of(sim))
        assert again.turn is not None
        assert (await again.turn).status == "completed"
        assert len(facts(await sound(again), ContextCompacted)) == 1
    assert is_summary(sim.requests[0])


async def test_a_request_is_the_same_after_a_restart(store: Store) -> None:
    agent = agent_of(narrow(5_000))
    async with Runtime(store) as runtime:
        session = await runtime.session(agent)
        await talk(session, 6)
        shown = (await session.inspect("more")).request
    async with Runtime(store) as runtime:
        again = await runtime.open(session.id, agent)
        same = (await again.inspect("more")).request
    assert [(it.role, it.content) for it in shown.messages] == [(it.role, it.content) for it in same.messages]
    assert shown.messages[0].text == OPENING + "They talked."


async def test_a_reopened_session_reads_only_what_the_model_is_told(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reading, "WORTH", 20)
    agent = agent_of(narrow(5_000))
    async with Runtime(store) as runtime:
        session = await runtime.session(agent)
        await talk(session, 30)
        whole = await session.messages()
    async with Runtime(store, agents=[agent]) as runtime:
        again = await runtime.open(session.id)
        assert again.state.unread > again.state.compacted > 0, "it was read from a snapshot"
        covered = again.state.compacted
        read: list[int] = []
        before = store.read

        async def watched(session_id: str, after: int = 0, limit: int = 1_000) -> list[Event]:
            read.append(after)
            return await before(session_id, after=after, limit=limit)

        monkeypatch.setattr(store, "read", watched)
        assert (await again.run("short")).status == "completed"
        assert read
        assert min(read) >= whole_place(again, covered) - 1
        monkeypatch.undo()
        assert (await again.messages())[:60] == whole
        await sound(again)


def whole_place(session: Session, number: int) -> int:
    return session.state.places[number]


# -- what else has a say


async def test_policies_are_asked_about_a_summary_and_may_refuse_it() -> None:
    asked: list[str] = []

    async def decide(action: Action) -> Decision:
        asked.append(f"{action.kind} {action.name}")
        return Interrupt("no summaries") if action.name == "short/s" else Allow()

    sim, short = narrow(5_000), Sim.always("They talked.")
    registry = Registry(drivers={"sim": sim, "short": short})
    agent = Agent(
        model="sim/m",
        capabilities=[compaction(model="short/s")],
        config=Config(policies=(Policy(name="p", decide=decide),)),
    )
    async with Runtime(registry=registry) as runtime:
        session = await runtime.session(agent)
        await talk(session, 4)
        asked.clear()
        result = await session.run(LINE)
        await sound(session)
    assert (result.status, result.stop) == ("failed", "interrupted")
    assert asked == ["turn ", "model sim/m", "model short/s"]
    assert not short.requests


async def test_a_turn_is_let_in_once_even_when_it_begins_with_a_summary() -> None:
    asked: list[str] = []

    async def decide(action: Action) -> Decision:
        asked.append(action.kind)
        return Allow()

    config = Config(policies=(Policy(name="p", decide=decide),))
    async with Runtime() as runtime:
        session = await runtime.session(agent_of(narrow(100_000), config=config))
        await talk(session, 3)
        asked.clear()
        await session.compact(by="ana")
        await session.run("go on")
    assert asked == ["turn", "model", "model"]


async def test_a_summary_has_a_model_and_instructions_of_its_own() -> None:
    short = Sim.always(say("They talked.", usage=SPENT))
    registry = Registry(drivers={"short": short})
    config = compaction(model="short/s", instructions="Keep every price.")
    async with Runtime(registry=registry) as runtime:
        session = await runtime.session(agent_of(narrow(5_000), config))
        await talk(session, 5)
        (done,) = facts(await sound(session), ContextCompacted)
    (request,) = short.requests
    assert (request.model, request.tools) == ("s", ())
    assert request.instructions == f"{INSTRUCTIONS}\n\nKeep every price."
    assert request.metadata == {"session_id": session.id}
    assert done.model == "sim"


async def test_whoever_wants_a_summary_gets_one_before_the_next_request(store: Store) -> None:
    sim = narrow(100_000)
    async with Runtime(store) as runtime:
        session = await runtime.session(Agent(model=sim, name="helper"))
        await talk(session, 3)
        await session.compact(by="ana")
        before = session.state.sequence
    async with Runtime(store, agents=[Agent(model=sim, name="helper")]) as runtime:
        again = await runtime.open(session.id)
        assert again.state.sequence == before, "nothing is owed for it"
        assert (await again.run("go on")).status == "completed"
        events = await sound(again)
    (done,) = facts(events, ContextCompacted)
    assert (done.reason, again.state.compaction_by) == ("asked", "")
    assert sim.requests[-1].messages[0].text.startswith(OPENING)


async def test_a_wish_without_a_name_is_refused() -> None:
    async with Runtime() as runtime:
        session = await runtime.session(Agent(model=Sim.always("ok")))
        with pytest.raises(InputRejected):
            await session.compact(by="")
        assert await session.events() == []


async def test_a_wish_that_cannot_be_met_stops_nothing() -> None:
    async with Runtime() as runtime:
        session = await runtime.session(Agent(model=narrow(9_000)))
        await session.compact(by="ana")
        assert (await session.run("hello")).status == "completed"
        (failed,) = facts(await sound(session), CompactionFailed)
    assert (failed.reason, session.state.compaction_by) == ("asked", "")


async def test_what_became_of_a_call_that_was_summarised_is_told_behind_the_summary() -> None:
    @tool
    async def pay() -> str:
        """Pay."""
        raise ToolError("unreachable")

    def answer(request: Request) -> Step | str:
        paid = any(message.role == "tool" for message in request.messages)
        return "ok" if paid or len(request.messages) > 1 else call("pay")

    sim = narrow(5_000, answer=answer)
    agent = agent_of(sim, tools=[pay])
    async with Runtime(MemoryStore()) as runtime:
        session = await runtime.session(agent)
        await session.run("Pay.")
        events = await session.events()
    left = await cut_off(events, first(events, "tool.started"))
    async with Runtime(left, clock=VirtualClock()) as runtime:
        again = await runtime.open(session.id, agent)
        if again.turn is not None:
            await again.turn
        (doubt,) = again.in_doubt
        await talk(again, 6)
        assert again.state.compacted > 3
        await again.resolve(doubt.call_id, result="it was paid on the 3rd", by="ada")
        told = (await again.inspect("so?")).request.messages[0].text
        assert "call of pay that was in doubt came to: it was paid on the 3rd" in told
        await again.run("so?")
        assert (await again.messages())[2].text == "it was paid on the 3rd"
        assert encode_state(again.state) == encode_state(fold(session.id, await again.events()))


async def test_a_later_summary_is_told_the_earlier_one() -> None:
    seen: list[str] = []

    def summary(request: Request) -> Step:
        seen.append(request.messages[0].text)
        return say(f"Summary {len(seen)}.")

    async with Runtime() as runtime:
        session = await runtime.session(agent_of(narrow(5_000, summary=summary)))
        await talk(session, 12)
        await sound(session)
    assert len(seen) > 1
    assert '"role":"summary"' not in seen[0]
    assert '"role":"summary"' in seen[1]
    assert "Summary 1." in seen[1]
    assert [f'"text":"{n} some' in seen[1] for n in range(2)] == [False, False], "nothing is told twice"


async def test_a_summary_is_made_while_the_session_is_at_work_elsewhere(tmp_path: Path) -> None:
    sim = narrow(100_000, answer=lambda request: say("ok", delay=0.3))
    async with Runtime(tmp_path / "log.db") as mine, Runtime(tmp_path / "log.db") as other:
        session = await mine.session(agent_of(sim))
        await session.run("one")
        turn = await session.send("two")
        elsewhere = await other.open(session.id, agent_of(sim), drive=False)
        await elsewhere.compact(by="ana")
        await turn
        await session.run("three")  # a letter is noticed while this is at work, at the latest
        await session.run("four")
        assert facts(await sound(session), ContextCompacted)


async def test_a_summary_counts_against_budgets_and_is_not_made_beyond_them() -> None:
    budget = Budget(scope="turn", quantity="model_calls", hard=2)
    sim = narrow(5_000)
    async with Runtime() as runtime:
        session = await runtime.session(agent_of(sim, config=Config(budgets=(budget,))))
        await talk(session, 4)
        result = await session.run(LINE)
        events = await sound(session)
    assert (result.status, result.stop) == ("completed", "budget")
    assert [is_summary(request) for request in sim.requests[-2:]] == [False, True], "it was the second call"
    assert len(facts(events, ContextCompacted)) == 1


async def test_what_is_set_aside_for_a_summary_is_what_its_own_request_may_use() -> None:
    sim = Sim.always(say("Well, well.", usage=Usage(input_tokens=50_000, output_tokens=10)))
    budget = Budget(scope="principal", quantity="tokens", hard=1_000_000)
    async with Runtime() as runtime:
        agent = Agent(
            "You chat.", model=sim, config=Config(budgets=(budget,), settings=Settings(max_tokens=100))
        )
        session = await runtime.session(agent, principal="ann")
        await talk(session, 3)
        await session.compact(by="ana")
        await session.run(LINE)
        reserved = [it.amount.tokens for it in facts(await sound(session), BudgetReserved)]
    first, second, third, summary, fourth = reserved
    assert min(second, third) > 50_000, "what led to the reply before is in the request"
    assert max(first, summary, fourth) < 5_000
