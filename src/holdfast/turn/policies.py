"""Policies: what is asked before something happens, and what becomes of the answers.

The order: each policy as it stands in the manifest, then the rules, then the taint rule. Each sees the arguments as
those before it left them, so that what is judged last is what will run. The first refusal ends the asking.

`judge` asks about any action and changes nothing; `permitted` is for what can only go on or not (a child, a delivery, a
change of capabilities, the summary of a transcript) and records what was decided.
"""

from __future__ import annotations

import types
from collections.abc import Awaitable, Callable, Coroutine, Generator
from functools import partial
from typing import Any

import msgspec
from msgspec import Struct, structs

from holdfast.asking import AskFor
from holdfast.events import Fact, PolicyDecided, ToolCompleted
from holdfast.facts.policies import Deciding
from holdfast.hook import Allow, Decision, Defer, Deny, Interrupt, Modify
from holdfast.journal import Journal
from holdfast.manifest import Manifest
from holdfast.policy import MAX_DEFER, MAX_DEFERRALS, Action, ActionKind
from holdfast.services import FILES
from holdfast.turn.call import Ready, is_ours, prepare, result_of, said

Unanswered = tuple[str, str]
"""Why nobody decided: a code, and words."""


class Ruling(Struct, kw_only=True):
    """What policies and rules made of an action."""

    action: Action
    """With the arguments as they left them."""
    ready: Ready | None = None
    """The call with these arguments, where it is a tool's."""
    changes: list[PolicyDecided] = []
    wishes: list[tuple[PolicyDecided, AskFor]] = []
    later: PolicyDecided | None = None
    """It does not happen before an instant."""
    refusal: PolicyDecided | None = None
    outcome: ToolCompleted | None = None
    """The changed arguments do not fit the tool."""

    def decided(self, policy: str, decision: Deciding, code: str, reason: str = "") -> PolicyDecided:
        """The fact of a decision."""
        return PolicyDecided(
            action=self.action.kind,
            name=self.action.name,
            call_id=self.action.call_id,
            policy=policy,
            decision=decision,
            code=code,
            reason=reason,
        )

    def refuse(self, policy: str, code: str, reason: str) -> None:
        """Nobody else is asked."""
        self.refusal = self.decided(policy, "deny", code, reason)


async def judge(action: Action, journal: Journal, manifest: Manifest, ready: Ready | None = None) -> Ruling:
    """What everybody who is asked about this action decides. Records nothing. Raises `StoreError`."""
    ruling = Ruling(action=action, ready=ready)
    for policy in manifest.policies:
        asked = partial(policy.decide, ruling.action)
        decision = await answered(f"policy {policy.name}", asked, policy.timeout, journal)
        if type(decision) is not Allow:
            _take_in(decision, policy.name, ruling, journal, manifest)
            if ruling.refusal is not None or ruling.outcome is not None:
                return ruling
    if manifest.charter.book is not None:
        _rules(ruling, journal, manifest)
    if ruling.refusal is None and manifest.charter.tainting and action.kind == "tool":
        _taint(ruling, journal, manifest)
    return ruling


async def permitted(action: Action, journal: Journal, manifest: Manifest) -> PolicyDecided | None:
    """What stands in the way of this action, recorded; None when it may go on. Where a turn is under way, refusing its
    start or a model call ends it. Raises `StoreError`."""
    if action.kind not in manifest.charter.judged:
        return None
    ruling = await judge(action, journal, manifest)
    against = ruling.refusal
    if against is None and (ruling.wishes or ruling.later is not None):
        against = _unsupported(ruling) or ruling.later
    if against is not None:
        await journal.record(against)
    elif ruling.changes:
        journal.stage(*ruling.changes)
    return against


async def stopped(kind: ActionKind, journal: Journal, manifest: Manifest, name: str = "") -> bool:
    """Whether a policy or rule keeps the turn from going on now: for good, or until an instant."""
    action = action_of(kind, journal, name)
    return await permitted(action, journal, manifest) is not None


def action_of(kind: ActionKind, journal: Journal, name: str = "", arguments: str = "") -> Action:
    """An action of this session."""
    state = journal.state
    return Action(
        kind=kind,
        session_id=state.session_id,
        turn_id=journal.context.turn_id,
        name=name,
        arguments=arguments,
        tainted=tuple(state.labels) if state.labels else (),
    )


Wish = tuple[str, AskFor]


