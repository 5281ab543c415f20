"""The floor: what a request and a reply took at least. No honest count is below it."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from holdfast.driver import Driver, Request, Transcript
from holdfast.drivers.anthropic import Anthropic
from holdfast.drivers.gemini import Gemini
from holdfast.drivers.openai import OpenAI
from holdfast.drivers.openai_chat import OpenAIChat
from holdfast.errors import DriverError
from holdfast.messages import Image, Message, Text, Thinking, ToolCall, ToolResult, tool_message, user_message
from holdfast.turn.floor import Floor, Running, under
from tests.conftest import shared_fixtures
from tests.drivers import recorded_anthropic, recorded_gemini, recorded_openai
from tests.drivers.test_openai_chat_recorded_requests import rebuilt as rebuilt_chat
from tests.drivers.wire_server import WireServer, says, streams

Exchange = dict[str, Any]


def _anthropic(exchange: Exchange, server: str) -> Request:
    return recorded_anthropic.rebuilt(exchange["body"])


def _chat(exchange: Exchange, server: str) -> Request:
    return rebuilt_chat(exchange["body"], server)


def _gemini(exchange: Exchange, server: str) -> Request:
    model, stream = recorded_gemini.model_of(exchange["uri"])
    return recorded_gemini.rebuilt(exchange["body"], model, stream=stream)


def _openai(exchange: Exchange, server: str) -> Request:
    return recorded_openai.rebuilt(exchange["body"])


WIRES: dict[str, tuple[type[Any], str, Callable[[Exchange, str], Request]]] = {
    "anthropic": (Anthropic, "/messages", _anthropic),
    "gemini": (Gemini, "enerateContent", _gemini),
    "openai-chat": (OpenAIChat, "/chat/completions", _chat),
    "openai-responses": (OpenAI, "/responses", _openai),
}


def recordings() -> list[Any]:
    found = []
    for place, (_, ending, _) in WIRES.items():
        for path in sorted((shared_fixtures() / "cassettes" / place).glob("*.json")):
            for number, exchange in enumerate(json.loads(path.read_bytes())["interactions"]):
                if exchange["request"]["uri"].partition("?")[0].endswith(ending):
                    found.append(pytest.param(place, path, number, id=f"{path.stem}-{number}"))
    return found


@pytest.mark.parametrize(("place", "path", "number"), recordings())
async def test_no_recorded_provider_counts_less(place: str, path: Path, number: int) -> None:
    exchange = json.loads(path.read_bytes())["interactions"][number]
    kind, _, rebuilt = WIRES[place]
    request = rebuilt(exchange["request"], path.stem.removeprefix("test_").partition("__")[0])
    response, body = exchange["response"], exchange["response"]["body"]
    streaming = response["content_type"].startswith("text/event-stream")
    told = body.encode() if isinstance(body, str) else json.dumps(body).encode()
    status = f"{response['status']} Recorded"
    answer = streams(told) if streaming else says(told, status=status, content_type=response["content_type"])
    async with WireServer([answer]) as server:
        driver: Driver = kind(base_url=server.url, api_key="sk-test")
        asked = Request(model="recorded", messages=Transcript([user_message("hi")]), stream=streaming)
        try:
            reply = await driver.reply(asked, lambda kind, piece, index: None)
        except DriverError:
            return
        finally:
            await driver.close()
    if reply.usage.input_tokens or reply.usage.output_tokens:
        assert Floor().under(request) <= reply.usage.input_tokens / 2
        assert under(reply.message) <= reply.usage.output_tokens / 2


@pytest.mark.parametrize(
    "text",
    [" " * 100_000, "\n" * 100_000, " \n" * 50_000, "word" + " " * 100_000 + "word", "-" * 255, "a\n" * 100],
)
def test_what_may_be_a_token_or_none_counts_for_none(text: str) -> None:
    assert under(user_message(text)) == 0


@pytest.mark.parametrize(
    ("text", "tokens"),
    [("one two three four five", 1), ("word " * 400, 100), ("x" * 25_600, 100), ("日本語" * 2_560, 30)],
)
def test_words_and_characters_count(text: str, tokens: int) -> None:
    assert under(user_message(text)) == tokens


def test_results_and_arguments_count_and_thoughts_and_pictures_do_not() -> None:
    text = "word " * 40
    result = ToolResult(
        call_id="call_1", name="look", content=(Text(text=text), Image(url="https://x.example"))
    )
    assert under(tool_message(result)) == 10
    call = ToolCall(id="call_1", name="look", arguments=text)
    thoughts = Thinking(text=text, encrypted=text, provider="sim")
    assert under(Message(id="message_1", role="assistant", content=(thoughts, call))) == 10


@given(st.lists(st.text(alphabet=" \nab"), max_size=8), st.integers(0, 8))
def test_a_transcript_that_grows_counts_as_if_it_had_been_whole(texts: list[str], grown: int) -> None:
    messages = [user_message(text * 50) for text in texts]
    transcript, floor = Transcript(messages[:grown]), Floor()
    request = Request(model="sim", messages=transcript, instructions="You are a clerk. " * 8)
    floor.under(request)
    transcript.extend(messages[grown:])
    whole = Request(model="sim", messages=Transcript(messages), instructions="You are a clerk. " * 8)
    assert floor.under(request) == floor.under(request) == Floor().under(whole)
    # And another transcript, as after a summary, begins anew.
    assert floor.under(whole) == Floor().under(whole)


def test_each_message_of_a_transcript_is_looked_at_once() -> None:
    looked: list[str] = []
    running = Running(lambda message: looked.append(message.text) or 1)
    transcript = Transcript([user_message("one")])
    assert running.over(transcript) == running.over(transcript) == 1
    transcript.extend([user_message("two"), user_message("three")])
    assert running.over(transcript) == 3
    assert looked == ["one", "two", "three"]
    assert running.over(Transcript([user_message("again")])) == 1
