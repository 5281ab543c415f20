"""What only Chat Completions has on a real connection; what all protocols have is in `test_network`."""

import asyncio

from tests.drivers.tongues import OPENAI_CHAT
from tests.drivers.wire_server import SSE, Exchange, WireServer, head, in_chunks, streams

HELLO = b'data: {"id":"c1","model":"m1","choices":[{"index":0,"delta":{"content":"Hel"}}]}\n\n'
WORLD = b'data: {"choices":[{"index":0,"delta":{"content":"lo"}}]}\n\n'
FINISH = b'data: {"choices":[{"index":0,"delta":{},"finish_reason":"stop"}]}\n\n'
USAGE = b'data: {"choices":[],"usage":{"prompt_tokens":1,"completion_tokens":2}}\n\n'
DONE = b"data: [DONE]\n\n"
ALL = (HELLO, WORLD, FINISH, USAGE, DONE)


# -- the end that is missing


async def test_an_event_cut_in_half_after_the_models_last_word_is_forgiven() -> None:
    async with WireServer([streams(*ALL[:3], USAGE[:30])]) as server:
        assert (await OPENAI_CHAT.ask(server)).message.text == "Hello"


async def test_what_comes_after_the_end_is_neither_heard_nor_waited_for() -> None:
    async def script(exchange: Exchange) -> None:
        await exchange.send(head("200 OK", SSE, "transfer-encoding: chunked"), *in_chunks(ALL))
        while True:
            await exchange.send(*in_chunks([HELLO, b"data: {oops\n\n"]))
            await asyncio.sleep(0.01)

    async with WireServer([script]) as server:
        assert (await OPENAI_CHAT.ask(server)).message.text == "Hello"


# -- refusals


async def test_an_error_in_a_stream_that_began_well_is_an_error() -> None:
    inside = b'event: error\ndata: {"error":{"message":"busy","type":"overloaded_error"}}\n\n'
    assert (await OPENAI_CHAT.failure(streams(HELLO, inside))).kind == "overloaded"
