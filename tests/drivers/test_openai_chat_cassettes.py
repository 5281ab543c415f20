"""Every recorded Chat Completions exchange, read by our driver and by the official client from the same bytes."""

import json
import warnings
from pathlib import Path
from typing import Any

import openai
import pytest
from openai.lib.streaming.chat import ChatCompletionStreamState
from openai.types.chat import ChatCompletion, ChatCompletionChunk

from holdfast.driver import Reply, Request, Transcript
from holdfast.errors import DriverError
from holdfast.messages import Thinking, Usage, user_message
from tests.drivers.cassettes import exchanges_of, files_of, in_pieces
from tests.drivers.wire_server import WireServer, says

FILES = files_of("openai-chat")
EXCHANGES = exchanges_of(FILES)

STOPS = {"stop": "end_turn", "tool_calls": "tool_calls", "length": "max_tokens", "content_filter": "refusal"}
"""The protocol's documented words in ours."""


def test_there_are_recordings_of_every_known_server() -> None:
    servers = {path.stem.removeprefix("test_").partition("__")[0] for path in FILES}
    assert servers >= {"deepseek", "groq", "mistral", "ollama", "openai", "openrouter", "tool_choice_matrix"}
    assert len(FILES) >= 61
    assert len(EXCHANGES) >= 80


@pytest.mark.parametrize(("path", "place"), EXCHANGES)
async def test_a_recorded_answer_means_to_us_what_it_means_to_the_official_client(
    path: Path, place: int
) -> None:
    response = json.loads(path.read_bytes())["interactions"][place]["response"]
    streaming = response["content_type"].startswith("text/event-stream")
    async with served(response, streaming) as server:
        theirs = await official(server.url, streaming)
        ours = await our_own(server, streaming)
    assert ours == theirs


def served(response: dict[str, Any], streaming: bool) -> WireServer:
    if streaming:
        body = response["body"].encode()
        return WireServer([in_pieces(body)])
    body = json.dumps(response["body"]).encode()
    return WireServer(
        [says(body, status=f"{response['status']} Recorded", content_type=response["content_type"])]
    )


async def our_own(server: WireServer, streaming: bool) -> dict[str, Any]:
    driver = server.driver()
    told: dict[str, list[str]] = {"text": [], "thinking": [], "arguments": []}
    request = Request(model="recorded", messages=Transcript([user_message("hi")]), stream=streaming)
    try:
        reply = await driver.reply(request, lambda kind, piece, index: told[kind].append(piece))
    except DriverError as error:
        return {"error": error.kind}
    finally:
        await driver.close()
    assert "".join(told["text"]) == reply.message.text
    assert "".join(told["thinking"]) == thought(reply)
    return {
        "text": reply.message.text,
        "thinking": thought(reply),
        "calls": [(call.name, call.arguments, call.provider_id) for call in reply.message.calls],
        "usage": reply.usage,
        "stop": reply.stop,
        "model": reply.model,
        "id": reply.response_id,
    }


def thought(reply: Reply) -> str:
    return "".join(part.text for part in reply.message.content if isinstance(part, Thinking))


async def official(url: str, streaming: bool) -> dict[str, Any]:
    """What the official client makes of it, in the same shape."""
    client = openai.AsyncOpenAI(base_url=url, api_key="sk-test", max_retries=0)
    try:
        if streaming:
            completion, text, thinking = await official_stream(client)
        else:
            completion = await client.chat.completions.create(model="recorded", messages=[])
            if not completion.choices:
                # It does not check: what it hands out has no choices. To us that is no answer.
                return {"error": "server_error"}
            message = completion.choices[0].message
            text, thinking = message.content or "", reasoning(message.model_extra or {})
    except openai.APIError as error:
        return {"error": official_kind(error)}
    finally:
        await client.close()
    return {
        "text": text,
        "thinking": thinking,
        "calls": official_calls(completion),
        "usage": official_usage(completion),
        "stop": STOPS[completion.choices[0].finish_reason],
        "model": completion.model,
        "id": completion.id,
    }


async def official_stream(client: openai.AsyncOpenAI) -> tuple[ChatCompletion, str, str]:
    """The completion that the client accumulates, and the text and reasoning of its chunks one after the other."""
    state = ChatCompletionStreamState()
    text, thinking, mixed = [], [], []
    stream = await client.chat.completions.create(model="recorded", messages=[], stream=True)
    async for chunk in stream:
        with warnings.catch_warnings():
            # Mistral's lists of thoughts are not in the client's types, and pydantic says so.
            warnings.simplefilter("ignore", UserWarning)
            state.handle_chunk(chunk)
        mixed += [isinstance(choice.delta.content, list) for choice in chunk.choices]
        said, thought_of = pieces(chunk)
        text.append(said)
        thinking.append(thought_of)
    completion = state.get_final_completion()
    if not any(mixed):
        assert "".join(text) == (completion.choices[0].message.content or "")
    return completion, "".join(text), "".join(thinking)


def pieces(chunk: ChatCompletionChunk) -> tuple[str, str]:
    if not chunk.choices:
        return "", ""
    delta = chunk.choices[0].delta
    content: Any = delta.content
    if isinstance(content, list):
        return "", "".join(inner["text"] for part in content for inner in part["thinking"])
    return content or "", reasoning(delta.model_extra or {})


def reasoning(extra: dict[str, Any]) -> str:
    return extra.get("reasoning_content") or extra.get("reasoning") or ""


def official_calls(completion: ChatCompletion) -> list[tuple[str, str, str]]:
    calls = completion.choices[0].message.tool_calls or []
    # A call without arguments has none at all; we write that as an empty object.
    return [(call.function.name, call.function.arguments or "{}", call.id) for call in calls]


def official_usage(completion: ChatCompletion) -> Usage:
    usage = completion.usage
    assert usage is not None
    extra = usage.model_extra or {}
    given, made = usage.prompt_tokens_details, usage.completion_tokens_details
    return Usage(
        input_tokens=usage.prompt_tokens,
        output_tokens=usage.completion_tokens,
        cache_read_tokens=(given and given.cached_tokens) or extra.get("num_cached_tokens") or 0,
        cache_write_tokens=(given and (given.model_extra or {}).get("cache_write_tokens")) or 0,
        reasoning_tokens=(made and made.reasoning_tokens) or 0,
    )


def official_kind(error: openai.APIError) -> str:
    if isinstance(error, openai.RateLimitError):
        return "rate_limit"
    named = error.type == "invalid_request_error"  # the errors inside a stream have no class of their own
    assert named or isinstance(error, openai.BadRequestError | openai.NotFoundError)
    return "invalid_request"
