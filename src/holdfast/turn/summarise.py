"""Summarise: ask a model for the summary of messages."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from holdfast.driver import DeltaKind, Reply, Request, Transcript
from holdfast.errors import DriverError
from holdfast.journal import Journal
from holdfast.manifest import Manifest, Route
from holdfast.messages import Message, user_message
from holdfast.turn.abridge import INSTRUCTIONS, told
from holdfast.turn.meter import ask_model
from holdfast.turn.prompt import metadata_of

UNKNOWN_WINDOW = 200_000
"""Tokens that a model is taken to take in, where nobody says how many: fewer are tried when it refuses."""
TRIES = 5
"""How often less is sent to a summariser that refuses it as too large."""


async def summarise(messages: Sequence[Message], route: Route, journal: Journal, manifest: Manifest) -> Reply:
    """The summary of these messages and of the summary before them. Raises `DriverError`, and what `ask_model` does."""
    if not messages:
        raise DriverError(
            "too_large", "the latest exchange is nearly all there is: nothing can be summarised"
        )
    before = journal.state.summary
    rules = manifest.summary_rules.instructions.strip()
    limit = 2 * (route.window or UNKNOWN_WINDOW)  # characters: at two for a token it fits in any language
    for number in range(TRIES):
        request = Request(
            model=route.name,
            messages=Transcript([user_message(told(messages, before, limit >> number))]),
            instructions=f"{INSTRUCTIONS}\n\n{rules}" if rules else INSTRUCTIONS,
            metadata=metadata_of(journal.state),
        )
        try:
            return _checked(await ask_model(request, _unheard, journal, manifest, route))
        except DriverError as error:
            if error.kind != "too_large" or number == TRIES - 1:
                raise
    raise AssertionError("unreachable")


def _unheard(kind: DeltaKind, piece: str, index: int) -> None:
    """A summary is nobody's answer: it is shown when it is whole."""


def _checked(reply: Reply) -> Reply:
    if reply.stop == "refusal":
        raise DriverError("content_policy", "the model declined to summarise the conversation")
    if not reply.message.text.strip():
        raise DriverError("broken_stream", "the model's summary of the conversation is empty")
    try:
        msgspec.json.encode(reply)
    except UnicodeEncodeError as error:
        raise DriverError("broken_stream", f"the model's summary cannot be kept: {error}") from error
    return reply
