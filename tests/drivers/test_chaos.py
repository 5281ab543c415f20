"""Forty ways in which a model server misbehaves, for every driver, in whole turns over real connections."""

from __future__ import annotations

import asyncio
import json
from collections import Counter
from collections.abc import Iterable
from typing import Any

import pytest
from msgspec import Struct

from holdfast.agent import Agent
from holdfast.config import Config, Limits
from holdfast.drivers.anthropic import Anthropic
from holdfast.drivers.gemini import Gemini
from holdfast.drivers.openai import OpenAI
from holdfast.drivers.openai_chat import OpenAIChat
from holdfast.events import TURN_ENDS, Event, OutputMessageCompleted
from holdfast.messages import Usage
from holdfast.registry import Registry
from holdfast.runtime import Runtime
from holdfast.testing.invariants import problems_in
from holdfast.testing.providers import (
    FakeProvider,
    Play,
    Protocol,
    call,
    calls,
    fail,
    gzip_bomb,
    say,
    trouble,
)
from holdfast.tool import tool
from holdfast.turn import retry

DRIVERS: dict[Protocol, type[Any]] = {
    "anthropic": Anthropic,
    "gemini": Gemini,
    "openai": OpenAI,
    "openai-chat": OpenAIChat,
}
STALL = 0.25
"""Seconds that drivers wait for a server that has gone silent."""
DEADLINE = 30.0
"""Seconds for a script, should it hang: all waits add up to less than one."""
USED = Usage(input_tokens=10, output_tokens=3)


def answer(text: str = "It is 5, I think.") -> Any:
    return say(text, usage=USED)


ASKS = call("add", a=2, b=3)
GOOD = answer()
PAGE = {"body": b"<html><title>Bad gateway</title></html>", "content_type": "text/html"}
PAIR = calls(("add", {"a": 1, "b": 1}), ("add", {"a": 2, "b": 2}), usage=USED)


class Script(Struct, frozen=True, kw_only=True):
    """What the server does, and what should come of it."""

    plays: tuple[Play, ...]
    code: str = ""
    """Of the failure; empty when the turn should be completed."""
    requests: tuple[int, ...] = ()
    """How many the server may have got."""
    text: str = "It is 5, I think."
    stall: float = STALL


def recovers(*plays: Play, requests: int | None = None) -> Script:
    """All is well in the end."""
    return Script(plays=plays, requests=(requests or len(plays),))


def survives(play: Play) -> Script:
    """The first attempt fails, and the second does not."""
    return recovers(play, GOOD)


def gives_up(play: Play, code: str) -> Script:
    """Every attempt fails."""
    return Script(plays=(play,), code=code, requests=(3,))


def fails(play: Play, code: str) -> Script:
    """There is no second attempt."""
    return Script(plays=(play,), code=code, requests=(1,))


