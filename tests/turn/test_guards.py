"""What guards block is shown to nobody and kept nowhere, whatever happens meanwhile."""

import asyncio
from collections.abc import Sequence
from contextlib import suppress
from functools import partial
from pathlib import Path
from threading import get_ident
from typing import Any

import msgspec
import pytest

from holdfast import Agent, Budget, Context, Event, Runtime, Session, Tool, tool
from holdfast.agent import read_layers, write_layers
from holdfast.capability import Capability
from holdfast.config import Config, Limits
from holdfast.drivers.sim import Sim, Step, call, calls, fail, say
from holdfast.errors import ConfigError, NoOutput, UnknownAsk
from holdfast.events import GuardDecided, OutputMessageCompleted, ToolCompleted
from holdfast.follow import ArgumentsDelta, TextDelta, ThinkingDelta, ToolOutput, ToolProgress
from holdfast.guard import Found, Guard, Seen
from holdfast.hook import Decision, Hook, HookEvent, Modify
from holdfast.manifest import Manifest
from holdfast.matching.sieve import Hit, Sieve
from holdfast.messages import Usage
from holdfast.registry import Registry
from holdfast.resolve import resolve
from holdfast.stores.memory import MemoryStore
from holdfast.testing import VirtualClock, crashtest
from holdfast.testing.client import Client
from holdfast.testing.crash_scene import Play, Scene
from holdfast.testing.watched import Watch
from tests.turn.scenes import assert_sound, cut_off, kinds, reopened, session_with

CANARY = "zanzibar"
UNNAMED = "z[a]nzibar"
"""Finds it, and does not contain it: what guards look for is in the manifest, which is kept."""
LONG = "Once upon a time there was a long story that somebody told. " * 3
TONE = Guard(id="tone", words=(CANARY,))


def agent_of(*steps: Step | str, guards: Sequence[Guard], tools: Sequence[Tool] = (), **config: Any) -> Agent:
    return Agent(
        "Help.", model=Sim.storyboard(*steps), tools=tools, config=Config(guards=tuple(guards), **config)
    )


def decided(events: Sequence[Event]) -> list[GuardDecided]:
    return [event.data for event in events if isinstance(event.data, GuardDecided)]


async def played(agent: Agent) -> tuple[list[Any], list[Event], Any]:
    """Everything that a reader saw, the log, and the result."""
    async with session_with(agent) as session:
        turn = await session.send("go")
        seen = [item async for item in turn]
        return seen, await session.events(), await turn


def said(seen: Sequence[Any]) -> str:
    return "".join(item.text for item in seen if isinstance(item, TextDelta | ThinkingDelta | ArgumentsDelta))


def holds(items: Sequence[Any], text: str = CANARY) -> bool:
    return any(text in msgspec.json.encode(item).decode() for item in items)


async def test_words_are_withheld_while_they_stream_and_the_turn_ends_with_the_words_that_were_chosen() -> (
    None
):
    guard = Guard(id="tone", words=(CANARY,), answer="No comment.", code="house.tone")
    reply = say(f"{LONG}Then came {CANARY} and more. {LONG}", usage=Usage(input_tokens=7, output_tokens=5))
    seen, events, result = await played(agent_of(reply, guards=[guard]))
    assert (result.text, result.stop, result.status) == ("No comment.", "refusal", "completed")
    assert result.reason == "the guard tone does not let it pass (house.tone)"
    assert result.usage.output_tokens == 5
    assert LONG.startswith(said(seen)[:100])
    assert said(seen)
    assert not holds(seen)
    assert not holds(events)
    assert kinds(events)[-4:] == [
        "output.message.replaced",
        "output.message.completed",
        "guard.decided",
        "turn.completed",
    ]
    (fact,) = decided(events)
    assert (fact.guard, fact.where, fact.action, fact.code, fact.rule) == (
        "tone",
        "stream",
        "block",
        "house.tone",
        "words 1",
    )
    assert_sound(events)


