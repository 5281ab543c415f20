"""Each protocol's way to say the same answer, so that one test can ask it of every driver."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

import pytest

from holdfast.driver import Reply, Request, Transcript
from holdfast.drivers.anthropic import Anthropic
from holdfast.drivers.gemini import Gemini
from holdfast.drivers.openai import OpenAI
from holdfast.drivers.openai_chat import OpenAIChat
from holdfast.errors import DriverError
from holdfast.messages import user_message
from tests.drivers.wire_server import Script, WireServer, says

KEY = "sk-test-0123456789"
SAID = "Hel\u2028lo \U0001f600"
"""What every whole answer says."""


@dataclass(frozen=True)
class Tongue:
    """How one protocol says `SAID`, with one input token and two output tokens."""

    name: str
    driver: type[Any]
    path: str
    """Of a streamed request, behind the server's address."""
    key_header: str
    before_key: str
    base_variable: str
    begin: tuple[bytes, ...]
    """Events up to and with the first words."""
    rest: tuple[bytes, ...]
    """The other words."""
    last: tuple[bytes, ...]
    """What the answer is not complete without."""
    after: tuple[bytes, ...]
    """What may be missing."""
    whole: bytes
    noise: tuple[bytes, ...]
    """Events that are no progress."""

    @property
    def events(self) -> tuple[bytes, ...]:
        return self.begin + self.rest + self.last + self.after

    @property
    def needed(self) -> tuple[bytes, ...]:
        return self.begin + self.rest + self.last

    def made(self, server: WireServer, **options: Any) -> Any:
        """A driver for this server."""
        return self.driver(**({"base_url": server.url, "api_key": KEY} | options))

    async def ask(self, server: WireServer, *, stream: bool = True, **options: Any) -> Reply:
        """The answer to one request, by a driver that is closed behind it."""
        driver = self.made(server, **options)
        try:
            reply: Reply = await driver.reply(request(stream=stream), lambda kind, piece, index: None)
            return reply
        finally:
            await driver.close()

    async def failure(self, *scripts: Script, stream: bool = True, **options: Any) -> DriverError:
        """What comes of one request when the server plays these."""
        async with WireServer(list(scripts)) as server:
            with pytest.raises(DriverError) as caught:
                await self.ask(server, stream=stream, **options)
        return caught.value

    def refuses(self, status: str, message: str, *, extra: str = "") -> Script:
        """An error status with an error object."""
        number = int(status[:3])
        error: dict[str, Any] = {"message": message}
        if self.name == "gemini":
            error |= {"code": number}
        return says(json.dumps({"type": "error", "error": error}).encode(), status=status, extra=extra)


def request(*, stream: bool = True) -> Request:
    return Request(model="m", messages=Transcript([user_message("hi")]), stream=stream)


def _data(value: Any, kind: str = "") -> bytes:
    named = f"event: {kind}\n" if kind else ""
    return f"{named}data: {json.dumps(value, ensure_ascii=False)}\n\n".encode()


def _named(kind: str, **fields: Any) -> bytes:
    return _data({"type": kind} | fields, kind)


def _anthropic() -> Tongue:
    message = {"type": "message", "id": "r1", "model": "m1", "role": "assistant"}
    usage = {"input_tokens": 1, "output_tokens": 2}

    def words(text: str) -> bytes:
        return _named("content_block_delta", index=0, delta={"type": "text_delta", "text": text})

    content = [{"type": "text", "text": SAID}]
    return Tongue(
        name="anthropic",
        driver=Anthropic,
        path="/v1/messages",
        key_header="x-api-key",
        before_key="",
        base_variable="ANTHROPIC_BASE_URL",
        begin=(
            _named("message_start", message=message | {"content": [], "usage": usage}),
            _named("content_block_start", index=0, content_block={"type": "text", "text": ""}),
            words(SAID[:4]),
        ),
        rest=(words(SAID[4:]), _named("content_block_stop", index=0)),
        last=(
            _named("message_delta", delta={"stop_reason": "end_turn"}, usage={"output_tokens": 2}),
            _named("message_stop"),
        ),
        after=(),
        whole=json.dumps(message | {"content": content, "stop_reason": "end_turn", "usage": usage}).encode(),
        noise=(_named("ping"), words("")),
    )


def _gemini() -> Tongue:
    ids = {"modelVersion": "m1", "responseId": "r1"}
    usage = {"promptTokenCount": 1, "candidatesTokenCount": 2}

    def chunk(text: str, finish: str = "") -> dict[str, Any]:
        candidate = {"content": {"role": "model", "parts": [{"text": text}]}, "index": 0}
        return {"candidates": [candidate | ({"finishReason": finish} if finish else {})]} | ids

    return Tongue(
        name="gemini",
        driver=Gemini,
        path="/v1/models/m:streamGenerateContent?alt=sse",
        key_header="x-goog-api-key",
        before_key="",
        base_variable="GOOGLE_GEMINI_BASE_URL",
        begin=(_data(chunk(SAID[:4])),),
        rest=(_data(chunk(SAID[4:])),),
        last=(_data(chunk("", "STOP") | {"usageMetadata": usage}),),
        after=(),
        whole=json.dumps(chunk(SAID, "STOP") | {"usageMetadata": usage}).encode(),
        noise=(_data(chunk("") | {"usageMetadata": {"promptTokenCount": 1}}),),
    )


def _openai() -> Tongue:
    part = {"type": "output_text", "text": SAID, "annotations": []}
    item = {"type": "message", "id": "msg_1", "role": "assistant", "content": [part]}
    usage = {"input_tokens": 1, "output_tokens": 2}
    base = {"object": "response", "id": "r1", "model": "m1", "usage": usage}
    response = base | {"status": "completed", "output": [item]}
    started = base | {"status": "in_progress", "output": []}

    def words(text: str) -> bytes:
        return _named("response.output_text.delta", output_index=0, delta=text)

    return Tongue(
        name="openai",
        driver=OpenAI,
        path="/v1/responses",
        key_header="authorization",
        before_key="Bearer ",
        base_variable="OPENAI_BASE_URL",
        begin=(_named("response.created", response=started), words(SAID[:4])),
        rest=(words(SAID[4:]), _named("response.output_item.done", output_index=0, item=item)),
        last=(_named("response.completed", response=response),),
        after=(),
        whole=json.dumps(response).encode(),
        noise=(_named("keepalive"), _named("response.in_progress", response=started)),
    )


def _openai_chat() -> Tongue:
    ids = {"id": "r1", "model": "m1"}
    usage = {"prompt_tokens": 1, "completion_tokens": 2}

    def chunk(delta: dict[str, Any], finish: str | None = None) -> bytes:
        return _data(ids | {"choices": [{"index": 0, "delta": delta, "finish_reason": finish}]})

    choice = {"index": 0, "message": {"content": SAID}, "finish_reason": "stop"}
    return Tongue(
        name="openai-chat",
        driver=OpenAIChat,
        path="/v1/chat/completions",
        key_header="authorization",
        before_key="Bearer ",
        base_variable="OPENAI_BASE_URL",
        begin=(chunk({"content": SAID[:4]}),),
        rest=(chunk({"content": SAID[4:]}),),
        last=(chunk({}, "stop"),),
        after=(_data(ids | {"choices": [], "usage": usage}), b"data: [DONE]\n\n"),
        whole=json.dumps(ids | {"choices": [choice], "usage": usage}).encode(),
        noise=(chunk({"content": ""}),),
    )


ANTHROPIC, GEMINI, OPENAI, OPENAI_CHAT = TONGUES = (_anthropic(), _gemini(), _openai(), _openai_chat())
