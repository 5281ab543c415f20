"""Asks: questions that a person must answer before a call may run."""

from __future__ import annotations

from holdfast.events import AskOpened
from holdfast.hook import AskFor
from holdfast.ids import new_id
from holdfast.store import digest_of
from holdfast.turn.call import Ready


def author_asks(ready: Ready) -> AskOpened | None:
    """The ask that the tool's author wants before these arguments run, if any."""
    wanted = _wanted(ready)
    if not wanted:
        return None
    return open_ask(
        ready, AskFor(reason=wanted if isinstance(wanted, str) else f"{ready.call.name} needs approval")
    )


def _wanted(ready: Ready) -> bool | str:
    """What the author's check says of the arguments; one that fails asks."""
    ask = ready.tool.ask
    if isinstance(ask, bool):
        return ask
    try:
        return ask(ready.arguments)
    except Exception as error:
        return f"whether {ready.call.name} needs approval could not be told: {type(error).__name__}: {error}"


def open_ask(ready: Ready, wanted: AskFor) -> AskOpened:
    """The ask for this call. Its digest binds the answer to exactly this tool, these arguments and this reason."""
    bound = "\n".join((ready.call.name, ready.text, wanted.reason))
    return AskOpened(
        ask_id=new_id("ask"),
        call_id=ready.call.id,
        tool=ready.call.name,
        arguments=ready.text,
        digest=digest_of(bound.encode()),
        reason=wanted.reason,
        owner=wanted.owner,
        expires_at=wanted.expires_at,
    )
