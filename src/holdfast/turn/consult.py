"""Consult: put an open ask to the approver of the application, and record what it answers."""

from __future__ import annotations

import asyncio
from functools import partial
from typing import Any

import msgspec
from msgspec import Struct

from holdfast.approver import Approver
from holdfast.asking import check_principal
from holdfast.errors import AnswerForbidden, UsageError
from holdfast.events import HookDecided
from holdfast.facts.asks import AskAnswered, AskOpened
from holdfast.hook import Allow, Deny, Modify
from holdfast.journal import Journal
from holdfast.manifest import Manifest
from holdfast.turn.admit import admit, names_of
from holdfast.turn.bell import Bell
from holdfast.turn.call import is_ours, said
from holdfast.turn.passing import answer_past
from holdfast.turn.saying import Said, answer_fact


class _Consulted(set[str]):
    """Asks that were put to the approver of this process."""


def unconsulted(journal: Journal, manifest: Manifest) -> list[AskOpened]:
    """Open asks that the approver was not asked about here, and that it may answer."""
    if manifest.approver is None or not journal.state.asks:
        return []
    known = journal.derived(_Consulted)
    return [
        ask
        for ask in journal.state.asks.values()
        if ask.ask_id not in known and _may(manifest.approver, ask, journal, manifest)
    ]


def _may(approver: Approver, ask: AskOpened, journal: Journal, manifest: Manifest) -> bool:
    try:
        check_principal(ask, approver.name, names_of(journal.state, manifest))
    except AnswerForbidden:
        return False
    return True


async def consult(ask: AskOpened, journal: Journal, manifest: Manifest) -> None:
    """Put the ask to the approver, unless it is closed meanwhile. Raises `StoreError`."""
    approver = manifest.approver
    assert approver is not None
    consulted = journal.derived(_Consulted)
    consulted.intersection_update(journal.state.asks)
    consulted.add(ask.ask_id)
    asking = journal.stragglers.unit(_decision(approver, ask, journal))
    try:
        while not asking.done() and ask.ask_id in journal.state.asks:
            rung = asyncio.ensure_future(journal.derived(Bell).rung())
            watched: set[asyncio.Future[Any]] = {asking, rung}
            try:
                await asyncio.wait(watched, return_when=asyncio.FIRST_COMPLETED)
            finally:
                rung.cancel()
    finally:
        if not asking.done():
            asking.cancel()
            await asyncio.wait({asking})
    if ask.ask_id not in journal.state.asks or asking.cancelled():
        return
    await _record(asking.result(), ask, approver, journal, manifest)


async def _record(
    decision: object, ask: AskOpened, approver: Approver, journal: Journal, manifest: Manifest
) -> None:
    try:
        words = _words(decision, ask, approver)
        if words is not None:
            fact = await answer_past(answer_fact(journal, ask, words), ask, journal, manifest)
            admit(fact, journal, manifest)
    except UsageError as error:
        if ask.ask_id not in journal.state.asks:
            return  # somebody else was faster
        _failed(str(error), ask, approver, journal, manifest)
    await journal.flush()


def _failed(why: str, ask: AskOpened, approver: Approver, journal: Journal, manifest: Manifest) -> None:
    if approver.on_failure == "deny":
        reason = f"the approver {approver.name} failed: {why}"
        denial = AskAnswered(ask_id=ask.ask_id, verdict="denied", by=approver.name, reason=reason)
        admit(denial, journal, manifest)
        return
    journal.stage(
        HookDecided(
            hook=approver.name, point="ask", decision="pass", call_id=ask.call_id, reason=f"it failed: {why}"
        )
    )


def _words(decision: object, ask: AskOpened, approver: Approver) -> Said | None:
    """What the decision says. Raises `UsageError` for one that does not fit the ask."""
    match decision:
        case None:
            return None
        case Allow():
            return Said(verdict="approved", by=approver.name)
        case Deny(reason):
            return Said(verdict="denied", by=approver.name, reason=reason)
        case Modify(result=str(text)) if ask.wants != "approval":
            return Said(verdict="answered", by=approver.name, value=_value(text, ask))
        case Modify(arguments=str(text)) if ask.wants == "approval":
            return Said(verdict="approved", by=approver.name, arguments=text, reason=decision.reason)
        case _Failure(why):
            raise UsageError(why)
    raise UsageError(f"{decision!r} is no answer to an ask that wants: {ask.wants}")


def _value(text: str, ask: AskOpened) -> Any:
    """A result is given as JSON text; an answer as it is."""
    if ask.wants == "answer":
        return text
    try:
        return msgspec.json.decode(text)
    except (msgspec.DecodeError, RecursionError) as error:
        raise UsageError(f"the result is no JSON: {error}") from error


class _Failure(Struct, frozen=True):
    """That nothing was decided, and why."""

    why: str


async def _decision(approver: Approver, ask: AskOpened, journal: Journal) -> object:
    """What the approver decides; its failure as something that no decision is."""
    work = partial(approver.decide, ask)
    try:
        return await journal.stragglers.run(f"approver {approver.name}", ask.ask_id, work, approver.timeout)
    except TimeoutError:
        return _Failure(f"no answer within {approver.timeout:g} s")
    except BaseException as error:
        if is_ours(error):
            raise
        return _Failure(said(error))