@pytest.mark.parametrize("place", range(len(CANARY) + 8))
async def test_no_split_of_the_stream_shows_the_half_of_it(place: int) -> None:
    text = f"{LONG}and {CANARY} it is. {LONG}"
    at = text.index(CANARY) - 4 + place
    seen, events, _ = await played(agent_of(say("", pieces=(text[:at], text[at:])), guards=[TONE]))
    assert not holds(seen)
    assert not holds(seen, "zan")
    assert not holds(events, "zan")


async def test_what_readers_were_shown_before_is_void_also_when_it_was_kept() -> None:
    pieces = tuple(f"{piece} " for piece in f"{LONG * 3} {CANARY} and on".split())
    _, events, _ = await played(agent_of(say("", pieces=pieces, pace=0.5), guards=[TONE]))
    shown = [event.data.message_id for event in events if event.type == "output.message.shown"]
    replaced = [event.data.message_id for event in events if event.type == "output.message.replaced"]
    completed = [event.data.message.id for event in events if isinstance(event.data, OutputMessageCompleted)]
    assert shown
    assert set(shown) == set(replaced)
    assert completed[0] not in replaced
    assert not holds(events, "zan")


async def test_the_model_is_asked_again_and_told_why_as_often_as_the_guard_says() -> None:
    guard = Guard(id="tone", words=(CANARY,), retries=2, reason="no islands")
    bad = say(f"It is {CANARY}.", usage=Usage(output_tokens=3))
    agent = agent_of(bad, bad, say("It is an island.", usage=Usage(output_tokens=4)), guards=[guard])
    seen, events, result = await played(agent)
    assert (result.text, result.stop, result.usage.output_tokens) == ("It is an island.", "end_turn", 10)
    assert [fact.note is not None for fact in decided(events)] == [True, True]
    assert not holds([seen, events])
    sim = Sim.storyboard(bad, "Fine.")
    await played(Agent("Help.", model=sim, config=Config(guards=(guard,))))
    told = sim.requests[1].messages
    assert [message.role for message in told] == ["user", "assistant", "user"]
    assert "no islands" in told[-1].text
    _, events, result = await played(agent_of(bad, bad, bad, guards=[guard]))
    assert result.stop == "refusal"
    assert [fact.note is not None for fact in decided(events)] == [True, True, False]


async def test_asking_again_counts_as_a_reply() -> None:
    guard = Guard(id="tone", words=(CANARY,), retries=9)
    agent = agent_of(*[CANARY] * 5, guards=[guard], limits=Limits(max_iterations=3))
    _, events, result = await played(agent)
    assert (result.stop, result.iterations, len(decided(events))) == ("refusal", 3, 3)


async def test_a_guard_after_generation_shows_nothing_before_it_has_passed() -> None:
    looked: list[Seen] = []

    async def check(seen: Seen) -> bool:
        looked.append(seen)
        return CANARY in seen.text

    guard = Guard(id="judge", where="output", check=check)
    seen, events, result = await played(agent_of(say(f"{LONG}{CANARY}"), guards=[guard]))
    assert result.stop == "refusal"
    assert not said(seen)
    assert "output.message.replaced" not in kinds(events)
    assert decided(events)[0].code == "guard.check"
    seen, events, result = await played(agent_of(say(LONG), guards=[guard]))
    assert said(seen) == result.text == LONG
    assert not decided(events)
    assert len(looked) == 2


async def test_thinking_is_guarded_where_it_is_shown() -> None:
    step = say("Fine.", thinking=f"{LONG} I think of {CANARY} now. {LONG}")
    seen, events, result = await played(agent_of(step, guards=[TONE]))
    assert result.stop == "refusal"
    assert not holds(seen, "zan")
    assert not holds(events, "zan")


async def test_a_guard_that_logs_lets_it_pass_and_notes_it() -> None:
    seen, events, result = await played(
        agent_of(say(f"{LONG}{CANARY}"), guards=[Guard(id="tone", words=(CANARY,), action="log")])
    )
    assert said(seen) == result.text == LONG + CANARY
    (fact,) = decided(events)
    assert fact.action == "log"
    assert not holds([fact])


