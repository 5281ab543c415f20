"""The fakes are honest: official clients read them, and our drivers hear the same. And they misbehave as told."""

from __future__ import annotations

import asyncio
import json
import tracemalloc
from functools import cache
from typing import Any

import httpx2
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from msgspec import structs

from holdfast.driver import Driver, Reply, Request, Settings, Transcript
from holdfast.drivers.anthropic import Anthropic
from holdfast.drivers.gemini import Gemini
from holdfast.drivers.openai import OpenAI
from holdfast.drivers.openai_chat import OpenAIChat
from holdfast.drivers.sim import Step
from holdfast.errors import DriverError
from holdfast.messages import Thinking, Usage, user_message
from holdfast.testing.providers import (
    FakeProvider,
    Play,
    Protocol,
    Received,
    Trouble,
    call,
    calls,
    fail,
    gzip_bomb,
    say,
    trouble,
)
from tests.testing.official import CLIENTS, Heard, Refused

PROTOCOLS: tuple[Protocol, ...] = ("anthropic", "gemini", "openai", "openai-chat")
DRIVERS: dict[Protocol, type[Any]] = {
    "anthropic": Anthropic,
    "gemini": Gemini,
    "openai": OpenAI,
    "openai-chat": OpenAIChat,
}
USED = Usage(input_tokens=100, output_tokens=20, cache_read_tokens=60, reasoning_tokens=7)
TWO = (("add", {"a": 2, "b": 3}), ("add", {"a": 4, "b": 5}))
REPLIES: dict[str, Step] = {
    "text": say("Hello there."),
    "odd characters": say('a\u2028b\u2029c \x85 \U0001f600 "q" \\ é\n\ttab'),
    "nothing": say("", usage=USED),
    "thinking": say("Four.", thinking="Two and two.", usage=USED),
    "a call": call("add", a=2, b=3),
    "a call without arguments": call("now"),
    "parallel calls": calls(*TWO, usage=USED),
    "everything": calls(*TWO, text="I shall add.", thinking="Add, I think.", usage=USED),
    "cut short": say("It is", stop="max_tokens", usage=USED),
    "a refusal": say("I must not.", stop="refusal", usage=USED),
}

every_protocol = pytest.mark.parametrize("protocol", PROTOCOLS)
both_ways = pytest.mark.parametrize("stream", [True, False], ids=["streamed", "whole"])


def driver_for(fake: FakeProvider, protocol: Protocol, **options: Any) -> Driver:
    made: Driver = DRIVERS[protocol](base_url=fake.base_url, api_key="sk-test", **options)
    return made


def request(stream: bool = True) -> Request:
    return Request(
        model="m", messages=Transcript([user_message("hi")]), settings=Settings(max_tokens=9), stream=stream
    )


async def replied(fake: FakeProvider, protocol: Protocol, stream: bool = True, **options: Any) -> Reply:
    driver = driver_for(fake, protocol, **options)
    try:
        return await driver.reply(request(stream), lambda *_: None)
    finally:
        await driver.close()


async def failure(protocol: Protocol, *script: Play, stream: bool = True, **options: Any) -> DriverError:
    async with FakeProvider(protocol, script) as fake:
        with pytest.raises(DriverError) as caught:
            await replied(fake, protocol, stream, **options)
    return caught.value


def meant(protocol: Protocol, step: Step) -> Heard:
    """What a client should hear, with the arguments as JSON values."""
    stop = step.stop or ("tool_calls" if step.calls else "end_turn")
    hushed = protocol == "gemini" and stop == "refusal"  # it keeps what it must not say
    found = [
        (it.name, json.loads(it.arguments), f"call_1_{index + 1}") for index, it in enumerate(step.calls)
    ]
    return Heard("" if hushed else step.text, step.thinking, found, stop, step.usage, "m")


def decoded(heard: Heard) -> Heard:
    found = [(name, json.loads(it) if isinstance(it, str) else it, id) for name, it, id in heard.calls]
    return heard._replace(calls=found)


def ours(reply: Reply) -> Heard:
    message = reply.message
    thoughts = "".join(part.text for part in message.content if isinstance(part, Thinking))
    found = [(it.name, json.loads(it.arguments), it.provider_id) for it in message.calls]
    return Heard(message.text, thoughts, found, reply.stop, reply.usage, reply.model)


# -- the protocols


@both_ways
@every_protocol
@pytest.mark.parametrize("kind", REPLIES)
async def test_the_official_client_and_our_driver_hear_what_the_script_says(
    kind: str, protocol: Protocol, stream: bool
) -> None:
    step = REPLIES[kind]
    async with FakeProvider(protocol, [step]) as fake:
        theirs = await CLIENTS[protocol](fake, stream)
    assert decoded(theirs) == meant(protocol, step)
    async with FakeProvider(protocol, [step]) as fake:
        assert ours(await replied(fake, protocol, stream)) == meant(protocol, step)


FAILURES: dict[str, tuple[int, ...]] = {
    "authentication": (401,),
    "quota": (402, 429),
    "rate_limit": (429,),
    "overloaded": (503, 529),
    "timeout": (504,),
    "too_large": (400, 413),
    "invalid_request": (400,),
    "server_error": (500,),
}


