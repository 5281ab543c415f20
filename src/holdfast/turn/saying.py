"""Saying: from what somebody says about an open ask to the fact of it, when it fits what was asked."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any, Literal

import msgspec
from msgspec import Struct

from holdfast.asking import Scope, check_arguments, check_choice, check_fits
from holdfast.errors import AnswerRejected, ConfigError, UsageError
from holdfast.facts.asks import AskAnswered, AskOpened, Grant
from holdfast.folds.asks import said_in
from holdfast.ids import new_id
from holdfast.journal import Journal
from holdfast.matching.patterns import read_pattern
from holdfast.messages import ToolCall, ToolResult
from holdfast.schema import encode_value
from holdfast.state import State
from holdfast.turn.asks import digest_of_ask
from holdfast.turn.call import result_of, shown_as
from holdfast.turn.input import check_text

Verdict = Literal["approved", "denied", "answered"]

MAX_PATTERNS = 8
"""Arguments that one sticky answer may look at."""

_VERBS = {
    "approval": "approve(...) or deny(...)",
    "result": "submit(...) or deny(...)",
    "answer": "answer(...) or deny(...)",
}


class Said(Struct, frozen=True, kw_only=True):
    """What somebody says about an ask."""

    verdict: Verdict
    by: str
    reason: str = ""
    key: str = ""
    arguments: str | None = None
    """Others than those that were asked about, as JSON text."""
    value: Any = None
    """The result or the answer."""
    error: str = ""
    """Why there is no result."""
    scope: Scope = "call"
    until: datetime | None = None


def as_text(arguments: Any) -> str:
    """Arguments as JSON text; text is taken as it is. Raises `AnswerRejected` for what JSON cannot hold."""
    try:
        return encode_value(arguments)
    except (TypeError, ValueError, RecursionError) as error:
        raise AnswerRejected(f"the changed arguments cannot be written as JSON: {error}") from error


def check_said(said: Said) -> None:
    """Raise `InputRejected` or `UsageError` for what no log can hold, or what makes no sense about any ask."""
    check_text(by=said.by, reason=said.reason, key=said.key, error=said.error)
    if said.until is not None and not isinstance(said.until, datetime):
        raise UsageError(f"until={said.until!r} is no time; give a datetime with a time zone")
    if said.until is not None and said.until.tzinfo is None:
        raise UsageError(f"until={said.until.isoformat()} has no time zone")
    if said.scope == "call":
        if said.until is not None:
            raise UsageError("until= says how long an answer holds for further calls; give scope= as well")
        return
    if said.arguments is not None:
        raise UsageError("an answer that changes the arguments holds for its call only; leave scope= out")
    if isinstance(said.scope, Mapping):
        _check_patterns(said.scope)
    elif said.scope not in ("session", "tool"):
        raise UsageError(
            f"scope={said.scope!r} is none of 'call', 'session', 'tool' and a mapping of patterns"
        )


def _check_patterns(patterns: Mapping[str, str]) -> None:
    if not 0 < len(patterns) <= MAX_PATTERNS:
        raise UsageError(
            f"a scope names 1 to {MAX_PATTERNS} arguments, not {len(patterns)}; for any arguments: scope='tool'"
        )
    for name, pattern in patterns.items():
        check_text(**{"an argument of the scope": name, f"scope[{name!r}]": pattern})
        try:
            read_pattern(pattern)
        except ConfigError as error:
            raise UsageError(f"scope[{name!r}]: {error}") from error


def answer_fact(journal: Journal, ask: AskOpened, said: Said) -> AskAnswered:
    """The fact of this answer, with the bytes of its images and documents still in it: `answer_past` keeps those, once
    guards have looked at it. Raises `AnswerRejected` when it does not fit what was asked."""
    if said.verdict != "denied" and (said.verdict == "answered") is (ask.wants == "approval"):
        raise AnswerRejected(f"ask {ask.ask_id} wants: {ask.wants}; use {_VERBS[ask.wants]}")
    if said.scope != "call" and ask.wants != "approval":
        raise AnswerRejected(f"ask {ask.ask_id} wants one {ask.wants}, which holds for no other call")
    arguments, digest = None, ""
    if said.arguments is not None:
        check_text(arguments=said.arguments)
        check_arguments(ask, said.arguments)
        arguments, digest = said.arguments, digest_of_ask(ask.bound, said.arguments, ask.reason)
    result = _result(journal, ask, said) if said.verdict == "answered" else None
    return AskAnswered(
        ask_id=ask.ask_id,
        verdict=said.verdict,
        by=said.by,
        reason=said.reason,
        key=said.key,
        arguments=arguments,
        digest=digest,
        result=result,
        grant=_grant(journal, ask, said),
    )


def _result(journal: Journal, ask: AskOpened, said: Said) -> ToolResult:
    if not said.error and ask.wants == "answer":
        if not isinstance(said.value, str):
            raise AnswerRejected(f"the answer to {ask.ask_id} is text, not {type(said.value).__name__}")
        check_text(answer=said.value)
        check_choice(ask, said.value)
    elif not said.error:
        check_fits(ask, _plain(ask, said.value), f"the result of {ask.tool}")
    return _given(_call(journal, ask), said)


def _given(call: ToolCall, said: Said) -> ToolResult:
    """What the model reads of the result or answer, or of why there is none."""
    return result_of(call, f"Error: {said.error}", "error") if said.error else shown_as(call, said.value)


def repeats(ask_id: str, said: Said, state: State) -> bool:
    """Whether a closed ask was answered just so, by the same principal under the same key. Where guards changed what
    was answered, nothing on the log tells what that was, and the key alone says that it is the same."""
    closed = state.closed.get(ask_id)
    if (
        closed is None
        or not said.key
        or (closed.key, closed.by, closed.how) != (said.key, said.by, said.verdict)
    ):
        return False
    given = _given(_ANY, said) if said.verdict == "answered" else None
    again = AskAnswered(
        ask_id=ask_id, verdict=said.verdict, by=said.by, arguments=said.arguments, result=given
    )
    return closed.said == said_in(again) or (given is not None and not closed.said)


_ANY = ToolCall(id="", name="", arguments="")
"""A call, whichever: what is said is the same about all."""


def _call(journal: Journal, ask: AskOpened) -> ToolCall:
    turn = journal.state.turn
    assert turn is not None, "an ask is open in a turn only"
    return turn.calls[ask.call_id].call


def _plain(ask: AskOpened, value: Any) -> Any:
    """The value as JSON has it."""
    try:
        text = encode_value(value)
        return text if isinstance(value, str) else msgspec.json.decode(text)
    except (TypeError, ValueError, RecursionError) as error:
        raise AnswerRejected(f"the result for ask {ask.ask_id} cannot be written as JSON: {error}") from error


def _grant(journal: Journal, ask: AskOpened, said: Said) -> Grant | None:
    if said.scope == "call" or said.verdict == "answered":
        return None
    patterns = dict(said.scope) if isinstance(said.scope, Mapping) else {}
    whole = said.scope == "session"
    return Grant(
        id=new_id("grant"),
        verdict=said.verdict,
        scope="session" if said.scope == "session" else "arguments" if patterns else "tool",
        by=said.by,
        tool="" if whole else ask.tool,
        arguments=patterns,
        raised_by=ask.raised_by,
        bound=journal.running.manifest if whole else ask.bound,
        until=said.until,
        reason=said.reason,
    )
