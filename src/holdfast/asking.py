"""What asking somebody means: the wish for an answer, who may give it, and answers that hold for more than one call.

Pure data and pure functions; `holdfast.turn.asks` opens the asks, `holdfast.turn.admit` takes the answers in.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Iterable, Mapping
from datetime import datetime
from typing import Any, Literal

import msgspec
from msgspec import Struct

from holdfast.errors import AnswerForbidden, AnswerRejected
from holdfast.facts.asks import AskOpened, Expiry, Grant
from holdfast.matching.patterns import TooLong, read_pattern
from holdfast.schema import problems_with

Scope = Literal["call", "session", "tool"] | Mapping[str, str]
"""What an answer holds for: this call; everything this session asks about; this tool; or this tool with arguments like
these, patterns by name (`{"to": "*@example.com"}`)."""


MAX_EXPIRY = 10 * 365 * 86_400
"""Seconds within which an ask that ends at all has to end."""


class AskFor(Struct, frozen=True, kw_only=True):
    """Somebody must agree first (or, for a client-side tool, carry the call out).

    Raises `ValueError` for terms that contradict each other or make no sense, `TypeError` for `who` that is no tuple,
    `ConfigError` for a pattern that is none."""

    reason: str
    owner: str = ""
    """Whose business it is, in words; shown, and not checked."""
    expires_at: datetime | None = None
    """With a time zone. When nobody has answered by then, `on_expiry` happens."""
    expires_in: float | None = None
    """Seconds from when it is asked, at most ten years; the earlier of both counts."""
    who: tuple[str, ...] = ()
    """Who may answer: names, or patterns such as `*@example.com`. Empty: anybody but the agent."""
    on_expiry: Expiry = "deny"
    """Deny the call, fail the turn, or take the `default`. An approval is never given by default: there, `default`
    denies."""
    default: Any = None
    """The result or answer to take when nobody gave one."""

    def __post_init__(self) -> None:
        if self.expires_in is not None and not 0 < self.expires_in <= MAX_EXPIRY:
            raise ValueError(
                f"expires_in is {self.expires_in!r}; give seconds above 0, at most {MAX_EXPIRY:,} (ten years), or none"
            )
        if self.on_expiry == "default" and self.default is None:
            raise ValueError("on_expiry='default' needs default=, the answer to take")
        if not isinstance(self.who, tuple):
            raise TypeError(f"who is {self.who!r}; give a tuple of names or patterns")
        for pattern in self.who:
            read_pattern(pattern)

    def check_zone(self) -> None:
        """Raise `ValueError` for an expiry without a time zone."""
        if self.expires_at is not None and self.expires_at.tzinfo is None:
            raise ValueError(f"expires_at {self.expires_at.isoformat()} has no time zone")


class Client(Struct, frozen=True, kw_only=True):
    """That a tool is carried out elsewhere: by an application that hands in its `result`, or by a person who is asked
    (`answer`)."""

    wants: Literal["result", "answer"] = "result"
    terms: AskFor = AskFor(reason="")
    schema: dict[str, Any] | None = None
    """Of the result, as JSON Schema; None takes any."""

    def describe(self) -> dict[str, Any]:
        """What of this changes behaviour, as plain data."""
        return {"wants": self.wants, "terms": self.terms, "schema": self.schema}


_AGENTS = ("agent", "assistant", "model", "tool", "system")
"""What an agent may be called, alone or before a colon."""


def check_principal(ask: AskOpened, by: str, names: Iterable[str]) -> None:
    """Raise `AnswerForbidden` unless this principal may answer. `names` are those of the session's agent, its tools and
    its models, which never may."""
    check_name(by, {*names, ask.tool}, f"answer {ask.ask_id}")
    if (allowed := _kept_from(ask, by)) is not None:
        raise AnswerForbidden(f"{by!r} may not answer {ask.ask_id}; those who may: {', '.join(allowed)}")


def _kept_from(ask: AskOpened, by: str) -> tuple[str, ...] | None:
    """Those who may answer, where this principal is not among them."""
    for allowed in (ask.who, *ask.also):
        if allowed and not any(_matches(pattern, by) for pattern in allowed):
            return allowed
    return None


def check_name(by: str, names: Iterable[str], what: str) -> None:
    """Raise `AnswerForbidden` for nobody, and for the agent's side of a session, which goes by these names."""
    name = _plain(by)
    if not name:
        raise AnswerForbidden(f"to {what} takes a name: say who does it with by=")
    if name.partition(":")[0].strip() in _AGENTS or name in {_plain(it) for it in names}:
        raise AnswerForbidden(
            f"{by!r} is the agent's side of this session and may not {what}; a person or another program must"
        )


