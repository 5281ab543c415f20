"""The timeline: a log told as turns, each with what was said, called and decided, in order. Pure."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from datetime import datetime
from decimal import Decimal
from typing import Any, Literal

from msgspec import Struct, field

from holdfast import Event, Thinking, Usage
from holdfast import events as facts
from holdfast.catalogue import ZERO, total
from holdfast.facts import compaction
from holdfast.facts.asks import Grant

CallStatus = Literal[
    "asked", "waiting", "started", "cut_off", "ok", "error", "denied", "cancelled", "in_doubt"
]
"""How a call stands. `asked`: the model wants it and nothing was done yet. `started`: claimed and no outcome recorded,
so it is running or was cut off. `cut_off`: the same, and another writer has taken over since, so it is not running."""


What = Literal[
    "model_failed",
    "asked",
    "answered",
    "expired",
    "voided",
    "granted",
    "decided",
    "file",
    "updated",
    "resolved",
    "recovered",
    "compacted",
]
"""What a note is about."""


class Said(Struct, kw_only=True, omit_defaults=True, tag="message"):
    """A message of the user or the model."""

    at: datetime
    who: Literal["user", "model"]
    text: str
    thinking: str = ""
    model: str = ""
    duration_ms: int = 0
    attempt: int = 1
    usage: Usage = Usage()
    cost: Decimal | None = None
    """In US dollars; None where it is not known, here and below."""
    stop: Literal["", "unfinished", "replaced", "cut_off"] = ""
    """`unfinished`: the words that were shown so far; `replaced`: they are void, since the model was asked again;
    `cut_off`: they are all there is, since the turn ended first."""


class Called(Struct, kw_only=True, omit_defaults=True, tag="call"):
    """A tool call, from the model's wish to its outcome."""

    at: datetime
    """When it was started, or wished for while it has not been."""
    call_id: str
    name: str
    arguments: str
    status: CallStatus = "asked"
    effect: str = ""
    attempts: int = 0
    duration_ms: int = 0
    result: str = ""
    epoch: int = 0
    """Of the writer that started it last."""
    resolved: str = ""
    """Of a call in doubt: who said what became of it."""


class Noted(Struct, kw_only=True, omit_defaults=True, tag="note"):
    """Anything else that happened."""

    at: datetime
    what: What
    text: str


Entry = Said | Called | Noted


class TurnLine(Struct, kw_only=True, omit_defaults=True):
    """One turn."""

    id: str
    started_at: datetime
    status: Literal["queued", "unfinished", "waiting", "completed", "failed", "cancelled"] = "queued"
    stop: str = ""
    ended_at: datetime | None = None
    replies: int = 0
    usage: Usage = Usage()
    cost: Decimal | None = ZERO
    error: str = ""
    manifest: str = ""
    entries: list[Entry] = field(default_factory=list)


class Timeline(Struct, kw_only=True, omit_defaults=True):
    """A session."""

    id: str
    title: str = ""
    agent: str = ""
    metadata: dict[str, str] = field(default_factory=dict)
    created_at: datetime | None = None
    events: int = 0
    usage: Usage = Usage()
    cost: Decimal | None = ZERO
    before: list[Entry] = field(default_factory=list)
    """What belongs to no turn."""
    turns: list[TurnLine] = field(default_factory=list)


def tell(session_id: str, events: Iterable[Event], *, epoch: int = 0) -> Timeline:
    """The timeline of these events. `epoch` is that of the session's present writer."""
    teller = _Teller(session_id)
    for event in events:
        teller.take(event)
    for turn in teller.line.turns:
        calls = [entry for entry in turn.entries if isinstance(entry, Called)]
        for call in calls:
            if call.status == "started" and call.epoch < epoch:
                call.status = "cut_off"
        if turn.status == "unfinished" and any(call.status == "waiting" for call in calls):
            turn.status = "waiting"
    return teller.line


