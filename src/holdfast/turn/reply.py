"""Reply: what the model answered, as the log holds it."""

from __future__ import annotations

import msgspec
from msgspec import structs

from holdfast.driver import Reply
from holdfast.errors import DriverError
from holdfast.ids import call_id
from holdfast.messages import Part, ToolCall
from holdfast.state import TurnState
from holdfast.turn.blobs import Put, holds_data, kept_reply


async def name_reply(reply: Reply, message_id: str, turn: TurnState, put: Put) -> Reply:
    """The reply with its message under our ids, and what the model drew kept as blobs.

    Raises `DriverError` for one that no log can hold, and `StoreError`.
    """
    message = await kept_reply(reply.message, put) if holds_data(reply.message.content) else reply.message
    parts: list[Part] = []
    index = 0
    for part in message.content:
        if isinstance(part, ToolCall):
            parts.append(structs.replace(part, id=call_id(turn.id, turn.iteration + 1, index)))
            index += 1
        else:
            parts.append(part)
    message = structs.replace(message, id=message_id, role="assistant", content=tuple(parts))
    try:
        return _replies.decode(msgspec.json.encode(structs.replace(reply, message=message)))
    except UnicodeEncodeError as error:
        raise DriverError("broken_stream", f"the model's message cannot be kept: {error}") from error


_replies = msgspec.json.Decoder(Reply)
