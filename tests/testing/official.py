"""What the official clients make of a server's answers, in our words. Everything they hand out is checked against
their own types first: they do not do so themselves."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any, NamedTuple

import anthropic
import openai
from anthropic.types import Message
from google import genai
from google.genai import errors, types
from openai.lib.streaming.chat import ChatCompletionStreamState
from openai.types.responses import Response
from pydantic import BaseModel

from holdfast.messages import Usage
from holdfast.testing.providers import FakeProvider


class Heard(NamedTuple):
    """An answer, as a client understood it."""

    text: str
    thinking: str
    calls: list[tuple[str, Any, str]]
    stop: str
    usage: Usage
    model: str


class Refused(Exception):
    """The client raised the error that it has for this status, or for an error inside a stream (None)."""

    def __init__(self, status: int | None, error: Exception) -> None:
        super().__init__(str(error))
        self.status = status


def checked(thing: BaseModel) -> None:
    """Raise when this is not what its type says."""
    type(thing).model_validate(thing.model_dump(mode="json", exclude_unset=True, warnings="error"))


async def chat(fake: FakeProvider, stream: bool) -> Heard:
    client = openai.AsyncOpenAI(base_url=fake.base_url, api_key="sk-test", max_retries=0)
    ask: dict[str, Any] = {"model": "m", "messages": [{"role": "user", "content": "hi"}]}
    async with client:
        try:
            if not stream:
                completion = await client.chat.completions.create(**ask)
                checked(completion)
                extra = completion.choices[0].message.model_extra or {}
                return _chat(completion, extra.get("reasoning_content", ""))
            state, thoughts = ChatCompletionStreamState(), []
            options = {"stream": True, "stream_options": {"include_usage": True}}
            async for chunk in await client.chat.completions.create(**ask, **options):
                checked(chunk)
                state.handle_chunk(chunk)
                for choice in chunk.choices:
                    thoughts.append((choice.delta.model_extra or {}).get("reasoning_content", ""))
            return _chat(state.current_completion_snapshot, "".join(thoughts))
        except openai.APIError as error:
            raise Refused(getattr(error, "status_code", None), error) from error


def _chat(completion: Any, thinking: str) -> Heard:
    choice, usage = completion.choices[0], completion.usage
    stops = {"stop": "end_turn", "length": "max_tokens", "tool_calls": "tool_calls"}
    assert usage is not None
    assert usage.prompt_tokens_details is not None
    assert usage.completion_tokens_details is not None
    return Heard(
        choice.message.content or choice.message.refusal or "",
        thinking,
        [(it.function.name, it.function.arguments, it.id) for it in choice.message.tool_calls or ()],
        "refusal" if choice.message.refusal else stops[choice.finish_reason],
        Usage(
            input_tokens=usage.prompt_tokens,
            output_tokens=usage.completion_tokens,
            cache_read_tokens=usage.prompt_tokens_details.cached_tokens or 0,
            reasoning_tokens=usage.completion_tokens_details.reasoning_tokens or 0,
        ),
        completion.model,
    )


async def responses(fake: FakeProvider, stream: bool) -> Heard:
    client = openai.AsyncOpenAI(base_url=fake.base_url, api_key="sk-test", max_retries=0)
    async with client:
        try:
            if not stream:
                response = await client.responses.create(model="m", input="hi")
                checked(response)
                return _response(response)
            numbers, arguments, last = [], [], None
            async for event in await client.responses.create(model="m", input="hi", stream=True):
                checked(event)
                numbers.append(event.sequence_number)
                if event.type == "error":
                    raise Refused(None, RuntimeError(event.message))
                if event.type == "response.function_call_arguments.delta":
                    arguments.append(event.delta)
                last = getattr(event, "response", None)
            assert numbers == list(range(len(numbers)))
            assert last is not None
            heard = _response(last)
            assert "".join(arguments) == "".join(wanted[1] for wanted in heard.calls)
            return heard
        except openai.APIError as error:
            raise Refused(getattr(error, "status_code", None), error) from error


def _response(response: Response) -> Heard:
    messages = [part for item in response.output if item.type == "message" for part in item.content]
    thoughts = [part.text for item in response.output if item.type == "reasoning" for part in item.summary]
    calls = [it for it in response.output if it.type == "function_call"]
    refusals = [part.refusal for part in messages if part.type == "refusal"]
    stop = "tool_calls" if calls else "refusal" if refusals else "end_turn"
    if response.incomplete_details:
        stop = {"max_output_tokens": "max_tokens"}[str(response.incomplete_details.reason)]
    usage = response.usage
    assert usage is not None
    return Heard(
        "".join(refusals) or response.output_text,
        "".join(thoughts),
        [(it.name, it.arguments, it.call_id) for it in calls],
        stop,
        Usage(
            input_tokens=usage.input_tokens,
            output_tokens=usage.output_tokens,
            cache_read_tokens=usage.input_tokens_details.cached_tokens,
            reasoning_tokens=usage.output_tokens_details.reasoning_tokens,
        ),
        response.model,
    )


async def messages(fake: FakeProvider, stream: bool) -> Heard:
    client = anthropic.AsyncAnthropic(base_url=fake.base_url, api_key="sk-test", max_retries=0)
    ask: dict[str, Any] = {
        "model": "m",
        "max_tokens": 9,
        "messages": [{"role": "user", "content": "hi"}],
    }
    async with client:
        try:
            if not stream:
                message = await client.messages.create(**ask)
                checked(message)
                return _message(message)
            async with client.messages.stream(**ask) as events:
                async for event in events:
                    checked(event)
                return _message(await events.get_final_message())
        except anthropic.APIStatusError as error:
            inside = error.response.status_code == 200
            raise Refused(None if inside else error.response.status_code, error) from error


def _message(message: Message) -> Heard:
    blocks = message.content
    stops = {
        "end_turn": "end_turn",
        "tool_use": "tool_calls",
        "max_tokens": "max_tokens",
        "refusal": "refusal",
    }
    usage = message.usage
    read = usage.cache_read_input_tokens or 0
    details = usage.output_tokens_details
    assert all(it.signature for it in blocks if it.type == "thinking")
    return Heard(
        "".join(it.text for it in blocks if it.type == "text"),
        "".join(it.thinking for it in blocks if it.type == "thinking"),
        [(it.name, it.input, it.id) for it in blocks if it.type == "tool_use"],
        stops[str(message.stop_reason)],
        Usage(
            input_tokens=usage.input_tokens + read + (usage.cache_creation_input_tokens or 0),
            output_tokens=usage.output_tokens,
            cache_read_tokens=read,
            reasoning_tokens=details.thinking_tokens if details else 0,
        ),
        message.model,
    )


async def gemini(fake: FakeProvider, stream: bool) -> Heard:
    options = types.HttpOptions(base_url=fake.origin, retry_options=types.HttpRetryOptions(attempts=1))
    client = genai.Client(api_key="AIza-test", http_options=options).aio
    try:
        if stream:
            chunks = await client.models.generate_content_stream(model="m", contents="hi")
            return _generated([chunk async for chunk in chunks])
        return _generated([await client.models.generate_content(model="m", contents="hi")])
    except errors.APIError as error:
        raise Refused(error.code, error) from error
    finally:
        await client.aclose()


def _generated(chunks: list[types.GenerateContentResponse]) -> Heard:
    candidates = [it.candidates[0] for it in chunks if it.candidates]
    parts = [part for it in candidates if it.content for part in it.content.parts or ()]
    calls = [part.function_call for part in parts if part.function_call]
    stops = {"STOP": "tool_calls" if calls else "end_turn", "MAX_TOKENS": "max_tokens", "SAFETY": "refusal"}
    usage, reason = chunks[-1].usage_metadata, candidates[-1].finish_reason
    assert usage is not None
    assert reason is not None
    thoughts = usage.thoughts_token_count or 0
    return Heard(
        "".join(part.text or "" for part in parts if not part.thought),
        "".join(part.text or "" for part in parts if part.thought),
        [(str(it.name), it.args or {}, str(it.id or "")) for it in calls],
        stops[reason.value],
        Usage(
            input_tokens=usage.prompt_token_count or 0,
            output_tokens=(usage.candidates_token_count or 0) + thoughts,
            cache_read_tokens=usage.cached_content_token_count or 0,
            reasoning_tokens=thoughts,
        ),
        str(chunks[-1].model_version),
    )


CLIENTS: dict[str, Callable[[FakeProvider, bool], Awaitable[Heard]]] = {
    "anthropic": messages,
    "gemini": gemini,
    "openai": responses,
    "openai-chat": chat,
}