async def policies_on(ready: Ready, journal: Journal, manifest: Manifest) -> tuple[Ready | Fact, list[Wish]]:
    """The call as policies and rules leave it, with what they want to ask; or the fact that stands in its way."""
    if manifest.policies:
        await journal.flush()
    ruling = await judge(_about(ready, journal, manifest), journal, manifest, ready)
    if ruling.refusal is None and ruling.later is not None and ruling.outcome is None:
        return ruling.later, []
    journal.stage(*ruling.changes)
    if ruling.outcome is not None:
        return ruling.outcome, []
    if ruling.refusal is not None:
        return _refused(ruling.refusal, ready, journal), []
    journal.stage(*[fact for fact, _ in ruling.wishes])
    return ruling.ready or ready, [(_asks(fact), wish) for fact, wish in ruling.wishes]


def _asks(fact: PolicyDecided) -> str:
    return fact.code if fact.rule else fact.policy


def _refused(fact: PolicyDecided, ready: Ready, journal: Journal) -> Fact:
    if fact.decision == "interrupt":
        return fact
    journal.stage(fact)
    return ToolCompleted(result=result_of(ready.call, f"Denied: {fact.reason}. Nothing was run.", "denied"))


def _about(ready: Ready, journal: Journal, manifest: Manifest) -> Action:
    call, state = ready.call, journal.state
    return Action(
        kind="tool",
        session_id=state.session_id,
        turn_id=journal.context.turn_id,
        name=call.name,
        call_id=call.id,
        arguments=ready.text,
        effect=ready.tool.effect,
        labels=manifest.charter.labels.get(call.name, ()),
        tainted=tuple(state.labels) if state.labels else (),
    )


def _take_in(
    decision: Decision | Unanswered | None, name: str, ruling: Ruling, journal: Journal, manifest: Manifest
) -> None:
    """What one policy says, or why it says nothing."""
    match decision:
        case None:
            ruling.refuse(name, "policy.undecided", f"the policy {name} decided nothing")
        case (str(code), str(reason)):
            ruling.refuse(name, f"policy.{code}", f"the policy {name} failed: {reason}")
        case Deny(reason, code):
            ruling.refuse(name, code or "policy.denied", reason)
        case Interrupt(reason, code):
            ruling.refusal = ruling.decided(name, "interrupt", code or "policy.interrupted", reason)
        case AskFor(reason=reason):
            ruling.wishes.append((ruling.decided(name, "ask", "policy.asked", reason), decision))
        case Modify():
            _change(decision, name, ruling, manifest)
        case Defer():
            _put_off(decision, name, ruling, journal)


def _change(decision: Modify, name: str, ruling: Ruling, manifest: Manifest) -> None:
    text = decision.arguments
    if text is None or not ruling.action.arguments:
        reason = "a decision to modify has nothing to change before a turn or a model call"
        if ruling.action.arguments:
            reason = "a decision to modify before something happens needs arguments"
        return ruling.refuse(name, "policy.unsupported", reason)
    fact = ruling.decided(name, "modify", "policy.modified", decision.reason)
    ruling.changes = [*ruling.changes, structs.replace(fact, arguments=text)]
    ruling.action = structs.replace(ruling.action, arguments=text)
    if (ready := ruling.ready) is not None:
        after = prepare(ready.call, text, manifest.tools, ready.attempt)
        if isinstance(after, Ready):
            ruling.ready = after
        else:
            ruling.outcome = after
    return None


def _put_off(decision: Defer, name: str, ruling: Ruling, journal: Journal) -> None:
    now, until = journal.present(), decision.until
    if until <= now:
        return None
    why = f", {decision.reason}" if decision.reason else ""
    if until - now > MAX_DEFER:
        reason = f"not before {until.isoformat()}{why} (further away than {MAX_DEFER.days} days)"
        return ruling.refuse(name, "policy.too_far", reason)
    if _deferrals(ruling.action, journal) >= MAX_DEFERRALS:
        reason = f"it was put off {MAX_DEFERRALS} times{why}"
        return ruling.refuse(name, "policy.too_often", reason)
    if ruling.later is None or ruling.later.until is None or ruling.later.until < until:
        fact = ruling.decided(name, "defer", "policy.deferred", decision.reason)
        ruling.later = structs.replace(fact, until=until)
    return None


