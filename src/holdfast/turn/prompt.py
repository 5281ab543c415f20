"""The prompt: what the model is sent next, and its reply under our ids."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec
from msgspec import Struct, structs

from holdfast.driver import Reply, Request, Transcript
from holdfast.errors import DriverError
from holdfast.ids import call_id
from holdfast.manifest import Manifest
from holdfast.messages import Content, Message, Part, ToolCall
from holdfast.state import State, TurnState
from holdfast.turn.input import input_message
from holdfast.turn.repair import repair


class Prompt:
    """The transcript as it is sent: repaired and, per protocol, encoded once, then only extended."""

    def __init__(self) -> None:
        self._transcript = Transcript()
        self._taken = 0
        self._ids: set[str] = set()
        self._retold = 0

    def upto(self, messages: Sequence[Message], retold: int) -> Transcript:
        """The transcript of these messages: those of the last time and perhaps more, as long as `retold` stays."""
        if self._retold != retold:
            self._transcript, self._taken, self._ids, self._retold = Transcript(), 0, set(), retold
        if self._taken < len(messages):
            self._transcript.extend(repair(messages[self._taken :], self._ids))
            self._taken = len(messages)
        return self._transcript


def build_request(state: State, prompt: Prompt, manifest: Manifest) -> Request:
    """The exact request that comes next."""
    return Request(
        model=manifest.model_name,
        messages=prompt.upto(state.messages, state.retold),
        instructions=manifest.instructions,
        tools=manifest.specs,
        settings=manifest.settings,
    )


class Inspection(Struct, frozen=True, kw_only=True):
    """The exact request that would be sent next, without sending it."""

    request: Request
    body: bytes
    """As the driver would put it on the wire."""
    manifest: Manifest


def inspect(state: State, content: Content | None, manifest: Manifest) -> Inspection:
    """The request that would follow, after this input if any. Leaves everything as it is."""
    upcoming = [] if content is None else [input_message(content)]
    queued = [entry.message for entry in state.queue]
    seen = State(session_id=state.session_id, messages=[*state.messages, *queued, *upcoming])
    request = build_request(seen, Prompt(), manifest)
    return Inspection(request=request, body=manifest.driver.encode(request), manifest=manifest)


def name_reply(reply: Reply, message_id: str, turn: TurnState) -> Reply:
    """The reply with its message under our ids. Raises `DriverError` for one that no log can hold."""
    parts: list[Part] = []
    index = 0
    for part in reply.message.content:
        if isinstance(part, ToolCall):
            parts.append(structs.replace(part, id=call_id(turn.id, turn.iteration + 1, index)))
            index += 1
        else:
            parts.append(part)
    message = structs.replace(reply.message, id=message_id, role="assistant", content=tuple(parts))
    try:
        return _replies.decode(msgspec.json.encode(structs.replace(reply, message=message)))
    except UnicodeEncodeError as error:
        raise DriverError("broken_stream", f"the model's message cannot be kept: {error}") from error


_replies = msgspec.json.Decoder(Reply)