@pytest.mark.parametrize("how", ["raises", "hangs", "answers nonsense"])
@pytest.mark.parametrize("action", ["block", "log"])
async def test_a_guard_that_fails_blocks_if_it_blocks_at_all(how: str, action: Any) -> None:
    async def check(seen: Seen) -> Any:
        if how == "raises":
            raise ValueError(seen.text)
        if how == "hangs":
            await asyncio.sleep(100)
        return "what?"

    guard = Guard(id="judge", where="output", check=check, action=action, timeout=1)
    _, events, result = await played(agent_of(say(f"About {CANARY}."), guards=[guard]))
    assert result.stop == ("refusal" if action == "block" else "end_turn")
    (fact,) = decided(events)
    assert fact.code == ("guard.timeout" if how == "hangs" else "guard.failed")
    assert not holds([fact])


async def test_a_withheld_reply_costs_what_it_cost() -> None:
    agent = agent_of(say(CANARY, usage=Usage(input_tokens=10, output_tokens=20)), guards=[TONE])
    _, events, result = await played(agent)
    (completed,) = [event.data for event in events if isinstance(event.data, OutputMessageCompleted)]
    assert completed.usage == result.usage == Usage(input_tokens=10, output_tokens=20)
    assert completed.response_id == ""


@pytest.mark.parametrize("after", [3, 4, 5, 6])
async def test_a_turn_that_was_cut_off_shows_nothing_of_it_when_it_goes_on(after: int) -> None:
    pieces = tuple(f"{word} " for word in f"{LONG * 2}{CANARY} again".split())
    agent = agent_of(say("", pieces=pieces, pace=0.5), guards=[TONE])
    _, events, _ = await played(agent)
    store = await cut_off(events, after)
    async with reopened(store, agent, events[0].session_id) as session:
        turn = await session.resume()
        if turn is not None:
            await turn
        later = await session.events()
    assert not holds(later, "zan")
    assert_sound(later)


async def test_a_reply_that_broke_off_after_it_was_withheld_is_asked_for_again() -> None:
    pieces = tuple(f"{word} " for word in f"{LONG}{CANARY} and so on it goes, on and on and on".split())
    agent = Agent(
        "Help.",
        model=Sim.script(fail("connection", pieces=pieces, error_after=len(pieces) - 1), say("Fine.")),
        config=Config(guards=(TONE,)),
    )
    seen, events, result = await played(agent)
    assert result.text == "Fine."
    assert not holds(seen, "zan")
    assert not holds(events, "zan")


# What tools are given and give


def sender() -> tuple[Tool, list[str]]:
    ran: list[str] = []

    @tool(effect="once")
    async def send(to: str, text: str = "", number: int = 0) -> str:
        """Send."""
        ran.append(f"{to} {text} {number}")
        return f"sent to {to}"

    return send, ran


async def test_a_blocked_call_is_a_result_that_the_model_reads_and_its_arguments_are_on_no_log() -> None:
    send, ran = sender()
    step = calls(("send", {"to": "ann", "text": f"the {CANARY}"}), ("send", {"to": "bob"}))
    seen, events, _ = await played(
        agent_of(
            step, say("Done."), guards=[Guard(id="leak", where="tool_input", words=(CANARY,))], tools=[send]
        )
    )
    assert ran == ["bob  0"]
    results = [event.data.result for event in events if isinstance(event.data, ToolCompleted)]
    assert [result.status for result in results] == ["denied", "ok"]
    assert "the guard leak does not let it pass (guard.words)" in results[0].text
    assert not holds([seen, events])
    assert_sound(events)


@pytest.mark.parametrize("where", ["tool_input", ("stream", "tool_input")])
async def test_arguments_are_redacted_before_they_are_recorded(where: Any) -> None:
    send, ran = sender()
    guard = [Guard(id="cards", where="tool_input", expressions=(r"\b\d{12,16}\b",), action="redact")]
    if where != "tool_input":
        guard.append(TONE)
    step = call("send", to="ann", text="card 4111111111111111 ok")
    seen, events, _ = await played(agent_of(step, say("Done."), guards=guard, tools=[send]))
    assert ran == ["ann card [removed] ok 0"]
    assert not holds([seen, events], "411111111111")
    assert decided(events)[0].action == "redact"


