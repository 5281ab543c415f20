"""The vendors' own clients, each asked for one answer and read to its end: what they cost beside our drivers.

They are loaded when they are asked for, so that whoever is measured before them does not carry them.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from importlib import import_module
from importlib.util import find_spec
from typing import Any

from benchmarks.calculator import QUESTION
from benchmarks.crowd import MODEL

Ask = Callable[[], Awaitable[int]]
"""Asks once, and says how many pieces of text came."""
Client = tuple[Ask, Callable[[], Awaitable[None]]]
"""And lets go of its connections."""

PACKAGES = {
    "anthropic": "anthropic",
    "gemini": "google.genai",
    "openai": "openai",
    "openai-chat": "openai",
}
"""The client of each protocol."""


def missing(protocol: str) -> str:
    """Why its client cannot be measured here, if so."""
    package = PACKAGES[protocol]
    try:
        found = find_spec(package)
    except ModuleNotFoundError:
        found = None
    return "" if found else f"{package} is not installed: pip install 'holdfast[dev]'"


@asynccontextmanager
async def asking(protocol: str, origin: str) -> AsyncIterator[Ask]:
    """Its client, on the server there."""
    ask, close = _ASKING[protocol](import_module(PACKAGES[protocol]), origin)
    try:
        yield ask
    finally:
        await close()


def _anthropic(sdk: Any, origin: str) -> Client:
    client = sdk.AsyncAnthropic(base_url=origin, api_key="any", max_retries=0)
    said = [{"role": "user", "content": QUESTION}]

    async def ask() -> int:
        seen = 0
        stream = await client.messages.create(model=MODEL, max_tokens=8_192, messages=said, stream=True)
        async for event in stream:
            if event.type == "content_block_delta" and event.delta.type == "text_delta":
                seen += 1
        return seen

    return ask, client.close


def _gemini(sdk: Any, origin: str) -> Client:
    client = sdk.Client(api_key="any", http_options=sdk.types.HttpOptions(base_url=origin)).aio

    async def ask() -> int:
        seen = 0
        async for chunk in await client.models.generate_content_stream(model=MODEL, contents=QUESTION):
            if chunk.text:
                seen += 1
        return seen

    return ask, client.aclose


def _responses(sdk: Any, origin: str) -> Client:
    client = sdk.AsyncOpenAI(base_url=f"{origin}/v1", api_key="any", max_retries=0)

    async def ask() -> int:
        seen = 0
        async for event in await client.responses.create(model=MODEL, input=QUESTION, stream=True):
            if event.type == "response.output_text.delta":
                seen += 1
        return seen

    return ask, client.close


def _chat(sdk: Any, origin: str) -> Client:
    client = sdk.AsyncOpenAI(base_url=f"{origin}/v1", api_key="any", max_retries=0)
    said = [{"role": "user", "content": QUESTION}]

    async def ask() -> int:
        seen = 0
        async for chunk in await client.chat.completions.create(model=MODEL, messages=said, stream=True):
            if chunk.choices and chunk.choices[0].delta.content:
                seen += 1
        return seen

    return ask, client.close


_ASKING: dict[str, Callable[[Any, str], Client]] = {
    "anthropic": _anthropic,
    "gemini": _gemini,
    "openai": _responses,
    "openai-chat": _chat,
}
