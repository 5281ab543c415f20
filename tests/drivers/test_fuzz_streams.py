"""Spoiled answers, by the thousand: a driver makes a reply of each, or a `DriverError`, and soon.

`HOLDFAST_FUZZ_SECONDS` says how long each of these looks (2 s), from a new place every time; `HOLDFAST_FUZZ_SEED` where
it begins, as a failure tells.
"""

from __future__ import annotations

import gc
import os
import resource
import secrets
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import suppress
from random import Random
from typing import Any

import httpx2
import msgspec
import pytest

from holdfast.driver import Driver, Reply, Request, Transcript
from holdfast.drivers.anthropic import Anthropic
from holdfast.drivers.failures import Peer
from holdfast.drivers.gemini import Gemini
from holdfast.drivers.openai import OpenAI
from holdfast.drivers.openai_chat import OpenAIChat
from holdfast.drivers.sse import EventSplitter
from holdfast.errors import DriverError
from holdfast.messages import user_message
from tests.drivers import fuzzing

SECONDS = float(os.environ.get("HOLDFAST_FUZZ_SECONDS", "2"))
SEED = int(
    os.environ.get("HOLDFAST_FUZZ_SEED")
    or (secrets.randbelow(2**40) if "HOLDFAST_FUZZ_SECONDS" in os.environ else 0)
)
SLOW = 1.0
"""Seconds of work that no answer may take."""
GROWTH = 150
"""MiB that the process may grow by while it reads thousands of them."""

DRIVERS: dict[str, type[Any]] = {
    "anthropic": Anthropic,
    "gemini": Gemini,
    "openai": OpenAI,
    "openai-chat": OpenAIChat,
}
every_protocol = pytest.mark.parametrize("protocol", DRIVERS)
pytestmark = pytest.mark.timeout(120 + 4 * SECONDS)


def cases() -> Iterator[Random]:
    """A source of chance for each case, until the time is over. Says which one was the last when it fails."""
    began, seed = time.monotonic(), SEED
    while time.monotonic() - began < SECONDS:
        random = Random(seed)
        start = time.thread_time()
        try:
            yield random
        except GeneratorExit:
            print(f"found with HOLDFAST_FUZZ_SEED={seed}")  # noqa: T201
            raise
        assert time.thread_time() - start < SLOW, f"took too long: HOLDFAST_FUZZ_SEED={seed}"
        seed += 1
    assert seed > SEED + 20, "hardly anything was tried"


class Wire:
    """Stands for a server: hands out one answer, in pieces."""

    def __init__(self, protocol: str) -> None:
        self.client = httpx2.AsyncClient(transport=httpx2.MockTransport(self._answer))
        self.driver: Driver = DRIVERS[protocol](
            base_url="http://localhost/v1", api_key="sk-test", http=self.client
        )

    def _answer(self, request: httpx2.Request) -> httpx2.Response:
        headers = {"content-type": self._kind}
        return httpx2.Response(self._status, headers=headers, content=self._content())

    async def _content(self) -> AsyncIterator[bytes]:
        for piece in self._pieces:
            yield piece

    async def read(self, pieces: list[bytes], kind: str, *, status: int = 200) -> tuple[Reply | str, int]:
        """The reply, or the kind of the error; and how many characters were told."""
        self._pieces, self._kind, self._status = pieces, kind, status
        told = 0

        def emit(what: str, piece: str, index: int) -> None:
            nonlocal told
            assert piece
            assert index >= 0
            told += len(piece)

        request = Request(
            model="m", messages=Transcript([user_message("hi")]), stream=kind == "text/event-stream"
        )
        try:
            return await self.driver.reply(request, emit), told
        except DriverError as error:
            failure = error
        assert len(str(failure)) < 2_000
        assert str(failure).isprintable()
        return failure.kind, told


def megabytes() -> float:
    gc.collect()
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def is_sound(reply: Reply | str, told: int, size: int) -> None:
    """What a driver may return for so many bytes."""
    limit = 12 * size + 20_000
    assert told < limit
    if isinstance(reply, Reply):
        data = msgspec.json.encode(reply)
        assert len(data) < limit
        assert msgspec.json.decode(data, type=Reply) == reply
        assert reply.usage.input_tokens >= 0
        assert reply.usage.output_tokens >= 0
        assert all(each.name for each in reply.message.calls)


@every_protocol
async def test_a_spoiled_stream_is_a_reply_or_an_error_however_it_is_split(protocol: str) -> None:
    good = fuzzing.streams(protocol)
    foreign = [body for other in DRIVERS for body in fuzzing.streams(other)[:8]]
    wire = Wire(protocol)
    before = megabytes()
    for random in cases():
        data = fuzzing.spoiled(random.choice(good), random.choice((*good, *foreign)), random)
        found, told = await wire.read([data], "text/event-stream")
        is_sound(found, told, len(data))
        again, _ = await wire.read(fuzzing.split(data, random), "text/event-stream")
        assert found == again
    await wire.client.aclose()
    assert megabytes() - before < GROWTH


@every_protocol
async def test_a_spoiled_body_is_a_reply_or_an_error(protocol: str) -> None:
    good = fuzzing.bodies(protocol)
    foreign = [body for other in DRIVERS for body in fuzzing.bodies(other)[:8]]
    wire = Wire(protocol)
    before = megabytes()
    for random in cases():
        data = fuzzing.spoiled(random.choice(good), random.choice((*good, *foreign)), random)
        found, told = await wire.read([data], "application/json")
        is_sound(found, told, len(data))
        refused, _ = await wire.read([data], "application/json", status=random.randrange(300, 600))
        assert isinstance(refused, str)
    await wire.client.aclose()
    assert megabytes() - before < GROWTH


def test_bytes_of_any_kind_are_cut_into_the_same_events_however_they_are_split() -> None:
    alphabet = (*fuzzing.TOKENS, b"a", b" ", b":", b"data: a\n\n", b"data: a\r\rdata: b\r\n\r\n")
    before = megabytes()
    for random in cases():
        data = b"".join(random.choice(alphabet) for _ in range(random.randrange(40)))
        results = []
        for pieces in ([data], fuzzing.split(data, random), [data[at : at + 1] for at in range(len(data))]):
            splitter = EventSplitter(Peer("host"), limit=8_000)
            events: list[bytes] = []
            with suppress(DriverError):
                for piece in pieces:
                    events += splitter.feed(piece)
                events += splitter.end()
            results.append(events)
        if len(data) < 8_000:
            assert results[0] == results[1] == results[2]
            assert sum(len(event) for event in results[0]) <= len(data)
    assert megabytes() - before < GROWTH