async def test_arguments_that_cannot_be_redacted_are_blocked() -> None:
    send, ran = sender()
    guard = Guard(id="cards", where="tool_input", expressions=(r"4111111111111111",), action="redact")
    step = calls(("send", '{"to": "4111111111111111'), ("send", {"to": "a", "number": 4111111111111111}))
    _, events, _ = await played(agent_of(step, say("Done."), guards=[guard], tools=[send]))
    assert ran == []
    assert not holds(events, "411111111111")


async def test_escapes_hide_nothing_in_arguments() -> None:
    send, ran = sender()
    hidden = '{"to": "' + "".join(f"\\u{ord(it):04x}" for it in CANARY) + '"}'
    guard = Guard(id="leak", where="tool_input", words=(CANARY,))
    await played(agent_of(calls(("send", hidden)), say("Done."), guards=[guard], tools=[send]))
    assert ran == []


async def test_a_tool_pattern_blocks_each_call_of_the_tools_it_names() -> None:
    send, ran = sender()
    guard = Guard(id="no-mail", where="tool_input", tools="se*", reason="mail is off")
    _, events, _ = await played(agent_of(call("send", to="ann"), say("Done."), guards=[guard], tools=[send]))
    assert ran == []
    (fact,) = decided(events)
    assert (fact.code, fact.rule, fact.reason) == ("guard.tool", "se*", "mail is off")


async def test_arguments_that_a_hook_changed_are_guarded_too() -> None:
    send, ran = sender()

    async def change(event: HookEvent) -> Decision:
        return Modify(arguments=f'{{"to": "{CANARY}"}}')

    hook = Hook(id="change", point="before_tool", run=change)
    guard = Guard(id="leak", where="tool_input", words=(CANARY,))
    await played(agent_of(call("send", to="ann"), say("Done."), guards=[guard], tools=[send], hooks=(hook,)))
    assert ran == []


def reader(text: str, *, loud: bool = False) -> Tool:
    @tool(effect="idempotent")
    async def read(ctx: Context) -> str:
        """Read."""
        if loud:
            ctx.output(text)
            ctx.progress(text)
        if "boom" in text:
            raise RuntimeError(text)
        return text

    return read


@pytest.mark.parametrize("action", ["block", "redact"])
@pytest.mark.parametrize("text", [f"a {CANARY} b", f"{CANARY} boom", f"{CANARY} " * 20_000])
async def test_results_are_guarded_before_they_are_recorded(action: Any, text: str) -> None:
    guard = Guard(id="out", where="tool_output", expressions=(UNNAMED,), action=action)
    agent = agent_of(call("read"), say("Done."), guards=[guard], tools=[reader(text, loud=True)])
    store = MemoryStore()
    async with Runtime(store, clock=VirtualClock()) as runtime:
        session = await runtime.session(agent)
        turn = await session.send("go")
        seen = [item async for item in turn]
        events = await session.events()
    (result,) = [event.data.result for event in events if isinstance(event.data, ToolCompleted)]
    assert result.status == ("error" if "boom" in text else "ok")
    assert ("[removed]" if action == "redact" else "[Withheld") in result.text
    assert not holds([seen, events])
    assert not any(isinstance(item, ToolOutput | ToolProgress) for item in seen)
    assert CANARY not in repr(vars(store))


async def test_hooks_see_results_as_guards_leave_them_and_what_they_put_there_is_guarded() -> None:
    saw: list[str] = []

    async def change(event: HookEvent) -> Decision:
        assert event.result is not None
        saw.append(event.result.text)
        return Modify(result=f"better: {CANARY}")

    hook = Hook(id="change", point="after_tool", run=change)
    guard = Guard(id="out", where="tool_output", words=(CANARY,), action="redact")
    agent = agent_of(call("read"), say("Done."), guards=[guard], tools=[reader(CANARY)], hooks=(hook,))
    _, events, _ = await played(agent)
    assert saw == ["[removed]"]
    (result,) = [event.data.result for event in events if isinstance(event.data, ToolCompleted)]
    assert result.text == "better: [removed]"
    assert not holds(events)


