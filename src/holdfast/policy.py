"""Policy: one async function that is asked before anything consequential happens.

    @policy
    async def house_rules(action: Action) -> Decision:
        if action.kind == "tool" and action.name == "send_mail":
            return AskFor(reason="mail leaves the house")
        return Allow()

A policy that raises or times out denies. A denied call is a result that the model reads; only `Interrupt` ends the
turn. What can be said as data is better said as rules: see `holdfast.rules`.
"""

from __future__ import annotations

import inspect
from collections.abc import Awaitable, Callable
from datetime import timedelta
from typing import Any, Protocol, overload

from msgspec import Struct

from holdfast.errors import ConfigError
from holdfast.events import Effect
from holdfast.facts.policies import Judged
from holdfast.hook import Decision

ActionKind = Judged
"""What a policy is asked about: the start of a turn, a model call, a tool call, a child, the delivery of output, a
change of capabilities."""

MAX_DEFER = timedelta(days=30)
"""No policy can put anything off for longer."""
MAX_DEFERRALS = 10
"""How often one call, or one reply of the model, can be put off."""

CODES: dict[str, str] = {
    "policy.denied": "a policy said `Deny` without a code of its own",
    "policy.modified": "a policy changed the arguments",
    "policy.asked": "a policy wants somebody to be asked",
    "policy.interrupted": "a policy ended the turn, without a code of its own",
    "policy.deferred": "a policy put it off",
    "policy.failed": "a policy raised, or answered what is no decision: it is denied",
    "policy.timeout": "a policy did not answer in time: it is denied",
    "policy.undecided": "a policy answered nothing: it is denied",
    "policy.unsupported": "a policy decided what cannot be done there, such as to ask about a model call: it is denied",
    "policy.too_far": "a policy put it off for more than 30 days: it is denied",
    "policy.too_often": "a policy put it off for the eleventh time: it is denied",
    "policy.unreadable": "rules cannot judge arguments that point to too many places, or are nested too deep: denied",
    "taint.outbound": "private data and untrusted content are in the session, and the call sends something out",
}
"""The stable codes of decisions, and what they mean. A rule decides as `rule.` and its id."""


class Action(Struct, frozen=True, kw_only=True):
    """What is about to happen. Fields that do not belong to the kind are empty."""

    kind: ActionKind
    session_id: str
    turn_id: str
    name: str = ""
    """The tool, model, child, sink or capability."""
    call_id: str = ""
    arguments: str = ""
    """JSON text, valid against the tool's schema; with what hooks and the policies before changed."""
    effect: Effect | None = None
    labels: tuple[str, ...] = ()
    """Of the tool: what it brings in or sends out."""
    tainted: tuple[str, ...] = ()
    """Labels of what has entered the session so far."""


Decide = Callable[[Action], Awaitable[Decision]]


class Decider(Protocol):
    """An object that decides."""

    async def decide(self, action: Action) -> Decision:
        """What is to become of the action."""
        ...


class Policy(Struct, frozen=True, kw_only=True):
    """A named decision function; the name stands in the manifest and in every decision it makes."""

    name: str
    decide: Decide
    timeout: float = 5.0
    """Seconds; a policy that takes longer denies."""

    def __post_init__(self) -> None:
        if not self.name or not isinstance(self.name, str):
            raise ConfigError(f"a policy needs a name, and {self.name!r} is none")
        if not callable(self.decide):
            raise ConfigError(f"policy {self.name!r}: {self.decide!r} is no function of an action")
        if not self.timeout > 0:
            raise ConfigError(f"policy {self.name!r}: its timeout is {self.timeout!r}; give seconds above 0")

    def describe(self) -> dict[str, object]:
        """What of this policy changes behaviour, as plain data."""
        return {"name": self.name, "timeout": self.timeout}


@overload
def policy(decide: Decide | Decider, /) -> Policy: ...
@overload
def policy(*, name: str = "", timeout: float = 5.0) -> Callable[[Decide | Decider], Policy]: ...
def policy(
    decide: Decide | Decider | None = None, /, *, name: str = "", timeout: float = 5.0
) -> Policy | Callable[[Decide | Decider], Policy]:
    """Make a policy of an async function, or of an object with an async `decide`.

    `name` is the function's, or that of the object's class, when it is not given; `timeout` is in seconds. Raises
    `ConfigError` for anything else.
    """
    if decide is None:
        return lambda it: policy_of(it, name=name, timeout=timeout)
    return policy_of(decide, name=name, timeout=timeout)


def policy_of(given: Any, *, name: str = "", timeout: float = 5.0) -> Policy:
    """The policy that this function, object or policy is. Raises `ConfigError`."""
    if isinstance(given, Policy):
        return given
    decide = getattr(given, "decide", given)
    if not callable(decide) or inspect.isclass(given):
        raise ConfigError(
            f"{given!r} is no policy; give an async function, or an object with an async decide(action)"
        )
    named = name or getattr(given, "name", "") or getattr(given, "__name__", "") or type(given).__name__
    return Policy(name=named, decide=decide, timeout=timeout)