def _plain(name: str) -> str:
    """The name as it reads: without case, width, blanks around it and characters that nobody sees."""
    seen = [it for it in unicodedata.normalize("NFKC", name) if unicodedata.category(it) not in ("Cf", "Cc")]
    return "".join(seen).strip().casefold()


def check_arguments(ask: AskOpened, text: str) -> None:
    """Raise `AnswerRejected` unless the call may run with these arguments instead, as far as their schema tells."""
    try:
        value = msgspec.json.decode(text)
    except (msgspec.DecodeError, UnicodeError, RecursionError) as error:
        raise AnswerRejected(f"the changed arguments for {ask.ask_id} are not JSON: {error}") from error
    if not isinstance(value, dict):
        raise AnswerRejected(f"the changed arguments for {ask.ask_id} are no JSON object")
    check_fits(ask, value, f"the changed arguments for {ask.tool}")


def check_fits(ask: AskOpened, value: Any, what: str) -> None:
    """Raise `AnswerRejected`, naming all problems, unless this plain value fits the schema of the ask."""
    if ask.schema is not None and (found := problems_with(ask.schema, value)):
        raise AnswerRejected(f"{what} cannot be taken for {ask.ask_id}: {'; '.join(found)}")


def check_choice(ask: AskOpened, text: str) -> None:
    """Raise `AnswerRejected` unless this is an answer that the question leaves open."""
    if not text.strip():
        raise AnswerRejected(f"the answer to {ask.ask_id} is empty")
    if ask.options and not ask.free_text and text not in ask.options:
        offered = ", ".join(map(repr, ask.options))
        raise AnswerRejected(f"{text!r} is none of the options of {ask.ask_id}: {offered}")


def covering(grants: Iterable[Grant], ask: AskOpened, manifest: str, now: datetime) -> Grant | None:
    """The grant that answers this approval; one that denies counts more. `manifest` is the digest of what runs now."""
    found = [it for it in grants if covers(it, ask, manifest) and (it.until is None or now < it.until)]
    return next((it for it in found if it.verdict == "denied"), found[0] if found else None)


def covers(grant: Grant, ask: AskOpened, manifest: str) -> bool:
    """Whether the grant is about this ask: raised by the same, about a tool that has not changed since, and one that
    whoever gave it may answer."""
    if ask.wants != "approval" or grant.raised_by != ask.raised_by or _kept_from(ask, grant.by) is not None:
        return False
    if grant.scope == "session":
        return grant.bound == manifest
    if grant.tool != ask.tool or grant.bound != ask.bound:
        return False
    return grant.scope == "tool" or _alike(grant.arguments, ask.arguments)


def _alike(patterns: Mapping[str, str], arguments: str) -> bool:
    given = msgspec.json.decode(arguments or "{}")
    return bool(patterns) and all(
        name in given and _matches(pattern, _text(given[name])) for name, pattern in patterns.items()
    )


def _matches(pattern: str, text: str) -> bool:
    try:
        return read_pattern(pattern).matches(text)
    except TooLong:
        return False


def _text(value: Any) -> str:
    return value if isinstance(value, str) else msgspec.json.encode(value, order="sorted").decode()