def _deferrals(action: Action, journal: Journal) -> int:
    turn = journal.state.turn
    if turn is None:
        return 0
    call = turn.calls.get(action.call_id)
    return call.deferrals if call is not None else turn.deferrals


def _unsupported(ruling: Ruling) -> PolicyDecided | None:
    """The refusal of what was decided and cannot be done about this kind of action."""
    kind = ruling.action.kind
    if ruling.wishes:
        fact, _ = ruling.wishes[0]
        reason = f"{fact.reason} (a person can be asked about a tool call only)"
        return structs.replace(fact, decision="deny", code="policy.unsupported", reason=reason)
    if ruling.later is not None and kind not in ("turn", "model"):
        until = ruling.later.until
        reason = f"not before {until.isoformat() if until else '?'} (a {kind} cannot wait)"
        return structs.replace(
            ruling.later, decision="deny", code="policy.unsupported", reason=reason, until=None
        )
    return None


def _rules(ruling: Ruling, journal: Journal, manifest: Manifest) -> None:
    """What the rules say of the action as it is now."""
    book, action = manifest.charter.book, ruling.action
    assert book is not None, "there are rules"
    root = ""
    if action.name in book.mounted and FILES in journal.scope:
        root = str(getattr(journal.scope[FILES], "root", ""))
    said = book.decide(action.kind, action.name, action.arguments, root)
    if said is None or said.decision == "allow":
        return
    fact = ruling.decided("rules", said.decision, said.code, said.reason)
    fact = structs.replace(fact, rule=said.rule)
    if said.decision == "deny":
        ruling.refusal = fact
    else:
        ruling.wishes = [*ruling.wishes, (fact, AskFor(reason=said.reason))]


LABELS = ("private", "untrusted")
_TAINTED = "private data and untrusted content have entered this session, and {name} sends something out"


def _taint(ruling: Ruling, journal: Journal, manifest: Manifest) -> None:
    """The taint rule: with private data and untrusted content in the session, nothing goes out unasked."""
    action, charter, held = ruling.action, manifest.charter, journal.state.labels
    if not held or "outbound" not in charter.labels.get(action.name, ()):
        return
    if not all(label in held for label in LABELS) or charter.stays(action.arguments):
        return
    reason = _TAINTED.format(name=action.name)
    if charter.taint.decision == "deny":
        ruling.refuse("taint", "taint.outbound", reason)
    else:
        fact = ruling.decided("taint", "ask", "taint.outbound", reason)
        ruling.wishes = [*ruling.wishes, (fact, AskFor(reason=reason))]


async def answered(
    who: str, ask: Callable[[], Awaitable[Decision | None]], seconds: float, journal: Journal
) -> Decision | Unanswered | None:
    """What was decided, or why nothing was. What no log can hold is no decision."""
    try:
        work = ask()
        if type(work) is not types.CoroutineType or journal.stragglers.stepping is None:
            decision = await journal.stragglers.run(who, journal.state.session_id, lambda: work, seconds)
        else:
            try:  # whoever answers without waiting for anything needs nobody to look after the time
                asked = work.send(None)
            except StopIteration as end:
                decision = end.value
            else:
                rest = partial(_go_on, work, asked)
                decision = await journal.stragglers.run(who, journal.state.session_id, rest, seconds)
        return None if decision is None else _checked(decision)
    except TimeoutError:
        return "timeout", f"no answer within {seconds:g} s"
    except BaseException as error:
        if is_ours(error):
            raise
        return "failed", said(error)


@types.coroutine
def _go_on(work: Coroutine[Any, Any, Decision | None], asked: Any) -> Generator[Any, Any, Decision | None]:
    """Carry on with work that has begun and waits for this."""
    try:
        while True:
            try:
                answer = yield asked
            except GeneratorExit:
                work.close()
                raise
            except BaseException as error:  # whatever it is, it is meant for the work
                asked = work.throw(error)
            else:
                asked = work.send(answer)
    except StopIteration as end:
        decision: Decision | None = end.value
        return decision


def _checked(decision: Decision) -> Decision:
    if type(decision) is Allow:
        return decision
    if not isinstance(decision, Decision):
        raise TypeError(f"{decision!r} is not a decision; return Allow(), Deny(reason) or another of them")
    if isinstance(decision, AskFor):
        decision.check_zone()
    if isinstance(decision, Defer) and decision.until.tzinfo is None:
        raise ValueError("until has no time zone")
    return msgspec.json.decode(msgspec.json.encode(decision), type=type(decision))