class _Teller:
    def __init__(self, session_id: str) -> None:
        self.line = Timeline(id=session_id)
        self.calls: dict[str, Called] = {}
        self._turns: dict[str, TurnLine] = {}
        self._shown: dict[str, Said] = {}
        """Messages that were shown and are not complete, by id."""
        self._reruns: dict[str, Called] = {}
        """Calls in doubt that are to be run again, by the turn that does it."""
        self._asks: dict[str, tuple[str, TurnLine]] = {}
        """The call and turn of each ask; an answer from elsewhere does not name its turn."""

    def take(self, event: Event) -> None:
        self.line.events = event.sequence
        if rule := _RULES.get(type(event.data)):
            rule(self, event, event.data)

    def _turn(self, event: Event, turn_id: str = "") -> TurnLine:
        turn_id = turn_id or event.context.turn_id
        if turn_id not in self._turns:
            self._turns[turn_id] = TurnLine(id=turn_id, started_at=event.ts)
            self.line.turns.append(self._turns[turn_id])
        return self._turns[turn_id]

    def _add(self, event: Event, entry: Entry) -> None:
        known = event.context.turn_id in self._turns
        (self._turn(event).entries if known else self.line.before).append(entry)

    def _note(self, event: Event, what: What, text: str) -> None:
        self._add(event, Noted(at=event.ts, what=what, text=text))

    def created(self, event: Event, fact: facts.SessionCreated) -> None:
        self.line.created_at = event.ts
        self.line.title, self.line.agent = fact.title, fact.agent
        self.line.metadata = dict(fact.metadata)

    def updated(self, event: Event, fact: facts.SessionUpdated) -> None:
        self.line.title = self.line.title if fact.title is None else fact.title
        self.line.metadata = self.line.metadata if fact.metadata is None else dict(fact.metadata)
        self._note(event, "updated", "title or metadata")

    def accepted(self, event: Event, fact: facts.InputMessage) -> None:
        turn = self._turn(event, fact.turn_id)
        turn.entries.append(Said(at=event.ts, who="user", text=fact.message.text))

    def began(self, event: Event, fact: facts.TurnStarted) -> None:
        turn = self._turn(event)
        turn.status, turn.manifest, turn.started_at = "unfinished", fact.manifest, event.ts
        if call := self.calls.get(fact.rerun):
            self._reruns.pop(turn.id, None)
            again = Called(at=event.ts, call_id=call.call_id, name=call.name, arguments=call.arguments)
            self.calls[call.call_id] = again
            turn.entries.append(again)

    def recovered(self, event: Event, fact: facts.TurnRecovered) -> None:
        again = f"gone on with after a cut-off, {fact.attempt} in a row without getting any further"
        self._note(event, "recovered", f"{fact.by} let the turn go on" if fact.by else again)

    def drifted(self, event: Event, fact: facts.Drifted) -> None:
        self._note(event, "decided", f"the manifest has changed, {fact.choice}: {', '.join(fact.changes)}")

    def replied(self, event: Event, fact: facts.OutputMessageCompleted) -> None:
        turn = self._turn(event)
        turn.replies, turn.usage = fact.iteration, turn.usage + fact.usage
        turn.cost = total(turn.cost, fact.cost)
        self.line.usage += fact.usage
        self.line.cost = total(self.line.cost, fact.cost)
        thinking = "".join(part.text for part in fact.message.content if isinstance(part, Thinking))
        said = Said(
            at=event.ts,
            who="model",
            text=fact.message.text,
            thinking=thinking,
            model=fact.model,
            duration_ms=fact.duration_ms,
            attempt=fact.attempt,
            usage=fact.usage,
            cost=fact.cost,
            stop="cut_off" if fact.stop == "cut_off" else "",
        )
        if (partial := self._shown.pop(fact.message.id, None)) is not None:
            turn.entries.remove(partial)
        turn.entries.append(said)
        for call in fact.message.calls:
            self.calls[call.id] = Called(
                at=event.ts, call_id=call.id, name=call.name, arguments=call.arguments
            )
            turn.entries.append(self.calls[call.id])

    def shown(self, event: Event, fact: facts.OutputMessageShown) -> None:
        if fact.message_id not in self._shown:
            said = Said(at=event.ts, who="model", text="", stop="unfinished")
            self._shown[fact.message_id] = said
            self._add(event, said)
        self._shown[fact.message_id].text += fact.text

    def replaced(self, event: Event, fact: facts.OutputMessageReplaced) -> None:
        if partial := self._shown.pop(fact.message_id, None):
            partial.stop = "replaced"

    def resolved(self, event: Event, fact: facts.CallResolved) -> None:
        if (call := self.calls.get(fact.call_id)) is None:
            return
        said = fact.result.text if fact.result is not None else "to be run again"
        call.resolved = f"{said} (says {fact.by}{', ' + fact.reason if fact.reason else ''})"
        if fact.turn_id:
            self._reruns[fact.turn_id] = call
            turn = self._turn(event, fact.turn_id)
            text = f"{call.name} is run again, says {fact.by}{': ' + fact.reason if fact.reason else ''}"
            turn.entries.append(Noted(at=event.ts, what="resolved", text=text))

    def model_failed(self, event: Event, fact: facts.ReasonFailed) -> None:
        again = "; it was to be tried again" if fact.retry_at else ""
        if fact.next_model:
            again = f"; {fact.next_model} was to be asked instead"
        self._note(
            event, "model_failed", f"attempt {fact.attempt}: {fact.reason}: {fact.error.message}{again}"
        )

    def compacted(self, event: Event, fact: compaction.ContextCompacted) -> None:
        turn = self._turn(event)
        turn.usage += fact.usage
        turn.cost = total(turn.cost, fact.cost)
        self.line.usage += fact.usage
        self.line.cost = total(self.line.cost, fact.cost)
        self._note(
            event,
            "compacted",
            f"the first {fact.covers} messages are summarised for the model ({fact.reason})",
        )

    def not_compacted(self, event: Event, fact: compaction.CompactionFailed) -> None:
        again = "; it was to be tried again" if fact.retry_at else ""
        text = f"no summary, attempt {fact.attempt}: {fact.error_kind}: {fact.error.message}{again}"
        self._note(event, "compacted", text)

    def compaction_asked(self, event: Event, fact: compaction.CompactionAsked) -> None:
        self._note(event, "compacted", f"{fact.by} wants a summary before the next model call")

    def started(self, event: Event, fact: facts.ToolStarted) -> None:
        if call := self.calls.get(fact.call_id):
            call.at, call.status, call.effect = event.ts, "started", fact.effect
            call.attempts, call.epoch = fact.attempt, fact.epoch

    def settled(self, event: Event, fact: facts.ToolCompleted) -> None:
        if call := self.calls.get(fact.result.call_id):
            call.status, call.result = fact.result.status, fact.result.text
            call.duration_ms = fact.duration_ms

    def asked(self, event: Event, fact: facts.AskOpened) -> None:
        self._asks[fact.ask_id] = (fact.call_id, self._turn(event))
        self._stand(fact.call_id, "waiting")
        what = {
            "approval": f"may {fact.tool} run?",
            "result": f"what is the result of {fact.tool}?",
            "answer": "?",
        }
        self._note(event, "asked", f"{fact.ask_id}: {what[fact.wants]} {fact.reason}".rstrip())

    def answered(self, event: Event, fact: facts.AskAnswered) -> None:
        reason = f": {fact.reason}" if fact.reason else ""
        edited = f" with {fact.arguments}" if fact.arguments is not None else ""
        self._close(event, fact.ask_id, "answered", f"{fact.verdict} by {fact.by}{edited}{reason}")
        if fact.grant is not None:
            self._note(event, "granted", f"{fact.grant.id}: {fact.verdict} for {_held(fact.grant)}")

    def expired(self, event: Event, fact: facts.AskExpired) -> None:
        self._close(event, fact.ask_id, "expired", "nobody answered in time")

    def voided(self, event: Event, fact: facts.AskVoided) -> None:
        self._note(event, "voided", f"{fact.ask_id}: {fact.reason}")

    def granted(self, event: Event, fact: facts.GrantUsed) -> None:
        text = f"{fact.grant_id} of {fact.by}: {fact.tool} {fact.verdict} without asking ({fact.reason})"
        self._note(event, "granted", text)

    def revoked(self, event: Event, fact: facts.GrantRevoked) -> None:
        self._note(event, "granted", f"{fact.grant_id} revoked by {fact.by}")

    def _close(self, event: Event, ask_id: str, what: Literal["answered", "expired"], text: str) -> None:
        if ask_id in self._asks:
            call_id, turn = self._asks[ask_id]
            self._stand(call_id, "asked")
            turn.entries.append(Noted(at=event.ts, what=what, text=f"{ask_id}: {text}"))

    def _stand(self, call_id: str, status: CallStatus) -> None:
        if call := self.calls.get(call_id):
            call.status = status

    def decided(self, event: Event, fact: facts.HookDecided) -> None:
        self._note(event, "decided", f"{fact.hook} at {fact.point}: {fact.decision}: {fact.reason}")

    def ruled(self, event: Event, fact: facts.PolicyDecided) -> None:
        who = fact.rule or fact.policy
        later = f" until {fact.until.isoformat()}" if fact.until else ""
        reason = f": {fact.reason}" if fact.reason else ""
        what = f"{fact.decision}{later} ({fact.code}){reason}"
        self._note(event, "decided", f"{who} on {fact.name or fact.action}: {what}")

    def guarded(self, event: Event, fact: facts.GuardDecided) -> None:
        reason = f": {fact.reason}" if fact.reason else ""
        self._note(event, "decided", f"{fact.guard} on {fact.where}: {fact.action} ({fact.code}){reason}")

    def written(self, event: Event, fact: facts.FileWritten) -> None:
        self._note(event, "file", f"{fact.path} written, {fact.size:,} bytes")

    def deleted(self, event: Event, fact: facts.FileDeleted) -> None:
        self._note(event, "file", f"{fact.path} deleted")

    def completed(self, event: Event, fact: facts.TurnCompleted) -> None:
        turn = self._turn(event)
        turn.status, turn.stop, turn.ended_at = "completed", fact.stop, event.ts

    def failed(self, event: Event, fact: facts.TurnFailed) -> None:
        turn = self._turn(event)
        turn.status, turn.stop, turn.ended_at = "failed", fact.stop, event.ts
        turn.error = f"{fact.error.code}: {fact.error.message}"

    def cancelled(self, event: Event, fact: facts.TurnCancelled) -> None:
        turn = self._turn(event)
        turn.status, turn.stop, turn.ended_at = "cancelled", fact.reason or "cancelled", event.ts
        if call := self._reruns.pop(turn.id, None):
            call.resolved = ""


