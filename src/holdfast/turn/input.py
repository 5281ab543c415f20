"""Input: what can be accepted, and the beginning of the turn that answers it."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime, timedelta

import msgspec

from holdfast.errors import InputRejected
from holdfast.events import EventContext, TurnStarted
from holdfast.ids import derived_id, new_id
from holdfast.journal import Journal
from holdfast.manifest import Manifest
from holdfast.messages import Content, Document, Image, Message, Text, user_message
from holdfast.turn.blobs import Put, holds_data, taken_in
from holdfast.turn.step import Begin

MAX_INPUT_BYTES = 4_194_304
"""Bytes of one input as JSON, without those of its images and documents, which are kept as blobs."""

MAX_LABEL = 10_000
"""Characters of a title, or of the name on whose behalf a session is."""

MAX_METADATA = 65_536
"""Characters of all names and values of a session's metadata together."""


async def take_in(content: Content, put: Put) -> Message:
    """The input as a message; bytes in its URLs are kept as blobs. Raises `InputRejected` saying what to change."""
    if isinstance(content, tuple) and holds_data(content):
        content = await taken_in(content, put)
    return input_message(content)


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
    if not message.content or not all(isinstance(part, _TAKEN) for part in message.content):
        raise InputRejected("an input holds at least one part, and only text, images and documents")
    if not any(not isinstance(part, Text) or part.text.strip() for part in message.content):
        raise InputRejected("the input is empty; send some text, an image or a document")
    shown = [part for part in message.content if isinstance(part, Image | Document)]
    if any(not part.url and part.blob is None for part in shown):
        raise InputRejected("an image or document has neither a URL nor bytes; see session.attach")
    if len(body) > MAX_INPUT_BYTES:
        raise InputRejected(
            f"the input is {len(body):,} bytes; the limit is {MAX_INPUT_BYTES:,}. Send large content as files or "
            "documents"
        )
    return message


def new_turn(session_id: str = "", key: str = "") -> str:
    """The id of a turn that was asked for just now. With a key it follows from the key, so that whoever asks for the
    same turn in several processes at once gets the same one."""
    return derived_id("turn", session_id, key) if key else new_id("turn")


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


def check_label(**given: object) -> None:
    """Raise `InputRejected` unless each of these is text that a log can hold, and short enough for a label."""
    check_text(**given)
    for name, text in given.items():
        if isinstance(text, str) and len(text) > MAX_LABEL:
            raise InputRejected(
                f"{name} is {len(text):,} characters long; the limit is {MAX_LABEL:,}. Send long text as an input"
            )


def check_metadata(metadata: Mapping[str, str]) -> None:
    """Raise `InputRejected` unless every name and value is text that a log can hold, and all of them are short."""
    size = 0
    for name, text in metadata.items():
        check_text(**{"a name in the metadata": name, f"metadata[{name!r}]": text})
        size += len(name) + len(text)
    if size > MAX_METADATA:
        raise InputRejected(
            f"the metadata is {size:,} characters long; the limit is {MAX_METADATA:,}. Keep large values elsewhere "
            "and their names here"
        )


_TAKEN = (Text, Image, Document)
_messages = msgspec.json.Decoder(Message)


def begin(first: Begin, journal: Journal, manifest: Manifest) -> None:
    """Stage the start of the turn; everything recorded from here on belongs to it."""
    if first.rerun is not None:
        context, rerun = EventContext(turn_id=first.rerun.turn_id), first.rerun.call.call.id
    else:
        entry, rerun = first.inputs[0], ""
        manifest = manifest.with_output(entry.contract)
        context = EventContext(turn_id=entry.turn_id, input_message_id=entry.message.id)
    started = TurnStarted(
        inputs=tuple(entry.message.id for entry in first.inputs),
        manifest=manifest.digest,
        deadline=_deadline(journal, manifest),
        rerun=rerun,
        labels=manifest.charter.taint.inputs,
        layers="" if manifest.written == journal.state.layers else manifest.written,
    )
    journal.stage(started, context=context)


def _deadline(journal: Journal, manifest: Manifest) -> datetime | None:
    return journal.now() + timedelta(seconds=manifest.turn_timeout) if manifest.turn_timeout else None