@both_ways
@every_protocol
@pytest.mark.parametrize("kind", FAILURES)
async def test_a_failure_is_the_official_clients_error_and_our_kind(
    kind: Any, protocol: Protocol, stream: bool
) -> None:
    step = fail(kind, "it is so", retry_after=7)
    async with FakeProvider(protocol, [step]) as fake:
        with pytest.raises(Refused, match="it is so") as caught:
            await CLIENTS[protocol](fake, stream)
        assert caught.value.status in FAILURES[kind]
    error = await failure(protocol, step, stream=stream)
    assert (error.kind, error.status in FAILURES[kind], error.retry_after) == (kind, True, 7.0)


@both_ways
@every_protocol
async def test_content_that_a_provider_refuses_is_refused_as_it_does(
    protocol: Protocol, stream: bool
) -> None:
    error = await failure(protocol, fail("content_policy", "not this"), stream=stream)
    assert (error.kind, error.retryable) == ("content_policy", False)
    assert "not this" in str(error)


@every_protocol
async def test_no_character_of_an_answer_is_lost(protocol: Protocol) -> None:
    said = " a\x00b  c\x07 "
    async with FakeProvider(protocol, [say(said)]) as fake:
        assert (await replied(fake, protocol)).message.text == said


@every_protocol
@pytest.mark.parametrize("kind", ["rate_limit", "overloaded", "server_error"])
async def test_a_failure_in_the_middle_of_a_stream_is_an_error_to_both(protocol: Protocol, kind: Any) -> None:
    step = fail(kind, "it is so", text="Hel lo", error_after=1)
    async with FakeProvider(protocol, [step]) as fake:
        with pytest.raises(Refused, match="it is so"):
            await CLIENTS[protocol](fake, True)
    error = await failure(protocol, step)
    assert error.kind == kind


@every_protocol
async def test_the_odd_characters_are_sent_as_themselves(protocol: Protocol) -> None:
    async with FakeProvider(protocol, [REPLIES["odd characters"]]) as fake, httpx2.AsyncClient() as client:
        driver = driver_for(fake, protocol)
        await driver.reply(request(), lambda *_: None)
        await driver.close()
        sent = fake.requests[0]
        headers = {name: it for name, it in sent.headers.items() if name not in ("host", "content-length")}
        headers["accept-encoding"] = "identity"
        raw = await client.post(fake.origin + sent.path, content=sent.body, headers=headers)
    assert "\u2028".encode() in raw.content


# -- requests


@every_protocol
async def test_requests_can_be_read(protocol: Protocol) -> None:
    async with FakeProvider(protocol, [say("Hello.")]) as fake:
        driver = driver_for(fake, protocol)
        await driver.reply(request(), lambda *_: None)
        (received,) = fake.requests
        assert received.json == json.loads(driver.encode(request()))
        assert "sk-test" in "".join(received.headers.values())
        await driver.close()


@every_protocol
async def test_answers_come_in_order_and_the_last_goes_on(protocol: Protocol) -> None:
    async with FakeProvider(protocol, ["One.", "Two."]) as fake:
        replies = [await replied(fake, protocol) for _ in range(3)]
    assert [reply.message.text for reply in replies] == ["One.", "Two.", "Two."]
    assert len({reply.response_id for reply in replies}) == 3


async def test_a_script_may_be_a_function_of_the_request() -> None:
    def repeat(received: Received) -> Play:
        return say(received.json["messages"][-1]["content"].upper())

    async with FakeProvider("openai-chat", repeat) as fake:
        assert (await replied(fake, "openai-chat")).message.text == "HI"


async def test_a_failure_of_the_script_is_raised_at_the_end() -> None:
    def broken(received: Received) -> Play:
        raise LookupError("no such scene")

    fake = await FakeProvider("openai", broken).__aenter__()
    with pytest.raises(DriverError):
        await replied(fake, "openai")
    with pytest.raises(LookupError, match="no such scene"):
        await fake.__aexit__(None, None, None)


def test_a_script_without_answers_is_refused() -> None:
    with pytest.raises(ValueError, match="at least one answer"):
        FakeProvider("openai", [])


@every_protocol
@pytest.mark.parametrize("body", [b"", b"{", b"[]", b"{}"])
async def test_a_request_that_the_protocol_does_not_know_is_refused_as_the_provider_does(
    protocol: Protocol, body: bytes
) -> None:
    async with FakeProvider(protocol, ["Never."]) as fake, httpx2.AsyncClient() as client:
        driver = driver_for(fake, protocol)
        await driver.close()
        answered = await client.post(fake.base_url + "/nowhere", content=body or b"{}")
        assert "error" in answered.json()
        assert answered.status_code in {400, 404}
        assert fake.answered == 0


@every_protocol
async def test_another_key_is_refused(protocol: Protocol) -> None:
    async with FakeProvider(protocol, ["Hello."], key="sk-right") as fake:
        with pytest.raises(DriverError) as caught:
            await replied(fake, protocol)
        assert caught.value.kind == "authentication"
        driver = DRIVERS[protocol](base_url=fake.base_url, api_key="sk-right")
        assert (await driver.reply(request(), lambda *_: None)).message.text == "Hello."
        await driver.close()


