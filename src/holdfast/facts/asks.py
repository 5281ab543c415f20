"""Facts about asks: what somebody is asked, what was answered, and for what else the answer holds."""

from __future__ import annotations

from datetime import datetime
from typing import Any, ClassVar, Literal

from msgspec import Struct

from holdfast.facts.fact import Fact
from holdfast.facts.guards import GuardDecided
from holdfast.messages import ToolResult

Wants = Literal["approval", "result", "answer"]
"""What an ask is for: leave to run a call, the result of one that is carried out elsewhere, or a person's words."""

Expiry = Literal["deny", "fail", "default"]
"""What happens when nobody answers in time: the call is denied, the turn fails, or a default is taken."""


class AskOpened(Fact, frozen=True, kw_only=True, omit_defaults=True, gc=False):
    """A question that somebody must answer before a call may run, or instead of running it here."""

    kind: ClassVar[str] = "ask.opened"
    ask_id: str
    call_id: str
    tool: str
    arguments: str
    digest: str
    """Of `bound`, arguments and reason: an answer binds exactly this."""
    reason: str = ""
    owner: str = ""
    expires_at: datetime | None = None
    wants: Wants = "approval"
    who: tuple[str, ...] = ()
    """Names or patterns of those who may answer; empty: anybody but the agent."""
    also: tuple[tuple[str, ...], ...] = ()
    """What others who asked said of that: whoever answers must be among each of these as well."""
    on_expiry: Expiry = "deny"
    default: str | None = None
    """What is taken when nobody answers, as the model will read it."""
    raised_by: str = ""
    """The hooks and policies that asked, and `author` for the tool's own `ask`."""
    bound: str = ""
    """Digest of the tool and of the hooks and policies it is called under. When it changes, the ask is void."""
    schema: dict[str, Any] | None = None
    """What changed arguments, or the result, must fit."""
    options: tuple[str, ...] = ()
    """Answers that are offered."""
    free_text: bool = True
    """Whether other answers count as well."""
    origin: tuple[str, ...] = ()
    """Where it was raised, when not here: session ids from a child of this one down to the one that asks."""


class Grant(Struct, frozen=True, kw_only=True, omit_defaults=True, gc=False):
    """An answer that holds for further asks of the session, until it is revoked or `until` has come."""

    id: str
    verdict: Literal["approved", "denied"]
    scope: Literal["session", "tool", "arguments"]
    by: str
    tool: str = ""
    arguments: dict[str, str] = {}
    """Patterns by the name of the argument, for the scope `arguments`."""
    raised_by: str = ""
    """It holds for asks that the same hooks and policies raise."""
    bound: str = ""
    """It holds as long as the tool (for the scope `session`: the manifest) has this digest."""
    until: datetime | None = None
    reason: str = ""


class AskAnswered(Fact, frozen=True, kw_only=True, omit_defaults=True, gc=False):
    """Somebody answered, once."""

    kind: ClassVar[str] = "ask.answered"
    ask_id: str
    verdict: Literal["approved", "denied", "answered"]
    by: str
    reason: str = ""
    key: str = ""
    """The caller's idempotency key."""
    arguments: str | None = None
    """The arguments that were approved, where they are not those that were asked about."""
    digest: str = ""
    """Of what was approved, where the arguments were changed."""
    result: ToolResult | None = None
    """What was answered, as the model reads it."""
    grant: Grant | None = None
    """For what else it holds."""
    guarded: tuple[GuardDecided, ...] = ()
    """What guards decided about the result before it came here; on the log they are events of their own as well."""


class AskExpired(Fact, frozen=True, kw_only=True, omit_defaults=True, gc=False):
    """Nobody answered in time: the call is denied, `result` is taken, or the turn fails."""

    kind: ClassVar[str] = "ask.expired"
    ask_id: str
    result: ToolResult | None = None


class AskVoided(Fact, frozen=True, kw_only=True, omit_defaults=True, gc=False):
    """The tool, or a hook or policy over it, changed since this was asked: an answer counts no more, and it is asked
    again where that is still needed."""

    kind: ClassVar[str] = "ask.voided"
    ask_id: str
    call_id: str
    reason: str = ""


class GrantUsed(Fact, frozen=True, kw_only=True, omit_defaults=True, gc=False):
    """A call that would have been asked about was decided by a grant."""

    kind: ClassVar[str] = "grant.used"
    grant_id: str
    call_id: str
    tool: str
    arguments: str
    digest: str
    verdict: Literal["approved", "denied"]
    by: str
    """Who gave the grant."""
    reason: str = ""
    """Why it would have been asked about."""
    raised_by: str = ""
    bound: str = ""


class GrantRevoked(Fact, frozen=True, kw_only=True, omit_defaults=True, gc=False):
    """A grant holds no more."""

    kind: ClassVar[str] = "grant.revoked"
    grant_id: str
    by: str
    reason: str = ""


FACTS: tuple[type[Fact], ...] = (AskOpened, AskAnswered, AskExpired, AskVoided, GrantUsed, GrantRevoked)
"""The kinds of this subject."""


class Closed(Struct, frozen=True, kw_only=True, omit_defaults=True, gc=False):
    """How an ask ended, for those who answer late or twice."""

    how: Literal["approved", "denied", "answered", "expired", "voided", "ended"]
    """`ended`: its turn did."""
    by: str = ""
    key: str = ""
    said: str = ""
    """What was answered, short enough to compare: the digest of changed arguments or of the result."""
