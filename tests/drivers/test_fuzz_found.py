"""What fuzzing found, each as the shortest answer that shows it."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from holdfast.drivers.anthropic_reply import ReplyAssembler
from holdfast.drivers.failures import Peer
from holdfast.drivers.sim import Step
from holdfast.errors import DriverError
from holdfast.messages import Native, Usage
from holdfast.testing.providers import FakeProvider, Protocol, say, trouble
from tests.testing.test_providers import every_protocol, failure, replied


def anthropic_reply(block: bytes) -> Any:
    assembler = ReplyAssembler("anthropic", Peer("host"), lambda *_: None)
    assembler.whole(b'{"content":[' + block + b'],"stop_reason":"end_turn"}', "application/json")
    return assembler.reply()


@pytest.mark.parametrize(
    "block",
    [
        b'{"type":"web_search_tool_result","content":"\xff"}',
        b'{"type":"server_tool_use","name":"search","input":{"q":"\xff"}}',
        b'{"type":"text","text":"so","citations":[{"cited_text":"\xff"}]}',
    ],
)
def test_what_ran_at_the_provider_is_kept_though_a_byte_of_it_is_no_text(block: bytes) -> None:
    reply = anthropic_reply(block)
    (native,) = [part for part in reply.message.content if isinstance(part, Native)]
    assert "\ufffd" in msgspec.json.encode(msgspec.json.decode(native.data)).decode()


def test_arguments_are_kept_though_a_byte_of_them_is_no_text() -> None:
    reply = anthropic_reply(b'{"type":"tool_use","id":"a","name":"add","input":{"a":"\xff"}}')
    assert reply.message.calls[0].arguments == '{"a":"\ufffd"}'


NO_COUNTS = Usage(
    input_tokens=-3, output_tokens=-(2**62), cache_read_tokens=-1, cache_write_tokens=-1, reasoning_tokens=-7
)


@pytest.mark.parametrize("stream", [True, False], ids=["streamed", "whole"])
@every_protocol
async def test_a_server_that_counts_below_zero_pays_nobody(protocol: Protocol, stream: bool) -> None:
    async with FakeProvider(protocol, [say("Hello.", usage=NO_COUNTS)]) as fake:
        usage = (await replied(fake, protocol, stream)).usage
    assert min(msgspec.structs.astuple(usage)) >= 0


@every_protocol
async def test_counts_that_no_log_could_hold_are_cut_off(protocol: Protocol) -> None:
    whole = {
        "anthropic": '{"content":[{"type":"text","text":"a"}],"usage":{"input_tokens":1e308,"output_tokens":1e30}}',
        "gemini": '{"candidates":[{"content":{"parts":[{"text":"a"}]},"finishReason":"STOP"}],'
        '"usageMetadata":{"promptTokenCount":1e308,"candidatesTokenCount":1e30}}',
        "openai": '{"output":[],"status":"completed","usage":{"input_tokens":1e308,"output_tokens":1e30}}',
        "openai-chat": '{"choices":[{"message":{"content":"a"},"finish_reason":"stop"}],'
        '"usage":{"prompt_tokens":1e308,"completion_tokens":1e30}}',
    }[protocol]
    async with FakeProvider(protocol, [trouble(body=whole.encode())]) as fake:
        reply = await replied(fake, protocol, stream=False)
    assert reply.usage == msgspec.json.decode(msgspec.json.encode(reply), type=type(reply)).usage


@pytest.mark.parametrize(
    "date", ["Mon, 01 Jan 99999999999999999999 00:00:00 GMT", "Mon, 01 Jan 2026 00:00:00 +99999999999999"]
)
@every_protocol
async def test_a_wait_until_a_day_that_no_calendar_has_is_none(protocol: Protocol, date: str) -> None:
    error: DriverError = await failure(
        protocol, trouble(Step(), body=b"{}", status=429, headers={"retry-after": date})
    )
    assert (error.kind, error.retry_after) == ("rate_limit", None)