async def test_a_function_redacts_with_the_text_it_gives() -> None:
    async def check(seen: Seen) -> Found | None:
        return Found(code="pii.name", clean="somebody") if CANARY in seen.text else None

    guard = Guard(id="pii", where="tool_output", check=check, action="redact", tools="read")
    _, events, _ = await played(agent_of(call("read"), say("Done."), guards=[guard], tools=[reader(CANARY)]))
    (result,) = [event.data.result for event in events if isinstance(event.data, ToolCompleted)]
    assert result.text == "somebody"
    assert decided(events)[0].code == "pii.name"


@pytest.mark.parametrize("where", ["tool_input", "tool_output"])
async def test_a_function_is_asked_about_what_the_rules_of_its_guard_leave(where: Any) -> None:
    asked: list[str] = []

    async def check(seen: Seen) -> bool:
        asked.append(seen.text)
        return "harm" in seen.text

    send, ran = sender()
    guard = Guard(id="both", where=where, words=(CANARY,), check=check, action="redact")
    step = calls(("send", {"to": f"{CANARY} harm"}), ("send", {"to": CANARY}))
    _, events, _ = await played(agent_of(step, say("Done."), guards=[guard], tools=[send]))
    texts = [event.data.result.text for event in events if isinstance(event.data, ToolCompleted)]
    assert "the guard both does not let it pass (guard.check)" in texts[0]
    assert texts[1].startswith("sent to [removed]")
    assert [fact.action for fact in decided(events)] == ["redact", "block", "redact"]
    assert not holds(asked)
    if where == "tool_input":
        assert ran == ["[removed]  0"]
        assert not holds(events)


class Noting(Sieve):
    """A sieve that notes in which threads it is used on long texts."""

    def __init__(self, words: Sequence[str], threads: set[int]) -> None:
        super().__init__((), words)
        self.threads = threads

    def find(self, text: str) -> Hit | None:
        self._note(text)
        return super().find(text)

    def redact(self, text: str, mask: str) -> tuple[str, str]:
        self._note(text)
        return super().redact(text, mask)

    def _note(self, text: str) -> None:
        if len(text) > 100_000:
            self.threads.add(get_ident())


@pytest.mark.parametrize("where", ["tool_input", "tool_output"])
async def test_long_texts_are_looked_through_and_redacted_off_the_loop(where: Any) -> None:
    threads: set[int] = set()
    send, ran = sender()
    guard = Guard(id="long", where=where, words=(CANARY,), action="redact")
    vars(guard)["sieve"] = Noting((CANARY,), threads)
    step = call("send", to=f"{CANARY} " + "far " * 40_000)
    _, events, _ = await played(agent_of(step, say("Done."), guards=[guard], tools=[send]))
    assert [fact.action for fact in decided(events)] == ["redact"]
    assert ran
    assert threads
    assert get_ident() not in threads


@tool(client=True)
async def locate() -> str:
    """Where the user is."""
    raise AssertionError("it is carried out in the browser")


async def test_what_a_client_hands_in_is_guarded_before_it_is_recorded() -> None:
    guard = Guard(id="out", where="tool_output", words=(CANARY,), action="redact")
    agent = agent_of(call("locate"), say("Done."), guards=[guard], tools=[locate])
    async with session_with(agent) as session:
        turn = await session.send("go")
        await turn
        await session.submit(
            session.asks[0].ask_id,
            f"in {CANARY}",
            by="browser",
        )
        await turn
        events = await session.events()
    (result,) = [event.data.result for event in events if isinstance(event.data, ToolCompleted)]
    assert result.text == "in [removed]"
    assert not holds(events)
    assert [fact.action for fact in decided(events)] == ["redact"]


# Typed answers


class Place(msgspec.Struct):
    name: str


@pytest.mark.parametrize("way", ["schema", "tool", "words"])
@pytest.mark.parametrize("disguised", [False, True])
async def test_typed_answers_and_what_is_shown_of_them_go_through_guards(way: Any, disguised: bool) -> None:
    name = "".join(f"\\u{ord(it):04x}" for it in CANARY) if disguised else CANARY
    text = f'{{"name": "{name}"}}'
    sim = Sim.storyboard(calls(("final_answer", text)) if way == "tool" else say(text))
    sim.answers_by = way
    async with session_with(Agent("Help.", model=sim, config=Config(guards=(TONE,)))) as session:
        turn = await session.send("Where?", output=Place)
        partials = [partial async for partial in turn.partials()]
        result = await turn
        events = await session.events()
    assert result.stop == "refusal"
    assert partials == []
    assert not holds(events)
    assert not holds(events, "\\\\u007a")
    with pytest.raises(NoOutput):
        _ = result.output