# -- trouble


@every_protocol
@settings(max_examples=15, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(size=st.integers(1, 60))
async def test_any_split_is_the_same_answer(protocol: Protocol, size: int) -> None:
    step = structs.replace(REPLIES["everything"], text="a\u2028b \U0001f600")
    async with FakeProvider(protocol, [trouble(step, split=size)]) as fake:
        assert ours(await replied(fake, protocol)) == meant(protocol, step)


@both_ways
@every_protocol
async def test_gzip_and_keep_alives_change_nothing(protocol: Protocol, stream: bool) -> None:
    step = REPLIES["everything"]
    # Google's client takes every line for data; its server sends no comments.
    noise = b": keep-alive\n\n" if stream and protocol != "gemini" else b"\n"
    async with FakeProvider(protocol, [trouble(step, gzip=True, noise=noise, split=11)]) as fake:
        assert decoded(await CLIENTS[protocol](fake, stream)) == meant(protocol, step)
        assert (await replied(fake, protocol, stream)).message.text == step.text


TROUBLES: dict[str, tuple[Trouble | Step, tuple[str, ...]]] = {
    "no terminal event": (trouble("Hel lo.", terminal=False), ("broken_stream",)),
    "half an event": (trouble("Hel lo.", cut=150), ("broken_stream",)),
    "not a word": (trouble("Hello.", events=0), ("broken_stream",)),
    "closed in the middle": (trouble("Hel lo.", terminal=False, then="close"), ("connection",)),
    "reset in the middle": (trouble("Hel lo.", terminal=False, then="reset"), ("connection",)),
    "reset at once": (trouble(head=False, then="reset"), ("connection",)),
    "half open": (trouble("Hel lo.", terminal=False, then="hang"), ("stalled",)),
    "silence": (trouble(head=False, then="hang"), ("timeout",)),
    "garbled": (trouble("Hel lo.", garble={1: b"data: {oops\n\n"}), ("broken_stream",)),
    "a page": (
        trouble(body=b"<html><title>Log in</title></html>", content_type="text/html"),
        ("server_error",),
    ),
    "a failing page": (
        trouble(body=b"<html><title>Bad gateway</title></html>", content_type="text/html", status=502),
        ("server_error",),
    ),
    "a wrong type": (trouble("Hello.", content_type="application/json"), ("server_error",)),
    "a connection that fails": (fail("connection"), ("connection",)),
    "a stall": (fail("stalled", text="Hel lo.", error_after=1), ("stalled",)),
    "a stream that breaks": (fail("broken_stream", text="Hel lo.", error_after=1), ("broken_stream",)),
}


@every_protocol
@pytest.mark.parametrize("name", TROUBLES)
async def test_every_trouble_is_the_trouble_it_says(protocol: Protocol, name: str) -> None:
    play, kinds = TROUBLES[name]
    assert (await failure(protocol, play, stall_timeout=0.2)).kind in kinds


@every_protocol
async def test_call_ids_may_be_repeated_or_empty(protocol: Protocol) -> None:
    plays = [trouble(calls(*TWO), call_ids=ids) for ids in (("same",), ())]
    async with FakeProvider(protocol, plays) as fake:
        found = [(await replied(fake, protocol)).message.calls for _ in plays]
    assert [[it.provider_id for it in each] for each in found] == [["same", "same"], ["", ""]]


@cache
def big_bomb() -> Trouble:
    return gzip_bomb(300 * 2**20)


@both_ways
@every_protocol
async def test_a_gzip_bomb_does_not_go_off_in_a_driver(protocol: Protocol, stream: bool) -> None:
    bomb = big_bomb()
    assert len(bomb.body or b"") < 2**20
    tracemalloc.start()
    try:
        error = await failure(protocol, bomb, stream=stream)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert error.kind in {"broken_stream", "server_error"}
    assert peak < 200 * 2**20  # a limit of 64 MiB, what is read at once, and a copy of either


async def test_delays_are_kept() -> None:
    loop = asyncio.get_running_loop()
    async with FakeProvider("openai", [say("Hel lo.", delay=0.1, pace=0.02)]) as fake:
        began = loop.time()
        await replied(fake, "openai")
        assert loop.time() - began >= 0.1 + 5 * 0.02


async def test_one_can_wait_until_every_client_has_gone() -> None:
    async with FakeProvider("anthropic", ["Hello."]) as fake:
        driver = driver_for(fake, "anthropic")
        await driver.reply(request(), lambda *_: None)
        assert fake.connections == 1
        await driver.close()
        async with asyncio.timeout(5):
            await fake.closed()
        assert fake.connections == 0


async def test_the_end_of_the_block_ends_every_connection() -> None:
    asked = asyncio.Event()

    def hang(received: Received) -> Play:
        asked.set()
        return trouble("Hello.", events=1, then="hang")

    async with FakeProvider("gemini", hang) as fake:
        task = asyncio.create_task(replied(fake, "gemini"))
        await asked.wait()
    with pytest.raises(DriverError):
        await task
