"""Model servers for tests: on a loopback port, speaking a provider's protocol as the provider does, or badly.

async with FakeProvider("anthropic", [call("add", a=2, b=3), say("It is 5.")]) as fake:
    driver = Anthropic(base_url=fake.base_url, api_key="any")

An answer is a step like those of the simulated model. It goes over the wire as it should; `trouble(step, ...)` says
what goes wrong. Nothing here is a model: the answers are a script.
"""

from __future__ import annotations

import asyncio
from asyncio import CancelledError, IncompleteReadError, LimitOverrunError, StreamReader, StreamWriter, Task
from collections.abc import Callable, Iterable, Mapping
from types import TracebackType
from typing import Any, Literal, Self

import msgspec
from msgspec import Struct, field

from holdfast.drivers.sim import Step, call, calls, fail, say
from holdfast.errors import DriverError
from holdfast.testing.providers_anthropic import AnthropicVoice
from holdfast.testing.providers_gemini import GeminiVoice
from holdfast.testing.providers_openai import ResponsesVoice
from holdfast.testing.providers_openai_chat import ChatVoice
from holdfast.testing.providers_said import Told, Voice, event
from holdfast.testing.providers_wire import (
    Answering,
    Ending,
    Received,
    answer,
    bomb,
    compressed,
    receive,
    reset,
)

__all__ = [
    "FakeProvider",
    "Protocol",
    "Received",
    "Step",
    "Trouble",
    "call",
    "calls",
    "fail",
    "gzip_bomb",
    "say",
    "trouble",
]

Protocol = Literal["anthropic", "gemini", "openai", "openai-chat"]
"""A wire protocol, by the vendor under which a model's name has its driver."""

_VOICES: dict[Protocol, type[Voice]] = {
    "anthropic": AnthropicVoice,
    "gemini": GeminiVoice,
    "openai": ResponsesVoice,
    "openai-chat": ChatVoice,
}
_NO_WORDS: dict[str, Ending] = {"connection": "reset", "stalled": "hang", "broken_stream": "end"}
"""Failures that no server can put into words, and how they look instead."""


class Trouble(Struct, frozen=True, kw_only=True):
    """An answer, and how it goes over the wire. Make one with `trouble`.

    A body that is not streamed counts as one event. What is wrong is done in this order: terminal, garble, noise,
    events, gzip, cut, split.
    """

    step: Step = Step()
    status: int = 200
    body: bytes | None = None
    """Sent in place of what the protocol would say."""
    content_type: str | None = None
    """In place of the right one; empty sends none."""
    headers: Mapping[str, str] = field(default_factory=dict)
    call_ids: tuple[str, ...] | None = None
    """The ids of the calls, repeated as needed; empty gives all the id `""`."""
    garble: Mapping[int, bytes] = field(default_factory=dict)
    """Bytes in place of the event at this place; negative places count from the end."""
    noise: bytes = b""
    """Sent after every event, such as `b": keep-alive\\n\\n"`."""
    terminal: bool = True
    """Whether what ends a stream is sent: all after the last piece. Half is missing of a body that is not streamed."""
    events: int | None = None
    """Events that are sent at most; a negative number leaves out so many at the end."""
    gzip: bool = False
    """Whether the body is compressed."""
    cut: int | None = None
    """Bytes of the body that are sent at most; a negative number leaves out so many at the end."""
    split: int | None = None
    """Bytes of each write; None writes every event by itself."""
    then: Ending = "end"
    """After that: `end` the body as it should be, `close` the connection in the middle of it, `reset` it, or `hang`
    until the client goes."""
    head: bool = True
    """Whether so much as a status line is sent."""


Play = Trouble | Step | str
"""One answer; a string is text."""


def trouble(step: Step | str = "", **options: Any) -> Trouble:
    """This answer, and what goes wrong with it: the fields of `Trouble`."""
    return Trouble(step=Step(text=step) if isinstance(step, str) else step, **options)


