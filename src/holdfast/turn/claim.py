"""Claim: the fact that this writer is about to run a call, durable before the call is."""

from __future__ import annotations

from holdfast.errors import DeterminismError
from holdfast.events import ToolStarted
from holdfast.journal import Journal
from holdfast.manifest import Manifest
from holdfast.store import digest_of
from holdfast.turn.call import Ready


def claim(ready: Ready, journal: Journal, manifest: Manifest) -> ToolStarted:
    """The claim of this call."""
    return ToolStarted(
        call_id=ready.call.id,
        name=ready.call.name,
        attempt=ready.attempt,
        arguments_digest=digest_of(ready.text.encode()),
        effect=ready.tool.effect,
        epoch=journal.epoch,
        labels=manifest.charter.brings.get(ready.call.name, ()),
    )


def check_replay(ready: Ready, journal: Journal) -> None:
    """Raise `DeterminismError` when the call was claimed before with other arguments than it would run with now."""
    if journal.running.calls[ready.call.id].arguments_digest not in ("", digest_of(ready.text.encode())):
        raise DeterminismError(
            f"call {ready.call.id} of {ready.call.name} was claimed with other arguments than it would run with now; "
            "a hook or policy decided differently this time. Make it decide from the call alone"
        )
