"""Hear: what the model says, as guards let it through."""

from __future__ import annotations

from functools import partial

from holdfast.driver import Request
from holdfast.journal import Journal
from holdfast.manifest import Manifest
from holdfast.turn.meter import OutOfBudget as OutOfBudget
from holdfast.turn.meter import ask_model
from holdfast.turn.meter import pay_up as pay_up
from holdfast.turn.screen import screen_of
from holdfast.turn.told import Facts, kept
from holdfast.turn.watch import Watch
from holdfast.turn.withhold import let_by


async def hear(request: Request, watch: Watch, journal: Journal, manifest: Manifest) -> Facts:
    """Ask the model; the facts of its reply. Raises what `ask_model` and `name_reply` raise."""
    turn = journal.running
    route = manifest.route(turn.route)
    if not manifest.guards:
        reply = await ask_model(request, watch.emit, journal, manifest, route)
        return await kept(reply, watch, journal, manifest)
    screen = screen_of(watch, manifest, typed=turn.contract is not None)
    ask = partial(ask_model, request, screen.emit, journal, manifest, route)
    return await let_by(ask, screen, journal, manifest)