async def test_a_typed_answer_that_passes_is_given() -> None:
    async with session_with(agent_of(say('{"name": "oslo"}'), guards=[TONE])) as session:
        assert (await session.run("Where?", output=Place)).output == Place(name="oslo")


# Configuration


def test_guards_come_from_capabilities_and_layers_and_are_part_of_the_digest() -> None:
    bundle = Capability(name="house", guards=(TONE, Guard(id="b", words=("b",))))
    other = Guard(id="b", words=("c",))
    agent = Agent("Help.", model=Sim.always("x"), capabilities=[bundle], config=Config(guards=(other,)))
    plain = Agent("Help.", model=Sim.always("x"), capabilities=[Capability(name="house")])
    manifest = manifest_of(agent)
    assert [guard.id for guard in manifest.guards] == ["tone", "b"]
    assert manifest.guards[1] == other
    assert manifest.digest != manifest_of(plain).digest
    origins = {origin.field: origin.layers for origin in manifest.explain()}
    assert origins["guards.tone"] == ("capability house",)
    assert origins["guards.b"][0].startswith("agent")


def manifest_of(agent: Agent) -> Manifest:
    return resolve(agent.layers, names=Registry())


@pytest.mark.parametrize(
    "made",
    [
        {"id": "no id!", "words": ("x",)},
        {"id": "g"},
        {"id": "g", "where": "tool_output"},
        {"id": "g", "where": "elsewhere", "words": ("x",)},
        {"id": "g", "words": ("x",), "action": "redact"},
        {"id": "g", "words": ("x",), "action": "explode"},
        {"id": "g", "words": ("x",), "retries": 11},
        {"id": "g", "words": ("x",), "window": 0},
        {"id": "g", "words": ("x",), "answer": " "},
        {"id": "g", "words": ("x",), "timeout": 0},
        {"id": "g", "expressions": ("(",)},
        {"id": "g", "expressions": ("x*",)},
        {"id": "g", "words": ("x",), "where": ()},
        {"id": "g", "words": ("x",), "code": "it said: x"},
        {"id": "g", "words": ("x",), "answer": "no \ud800"},
        {"id": "g", "words": ("x",), "reason": "no \ud800"},
    ],
)
def test_a_guard_that_could_not_work_is_refused(made: dict[str, Any]) -> None:
    with pytest.raises(ConfigError, match="guard"):
        Guard(**made)


# On disk, and killed anywhere


async def test_nothing_of_it_reaches_the_disk(tmp_path: Path) -> None:
    send, _ = sender()
    guards = [Guard(id="all", where=("stream", "tool_input", "tool_output"), expressions=(UNNAMED,))]
    agent = agent_of(
        call("send", to=CANARY),
        call("send", to="read"),
        f"{LONG} {CANARY}",
        guards=guards,
        tools=[send, reader(CANARY)],
    )
    async with Runtime(tmp_path / "log.db") as runtime:
        session = await runtime.session(agent)
        await (await session.send("go"))
    for file in tmp_path.iterdir():
        assert CANARY.encode() not in file.read_bytes()


def guarded_story() -> Agent:
    """A blocked call, results without what they held, and a reply that is withheld, once by rules and once by code."""

    @tool(effect="once")
    async def send(to: str) -> str:
        """Send."""
        return f"{CANARY} to {to}"

    async def check(seen: Seen) -> bool:
        return CANARY in seen.text

    guards = (
        Guard(id="tone", expressions=(UNNAMED,), retries=1),
        Guard(id="judge", check=check, retries=2),
        Guard(id="in", where="tool_input", words=("bob",)),
        Guard(id="out", where="tool_output", expressions=(UNNAMED,), action="redact"),
    )
    long = tuple(f"{word} " for word in LONG.split())
    board = Sim.storyboard(
        calls(("locate", {}), ("send", {"to": "ann"}), ("send", {"to": "bob"})),
        say("", pieces=(*long, f"{CANARY} ", "so"), pace=0.4),
        say("", pieces=long, pace=0.4),
    )
    config = Config(guards=guards)
    return Agent("Help.", name="helper", model=board, tools=[locate, send], config=config)