def _held(grant: Grant) -> str:
    """What a sticky answer holds for."""
    like = "".join(f" {name}={pattern}" for name, pattern in grant.arguments.items())
    what = "the session" if grant.scope == "session" else f"{grant.tool}{like}"
    return f"{what} until {grant.until.isoformat()}" if grant.until else what


_RULES: dict[type[facts.Fact], Callable[[_Teller, Event, Any], None]] = {
    facts.SessionCreated: _Teller.created,
    facts.SessionUpdated: _Teller.updated,
    facts.InputMessage: _Teller.accepted,
    facts.TurnStarted: _Teller.began,
    facts.OutputMessageCompleted: _Teller.replied,
    facts.TurnRecovered: _Teller.recovered,
    facts.Drifted: _Teller.drifted,
    facts.OutputMessageShown: _Teller.shown,
    facts.OutputMessageReplaced: _Teller.replaced,
    facts.CallResolved: _Teller.resolved,
    facts.ReasonFailed: _Teller.model_failed,
    compaction.ContextCompacted: _Teller.compacted,
    compaction.CompactionFailed: _Teller.not_compacted,
    compaction.CompactionAsked: _Teller.compaction_asked,
    facts.ToolStarted: _Teller.started,
    facts.ToolCompleted: _Teller.settled,
    facts.AskOpened: _Teller.asked,
    facts.AskAnswered: _Teller.answered,
    facts.AskExpired: _Teller.expired,
    facts.AskVoided: _Teller.voided,
    facts.GrantUsed: _Teller.granted,
    facts.GrantRevoked: _Teller.revoked,
    facts.HookDecided: _Teller.decided,
    facts.PolicyDecided: _Teller.ruled,
    facts.GuardDecided: _Teller.guarded,
    facts.FileWritten: _Teller.written,
    facts.FileDeleted: _Teller.deleted,
    facts.TurnCompleted: _Teller.completed,
    facts.TurnFailed: _Teller.failed,
    facts.TurnCancelled: _Teller.cancelled,
}