SCRIPTS: dict[str, Script] = {
    "all is well": recovers(GOOD),
    "a tool": recovers(ASKS, GOOD),
    "two tools at once": recovers(PAIR, GOOD),
    "byte by byte": Script(plays=(trouble(ASKS, split=1), trouble(GOOD, split=1)), stall=DEADLINE),
    "split anywhere": recovers(trouble(PAIR, split=7), trouble(GOOD, split=13)),
    "compressed": recovers(trouble(PAIR, gzip=True), trouble(GOOD, gzip=True, split=5)),
    "signs of life between events": recovers(trouble(GOOD, noise=b": keep-alive\n\n")),
    "slow": recovers(say("It is 5, I think.", usage=USED, delay=0.1, pace=0.02)),
    "a line separator inside data": Script(plays=(answer("It\u2028is\u20295."),), text="It\u2028is\u20295."),
    "call ids that are repeated": recovers(trouble(PAIR, call_ids=("same",)), GOOD),
    "call ids that are repeated in the next reply": recovers(
        trouble(ASKS, call_ids=("same",)), trouble(ASKS, call_ids=("same",)), GOOD
    ),
    "call ids that are empty": recovers(trouble(PAIR, call_ids=()), GOOD),
    "no content type": recovers(trouble(GOOD, content_type="")),
    "429": survives(fail("rate_limit", retry_after=0.05)),
    "429 with a wait that is none": survives(
        trouble(body=b"{}", status=429, headers={"retry-after": "soon"})
    ),
    "429 for ever": gives_up(fail("rate_limit"), "rate_limit"),
    "500": survives(fail("server_error")),
    "529": survives(fail("overloaded", status=529)),
    "401": fails(fail("authentication"), "authentication"),
    "400": fails(fail("invalid_request"), "invalid_request"),
    "no more credit": fails(fail("quota"), "quota"),
    "too large": fails(fail("too_large"), "too_large"),
    "a redirect": fails(trouble(body=b"", status=307, headers={"location": "/"}), "invalid_request"),
    "an error page": survives(trouble(status=502, **PAGE)),
    "a page in place of an answer": gives_up(trouble(**PAGE), "server_error"),
    "a wrong content type": gives_up(trouble(GOOD, content_type="application/json"), "server_error"),
    "an error in the stream": survives(fail("overloaded", text="It is 7.", error_after=2)),
    "an error in the stream for ever": gives_up(
        fail("overloaded", text="It is 7.", error_after=2), "overloaded"
    ),
    "a reset before the answer": survives(trouble(head=False, then="reset")),
    "a reset in the middle": survives(trouble(answer("It is 7."), terminal=False, then="reset")),
    "closed in the middle": survives(trouble(answer("It is 7."), terminal=False, then="close")),
    "a reset after the end": recovers(trouble(GOOD, then="reset"), requests=1),
    "open after the end": recovers(trouble(GOOD, then="hang"), requests=1),
    "no terminal event": survives(trouble(answer("It is 7."), terminal=False)),
    "no terminal event for ever": gives_up(trouble(answer("It is 7."), terminal=False), "broken_stream"),
    "an empty stream": survives(trouble(body=b"")),
    "half a call": survives(trouble(ASKS, terminal=False, cut=-25)),
    "a call without its end": survives(trouble(PAIR, terminal=False, then="reset")),
    "half an event": survives(trouble(GOOD, cut=170)),
    "half open": survives(trouble(answer("It is 7."), terminal=False, then="hang")),
    "half open for ever": gives_up(trouble(GOOD, terminal=False, then="hang"), "stalled"),
    "silence": survives(trouble(head=False, then="hang")),
    "silence after the head": survives(trouble(body=b"", then="hang")),
    "nothing but signs of life": survives(trouble(say("", pace=0.05), body=b": hm\n\n" * 90, split=6)),
    "an event that is garbled": survives(trouble(GOOD, garble={1: b"data: {oops\n\n"})),
    "the first event is not text": gives_up(
        trouble(GOOD, garble={0: b"data: \xff\xfe{\n\n"}), "broken_stream"
    ),
    "a gzip bomb": gives_up(gzip_bomb(100 * 2**20), "broken_stream"),
    "gzip that is none": gives_up(
        trouble(body=b"no gzip", headers={"content-encoding": "gzip"}), "broken_stream"
    ),
    "a header that is too long": survives(trouble(GOOD, headers={"x-long": "x" * 200_000})),
    "arguments that are no JSON": recovers(calls(("add", "not json")), GOOD),
    "trouble between tools": Script(
        plays=(ASKS, fail("connection"), PAIR, trouble(GOOD, cut=200), GOOD), requests=(5,)
    ),
}

ran: Counter[str] = Counter()


@tool(effect="pure")
async def add(a: int, b: int) -> int:
    """Add two integers."""
    ran["add"] += 1
    return a + b