async def answering(session: Session) -> None:
    """Go on with whatever there is, and hand in what a client is asked for."""
    turn = session.turn or (None if session.state.outcome else await session.send("go", key="go"))
    while turn is not None and (await turn).status == "waiting":
        for ask in session.asks:
            with suppress(UnknownAsk):
                await session.submit(ask.ask_id, f"in {CANARY}", by="browser", key=ask.ask_id)


def test_killed_anywhere_what_is_guarded_is_on_no_disk() -> None:
    play = Play(
        make_agent=guarded_story,
        make_client=lambda: Client(answering, None),
        make_watch=partial(Watch, None),
        services=None,
        seed=0,
    )
    for kill in range(Scene(play).crossed + 1):
        scene = Scene(play, (kill,) if kill else ())
        assert not scene.stuck
        assert CANARY not in repr(vars(scene.disk)), f"after {scene.killed}"
        (events,) = scene.logs.values()
        assert not holds(events)
        assert_sound(events)


def test_killed_anywhere_a_guarded_turn_comes_to_its_end() -> None:
    report = crashtest(guarded_story, answering, limit=60)
    report.check()
    assert report.kills


@pytest.mark.parametrize("pace", [0.0, 0.2])
async def test_a_function_sees_a_stream_before_any_reader_does(pace: float) -> None:
    asked: list[str] = []

    async def check(seen: Seen) -> bool:
        await asyncio.sleep(0.5)
        asked.append(seen.text)
        assert seen.where == "stream"
        return CANARY in seen.text

    pieces = tuple(f"{word} " for word in f"{LONG}{CANARY} and on and on".split())
    guard = Guard(id="judge", check=check, code="house.judge")
    seen, events, result = await played(agent_of(say("", pieces=pieces, pace=pace), guards=[guard]))
    assert (result.stop, decided(events)[0].code) == ("refusal", "house.judge")
    assert f"{LONG}{CANARY}".startswith(said(seen))
    assert not holds(seen)
    assert not holds(events)
    assert_sound(events)
    seen, events, result = await played(agent_of(say(LONG, pace=pace), guards=[guard]))
    assert said(seen) == result.text == LONG
    assert asked[-1] == LONG


async def test_a_model_that_breaks_off_while_a_function_is_asked_is_asked_again() -> None:
    async def check(seen: Seen) -> bool:
        await asyncio.sleep(3)
        return CANARY in seen.text

    broken = fail("connection", pieces=("so ", CANARY, " on", " on"), error_after=3, pace=1.0)
    agent = Agent(
        "Help.",
        model=Sim.script(broken, say("Fine.")),
        config=Config(guards=(Guard(id="judge", check=check),)),
    )
    seen, events, result = await played(agent)
    assert result.text == "Fine."
    assert not holds([seen, events])


async def test_budgets_count_what_was_withheld() -> None:
    guard = Guard(id="tone", words=(CANARY,), retries=5)
    reply = say(CANARY, usage=Usage(input_tokens=30, output_tokens=30))
    agent = agent_of(
        reply, reply, reply, guards=[guard], budgets=(Budget(scope="turn", quantity="model_calls", hard=2),)
    )
    _, events, result = await played(agent)
    assert (result.stop, len(decided(events))) == ("budget", 2)
    assert result.usage.output_tokens == 60


def test_guards_without_a_function_can_be_written_down_with_their_layer() -> None:
    async def check(seen: Seen) -> bool:
        return False

    rules = Guard(
        id="all",
        where=("stream", "tool_input"),
        words=(CANARY,),
        expressions=("z+",),
        retries=2,
        answer="No.",
    )
    agent = agent_of("x", guards=[rules, Guard(id="judge", where="output", check=check)])
    layers, missing = read_layers(write_layers(agent.layers))
    assert [guard for layer in layers for guard in layer.config.guards] == [rules]
    assert "guard judge" in missing
