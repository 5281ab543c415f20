"""Facts about policies: what was decided, by which policy or rule, and why."""

from __future__ import annotations

from datetime import datetime
from typing import ClassVar, Literal

from holdfast.facts.fact import Fact

Judged = Literal["turn", "model", "tool", "child", "delivery", "capability"]
"""What a policy is asked about."""


Deciding = Literal["deny", "modify", "ask", "interrupt", "defer"]
"""What changes what was about to happen."""


class PolicyDecided(Fact, frozen=True, kw_only=True, omit_defaults=True, gc=False):
    """A policy or rule changed what was about to happen: denied it, changed it, put it off, or wants it asked about."""

    kind: ClassVar[str] = "policy.decided"
    action: Judged
    decision: Deciding
    code: str
    """Stable; see `holdfast.policy.CODES`. Of a rule: `rule.<id>`."""
    policy: str
    """Its name; `rules` for a rule, `taint` for the taint rule."""
    name: str = ""
    """The tool, model, child, sink or capability."""
    rule: str = ""
    """The id of the rule that decided."""
    reason: str = ""
    arguments: str | None = None
    """The changed arguments, where the decision changed them."""
    call_id: str = ""
    until: datetime | None = None
    """When it was put off: the instant before which it does not happen."""

    @property
    def ends_turn(self) -> bool:
        """Whether the turn is over with this."""
        return self.decision == "interrupt" or (self.decision == "deny" and self.action in ("turn", "model"))


FACTS: tuple[type[Fact], ...] = (PolicyDecided,)
"""The kinds of this subject."""
