"""Input: accept a message, and begin the turn that answers it."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime, timedelta
from typing import Literal

import msgspec

from holdfast.errors import InputRejected, Superseded, UnknownAsk
from holdfast.events import AskAnswered, EventContext, InputMessage, TurnStarted
from holdfast.ids import new_id
from holdfast.journal import Journal
from holdfast.manifest import Manifest
from holdfast.messages import Document, Image, Message, Part, Text, user_message
from holdfast.state import Queued
from holdfast.turn.decide import Begin, decide

MAX_INPUT_BYTES = 4_194_304

Verdict = Literal["approved", "denied"]
"""An answer to an ask."""
Content = str | tuple[Part, ...]
"""What a user says: words, or text, images and documents."""


def input_message(content: Content) -> Message:
    """The input as a message, when it can be accepted. Raises `InputRejected` saying what to change."""
    try:
        body = msgspec.json.encode(user_message(content))
        message = _messages.decode(body)
    except UnicodeEncodeError as error:
        raise InputRejected(
            f"the input holds a lone surrogate, which is not valid Unicode ({error}); remove it"
        ) from error
    except (TypeError, ValueError) as error:
        raise InputRejected(f"an input is text or a tuple of parts, not this: {error}") from error
    if not message.content or not all(isinstance(part, Text | Image | Document) for part in message.content):
        raise InputRejected("an input holds at least one part, and only text, images and documents")
    if not any(not isinstance(part, Text) or part.text.strip() for part in message.content):
        raise InputRejected("the input is empty; send some text, an image or a document")
    if len(body) > MAX_INPUT_BYTES:
        raise InputRejected(
            f"the input is {len(body):,} bytes; the limit is {MAX_INPUT_BYTES:,}. Send large content as files or "
            "documents"
        )
    return message


def check_text(**given: object) -> None:
    """Raise `InputRejected` unless each of these, named as the caller named it, is text that a log can hold."""
    for name, text in given.items():
        if not isinstance(text, str):
            raise InputRejected(f"{name} is {text!r}; it must be text")
        try:
            text.encode()
        except UnicodeEncodeError as error:
            raise InputRejected(
                f"{name} holds a lone surrogate, which is not valid Unicode ({error}); remove it"
            ) from error


def check_metadata(metadata: Mapping[str, str]) -> None:
    """Raise `InputRejected` unless every name and value is text that a log can hold."""
    for name, text in metadata.items():
        check_text(**{"a name in the metadata": name, f"metadata[{name!r}]": text})


_messages = msgspec.json.Decoder(Message)


async def accept(journal: Journal, manifest: Manifest, message: Message, *, key: str = "") -> str:
    """Make the input durable and return the id of its turn; the same key again returns the same turn.

    When nothing else is under way the turn begins in the same append. Raises `InputRejected`, `StoreError`
    (`SessionHeld` while another process is at work on the session).
    """
    check_text(key=key)
    await journal.own()
    try:
        return await _accept(journal, manifest, message, key)
    except Superseded:  # somebody else has written since this session last rested here
        await journal.own()
        return await _accept(journal, manifest, message, key)


async def steer(journal: Journal, manifest: Manifest, message: Message, *, key: str = "") -> str:
    """Make the input part of the turn under way, to enter before its next model call; the id of that turn.

    Without a turn under way it is an ordinary input. Raises as `accept` does.
    """
    check_text(key=key)
    await journal.own()
    turn = journal.state.turn
    if turn is None or (key and key in journal.state.keys):
        return await accept(journal, manifest, message, key=key)
    context = EventContext(turn_id=turn.id, input_message_id=message.id)
    fact = InputMessage(message=message, turn_id=turn.id, key=key, steer=True)
    await journal.record(fact, context=context)
    return turn.id


async def _accept(journal: Journal, manifest: Manifest, message: Message, key: str) -> str:
    if key and (known := journal.state.keys.get(key)):
        await journal.flush()
        return known
    turn_id = new_id("turn")
    context = EventContext(turn_id=turn_id, input_message_id=message.id)
    journal.stage(InputMessage(message=message, turn_id=turn_id, key=key), context=context)
    match decide(journal.state, manifest, journal.now()):
        case Begin(inputs):
            begin(inputs, journal, manifest)
    await journal.flush()
    return turn_id


def begin(inputs: tuple[Queued, ...], journal: Journal, manifest: Manifest) -> None:
    """Stage the start of the turn; everything recorded from here on belongs to it."""
    context = EventContext(turn_id=inputs[0].turn_id, input_message_id=inputs[0].message.id)
    started = TurnStarted(
        inputs=tuple(entry.message.id for entry in inputs),
        manifest=manifest.digest,
        deadline=_deadline(journal.now(), manifest),
    )
    journal.stage(started, context=context)


async def answer(journal: Journal, ask_id: str, verdict: Verdict, *, by: str, reason: str = "") -> None:
    """Record somebody's answer to an ask. Raises `UnknownAsk` when it is not open."""
    check_text(by=by, reason=reason)
    await journal.own()
    asks = journal.state.asks
    if ask_id not in asks:
        known = ", ".join(asks) or "none"
        raise UnknownAsk(f"session {journal.state.session_id} has no open ask {ask_id}; open: {known}")
    await journal.record(AskAnswered(ask_id=ask_id, verdict=verdict, by=by, reason=reason))


def _deadline(now: datetime, manifest: Manifest) -> datetime | None:
    return now + timedelta(seconds=manifest.turn_timeout) if manifest.turn_timeout else None