def gzip_bomb(size: int, **options: Any) -> Trouble:
    """A small body that unpacks to so many bytes, all of them blanks. Options are fields of `Trouble`."""
    headers = {"content-encoding": "gzip", **options.pop("headers", {})}
    return Trouble(body=bomb(size), headers=headers, **options)


class FakeProvider:
    """A model server on a loopback port, for as long as the `async with` block lasts.

    `script` holds one answer for each request, in order, of which the last answers all further ones; or it is a
    function that is given the request and says the answer. With `key`, requests that bring another are refused.

    A request that the protocol does not know gets the error that the provider would send, and takes no answer from
    the script. A failure of the fake itself, or of a function given as script, is raised when the block ends.
    """

    def __init__(
        self,
        protocol: Protocol,
        script: Iterable[Play] | Callable[[Received], Play],
        *,
        key: str | None = None,
    ) -> None:
        self._voice = _VOICES[protocol]
        self._choose = script if callable(script) else _in_order(list(script))
        self._key = key
        self._open: dict[Task[Any], StreamWriter] = {}
        self._failures: list[Exception] = []
        self._closed = asyncio.Event()
        self.requests: list[Received] = []
        """Every request, in the order in which they came."""
        self.answered = 0
        """Requests that took an answer from the script."""
        self.origin = ""
        """`http://host:port`, where the server is."""

    @property
    def base_url(self) -> str:
        """The base URL as the drivers take it; the official Gemini client takes `origin`."""
        return self.origin + self._voice.base

    @property
    def connections(self) -> int:
        """Connections that are open now."""
        return len(self._open)

    async def closed(self) -> None:
        """Wait until no connection is open."""
        while self._open:
            self._closed.clear()
            await self._closed.wait()

    async def __aenter__(self) -> Self:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        host, port = self._server.sockets[0].getsockname()[:2]
        self.origin = f"http://{host}:{port}"
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._server.close()
        tasks = list(self._open)
        for task, writer in self._open.items():
            reset(writer)
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await self._server.wait_closed()
        if self._failures and error is None:
            raise self._failures[0]

    async def _serve(self, reader: StreamReader, writer: StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._open[task] = writer
        try:
            while not writer.is_closing():
                received = await receive(reader)
                self.requests.append(received)
                await self._answer(received, reader, writer)
        except (IncompleteReadError, LimitOverrunError, ConnectionError, CancelledError):
            pass
        except Exception as error:
            self._failures.append(error)
        finally:
            writer.close()
            del self._open[task]
            self._closed.set()

    async def _answer(self, received: Received, reader: StreamReader, writer: StreamWriter) -> None:
        refused = self._refused(received)
        if refused is not None:
            status, body = self._voice.refusal(refused)
            said = _whole(status, {}, msgspec.json.encode(body))
        else:
            self.answered += 1
            play = self._choose(received)
            wanted = play if isinstance(play, Trouble) else trouble(play)
            await asyncio.sleep(wanted.step.delay)
            said = self._prepared(received, wanted)
        await answer(said, reader, writer)

    def _refused(self, received: Received) -> DriverError | None:
        """Why the provider would not take this request."""
        headers = received.headers
        bearer = headers.get("authorization", "").removeprefix("Bearer ")
        key = headers.get("x-api-key") or headers.get("x-goog-api-key") or bearer
        if self._key is not None and key != self._key:
            return DriverError("authentication", "the API key is not valid")
        try:
            body = received.json
        except msgspec.MsgspecError:
            return DriverError("invalid_request", "the body is not JSON")
        if not isinstance(body, dict):
            return DriverError("invalid_request", "the body is not a JSON object")
        asked = self._voice.asked(received.path, headers, body)
        if not isinstance(asked, str):
            return None
        return DriverError("invalid_request", asked, status=404 if asked.startswith("not found") else 400)

    def _prepared(self, received: Received, wanted: Trouble) -> Answering:
        asked = self._voice.asked(received.path, received.headers, received.json)
        assert not isinstance(asked, str)
        told = Told(step=wanted.step, asked=asked, number=self.answered, call_ids=wanted.call_ids)
        error = wanted.step.error
        then = _NO_WORDS.get(error.kind, wanted.then) if error else wanted.then
        early = error is not None and (wanted.step.error_after is None or not asked.stream)
        if error is not None and early:
            if error.kind in _NO_WORDS:
                then = "close" if then == "end" else then
                return Answering(status=0, headers={}, pieces=[], length=None, then=then, head=False)
            status, said = self._voice.refusal(error)
            headers = {} if error.retry_after is None else {"retry-after": f"{error.retry_after:g}"}
            if status == 200 and asked.stream:  # the protocol says no in an answer
                return _sent(wanted, then, status, headers, [event(said)], streaming=True)
            return _sent(wanted, then, status, headers, [msgspec.json.encode(said)], streaming=False)
        if wanted.body is not None:
            pieces = [wanted.body]
        elif asked.stream:
            pieces = _events(self._voice(told), told, terminal=wanted.terminal)
        else:
            body = msgspec.json.encode(self._voice(told).whole())
            pieces = [body if wanted.terminal else body[: len(body) // 2]]
        return _sent(wanted, then, wanted.status, {}, pieces, streaming=asked.stream)


def _in_order(answers: list[Play]) -> Callable[[Received], Play]:
    if not answers:
        raise ValueError("a script needs at least one answer")
    waiting = list(reversed(answers))
    return lambda received: waiting.pop() if len(waiting) > 1 else waiting[0]


def _events(voice: Voice, told: Told, *, terminal: bool) -> list[bytes]:
    error = told.step.error
    pieces = list(told.pieces())
    events = voice.begin()
    for piece in pieces if error is None else pieces[: told.step.error_after]:
        events += voice.add(piece)
    if error is None:
        return events + voice.end() if terminal else events
    return events if error.kind in _NO_WORDS else events + voice.complaint(error)


def _whole(status: int, headers: dict[str, str], body: bytes) -> Answering:
    headers = {"content-type": "application/json"} | headers
    return Answering(status=status, headers=headers, pieces=[body], length=len(body))


def _sent(
    wanted: Trouble,
    then: Ending,
    status: int,
    headers: dict[str, str],
    pieces: list[bytes],
    *,
    streaming: bool,
) -> Answering:
    """The body with everything wrong that is to be wrong with it."""
    for place, data in wanted.garble.items():
        if -len(pieces) <= place < len(pieces):
            pieces[place] = data
    if wanted.noise:
        pieces = [piece + wanted.noise for piece in pieces]
    sent = pieces[: wanted.events]
    lost = sum(len(piece) for piece in pieces) - sum(len(piece) for piece in sent)
    if wanted.gzip:
        headers["content-encoding"] = "gzip"
        sent, lost = compressed(sent), lost and 1
    size = sum(len(piece) for piece in sent)
    if wanted.cut is not None:
        sent = _shortened(sent, max(size + wanted.cut, 0) if wanted.cut < 0 else wanted.cut)
    left = sum(len(piece) for piece in sent)
    if wanted.split:
        body = b"".join(sent)
        sent = [body[at : at + wanted.split] for at in range(0, left, wanted.split)]
    kind = "text/event-stream" if streaming else "application/json"
    kind = kind if wanted.content_type is None else wanted.content_type
    return Answering(
        status=status,
        headers=({"content-type": kind} if kind else {}) | headers | dict(wanted.headers),
        pieces=[piece for piece in sent if piece],
        length=None if streaming else left if then == "end" else max(size + lost, left + 1),
        then=then,
        head=wanted.head,
        pace=wanted.step.pace,
    )


def _shortened(pieces: list[bytes], most: int) -> list[bytes]:
    """The pieces up to so many bytes."""
    kept: list[bytes] = []
    for piece in pieces:
        kept.append(piece[:most])
        most -= len(kept[-1])
    return kept