@pytest.fixture(autouse=True)
def _soon(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(retry, "FIRST_WAIT", 0.01)
    ran.clear()


class Played(Struct, frozen=True, kw_only=True):
    """What came of a script."""

    events: list[Event]
    status: str
    stop: str | None
    code: str
    text: str
    usage: Usage
    requests: list[dict[str, Any]]

    @property
    def replies(self) -> list[OutputMessageCompleted]:
        return [event.data for event in self.events if isinstance(event.data, OutputMessageCompleted)]


async def play(
    protocol: Protocol, plays: Iterable[Play], *, limits: Limits | None = None, stall: float = STALL
) -> Played:
    """A turn, after which nothing is left of it but its log."""
    before = asyncio.all_tasks()
    async with FakeProvider(protocol, plays) as fake:
        serving = asyncio.all_tasks()
        driver = DRIVERS[protocol](base_url=fake.base_url, api_key="sk-test", stall_timeout=stall)
        async with Runtime(registry=Registry(drivers={protocol: lambda: driver})) as runtime:
            session = await runtime.session(
                Agent("You add.", model=f"{protocol}/m", tools=[add]),
                config=Config(limits=limits or Limits()),
            )
            result = await session.run("2 + 3?")
            events = await session.events(limit=10_000)
        await fake.closed()
        assert asyncio.all_tasks() <= serving, "a task is left"
        requests = [received.json for received in fake.requests]
        answered = fake.answered
    assert asyncio.all_tasks() <= before
    assert answered == len(requests), "a request was not the protocol's"
    return Played(
        events=list(events),
        status=result.status,
        stop=result.stop,
        code=result.error.code if result.error else "",
        text=result.text,
        usage=result.usage,
        requests=requests,
    )


def test_there_are_forty_scripts() -> None:
    assert len(SCRIPTS) >= 40


@pytest.mark.parametrize("protocol", DRIVERS)
@pytest.mark.parametrize("name", SCRIPTS)
async def test_whatever_the_server_does_the_turn_ends_once_and_leaves_nothing(
    name: str, protocol: Protocol
) -> None:
    script = SCRIPTS[name]
    async with asyncio.timeout(DEADLINE):
        played = await play(protocol, script.plays, stall=script.stall)
    assert [event.type for event in played.events if event.type in TURN_ENDS] == [f"turn.{played.status}"]
    assert problems_in(played.events) == []
    charged_once(played)
    assert (played.status, played.code) == (("failed", script.code) if script.code else ("completed", ""))
    if not script.code:
        assert played.text == script.text
    if script.requests:
        assert len(played.requests) in script.requests


def charged_once(played: Played) -> None:
    """Every answer is paid for once, and the turn knows what for."""
    ids = [reply.response_id for reply in played.replies if reply.stop != "cut_off"]
    assert len(ids) == len(set(ids))
    assert all(ids)
    assert played.usage == sum([reply.usage for reply in played.replies], Usage())


@pytest.mark.parametrize("protocol", DRIVERS)
async def test_half_a_call_is_never_run(protocol: Protocol) -> None:
    await play(protocol, SCRIPTS["half a call"].plays)
    await play(protocol, SCRIPTS["a call without its end"].plays)
    assert ran["add"] == 0


@pytest.mark.parametrize("protocol", DRIVERS)
async def test_words_that_were_cut_off_are_not_in_the_next_request(protocol: Protocol) -> None:
    played = await play(protocol, SCRIPTS["a reset in the middle"].plays)
    first, second = played.requests
    assert first == second
    assert "7" not in json.dumps(second)


@pytest.mark.parametrize("protocol", DRIVERS)
async def test_a_server_that_never_ends_is_left_when_the_turn_is_over(protocol: Protocol) -> None:
    endless = trouble(say("word " * 5_000, pace=0.01))
    async with asyncio.timeout(DEADLINE):
        played = await play(protocol, [endless], limits=Limits(turn_timeout=0.3))
    assert played.stop == "deadline"
    assert problems_in(played.events, transcript=False) == []


@pytest.mark.parametrize("protocol", DRIVERS)
async def test_a_turn_that_is_cancelled_closes_its_connection_at_once(protocol: Protocol) -> None:
    heard = asyncio.Event()
    async with (
        asyncio.timeout(DEADLINE),
        FakeProvider(protocol, [trouble("It is", terminal=False, then="hang")]) as fake,
    ):
        driver = DRIVERS[protocol](base_url=fake.base_url, api_key="sk-test")
        async with Runtime(registry=Registry(drivers={protocol: lambda: driver})) as runtime:
            session = await runtime.session(Agent(model=f"{protocol}/m"))
            turn = await session.send("2 + 3?")
            async for item in turn:
                if type(item).__name__ == "TextDelta":
                    heard.set()
                    break
            await turn.cancel("enough")
            assert (await turn).status == "cancelled"
            await fake.closed()
            events = await session.events(limit=10_000)
    assert heard.is_set()
    assert [event.type for event in events].count("turn.cancelled") == 1
