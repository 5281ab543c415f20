"""Asks: questions that a person must answer before a call may run."""

from __future__ import annotations

from holdfast.events import AskOpened
from holdfast.hook import AskFor
from holdfast.ids import new_id
from holdfast.store import digest_of
from holdfast.turn.call import Ready


def wants_ask(ready: Ready) -> str:
    """Why the tool's author wants a person to agree first; empty when they do not."""
    wanted = ready.tool.ask if isinstance(ready.tool.ask, bool) else ready.tool.ask(ready.arguments)
    if isinstance(wanted, str):
        return wanted
    return f"{ready.call.name} needs approval" if wanted else ""


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
